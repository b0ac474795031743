"""Where a kernel begins: forked from a warm process (`preload`, then `serve`), or in a Python of its own (`cold`)."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import NoReturn

from sandcove.kernels.python import fresh, preloaded
from sandcove.kernels.python.host import Host, Kit
from sandcove.kernels.python.kernel import Kernel
from sandcove.kernels.python.libraries import hooks
from sandcove.kernels.python.plain import Plain
from sandcove.kernels.python.preloaded import changed

__all__ = ["changed", "cold", "preload", "serve"]

_CHANNEL, _ACKS, _ARCHIVE = 3, 4, 5

_warm: list[Host] = []
"""The host that `preload` has made, for the forks of this process."""
_purge = fresh.Purge()


def preload() -> None:
    """Imports the libraries and runs all of the kernel once, in a process with one thread that is forked later."""
    from sandcove.kernels.python import warmup

    _warm.append(warmup.warm_up(_host))
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
    shell = _host_class()
    sys.path[:] = ["", *(entry for entry in sys.path if entry != zip_path)]
    for cache in (sys.path_importer_cache, getattr(sys.modules.get("zipimport"), "_zip_directory_cache", {})):
        cache.pop(zip_path, None)
    os.close(_ARCHIVE)
    del shell
    serve(_CHANNEL, _ACKS)


def _host_class() -> type[Host]:
    """With IPython if this Python can import it. Else the reason is in the notes."""
    try:
        from sandcove.kernels.python.shell import Shell
    except Exception:  # noqa: BLE001 - one that is broken or too old is as good as none
        return Plain
    return Shell


def _host(kit: Kit) -> Host:
    return _host_class()(kit, ModuleType("__main__"))
