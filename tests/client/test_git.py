"""Cloning by both halves of the SDK."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from sandcove import AsyncSandbox, ExecutionTimeoutError, GitCheckout, GitError, GitProgress, PathExistsError, Sandbox
from tests.conftest import MakeSandbox
from tests.remote import NEEDS_GIT, serve

pytestmark = NEEDS_GIT

LOGIN = {"username": "alice", "password": "pass of älice"}


def gone(sandbox: Sandbox, path: str) -> bool:
    return sandbox.exec(f"timeout 10 bash -c 'while test -e {path}; do sleep 0.01; done'").success


def test_a_clone(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox()
    remote = serve(sandbox, **LOGIN)
    expected = GitCheckout(url=remote.at("open"), branch="trunk", target_dir="/workspace/repo", commit=remote.trunk)
    assert sandbox.git_checkout(remote.at("open")) == expected
    assert sandbox.read_file("repo/file") == "3\n"

    session = sandbox.create_session("work", cwd="/tmp")
    told: list[GitProgress] = []
    done = session.git_checkout(
        remote.at("auth"),
        branch=remote.before,
        target_dir=Path("inner/here"),
        depth=1,
        timeout=60,
        on_progress=told.append,
        username=LOGIN["username"],
        password=LOGIN["password"],
    )
    assert done == GitCheckout(
        url=remote.at("auth"), branch=remote.before, target_dir="/tmp/inner/here", commit=remote.before
    )
    assert ("receiving", 100) in [(progress.phase, progress.percent) for progress in told]

    with pytest.raises(PathExistsError):
        sandbox.git_checkout(remote.at("open"))
    for on_progress in (None, told.append):
        with pytest.raises(GitError, match="no branch, tag or commit 'missing'") as caught:
            sandbox.git_checkout(remote.at("open"), branch="missing", target_dir="x", on_progress=on_progress)
        assert (caught.value.exit_code, caught.value.code) == (128, "GIT_ERROR")
        assert "missing" in caught.value.stderr
        with pytest.raises(ExecutionTimeoutError):
            sandbox.git_checkout(remote.at("open"), target_dir="x", timeout=0.001, on_progress=on_progress)
        assert not sandbox.exists("x")


def test_a_callback_that_fails_ends_the_clone(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox()
    remote = serve(sandbox, **LOGIN)

    def fail(progress: GitProgress) -> None:
        raise ZeroDivisionError

    # It is not done by then: git waits for a hook of its user's that does not end.
    sandbox.write_file("/root/template/hooks/post-checkout", "#!/bin/sh\nexec sleep 1001\n", mode=0o755)
    sandbox.exec("git config --global init.templateDir /root/template")
    with pytest.raises(ZeroDivisionError):
        sandbox.git_checkout(remote.at("open"), on_progress=fail)
    assert gone(sandbox, "repo")
    assert sandbox.exec("timeout 5 pidwait -f '^sleep 1001'; pgrep -f '^sleep 1001'").stdout == ""


async def test_a_task_that_is_cancelled_ends_the_clone(home: Path) -> None:
    async with AsyncSandbox() as sandbox:
        await sandbox.exec("git init -q --bare repo.git; mkfifo arrived")
        # A transport that never answers: git itself waits for it.
        await sandbox.exec("git config --global core.sshCommand 'echo > /workspace/arrived; sleep 1001; :'")
        for on_progress in (None, print):
            cloning = asyncio.ensure_future(
                sandbox.git_checkout("git@host:repo", target_dir="cloned", on_progress=on_progress)
            )
            assert (await sandbox.exec("cat arrived", timeout=20)).success
            assert await sandbox.exists("cloned")
            cloning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await cloning
            assert (await sandbox.exec("timeout 10 bash -c 'while test -e cloned; do sleep 0.01; done'")).success
            assert (await sandbox.exec("timeout 5 pidwait -f '^sleep 1001'; pgrep -x 'sleep|git'")).stdout == ""
