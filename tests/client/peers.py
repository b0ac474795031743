"""The other end of a connection, played by a test: it says exactly what the test wants, byte by byte."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandcove.errors import SandboxError, error_to_wire
from sandcove.wire import WIRE_VERSION
from sandcove.wire.codec import encode
from sandcove.wire.models import SandboxInfo, ServerInfo

__all__ = ["Connection", "Peer", "Script", "answer", "refusal"]


def answer(body: bytes = b"ok", status: int = 200, *headers: bytes) -> bytes:
    """A response with a length."""
    lines = [b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def refusal(error: SandboxError, *headers: bytes) -> bytes:
    """An answer that is this error."""
    return answer(encode(error_to_wire(error)), error.status, *headers)


class Connection:
    """One connection to a `Peer`. Its methods block; the peer's function is run in a thread of its own."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self._held = b""

    def head(self) -> bytes:
        """The next request's head, or nothing when the client closed."""
        while b"\r\n\r\n" not in self._held:
            piece = self.sock.recv(65536)
            if not piece:
                return b""
            self._held += piece
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        return head

    def body(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._held) < size:
            piece = self.sock.recv(1 << 20)
            assert piece, "the client closed in the middle of its body"
            self._held += piece
        body, self._held = self._held[:size], self._held[size:]
        return body

    def request(self) -> tuple[bytes, bytes]:
        """The next request: its head and, where that tells its length, its body."""
        head = self.head()
        length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
        return head, self.body(int(length.partition(b":")[2]))

    def end(self) -> None:
        """Ends it from another thread."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def wait_for_end(self) -> None:
        """Returns when the client has closed."""
        while self.sock.recv(65536):
            pass


class Peer:
    """Listens on a Unix socket in `folder`, else on a TCP port, and runs `play` for each connection."""

    def __init__(self, folder: Path | None, play: Callable[[Connection], None]) -> None:
        self.path = "" if folder is None else str(folder / "peer.sock")
        self.connections = 0
        self.failures: list[BaseException] = []
        self._play = play
        self._running: list[tuple[threading.Thread, Connection]] = []
        self._listener = socket.socket(socket.AF_UNIX if self.path else socket.AF_INET)
        self._listener.bind(self.path or ("127.0.0.1", 0))
        self._listener.listen(64)

    @property
    def url(self) -> str:
        """Of a TCP port."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(20)
        for thread, connection in self._running:
            if error is not None:
                connection.end()
            thread.join(20)
            left_open = thread.is_alive()
            connection.end()
            assert not left_open, "the client left a connection open that it should have closed"
        self._listener.close()
        if self.path:
            os.unlink(self.path)
        if self.failures:
            raise self.failures[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection = Connection(sock, self.connections)
            thread = threading.Thread(target=self._run, args=(connection,))
            self._running.append((thread, connection))
            thread.start()

    def _run(self, connection: Connection) -> None:
        with connection.sock:
            try:
                self._play(connection)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client closed first, which a test that cares about it sees itself
            except BaseException as error:  # noqa: BLE001 - the test raises it
                self.failures.append(error)


class Script:
    """A server with one sandbox: what it is asked of its life it answers well, all else as `answers` say, in order.

    An answer of None ends the connection instead.

    Attributes:
        calls: the requests that took an answer, as ``POST /api/execute``.
        woken: how often the sandbox was woken.
    """

    def __init__(self, *answers: bytes | None) -> None:
        self.calls: list[str] = []
        self.woken = 0
        self._answers = list(answers)

    def play(self, connection: Connection) -> None:
        while head := connection.request()[0]:
            in_pieces = b"transfer-encoding: chunked" in head.lower()
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            said: bytes | None
            if target == "/v1/server":
                said = answer(encode(_SERVER))
            elif "/api/" not in target:
                self.woken += target.endswith("/wake")
                said = answer(encode(_SANDBOX))
            else:
                self.calls.append(f"{method} {target[target.index('/api/') :]}")
                said = self._answers.pop(0)
            if said is None:
                return
            connection.sock.sendall(said)
            if in_pieces:  # it was answered before its body was read, and what follows is no request
                connection.wait_for_end()
                return


_SERVER = ServerInfo(
    version="1",
    wire=WIRE_VERSION,
    pid=1,
    home="/",
    started_at="",
    running=1,
    asleep=0,
    zygote_pid=None,
    idle_stop_after=0,
)
_NOW: Any = "2025-01-01T00:00:00Z"
_SANDBOX = SandboxInfo(
    id="x",
    state="running",
    created_at=_NOW,
    last_active_at=_NOW,
    anonymous=False,
    labels={},
    sleep_after=0,
    runtime="scripted",
)
