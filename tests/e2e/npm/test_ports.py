"""The published npm client: exposed ports, and its own ``doFetch`` for what a service in the sandbox answers.

What its own code limits:
- it types no ``url`` in its answers, and passes on the one that they have;
- it has no way to a service but `doFetch`, to which ``/proxy/{port}/`` is a path like any other.
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandcove import Sandbox
from tests.e2e.npm.client import ClientError, NpmClient
from tests.previews.conftest import preview_of, start_service
from tests.tenants import serving


def told(response: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(response["body"]))


def test_a_port_is_exposed_listed_and_taken_back(npm: NpmClient, box: Sandbox) -> None:
    start_service(box, 8080)
    exposed = npm.exposePort(8080, "web")
    assert (exposed["success"], exposed["port"], exposed["name"]) == (True, 8080, "web")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(exposed["exposedAt"])) < timedelta(minutes=1)
    npm.exposePort(8081, None)
    listed = npm.getExposedPorts()
    assert listed["count"] == 2
    shown = {entry["port"]: entry for entry in listed["ports"]}
    assert shown[8080] == {name: exposed[name] for name in ("port", "name", "url", "exposedAt")}
    assert "name" not in shown[8081]
    # The URL is a preview's, and the SDK sees the same.
    [ours] = [port for port in box.get_exposed_ports() if port.port == 8080]
    assert ours.url == exposed["url"]
    assert preview_of(box, ours).get("/echo?a").json["target"] == "/echo?a"
    ended = npm.unexposePort(8080)
    assert (ended["success"], ended["port"]) == (True, 8080)
    assert preview_of(box, ours).get("/echo").status == 410
    npm.unexposePort(8081)
    assert npm.getExposedPorts()["ports"] == []


def test_errors_say_what_is_wrong(npm: NpmClient) -> None:
    npm.exposePort(9000, None)
    with pytest.raises(ClientError, match="9000"):
        npm.exposePort(9000, None)
    npm.unexposePort(9000)
    with pytest.raises(ClientError, match="9000"):
        npm.unexposePort(9000)
    for wrong in (0, 65536, 1.5, "web"):
        with pytest.raises(ClientError, match="port"):
            npm.exposePort(wrong, None)


def test_a_service_answers_what_the_client_fetches(npm: NpmClient, box: Sandbox) -> None:
    if not box.list_processes():
        start_service(box, 8080)
    options = {"method": "POST", "body": "ä" * 100_000, "headers": {"X-Own": "yes", "Content-Type": "text/plain"}}
    response = npm.doFetch.response("/proxy/8080/echo?a=1", options)
    assert response["status"] == 200
    answer = told(response)
    assert (answer["method"], answer["target"], answer["size"]) == ("POST", "/echo?a=1", 200_000)
    assert dict(answer["headers"])["x-own"] == "yes"
    assert len(base64.b64decode(npm.doFetch.response("/proxy/8080/send?3000000")["body"])) == 3_000_000
    assert base64.b64decode(npm.doFetch.response("/proxy/8080/chunks?3")["body"]) == b"000000010002"
    silent = npm.doFetch.response("/proxy/8082/")
    assert (silent["status"], told(silent)["code"]) == (502, "PORT_NOT_LISTENING")
    wrong = npm.doFetch.response("/proxy/99999/")
    assert wrong["status"] == 400


def test_a_token_in_the_path_leads_to_ports_too(package: Path, capable: None) -> None:
    with serving() as server, Sandbox("box", url=server.url, api_key=server.key("blue").key) as box:
        start_service(box, 8080)
        token = box.create_token(expires_in=600)
        with NpmClient(package, f"{server.url}/v1/with/{token}") as npm:
            assert npm.exposePort(8080, "web")["url"] == npm.getExposedPorts()["ports"][0]["url"]
            # One connection for calls and for the service, whichever came first.
            for number in range(3):
                answer = told(npm.doFetch.response(f"/proxy/8080/echo?{number}"))
                assert answer["target"] == f"/echo?{number}"
                # The service is told where it is, and not by which token.
                headers = dict(answer["headers"])
                assert headers["x-forwarded-prefix"] == "/v1/sandboxes/box/proxy/8080"
                assert headers["x-original-url"] == f"{server.url}/v1/sandboxes/box/proxy/8080/echo?{number}"
                assert token not in json.dumps(answer)
                assert npm.unexposePort(8080)["success"] and npm.exposePort(8080, None)["success"]
            away = b"HTTP/1.1 302 Found\r\nLocation: http://localhost:8080/echo?moved\r\nContent-Length: 0\r\n\r\n"
            moved = told(npm.doFetch.response(f"/proxy/8080/raw?{away.hex()}"))
            assert moved["target"] == "/echo?moved"
        with NpmClient(package, f"{server.url}/v1/with/{token[:-2]}") as npm:
            refused = npm.doFetch.response("/proxy/8080/echo")
            assert (refused["status"], told(refused)["code"]) == (401, "UNAUTHORIZED")
