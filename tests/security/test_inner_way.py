"""Code in a sandbox calls the server that runs it, and other sandboxes' previews there, as in Judge0's CVE-2024-29021.

Each way is tried with every network allowed that there is for a sandbox, and, as the control, where the operator has
taken away what refuses the machine's own addresses.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from sandcove import Sandbox
from tests.conftest import sandcove_home
from tests.security.probes import Answer, inside, outside
from tests.tenants import Tcp, serving_in

TALK = """
import ast
came = b""
with socket.create_connection((args[0], int(args[1])), 2) as sock:
    try:
        for piece in ast.literal_eval(args[2]):
            sock.sendall(piece)
            came += sock.recv(65536)
        while piece := sock.recv(65536):
            came += piece
    except (TimeoutError, ConnectionError):
        pass
say(came.decode(errors="replace"))
b"Sandcove: " not in came.partition(b"\\r\\n")[0] and args[3].encode() in came or refuse("it is not the server's")
"""
PROXY = ("127.0.0.1", 61080)
DOMAIN = "preview.test"


def get(target: str, host: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def connect(to: str) -> bytes:
    return f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n".encode()


def socks(port: int) -> list[bytes]:
    return [b"\x05\x01\x00", b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big")]


def ways(port: int, preview: str) -> dict[str, tuple[list[bytes], str]]:
    """What is sent to the proxy, each piece after an answer to the one before it, and a word of who answers."""
    here = f"127.0.0.1:{port}"
    api = get("/v1/server", here)
    return {
        "by its address": ([get(f"http://{here}/v1/server", here)], "UNAUTHORIZED"),
        "by a tunnel": ([connect(here), api], "UNAUTHORIZED"),
        "by SOCKS": ([*socks(port), api], "UNAUTHORIZED"),
        "by a name": ([connect(f"localhost:{port}"), api], "UNAUTHORIZED"),
        "by an address of IPv6": ([connect(f"[::ffff:127.0.0.1]:{port}"), api], "UNAUTHORIZED"),
        "another's preview": ([connect(here), get("/", preview)], "of another"),
        "another's preview by a path": (
            [get(f"http://{here}/preview/{preview.partition('.')[0]}/", here)],
            "of another",
        ),
    }


@pytest.fixture(scope="module", params=["protected", "unprotected"])
def tcp(request: pytest.FixtureRequest, capable: None) -> Iterator[Tcp]:
    with sandcove_home() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDCOVE_EGRESS_PRIVATE", "127.0.0.0/8" if request.param == "unprotected" else "")
        with serving_in(home, f"--preview-url=http://{DOMAIN}") as server:
            yield server


@pytest.fixture(scope="module")
def attempts(tcp: Tcp) -> dict[str, Answer]:
    """What became of each way, from a sandbox that may reach all that is public; and without the proxy."""
    with (
        Sandbox(url=tcp.url, api_key=tcp.key(tenant="attacker").key, egress="public") as attacker,
        Sandbox(url=tcp.url, api_key=tcp.key(tenant="shop").key) as another,
    ):
        another.exec("echo of another > index.html")
        another.start_process("python3 -m http.server -b 127.0.0.1 3000").wait_for_port(3000, timeout=30)
        preview = urlsplit(another.expose_port(3000).url).hostname or ""
        found = {
            name: inside(attacker, TALK, *PROXY, pieces, word)
            for name, (pieces, word) in ways(tcp.port, preview).items()
        }
        direct = [get("/v1/server", "x")]
        found["without the proxy"] = inside(attacker, TALK, "127.0.0.1", tcp.port, direct, "UNAUTHORIZED")
        return found


@pytest.mark.parametrize("way", [*ways(1, "x"), "without the proxy"])
def test_cve_2024_29021(tcp: Tcp, attempts: dict[str, Answer], request: pytest.FixtureRequest, way: str) -> None:
    unprotected = "unprotected" in request.node.name
    if way == "without the proxy":
        assert not attempts[way].reached
        assert outside(TALK, "127.0.0.1", tcp.port, [get("/v1/server", "x")], "UNAUTHORIZED").reached
        return
    assert attempts[way].reached == unprotected, attempts[way]
    assert unprotected or "403" in "".join(attempts[way].said) or way == "by SOCKS"
