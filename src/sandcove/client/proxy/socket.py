"""A visitor's WebSocket: messages on the ASGI server's side, frames on the service's."""

from __future__ import annotations

import asyncio

from websockets.exceptions import InvalidState, ProtocolError
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side
from websockets.utils import accept_key, generate_key

from sandcove.client.proxy.answer import Gone, Receive, Scope, Send, Told, away, broken, headers_of, told_to_us
from sandcove.client.proxy.request import Request
from sandcove.client.proxy.ways import STALLED, Way, Ways
from sandcove.client.results import log
from sandcove.errors import SandboxError, SandboxNetworkError
from sandcove.wire.http import END, Event, Head
from sandcove.wire.page import Page

__all__ = ["pass_on", "refuse"]

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of a service's message at most, as of a visitor's in most ASGI servers: it is whole in memory."""
MOST_PONGS = 1000
"""Answers to pings that wait to be read by the service; then it is not read any more."""
CLOSING = 5.0
"""Seconds that a service has to answer a close."""
# RFC 6455, section 7.4.1.
_GOING_AWAY = 1001
_NO_CODE = 1005
_VANISHED = 1006
_NO_TEXT = 1007
_BROKEN = 1011


async def pass_on(scope: Scope, request: Request, receive: Receive, send: Send, ways: Ways) -> None:
    """From the request to the end of the connection."""
    offered: list[str] = list(scope.get("subprotocols", ()))
    key = generate_key()
    upgrade = [("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13")]
    if offered:
        upgrade.append(("Sec-WebSocket-Protocol", ", ".join(offered)))
    denial = Told(send, "websocket.http.response") if "websocket.http.response" in scope.get("extensions", {}) else None
    head = request.head(ways.endpoint, upgrade)
    await receive()  # websocket.connect
    try:
        way = await ways.new()
    except SandboxError as error:
        log.warning("a preview can't be passed on: %s", error)
        await deny(denial, send, away(), request)
        return
    try:
        await _Tunnel(way, request, key=key, offered=offered, receive=receive, send=send, denial=denial).run(head)
    finally:
        way.close()


async def deny(denial: Told | None, send: Send, page: Page, request: Request | None) -> None:
    """There will be no WebSocket; the ASGI server says 403 itself if it takes no answer of ours."""
    if denial is not None:
        await denial.page(page, request)
        return
    try:
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
    except OSError:
        pass  # the visitor has left


async def refuse(receive: Receive, send: Send, page: Page, *, answers: bool) -> None:
    """A request that is not passed on; `answers`: the ASGI server takes one other than 403."""
    await receive()  # websocket.connect
    await deny(Told(send, "websocket.http.response") if answers else None, send, page, None)


class _Tunnel:
    def __init__(
        self,
        way: Way,
        request: Request,
        *,
        key: str,
        offered: list[str],
        receive: Receive,
        send: Send,
        denial: Told | None,
    ) -> None:
        self._way = way
        self._request = request
        self._key = key
        self._offered = offered
        self._receive = receive
        self._told = Told(send)
        self._send = send
        self._denial = denial
        self._protocol = Protocol(Side.CLIENT, state=OPEN, max_size=MAX_MESSAGE)
        self._sending = asyncio.Lock()
        self._pong = asyncio.Event()
        self._left = self._accepted = self._garbled = False
        self._message = bytearray()
        self._text = False

    async def run(self, head: bytes) -> None:
        """Until both sides have ended."""
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self._upload()), group.create_task(self._answer_pings())]
            try:
                answer, events = await self._ask(head)
                if answer.status == 101:
                    await self._open(answer)
                else:
                    await self._refuse(answer, events)
            except (OSError, SandboxNetworkError):
                if not self._left:
                    await self._break()
            except Gone:
                pass
            finally:
                for task in beside:
                    task.cancel()

    # --- the handshake ---

    async def _ask(self, head: bytes) -> tuple[Head, list[Event]]:
        """The head of the answer, and what came with it."""
        self._way.parser.expect("GET", interim=True)
        await self._way.stream.send(head)
        while True:
            events = await self._events()
            while events:
                event = events.pop(0)
                if isinstance(event, Head) and (event.status >= 200 or event.status == 101):
                    return event, events

    async def _open(self, answer: Head) -> None:
        """All of the connection, if it is one that was asked for."""
        rest = self._way.parser.upgraded
        subprotocol = (answer.get(b"sec-websocket-protocol") or b"").decode("latin-1") or None
        right = (
            (answer.get(b"sec-websocket-accept") or b"").decode("latin-1") == accept_key(self._key)
            and answer.get(b"sec-websocket-extensions") is None
            and (subprotocol is None or subprotocol in self._offered)
        )
        if rest is None or not right:
            raise SandboxNetworkError("the service agrees to a WebSocket that was not asked for")
        headers = [field for field in headers_of(answer) if not field[0].startswith(b"sec-websocket-")]
        self._accepted = True
        await self._told.message({"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers})
        await self._download(rest)

    async def _break(self) -> None:
        """The connection to the service ended, or what comes over it is no answer."""
        try:
            if self._accepted:
                await self._close(_VANISHED, "")
            elif self._denial is None or not self._denial.started:
                await deny(self._denial, self._send, broken(), self._request)
        except Gone:
            pass

    async def _refuse(self, head: Head, events: list[Event]) -> None:
        """The service, or the server, does not want it: what it answers instead is the visitor's."""
        if told_to_us(head):
            await deny(self._denial, self._send, away(), self._request)
            return
        if self._denial is None:
            await deny(None, self._send, broken(), None)
            return
        await self._denial.begin(head.status, headers_of(head))
        while True:
            ended = bool(events) and events[-1] is END
            body = b"".join(event for event in events if isinstance(event, bytes))
            if body or ended:
                await self._denial.body(body, more=not ended)
            if ended:
                return
            events = await self._events()

    async def _events(self) -> list[Event]:
        data = await self._way.stream.receive()
        return self._way.parser.feed(data) if data else self._way.parser.feed_eof()

    # --- the service's side ---

    async def _download(self, data: bytes) -> None:
        protocol = self._protocol
        while True:
            if data:
                protocol.receive_data(data)
                for frame in protocol.events_received():
                    if isinstance(frame, Frame):
                        await self._take(frame)
            if protocol.close_rcvd is not None or protocol.parser_exc is not None or self._garbled:
                await self._service_ends()
                return
            if len(protocol.writes) > MOST_PONGS:
                await self._flush()
            elif protocol.writes:
                self._pong.set()
            data = await self._way.stream.receive()
            if not data:
                await self._close(_VANISHED, "")
                return

    async def _take(self, frame: Frame) -> None:
        """One frame; the message when it is whole."""
        if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if frame.opcode is not Opcode.CONT:
            self._text = frame.opcode is Opcode.TEXT
        if not frame.fin or self._message:
            self._message += frame.data
            if not frame.fin:
                return
            data, self._message = bytes(self._message), bytearray()
        else:
            data = bytes(frame.data)
        if not self._text:
            await self._told.message({"type": "websocket.send", "bytes": data})
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self._garbled = True
            self._protocol.fail(_NO_TEXT)
            return
        await self._told.message({"type": "websocket.send", "text": text})

    async def _service_ends(self) -> None:
        """It has closed, or what it sends is no WebSocket."""
        close = self._protocol.close_rcvd or self._protocol.close_sent
        try:
            async with asyncio.timeout(CLOSING):
                await self._flush()
        except OSError:
            pass  # it has not waited for our part
        await self._close(_VANISHED if close is None else close.code, "" if close is None else close.reason)

    async def _close(self, code: int, reason: str) -> None:
        """The visitor is told."""
        if not self._left:
            code = {_NO_CODE: 1000, _VANISHED: _BROKEN}.get(code, code)
            await self._told.message({"type": "websocket.close", "code": code, "reason": reason})

    # --- the visitor's side ---

    async def _upload(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._left = True
                await self._say_goodbye(message.get("code"), message.get("reason") or "")
                self._way.close()
                return
            text = message.get("text")
            try:
                if text is not None:
                    self._protocol.send_text(text.encode())
                else:
                    self._protocol.send_binary(message.get("bytes") or b"")
                await self._flush()
            except TimeoutError:
                self._way.close()
            except (OSError, InvalidState):
                pass  # it is ending: the other side says how

    async def _say_goodbye(self, code: int | None, reason: str) -> None:
        if not self._accepted or code == _VANISHED:
            return
        try:
            try:
                self._protocol.send_close(None if code == _NO_CODE else code, reason if code != _NO_CODE else "")
            except ProtocolError:
                self._protocol.send_close(_GOING_AWAY)
            async with asyncio.timeout(CLOSING):
                await self._flush()
                await asyncio.get_running_loop().create_future()  # cancelled when the service has answered
        except (OSError, InvalidState):
            pass

    # --- both ---

    async def _answer_pings(self) -> None:
        """Beside: a service that does not read shall be read all the same."""
        while True:
            await self._pong.wait()
            self._pong.clear()
            try:
                await self._flush()
            except OSError:
                return

    async def _flush(self) -> None:
        async with asyncio.timeout(STALLED), self._sending:
            if data := b"".join(self._protocol.data_to_send()):
                await self._way.stream.send(data)
