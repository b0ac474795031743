"""Files and folders as raw streams: a file's bytes, a folder as tar. Memory stays flat at any size."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandcove.agent.files import NewFile, open_file
from sandcove.agent.init import Exit, Init
from sandcove.agent.memory import Memory
from sandcove.agent.output import Output
from sandcove.agent.stdin import Stdin
from sandcove.errors import FileSystemError, InvalidRequestError, PathNotFoundError

__all__ = ["FileDownload", "FolderDownload", "receive_file", "receive_folder", "write_body"]

CHUNK = 1024 * 1024
TAR = "/bin/tar"
_STDERR_KEPT = 4096


async def receive_file(http: Request, path: str, mode: int | None, memory: Memory) -> int:
    """Writes the request's body to `path`, put in place when all of it is there; gives the size in bytes."""
    file = NewFile(path, mode, memory)
    try:
        await write_body(http, file.write)
        return file.commit()
    finally:
        file.discard()


async def write_body(http: Request, write: Callable[[bytes], object]) -> None:
    """Gives the request's body to `write`, of a file, in large pieces; beside other calls while there is much of it."""
    pending: list[bytes] = []
    size = 0
    async for chunk in http.stream():
        pending.append(chunk)
        size += len(chunk)
        if size >= CHUNK:
            await asyncio.to_thread(write, b"".join(pending))
            pending.clear()
            size = 0
    write(b"".join(pending))


class FileDownload(Response):
    """A regular file's bytes, as long as it was when it was opened."""

    media_type = "application/octet-stream"

    def __init__(self, path: str) -> None:
        self._fd, self._size = open_file(path)
        super().__init__()
        self.headers["content-length"] = str(self._size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            left = self._size
            while left > 0:
                if left > CHUNK:
                    data = await asyncio.to_thread(os.read, self._fd, CHUNK)
                else:
                    data = os.read(self._fd, left)
                if not data:
                    # It was cut short meanwhile. The announced length can't be kept: break the connection.
                    raise FileSystemError("the file became shorter while it was read")
                left -= len(data)
                await send({"type": "http.response.body", "body": data, "more_body": left > 0})
            if self._size == 0:
                await send({"type": "http.response.body", "body": b""})
        finally:
            os.close(self._fd)


class FolderDownload(Response):
    """A folder's contents as a tar stream. If tar fails midway the chunked body breaks off."""

    media_type = "application/x-tar"

    def __init__(self, init: Init, env: Mapping[str, str], path: str) -> None:
        if not os.path.exists(path):
            raise PathNotFoundError(f"{path} does not exist in the sandbox")
        if not os.path.isdir(path):
            raise FileSystemError(f"{path} is a file, not a folder; download it as a file")
        super().__init__()
        del self.headers["content-length"]
        self._init = init
        self._env = dict(env)
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tar = await _Tar.start(self._init, self._env, ["-cf", "-", "-C", self._path, "."], stdin=False)
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        errors = b""
        try:
            async for stream, chunk in tar.output.chunks():
                if stream == "stdout":
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                else:
                    errors = (errors + chunk)[-_STDERR_KEPT:]
            exit_ = await tar.exit
        finally:
            await tar.end()
        # 1: files changed while they were read; what was read is whole.
        if exit_.exit_code > 1:
            raise FileSystemError(f"tar of {self._path} failed: {errors.decode(errors='replace').strip()}")
        await send({"type": "http.response.body", "body": b""})


async def receive_folder(http: Request, init: Init, env: Mapping[str, str], path: str) -> None:
    """Unpacks the tar stream in the request's body into the folder `path`, which is made if it is missing.

    It is unpacked by the sandbox's own tar among user code, without privileges: a hostile archive can do
    nothing that user code can't.
    """
    if os.path.exists(path) and not os.path.isdir(path):
        raise FileSystemError(f"{path} is a file, not a folder")
    os.makedirs(path, exist_ok=True)
    tar = await _Tar.start(init, env, ["-xf", "-", "-C", path, "--no-same-owner"], stdin=True)
    try:
        async for chunk in http.stream():
            if not await tar.stdin.write(chunk):
                break
        tar.stdin.discard()
        exit_ = await tar.exit
    finally:
        await tar.end()
    if exit_.exit_code != 0:
        reason = tar.output.kept("stderr").decode(errors="replace").strip()[-_STDERR_KEPT:]
        raise InvalidRequestError(f"the archive could not be unpacked into {path}: {reason or exit_}")


class _Tar:
    """A tar that runs among user code."""

    def __init__(self, init: Init, pid: int, exit_: asyncio.Future[Exit], output: Output, stdin: int) -> None:
        self._init = init
        self._pid = pid
        self.exit = exit_
        self.output = output
        self.stdin = Stdin(stdin, exit_)
        exit_.add_done_callback(lambda _: output.finish())

    @classmethod
    async def start(cls, init: Init, env: Mapping[str, str], arguments: list[str], *, stdin: bool) -> _Tar:
        stdout, stdout_write = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_write = os.pipe2(os.O_CLOEXEC)
        fds = {1: stdout_write, 2: stderr_write}
        stdin_write = -1
        if stdin:
            fds[0], stdin_write = os.pipe2(os.O_CLOEXEC)
        try:
            pid, exit_ = await init.spawn([TAR, *arguments], env=dict(env), cwd="/", fds=fds)
        except BaseException:
            for fd in (stdout, stderr, stdin_write):
                if fd >= 0:
                    os.close(fd)
            raise
        finally:
            for fd in fds.values():
                os.close(fd)
        os.set_blocking(stdout, False)
        os.set_blocking(stderr, False)
        output = Output(stdout, stderr, keep=64 * 1024 if stdin else None)
        return cls(init, pid, exit_, output, stdin_write)

    async def end(self) -> None:
        """Kills it when it still runs; nothing is left of it."""
        self.stdin.discard()
        if not self.exit.done():
            self.output.abandon()
            await self._init.signal(self._pid, 9)
            await self.exit
