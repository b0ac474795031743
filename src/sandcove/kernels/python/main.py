"""Where a kernel begins: forked from a warm process (`preload`, then `serve`), or in a Python of its own (`cold`)."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from types import ModuleType
from typing import NoReturn

from sandcove.kernels.python import fresh, preloaded
from sandcove.kernels.python.host import Host, Kit
from sandcove.kernels.python.kernel import Kernel
from sandcove.kernels.python.libraries import hooks
from sandcove.kernels.python.plain import Plain

__all__ = ["cold", "preload", "serve"]

_CHANNEL, _ACKS, _ARCHIVE = 3, 4, 5

_warm: list[Host] = []
"""The host that `preload` has made, for the forks of this process."""
_purge = fresh.Purge()


def preload() -> None:
    """Imports the libraries and runs all of the kernel once, in a process with one thread that is forked later."""
    from sandcove.kernels.python.warmup import warm_up

    _warm.append(warm_up(_host))
    preloaded.remember()
    _purge.find()


def serve(channel_fd: int, acks_fd: int) -> NoReturn:
    """Is the kernel, in a process of its own: descriptors 0 to 2, folder and environment are the context's."""
    kit = Kit(channel_fd, acks_fd)
    if _warm:
        fresh.forget()
        fresh.set_path()
        host = _warm[0]
        host.kit = kit
    else:
        host = _host(kit)
        hooks(host).install()
    sys.argv[:] = [""]
    host.fresh()
    kit.watch_forks()
    _purge.purge()
    kernel = Kernel(kit, host)
    kernel.start()
    kernel.run()


def cold() -> NoReturn:
    """What `archive.COLD` calls: this code comes from a zip, which the user's code does not get to see."""
    zip_path = f"/proc/self/fd/{_ARCHIVE}"
    with contextlib.suppress(Exception):  # asked for again below, when the zip has gone
        importlib.import_module("sandcove.kernels.python.shell")
    sys.path[:] = ["", *(entry for entry in sys.path if entry != zip_path)]
    for cache in (sys.path_importer_cache, getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {})):
        cache.pop(zip_path, None)
    os.close(_ARCHIVE)
    serve(_CHANNEL, _ACKS)


def _host(kit: Kit) -> Host:
    module = ModuleType("__main__")
    try:
        from sandcove.kernels.python.shell import Shell

        return Shell(kit, module)
    except ImportError:
        return Plain(kit, module)
    except Exception as error:  # noqa: BLE001 - one that is broken, or of a version unheard of, is as good as none
        plain = Plain(kit, module)
        plain.own_notes = (f"IPython is there but can't be used: {type(error).__name__}: {error}", *plain.own_notes)
        return plain
