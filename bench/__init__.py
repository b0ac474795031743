"""Measurements: one file a question, each against a peer in the same run, one table.

__main__.py    `scripts/bench`: which questions, how long, the table, the JSON
harness.py     alternated runs, percentiles, rows
processes.py   whose a process is, and how much memory it has
rooms.py       a Sandcove folder with a server of its own; bare bwrap, the peer
inside.py      connections within the network of another process
load.py        requests on many connections
compare.py     that on ours, on nginx and on a direct connection
nginx.py       nginx, from Debian's package
ways.py        a service in a sandbox (service.js), its preview, nginx in front of it
npm.py         packages from npm, in the checkout's cache
seed.py        the reference server, shut in
sides.py       the same request to ours and to the reference server
plain_http.py  the client that asks them
ask_*.py       the questions: `QUESTION` says what, `ask()` yields the rows
"""
