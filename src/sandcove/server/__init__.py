"""The control plane: one process that creates, wakes, sleeps, lists and destroys sandboxes, and relays to agents.

__main__.py   the process: `python -m sandcove.server`
serve.py      puts everything together, serves, takes it apart
config.py     every setting, in one table
app.py        the routes of the server wire
lifecycle.py  sandboxes by id, and what can happen to each
states.py     the states of a sandbox and the moves between them
registry.py   which sandboxes exist, in SQLite
ports.py      which ports are exposed, and what goes through them
port_calls.py their routes
preview/      HTTP from outside to what listens in a sandbox
caller.py     who calls
reaper.py     idleness: puts sandboxes to sleep, ends what nobody uses
relay.py      HTTP to an agent's Unix socket
"""
