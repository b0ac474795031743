"""HTTP from the server to an agent: a caller's request passed on with its answer, or a small question of our own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandcove.errors import ContainerNotReadyError, SandboxNetworkError, error_from_wire
from sandcove.wire.codec import decode_json, encode
from sandcove.wire.http import END, Head, ResponseParser, chunk, request_head

__all__ = ["Relay", "ask"]

READ_SIZE = 256 * 1024
ASK_TIMEOUT = 5.0
# RFC 9110, section 7.6.1: what belongs to one connection is not passed on. Keys are the server's own.
_HOP_BY_HOP = frozenset(
    {
        b"authorization",
        b"connection",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


async def _connect(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(str(path), limit=READ_SIZE)
    except OSError as error:
        raise ContainerNotReadyError(
            f"the sandbox's agent does not answer ({error.strerror}); call again", begun=False
        ) from None


async def ask(path: Path, method: str, target: str, body: Any = None) -> Any:
    """One question to the agent at the socket `path`; gives the decoded JSON answer.

    Raises:
        ContainerNotReadyError: it does not answer, or not within five seconds.
        SandboxError: its answer is an error.
    """
    try:
        async with asyncio.timeout(ASK_TIMEOUT):
            return await _ask(path, method, target, body)
    except TimeoutError:
        raise ContainerNotReadyError(f"the sandbox's agent did not answer within {ASK_TIMEOUT:g} s") from None


async def _ask(path: Path, method: str, target: str, body: Any) -> Any:
    reader, writer = await _connect(path)
    try:
        data = b"" if body is None else encode(body)
        headers = [("host", "agent"), ("content-length", str(len(data))), ("connection", "close")]
        writer.write(request_head(method, target, headers) + data)
        parser = ResponseParser()
        parser.expect(method)
        answer: list[bytes] = []
        status = 0
        while True:
            received = await reader.read(READ_SIZE)
            for event in parser.feed(received) if received else parser.feed_eof():
                if isinstance(event, Head):
                    status = event.status
                elif isinstance(event, bytes):
                    answer.append(event)
                elif event is END:
                    content = decode_json(b"".join(answer))
                    if status >= 400:
                        raise error_from_wire(status, content)
                    return content
    except (OSError, SandboxNetworkError) as error:
        raise ContainerNotReadyError(f"the sandbox ended during the call ({error}); call again") from None
    finally:
        writer.close()


class Relay(Response):
    """The caller's request, sent on to the agent at `socket` under `target`, and its answer byte for byte.

    Both bodies are streamed with back-pressure. A caller who leaves closes the agent's connection, which ends what
    it had asked for.
    """

    def __init__(self, http: Request, socket: Path, target: str) -> None:
        self._http = http
        self._socket = socket
        self._target = target

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader, writer = await _connect(self._socket)
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._send_request(receive, writer))
                await self._pass_answer(reader, send)
                sending.cancel()
        except* (OSError, SandboxNetworkError) as errors:
            raise ContainerNotReadyError(
                f"the sandbox ended during the call ({errors.exceptions[0]}); call again"
            ) from None
        finally:
            writer.close()

    async def _send_request(self, receive: Receive, writer: asyncio.StreamWriter) -> None:
        headers = list(_passed_on(self._http.scope["headers"]))
        lengths = {name for name, _ in headers} & {"content-length"}
        has_body = bool(lengths) or b"transfer-encoding" in {name for name, _ in self._http.scope["headers"]}
        framing = [] if lengths or not has_body else [("transfer-encoding", "chunked")]
        writer.write(request_head(self._http.method, self._target, [("host", "agent"), *headers, *framing]))
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                writer.transport.abort()
                return
            data = message.get("body", b"")
            if data:
                writer.write(chunk(data) if framing else data)
                await writer.drain()
            if not message.get("more_body", False) and framing:
                writer.write(b"0\r\n\r\n")
                framing = []

    async def _pass_answer(self, reader: asyncio.StreamReader, send: Send) -> None:
        parser = ResponseParser()
        parser.expect(self._http.method)
        while True:
            data = await reader.read(READ_SIZE)
            for event in parser.feed(data) if data else parser.feed_eof():
                if isinstance(event, Head):
                    headers = [(name, value) for name, value in event.headers if name.lower() not in _HOP_BY_HOP]
                    await send({"type": "http.response.start", "status": event.status, "headers": headers})
                elif isinstance(event, bytes):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                else:
                    with contextlib.suppress(asyncio.CancelledError):
                        await send({"type": "http.response.body", "body": b""})
                    return


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[str, str]]:
    for name, value in headers:
        if name not in _HOP_BY_HOP:
            yield name.decode("latin-1"), value.decode("latin-1")
