"""The machine's own network in a room: by `pasta`, a program of the operator's, behind a fence (`fence.py`).

It copies addresses and routes of the host to a device in the room, and opens the host's sockets for what is sent there:
TCP, UDP and echoes, by IPv4 and IPv6. It runs as the room's root, who is nobody on the host where the server is root,
and sees neither processes nor files of the room. Nothing listens on the host for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path

from sandcove import linux
from sandcove.errors import HostUnsupportedError
from sandcove.runtimes.base import Rule
from sandcove.runtimes.local.fence import fence
from sandcove.waiting import read

__all__ = ["RESOLVER", "RoomNetwork", "find_pasta", "has_resolver", "pasta_arguments", "pasta_found"]

RESOLVER = "169.254.1.1"
"""Where a room finds the host's resolver of names, if it has a network: no other host has this address."""
_INSTALL = "install pasta (the package `passt` of Debian, Ubuntu, Fedora and others)"
TIMEOUT = 20.0
"""Seconds until the network must stand."""
_RESOLVER_OPEN = Rule(ip_network(RESOLVER), 53, True)
_ENTER = Path(__file__).with_name("enter_network.py")


def find_pasta() -> str | None:
    """Its path, if it is installed."""
    return shutil.which("pasta")


def pasta_found() -> str:
    """Whether sandboxes can have the machine's own network, for people."""
    found = find_pasta()
    return f"by {found}, where egress_ceiling allows it" if found else f"can't be had; for it, {_INSTALL}"


def has_resolver(text: str) -> bool:
    """Whether a ``resolv.conf`` names a resolver by its IPv4 address."""
    words = (line.split() for line in text.splitlines())
    return any(
        len(line) > 1 and line[0] == "nameserver" and line[1].count(".") == 3 and ":" not in line[1] for line in words
    )


def pasta_arguments(pid: int, *, resolver: bool) -> list[str]:
    """What pasta is told for the room that a process is in: no ports, neither in nor out to the host's loopback.

    Args:
        resolver: the host has one, which pasta finds by itself. Told of it, some versions don't use it for this.
    """
    names = ["--dns-forward", RESOLVER] if resolver else []
    return [
        "--foreground",
        "--quiet",
        "--config-net",
        "--no-map-gw",
        *("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"),
        *("--ns-ifname", "outside"),
        *names,
        *("--pid", "/dev/stdout"),
        "--netns-only",
        *("--netns", f"/proc/{pid}/ns/net"),
    ]


class RoomNetwork:
    """That of one room, off at first.

    Args:
        pid: a process of the room's.
        user: the host's id of the room's root.
        watch: is given a pidfd of each process that runs for it; owned from then on.
        ended: called when it has gone off.
    """

    def __init__(self, pid: int, user: int, watch: Callable[[int], None], ended: Callable[[], None]) -> None:
        self._pid = pid
        self._user = user
        self._watch = watch
        self._ended = ended
        self._open: list[Rule] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._gone: asyncio.Future[None] | None = None

    @property
    def on(self) -> bool:
        return self._process is not None

    async def turn_on(self, rules: Sequence[Rule]) -> None:
        """Returns when the device is there, behind the fence.

        Raises:
            HostUnsupportedError: it can't be had; nothing of it is left.
        """
        program = find_pasta()
        if program is None:
            raise HostUnsupportedError(f"egress 'unfiltered' needs pasta, which the server does not find; {_INSTALL}")
        resolver = False
        with contextlib.suppress(OSError):
            resolver = has_resolver(Path("/etc/resolv.conf").read_text())
        self._open = [_RESOLVER_OPEN] if resolver else []
        await self._run(rules, [program, *pasta_arguments(self._pid, resolver=resolver)])

    async def set_rules(self, rules: Sequence[Rule]) -> None:
        """Returns when the fence of one that is on is the new one.

        Raises:
            HostUnsupportedError: it can't be set; nothing of the network is left.
        """
        await self._run(rules, [])

    async def _run(self, rules: Sequence[Rule], command: list[str]) -> None:
        reads: list[int] = []
        try:
            self._spawn(fence([*self._open, *rules]), command, reads)
            ready, errors = reads
            async with asyncio.timeout(TIMEOUT):
                if await read(ready) and self.on:
                    return
                said = (await read(errors)).decode(errors="replace")
            why = [line for line in said.splitlines() if line and "to syslog" not in line]
            told = " ".join(why[-2:]) or "it just ended"
            if "tun" in told:
                told += "; the server's user must be able to open /dev/net/tun"
            raise HostUnsupportedError(f"pasta gave the sandbox no network: {told}")
        except BaseException as error:
            await self.turn_off()
            if isinstance(error, TimeoutError | OSError):
                raise HostUnsupportedError(f"pasta gave the sandbox no network: {str(error) or 'it hangs'}") from None
            raise
        finally:
            for fd in reads:
                os.close(fd)

    def _spawn(self, messages: bytes, command: list[str], reads: list[int]) -> None:
        """Puts up the fence and, with a command, becomes pasta.

        Args:
            reads: gets what it says when it is done, and its errors.
        """
        passed: list[int] = []
        told: list[int] = []
        try:
            passed.append(os.open(f"/proc/{self._pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC))
            passed.append(os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
            passed.append(linux.sealed_memfd("fence", messages))
            for _ in range(2):
                read, write = os.pipe2(os.O_CLOEXEC)
                reads.append(read)
                told.append(write)
            # Pasta opens it by its path.
            os.fchown(told[0], self._user, -1)
            process = subprocess.Popen(
                [sys.executable, "-IS", str(_ENTER), *map(str, [*passed, os.getpid()]), *command],
                stdin=subprocess.DEVNULL,
                stdout=told[0],
                stderr=told[1],
                pass_fds=passed,
                cwd="/",
                env={},
            )
        finally:
            for fd in (*passed, *told):
                os.close(fd)
        end = os.pidfd_open(process.pid)
        loop = asyncio.get_running_loop()
        if not command:
            loop.add_reader(end, _reap, process, end)
            return
        self._process = process
        self._gone = loop.create_future()
        self._watch(os.pidfd_open(process.pid))
        loop.add_reader(end, self._on_end, end)

    def _on_end(self, pidfd: int) -> None:
        assert self._process is not None and self._gone is not None
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        self._process.wait()
        self._process = None
        self._gone.set_result(None)
        self._ended()

    def kill(self) -> None:
        """It goes off, at once."""
        if self._process is not None:
            self._process.kill()

    async def turn_off(self) -> None:
        """Returns when the device is gone."""
        self.kill()
        if self._process is not None and self._gone is not None:
            await asyncio.shield(self._gone)


def _reap(process: subprocess.Popen[bytes], pidfd: int) -> None:
    asyncio.get_running_loop().remove_reader(pidfd)
    os.close(pidfd)
    process.wait()
