"""Every runtime against the contract."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sandcove.home import Home
from sandcove.runtimes.base import Runtime
from sandcove.runtimes.local.runtime import LocalRuntime
from tests.contract.runtime import CONTRACT, Bench

RUNTIMES: dict[str, Callable[[Home], Runtime]] = {"local": LocalRuntime}


@pytest.mark.parametrize("guarantee", CONTRACT, ids=lambda guarantee: guarantee.__name__)
@pytest.mark.parametrize("kind", RUNTIMES)
def test_contract(capable: None, kind: str, guarantee: Callable[[Bench], Awaitable[None]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    home = Home(folder)
    home.make()

    async def check() -> None:
        runtime = RUNTIMES[kind](home)
        bench = Bench(runtime, folder, lambda: RUNTIMES[kind](home))
        await runtime.start()
        try:
            await guarantee(bench)
        finally:
            await runtime.close()

    try:
        with asyncio.Runner() as runner:
            runner.run(check())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
