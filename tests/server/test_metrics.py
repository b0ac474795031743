"""What the server counts, who may see it, and that nothing is counted where nobody asks."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sandcove import Sandbox, get_sandbox
from tests.server import let_in
from tests.server.conftest import Serving, ask
from tests.server.test_tcp import BEARER, over_tcp

Serve = Callable[..., Serving]


def counted(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^(sandcove_\S+) (\S+)$", text, re.MULTILINE)}


def test_what_is_counted(serve: Serve) -> None:
    serving = serve("--host=127.0.0.1", "--port=0", program=Path(let_in.__file__))
    serving.wait_until_it_serves()
    address = serving.address

    def scrape() -> dict[str, float]:
        answer = over_tcp(address, "GET", "/metrics", headers=BEARER)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        return counted(answer.body.decode())

    assert scrape()["sandcove_sandboxes_created_total"] == 0
    with Sandbox(url=address, api_key=let_in.KEY) as made:
        made.write_file("/tmp/a", "x" * 1000)
        assert made.read_file("/tmp/a") == "x" * 1000
        named = get_sandbox("named", url=address, api_key=let_in.KEY)
        named.exec("true")
        named.sleep()
        during = scrape()
    after = scrape()
    assert during['sandcove_sandboxes{state="running"}'] == 1
    assert during['sandcove_sandboxes{state="asleep"}'] == 1
    totals = [after[f"sandcove_sandboxes_{what}_total"] for what in ("created", "woken", "slept", "destroyed")]
    assert totals == [2, 2, 1, 1]
    assert 1000 <= after['sandcove_relay_bytes_total{direction="in"}'] < 5000
    assert 1000 <= after['sandcove_relay_bytes_total{direction="out"}'] < 5000
    relayed = 'route="/v1/sandboxes/{id}/api/{rest:path}"'
    sent = [n for n in after if n.startswith("sandcove_requests_total") and relayed in n and 'status="200"' in n]
    assert sum(after[name] for name in sent) >= 3
    assert after['sandcove_request_seconds_count{method="GET",route="/metrics"}'] >= 2
    # What a stranger asks for makes no series of its own.
    for path in ("/a", "/b", "/v1/sandboxes/c"):
        assert over_tcp(address, "GET", path).status == 401
    strangers = {
        name: n for name, n in scrape().items() if name.startswith("sandcove_requests_total") and "401" in name
    }
    assert strangers == {'sandcove_requests_total{method="GET",route="none",status="401"}': 3}
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(30) == 0


def test_on_tcp_they_are_for_admins(serve: Serve) -> None:
    serving = serve("--host=127.0.0.1", "--port=0")
    serving.wait_until_it_serves()
    made = ask(serving.home / "server.sock", "POST", "/v1/keys", b"{}").json["key"]
    refused = over_tcp(serving.address, "GET", "/metrics", headers={"Authorization": f"Bearer {made}"})
    assert (refused.status, refused.json["code"]) == (403, "FORBIDDEN")
    assert ask(serving.home / "server.sock", "GET", "/metrics").status == 200


@pytest.mark.parametrize("arguments", [[], ["--host=127.0.0.1", "--port=0"]])
def test_without_a_listener_or_the_library_it_says_so(serve: Serve, tmp_path: Path, arguments: list[str]) -> None:
    program = tmp_path / "without.py"
    # An import of it raises ImportError.
    program.write_text(
        "import sys\nsys.modules['prometheus_client'] = None\nfrom sandcove.server.__main__ import main\nmain()\n"
    )
    serving = serve(*arguments, program=program if arguments else None)
    serving.wait_until_it_serves()
    told = ask(serving.home / "server.sock", "GET", "/metrics")
    assert (told.status, told.json["code"]) == (501, "HOST_UNSUPPORTED")
    assert "sandcove[server]" in told.json["error"]
    assert ask(serving.home / "server.sock", "GET", "/v1/sandboxes").status == 200
