"""The kernel for Python: the program that runs a Python context's cells.

It runs in any Python from 3.10 on and imports nothing but the standard library, this package and
`sandcove.kernels.charts`; IPython, matplotlib and others are used when they are there.

- `main`: the entries; `archive`: the kernel as a zip for a Python that has not got it; `preloaded`: whether a warm one
  fits.
- `kernel`: requests in, messages out; `cell`, `branch`: what it does for each of the two requests.
- `host`: what runs the code of a cell. `plain` is the one for a Python without IPython, `shell` the one with it.
- `channel`, `streams`, `interrupts`, `loop`: the socket, standard output and error, SIGINT, asyncio.
- `results`, `mime`, `jsonable`: displays as messages; `failure`: exceptions as messages.
- `imports`, `figures`: what is done to libraries that draw; `fresh`: what a fork must forget.
"""

from __future__ import annotations
