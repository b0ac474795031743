"""A server short of descriptors keeps some for its callers, and waits for more without a flood in its log."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandcove import Sandbox, ServiceUnavailableError, linux, list_sandboxes
from sandcove.asgi import Listener, application, prepare
from sandcove.linux import BACKLOG
from sandcove.server.agents import AgentConnection, Agents
from tests.server.conftest import Serving, server_pid

pytestmark = pytest.mark.local("the server's process is looked at, and has limits of the test's")


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """This process can open nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_they_are_counted() -> None:
    before = linux.open_files()
    with socket.socket(), socket.socket():
        assert linux.open_files() == before + 2


def test_a_listener_waits_for_them_and_says_so_once(tmp_path: Path) -> None:
    async def attempt() -> None:
        loop = asyncio.get_running_loop()
        complaints: list[dict[str, Any]] = []
        told = asyncio.Event()

        def complain(_: object, context: dict[str, Any]) -> None:
            complaints.append(context)
            told.set()

        loop.set_exception_handler(complain)
        path = str(tmp_path / "socket")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen(BACKLOG)
        listener = Listener(prepare(application([])))
        await listener.start(listening)
        with socket.socket(socket.AF_UNIX) as caller:
            caller.setblocking(False)
            with no_more_descriptors():
                caller.connect(path)
                await told.wait()
                assert len(complaints) == 1
            caller.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                assert (await loop.sock_recv(caller, 100)).startswith(b"HTTP/1.1 404 ")
        assert len(complaints) == 1
        await listener.stop(0)

    asyncio.run(attempt())


def test_rooms_leave_half_of_them(serve: Callable[..., Serving]) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    serving = serve("--sleep-after=0")
    serving.wait_until_it_serves()
    pid = server_pid(serving.home)
    assert resource.prlimit(pid, resource.RLIMIT_NOFILE)[0] == min(hard, linux.MOST_OPEN_FILES)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (200, 200))
    made: list[Sandbox] = []
    with pytest.raises(ServiceUnavailableError, match=r"of the 200 descriptors .*LimitNOFILE"):
        for number in range(20):
            made.append(Sandbox(f"box-{number}"))
            assert made[-1].exec("echo here").stdout == "here\n"
    made.pop()
    assert len(made) > 3
    assert len(os.listdir(f"/proc/{pid}/fd")) < 150
    assert len(list_sandboxes()) == len(made)
    assert made[0].exec("echo still here").stdout == "still here\n"
    for sandbox in made[:3]:
        sandbox.sleep()
    assert Sandbox("another").exec("echo here").stdout == "here\n"


def test_idle_connections_to_all_agents_have_a_bound(tmp_path: Path) -> None:
    async def attempt() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readline():
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        agents = Agents()
        most = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] / 32)
        made: list[AgentConnection] = []

        async def call(number: int) -> None:
            made.append(await agents.request(tmp_path / str(number), "GET", b"\n"))
            await made[-1].receive()
            agents.done(tmp_path / str(number), made[-1])

        async with AsyncExitStack() as stack:
            for number in range(most + 10):
                server = await asyncio.start_unix_server(answer, tmp_path / str(number))
                await stack.enter_async_context(server)
                await call(number)
            assert len(agents) == most
            # What was idle longest has gone, and is had anew.
            await call(0)
            await call(most)
            assert len(agents) == most and len(set(made)) == most + 11
            for connection in made:
                connection.close()
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (640, hard))
    try:
        asyncio.run(attempt())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_log_can_say_it() -> None:
    program = """
import logging, os, resource
from pathlib import Path
from sandcove.server.logs import start_logging
start_logging("text", Path("server.log"))
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
logging.getLogger("sandcove").error("one line\\nand another")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr.endswith(" ERROR sandcove: one line\\nand another\n") and done.stderr.count("\n") == 1
