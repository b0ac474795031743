"""The SDK: an HTTP client of the server and of the agents. It imports nothing of theirs.

_async/        is written by hand; `scripts/unasync.py` makes `_sync/` from it, but for `io.py`
  io.py          the only code that does I/O, once for asyncio and once with blocking sockets
  connection.py  one HTTP/1.1 connection: a request out, a response in
  pool.py        connections that wait for their next request
  client.py      the server wire; starts the local server when none runs
  agent.py       the agent wire of one sandbox: direct on its Unix socket, else relayed by the server
  again.py       waits for the next try of a request that failed
  commands.py    exec, exec_stream, set_env_vars
  stdin.py       sends a command's standard input: in its request, or ahead of it
  code.py        code contexts, run_code, run_code_stream
  context.py     AsyncCodeContext; a cell's events
  files.py       files and folders
  transfer.py    upload and download
  session.py     AsyncSession
  sandbox.py     AsyncSandbox, get_async_sandbox, async_list_sandboxes
endpoint.py    where a server or an agent listens
launch.py      starts the local server
check.py       what arguments may be
stdin.py       a command's standard input, whatever it is given as
hooks.py       functions that a sandbox calls around its commands
retry.py       when a request that failed is made again
results.py     what calls return
rich.py        Result: a rich result of a cell
chart.py       Chart: what a picture was drawn from
execution.py   a cell's events, and the Execution that they make
output.py      output of a command, collected up to a limit
streams.py     server-sent events as Python iterables
archive.py     a tar stream read in pieces
pack.py        a local folder as a tar stream
unpack.py      a hostile tar stream into a local folder
"""
