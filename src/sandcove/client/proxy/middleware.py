"""`proxy_to_sandbox`: an ASGI application that answers previews beside what it answers itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sandcove.client._async.io import shared
from sandcove.client.check import check_hostname, wrong
from sandcove.client.endpoint import Endpoint
from sandcove.client.proxy.answer import Receive, Scope, Send, Told, refused
from sandcove.client.proxy.exchange import pass_on
from sandcove.client.proxy.request import Request
from sandcove.client.proxy.ways import Ways
from sandcove.errors import HostUnsupportedError, InvalidRequestError
from sandcove.wire.preview import LONGEST_LABEL, in_host

try:
    from sandcove.client.proxy import socket
except ImportError:  # of websockets
    raise HostUnsupportedError(
        "proxy_to_sandbox needs the package websockets; `pip install 'sandcove[asgi]'` brings it"
    ) from None

__all__ = ["ASGIApp", "proxy_to_sandbox"]

ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def proxy_to_sandbox(
    app: ASGIApp, *, hostname: str = "localhost", url: str | None = None, api_key: str | None = None
) -> ASGIApp:
    """`app`, but that requests for previews, HTTP and WebSocket, go to their sandboxes.

    Those are the ones whose host is ``{port}-{sandbox}-{token}.{hostname}``, whatever its port. `expose_port` with the
    same `hostname` gives such URLs. Everything else is `app`'s, and comes to it as if nothing were around it.

    ``app = proxy_to_sandbox(app)`` goes around any ASGI application, ``app.add_middleware(proxy_to_sandbox)`` into one
    of Starlette's or FastAPI's.

    Args:
        hostname: the domain of previews, such as ``previews.example.com``.
        url, api_key: of the server, as for `Sandbox`.

    Raises:
        InvalidRequestError: an argument is not what it should be.
        HostUnsupportedError: the package `websockets` is missing, which ``sandcove[asgi]`` brings.
    """
    if not callable(app):
        raise wrong("app", "an ASGI application", app)
    for name, value in (("url", url), ("api_key", api_key)):
        if value is not None and not isinstance(value, str):
            raise wrong(name, "a str", value)
    endpoint = Endpoint.server(url, api_key)
    if endpoint.token:
        raise InvalidRequestError("previews are passed on by a key of the server; this is a token of one sandbox")
    if endpoint.tls:
        endpoint.context()
    return _Proxy(app, check_hostname(hostname).domain, endpoint)


class _Proxy:
    def __init__(self, app: ASGIApp, domain: str, endpoint: Endpoint) -> None:
        self._app = app
        self._domain = domain
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        label = self._label(scope) if scope["type"] in ("http", "websocket") else None
        if label is None:
            await self._app(scope, receive, send)
            return
        ways = await shared(("previews", self._endpoint.key), lambda: Ways(self._endpoint))
        extensions = scope.get("extensions") or {}
        try:
            if scope["type"] == "websocket":
                await socket.pass_on(scope, Request(scope, label), receive, send, ways)
            else:
                hints = "http.response.early_hint" in extensions
                await pass_on(Request(scope, label), receive, Told(send), ways, hints=hints)
        except InvalidRequestError as error:
            page = refused(error.message)
            if scope["type"] == "http":
                await Told(send).page(page, None)
            else:
                await socket.refuse(receive, send, page, answers="websocket.http.response" in extensions)

    def _label(self, scope: Scope) -> str | None:
        """That of the preview which is asked for. Of several Hosts each is looked at: `Request` refuses them then."""
        for name, value in scope["headers"]:
            if name == b"host" and (label := in_host(value.decode("latin-1"), self._domain)) is not None:
                text = str(label)
                return text if len(text) <= LONGEST_LABEL else None
        return None
