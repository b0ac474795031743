"""What git and a remote say, and what is made of it: progress, refs, and what to fetch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.agent.checkout import ALL, Plan, plan_fetch, read_refs
from sandcove.agent.complaint import complaint
from sandcove.agent.progress import KEEP, GitWords, Progress

SAID = (
    b"Cloning into 'x'...\nremote: Enumerating objects: 9, done.        \n"
    b"remote: Counting objects:  33% (3/9)        \rremote: Counting objects: 100% (9/9), done.        \n"
    b"Receiving objects:  50% (4/9), 1.20 MiB | 2.00 MiB/s\rReceiving objects: 100% (9/9), done.\n"
    b"remote: welcome\nUpdating files: 100% (2/2), done.\nfatal: at the end"
)


@given(st.lists(st.integers(0, len(SAID)), max_size=12))
def test_progress_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    words = GitWords()
    ends = [*sorted(cuts), len(SAID)]
    told = [p for start, end in zip([0, *ends[:-1]], ends, strict=True) for p in words.feed(SAID[start:end])]
    last = {progress.phase: progress for progress in told}
    assert list(last) == ["counting", "receiving", "updating"]
    assert last["receiving"] == Progress("receiving", 100, 9, 9)
    assert words.text() == "Cloning into 'x'...\nremote: welcome\nfatal: at the end\n"


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_whatever_is_said_is_bounded(pieces: list[bytes]) -> None:
    words = GitWords()
    for piece in pieces:
        for progress in words.feed(piece * 3000):
            assert 0 <= progress.percent <= 100
    assert len(words.text().encode()) <= 3 * KEEP  # a byte that is no UTF-8 is three then
    assert len(words._line) <= 4096


A, B = "a" * 40, "b" * 40
REFS = {"HEAD": A, "refs/heads/main": A, "refs/heads/x": B, "refs/tags/v1": B, "refs/heads/abcdef0": B}


def test_refs_are_read() -> None:
    said = f"ref: refs/heads/main\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/main\nnonsense\n{B}\trefs/tags/v1\n"
    assert read_refs(said) == ({"HEAD": A, "refs/heads/main": A, "refs/tags/v1": B}, "main")
    assert read_refs(f"{A}\tHEAD\n") == ({"HEAD": A}, None)
    assert read_refs("") == ({}, None)


@pytest.mark.parametrize("name", ["-x", "--upload-pack=x", "a:b", "*", "a b", "", "../x"])
def test_a_remote_can_call_its_branch_no_option(name: str) -> None:
    assert read_refs(f"ref: refs/heads/{name}\tHEAD\n{A}\tHEAD\n") == ({"HEAD": A}, None)


@pytest.mark.parametrize(
    ("branch", "depth", "plan"),
    [
        (None, None, Plan(ALL, "main", "refs/remotes/origin/main")),
        (
            None,
            1,
            Plan(("+refs/heads/main:refs/remotes/origin/main",), "main", "refs/remotes/origin/main", single="main"),
        ),
        ("x", None, Plan(ALL, "x", "refs/remotes/origin/x")),
        ("v1", None, Plan(ALL, None, "refs/tags/v1")),
        ("v1", 3, Plan(("refs/tags/v1:refs/tags/v1",), None, "refs/tags/v1")),
        (B, 1, Plan((B,), None, B, commit=True)),
        (B, None, Plan(ALL, None, B, commit=True)),
        ("bbbbbbb", 1, Plan(ALL, None, "bbbbbbb", commit=True)),
        ("abcdef0", None, Plan(ALL, "abcdef0", "refs/remotes/origin/abcdef0")),
        ("bbb", None, None),
        ("missing", None, None),
    ],
)
def test_what_is_fetched(branch: str | None, depth: int | None, plan: Plan | None) -> None:
    assert plan_fetch(REFS, "main", branch, depth) == plan


def test_what_is_fetched_of_a_remote_without_a_branch_at_its_head() -> None:
    assert plan_fetch({}, None, None, None) == Plan(ALL, None, "")
    assert plan_fetch({}, None, None, 1) == Plan(ALL, None, "")
    assert plan_fetch({"HEAD": A}, None, None, None) == Plan((*ALL, "HEAD"), None, A)
    assert plan_fetch({"HEAD": A}, None, None, 1) == Plan(("HEAD",), None, A)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "username and password"),
        ("remote: x\nfatal: Authentication failed for 'https://h/'", "refused the user name and password"),
        ("fatal: repository 'https://h/x/' not found", "no repository at this URL"),
        ("fatal: '/x' does not appear to be a git repository", "no repository at this URL"),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", "no network but its own loopback"),
        ("fatal: unable to access 'http://h/': Failed to connect to h port 80", "no network but its own loopback"),
        ("fatal: unable to look up h (port 9418) (Name or service not known)", "no network but its own loopback"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", "~/.ssh"),
        ("fatal: transport 'ext' not allowed", "may not use this transport"),
        ("fatal: write error: No space left on device", "disk is full"),
        ("fatal: something new", "exit code 128: fatal: something new"),
        ("", "it said nothing"),
    ],
)
def test_complaints_are_understood(said: str, meant: str) -> None:
    error = complaint("https://h/x", None, said, 128)
    assert meant in str(error) and "https://h/x" in str(error)
    assert (error.stderr, error.exit_code, error.code) == (said, 128, "GIT_ERROR")


def test_a_redirect_away_from_whom_credentials_are_for_is_told() -> None:
    said = "fatal: could not read Username for 'https://other': terminal prompts disabled"
    assert "redirects to https://other" in str(complaint("https://h/x", "https://h", said, 128))
