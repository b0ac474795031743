"""Requests to what listens in a sandbox, through its server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

from sandcove.client._async.client import AsyncClient
from sandcove.client._async.connection import AsyncResponse, Body
from sandcove.client._async.io import Input, Opened, open_input, read_input
from sandcove.client.endpoint import Broken
from sandcove.client.fetch import REPEATABLE, Headers, check_headers, check_method, check_url
from sandcove.errors import SandboxNetworkError

__all__ = ["AsyncFetchResponse", "fetch"]


class AsyncFetchResponse:
    """What a service in a sandbox answered. Its body is read when it is asked for: read it, or close the response.

    Attributes:
        status: the HTTP status, whatever it is: an answer of the service is no error.
        headers: by name in lower case; the values of one that came several times are joined by ``, ``.
        raw_headers: all of them, in order, names as sent.
    """

    def __init__(self, response: AsyncResponse) -> None:
        self._response = response
        self.status = response.status
        self.raw_headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in response.head.headers]
        self.headers: dict[str, str] = {}
        for name, value in self.raw_headers:
            known = self.headers.get(name.lower())
            self.headers[name.lower()] = value if known is None else f"{known}, {value}"

    async def read(self) -> bytes:
        """The whole body; what is left of it after a `stream` that was given up is lost.

        Raises:
            SandboxNetworkError: it broke off.
        """
        try:
            return await self._response.read(None)
        except Broken as error:
            raise _broken(error) from None

    async def text(self) -> str:
        """The whole body as text: UTF-8, U+FFFD for what is none."""
        return (await self.read()).decode("utf-8", "replace")

    async def json(self) -> Any:
        """The whole body, decoded.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(await self.read())

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body in pieces, as they come.

        Raises:
            SandboxNetworkError: it broke off.
        """
        try:
            async for piece in self._response.pieces():
                if piece:
                    yield piece
        except Broken as error:
            raise _broken(error) from None

    async def aclose(self) -> None:
        """Gives up what was not read; the service sees its connection end."""
        self._response.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status}>"


async def fetch(
    client: AsyncClient,
    sandbox_id: str,
    port: int,
    *,
    url: str,
    method: str,
    headers: Headers | None,
    body: Input | None,
) -> AsyncFetchResponse:
    """Sends one request; the arguments are checked here."""
    target = f"/v1/sandboxes/{sandbox_id}/proxy/{port}{check_url(url, port)}"
    lines = check_headers(headers)
    sent: Body
    if body is None or isinstance(body, str | bytes):
        sent = body.encode() if isinstance(body, str) else body or b""
    else:
        sent = _pieces(open_input(body))
    verb = check_method(method)
    response = await client.request(verb, target, sent, lines, repeatable=verb in REPEATABLE, others=True)
    return AsyncFetchResponse(response)


async def _pieces(source: Opened) -> AsyncGenerator[bytes, None]:
    while piece := await read_input(source):
        yield piece


def _broken(error: Broken) -> SandboxNetworkError:
    return SandboxNetworkError(f"the service's answer broke off: {error}")
