"""A sandbox with a service in it, exposed, and connections to its preview that no HTTP client would make."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from sandcove import ExposedPort, Sandbox

SERVICE = (Path(__file__).parent / "service.py").read_text()


@dataclass
class Answer:
    """One answer, unframed."""

    status: int
    headers: dict[str, str]
    pairs: list[tuple[str, str]]
    body: bytes
    trailers: list[str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """A raw connection to the server's previews."""

    def __init__(self, port: int, host: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=15)
        self.host = host
        self._reader = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self.sock.close()

    def send(self, text: str | bytes) -> None:
        """Sends; ``HOST`` stands for the preview's."""
        data = text if isinstance(text, bytes) else text.encode("latin-1")
        self.sock.sendall(data.replace(b"HOST", self.host.encode()))

    def head(self) -> tuple[int, list[tuple[str, str]]]:
        first = self._reader.readline().decode()
        if not first:
            raise EOFError
        assert first.startswith("HTTP/1.1 "), first
        pairs = []
        while (line := self._reader.readline().decode("latin-1")) != "\r\n":
            assert line.endswith("\r\n"), line
            name, _, value = line.rstrip("\r\n").partition(": ")
            pairs.append((name.lower(), value))
        return int(first.split()[1]), pairs

    def answer(self, method: str = "GET") -> Answer:
        status, pairs = self.head()
        headers = dict(pairs)
        body, trailers = b"", []
        if method == "HEAD" or status in (204, 304):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            assert "content-length" not in headers
            while size := int(self._reader.readline(), 16):
                body += self._reader.read(size)
                assert self._reader.read(2) == b"\r\n"
            while (line := self._reader.readline()) != b"\r\n":
                trailers.append(line.decode().strip())
        elif "content-length" in headers:
            body = self._reader.read(int(headers["content-length"]))
        else:
            body = self._reader.read()
        return Answer(status, headers, pairs, body, trailers)

    def read(self, size: int) -> bytes:
        return self._reader.read(size)

    def get(self, target: str, **headers: str) -> Answer:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        self.send(f"GET {target} HTTP/1.1\r\nHost: HOST\r\n{lines}\r\n")
        return self.answer()

    def ended(self) -> bool:
        """The other end closes, and says nothing before."""
        try:
            return self._reader.read(1) == b""
        except ConnectionResetError:
            return True


@dataclass
class Preview:
    """An exposed port.

    Attributes:
        tcp: the port of 127.0.0.1 where previews are.
        host: of this one, with the port.
        label: the first part of that.
    """

    sandbox: Sandbox
    exposed: ExposedPort
    tcp: int
    host: str
    label: str

    def wire(self, host: str | None = None) -> Wire:
        return Wire(self.tcp, host or self.host)

    def get(self, target: str, **headers: str) -> Answer:
        with self.wire() as wire:
            return wire.get(target, **headers)


def preview_of(sandbox: Sandbox, exposed: ExposedPort) -> Preview:
    match = re.fullmatch(r"http://(([a-z0-9-]+)\.localhost:([0-9]+))/", exposed.url)
    assert match is not None, exposed.url
    return Preview(sandbox, exposed, int(match[3]), match[1], match[2])


def start_service(sandbox: Sandbox, port: int) -> None:
    sandbox.write_file("/tmp/service.py", SERVICE)
    sandbox.start_process(["python3", "/tmp/service.py", str(port)]).wait_for_port(port, timeout=20)


@pytest.fixture(scope="module")
def preview(home: Path) -> Iterator[Preview]:
    """One for all tests of a file."""
    with Sandbox() as sandbox:
        start_service(sandbox, 3000)
        yield preview_of(sandbox, sandbox.expose_port(3000, name="web"))
