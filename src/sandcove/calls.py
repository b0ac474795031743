"""What a call of the wire takes and gives. It is said once, by the signature of the function that answers it:

    async def put_file(self, http: Bytes, query: PutFile) -> Json[FileStored]: ...
    async def execute(self, http: Request, spec: Execute) -> Json[ExecuteAnswer]: ...

A parameter whose type is a body of the wire gets the request's body, one whose type is a `Query` what is in its target;
both are decoded here, and what does not fit is answered 400. The type of `http` says when the body is raw bytes. The
answer's type has its content and its status. `scripts/openapi.py` reads the same signatures, and the docstrings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from sandcove.errors import InvalidRequestError, SandboxError, ServiceUnavailableError, TooLargeError
from sandcove.wire.codec import decode, encode
from sandcove.wire.queries import Query

__all__ = ["MAX_BODY", "Bytes", "Call", "Created", "Json", "Many", "Tar", "Text", "decode_query", "raw_body", "table"]

T = TypeVar("T")
Q = TypeVar("Q", bound=Query)

MAX_BODY = 64 * 1024 * 1024
"""Longest JSON body, in bytes. Larger files go through the streamed routes."""
SMALL_BODY = 256 * 1024
MOST_LARGE = 256 * 1024 * 1024
"""Bytes of all bodies, but those that are small, that are read or answered at one time."""


class _Large:
    """How many there are now, in this process."""

    bytes = 0


_large = _Large()


class Bytes(Request):
    """A request whose body is bytes of any kind."""

    takes = "application/octet-stream"


class Tar(Request):
    """A request whose body is an archive."""

    takes = "application/x-tar"


class Json(Response, Generic[T]):
    """An answer that is one `T`."""

    media_type = "application/json"
    statuses: ClassVar[tuple[int, ...]] = (200,)

    def __init__(self, content: T, status: int = 200) -> None:
        super().__init__(encode(content), status)


class Created(Json[T]):
    """The answer to a call that made what it tells of."""

    statuses = (201,)

    def __init__(self, content: T) -> None:
        super().__init__(content, 201)


class Many(Response, Generic[T]):
    """An answer of any number of `T`, each as JSON; `media_type` says how they follow each other."""

    statuses: ClassVar[tuple[int, ...]] = (200,)


class Text(Response):
    """An answer for people and programs that want no JSON."""

    media_type = "text/plain; version=0.0.4"


json = Json


class Call:
    """One line of an application's table: what answers one method of one path.

    Args:
        do: answers it; see the top of this file.
        fails: the errors that it may answer, beside those that every call of the application may.
    """

    def __init__(
        self,
        method: str,
        path: str,
        do: Callable[..., Awaitable[Response]],
        fails: Iterable[type[SandboxError]] = (),
    ) -> None:
        self.method = method
        self.path = path
        self.do = do
        self.fails = tuple(fails)
        self.longest = MAX_BODY
        self.request: type[Request] = Request
        self.body: type[msgspec.Struct] | None = None
        self.query: type[Query] | None = None
        code = do.__code__
        names = do.__globals__
        for name in code.co_varnames[: code.co_argcount]:
            if name == "self":
                continue
            kind: Any = names[do.__annotations__[name]]
            if issubclass(kind, Request):
                self.request = kind
            elif issubclass(kind, Query):
                self.query = kind
            else:
                self.body = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = self.request(scope, receive, send)
        arguments: list[Any] = []
        target = scope["query_string"]
        try:
            if self.body is not None:
                arguments.append(decode(await raw_body(http, self.longest), self.body))
            if self.query is not None:
                arguments.append(decode_query(target, self.query))
            elif target:
                shown = _shown(target.decode("latin-1"))
                raise InvalidRequestError(f"this call takes no query parameters, not {shown}")
            response = await self.do(http, *arguments)
            await response(scope, receive, send)
        finally:
            _large.bytes -= scope.pop("large_body", 0)


class _ByMethod:
    """What answers a path that takes several methods."""

    def __init__(self, calls: dict[str, Call]) -> None:
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        await self._calls["GET" if method == "HEAD" else method](scope, receive, send)


def table(calls: Sequence[Call | BaseRoute]) -> list[BaseRoute]:
    """Routes, one for each path so that a wrong method is told all that are right, in the order of `calls`."""
    by_path: dict[str, dict[str, Call]] = {}
    for call in calls:
        if isinstance(call, Call):
            by_path.setdefault(call.path, {})[call.method] = call
    routes: list[BaseRoute] = []
    for call in calls:
        if isinstance(call, BaseRoute):
            routes.append(call)
        elif methods := by_path.pop(call.path, None):
            routes.append(Route(call.path, _ByMethod(methods) if len(methods) > 1 else call, methods=list(methods)))
    return routes


async def raw_body(request: Request, longest: int = MAX_BODY) -> bytes:
    """Reads a body whole.

    Raises:
        TooLargeError: it is over `longest`, in bytes.
        ServiceUnavailableError: there are too many large ones at once.
    """
    chunks: list[bytes] = []
    size = counted = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > longest:
            raise TooLargeError(
                f"the request body is over {longest:,} bytes; send files with upload, which streams them"
            )
        if size > SMALL_BODY:
            if _large.bytes + size - counted > MOST_LARGE:
                raise ServiceUnavailableError(
                    f"requests with {MOST_LARGE:,} bytes together are being answered, which is the most; "
                    "call again when one has ended",
                    begun=False,
                    retryAfter=1,
                )
            _large.bytes += size - counted
            counted = request.scope["large_body"] = size
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def decode_query(text: bytes, kind: type[Q]) -> Q:
    """The parameters in a request's target, checked as a body is.

    Raises:
        InvalidRequestError: one is missing, unknown, given twice, or of another type.
    """
    given: dict[str, Any] = {}
    for name, value in parse_qsl(text.decode("latin-1"), keep_blank_values=True):
        if name in kind.several:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise InvalidRequestError(f"the query parameter {_shown(name)} is there twice")
        else:
            given[name] = value
    try:
        found = msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"the query parameters do not fit this call: {error}") from None
    for field, name in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        value = getattr(found, field)
        if name in given and not isinstance(value, str | list) and given[name] not in _spelled(value):
            raise InvalidRequestError(f"the query parameter {name} is {_shown(given[name])}; write it plainly")
    return found


def _spelled(value: object) -> tuple[str, ...]:
    """How a value is written in a query; msgspec takes ``1e3``, ``TRUE`` and ``null`` too."""
    if isinstance(value, bool):
        return ("true", "1") if value else ("false", "0")
    return () if value is None else (str(value),)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
