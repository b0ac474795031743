"""One HTTP request and its answer, over any connection of the standard library's client."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Answer", "exchange", "visit"]


@dataclass
class Answer:
    """An answer to a request; the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Closes the connection. A `body` that is neither bytes nor None goes as JSON."""
    with closing(connection):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, target, data, headers or {})
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def visit(url: str) -> Answer:
    """A GET of a preview, whose name needs no DNS for it."""
    host = urlsplit(url).netloc
    connection = http.client.HTTPConnection("127.0.0.1", int(host.rpartition(":")[2]), timeout=30)
    return exchange(connection, "GET", "/", None, {"Host": host})
