"""What crosses the wire, written once for both ends. Imports nothing of ours but `errors`.

models.py      the JSON bodies of the server wire (``/v1``) and the agent wire (``/api``)
answers.py     short answers of both
queries.py     what is in the queries of targets
code.py        those of code contexts, and a cell's events
git.py         those of a clone, and its events
events.py      the events of the other streams
names.py       what a sandbox id, a session name, a label and an environment variable may be
repository.py  what a repository's URL, a branch and a target folder may be
http.py        a sans-I/O HTTP/1.1 client core (SDK transport, relay)
sse.py         server-sent events: encoder and incremental decoder
lines.py       a stream of lines, put together from pieces
codec.py       JSON in and out, with errors that name the field
clock.py       times as the wire has them
"""

from __future__ import annotations

WIRE_VERSION = 1
"""Raised when a change would break an older client or server."""
