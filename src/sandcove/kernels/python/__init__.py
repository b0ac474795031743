"""The kernel for Python: the program that runs a Python context's cells.

It runs in any Python from 3.10 on and imports nothing but the standard library, this package and
`sandcove.kernels.charts`; IPython, matplotlib and others are used when they are there.

- `main`: the entries; `archive`: the kernel as a zip for a Python that has not got it; `preloaded`: whether a warm one
  fits; `warmup`: all of it run once before the first fork; `fresh`: what a fork must forget.
- `kernel`: requests in, messages out; `cell`, `branch`: what it does for each of the two requests.
- `host`: what runs the code of a cell. `plain` is the one for a Python without IPython, `shell` the one with it, with
  `programs` for ``!command`` and ``%%bash``.
- `channel`, `streams`, `interrupts`, `loop`: the socket, standard output and error, SIGINT, asyncio.
- `results`, `mime`, `jsonable`: displays as messages; `failure`: exceptions as messages.
- `imports`, `libraries`, `figures`: what is done to libraries that draw, and packages that are installed late.

Two things hold throughout. What the user's code may break is put right where the next cell begins, not guarded
against; and all of ours is imported before any of the user's code runs, because then our modules are forgotten.
"""

from __future__ import annotations
