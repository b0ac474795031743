"""Previews and proxies on a TCP listener: who gets in, by which name, with which key."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from sandcove import InvalidRequestError, PortNotListeningError, Sandbox, get_sandbox
from sandcove.server.config import load
from tests.answers import Answer, exchange
from tests.conftest import sandcove_home
from tests.tenants import Tcp, serving_in

DOMAIN = "preview.test"
SERVE = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port=3000, bind='127.0.0.1')"


@pytest.fixture(scope="module")
def tcp(capable: None) -> Iterator[Tcp]:
    with sandcove_home() as home, serving_in(home, f"--preview-url=https://{DOMAIN}:8443") as server:
        yield server


@pytest.fixture(scope="module")
def key(tcp: Tcp) -> str:
    return tcp.key(tenant="shop").key


@pytest.fixture(scope="module")
def box(tcp: Tcp, key: str) -> Iterator[Sandbox]:
    """A sandbox with a service on its port 3000."""
    with Sandbox(url=tcp.url, api_key=key) as made:
        made.write_file("/workspace/index.html", "<h1>here</h1>")
        made.write_file("/workspace/serve.py", SERVE)
        made.start_process("python3 serve.py").wait_for_port(3000, timeout=30)
        yield made


def get(tcp: Tcp, target: str, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", tcp.port, timeout=30)
    return exchange(connection, "GET", target, headers={name.replace("_", "-"): v for name, v in headers.items()})


def test_a_preview_has_the_server_s_domain_and_needs_its_token_alone(tcp: Tcp, box: Sandbox) -> None:
    exposed = box.expose_port(3000)
    url = urlsplit(exposed.url)
    assert (url.scheme, url.port) == ("https", 8443)
    host = url.hostname or ""
    assert host.endswith(f".{DOMAIN}")
    assert b"here" in get(tcp, "/", Host=f"{host}:8443").body
    assert b"here" in get(tcp, f"/preview/{host.partition('.')[0]}/").body
    assert get(tcp, "/", Host=f"x.{host}").status == 401  # no preview's: the API's
    wrong = host.replace(f".{DOMAIN}", "")[:-1] + ("a" if host[-len(DOMAIN) - 2] != "a" else "b") + f".{DOMAIN}"
    assert get(tcp, "/", Host=wrong).status == 404
    assert get(tcp, "/v1/sandboxes", Host=wrong).status == 404
    box.unexpose_port(3000)
    assert get(tcp, "/", Host=host).status == 410


def test_a_proxied_request_needs_a_key_of_its_sandbox(tcp: Tcp, box: Sandbox, key: str) -> None:
    target = f"/v1/sandboxes/{box.info().id}/proxy/3000/"
    assert get(tcp, target).status == 401
    assert get(tcp, target, Authorization="Bearer sck_k_aaaaaaaa_" + "a" * 52).status == 401
    assert b"here" in get(tcp, target, Authorization=f"Bearer {key}").body
    other = tcp.key(tenant="other").key
    assert get(tcp, target, Authorization=f"Bearer {other}").status == 404
    reader = tcp.key(tenant="shop", scopes=["read"]).key
    assert get(tcp, target, Authorization=f"Bearer {reader}").status == 403
    token = box.create_token()
    assert b"here" in get(tcp, target, Authorization=f"Bearer {token}").body
    with Sandbox(url=tcp.url, api_key=key) as another:
        theirs = f"/v1/sandboxes/{another.info().id}/proxy/3000/"
        assert get(tcp, theirs, Authorization=f"Bearer {token}").status == 403


def test_a_connection_of_the_api_goes_on_as_a_proxy_s_with_a_key_each(tcp: Tcp, box: Sandbox, key: str) -> None:
    target = f"/v1/sandboxes/{box.info().id}"
    with closing(http.client.HTTPConnection("127.0.0.1", tcp.port, timeout=30)) as connection:

        def status(path: str, **headers: str) -> int:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status

        known = {"Authorization": f"Bearer {key}"}
        assert [status(target, **known), status(f"{target}/proxy/3000/", **known), status(target, **known)] == [200] * 3
        assert status(f"{target}/proxy/3000/") == 401


def test_fetch_over_tcp(tcp: Tcp, box: Sandbox, key: str) -> None:
    with box.fetch("/", port=3000) as response:
        assert (response.status, response.read()) == (200, b"<h1>here</h1>")
    stranger = get_sandbox(box.info().id, url=tcp.url, api_key=tcp.key(tenant="other").key)
    with pytest.raises(PortNotListeningError):  # in a sandbox of the other's own
        stranger.fetch("/", port=3000)


def test_two_tenants_sandboxes_of_one_name_have_previews_of_their_own(tcp: Tcp, key: str) -> None:
    hosts = []
    for owner in (key, tcp.key(tenant="other").key):
        shared = get_sandbox("same", url=tcp.url, api_key=owner)
        hosts.append(urlsplit(shared.expose_port(3000).url).hostname or "")
    first, second = ("-".join(host.split("-")[1:-1]) for host in hosts)
    assert first != second


@pytest.mark.parametrize(
    "url", ["preview.test", "ftp://x", "https://x/path", "https://X", "https://x:port", "https://"]
)
def test_a_wrong_address_of_previews_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="preview"):
        load({"host": "127.0.0.1", "preview_url": url}, {})


def test_an_address_without_a_listener_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no host"):
        load({"preview_url": "https://x"}, {})
