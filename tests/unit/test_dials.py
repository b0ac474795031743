"""What the runtime does with what an agent hands over: an agent that lies, is late or says nothing gets nowhere."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest

from sandcove import linux
from sandcove.errors import ContainerNotReadyError, PortNotListeningError
from sandcove.runtimes.local import dials
from sandcove.runtimes.local.dials import Dials
from sandcove.wire.dial import RESTING, Dial, Dialled
from tests.lingering import LINGER, lingering


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def run(ours: socket.socket, test: Callable[[Dials], Awaitable[None]]) -> None:
    async def main() -> None:
        made = Dials(ours)

        def read() -> None:
            data, fds = linux.receive_fds(ours, 64, linux.MOST_PASSED)
            if not made.on_message(data, fds):
                for fd in fds:
                    os.close(fd)

        asyncio.get_running_loop().add_reader(ours.fileno(), read)
        try:
            await test(made)
        finally:
            asyncio.get_running_loop().remove_reader(ours.fileno())

    asyncio.run(main())


async def asked(theirs: socket.socket) -> Dial:
    dial = Dial.decode(await asyncio.get_running_loop().sock_recv(theirs, 64))
    assert dial is not None
    return dial


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


def test_a_connected_socket_is_what_it_gives(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    one, other = connected()

    async def check(made: Dials) -> None:
        task = asyncio.ensure_future(made.connect(3000, 1.5))
        dial = await asked(theirs)
        assert dial == (1, 3000, 1500)
        socket.send_fds(theirs, [Dialled(1, 0).encode()], [one.fileno()])
        with await task as got:
            # The flag is shared with the agent, which may take it away and the bytes too: nothing here blocks.
            one.setblocking(True)
            for call in (lambda: got.recv(1), lambda: got.recv_into(bytearray(1))):
                with pytest.raises(BlockingIOError):
                    call()
            with pytest.raises(BlockingIOError):
                while True:
                    got.send(bytes(1 << 20))

    with one, other:
        run(ours, check)


def not_connected() -> list[int]:
    return [socket.socket().detach()]


def listening() -> list[int]:
    return [socket.create_server(("127.0.0.1", 0)).detach()]


def a_pipe() -> list[int]:
    read, write = os.pipe()
    os.close(write)
    return [read]


def a_unix_socket() -> list[int]:
    one, other = socket.socketpair()
    other.close()
    return [one.detach()]


def a_datagram_socket() -> list[int]:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", 9))
    return [sock.detach()]


def two_sockets() -> list[int]:
    one, other = connected()
    return [one.detach(), other.detach()]


def nothing() -> list[int]:
    return []


@pytest.mark.parametrize(
    "make",
    [not_connected, listening, a_pipe, a_unix_socket, a_datagram_socket, two_sockets, nothing],
    ids=lambda make: make.__name__,
)
def test_what_is_no_connected_tcp_socket_is_refused(
    pair: tuple[socket.socket, socket.socket], make: Callable[[], list[int]]
) -> None:
    ours, theirs = pair
    before = open_fds()

    async def check(made: Dials) -> None:
        task = asyncio.ensure_future(made.connect(3000, 0))
        dial = await asked(theirs)
        fds = make()
        socket.send_fds(theirs, [Dialled(dial.number, 0).encode()], fds)
        for fd in fds:
            os.close(fd)
        with pytest.raises(PortNotListeningError, match="port 3000"):
            await task

    run(ours, check)
    assert open_fds() == before


@pytest.mark.parametrize("within", [False, True], ids=["itself", "within another"])
@pytest.mark.parametrize("answer", ["made up", "an error", "two"])
def test_a_socket_whose_close_waits_holds_nobody_up(
    pair: tuple[socket.socket, socket.socket], answer: str, within: bool
) -> None:
    ours, theirs = pair
    before = open_fds()

    async def check(made: Dials) -> None:
        task = asyncio.ensure_future(made.connect(3000, 0))
        dial = await asked(theirs)
        with lingering(within=within) as fd:
            number = 77 if answer == "made up" else dial.number
            fds = [fd, theirs.fileno()] if answer == "two" else [fd]
            socket.send_fds(theirs, [Dialled(number, 111 if answer == "an error" else 0).encode()], fds)
            os.close(fd)
            start = time.monotonic()
            theirs.send(Dialled(dial.number, 111).encode())
            with pytest.raises(PortNotListeningError):
                await task
            assert time.monotonic() - start < LINGER / 2

    run(ours, check)
    assert open_fds() == before


@pytest.mark.parametrize("within", [False, True], ids=["itself", "within another"])
def test_what_is_closed_at_once_waits_for_nothing(within: bool) -> None:
    before = open_fds()
    with lingering(within=within) as fd:
        start = time.monotonic()
        linux.close_at_once([fd])
        assert time.monotonic() - start < LINGER / 2
    assert open_fds() == before


def test_errors_are_told_apart_and_made_up_ones_are_survived(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair

    async def answer(made: Dials, error: int) -> Exception:
        task = asyncio.ensure_future(made.connect(3000, 0))
        dial = await asked(theirs)
        theirs.send(Dialled(dial.number, error).encode())
        with pytest.raises((PortNotListeningError, ContainerNotReadyError)) as caught:
            await task
        return caught.value

    async def check(made: Dials) -> None:
        assert "nothing listens" in str(await answer(made, 111))
        assert "timed out" in str(await answer(made, 110))
        assert isinstance(await answer(made, RESTING), ContainerNotReadyError)
        assert "error 123456" in str(await answer(made, 123456))
        assert "error -5" in str(await answer(made, -5))

    run(ours, check)


def test_an_answer_that_nobody_waits_for_is_dropped(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    before = open_fds()
    one, other = connected()

    async def check(made: Dials) -> None:
        task = asyncio.ensure_future(made.connect(3000, 0))
        dial = await asked(theirs)
        for number in (dial.number, dial.number, 77, 0):
            socket.send_fds(theirs, [Dialled(number, 0).encode()], [one.fileno()])
        (await task).close()
        late = asyncio.ensure_future(made.connect(3000, 0))
        dial = await asked(theirs)
        socket.send_fds(theirs, [Dialled(dial.number, 0).encode()], [one.fileno()])
        while not late.done():
            # It has its answer, and is cancelled before it can take it.
            if made._waiting and next(iter(made._waiting.values())).done():
                late.cancel()
            await asyncio.sleep(0)
        assert late.cancelled()

    run(ours, check)
    one.close()
    other.close()
    assert open_fds() == before


def test_a_silent_agent_is_given_up(pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair
    monkeypatch.setattr(dials, "GRACE", 0.05)

    async def check(made: Dials) -> None:
        start = time.monotonic()
        with pytest.raises(ContainerNotReadyError, match="did not connect"):
            await made.connect(3000, 0.05)
        assert time.monotonic() - start < 2
        # Its channel is full, and it reads nothing.
        results = await asyncio.gather(*(made.connect(3000, 0) for _ in range(2000)), return_exceptions=True)
        assert {type(result) for result in results} == {ContainerNotReadyError}

    run(ours, check)
