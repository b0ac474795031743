"""The async SDK driven by sync code, so that one test body is run over both halves of the SDK."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

__all__ = ["Blocking", "blocking"]


class Blocking:
    """An object of the async SDK with the sync SDK's ways: its calls return when they are done.

    What its methods return is wrapped too where it is asynchronous itself (a session, a stream).
    """

    def __init__(self, portal: BlockingPortal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return partial(self._call, value) if callable(value) else self._wrap(value)

    def _call(self, function: Any, /, *args: Any, **options: Any) -> Any:
        given = [_unwrapped(value) for value in args]
        named = {name: _unwrapped(value) for name, value in options.items()}

        async def call() -> Any:
            result = function(*given, **named)
            return await result if inspect.isawaitable(result) else result

        return self._wrap(self._portal.call(call))

    def _wrap(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._wrap(each) for each in value]
        methods = dir(type(value))
        own = type(value).__module__.startswith("sandcove.client")
        has_coroutines = own and any(inspect.iscoroutinefunction(getattr(type(value), name)) for name in methods)
        asynchronous = has_coroutines or "__aiter__" in methods or "__aenter__" in methods
        return Blocking(self._portal, value) if asynchronous else value

    def __iter__(self) -> Iterator[Any]:
        iterator = self._target.__aiter__()
        while True:
            try:
                yield self._call(iterator.__anext__)
            except StopAsyncIteration:
                return

    def __enter__(self) -> Any:
        entered = self._call(self._target.__aenter__)
        return self if isinstance(entered, Blocking) and entered._target is self._target else entered

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return bool(self._call(self._target.__aexit__, kind, error, traceback))


def _unwrapped(value: Any) -> Any:
    return value._target if isinstance(value, Blocking) else value


@contextmanager
def blocking() -> Iterator[BlockingPortal]:
    """An event loop in a thread, for `Blocking` objects."""
    with start_blocking_portal("asyncio") as portal:
        yield portal
