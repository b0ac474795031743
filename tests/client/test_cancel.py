"""A call that is given up ends its command, however it is given up."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sandcove import AsyncSandbox, Sandbox

RUN: dict[str, Callable[..., Any]] = {
    "exec": lambda box, command: box.exec(command),
    "exec with a callback": lambda box, command: box.exec(command, on_stdout=lambda _: None),
    "exec_stream": lambda box, command: list(box.exec_stream(command)),
}
UP = "echo up > /tmp/up; sleep 1001"


@pytest.mark.parametrize("way", RUN)
def test_ctrl_c_ends_the_command(home: object, way: str) -> None:
    with Sandbox() as box:
        watcher = box.create_session("watcher", isolation=False)
        box.exec("mkfifo /tmp/up")

        def interrupt() -> None:
            watcher.exec("cat /tmp/up")
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            RUN[way](box, UP)
        thread.join(20)
        # The session runs one command after the other: this answers when that one has ended.
        assert box.exec("pgrep -x sleep", timeout=20).stdout == ""


@pytest.mark.parametrize("way", ["exec", "exec with a callback", "exec_stream", "exec that waits for its turn"])
def test_cancelling_a_task_ends_its_command(home: object, way: str) -> None:
    async def run(box: AsyncSandbox, command: str) -> None:
        if way == "exec":
            await box.exec(command)
        elif way == "exec with a callback":
            await box.exec(command, on_stdout=lambda _: None)
        else:
            async for _ in box.exec_stream(command):
                pass

    async def main() -> None:
        async with AsyncSandbox() as box:
            watcher = await box.create_session("watcher", isolation=False)
            await box.exec("mkfifo /tmp/up")
            task = asyncio.ensure_future(run(box, UP))
            await watcher.exec("cat /tmp/up")
            if way == "exec that waits for its turn":
                second = asyncio.ensure_future(box.exec("touch /tmp/ran"))
                await watcher.exec("true")
                second.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await second
                # By way of a server its end reaches the agent as soon as a call that is made now.
                await watcher.exec("true")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await box.exec("pgrep -x sleep; ls /tmp/ran 2>/dev/null", timeout=20)).stdout == ""

    asyncio.run(main())


def test_a_time_limit_of_the_caller_s_own_ends_the_command(home: object) -> None:
    async def main() -> None:
        async with AsyncSandbox() as box:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await box.exec("sleep 1001")
            assert (await box.exec("pgrep -x sleep", timeout=20)).stdout == ""

    asyncio.run(main())
