"""Runs all of the kernel once in the process that kernels are forked from.

Python writes into a function's code while it specialises it, and libraries import and build tables with their first
use: in a fork each such write copies a page and takes time. What has run here, all kernels share.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

from sandcove.kernels.python.host import Host, Kit
from sandcove.kernels.python.kernel import Kernel
from sandcove.kernels.python.libraries import hooks

__all__ = ["LIBRARIES", "warm_up"]

LIBRARIES = (
    "numpy",
    "numpy.random",
    "pandas",
    "matplotlib",
    "matplotlib.pyplot",
    "asyncio",
    "multiprocessing",
    "multiprocessing.pool",
    "subprocess",
    "concurrent.futures.thread",
    "concurrent.futures.process",
)

_ROUNDS = 24
"""More than the interpreter needs to have specialised what it runs."""
_CELLS = (
    "1 + 1",
    "x = {'a': [1, 2.5, None]}\nx",
    "print('text')",
    "import sys\nprint('text', file=sys.stderr)",
    "def f(n):\n    return 1 / n\nf(0)",
    "1 +",
    "display('text')",
    "import asyncio\nawait asyncio.sleep(0)",
    "!true",
    "%time 1",
)
_LIBRARY_CELLS = (
    "import numpy as np\nnp.linalg.inv(np.random.rand(3, 3))",
    "import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})",
    "pd.DataFrame({'a': [1, 2]}).describe()",
    "import matplotlib.pyplot as plt\nplt.plot([1, 2], label='a')\nplt.title('text $x^2$')\nplt.legend()\nplt.show()",
    "fig, axes = plt.subplots(1, 2)\naxes[0].bar(['a', 'b'], [1, 2])\naxes[1].hist([1, 2, 2])\nfig",
)


def warm_up(make_host: Callable[[Kit], Host]) -> Host:
    """Gives the host that the kernels to come run their cells with, as new."""
    handler = signal.getsignal(signal.SIGINT)
    for name in LIBRARIES:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    main, stdin, streams, hook = sys.modules["__main__"], sys.stdin, (sys.stdout, sys.stderr), sys.displayhook
    standard = sys.__stdin__, sys.__stdout__, sys.__stderr__
    host = _run_cells(make_host)
    host.fresh()
    signal.signal(signal.SIGINT, handler)
    sys.modules["__main__"], sys.stdin, (sys.stdout, sys.stderr), sys.displayhook = main, stdin, streams, hook
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = standard  # type: ignore[misc]
    _close_fonts()
    _end_threads()
    gc.collect()
    gc.freeze()
    return host


def _run_cells(make_host: Callable[[Kit], Host]) -> Host:
    ours, theirs = socket.socketpair()
    acks, give = os.pipe()
    kit = Kit(theirs.detach(), acks, os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_WRONLY))
    host = make_host(kit)
    hooks(host).install()
    host.fresh()
    kernel = Kernel(kit, host)
    reader = threading.Thread(target=_acknowledge, args=(ours, give))
    reader.start()
    kit.streams.restore()
    for code in (*_CELLS * _ROUNDS, *_LIBRARY_CELLS * 2):
        ours.sendall(json.dumps({"op": "run", "code": code}).encode() + b"\n")
        kernel.answer()
    kit.channel.catch_up()
    kit.close()
    reader.join()
    return host


def _acknowledge(channel: socket.socket, give: int) -> None:
    """The agent's side: a byte for each message that wants one, until the channel ends."""
    with channel, channel.makefile("rb") as lines:
        for line in lines:
            if json.loads(line)["type"] in ("result", "clear_output", "sync"):
                os.write(give, b".")
    os.close(give)


def _close_fonts() -> None:
    """matplotlib keeps the files of fonts open; a fork may close what it does not know."""
    for module, owner, cache in (
        ("matplotlib.font_manager", None, "_get_font"),
        ("matplotlib.mathtext", "MathTextParser", "_parse_cached"),
    ):
        with contextlib.suppress(AttributeError, KeyError):
            found: Any = sys.modules[module]
            getattr(getattr(found, owner) if owner else found, cache).cache_clear()


def _end_threads() -> None:
    """OpenBLAS has threads of its own from its import on, and ends them when the process forks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is about the threads that this is to end
        pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
