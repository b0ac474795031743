"""The control plane: one process that creates, wakes, sleeps, lists and destroys sandboxes, and relays to agents.

__main__.py   the process: `python -m sandcove.server`
serve.py      puts everything together, serves, takes it apart
config.py     every setting, in one table
tcp.py        listening sockets on TCP; TLS
connection.py HTTP from strangers, with bounds
caller.py     who calls
gate.py       what a request passes before a route
app.py        the routes of the server wire
health.py     /healthz and /readyz
metrics.py    what it counts, for Prometheus
clock.py      the time of day, which does not go back
logs.py       its log, without secrets
audit.py      who did what to which sandbox
lifecycle.py  sandboxes by id, and what can happen to each
states.py     the states of a sandbox and the moves between them
registry.py   which sandboxes exist, in SQLite
ports.py      which ports are exposed, and what goes through them
port_calls.py their routes
preview/      HTTP from outside to what listens in a sandbox
caller.py     who calls
reaper.py     idleness: puts sandboxes to sleep, ends what nobody uses
questions.py  what the server itself asks agents
relay.py      callers' HTTP to an agent's Unix socket
"""
