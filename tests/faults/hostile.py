"""An agent that code inside a sandbox has taken over, played: what the server and the SDK hear of it is an attacker's.

A server started by `serving_hostile` has its zygote fork this module instead of the real agent, into real rooms, with
the real listening socket and channel. What it does is said by the request's target, ``/api/do/NAME``, or, for a
request that only the server makes, by ``/api/set?/api/activity=NAME`` before it; else it answers as little as an agent
has to.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

from sandcove.wire.kernel import KERNEL_FDS
from tests.lingering import lingering

__all__ = ["CHANNEL", "ENDLESS", "MALFORMED", "SILENT", "WRONG", "main", "preload", "serving_hostile"]

PIECE = b"x" * 65536
MOST = 4 << 30
"""Bytes after which what is called endless ends."""

Play = Callable[[socket.socket], None]


def _answer(body: bytes, status: bytes = b"200 OK", *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"content-type: application/json", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _says(*pieces: bytes) -> Play:
    def play(sock: socket.socket) -> None:
        for piece in pieces:
            sock.sendall(piece)

    return play


def _endless(start: bytes, piece: bytes) -> Play:
    def play(sock: socket.socket) -> None:
        sock.sendall(start)
        for _ in range(MOST // len(piece)):
            sock.sendall(piece)

    return play


def _slow(data: bytes) -> Play:
    """A byte a second, without end."""

    def play(sock: socket.socket) -> None:
        sock.sendall(data)
        for _ in range(600):
            time.sleep(1)
            sock.sendall(b" ")

    return play


def _never(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def _deaf(sock: socket.socket) -> None:
    """Reads nothing more."""
    threading.Event().wait(600)


def _heartbeats(sock: socket.socket) -> None:
    """A stream that goes on, and in which nothing happens."""
    sock.sendall(CHUNKED.replace(b"application/json", b"text/event-stream"))
    for _ in range(6000):
        sock.sendall(b"3\r\n:\n\n\r\n")
        time.sleep(0.1)


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
LARGE_CHUNK = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)

ENDLESS: dict[str, Play] = {
    "endless-body": _endless(b"HTTP/1.1 200 OK\r\n\r\n", PIECE),
    "endless-length": _endless(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n", PIECE),
    "endless-chunks": _endless(CHUNKED, LARGE_CHUNK),
    "endless-chunk": _endless(CHUNKED + b"fffffffff\r\n", PIECE),
    "endless-tiny-chunks": _endless(CHUNKED, b"1\r\n[\r\n" * 8192),
    "endless-error": _endless(CHUNKED.replace(b"200 OK", b"500 Oh"), LARGE_CHUNK),
    "endless-events": _endless(
        CHUNKED.replace(b"application/json", b"text/event-stream") + b"fffffffff\r\ndata: ", PIECE
    ),
}
"""Those that go on for as long as somebody reads."""

MALFORMED: dict[str, Play] = {
    "nothing": lambda sock: None,
    "garbage": _says(b"\0\xff\xfe garbage \r\n\r\n" * 50),
    "half-head": _says(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "half-body": _says(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
    "two-lengths": _says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 50\r\n\r\nhello"),
    "length-and-chunks": _says(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello"),
    "negative-length": _says(b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello"),
    "huge-length": _says(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\nhello" % 10**30),
    "huge-chunk": _says(CHUNKED + b"f" * 40 + b"\r\nhello"),
    "bad-chunk": _says(CHUNKED + b"xyz\r\nhello\r\n"),
    "status-999": _says(_answer(b"{}", b"999 Odd")),
    "status-600": _says(_answer(b"{}", b"600 Odd")),
    "status-0": _says(_answer(b"{}", b"000 Odd")),
    "status-99999": _says(_answer(b"{}", b"99999 Odd")),
    "switching": _says(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nraw"),
    "control-in-header": _says(_answer(b"{}", b"200 OK", b"x-odd: a\x01b\x7fc")),
    "nul-in-header": _says(_answer(b"{}", b"200 OK", b"x-odd: a\0b")),
    "bare-cr-in-header": _says(_answer(b"{}", b"200 OK", b"x-odd: a\rx-injected: b")),
    "bad-header-name": _says(_answer(b"{}", b"200 OK", b"x odd: a")),
    "folded-header": _says(_answer(b"{}", b"200 OK", b"x-odd: a\r\n  folded")),
    "endless-head": _endless(b"HTTP/1.1 200 OK\r\nx-long: ", PIECE),
    "endless-headers": _endless(b"HTTP/1.1 200 OK\r\n", b"x-a: b\r\n" * 4096),
    "endless-interim": _endless(b"", b"HTTP/1.1 103 Early\r\nx: y\r\n\r\n" * 2048),
    "endless-trailer": _endless(CHUNKED + b"0\r\n", b"x-a: b\r\n" * 4096),
    "endless-extension": _endless(CHUNKED + b"5;", b"a" * 65536),
    "body-of-204": _says(b"HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nhello"),
    "body-of-304": _says(b"HTTP/1.1 304 No\r\ncontent-length: 5\r\n\r\nhello"),
}
"""What is no answer, or no HTTP, and at its end the connection closes; or what no parser may hold."""

SILENT: dict[str, Play] = {
    "never": _never,
    "slow-body": _slow(b"HTTP/1.1 200 OK\r\n\r\n"),
    "heartbeats": _heartbeats,
    "deaf": _deaf,
    "slow-head": _slow(b"HTTP/1.1 200 OK\r\nx: "),
}

WRONG: dict[str, Play] = {
    name: _says(_answer(body, status))
    for name, body, status in (
        ("empty", b"", b"200 OK"),
        ("no-json", b"{", b"200 OK"),
        ("latin", b'"\xff"', b"200 OK"),
        ("list", b"[]", b"200 OK"),
        ("null", b"null", b"200 OK"),
        ("number", b"1e400", b"200 OK"),
        ("deep", b"[" * 100_000 + b"]" * 100_000, b"200 OK"),
        ("no-fields", b"{}", b"200 OK"),
        ("wrong-types", b'{"busy": "x", "idle": [], "processes": {}}', b"200 OK"),
        ("negative", b'{"busy": 0, "idle": -1e300, "processes": -1e300}', b"200 OK"),
        ("huge-number", b'{"busy": 0, "idle": 1e300, "processes": 1' + b"0" * 300 + b"}", b"200 OK"),
        ("in-use", b'{"busy": 1, "idle": 0, "processes": 0}', b"200 OK"),
        ("just-used", b'{"busy": 0, "idle": 0, "processes": 0}', b"200 OK"),
        ("negative-integers", b'{"busy": -1, "idle": -1000, "processes": -1000}', b"200 OK"),
        ("huge-integer", b'{"busy": 0, "idle": 1' + b"0" * 400 + b', "processes": 0}', b"200 OK"),
        ("huge-wait", b'{"error": "x", "code": "CONTAINER_NOT_READY", "retryAfter": 1' + b"0" * 400 + b"}", b"503 Oh"),
        ("list-error", b"[]", b"500 Oh"),
        ("deep-error", b'{"error": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"500 Oh"),
        ("odd-error", b'{"error": {"a": []}, "code": ["x"], "message": 1, "self": 2, "cls": 3}', b"500 Oh"),
        ("odd-status", b'{"error": "x", "code": "CONFLICT", "status": 200, "retryAfter": -1e9}', b"409 Oh"),
        ("not-found", b'{"error": "gone", "code": "SANDBOX_NOT_FOUND"}', b"404 No"),
        ("conflict", b'{"error": "busy", "code": "CONFLICT"}', b"409 No"),
        (
            "wait-long",
            b'{"error": "later", "code": "CONTAINER_NOT_READY", "retryAfter": 1e9, "begun": false}',
            b"503 No",
        ),
        ("quota", b'{"error": "pay", "code": "QUOTA_EXCEEDED"}', b"429 No"),
    )
}
"""Answers in HTTP, with what nobody expects in them."""


def _descriptors(kind: str) -> list[int]:
    """Those that are passed where a connected TCP socket is expected."""
    if kind == "pipe":
        return list(os.pipe())[:1]
    if kind == "unix":
        return [socket.socketpair()[0].detach()]
    if kind == "udp":
        return [socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()]
    if kind == "not-connected":
        return [socket.socket().detach()]
    if kind == "listening":
        return [socket.create_server(("127.0.0.1", 0)).detach()]
    if kind == "folder":
        return [os.open("/", os.O_RDONLY)]
    if kind == "path":
        return [os.open("/", os.O_PATH)]
    if kind == "memory":
        return [os.memfd_create("x")]
    if kind == "event":
        return [os.eventfd(0)]
    if kind == "own-channel":
        return [_channel.fileno()]
    if kind == "many":
        return [os.open("/dev/null", os.O_RDONLY) for _ in range(200)]
    return []


CHANNEL = (
    "pipe",
    "unix",
    "udp",
    "not-connected",
    "listening",
    "folder",
    "path",
    "memory",
    "event",
    "own-channel",
    "many",
    "none",
)
"""What can come instead of a connection to a port."""

_channel: socket.socket
_instead: dict[str, str] = {}
_looks = 0
_dial = "none"


def _talk() -> None:
    """Answers dials, with the wrong descriptors."""
    while message := _channel.recv(4096):
        if message.startswith(b"dial") and _dial != "silent":
            answer = b"conn" + message[4:12] + bytes(4)
            fds = _descriptors(_dial)
            socket.send_fds(_channel, [answer], fds)
            for fd in fds:
                if fd != _channel.fileno():
                    os.close(fd)


def _flood(sock: socket.socket) -> None:
    """Messages that nobody asked for, each with descriptors, as many as the kernel lets through in half a second.

    On a slow machine some hundred, which may take longer.
    """
    begun = time.monotonic()
    fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
    words = [b"conn" + os.urandom(12), b"kernel", b"ready", b"", b"x" * 60_000, b"dial" + bytes(14), b"conn"]
    sent = 0
    while time.monotonic() - begun < (10 if sent < 400 else 0.5):
        for word in words:
            for count in (0, 1, KERNEL_FDS, 100):
                with suppress(OSError):
                    socket.send_fds(_channel, [word or b"\0"], fds[:count])
                    sent += 1
    sock.sendall(_answer(b"%d" % sent))


def _linger(sock: socket.socket) -> None:
    """Messages with sockets whose last close waits, each of its own kind, in places that the server has no use for."""
    null = os.open("/dev/null", os.O_RDONLY)
    with ExitStack() as peers:
        for word, others in (
            (b"conn" + os.urandom(12), 0),
            (b"kernel", KERNEL_FDS - 1),
            (b"kernel", KERNEL_FDS),
            (b"junk", 0),
            (b"junk", 200),
        ):
            for within in (False, True):
                fd = peers.enter_context(lingering(within=within))
                socket.send_fds(_channel, [word], [*[null] * others, fd])
                threading.Thread(target=os.close, args=(fd,), daemon=True).start()
        sock.sendall(_answer(b"{}", b"200 OK", b"connection: close"))
        _never(sock)


def _passing(sock: socket.socket) -> None:
    """Such sockets come with a right answer."""
    answer = _answer(b"{}", b"200 OK", b"connection: close")
    with ExitStack() as peers:
        for start in range(0, len(answer), 8):
            fd = peers.enter_context(lingering(within=start % 16 == 0))
            socket.send_fds(sock, [answer[start : start + 8]], [fd])
            # Whoever closes it last waits: many, so that it is the server now and then.
            threading.Thread(target=os.close, args=(fd,), daemon=True).start()
        _never(sock)


def _unasked(sock: socket.socket) -> None:
    """A right answer; and when its connection is kept for later, more, which nobody has asked for."""
    time.sleep(0.3)
    sock.sendall(_answer(b"{}"))
    time.sleep(0.3)
    for _ in range(MOST // len(PIECE)):
        sock.sendall(PIECE)


def _request(sock: socket.socket) -> tuple[str, bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += sock.recv(65536)
    return lines[0].split(b" ")[1].decode(), body


def _serve(sock: socket.socket) -> None:
    global _dial, _looks  # noqa: PLW0603 - the one channel has one way to answer, and all connections count
    plays = {
        **ENDLESS,
        **MALFORMED,
        **SILENT,
        **WRONG,
        "flood": _flood,
        "linger": _linger,
        "passing": _passing,
        "unasked": _unasked,
    }
    with sock, suppress(OSError):
        while request := _request(sock):
            path, _, query = request[0].partition("?")
            _looks += path == "/api/activity"
            if path == "/api/set":
                name, _, value = unquote(query).partition("=")
                _instead[name] = value
                _dial = _instead.get("dial", "none")
                sock.sendall(_answer(b"{}"))
            elif path == "/api/looks":
                sock.sendall(_answer(b"%d" % _looks))
            elif path == "/api/environ":
                seen: dict[str, Any] = {"environ": dict(os.environ), "argv": sys.argv, "cwd": os.getcwd(), "fds": {}}
                for fd in os.listdir("/proc/self/fd"):
                    with suppress(OSError):
                        seen["fds"][fd] = os.readlink(f"/proc/self/fd/{fd}")
                sock.sendall(_answer(json.dumps(seen).encode()))
            elif path == "/api/smuggle":
                # A second answer, to a request that nobody has made yet, comes right behind the first.
                sock.sendall(_answer(b'"first"') + _answer(b'"smuggled"'))
            elif (name := _instead.get(path, path.removeprefix("/api/do/"))) in plays:
                plays[name](sock)
                if name not in {*WRONG, "flood"}:
                    return
            elif path == "/api/activity":
                sock.sendall(_answer(b'{"busy": 0, "idle": 100000, "processes": 0}'))
            else:
                sock.sendall(_answer(b'{"success": true}'))


def preload(_: Path | None) -> None:
    """Nothing: what it needs is imported."""


def main(channel: socket.socket, listener: socket.socket, *arguments: object, **options: object) -> NoReturn:
    """As `sandcove.agent.main.main`."""
    global _channel  # noqa: PLW0603 - the process has one
    _channel = channel
    threading.Thread(target=_talk, daemon=True).start()
    channel.send(b"ready")
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve, args=(sock,), daemon=True).start()


PROGRAM = """\
import sys
from sandcove.runtimes.local import zygote
object.__setattr__(zygote.AGENTS, "module", "tests.faults.hostile")
from sandcove.server.__main__ import main
sys.exit(main())
"""


@contextmanager
def serving_hostile(home: Path, *arguments: str) -> Iterator[int]:
    """A server in this folder whose sandboxes' agents are this module; gives its process id."""
    import subprocess

    ours, theirs = os.pipe()
    root = str(Path(__file__).resolve().parents[2])
    with (
        (home / "server.log").open("ab") as log,
        open(ours, encoding="utf-8") as told,
        subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, f"--ready-fd={theirs}", *arguments],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {"SANDCOVE_HOME": str(home), "PYTHONPATH": root},
            pass_fds=[theirs],
        ) as process,
    ):
        os.close(theirs)
        try:
            assert json.loads(told.readline())["ready"]
            yield process.pid
        finally:
            process.terminate()
