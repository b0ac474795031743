"""The agent's routes: the agent wire, all of it in one table at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
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
from sandcove.agent.sessions import Sessions
from sandcove.agent.transfer import FileDownload, FolderDownload, receive_file, receive_folder
from sandcove.agent.trust import trust
from sandcove.asgi import application
from sandcove.calls import Bytes, Call, Json, Tar
from sandcove.errors import (
    ConflictError,
    ContainerNotReadyError,
    ExecutionTimeoutError,
    FileSystemError,
    InvalidRequestError,
    NotFoundError,
    PathExistsError,
    PathNotFoundError,
    SandboxError,
    SessionAlreadyExistsError,
    SessionNotFoundError,
    TooLargeError,
    error_to_wire,
)
from sandcove.wire.answers import (
    Activity,
    Done,
    FileExists,
    FileList,
    FileMoved,
    FileRenamed,
    FileStat,
    FileStored,
    FolderMade,
    PathDone,
    Pong,
    SessionCreated,
    SessionDeleted,
    Success,
)
from sandcove.wire.clock import timestamp
from sandcove.wire.models import (
    CreateSession,
    DeletePath,
    Execute,
    ExecuteAnswer,
    ListFiles,
    MakeFolder,
    MovePath,
    PathOnly,
    Quiet,
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
from sandcove.wire.queries import FilePath, Heartbeat, PutFile
from sandcove.wire.secret_calls import Trust

__all__ = ["Agent"]

OF_THE_SERVER = ("/api/activity", "/api/quiet", "/api/rest", "/api/refuse")
"""Calls that are no use of the sandbox, and are answered while it falls asleep."""
LONGEST_WAIT = 10**9
"""Milliseconds."""
_INLINE = 256 * 1024
"""Contents up to this many bytes are read and written on the loop; a thread costs more."""
EVERY = (InvalidRequestError, ContainerNotReadyError, SandboxError)
"""What every call may end in."""
FILES = (SessionNotFoundError, PathNotFoundError, PathExistsError, FileSystemError)
COMMAND = (SessionNotFoundError, PathNotFoundError, NotFoundError, FileSystemError, ExecutionTimeoutError)


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
        self._calls_over = asyncio.Event()
        self._last = time.monotonic()
        self.app: ASGIApp = self._counted(application(self.routes()))

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
            if scope.get("path") in OF_THE_SERVER:
                await app(scope, receive, send)
                return
            if self._resting:
                error = ContainerNotReadyError("the sandbox is falling asleep; call again", begun=False)
                await Json(error_to_wire(error), error.status)(scope, receive, send)
                return
            self._busy += 1
            try:
                await app(scope, receive, send)
            finally:
                self._busy -= 1
                self._last = time.monotonic()
                if not self._busy:
                    self._calls_over.set()

        return counted

    def use(self) -> bool:
        """Notes that the sandbox is in use, other than by a call; False when it is falling asleep."""
        self._last = time.monotonic()
        return not self._resting

    def _path(self, path: str, session: str) -> str:
        return self.sessions.get(session).resolve(check_path(path))

    # --- life -------------------------------------------------------------------------------------------

    async def ping(self, _: Request) -> Json[Pong]:
        """Whether the sandbox is there."""
        return Json(Pong(timestamp=timestamp()))

    async def activity(self, _: Request) -> Json[Activity]:
        """(ours, for the server) how many calls and processes run, and milliseconds since the last call ended."""
        idle = int((time.monotonic() - self._last) * 1000)
        return Json(Activity(busy=self._busy, idle=idle, processes=self.processes.running))

    async def quiet(self, _: Request, spec: Quiet) -> Json[Success]:
        """(ours, for the server) no call begins any more; answered when none runs, or ``within`` ms have passed."""
        if not 0 <= spec.within <= LONGEST_WAIT:
            raise InvalidRequestError(f"within is {spec.within} ms; give 0 to {LONGEST_WAIT}")
        self._resting = True
        if self._busy:
            self._calls_over.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(spec.within / 1000):
                    await self._calls_over.wait()
        return Json(Success())

    async def rest(self, _: Request, spec: Rest) -> Json[Success]:
        """(ours, for the server) the sandbox is about to sleep: processes are asked to end, state is written down.

        From here on no call begins. With ``ifIdle`` (ms) only if it has been idle for so long.
        """
        idle = (time.monotonic() - self._last) * 1000
        if spec.if_idle is not None and (self._busy or idle < spec.if_idle):
            raise ConflictError("the sandbox is in use")
        # A caller is told from now on that it may wake the sandbox and call again.
        self._resting = True
        await self.sessions.rest()
        return Json(Success())

    async def refuse(self, _: Request) -> Json[Success]:
        """(ours, for the server, the last call) the socket's path is gone; see `Listener.refuse`."""
        await self._refuse()
        return Json(Success())

    async def set_env(self, _: Request, spec: SetEnv) -> Json[Done]:
        """(ours) sets environment variables for all that starts afterwards."""
        self.sessions.set_env(spec.env, spec.session_id)
        return Json(Done(timestamp=timestamp()))

    async def trust(self, _: Request, spec: Trust) -> Json[Done]:
        """(ours, for the server) programs of the sandbox trust this certificate from now on."""
        if env := await asyncio.to_thread(trust, spec.certificate, self.sessions.memory):
            self.sessions.set_env(dict(env), None)
        return Json(Done(timestamp=timestamp()))

    # --- commands and sessions --------------------------------------------------------------------------

    async def execute(self, http: Request, spec: Execute) -> Json[ExecuteAnswer]:
        """Runs a command to its end."""
        return await execute(self.sessions, spec, http, self.large)

    async def execute_stream(self, http: Request, spec: Execute, query: Heartbeat) -> CommandStream:
        """Runs a command and tells what it prints as it comes."""
        return CommandStream(http, self.sessions, spec, query.heartbeat)

    async def stdin(self, http: Bytes) -> Json[StdinAnswer]:
        """(ours) keeps bytes of any size as a later command's standard input."""
        return Json(StdinAnswer(token=await self.sessions.inputs.receive(http)))

    async def create_session(self, _: Request, spec: CreateSession) -> Json[SessionCreated]:
        """Makes a session: a shell of its own with a folder and an environment."""
        self.sessions.create(spec)
        how = "with" if spec.isolation else "without"
        return Json(SessionCreated(id=spec.id, message=f"Session '{spec.id}' created {how} isolation"))

    async def list_sessions(self, _: Request) -> Json[SessionList]:
        """The sessions."""
        names = self.sessions.names()
        return Json(
            SessionList(count=len(names), sessions=names, details=self.sessions.details(), timestamp=timestamp())
        )

    async def delete_session(self, http: Request) -> Json[SessionDeleted]:
        """(ours) ends a session and all that runs in it."""
        name = check_session_id(http.path_params["id"])
        session = self.sessions.take(name)
        await asyncio.gather(self.processes.kill_all(name), self.contexts.delete_all(name))
        await session.end()
        return Json(SessionDeleted(id=name, timestamp=timestamp()))

    # --- files ------------------------------------------------------------------------------------------

    async def write(self, _: Request, spec: WriteFile) -> Json[PathDone]:
        """Writes a file, atomically."""
        path = self._path(spec.path, spec.session_id)
        if spec.mode is not None:
            check_mode(spec.mode)
        words = (path, spec.content, spec.encoding, spec.mode, self.sessions.memory)
        await _perhaps_threaded(len(spec.content), files.write_file, *words)
        return Json(PathDone(path=spec.path, timestamp=timestamp()))

    async def read(self, _: Request, spec: ReadFile) -> Json[ReadAnswer]:
        """Reads a file whole."""
        path = self._path(spec.path, spec.session_id)
        content, encoding, is_binary, size = await _perhaps_threaded(
            files.size_hint(path), files.read_file, path, spec.encoding
        )
        return Json(
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

    async def read_stream(self, http: Request, spec: PathOnly, query: Heartbeat) -> FileEvents:
        """Reads a file as a stream, at any size."""
        return FileEvents(http, self._path(spec.path, spec.session_id), query.heartbeat)

    async def mkdir(self, _: Request, spec: MakeFolder) -> Json[FolderMade]:
        """Makes a folder."""
        files.make_folder(self._path(spec.path, spec.session_id), spec.recursive)
        return Json(FolderMade(path=spec.path, recursive=spec.recursive, timestamp=timestamp()))

    async def delete(self, _: Request, spec: DeletePath) -> Json[PathDone]:
        """Deletes a file, or a folder with all in it."""
        await asyncio.to_thread(files.delete, self._path(spec.path, spec.session_id), spec.recursive)
        return Json(PathDone(path=spec.path, timestamp=timestamp()))

    async def rename(self, _: Request, spec: RenamePath) -> Json[FileRenamed]:
        """Renames a file or folder."""
        old, new = self._path(spec.old_path, spec.session_id), self._path(spec.new_path, spec.session_id)
        await asyncio.to_thread(files.rename, old, new)
        return Json(FileRenamed(old_path=spec.old_path, new_path=spec.new_path, timestamp=timestamp()))

    async def move(self, _: Request, spec: MovePath) -> Json[FileMoved]:
        """Moves a file or folder."""
        source = self._path(spec.source_path, spec.session_id)
        destination = self._path(spec.destination_path, spec.session_id)
        await asyncio.to_thread(files.move, source, destination)
        return Json(
            FileMoved(source_path=spec.source_path, destination_path=spec.destination_path, timestamp=timestamp())
        )

    async def list_files(self, _: Request, spec: ListFiles) -> Json[FileList]:
        """What is in a folder."""
        path = self._path(spec.path, spec.session_id)
        options = spec.options
        found = await asyncio.to_thread(files.list_files, path, options.recursive, options.include_hidden)
        return Json(FileList(path=spec.path, files=found, timestamp=timestamp()))

    async def exists(self, _: Request, spec: PathOnly) -> Json[FileExists]:
        """(ours) whether something is at a path."""
        there = files.exists(self._path(spec.path, spec.session_id))
        return Json(FileExists(path=spec.path, exists=there, timestamp=timestamp()))

    async def stat(self, _: Request, spec: PathOnly) -> Json[FileStat]:
        """(ours) what is at a path."""
        found = files.stat_file(self._path(spec.path, spec.session_id))
        return Json(FileStat(path=spec.path, file=found, timestamp=timestamp()))

    async def put_file(self, http: Bytes, query: PutFile) -> Json[FileStored]:
        """(ours) writes a file of any size."""
        bits = None if query.mode is None else check_mode(int(query.mode, 8))
        path = self._path(query.path, query.session_id)
        size = await receive_file(http, path, bits, self.sessions.memory)
        return Json(FileStored(path=path, size=size, timestamp=timestamp()))

    async def get_file(self, _: Request, query: FilePath) -> FileDownload:
        """(ours) a file's bytes, at any size."""
        return FileDownload(self._path(query.path, query.session_id))

    async def put_folder(self, http: Tar, query: FilePath) -> Json[PathDone]:
        """(ours) unpacks an archive into a folder, which is made if it is missing."""
        path = self._path(query.path, query.session_id)
        await receive_folder(http, self.init, self.env, path)
        return Json(PathDone(path=path, timestamp=timestamp()))

    async def get_folder(self, _: Request, query: FilePath) -> FolderDownload:
        """(ours) what is in a folder, as an archive."""
        return FolderDownload(self.init, self.env, self._path(query.path, query.session_id))

    def routes(self) -> list[Call]:
        """All of them; made without anything that a call would need."""
        return [
            Call("POST", "/api/execute", self.execute, COMMAND),
            Call("POST", "/api/execute/stream", self.execute_stream, COMMAND),
            Call("PUT", "/api/stdin", self.stdin, [FileSystemError]),
            Call("GET", "/api/ping", self.ping),
            Call("GET", "/api/activity", self.activity),
            Call("POST", "/api/quiet", self.quiet),
            Call("POST", "/api/rest", self.rest, [ConflictError]),
            Call("POST", "/api/refuse", self.refuse),
            Call("POST", "/api/env", self.set_env, [SessionNotFoundError]),
            Call("POST", "/api/trust", self.trust, [FileSystemError]),
            Call(
                "POST",
                "/api/session/create",
                self.create_session,
                [ConflictError, SessionAlreadyExistsError, PathNotFoundError],
            ),
            Call("GET", "/api/session/list", self.list_sessions),
            Call("DELETE", "/api/session/{id}", self.delete_session, [SessionNotFoundError]),
            *process_routes(self),
            *context_routes(self),
            *git_routes(self),
            Call("POST", "/api/write", self.write, [*FILES, TooLargeError]),
            Call("POST", "/api/read", self.read, [*FILES, TooLargeError]),
            Call("POST", "/api/read/stream", self.read_stream, FILES),
            Call("POST", "/api/mkdir", self.mkdir, FILES),
            Call("POST", "/api/delete", self.delete, FILES),
            Call("POST", "/api/rename", self.rename, FILES),
            Call("POST", "/api/move", self.move, FILES),
            Call("POST", "/api/list-files", self.list_files, FILES),
            Call("POST", "/api/exists", self.exists, [SessionNotFoundError]),
            Call("POST", "/api/stat", self.stat, FILES),
            Call("GET", "/api/file", self.get_file, FILES),
            Call("PUT", "/api/file", self.put_file, FILES),
            Call("GET", "/api/folder", self.get_folder, FILES),
            Call("PUT", "/api/folder", self.put_folder, FILES),
        ]


async def _perhaps_threaded(size: int, function: Callable[..., Any], *args: Any) -> Any:
    return function(*args) if size <= _INLINE else await asyncio.to_thread(function, *args)
