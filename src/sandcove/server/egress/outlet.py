"""The way out of one sandbox: takes its programs' connections, decides, connects, and notes the verdicts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from sandcove.server.egress.addresses import Addresses, AddressRefused
from sandcove.server.egress.connect import connect
from sandcove.server.egress.pace import Pace, Paced
from sandcove.server.egress.passage import Denied, Passage
from sandcove.server.egress.purse import NO_SECRETS, Purse
from sandcove.server.egress.resolve import Resolver
from sandcove.server.egress.share import Descriptors, Share
from sandcove.server.egress.trail import Trail
from sandcove.server.egress.tunnel import Buffer
from sandcove.server.egress.within import Within
from sandcove.wire.clock import timestamp
from sandcove.wire.egress import Policy, is_address, shown
from sandcove.wire.egress_log import EgressEntry, Verdict

if TYPE_CHECKING:
    from ssl import SSLContext

    from sandcove.server.egress.authority import Authority

__all__ = ["Common", "Outlet"]

MOST = 128
"""Connections of a sandbox at once, if the operator has not said otherwise; others wait until one has ended."""
RATE = 500.0
"""Connections a second that are taken, after `BURST` at once; others wait."""
BURST = 500.0
AGAIN = 0.5
"""Seconds until it is looked again whether there are descriptors."""
LOOKED_UP = 8
"""Names of a sandbox that are looked up at once."""

_log = logging.getLogger("sandcove.egress")


class Common:
    """What all outlets share.

    Args:
        rate: bytes a second of each sandbox, both ways together; 0: any number.
        most: connections of each sandbox at once.
        descriptors: of all connections.
    """

    def __init__(
        self,
        ceiling: Policy,
        addresses: Addresses,
        resolver: Resolver,
        *,
        rate: int = 0,
        most: int = MOST,
        descriptors: Descriptors | None = None,
    ) -> None:
        self.rate = rate
        self.most = most
        self.descriptors = descriptors or Descriptors()
        self._trusted: SSLContext | None = None
        self.ceiling = ceiling
        self.addresses = addresses
        self.resolver = resolver
        self.buffer = Buffer()

    def trusted(self) -> SSLContext:
        """How the hosts are checked whose TLS is ended here."""
        if self._trusted is None:
            from sandcove.server.egress.authority import trusted

            self._trusted = trusted()
        return self._trusted


class Outlet:
    """That of one sandbox while it runs.

    Args:
        listener: listens inside; owned.
        purse: its secrets.
        tenant: whose it is.

    Attributes:
        keyring: these, as they are now.
    """

    def __init__(
        self,
        common: Common,
        policy: Policy,
        trail: Trail,
        listener: socket.socket,
        purse: Purse = NO_SECRETS,
        *,
        tenant: str = "local",
    ) -> None:
        self.passages: set[Passage] = set()
        self.trail = trail
        self.buffer = common.buffer
        self._common = common
        self._policy = policy
        self._purse = purse
        self._authority: Authority | None = None
        self.keyring = purse.keyring()
        self.trusted = common.trusted
        self._listener = listener
        self._share: Share = common.descriptors.share(tenant)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking = asyncio.Semaphore(LOOKED_UP)
        self._taken = BURST
        self._at = self._loop.time()
        self._taking = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._pace = Pace(common.rate, self._loop.time) if common.rate else None
        listener.setblocking(False)
        self._take()

    def change(self, policy: Policy) -> None:
        """From now on this holds; connections that it does not allow are cut."""
        self._policy = policy
        for passage in list(self.passages):
            if passage.target is not None and self.refusal(*passage.target) is not None:
                passage.cut()

    def set_secrets(self, purse: Purse) -> None:
        """From now on these are added. What goes unseen to a host whose TLS is ended from now on is cut."""
        if purse.authority != self._purse.authority:
            self._authority = None
        self._purse = purse
        self.keyring = purse.keyring()
        for passage in list(self.passages):
            if passage.tunnels and passage.target is not None and self.keyring.ends_tls(*passage.target):
                passage.cut("there is a secret for this host now")

    def authority(self) -> Authority:
        """Vouches for hosts whose TLS is ended here.

        Raises:
            HostUnsupportedError: a library is missing.
        """
        if self._authority is None:
            from sandcove.server.egress.authority import Authority

            self._authority = Authority(self._purse.authority)
        return self._authority

    def begin_within(self, transport: asyncio.Transport, first: bytes, host: str, port: int, via: str) -> None:
        """The tunnel to this host, over `transport`, ends here."""
        Within(self, host, port, via).begin(transport, first)

    def close(self) -> None:
        """Ends all of it."""
        if self._closed:
            return
        self._closed = True
        self._stop()
        self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        for passage in list(self.passages):
            passage.cut()

    # --- the verdict ---

    @property
    def any_host(self) -> bool:
        """Every host is allowed, on some port."""
        return self._policy.any_host and self._common.ceiling.any_host

    def refusal(self, host: str, port: int) -> str | None:
        """Why a connection is not allowed, whatever the host's addresses are; None if it is."""
        where = shown(host, port)
        if not self._policy.allows(host, port):
            word = shown(host, port if port not in (80, 443) else None)
            return f'{where} is not in the egress of this sandbox ({self._policy}); allow it with egress=["{word}"]'
        if not self._common.ceiling.allows(host, port):
            return f"{where} is beyond this server's egress_ceiling ({self._common.ceiling}), which its operator sets"
        return None

    async def connect(self, host: str, port: int, via: str) -> tuple[socket.socket, EgressEntry]:
        """A connection to what a program asks for.

        Raises:
            Denied: it is refused, or can't be made.
        """
        reason = self.refusal(host, port)
        if reason is not None:
            raise self.denied(host, port, via, reason, refused=True)
        try:
            async with self._looking:
                found = [host] if is_address(host) else await self._common.resolver.addresses(host, self.trail)
        except OSError as error:
            raise self.denied(host, port, via, f"{host} is not found: {error}", refused=False) from None
        good, kinds = [], []
        for address in found:
            try:
                good.append(self._common.addresses.check(address, port))
            except AddressRefused as refused:
                kinds.append(f"{address} ({refused})")
        if not good:
            what = ", ".join(kinds[:3])
            reason = f"{shown(host, port)} is {what}, where no sandbox is let to; its operator can, by egress_private"
            raise self.denied(host, port, via, reason, refused=True)
        try:
            sock = await connect(good, port, self._share.connecting)
            try:
                address = str(sock.getpeername()[0])
            except OSError:  # it has been reset already
                sock.close()
                raise
        except OSError as error:
            reason = f"{shown(host, port)} can't be reached: {error.strerror or error}"
            raise self.denied(host, port, via, reason, refused=False) from None
        return sock, self.note(host, port, via, "allowed", address=address)

    def denied(self, host: str, port: int, via: str, reason: str, *, refused: bool) -> Denied:
        """A verdict, noted."""
        self.note(host, port, via, "refused" if refused else "failed", reason=reason)
        return Denied(reason, refused=refused)

    def note(
        self, host: str, port: int, via: str, verdict: Verdict, *, reason: str = "", address: str = ""
    ) -> EgressEntry:
        """Notes a verdict."""
        entry = EgressEntry(
            time=timestamp(),
            host=host,
            port=port,
            via=via,
            verdict=verdict,
            reason=reason,
            address=address,
            ended=verdict != "allowed",
        )
        self.trail.begin(entry)
        return entry

    # --- connections ---

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with the outlet."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def charge(self, connections: float) -> None:
        """One has taken as much of the server's time as so many others."""
        self._taken -= connections

    def gone(self, passage: Passage) -> None:
        """A connection has ended."""
        self.passages.discard(passage)
        if not self._taking and self._timer is None:
            self._take()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
            _log.error("a fault in the proxy", exc_info=error)

    def _take(self) -> None:
        """Takes connections."""
        self._timer = None
        if not self._closed and not self._taking:
            self._taking = True
            self._loop.add_reader(self._listener.fileno(), self._on_connection)

    def _stop(self, seconds: float | None = None) -> None:
        """Takes none until `seconds` are over, or until `_take`; who comes meanwhile waits in the kernel."""
        if self._taking:
            self._taking = False
            self._loop.remove_reader(self._listener.fileno())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = self._loop.call_later(seconds, self._take)

    def _on_connection(self) -> None:
        now = self._loop.time()
        self._taken = min(BURST, self._taken + (now - self._at) * RATE)
        self._at = now
        if self._taken < 1:
            self._stop(max(0.02, (1 - self._taken) / RATE))
            return
        if len(self.passages) >= self._common.most:
            self._stop()
            return
        if not self._share.may_take():
            self._stop(AGAIN)
            return
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            _log.warning("no connection can be taken: %s", error)
            self._stop(AGAIN)
            return
        self._taken -= 1
        sock.setblocking(False)
        self.spawn(self._begin(self._share.count(sock)))

    async def _begin(self, sock: socket.socket) -> None:
        def protocol() -> asyncio.BaseProtocol:
            return Passage(self) if self._pace is None else Paced(Passage(self), self._pace)

        try:
            await self._loop.connect_accepted_socket(protocol, sock)
        except BaseException:
            sock.close()
            raise
