"""Many sandboxes alive at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandcove import AsyncSandbox

__all__ = ["AT_ONCE", "answering", "crowd"]

AT_ONCE = 8
"""How many are created at the same time: enough to keep the cores busy."""


@asynccontextmanager
async def crowd(size: int) -> AsyncIterator[list[AsyncSandbox]]:
    """`size` anonymous sandboxes, each of which has answered a command; destroyed when the block ends."""
    from sandcove import AsyncSandbox

    gate = asyncio.Semaphore(AT_ONCE)
    async with AsyncExitStack() as stack:

        async def one() -> AsyncSandbox:
            async with gate:
                sandbox = await stack.enter_async_context(AsyncSandbox())
                result = await sandbox.exec("true")
                assert result.exit_code == 0, result
                return sandbox

        async with asyncio.TaskGroup() as tasks:
            members = [tasks.create_task(one()) for _ in range(size)]
        yield [member.result() for member in members]


async def answering(members: list[AsyncSandbox]) -> int:
    """How many answer a command with what only that command prints."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, sandbox: AsyncSandbox) -> bool:
        async with gate:
            return (await sandbox.exec(f"echo {number}")).stdout == f"{number}\n"

    async with asyncio.TaskGroup() as tasks:
        answers = [tasks.create_task(one(number, sandbox)) for number, sandbox in enumerate(members)]
    return sum(answer.result() for answer in answers)
