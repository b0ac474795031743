"""The agent's routes: the agent wire, all of it in one table at the end."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sandcove.agent import files
from sandcove.agent.command_stream import CommandStream
from sandcove.agent.commands import execute
from sandcove.agent.context_calls import context_routes
from sandcove.agent.contexts import Contexts
from sandcove.agent.file_events import FileEvents
from sandcove.agent.git_calls import git_routes
from sandcove.agent.init import Init
from sandcove.agent.process_calls import process_routes
from sandcove.agent.processes import Processes
from sandcove.agent.query import query
from sandcove.agent.sessions import Sessions
from sandcove.agent.transfer import FileDownload, FolderDownload, receive_file, receive_folder
from sandcove.asgi import application, body, json, route
from sandcove.errors import ConflictError, ContainerNotReadyError, InvalidRequestError, error_to_wire
from sandcove.wire.clock import timestamp
from sandcove.wire.models import (
    DEFAULT_SESSION,
    CreateSession,
    DeletePath,
    Execute,
    ListFiles,
    MakeFolder,
    MovePath,
    PathOnly,
    ReadAnswer,
    ReadFile,
    RenamePath,
    Rest,
    SessionList,
    SetEnv,
    StdinAnswer,
    WriteFile,
)
from sandcove.wire.names import check_mode, check_path, check_session_id

__all__ = ["Agent"]

_INLINE = 256 * 1024
"""Contents up to this many bytes are read and written on the loop; a thread costs more."""


class Agent:
    """One sandbox's API. `app` is made before the fork, `begin` fills in what lives after it."""

    sessions: Sessions
    processes: Processes
    contexts: Contexts
    init: Init
    env: Mapping[str, str]
    large: asyncio.Lock
    """One large answer is made at a time."""

    def __init__(self) -> None:
        self._busy = 0
        self._resting = False
        self._last = time.monotonic()
        self.app: ASGIApp = self._counted(application(self._routes()))

    def begin(
        self,
        sessions: Sessions,
        processes: Processes,
        contexts: Contexts,
        init: Init,
        env: Mapping[str, str],
        *,
        refuse: Callable[[], Awaitable[None]],
    ) -> None:
        self.sessions = sessions
        self.processes = processes
        self.contexts = contexts
        self.init = init
        self.env = env
        self._refuse = refuse
        self.large = asyncio.Lock()

    def _counted(self, app: ASGIApp) -> ASGIApp:
        """Notes when the sandbox was last in use; the question how long it has been idle is none."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope.get("path") in ("/api/activity", "/api/rest", "/api/refuse"):
                await app(scope, receive, send)
                return
            if self._resting:
                error = ContainerNotReadyError("the sandbox is falling asleep; call again", begun=False)
                await json(error_to_wire(error), error.status)(scope, receive, send)
                return
            self._busy += 1
            try:
                await app(scope, receive, send)
            finally:
                self._busy -= 1
                self._last = time.monotonic()

        return counted

    def use(self) -> bool:
        """Notes that the sandbox is in use, other than by a call; False when it is falling asleep."""
        self._last = time.monotonic()
        return not self._resting

    def _path(self, path: str, session: str) -> str:
        return self.sessions.get(session).resolve(check_path(path))

    # --- life -------------------------------------------------------------------------------------------

    async def ping(self, _: Request) -> Response:
        return json({"message": "pong", "timestamp": timestamp(), "status": "ready", "system": "sandcove"})

    async def activity(self, _: Request) -> Response:
        """(ours, for the server) how many calls and processes run, and milliseconds since the last call ended."""
        idle = int((time.monotonic() - self._last) * 1000)
        return json({"busy": self._busy, "idle": idle, "processes": self.processes.running})

    async def rest(self, http: Request) -> Response:
        """(ours, for the server) the sandbox is about to sleep: processes are asked to end, state is written down.

        From here on no call begins. With ``ifIdle`` (ms) only if it has been idle for so long.
        """
        spec = await body(http, Rest)
        idle = (time.monotonic() - self._last) * 1000
        if spec.if_idle is not None and (self._busy or idle < spec.if_idle):
            raise ConflictError("the sandbox is in use")
        # A caller is told from now on that it may wake the sandbox and call again.
        self._resting = True
        await self.sessions.rest()
        return json({"success": True})

    async def refuse(self, _: Request) -> Response:
        """(ours, for the server, the last call) the socket's path is gone; see `Listener.refuse`."""
        await self._refuse()
        return json({"success": True})

    async def set_env(self, http: Request) -> Response:
        spec = await body(http, SetEnv)
        self.sessions.set_env(spec.env, spec.session_id)
        return json({"success": True, "timestamp": timestamp()})

    # --- commands and sessions --------------------------------------------------------------------------

    async def execute(self, http: Request) -> Response:
        query(http)
        spec = await body(http, Execute)
        return await execute(self.sessions, spec, http, self.large)

    async def execute_stream(self, http: Request) -> Response:
        query(http, "heartbeat")
        return CommandStream(http, self.sessions, await body(http, Execute))

    async def stdin(self, http: Request) -> Response:
        return json(StdinAnswer(token=await self.sessions.inputs.receive(http)))

    async def create_session(self, http: Request) -> Response:
        spec = await body(http, CreateSession)
        self.sessions.create(spec)
        how = "with" if spec.isolation else "without"
        return json({"success": True, "id": spec.id, "message": f"Session '{spec.id}' created {how} isolation"})

    async def list_sessions(self, _: Request) -> Response:
        names = self.sessions.names()
        return json(
            SessionList(count=len(names), sessions=names, details=self.sessions.details(), timestamp=timestamp())
        )

    async def delete_session(self, http: Request) -> Response:
        name = check_session_id(http.path_params["id"])
        session = self.sessions.take(name)
        await asyncio.gather(self.processes.kill_all(name), self.contexts.delete_all(name))
        await session.end()
        return json({"success": True, "id": name, "timestamp": timestamp()})

    # --- files ------------------------------------------------------------------------------------------

    async def write(self, http: Request) -> Response:
        spec = await body(http, WriteFile)
        path = self._path(spec.path, spec.session_id)
        if spec.mode is not None:
            check_mode(spec.mode)
        await _perhaps_threaded(len(spec.content), files.write_file, path, spec.content, spec.encoding, spec.mode)
        return _done(path=spec.path)

    async def read(self, http: Request) -> Response:
        spec = await body(http, ReadFile)
        path = self._path(spec.path, spec.session_id)
        content, encoding, is_binary, size = await _perhaps_threaded(
            files.size_hint(path), files.read_file, path, spec.encoding
        )
        return json(
            ReadAnswer(
                success=True,
                exit_code=0,
                path=spec.path,
                content=content,
                encoding=encoding,
                is_binary=is_binary,
                mime_type=files.mime_type(path, is_binary),
                size=size,
                timestamp=timestamp(),
            )
        )

    async def read_stream(self, http: Request) -> Response:
        spec = await body(http, PathOnly)
        return FileEvents(http, self._path(spec.path, spec.session_id))

    async def mkdir(self, http: Request) -> Response:
        spec = await body(http, MakeFolder)
        files.make_folder(self._path(spec.path, spec.session_id), spec.recursive)
        return _done(path=spec.path, recursive=spec.recursive, stdout="", stderr="")

    async def delete(self, http: Request) -> Response:
        spec = await body(http, DeletePath)
        await asyncio.to_thread(files.delete, self._path(spec.path, spec.session_id), spec.recursive)
        return _done(path=spec.path)

    async def rename(self, http: Request) -> Response:
        spec = await body(http, RenamePath)
        old, new = self._path(spec.old_path, spec.session_id), self._path(spec.new_path, spec.session_id)
        await asyncio.to_thread(files.rename, old, new)
        return _done(oldPath=spec.old_path, newPath=spec.new_path)

    async def move(self, http: Request) -> Response:
        spec = await body(http, MovePath)
        source = self._path(spec.source_path, spec.session_id)
        destination = self._path(spec.destination_path, spec.session_id)
        await asyncio.to_thread(files.move, source, destination)
        return _done(sourcePath=spec.source_path, destinationPath=spec.destination_path)

    async def list_files(self, http: Request) -> Response:
        spec = await body(http, ListFiles)
        path = self._path(spec.path, spec.session_id)
        options = spec.options
        found = await asyncio.to_thread(files.list_files, path, options.recursive, options.include_hidden)
        return _done(path=spec.path, files=found)

    async def exists(self, http: Request) -> Response:
        spec = await body(http, PathOnly)
        return _done(path=spec.path, exists=files.exists(self._path(spec.path, spec.session_id)))

    async def stat(self, http: Request) -> Response:
        spec = await body(http, PathOnly)
        return _done(path=spec.path, file=files.stat_file(self._path(spec.path, spec.session_id)))

    async def put_file(self, http: Request) -> Response:
        mode = http.query_params.get("mode")
        if mode is not None and not re.fullmatch("[0-7]{1,5}", mode, re.ASCII):
            raise InvalidRequestError(f"mode {mode!r} is no octal number such as 0644")
        bits = None if mode is None else check_mode(int(mode, 8))
        path = self._query_path(http, "mode")
        return _done(path=path, size=await receive_file(http, path, bits))

    async def get_file(self, http: Request) -> Response:
        return FileDownload(self._query_path(http))

    async def put_folder(self, http: Request) -> Response:
        path = self._query_path(http)
        await receive_folder(http, self.init, self.env, path)
        return _done(path=path)

    async def get_folder(self, http: Request) -> Response:
        return FolderDownload(self.init, self.env, self._query_path(http))

    def _query_path(self, http: Request, *more: str) -> str:
        given = query(http, "path", "sessionId", *more)
        if "path" not in given:
            raise InvalidRequestError("the query parameter 'path' is missing")
        return self._path(given["path"], given.get("sessionId", DEFAULT_SESSION))

    def _routes(self) -> list[Any]:
        return [
            route("POST", "/api/execute", self.execute),
            route("POST", "/api/execute/stream", self.execute_stream),
            route("PUT", "/api/stdin", self.stdin),
            route("GET", "/api/ping", self.ping),
            route("GET", "/api/activity", self.activity),
            route("POST", "/api/rest", self.rest),
            route("POST", "/api/refuse", self.refuse),
            route("POST", "/api/env", self.set_env),
            route("POST", "/api/session/create", self.create_session),
            route("GET", "/api/session/list", self.list_sessions),
            route("DELETE", "/api/session/{id}", self.delete_session),
            *process_routes(self),
            *context_routes(self),
            *git_routes(self),
            route("POST", "/api/write", self.write),
            route("POST", "/api/read", self.read),
            route("POST", "/api/read/stream", self.read_stream),
            route("POST", "/api/mkdir", self.mkdir),
            route("POST", "/api/delete", self.delete),
            route("POST", "/api/rename", self.rename),
            route("POST", "/api/move", self.move),
            route("POST", "/api/list-files", self.list_files),
            route("POST", "/api/exists", self.exists),
            route("POST", "/api/stat", self.stat),
            Route("/api/file", _by_method(GET=self.get_file, PUT=self.put_file), methods=["GET", "PUT"]),
            Route("/api/folder", _by_method(GET=self.get_folder, PUT=self.put_folder), methods=["GET", "PUT"]),
        ]


def _by_method(**endpoints: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(http: Request) -> Response:
        method = "GET" if http.method == "HEAD" else http.method
        return await endpoints[method](http)

    return endpoint


async def _perhaps_threaded(size: int, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args) if size <= _INLINE else await asyncio.to_thread(function, *args)


def _done(**fields: Any) -> Response:
    return json({"success": True, "exitCode": 0, **fields, "timestamp": timestamp()})
