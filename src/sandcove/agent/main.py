"""What a fork of the zygote runs, inside the room: the agent of one sandbox.

Everything that the agent can need is imported here, before the fork: a module imported later would be looked for
among the sandbox's own files.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures.thread
import contextlib
import encodings.idna
import gc
import json
import logging
import mimetypes
import os
import resource
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import anyio._backends._asyncio as anyio_on_asyncio

from sandcove import linux
from sandcove.agent.app import Agent
from sandcove.agent.confines import Confines
from sandcove.agent.contexts import Contexts
from sandcove.agent.dialler import Dialler
from sandcove.agent.init import Init
from sandcove.agent.kernel_start import Kernels
from sandcove.agent.memory import Memory
from sandcove.agent.processes import Processes
from sandcove.agent.sessions import HOME, Sessions
from sandcove.agent.warmup import warm_up
from sandcove.agent.way_out import way_out
from sandcove.asgi import Listener, prepare, run
from sandcove.errors import SandboxError
from sandcove.wire.confine import Confine
from sandcove.wire.models import DEFAULT_SESSION

__all__ = ["PRELOADED", "main", "preload"]

PRELOADED = (anyio_on_asyncio, base64, concurrent.futures.thread, encodings.idna, json, mimetypes)
"""Modules that the standard library and the web framework import late."""

_agent = Agent()
_listener = Listener(prepare(_agent.app))


class _NoImports:
    """Refuses every import: after the fork a module could only come from the sandbox's own files."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> NoReturn:
        logging.getLogger("sandcove.agent").error("module %s is not preloaded", name)
        raise ModuleNotFoundError(f"the agent imports nothing in its room; {name} must be preloaded", name=name)


def preload(place: Path | None) -> None:
    """Does once, before the fork, what every agent would do: tables are built, types resolved, garbage frozen.

    `place` is where a folder is made meanwhile: see `warm_up`.
    """
    mimetypes.init(files=[])
    warm_up(_agent, _listener, {"PATH": os.defpath, "LANG": "C.UTF-8"}, place)
    gc.collect()
    gc.freeze()


def main(
    channel: socket.socket,
    listener: socket.socket,
    memory_fd: int,
    path: str,
    mount: Callable[[], None],
    *,
    confine: Confine,
    resize: Callable[[Confine], None],
    enter: Sequence[int],
    oom: int,
) -> None:
    """Runs until the room ends.

    Args:
        channel: to the server: ``ready`` goes out on it; its end of file tells the server that the agent is gone.
        listener: a listening Unix socket, bound outside the room.
        memory_fd: the open file of `Memory`.
        path: the PATH of user code.
        mount: finishes the room's file system; runs while the user namespace's first process sets itself up.
        confine, enter, oom: see `Confines`.
        resize: makes the file systems in memory as large as that says.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    sys.meta_path[:] = [_NoImports()]
    linux.set_dumpable(False)
    if confine.agent:
        # Of the soft limit alone: programs for user code get what `Confines` says.
        resource.setrlimit(resource.RLIMIT_DATA, (confine.agent, resource.RLIM_INFINITY))
    confines = Confines(confine, soft=linux.raise_open_files(), enter=enter, oom=oom)
    init = Init.start(own_mounts=False, confines=confines)
    mount()
    memory = Memory(memory_fd)
    memory.clear_unfinished()
    base_env = {
        "PATH": path,
        "HOME": HOME,
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",
        **way_out(),
    }

    async def serve() -> None:
        init.attach()
        sessions = Sessions(memory, base_env, init, confines=confines)

        async def start_shell() -> None:
            # Whoever runs the first command is told when there is no working bash; files can be mended without.
            with contextlib.suppress(SandboxError):
                await sessions.get(DEFAULT_SESSION).start()

        async with asyncio.TaskGroup() as group:
            contexts = Contexts(sessions, Kernels(channel))
            processes = Processes(group)
            processes.log_space.limit = confine.logs

            def confine_anew(confine: Confine) -> None:
                group.create_task(sessions.confine(confine))
                processes.log_space.limit = confine.logs
                resize(confine)

            _agent.begin(sessions, processes, contexts, init, base_env, refuse=_listener.refuse)
            group.create_task(start_shell())
            await _listener.start(listener)
            channel.send(b"ready")
            Dialler(channel, _agent.use, group, confine_anew)
            assert init.ended is not None
            await init.ended
            # Nothing runs any more that a task could wait for.
            os._exit(1)

    try:
        run(serve)
    except SandboxError as error:
        channel.send(f"error: {error}".encode()[:4096])
    finally:
        # Without its agent or its user namespace's first process a room is of no use: let the server see it end.
        os._exit(1)
