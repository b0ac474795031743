"""Names to addresses, by the machine's own resolver, in threads; a bounded memory of what it said."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable

__all__ = ["Resolver", "look_up"]

KEPT = 1024
"""Names that are remembered."""
FRESH = 30.0
"""Seconds for which what was found holds."""
MISSED = 3.0
"""Seconds for which it holds that nothing was found."""
AT_ONCE = 64
"""Threads at most."""
PART = 4
"""Who asks may have so much less threads than are free: whatever some ask for, there are threads for others."""
PATIENCE = 15.0
"""Seconds after which nobody waits for an answer any more."""


def look_up(name: str) -> list[str]:
    """All addresses of a name, in the order in which they are to be tried; raises `OSError`."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Resolver:
    """Asks `ask`, which may block, once for all who want the same name at the same time."""

    def __init__(self, ask: Callable[[str], list[str]] = look_up) -> None:
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._known: OrderedDict[str, tuple[float, list[str] | OSError]] = OrderedDict()
        self._asking: dict[str, asyncio.Future[list[str]]] = {}
        self._running: Counter[object] = Counter()

    async def addresses(self, name: str, of: object = None) -> list[str]:
        """Those of a name, for whom asks `of` it: a thread that is not done is counted as his.

        Raises:
            OSError: it has none, or nothing is to be learned now.
        """
        known = self._known.get(name)
        if known is not None and known[0] > self._loop.time():
            if isinstance(known[1], OSError):
                raise known[1]
            return known[1]
        asking = self._asking.get(name)
        if asking is None:
            if self._running[of] * PART >= AT_ONCE - len(self._asking):
                raise OSError("too many names are being looked up")
            self._running[of] += 1
            asking = self._asking[name] = self._loop.create_future()
            asking.add_done_callback(lambda done: self._learn(name, of, done))
            # A daemon: the server's end does not wait for a name server that does not answer.
            threading.Thread(target=self._run, args=(name, asking), name="resolver", daemon=True).start()
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(asking)
        except TimeoutError:
            raise OSError("no name server has answered") from None

    def _run(self, name: str, asking: asyncio.Future[list[str]]) -> None:
        try:
            found: list[str] | OSError = self._ask(name) or OSError("it has no address")
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            found = OSError(reason or "it can't be looked up")
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(_settle, asking, found)

    def _learn(self, name: str, of: object, asking: asyncio.Future[list[str]]) -> None:
        del self._asking[name]
        self._running[of] -= 1
        if not self._running[of]:
            del self._running[of]
        error = asking.exception()
        now = self._loop.time()
        if isinstance(error, OSError):
            self._known[name] = (now + MISSED, error)
        else:
            self._known[name] = (now + FRESH, asking.result())
        self._known.move_to_end(name)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)


def _settle(asking: asyncio.Future[list[str]], found: list[str] | OSError) -> None:
    if isinstance(found, OSError):
        asking.set_exception(found)
    else:
        asking.set_result(found)
