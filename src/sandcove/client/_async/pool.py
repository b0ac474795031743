"""Connections that wait for their next request."""

from __future__ import annotations

import threading
from collections import OrderedDict

from sandcove.client._async.connection import AsyncConnection, AsyncResponse, Body
from sandcove.client.endpoint import Endpoint, Unreachable

__all__ = ["AsyncPool"]

MOST_IDLE = 128
"""Idle connections kept, to all endpoints together; the one that was used longest ago goes first."""
MOST_IDLE_EACH = 32


class AsyncPool:
    """Opens connections as they are needed and keeps those that can be used again. Threads may share it."""

    def __init__(self) -> None:
        # No lock is held across I/O: it guards the collections alone.
        self._lock = threading.Lock()
        self._idle: OrderedDict[AsyncConnection, None] = OrderedDict()
        self._by_key: dict[object, list[AsyncConnection]] = {}
        self._open: set[AsyncConnection] = set()

    async def request(
        self,
        endpoint: Endpoint,
        method: str,
        target: str,
        body: Body = b"",
        headers: str = "",
        *,
        within: float | None = None,
        silence: float | None = None,
    ) -> AsyncResponse:
        """Sends a request on an idle connection, or a new one, and waits for the head of its response.

        A connection that broke while it was idle is replaced, as long as nothing had been sent. See
        `AsyncConnection.request` for `within` and `silence`.

        Raises:
            Unreachable: no byte was sent.
            Broken: the connection broke after that.
        """
        while connection := self._take(endpoint):
            if connection.stale:
                self._done(connection, False)
                continue
            try:
                return await connection.request(
                    method, target, body, headers, self._done, within=within, silence=silence
                )
            except Unreachable:
                continue
        connection = await AsyncConnection.open(endpoint)
        with self._lock:
            self._open.add(connection)
        return await connection.request(method, target, body, headers, self._done, within=within, silence=silence)

    def forget(self, endpoint: Endpoint) -> None:
        """Closes the idle connections to `endpoint`, which is gone."""
        while connection := self._take(endpoint):
            self._done(connection, False)

    def close(self) -> None:
        """Closes every connection, also those in use."""
        with self._lock:
            connections = list(self._open)
            self._open.clear()
            self._idle.clear()
            self._by_key.clear()
        for connection in connections:
            connection.close()

    def close_in_child(self) -> None:
        """As `close`, right after a fork: another thread may have held the lock, which nobody will release."""
        self._lock = threading.Lock()
        self.close()

    def _take(self, endpoint: Endpoint) -> AsyncConnection | None:
        """The connection to `endpoint` that was used last: the others get the chance to be closed as unused."""
        with self._lock:
            waiting = self._by_key.get(endpoint.key)
            if not waiting:
                return None
            connection = waiting.pop()
            if not waiting:
                del self._by_key[endpoint.key]
            del self._idle[connection]
            return connection

    def _done(self, connection: AsyncConnection, reusable: bool) -> None:
        closing: list[AsyncConnection] = []
        with self._lock:
            if connection not in self._open:
                return  # the pool was closed meanwhile
            if reusable:
                waiting = self._by_key.setdefault(connection.endpoint.key, [])
                waiting.append(connection)
                self._idle[connection] = None
                if len(waiting) > MOST_IDLE_EACH:
                    closing.append(self._drop(waiting[0]))
                elif len(self._idle) > MOST_IDLE:
                    closing.append(self._drop(next(iter(self._idle))))
            else:
                closing.append(connection)
            self._open.difference_update(closing)
        for unused in closing:
            unused.close()

    def _drop(self, connection: AsyncConnection) -> AsyncConnection:
        del self._idle[connection]
        waiting = self._by_key[connection.endpoint.key]
        waiting.remove(connection)
        if not waiting:
            del self._by_key[connection.endpoint.key]
        return connection
