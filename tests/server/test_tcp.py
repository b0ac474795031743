"""The TCP listener: nobody gets in without a key, TLS, addresses of both kinds, what a request must be."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandcove import Sandbox
from sandcove.client.launch import ensure_server
from sandcove.home import Home
from sandcove.server.tcp import listen
from tests.answers import Answer, exchange
from tests.server import let_in
from tests.server.conftest import Serving, ask

Serve = Callable[..., Serving]
GUESTS = Path(let_in.__file__)
BEARER = {"Authorization": f"Bearer {let_in.KEY}"}


def over_tcp(
    address: str, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    url = urlsplit(address)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    return exchange(connection, method, target, body, headers)


def raw(address: str, data: bytes) -> bytes:
    """All that is answered to these bytes until the server closes."""
    url = urlsplit(address)
    with socket.create_connection((url.hostname, url.port), 30) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def make_certificate(folder: Path, kind: str) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = f"openssl req -x509 -newkey {kind} -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*make.split(), *names], check=True, capture_output=True)
    return cert, key


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "ec -pkeyopt ec_paramgen_curve:P-256")


@pytest.fixture
def guests(serve: Serve) -> Serving:
    """A server that lets in who has the key of the tests."""
    serving = serve("--host", "127.0.0.1", "--port", "0", program=GUESTS)
    serving.wait_until_it_serves()
    return serving


@pytest.fixture
def box(guests: Serving) -> Iterator[Sandbox]:
    with Sandbox(url=guests.address, api_key=let_in.KEY) as made:
        yield made


def test_nobody_gets_in_without_a_key(serve: Serve, fresh_home: Path) -> None:
    serving = serve("--host=127.0.0.1", "--port=0")
    serving.wait_until_it_serves()
    address = serving.address
    routes = [
        ("GET", "/v1/server"),
        ("GET", "/v1/sandboxes"),
        ("POST", "/v1/server/stop"),
        ("POST", "/v1/sandboxes"),
        ("DELETE", "/v1/sandboxes/x"),
        ("GET", "/v1/sandboxes/x/api/ping"),
        ("OPTIONS", "/v1/sandboxes/x/api/ping"),
        ("GET", "/nothing"),
        ("GET", "/"),
        ("GET", "//healthz"),
        ("GET", "/healthz/"),
        ("GET", "/healthz/../v1/server"),
        ("GET", "/%68ealthz/v1"),
    ]
    for method, target in routes:
        for headers in ({}, {"Authorization": "Bearer sck_a_b"}, {"Authorization": "Basic eDp5"}):
            answer = over_tcp(address, method, target, b"{}" if method == "POST" else None, headers)
            assert (answer.status, answer.json["code"]) == (401, "UNAUTHORIZED"), (method, target)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "Traceback" not in answer.json["error"]
    for target in ("/healthz", "/readyz"):
        assert over_tcp(address, "GET", target).json == {"success": True}
        assert ask(fresh_home / "server.sock", "GET", target).json == {"success": True}
    assert ask(fresh_home / "server.sock", "GET", "/v1/sandboxes").json["count"] == 0


def test_who_started_it_is_told_its_address(fresh_home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDCOVE_HOST", "localhost")
    monkeypatch.setenv("SANDCOVE_PORT", "0")
    ensure_server(Home.default())
    addresses = ask(fresh_home / "server.sock", "GET", "/v1/server").json["addresses"]
    assert {urlsplit(address).port for address in addresses} == {urlsplit(addresses[0]).port}
    for address in addresses:
        assert over_tcp(address, "GET", "/healthz").status == 200
        assert address in (fresh_home / "server.log").read_text()


def test_a_sandbox_lives_as_long_as_its_lease_over_tcp(guests: Serving) -> None:
    here: Any = {"url": guests.address, "api_key": let_in.KEY}
    with Sandbox(**here) as made:
        assert made.exec("cat", stdin=b"x" * 3_000_000).stdout == "x" * 3_000_000
        assert [e.type for e in made.exec_stream("echo 1; sleep 0.1; echo 2")][-1] == "complete"
        made.write_file("/tmp/big", b"y" * 5_000_000)
        assert len(made.read_file("/tmp/big")) == 5_000_000
        process = made.start_process("cat")
        process.write_stdin(b"by post\n")
        process.close_stdin()
        assert process.wait(timeout=30) == 0
        told = over_tcp(guests.address, "GET", f"/v1/sandboxes/{made.id}", headers=BEARER).json
        assert told["agentSocket"] is None
        sandbox_id = made.id
    assert over_tcp(guests.address, "GET", f"/v1/sandboxes/{sandbox_id}", headers=BEARER).status == 404


def test_a_lease_ends_with_its_connection(guests: Serving) -> None:
    url = urlsplit(guests.address)
    lease = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    lease.request("POST", "/v1/sandboxes", b'{"lease": true}', BEARER)
    target = f"/v1/sandboxes/{json.loads(lease.getresponse().readline())['id']}"
    with closing(http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)) as following:
        command = b'{"command": "echo begun; exec sleep 1000"}'
        following.request("POST", f"{target}/api/execute/stream", command, BEARER)
        stream = following.getresponse()
        while b"begun" not in stream.readline():
            pass
        assert lease.sock is not None
        lease.sock.shutdown(socket.SHUT_RDWR)
        lease.close()
        with contextlib.suppress(http.client.HTTPException):
            stream.read()  # it ends, since the room does
    # It waits for what is being done to the sandbox.
    assert over_tcp(guests.address, "POST", f"{target}/wake", headers=BEARER).status == 404


def test_a_peer_that_vanishes_is_noticed() -> None:
    (listening,) = listen("127.0.0.1", 0)
    with listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            tcp = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT]
            idle, every, times, unsent = (accepted.getsockopt(socket.IPPROTO_TCP, option) for option in tcp)
    assert idle + every * times <= 60
    assert unsent <= 60_000


@pytest.mark.parametrize("host", ["::1", "::"])
def test_addresses_of_both_kinds(serve: Serve, host: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    serving = serve("--host", host, "--port", "0")
    serving.wait_until_it_serves()
    assert serving.address.startswith(f"http://[{host}]:")
    port = urlsplit(serving.address).port
    assert over_tcp(f"http://[::1]:{port}", "GET", "/healthz").status == 200
    if host == "::":
        assert over_tcp(f"http://127.0.0.1:{port}", "GET", "/healthz").status == 200
        assert over_tcp(f"http://127.0.0.1:{port}", "GET", "/v1/server").status == 401


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")  # old ones are tried
def test_tls(serve: Serve, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    serving = serve("--host=127.0.0.1", "--port=0", f"--tls-cert={cert}", f"--tls-key={key}", program=GUESTS)
    serving.wait_until_it_serves()
    url = urlsplit(serving.address)
    assert url.scheme == "https"
    trusting = ssl.create_default_context(cafile=str(cert))
    with closing(http.client.HTTPSConnection("127.0.0.1", url.port, timeout=30, context=trusting)) as connection:
        for _ in range(3):  # on one connection
            connection.request("GET", "/v1/server", headers=BEARER)
            response = connection.getresponse()
            assert (response.status, json.loads(response.read())["addresses"]) == (200, [serving.address])
    # In the clear nothing is answered.
    assert raw(f"http://127.0.0.1:{url.port}", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[:4] != b"HTTP"
    old = ssl.create_default_context(cafile=str(cert))
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)), socket.create_connection(("127.0.0.1", url.port)) as sock:
        old.wrap_socket(sock, server_hostname="localhost")


def test_a_new_certificate_is_read_on_sighup(serve: Serve, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path, "ec -pkeyopt ec_paramgen_curve:P-256")
    serving = serve("--host=127.0.0.1", "--port=0", f"--tls-cert={cert}", f"--tls-key={key}", program=GUESTS)
    serving.wait_until_it_serves()
    port = urlsplit(serving.address).port

    def shown(server_name: str | None) -> str:
        any_will_do = ssl.create_default_context()
        any_will_do.check_hostname = False
        any_will_do.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", port), 30) as sock,
            any_will_do.wrap_socket(sock, server_hostname=server_name) as tls,
        ):
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")

    def reload() -> str:
        serving.process.send_signal(signal.SIGHUP)
        assert serving.process.stderr is not None
        return next(line for line in serving.process.stderr if "tls_cert" in line)

    first = cert.read_text()
    trusting = ssl.create_default_context(cafile=str(cert))
    with closing(http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=trusting)) as kept:
        kept.request("GET", "/healthz")
        assert kept.getresponse().read()
        for kind in ("ec -pkeyopt ec_paramgen_curve:P-384", "rsa:2048"):
            make_certificate(tmp_path, kind)
            assert shown("localhost") == first
            assert "was read again" in reload()
            second = cert.read_text()
            assert shown("localhost") == shown(None) == second != first
            first = second
        for broken, told in ((cert, "can't be used"), (key, "can't be used")):
            whole = broken.read_bytes()
            broken.write_text("nothing")
            line = reload()
            assert "stays in force" in line
            assert told in line
            assert "Traceback" not in line
            broken.write_bytes(whole)
            assert shown("localhost") == first
        cert.unlink()
        assert "can't be read" in reload()
        assert shown(None) == first
        kept.request("GET", "/healthz")  # on the connection of the first certificate
        assert kept.getresponse().status == 200


def test_sighup_without_a_certificate_ends_nothing(guests: Serving) -> None:
    guests.process.send_signal(signal.SIGHUP)
    assert guests.process.stderr is not None
    assert any("no certificate" in line for line in guests.process.stderr)
    assert over_tcp(guests.address, "GET", "/healthz").status == 200


def wrong_tls(cert: Path, key: Path, folder: Path) -> Iterator[tuple[list[str], str]]:
    other, locked = folder / "other.pem", folder / "locked.pem"
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", other], check=True)
    subprocess.run(["openssl", "ec", "-in", key, "-aes128", "-passout", "pass:x", "-out", locked], check=True)
    none = folder / "none.pem"
    none.write_text("no certificate")
    yield [f"--tls-cert={folder}/missing"], "tls_cert .*missing can't be read: No such file"
    yield [f"--tls-cert={cert}", f"--tls-key={folder}"], "tls_key .* can't be read: Is a directory"
    yield [f"--tls-cert={cert}"], "can't be used: no certificate and key in PEM"
    yield [f"--tls-cert={none}", f"--tls-key={key}"], "can't be used: no certificate and key in PEM"
    yield [f"--tls-cert={cert}", f"--tls-key={other}"], "other.pem is not the key of the certificate"
    yield [f"--tls-cert={cert}", f"--tls-key={locked}"], "locked.pem is encrypted"
    yield [f"--tls-key={key}"], "tls_key is .*, but there is no tls_cert"
    if os.geteuid():  # root reads all
        other.chmod(0)
        yield [f"--tls-cert={cert}", f"--tls-key={other}"], "tls_key .* can't be read: Permission denied"


def test_what_is_wrong_with_a_listener_is_told_at_once(
    serve: Serve, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        cases = [
            (["--port=80"], "port is 80, but there is no host"),
            (["--host=256.0.0.1"], "host '256.0.0.1' is no address of this machine"),
            (["--host=no.such.host.invalid"], "host 'no.such.host.invalid' is no address of this machine"),
            (["--host=192.0.2.1"], "can't listen on host '192.0.2.1', port 7420: Cannot assign"),
            (["--host=127.0.0.1", f"--port={port}"], f"port {port}: Address already in use"),
            (["--tls-cert=/x"], "tls_cert is /x, but there is no host"),
            *((["--host=127.0.0.1", "--port=0", *flags], told) for flags, told in wrong_tls(*certificate, tmp_path)),
        ]
        for flags, wanted in cases:
            refused = serve(*flags)
            _, told = refused.process.communicate(timeout=30)
            assert refused.process.returncode == 1
            assert told.count("\n") == 1, told
            assert re.search(wanted, told), (wanted, told)


HEAD = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (HEAD + b"Host: localhost\r\n\r\n", 200),
        (HEAD + b"Host: 127.0.0.1:80\r\n\r\n", 200),
        (HEAD + b"Host: [::1]:80\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (HEAD + b"\r\n", 400),
        (HEAD + b"Host: \r\n\r\n", 400),
        (HEAD + b"Host: a\r\nHost: a\r\n\r\n", 400),
        (HEAD + b"Host: a, b\r\n\r\n", 400),
        (HEAD + b"Host: a/b\r\n\r\n", 400),
        (HEAD + b"Host: user@a\r\n\r\n", 400),
        (HEAD + b"Host: a:b\r\n\r\n", 400),
        (HEAD + b"Host: \xff\r\n\r\n", 400),
        (HEAD + b"Host: a\r\nA : b\r\n\r\n", 400),
        (HEAD + b"Host: a\r\nA\0: b\r\n\r\n", 400),
        (HEAD + b"Host: a\r\n A: b\r\n\r\n", 400),
        (HEAD + b"Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (HEAD + b"Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Host: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"Host: a\r\nContent-Length: -1\r\n\r\n", 400),
        (HEAD + b"Host: a\r\nContent-Length: +1\r\n\r\na", 400),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /healthz HTTP/3.7\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_a_request_is_http_with_one_valid_host(shared: str, head: bytes, status: int) -> None:
    answer = raw(shared, head)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
    if status == 400:
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize("type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_json_is_sent_as_json(box: Sandbox, guests: Serving, type: str) -> None:
    def post(target: str, content: bytes, headers: dict[str, str]) -> Answer:
        return over_tcp(guests.address, "POST", f"/v1/sandboxes{target}", content, {**BEARER, **headers})

    for target, content in [("", b"{}"), (f"/{box.id}/api/execute", b'{"command": "true"}')]:
        refused = post(target, content, {"Content-Type": type})
        assert (refused.status, refused.json["code"]) == (400, "INVALID_REQUEST")
        assert type.split(";", maxsplit=1)[0] in refused.json["error"]
        for good in ({}, {"Content-Type": "application/json"}, {"Content-Type": "Application/JSON; charset=utf-8"}):
            assert post(target, content, good).status in (200, 201)
    box.start_process("cat", process_id=f"p{len(type)}")
    assert post(f"/{box.id}/api/process/p{len(type)}/stdin", b"raw", {"Content-Type": type}).status == 200


@pytest.fixture(scope="module")
def shared(capable: None) -> Iterator[str]:
    """The address of a server that no test here changes."""
    from tests.conftest import COMMAND, sandcove_home

    with sandcove_home():
        ready, told = os.pipe()
        server: Any = subprocess.Popen(
            [COMMAND, "serve", "--host=127.0.0.1", "--port=0", f"--ready-fd={told}"],
            pass_fds=(told,),
            stderr=subprocess.DEVNULL,
        )
        os.close(told)
        with open(ready) as pipe:
            yield json.loads(pipe.readline())["addresses"][0]
        server.terminate()
        assert server.wait(30) == 0
