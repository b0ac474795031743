# Written by scripts/unasync.py from _async/fetch.py. Change that file, not this one.
"""Requests to what listens in a sandbox, through its server."""

from __future__ import annotations

import json
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self

from sandcove.client._sync.client import Client
from sandcove.client._sync.connection import Body, Response
from sandcove.client._sync.io import Input, Opened, open_input, read_input
from sandcove.client.endpoint import Broken
from sandcove.client.fetch import REPEATABLE, Headers, check_headers, check_method, check_url
from sandcove.errors import SandboxNetworkError

__all__ = ["FetchResponse", "fetch"]


class FetchResponse:
    """What a service in a sandbox answered. Its body is read when it is asked for: read it, or close the response.

    Attributes:
        status: the HTTP status, whatever it is: an answer of the service is no error.
        headers: by name in lower case; the values of one that came several times are joined by ``, ``.
        raw_headers: all of them, in order, names as sent.
    """

    def __init__(self, response: Response) -> None:
        self._response = response
        self.status = response.status
        self.raw_headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.head.headers]
        self.headers: dict[str, str] = {}
        for name, value in self.raw_headers:
            known = self.headers.get(name.lower())
            self.headers[name.lower()] = value if known is None else f"{known}, {value}"

    def read(self) -> bytes:
        """The whole body; what is left of it after a `stream` that was given up is lost.

        Raises:
            SandboxNetworkError: it broke off.
        """
        try:
            return self._response.read(None)
        except Broken as error:
            raise _broken(error) from None

    def text(self) -> str:
        """The whole body as text: UTF-8, U+FFFD for what is none."""
        return (self.read()).decode("utf-8", "replace")

    def json(self) -> Any:
        """The whole body, decoded.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(self.read())

    def stream(self) -> Generator[bytes, None, None]:
        """The body in pieces, as they come.

        Raises:
            SandboxNetworkError: it broke off.
        """
        try:
            for piece in self._response.pieces():
                if piece:
                    yield piece
        except Broken as error:
            raise _broken(error) from None

    def close(self) -> None:
        """Gives up what was not read; the service sees its connection end."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


def fetch(
    client: Client,
    sandbox_id: str,
    port: int,
    *,
    url: str,
    method: str,
    headers: Headers | None,
    body: Input | None,
) -> FetchResponse:
    """Sends one request; the arguments are checked here."""
    target = f"/v1/sandboxes/{sandbox_id}/proxy/{port}{check_url(url, port)}"
    lines = check_headers(headers)
    sent: Body
    if body is None or isinstance(body, str | bytes):
        sent = body.encode() if isinstance(body, str) else body or b""
    else:
        sent = _pieces(open_input(body))
    verb = check_method(method)
    response = client.request(verb, target, sent, lines, repeatable=verb in REPEATABLE, others=True)
    return FetchResponse(response)


def _pieces(source: Opened) -> Generator[bytes, None, None]:
    while piece := read_input(source):
        yield piece


def _broken(error: Broken) -> SandboxNetworkError:
    return SandboxNetworkError(f"the service's answer broke off: {error}")
