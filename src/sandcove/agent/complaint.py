"""What git's complaints mean, and what to do about each."""

from __future__ import annotations

import re

from sandcove.errors import GitError

__all__ = ["complaint", "no_branch", "no_git"]

NO_GIT = 127
"""The exit code of a program that is not there, as shells have it."""

_MEANINGS = {
    "the remote refused the user name and password; check both, and that a token has not expired": (
        r"authentication failed|invalid username or password|http 401|error: 401"
    ),
    (
        "the remote asks for a user name and password: there is no such repository, or it is not public. "
        "Check the URL, or pass username and password (a token, as a rule)"
    ): r"could not read (username|password)|terminal prompts disabled",
    "the remote forbids it; the credentials need the right to read this repository": r"error: 403|http 403",
    (
        "the remote refused the ssh connection; put a key into ~/.ssh of the sandbox and the host into "
        "~/.ssh/known_hosts, or use an https URL with username and password"
    ): r"permission denied \(|host key verification failed|no matching host key",
    "there is no ssh in the sandbox; use an https URL": r"cannot run ssh|ssh: not found|ssh: no such file",
    (
        "the remote's host is not in the egress of this sandbox; allow it with egress= or set_egress, "
        "or clone outside and copy the repository in by upload"
    ): r"connect tunnel failed, response 403",
    (
        "the remote can't be reached. A sandbox has no network but its own loopback and what its egress allows; "
        "check the host and port too, or clone outside and copy the repository in by upload"
    ): (
        r"could not resolve|unable to look up|name or service not known|temporary failure in name|no route to host|"
        r"network is unreachable|failed to connect|couldn't connect|unable to connect|connection (refused|timed out)|"
        r"connect tunnel failed"
    ),
    "the remote's certificate was not accepted; check the URL and the sandbox's ca-certificates": r"ssl|certificate",
    "there is no repository at this URL; check its spelling": (
        r"repository .*not found|does not appear to be a git repository|repository .* does not exist|"
        r"error: 404|not valid: is this a git repository"
    ),
    "the disk is full; delete something, or fetch less by a depth": r"no space left|quota exceeded",
    "the remote redirects elsewhere, and git does not follow; use the URL that it redirects to": r"redirect",
    "git may not use this transport; use an https URL": r"transport '.*' not allowed",
    "git's part for this transport is not installed in the sandbox": r"unable to find remote helper",
}
"""What to do -> what git says then, in lower case. The first that fits counts."""


def complaint(url: str, origin: str | None, stderr: str, exit_code: int) -> GitError:
    """The error for a git that failed at `url`, by what it said.

    Args:
        origin: for whom it had credentials, if it had any.
    """
    said = stderr.lower()
    asked = re.search(r"could not read (?:Username|Password) for '([^']{1,200})'", stderr)
    if origin is not None and asked and asked[1].lower() != origin:
        elsewhere = f"it redirects to {asked[1]}, which credentials for {origin} are not for; use the URL there"
        return GitError(f"{url[:200]} could not be cloned: {elsewhere}", stderr=stderr, exitCode=exit_code)
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "it said nothing")
    otherwise = f"git ended with exit code {exit_code}: {last[:500]}"
    meaning = next((meaning for meaning, pattern in _MEANINGS.items() if re.search(pattern, said)), otherwise)
    return GitError(f"{url[:200]} could not be cloned: {meaning}", stderr=stderr, exitCode=exit_code)


def no_branch(url: str, branch: str) -> GitError:
    """The error for a branch, tag or commit that the remote does not have."""
    return GitError(
        f"{url[:200]} could not be cloned: it has no branch, tag or commit {branch!r}; check its spelling, "
        "or leave it out for the default branch",
        stderr=f"fatal: Remote branch {branch} not found in upstream origin\n",
        exitCode=128,
    )


def no_git(url: str) -> GitError:
    """The error for a sandbox in which there is no git."""
    return GitError(
        f"{url[:200]} could not be cloned: there is no git in the sandbox. Its programs are those of the machine that "
        "it runs on: install git there (Debian and Ubuntu: apt-get install git), and new sandboxes have it",
        stderr="git: not found\n",
        exitCode=NO_GIT,
    )
