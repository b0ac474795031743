"""The git routes: what is asked, what is answered, and the events of the stream."""

from __future__ import annotations

from typing import Literal

from sandcove.wire.models import DEFAULT_SESSION, Answer, Request

__all__ = ["CheckoutAnswer", "CheckoutEvent", "CheckoutRequest", "LoginRequest", "Phase"]

Phase = Literal["counting", "compressing", "receiving", "resolving", "updating"]
"""What git does: the remote counts and compresses objects, they are received and resolved, files are written."""


class LoginRequest(Request):
    """(ours) whom the remote shall see. Used for this one call, and kept nowhere."""

    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return "LoginRequest(...)"


class CheckoutRequest(Request):
    """``POST /api/git/checkout`` and (ours) ``/api/git/checkout/stream``."""

    repo_url: str
    branch: str | None = None
    """A branch, a tag or a commit's id; without it what the remote's HEAD is."""
    target_dir: str | None = None
    """Without it the repository's name. A relative one starts at the session's working directory."""
    session_id: str = DEFAULT_SESSION
    depth: int | None = None
    """(ours) how many commits of its history."""
    credentials: LoginRequest | None = None
    """(ours) for http and https."""
    timeout: int | None = None
    """(ours) milliseconds."""


class CheckoutAnswer(Answer, omit_defaults=True):
    """A clone that is there; or, with `success` false, one that git could not make, and then no folder is left."""

    success: bool
    stdout: str
    stderr: str
    exit_code: int
    repo_url: str
    """Without user name and password."""
    branch: str
    """What was asked for, or the default branch; the id of the commit when the remote's HEAD is no branch."""
    target_dir: str
    timestamp: str
    commit: str | None = None
    """(ours) the id of the commit; None for a repository without any."""
    error: str | None = None
    """(ours) what failed and what to do."""
    code: str | None = None
    """(ours) the error's code."""


class CheckoutEvent(Answer, omit_defaults=True):
    """(ours) one event of the stream: any of ``progress``, last ``complete`` or ``error``."""

    type: Literal["progress", "complete", "error"]
    timestamp: str
    phase: Phase | None = None
    percent: int | None = None
    done: int | None = None
    """Objects; files when `phase` is ``updating``."""
    total: int | None = None
    result: CheckoutAnswer | None = None
    error: str | None = None
    code: str | None = None
    stderr: str | None = None
    exit_code: int | None = None
