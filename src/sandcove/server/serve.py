"""What the server's process does: everything is put together here, serves, and is taken apart again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sandcove.asgi import Listener, prepare, run
from sandcove.errors import InvalidRequestError
from sandcove.home import Home
from sandcove.linux import BACKLOG
from sandcove.runtimes.local.runtime import LocalRuntime
from sandcove.runtimes.local.zygote import Zygote
from sandcove.server.app import Server
from sandcove.server.audit import Audit
from sandcove.server.caller import LOCAL
from sandcove.server.clock import Clock
from sandcove.server.config import Settings
from sandcove.server.crowd import Crowd
from sandcove.server.database import Database
from sandcove.server.egress.outlets import Outlets
from sandcove.server.egress.purse import Secrets
from sandcove.server.keys import Keys
from sandcove.server.leftovers import clear_up
from sandcove.server.lifecycle import Sandboxes
from sandcove.server.limits import Bounds
from sandcove.server.ports import Ports
from sandcove.server.preview.api import ApiConnection
from sandcove.server.preview.previews import Previews
from sandcove.server.reaper import end_lives, reap, wait_until_idle
from sandcove.server.registry import Registry
from sandcove.server.tcp import listen, read_again, tls_context, url
from sandcove.server.tokens import Tokens, read_secret
from sandcove.trees import delete_tree
from sandcove.wire.limits import NO_LIMITS
from sandcove.wire.preview import Base

if TYPE_CHECKING:
    from ssl import SSLContext

__all__ = ["serve"]

LAST_WORDS = 2.0
"""Seconds that calls have to end when their sandboxes have."""
TRASH_LOCKED = 0.2
"""Seconds until it is looked again whether a zygote has got ready."""

_log = logging.getLogger("sandcove.server")


def serve(
    home: Home,
    settings: Settings,
    zygote: Zygote,
    *,
    auto: bool,
    ready: Callable[[list[str]], None],
) -> None:
    """Serves until it is told to stop.

    Args:
        zygote: spawned already.
        auto: stop also after a time without use.
        ready: called when it listens, with the URLs of its TCP listener.
    """
    run(lambda: _serve(home, settings, zygote, auto=auto, ready=ready))


async def _serve(
    home: Home,
    settings: Settings,
    zygote: Zygote,
    *,
    auto: bool,
    ready: Callable[[list[str]], None],
) -> None:
    bounds = Bounds.of(settings.limits, settings.max_limits)
    runtime = LocalRuntime(
        home,
        zygote=zygote,
        limits=bounds.of_sandbox(NO_LIMITS),
        cgroups=settings.cgroups,
        disk_reserve=settings.disk_reserve,
    )
    database = Database(home.registry)
    verdicts = Audit(home.egress_log)
    outlets = Outlets(
        settings.egress_ceiling,
        settings.egress_private,
        Secrets(database),
        verdicts,
        rate=settings.egress_rate,
        most=settings.egress_connections,
    )
    sandboxes = Sandboxes(home, runtime, Registry(database), settings, outlets=outlets, bounds=bounds)
    clock = Clock()
    keys = Keys(database, clock)
    tokens = Tokens(read_secret(home.token_secret), sandboxes, keys, clock)
    audit = Audit(home.audit_log)
    base = Base.of(settings.preview_url) if settings.preview_url else None
    previews = Previews(sandboxes, Ports(database), keys, home, base)
    crowd = Crowd(settings.max_connections, in_clear=settings.tls_cert is None)
    server = Server(
        sandboxes,
        home,
        settings,
        zygote_pid=lambda: runtime.zygote.pid,
        keys=keys,
        tokens=tokens,
        audit=audit,
        previews=previews,
        crowd=crowd,
    )
    loop = asyncio.get_running_loop()
    whole = asyncio.current_task()
    assert whole is not None

    def end() -> None:
        if server.stop.is_set():
            whole.cancel()
        server.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    # It tells of strangers' nonsense and of calls that were cut; errors of our own are logged where they are answered.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    listeners: list[Listener] = []
    try:
        # Before all else: what is wrong with them shall not cost the time of a start.
        tls = None if settings.tls_cert is None else tls_context(settings.tls_cert, settings.tls_key)
        sockets = [crowd.door(sock) for sock in listen(settings.host, settings.port)] if settings.host else []
        if sockets:
            loop.add_signal_handler(signal.SIGHUP, _reload, tls, settings)
        server.addresses = [url(sock, tls=tls is not None) for sock in sockets]
        await clear_up(home)
        # What this server moves there it deletes where it moves it.
        trash = list(home.trash.iterdir())
        await runtime.start()
        await sandboxes.restore()
        local = Listener(prepare(server.app, ApiConnection))
        listeners.append(local)
        await local.start(
            _bind(home.server_socket), protocol=previews.serve_with(local, lambda request: (LOCAL, request.target))
        )
        if sockets:
            from sandcove.server.connection import Connection

            remote = Listener(prepare(server.guarded_app, Connection))
            listeners.append(remote)
            front = previews.serve_with(remote, server.authentication.check_head)
            await remote.start(*sockets, tls=tls, protocol=front)
        await previews.start()
        _log.info("serving on %s (pid %d)", " and ".join([str(home.server_socket), *server.addresses]), os.getpid())
        ready(server.addresses)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(reap(sandboxes)),
                group.create_task(outlets.watch_own()),
                group.create_task(end_lives(sandboxes)),
                group.create_task(_empty_trash(home.trash, trash)),
            ]
            if auto and settings.idle_stop > 0:
                idle = _stop_when_idle(server, sandboxes, listeners, previews.ports, settings.idle_stop)
                tasks.append(group.create_task(idle))
            await server.stop.wait()
            _log.info("stopping")
            for task in tasks:
                task.cancel()
        # New calls find no socket and start another server, which waits for this one's lock to be gone.
        home.server_socket.unlink(missing_ok=True)
        await local.refuse()
        # On TCP connections are still taken: callers are told that it stops, and balancers see it.
        await _calls_end(server, sandboxes, listeners, settings.stop_grace)
        for listener in listeners[1:]:
            await listener.refuse()
        await previews.close()
        await sandboxes.close()
        await asyncio.gather(*(listener.stop(LAST_WORDS) for listener in listeners))
    except asyncio.CancelledError:
        _log.info("told to stop again: ending at once")
        calls = {task for listener in listeners for task in listener.tasks}
        await asyncio.gather(*(listener.stop(0) for listener in listeners))
        if calls:
            await asyncio.wait(calls, timeout=LAST_WORDS)
    finally:
        await runtime.close()
        database.close()
        audit.close()
        verdicts.close()
    _log.info("stopped")


async def _calls_end(server: Server, sandboxes: Sandboxes, listeners: Sequence[Listener], seconds: float) -> None:
    """Returns when no call runs but leases, which only wait for the server's end, or after `seconds`.

    Agents take calls for as long as some that come by the server run: these may need them to end.
    """
    loop = asyncio.get_running_loop()
    over_at = loop.time() + seconds
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(over_at):
            while calls := {task for listener in listeners for task in listener.tasks} - server.leases:
                await asyncio.wait(calls)
            await sandboxes.quieten(over_at - loop.time())


def _reload(tls: SSLContext | None, settings: Settings) -> None:
    if tls is None or settings.tls_cert is None:
        _log.info("told to read again what may change, but there is no certificate")
        return
    try:
        read_again(tls, settings.tls_cert, settings.tls_key)
    except (InvalidRequestError, OSError) as error:
        _log.error("the certificate from before stays in force: %s", error)
    else:
        _log.info("tls_cert %s was read again", settings.tls_cert)


async def _stop_when_idle(
    server: Server, sandboxes: Sandboxes, listeners: Sequence[Listener], ports: Ports, seconds: float
) -> None:
    await wait_until_idle(sandboxes, listeners, ports, seconds)
    _log.info("unused for %g s", seconds)
    server.stop.set()


def _bind(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener


async def _empty_trash(trash: Path, left: list[Path]) -> None:
    """Deletes what is `left` there, but only when no zygote that gets ready works in it: that has locked the trash."""
    lock = os.open(trash, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(TRASH_LOCKED)
    finally:
        os.close(lock)
    await asyncio.to_thread(_delete_all, [folder for folder in left if folder.exists()])


def _delete_all(folders: list[Path]) -> None:
    for folder in folders:
        try:
            delete_tree(folder)
        except OSError as error:
            _log.warning("%s could not be deleted: %s", folder, error)
