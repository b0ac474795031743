"""The example applications, each served by uvicorn: their own pages, and previews at their hosts."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import ExitStack
from pathlib import Path

from websockets.sync.client import connect

from tests.answers import Answer, exchange
from tests.previews.asgi import running


def ask(port: int, host: str, target: str, method: str = "GET") -> Answer:
    return exchange(http.client.HTTPConnection("127.0.0.1", port, timeout=60), method, target, None, {"Host": host})


def test_previews_in_applications_of_three_frameworks(home: Path) -> None:
    with ExitStack() as stack:
        apps = ("examples.fastapi_app:app", "examples.starlette_app:app", "examples.django_app:application")
        fastapi, starlette, django = [stack.enter_context(running(app)) for app in apps]
        urls = {
            fastapi: json.loads(ask(fastapi, "localhost", "/sandboxes/ada").body)["url"],
            starlette: ask(starlette, "localhost", "/").body.decode(),
            django: json.loads(ask(django, "localhost", "/bob").body)["url"],
        }
        for port, url in urls.items():
            host = url.split("/")[2]
            assert url.startswith("http://3000-") and host.endswith(f".localhost:{port}")
            assert ask(port, host, "/page?a=1").body.decode() == f"hello from {host}/page?a=1"
            sock = socket.create_connection(("127.0.0.1", port), timeout=20)
            with connect(f"ws://{host}/", sock=sock, proxy=None) as ws:
                ws.send("good day")
                assert ws.recv(20) == "you said good day"
            assert ask(port, "localhost", "/nothing/here").status == 404  # the framework's own
        # The same sandbox and URL again.
        assert json.loads(ask(fastapi, "localhost", "/sandboxes/ada").body)["url"] == urls[fastapi]
        assert ask(fastapi, "localhost", "/sandboxes/ada", "DELETE").status == 200
        assert ask(django, "localhost", "/bob", "DELETE").status == 200
        assert ask(django, urls[django].split("/")[2], "/").status == 404
