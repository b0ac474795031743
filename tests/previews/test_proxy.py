"""`proxy_to_sandbox` around an application: previews at its hosts, all else untouched."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from sandcove import InvalidRequestError, Sandbox, proxy_to_sandbox
from tests.answers import Answer, exchange
from tests.previews.asgi import SERVICE, Seen, app_of_its_own, serving_app, wait_until
from tests.previews.conftest import Wire, start_service
from tests.tenants import serving


@dataclass
class Proxied:
    """An application with previews at ``*.previews.test``.

    Attributes:
        host: of the preview of an HTTP service.
        sockets: of that of a WebSocket service.
    """

    port: int
    seen: Seen
    sandbox: Sandbox
    host: str
    sockets: str

    def wire(self, host: str | None = None) -> Wire:
        return Wire(self.port, host or self.host)

    def ask(
        self, target: str, host: str | None = None, method: str = "GET", body: Any = None, **headers: str
    ) -> Answer:
        sent = {"Host": host or self.host} | {name.replace("_", "-"): value for name, value in headers.items()}
        return exchange(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30), method, target, body, sent)

    def open(self, path: str, host: str | None = None, **options: Any) -> ClientConnection:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=15)
        options |= {"sock": sock, "max_size": None, "proxy": None}
        connection: ClientConnection = connect(f"ws://{host or self.sockets}{path}", **options)
        return connection


@pytest.fixture(scope="module")
def proxied(home: Path) -> Iterator[Proxied]:
    seen = Seen()
    with (
        Sandbox() as sandbox,
        serving_app(proxy_to_sandbox(app_of_its_own(seen), hostname="previews.test")) as port,
    ):
        start_service(sandbox, 3000)
        sandbox.write_file("/tmp/sockets.py", SERVICE)
        sandbox.start_process(["python3", "/tmp/sockets.py"]).wait_for_port(4000, timeout=20)
        hosts = [
            sandbox.expose_port(p, hostname=f"http://previews.test:{port}").url.split("/")[2] for p in (3000, 4000)
        ]
        yield Proxied(port, seen, sandbox, *hosts)


# --- which requests ---


def test_all_else_is_the_application_s(proxied: Proxied) -> None:
    assert proxied.seen.started
    own = ["localhost", "previews.test", f"x.{proxied.host}", "3000-x.other.test", "no-port.previews.test"]
    for host in own:
        answer = proxied.ask("/v1/server", host)
        assert (answer.body, answer.headers["x-own"]) == (b"own", "1")
    with proxied.open("/ws", f"localhost:{proxied.port}") as ws:
        ws.send("a")
        assert ws.recv() == "own a"
    assert proxied.seen.scopes[-1] == ("websocket", "/ws") and proxied.seen.scopes[-2] == ("http", "/v1/server")


def test_a_preview_s_request_tells_the_outer_host(proxied: Proxied) -> None:
    before = len(proxied.seen.scopes)
    told = proxied.ask(
        "/echo/../%2e%2E/a%2Fb?c=%20",
        Authorization="Basic eDp5",
        Cookie="a=b",
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Host="evil",
        X_Sandcove_Key="sck_x",
        Connection="x-hop",
        X_Hop="1",
    ).json
    headers = dict(told["headers"])
    assert told["target"] == "/echo/../%2e%2E/a%2Fb?c=%20" and len(proxied.seen.scopes) == before
    assert headers["x-original-url"] == f"http://{proxied.host}/echo/../%2e%2E/a%2Fb?c=%20"
    assert headers["x-forwarded-host"] == proxied.host and headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http" and headers["host"] == "localhost:3000"
    assert headers["authorization"] == "Basic eDp5" and headers["cookie"] == "a=b"
    assert not {"x-sandcove-key", "x-hop", "x-forwarded-prefix"} & headers.keys()


def test_what_leads_nowhere_is_answered_as_the_front_does(proxied: Proxied) -> None:
    forged = proxied.host.replace(proxied.host.split(".")[0][-10:], "aaaaaaaaaa")
    for host in (forged, "3000-nothing.previews.test", f"4444-{proxied.sandbox.id}.previews.test"):
        answer = proxied.ask("/", host)
        assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")
    assert b"<h1>No preview here</h1>" in proxied.ask("/", forged, Accept="text/html").body
    with pytest.raises(InvalidStatus) as refused, proxied.open("/", forged):
        pass
    assert refused.value.response.status_code == 404
    host = proxied.sandbox.expose_port(5000, hostname="previews.test").url.split("/")[2]
    assert proxied.ask("/", host).json["code"] == "PORT_NOT_LISTENING"
    proxied.sandbox.unexpose_port(5000)
    assert proxied.ask("/", host).status == 410


def test_a_request_that_says_two_things_goes_nowhere(proxied: Proxied) -> None:
    count = proxied.ask("/count").body
    for lines in (
        "GET /echo HTTP/1.1\r\nHost: HOST\r\nHost: localhost\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: localhost\r\nHost: HOST\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ):
        with proxied.wire() as wire:
            wire.send(lines)
            assert wire.head()[0] == 400
    assert proxied.ask("/count").body == b"%d" % (int(count) + 1)


# --- HTTP ---


def test_bodies_both_ways(proxied: Proxied) -> None:
    body = bytes(range(256)) * 20_000
    with proxied.wire() as wire:
        wire.send(f"POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        wire.sock.sendall(body)
        told = wire.answer().json
        assert told["size"] == len(body) and dict(told["headers"])["content-length"] == str(len(body))
        wire.send(
            "POST /echo HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        )
        told = wire.answer().json
        assert told["size"] == 5 and dict(told["headers"])["transfer-encoding"] == "chunked"
        wire.send("HEAD /send?1000 HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.answer("HEAD").headers["content-length"] == "1000"
        assert wire.get("/chunks?3").body == b"000000010002"
        assert wire.get("/until-close").body == b"until the end"
        raw = b"HTTP/1.1 204 No Content\r\nDate: never\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n\r\n"
        answer = wire.get(f"/raw?{raw.hex()}")
        cookies = [value for name, value in answer.pairs if name == "set-cookie"]
        assert (answer.status, cookies) == (204, ["a=b", "c=d"])
        assert [name for name, _ in answer.pairs].count("date") == 1
        assert wire.get("/echo").status == 200


def test_connections_to_the_service_are_kept(proxied: Proxied) -> None:
    assert len({proxied.ask("/echo").json["connection"] for _ in range(5)}) == 1
    proxied.ask("/once")  # the service closes without having said so
    assert proxied.ask("/echo").status == 200


def test_events_come_as_they_happen(proxied: Proxied) -> None:
    with proxied.wire() as wire:
        wire.send("GET /slow HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.head()[0] == 200
        assert b"data: 1" in wire.read(5 + 7)
        proxied.ask("/go")
        assert b"data: 2" in wire.read(2 + 5 + 9)


def test_a_body_is_asked_for_when_the_service_wants_it(proxied: Proxied) -> None:
    head = "POST {} HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with proxied.wire() as wire:
        wire.send(head.format("/continue"))
        assert wire.head()[0] == 100
        wire.send("abc")
        assert wire.answer().json["size"] == 3
    with proxied.wire() as wire:
        wire.send(head.format("/early"))
        assert wire.head()[0] == 413  # and no 100 before


def test_an_answer_before_the_body_was_sent(proxied: Proxied) -> None:
    with proxied.wire() as wire:
        wire.send("POST /early HTTP/1.1\r\nHost: HOST\r\nContent-Length: 50000000\r\n\r\n")
        wire.sock.sendall(bytes(100_000))
        assert wire.answer().status == 413


def test_an_answer_that_breaks_off_is_cut_and_one_that_is_none_is_a_502(
    proxied: Proxied, caplog: pytest.LogCaptureFixture
) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
    with proxied.wire() as wire:
        wire.send(f"GET /raw?{raw.hex()} HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert wire.answer().body == b"abc" and wire.ended()
    assert proxied.ask(f"/raw?{b'SSH-2.0'.hex()}").json["code"] == "NETWORK_ERROR"
    assert proxied.ask(f"/raw?{raw[:20].hex()}", method="POST").status == 502
    assert not [record for record in caplog.records if record.exc_info]


def test_large_bodies_take_no_memory(proxied: Proxied) -> None:
    size = 200 * 1024 * 1024
    before = reset_peak()
    with proxied.wire() as unread, proxied.wire() as wire:
        unread.send(f"GET /send?{size} HTTP/1.1\r\nHost: HOST\r\n\r\n")
        assert unread.head()[0] == 200
        wire.send(f"POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: {size}\r\n\r\n")
        piece = bytes(1 << 20)
        for _ in range(size // len(piece)):
            wire.sock.sendall(piece)
        assert wire.answer().json["size"] == size
        left = size
        while left:
            left -= len(unread.read(min(left, 1 << 20)))
    # uvicorn, the application and the client are all in this process.
    assert peak() - before < 40 * 1024


def test_a_visitor_that_leaves_ends_its_request(proxied: Proxied) -> None:
    before = connections(proxied.sandbox)
    with proxied.wire() as slow, proxied.wire() as silent, proxied.wire() as sends:
        slow.send(f"GET /send?{1 << 36} HTTP/1.1\r\nHost: HOST\r\n\r\n")
        silent.send("GET /slow HTTP/1.1\r\nHost: HOST\r\n\r\n")
        sends.send("POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1000\r\n\r\nabc")
        assert slow.head()[0] == silent.head()[0] == 200
        wait_until(lambda: connections(proxied.sandbox) >= 3)
    # Idle ones may have been used; all three are gone.
    wait_until(lambda: connections(proxied.sandbox) <= max(before - 3, 0))
    assert proxied.ask("/echo").status == 200


def connections(sandbox: Sandbox) -> int:
    """To the HTTP service, that are open."""
    lines = sandbox.exec("cat /proc/net/tcp").stdout.splitlines()[1:]
    return sum(line.split()[1].endswith(":0BB8") and line.split()[3] == "01" for line in lines)


def reset_peak() -> int:
    """Gives what this process has now, in KiB, and counts its peak from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


# --- WebSocket ---


def test_messages_go_both_ways(proxied: Proxied) -> None:
    with proxied.open("/") as ws:
        for message in ("text \u20ac", "", b"\0\xff", b"", bytes(3_000_000)):
            ws.send(message)
            assert ws.recv(15) == message
        ws.send(["in ", "pieces"])
        assert ws.recv(15) == "in pieces"
    with proxied.open("/fragments") as ws:
        assert ws.recv(15) == "abc\u20ac"
    with proxied.open("/pings") as ws:
        assert ws.recv(15) == "ponged"


def test_many_messages_that_nobody_reads_meanwhile(proxied: Proxied) -> None:
    piece = bytes(65536)
    with proxied.open("/", max_queue=None) as ws:
        for _ in range(300):
            ws.send(piece)
        assert all(len(ws.recv(15)) == len(piece) for _ in range(300))


def test_the_service_chooses_the_subprotocol(proxied: Proxied) -> None:
    offered = [Subprotocol("first"), Subprotocol("second")]
    with proxied.open("/", subprotocols=offered) as ws:
        assert ws.subprotocol == "second"
    with proxied.open("/", subprotocols=offered[:1]) as ws:
        assert ws.subprotocol is None


@pytest.mark.parametrize(
    ("path", "code", "reason"), [("/close", 4321, "enough"), ("/drop", 1011, ""), ("/large", 1009, None)]
)
def test_the_service_closes(proxied: Proxied, path: str, code: int, reason: str | None) -> None:
    with proxied.open(path) as ws, pytest.raises(ConnectionClosed) as closed:
        ws.recv(15)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == code
    assert reason in (None, closed.value.rcvd.reason)


def test_what_is_no_frame_ends_the_connection(proxied: Proxied) -> None:
    with proxied.open("/garbage") as ws, pytest.raises(ConnectionClosed) as closed:
        ws.recv(15)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1002


def test_the_visitor_closes(proxied: Proxied) -> None:
    with proxied.open("/") as ws:
        ws.close(4567, "bye")
    with proxied.open("/") as ws:
        ws.socket.shutdown(socket.SHUT_RDWR)

    def told() -> str:
        with proxied.open("/closed") as ws:
            return str(ws.recv(15))

    wait_until(lambda: "(4567, 'bye')" in told() and told().count("(") >= 2)


def test_what_a_service_answers_instead_of_a_websocket_is_passed_on(proxied: Proxied) -> None:
    with pytest.raises(InvalidStatus) as refused, proxied.open("/refuse"):
        pass
    response = refused.value.response
    assert (response.status_code, response.headers["X-Why"], response.body) == (418, "teapot", b"no tea")
    # One that knows no WebSocket answers as to any request.
    with pytest.raises(InvalidStatus) as refused, proxied.open("/echo", proxied.host):
        pass
    assert refused.value.response.status_code == 200


# --- the server ---


def test_over_tcp_the_key_goes_to_the_server_and_nowhere_else(capable: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="sandcove")
    with ExitStack() as stack, serving() as server:
        key = server.key("ours").key
        with Sandbox(url=server.url, api_key=key) as sandbox:
            start_service(sandbox, 3000)
            host = sandbox.expose_port(3000, hostname="previews.test").url.split("/")[2]
            read = server.key("ours", scopes=["read"]).key
            app = proxy_to_sandbox(app_of_its_own(Seen()), hostname="previews.test", url=server.url, api_key=read)
            port = stack.enter_context(serving_app(app))
            cut = stack.enter_context(Wire(port, host))
            cut.send("POST /echo HTTP/1.1\r\nHost: HOST\r\nContent-Length: 3\r\n\r\n")
            with Wire(port, host) as wire:
                told = wire.get("/echo/../../../../v1/sandboxes", X_Forwarded_Proto="https")
                assert told.status == 200 and "sck_" not in told.body.decode()
                assert told.json["target"] == "/echo/../../../../v1/sandboxes"
            wrong = proxy_to_sandbox(app, hostname="previews.test", url=server.url, api_key="sck_wrong")
            with serving_app(wrong) as other, Wire(other, host) as wire:
                answer = wire.get("/echo")
                assert (answer.status, answer.json["code"]) == (503, "SERVICE_UNAVAILABLE")
        stack.callback(the_server_is_away, port, host, cut)
    assert "UNAUTHORIZED" in caplog.text and "sck_" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def the_server_is_away(port: int, host: str, cut: Wire) -> None:
    assert (cut.head()[0], port) == (502, port)  # the answer had not come
    with Wire(port, host) as wire:
        assert b"<h1>Previews can't be had now" in wire.get("/", Accept="text/html").body.replace(b"&#x27;", b"'")


def test_a_server_that_ends_before_its_answer_is_a_502() -> None:
    heads: list[bytes] = []

    def end() -> None:
        for _ in range(3):
            sock, _ = listener.accept()
            with sock:
                heads.append(sock.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=end, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = proxy_to_sandbox(app_of_its_own(Seen()), url=url, api_key="sck_k")
        with serving_app(app) as port:
            for _ in range(2):
                with Wire(port, "3000-x.localhost") as wire:
                    assert wire.get("/", Authorization="Basic eDp5").status == 502
            sock = socket.create_connection(("127.0.0.1", port), timeout=15)
            with pytest.raises(InvalidStatus) as refused, connect("ws://3000-x.localhost/", sock=sock, proxy=None):
                pass
            assert refused.value.response.status_code == 502
        thread.join()
    lines = heads[0].split(b"\r\n")
    assert lines[0] == b"GET /v1/previews/3000-x/ HTTP/1.1" and lines.count(b"x-sandcove-key: sck_k") == 1
    assert [line for line in lines if line.startswith(b"authorization")] == [b"authorization: Basic eDp5"]


def test_the_local_server_is_started_for_a_visitor(fresh_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_app(proxy_to_sandbox(app_of_its_own(Seen()))) as port, Wire(port, "3000-x.localhost") as wire:
        assert wire.get("/").status == 404
        assert (fresh_home / "server.sock").exists()
    monkeypatch.setenv("SANDCOVE_HOME", "/proc/none")
    with serving_app(proxy_to_sandbox(app_of_its_own(Seen()))) as port, Wire(port, "3000-x.localhost") as wire:
        assert [wire.get("/").status for _ in range(2)] == [503, 503]


class ByHand:
    """The ASGI server's side of one call: for what uvicorn does not do."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.messages = list(messages)
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if self.messages:
            return self.messages.pop(0)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    def call(self, scope: dict[str, Any]) -> list[dict[str, Any]]:
        app = proxy_to_sandbox(app_of_its_own(Seen()), hostname="previews.test")
        asyncio.run(app(scope, self.receive, self.send))  # type: ignore[arg-type]
        return self.sent


def test_http_2_a_path_alone_and_early_hints(proxied: Proxied) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "http_version": "2",
        "scheme": "https",
        "path": "/ä b",
        "headers": [(b"host", proxied.host.encode())],
        "extensions": {"http.response.early_hint": {}},
    }
    first = {"type": "http.request", "body": b"abc", "more_body": True}
    start, *body = ByHand(first, {"type": "http.request", "body": b"de"}).call(scope)
    told = json.loads(b"".join(message["body"] for message in body))
    assert start["status"] == 200 and told["target"] == "/%C3%A4%20b" and told["size"] == 5
    assert dict(told["headers"])["x-forwarded-proto"] == "https" and "x-forwarded-for" not in dict(told["headers"])
    told = json.loads(ByHand({"type": "http.request"}).call(scope)[1]["body"])
    assert told["size"] == 0 and "transfer-encoding" not in dict(told["headers"])
    expects = [(b"expect", b"100-continue"), (b"content-length", b"3")]
    hinted = scope | {"path": "/continue", "headers": [*scope["headers"], *expects]}
    hint, start, *_ = ByHand({"type": "http.request", "body": b"abc"}).call(hinted)
    assert (hint["type"], hint["links"], start["status"]) == ("http.response.early_hint", [b"</a>"], 200)


def test_a_body_of_another_length_than_was_said_and_a_visitor_that_left(proxied: Proxied) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "http_version": "1.1",
        "path": "/echo",
        "headers": [(b"host", proxied.host.encode()), (b"content-length", b"4")],
    }
    for body in (b"abc", b"abcdef"):
        assert ByHand({"type": "http.request", "body": body}).call(scope) == []
    assert ByHand({"type": "http.disconnect"}).call(scope) == []
    sent = ByHand({"type": "http.request", "body": b""}).call(scope | {"path": "no path", "raw_path": b"http://evil/"})
    assert sent[0]["status"] == 400


def test_a_websocket_that_is_refused_where_the_server_can_t_say_why(proxied: Proxied) -> None:
    scope = {"type": "websocket", "path": "/refuse", "headers": [(b"host", proxied.sockets.encode())]}
    (sent,) = ByHand({"type": "websocket.connect"}).call(scope)
    assert sent["type"] == "websocket.close"


def test_arguments_are_checked() -> None:
    app = app_of_its_own(Seen())
    for hostname in ("", "a b", "127.0.0.1", "[::1]", "http://", "x.test:99999", "a/b", "*.test", 7):
        with pytest.raises(InvalidRequestError, match="hostname"):
            proxy_to_sandbox(app, hostname=hostname)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="one sandbox"):
        proxy_to_sandbox(app, url="http://localhost:1", api_key="scs_x")
    with pytest.raises(InvalidRequestError, match="app"):
        proxy_to_sandbox("app")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="server URL"):
        proxy_to_sandbox(app, url="nothing")
