"""Cloning a repository: what to fetch is decided purely from what the remote has, then git does it step by step.

With credentials all that speaks to the remote runs in a PID namespace of its own and with a ``.git`` that only it
sees: user code can neither look into its processes nor change the configuration that they read. Only when those have
ended and the credentials are gone does ``.git`` become the folder's, and the files are written without them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sandcove.agent.complaint import complaint, no_branch, no_git
from sandcove.agent.files import delete, make_folder
from sandcove.agent.git import (
    PRIVATE,
    SYSTEM_PATH,
    Done,
    Git,
    Secret,
    find_git,
    plain,
    private,
)
from sandcove.agent.init import Init
from sandcove.agent.progress import Progress
from sandcove.agent.sessions import Sessions
from sandcove.errors import GitError, InvalidRequestError, PathExistsError, SandboxError
from sandcove.wire.clock import timestamp
from sandcove.wire.git import CheckoutAnswer, CheckoutRequest
from sandcove.wire.repository import check_branch, check_credentials, check_target, parse_repository

__all__ = ["Checkout", "Plan", "plan_fetch", "read_refs"]

MAX_DEPTH = 2**31 - 1
ALL = ("+refs/heads/*:refs/remotes/origin/*", "refs/tags/*:refs/tags/*")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}", re.ASCII)
_FULL = (40, 64)


class Plan(NamedTuple):
    """What to fetch and what to check out.

    Attributes:
        refspecs: what to fetch, as git writes it.
        branch: the local branch to make, which follows the remote's; None: none is checked out.
        start: what to check out; empty: nothing.
        single: the remote's branch that alone is followed from now on; None: all.
        commit: `start` is a commit's id that the remote has not told: it may be there or not.
    """

    refspecs: tuple[str, ...]
    branch: str | None
    start: str
    single: str | None = None
    commit: bool = False


def read_refs(listed: str) -> tuple[dict[str, str], str | None]:
    """From the words of ``git ls-remote --symref``: each ref's commit, and the branch that the remote's HEAD is.

    The remote says what it likes: a name that could be an option is none.
    """
    refs: dict[str, str] = {}
    head = None
    for line in listed.splitlines():
        value, _, ref = line.partition("\t")
        if value.startswith("ref: refs/heads/") and ref == "HEAD":
            with contextlib.suppress(InvalidRequestError):
                head = check_branch(value.removeprefix("ref: refs/heads/"))
        elif re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", value):
            refs[ref] = value
    return refs, head


def plan_fetch(refs: Mapping[str, str], head: str | None, branch: str | None, depth: int | None) -> Plan | None:
    """What to do to have `branch`; None when the remote can't have it."""
    if branch is None and "HEAD" not in refs:
        return Plan(ALL, None, "")
    if branch is None and head is None:
        return Plan(("HEAD",) if depth else (*ALL, "HEAD"), None, refs["HEAD"])
    name = branch or head or ""
    if branch is None or f"refs/heads/{name}" in refs:
        ref = f"refs/remotes/origin/{name}"
        return Plan((f"+refs/heads/{name}:{ref}",), name, ref, name) if depth else Plan(ALL, name, ref)
    if f"refs/tags/{name}" in refs:
        tag = f"refs/tags/{name}"
        return Plan((f"{tag}:{tag}",) if depth else ALL, None, tag)
    if not _COMMIT.fullmatch(name):
        return None
    commit = name.lower()
    return Plan((commit,) if depth and len(commit) in _FULL else ALL, None, commit, commit=True)


class Checkout:
    """One call: its arguments checked when it is made, done by `run`.

    Args:
        spec: what is wanted.
        sessions: where its session is.
        base_env: the environment that the agent gives to all that runs.
        targets: the folders that other calls are cloning into now.

    Raises:
        InvalidRequestError, SecurityError, SessionNotFoundError.
    """

    def __init__(
        self, spec: CheckoutRequest, sessions: Sessions, base_env: Mapping[str, str], targets: set[str]
    ) -> None:
        repository = parse_repository(spec.repo_url)
        self.url = repository.url
        self._origin = repository.origin
        self._branch = None if spec.branch is None else check_branch(spec.branch)
        self._depth = spec.depth
        if spec.depth is not None and not 0 < spec.depth <= MAX_DEPTH:
            raise InvalidRequestError(
                f"depth is {spec.depth}; give a number of commits over 0, or leave it out for all"
            )
        if spec.timeout is not None and spec.timeout <= 0:
            raise InvalidRequestError(f"timeout is {spec.timeout} ms; give more than 0, or leave it out for no limit")
        self.timeout = spec.timeout
        self._credentials = repository.credentials
        if spec.credentials is not None:
            if self._credentials is not None:
                raise InvalidRequestError("there are credentials in the URL and beside it; give them once")
            if self._origin is None:
                raise InvalidRequestError(
                    "username and password are for http and https URLs; ssh has its keys in the sandbox's ~/.ssh"
                )
            self._credentials = check_credentials(spec.credentials.username, spec.credentials.password)
        self._session = session = sessions.get(spec.session_id)
        self._confines = sessions.confines
        self._base_env = base_env
        target = check_target(repository.name if spec.target_dir is None else spec.target_dir)
        self.target = os.path.normpath(session.resolve(target))
        try:
            self.target.encode()
        except UnicodeEncodeError:
            raise InvalidRequestError(
                "the session's folder has a name that is no UTF-8; give an absolute target"
            ) from None
        self._targets = targets
        self.stderr = ""

    async def run(self, on_progress: Callable[[Progress], None]) -> CheckoutAnswer:
        """Clones. When it fails or is cancelled, nothing of it runs on, and the folder is as it was.

        Raises:
            GitError, PathExistsError, FileSystemError.
        """
        made = self._make_target()
        self._targets.add(self.target)
        try:
            name, commit = await self._clone(on_progress)
        except BaseException:
            await asyncio.to_thread(self._remove_target, made)
            raise
        finally:
            self._targets.discard(self.target)
        return CheckoutAnswer(
            success=True,
            stdout="",
            stderr=self.stderr,
            exit_code=0,
            repo_url=self.url,
            branch=name,
            target_dir=self.target,
            timestamp=timestamp(),
            commit=commit,
        )

    def failed(self, error: GitError) -> CheckoutAnswer:
        """The answer for a clone that git could not make."""
        return CheckoutAnswer(
            success=False,
            stdout="",
            stderr=error.stderr,
            exit_code=error.exit_code,
            repo_url=self.url,
            branch=self._branch or "",
            target_dir=self.target,
            timestamp=timestamp(),
            error=error.message,
            code=error.code,
        )

    def _make_target(self) -> bool:
        """Makes the folder; False when it was there, and empty."""
        if self.target not in self._targets:
            if not os.path.lexists(self.target):
                make_folder(self.target, recursive=True)
                return True
            with contextlib.suppress(OSError), os.scandir(self.target) as entries:
                if next(entries, None) is None:
                    return False
        raise PathExistsError(
            f"{self.target} exists and is not an empty folder; name another by target_dir, or delete it first"
        )

    def _remove_target(self, made: bool) -> None:
        with contextlib.suppress(SandboxError, OSError):
            if made:
                delete(self.target, recursive=True)
                return
            with os.scandir(self.target) as entries:
                names = [entry.path for entry in entries]
            for path in names:
                delete(path, recursive=True)

    async def _clone(self, on_progress: Callable[[Progress], None]) -> tuple[str, str | None]:
        """Gives the name of what was checked out, and its commit."""
        settings = plain(await self._session.environment())
        program = find_git(settings.env.get("PATH", SYSTEM_PATH))
        if program is None:
            raise no_git(self.url)
        git = Git(self._session.init, program, settings, self.target, secret=None, on_progress=on_progress)
        if self._credentials is None:
            plan, name = await self._fetch(git)
        else:
            plan, name = await self._fetch_privately(on_progress)
        if not plan.start:
            return name, None
        place = ["-B", plan.branch, "--track"] if plan.branch else ["--detach"]
        await self._do(git, "checkout", "--progress", "--no-recurse-submodules", *place, plan.start, "--")
        commit = (await self._do(git, "rev-parse", "--verify", "HEAD")).stdout.strip()
        return name or commit, commit

    async def _fetch_privately(self, on_progress: Callable[[Progress], None]) -> tuple[Plan, str]:
        assert self._credentials is not None and self._origin is not None
        settings = private(self._base_env, self._origin, f"{self.target}/.git/objects")
        program = find_git(SYSTEM_PATH)
        if program is None:
            raise no_git(self.url)
        make_folder(f"{self.target}/.git", recursive=True)
        secret = Secret(self._credentials)
        try:
            init = Init.start(own_mounts=True, own_run=True, confines=self._confines)
            init.attach()
            try:
                git = Git(init, program, settings, PRIVATE, secret=secret, on_progress=on_progress)
                fetched = await self._fetch(git)
                copied = await git.run(["/bin/cp", "-a", f"{PRIVATE}/.git/.", f"{self.target}/.git/"])
                self._heed(copied)
            finally:
                await init.end()
        finally:
            secret.close()
        return fetched

    async def _fetch(self, git: Git) -> tuple[Plan, str]:
        """Makes ``.git`` with all that is wanted of the remote."""
        await self._do(git, "init", "--quiet", *(() if self._credentials is None else ("--template=",)))
        branch = self._branch
        patterns = ["HEAD"] if branch is None else ["HEAD", f"refs/heads/{branch}", f"refs/tags/{branch}"]
        listed = await self._do(git, "ls-remote", "--symref", "--", self.url, *patterns, remote=True)
        refs, head = read_refs(listed.stdout)
        plan = plan_fetch(refs, head, branch, self._depth)
        if plan is None:
            raise no_branch(self.url, branch or "")
        single = ["-t", plan.single] if plan.single else []
        await self._do(git, "remote", "add", *single, "--", "origin", self.url)
        if plan.commit:
            plan = await self._fetch_commit(git, plan)
        else:
            await self._get(git, plan.refspecs, self._depth)
        if head is not None and (plan.refspecs == ALL or plan.single == head):
            # As `git clone` notes it. It fails, and that is right, when the remote's HEAD is a branch that it lacks.
            await git("remote", "set-head", "origin", head)
        return plan, branch or head or ""

    async def _fetch_commit(self, git: Git, plan: Plan) -> Plan:
        """Fetches a commit that no ref need name: by its id where the remote gives it so, else with everything."""
        full = len(plan.start) in _FULL
        alone = plan.refspecs != ALL
        if not (alone and await self._tried(git, plan)):
            await self._get(git, ALL, None)
        found = await self._resolved(git, plan.start)
        if not found and full and not alone and await self._tried(git, plan):
            found = await self._resolved(git, plan.start)
        if not found:
            raise no_branch(self.url, self._branch or "")
        return plan._replace(start=found)

    async def _tried(self, git: Git, plan: Plan) -> bool:
        depth = [f"--depth={self._depth}"] if self._depth else []
        return (await git(*_FETCH, *depth, "--", "origin", plan.start, remote=True)).exit_code == 0

    async def _resolved(self, git: Git, commit: str) -> str:
        return (await git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")).stdout.strip()

    async def _get(self, git: Git, refspecs: tuple[str, ...], depth: int | None) -> None:
        limit = [f"--depth={depth}"] if depth else []
        done = await self._do(git, *_FETCH, *limit, "--", "origin", *refspecs, remote=True)
        self.stderr += done.stderr

    async def _do(self, git: Git, *arguments: str, remote: bool = False) -> Done:
        return self._heed(await git(*arguments, remote=remote))

    def _heed(self, done: Done) -> Done:
        done = done._replace(stderr=self._without_secrets(done.stderr))
        if done.exit_code != 0:
            origin = None if self._credentials is None else self._origin
            raise complaint(self.url, origin, done.stderr, done.exit_code)
        return done

    def _without_secrets(self, text: str) -> str:
        """A remote may repeat to git what it was told."""
        if self._credentials is None:
            return text
        username, password = self._credentials
        header = base64.b64encode(f"{username}:{password}".encode()).decode()
        return text.replace(header, "***").replace(password or username, "***")


_FETCH = ("fetch", "--progress", "--no-write-fetch-head", "--no-recurse-submodules")
