"""Cloning from a real remote: what is checked out, what is told, what is left when it fails or is ended."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import processes
from sandcove import ExecutionTimeoutError, GitError, GitProgress, PathExistsError, Sandbox, Session
from sandcove.errors import InvalidRequestError
from tests.answers import Answer
from tests.remote import NEEDS_GIT, Remote, serve
from tests.server.conftest import ask

pytestmark = NEEDS_GIT

LOGIN: dict[str, Any] = {"username": "alice", "password": "pass-of-alice"}
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def remote(shared: Sandbox) -> Remote:
    return serve(shared, **LOGIN)


@pytest.fixture
def folder(session: Session) -> str:
    """An empty folder, which is the session's working directory."""
    path = f"/workspace/{next(_numbers)}"
    session.exec(f"mkdir {path}; cd {path}")
    return path


@pytest.fixture(params=["open", "auth"])
def login(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A clone without credentials, and one with them: what comes of it is the same."""
    return request.param, (LOGIN if request.param == "auth" else {})


def asked(sandbox: Sandbox, path: str = "/api/git/checkout", **body: Any) -> Answer:
    socket_path = Path(os.environ["SANDCOVE_HOME"], "run", f"{sandbox.id}.sock")
    return ask(socket_path, "POST", path, body, {"content-type": "application/json"})


def git(session: Session, line: str) -> str:
    return session.exec(f"git -C repo {line}", check=True).stdout.strip()


# --- what is checked out ---------------------------------------------------------------------------------


def test_the_default_branch(session: Session, folder: str, remote: Remote, login: tuple[str, dict[str, Any]]) -> None:
    kind, credentials = login
    done = session.git_checkout(remote.at(kind), **credentials)
    assert (done.url, done.branch, done.target_dir, done.commit) == (
        remote.at(kind),
        "trunk",
        f"{folder}/repo",
        remote.trunk,
    )
    assert session.read_file("repo/file") == "3\n"
    assert git(session, "status --short --branch") == "## trunk...origin/trunk"
    assert git(session, "remote get-url origin") == remote.at(kind)
    assert git(session, "rev-parse --abbrev-ref origin/HEAD") == "origin/trunk"
    assert git(session, "branch -r --format='%(refname:lstrip=3)'").split() == ["HEAD", "feature/one", "trunk"]
    assert git(session, "tag").split() == ["heavy", "light"]
    assert git(session, "fsck --strict 2>&1") == ""


def test_a_branch(session: Session, folder: str, remote: Remote, login: tuple[str, dict[str, Any]]) -> None:
    kind, credentials = login
    done = session.git_checkout(remote.at(kind), branch="feature/one", **credentials)
    assert (done.branch, done.commit) == ("feature/one", remote.feature)
    assert git(session, "status --short --branch") == "## feature/one...origin/feature/one"


@pytest.mark.parametrize("want", [("light", None), ("light", 1), ("heavy", None), ("heavy", 1)])
def test_a_tag(
    session: Session,
    folder: str,
    remote: Remote,
    login: tuple[str, dict[str, Any]],
    want: tuple[str, int | None],
) -> None:
    tag, depth = want
    kind, credentials = login
    done = session.git_checkout(remote.at(kind), branch=tag, depth=depth, **credentials)
    assert (done.branch, done.commit) == (tag, remote.trunk)
    assert git(session, "status --short --branch") == "## HEAD (no branch)"
    assert git(session, "rev-list --count HEAD") == ("1" if depth else "3")


@pytest.mark.parametrize("depth", [None, 1])
def test_a_commit(
    session: Session, folder: str, remote: Remote, login: tuple[str, dict[str, Any]], depth: int | None
) -> None:
    kind, credentials = login
    done = session.git_checkout(remote.at(kind), branch=remote.before, depth=depth, **credentials)
    assert (done.branch, done.commit) == (remote.before, remote.before)
    assert git(session, "status --short --branch") == "## HEAD (no branch)"
    assert git(session, "rev-list --count HEAD") == ("1" if depth else "2")


def test_a_short_id_of_a_commit(session: Session, folder: str, remote: Remote) -> None:
    done = session.git_checkout(remote.at("open"), branch=remote.before[:9], depth=1)
    assert (done.branch, done.commit) == (remote.before[:9], remote.before)


@pytest.mark.parametrize("depth", [None, 1])
def test_a_commit_that_no_branch_has(session: Session, folder: str, remote: Remote, depth: int | None) -> None:
    assert session.git_checkout(remote.at("open"), branch=remote.lost, depth=depth).commit == remote.lost
    assert session.read_file("repo/lost") == "lost\n"


def test_a_depth(session: Session, folder: str, remote: Remote, login: tuple[str, dict[str, Any]]) -> None:
    kind, credentials = login
    done = session.git_checkout(remote.at(kind), depth=2, **credentials)
    assert (done.branch, done.commit) == ("trunk", remote.trunk)
    assert git(session, "rev-list --count HEAD") == "2"
    assert git(session, "config remote.origin.fetch") == "+refs/heads/trunk:refs/remotes/origin/trunk"
    assert git(session, "rev-parse --abbrev-ref origin/HEAD") == "origin/trunk"


def test_a_repository_without_commits(session: Session, folder: str, remote: Remote) -> None:
    done = session.git_checkout(remote.at("open", "empty.git"))
    assert (done.branch, done.commit, done.target_dir) == ("", None, f"{folder}/empty")
    assert session.exec("cd empty && git status --short --branch", check=True).stdout.startswith("## No commits yet")


@pytest.mark.parametrize("url", ["/srv/git/repo.git", "file:///srv/git/repo.git", "/srv/work/"])
def test_a_repository_of_the_sandbox(session: Session, folder: str, remote: Remote, url: str) -> None:
    done = session.git_checkout(url, branch="trunk")
    assert done.commit == remote.trunk
    assert done.target_dir == f"{folder}/{'work' if 'work' in url else 'repo'}"


def test_a_head_that_is_no_branch(session: Session, folder: str, remote: Remote) -> None:
    session.exec("git clone -q --mirror /srv/git/repo.git odd.git; git -C odd.git update-ref --no-deref HEAD light")
    for depth in (None, 1):
        done = session.git_checkout(f"file://{folder}/odd.git", target_dir="repo", depth=depth)
        assert (done.branch, done.commit) == (remote.trunk, remote.trunk)
        assert git(session, "status --short --branch") == "## HEAD (no branch)"
        session.delete_file("repo", recursive=True)


# --- where it goes ---------------------------------------------------------------------------------------


def test_a_relative_target_is_the_sessions(session: Session, folder: str, remote: Remote) -> None:
    assert session.git_checkout(remote.at("open"), target_dir="a/b c").target_dir == f"{folder}/a/b c"
    assert session.read_file("a/b c/file") == "3\n"
    session.exec("mkdir here; cd here")
    assert session.git_checkout(remote.at("open"), target_dir=".").target_dir == f"{folder}/here"
    assert session.git_checkout(remote.at("open"), target_dir="~/cloned").target_dir == "/root/cloned"
    session.delete_file("/root/cloned", recursive=True)


def test_a_target_that_is_there(session: Session, folder: str, remote: Remote) -> None:
    session.exec("mkdir empty full; touch full/.hidden file; ln -s nowhere link; mkdir repo; touch repo/mine")
    for target in ("full", "file", "link", None):
        with pytest.raises(PathExistsError, match="not an empty folder"):
            session.git_checkout(remote.at("open"), target_dir=target)
    assert session.exec("find full file repo | sort").stdout.split() == [
        "file",
        "full",
        "full/.hidden",
        "repo",
        "repo/mine",
    ]
    assert session.git_checkout(remote.at("open"), target_dir="empty").commit == remote.trunk


# --- what fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        ("/srv/git/none.git", None, "no repository at this URL"),
        ("open/none.git", None, "no repository at this URL"),
        ("open/repo.git", "missing", "no branch, tag or commit 'missing'"),
        ("open/repo.git", "0" * 40, "no branch, tag or commit"),
        ("auth/repo.git", None, "pass username and password"),
        ("http://127.0.0.1:9/x", None, "can't be reached. A sandbox has no network"),
        ("https://host.invalid/team/x.git", None, "not in the egress of this sandbox"),
        ("git@host.invalid:team/x.git", None, "can't be reached. A sandbox has no network"),
    ],
)
def test_a_failure_says_what_to_do_and_leaves_nothing(
    session: Session, folder: str, remote: Remote, case: tuple[str, str | None, str]
) -> None:
    url, branch, words = case
    session.mkdir("empty")
    where = url if ":" in url or url.startswith("/") else f"{remote.url}/{url}"
    for target in ("repo", "empty"):
        with pytest.raises(GitError) as caught:
            session.git_checkout(where, branch=branch, target_dir=target)
        assert words in str(caught.value)
        assert caught.value.exit_code == 128
        assert caught.value.stderr.strip()
    assert session.exec("ls -A . empty").stdout.split() == [".:", "empty", "empty:"]


def test_wrong_credentials(session: Session, folder: str, remote: Remote) -> None:
    with pytest.raises(GitError, match="refused the user name and password"):
        session.git_checkout(remote.at("auth"), username="alice", password="wrong")
    assert session.list_files() == []


def test_a_sandbox_without_git(home: Path) -> None:
    with Sandbox() as sandbox:
        sandbox.exec("rm -f $(type -ap git)")
        with pytest.raises(GitError, match=r"no git in the sandbox.*apt-get install git") as caught:
            sandbox.git_checkout("https://host.invalid/x")
        assert caught.value.exit_code == 127
        assert sandbox.list_files() == []


def test_a_clone_that_fails_is_an_answer_on_the_wire(shared: Sandbox, remote: Remote) -> None:
    """As in the reference, whose clients look at `success`. What is wrong with the request is an error status."""
    failed = asked(shared, repoUrl=remote.at("open", "none.git"), branch="main", targetDir="/tmp/never")
    told = failed.json
    assert failed.status == 200
    assert (told["success"], told["exitCode"], told["stdout"], told["code"]) == (False, 128, "", "GIT_ERROR")
    assert "not found" in told["stderr"] and "no repository at this URL" in told["error"]
    assert (told["repoUrl"], told["branch"]) == (remote.at("open", "none.git"), "main")
    worked = asked(shared, repoUrl=remote.at("open"), branch="trunk", targetDir="/tmp/wire", sessionId="default").json
    assert (worked["success"], worked["exitCode"], worked["branch"]) == (True, 0, "trunk")
    assert (worked["targetDir"], worked["commit"]) == ("/tmp/wire", remote.trunk)
    assert worked["timestamp"].endswith("Z")
    for body, status, code in (
        ({"repoUrl": remote.at("open"), "targetDir": "/tmp/wire"}, 409, "PATH_EXISTS"),
        ({"repoUrl": "-x"}, 400, "SECURITY"),
        ({"repoUrl": "x"}, 400, "INVALID_REQUEST"),
        ({}, 400, "INVALID_REQUEST"),
        ({"repoUrl": "https://h/x", "depth": 0}, 400, "INVALID_REQUEST"),
        ({"repoUrl": "https://h/x", "timeout": 0}, 400, "INVALID_REQUEST"),
        ({"repoUrl": "https://h/x", "sessionId": "none"}, 404, "SESSION_NOT_FOUND"),
        ({"repoUrl": "https://u:p@h/x", "credentials": {"username": "a"}}, 400, "INVALID_REQUEST"),
        ({"repoUrl": "git@h:x", "credentials": {"username": "a"}}, 400, "INVALID_REQUEST"),
        ({"repoUrl": "https://h/x", "credentials": {}}, 400, "INVALID_REQUEST"),
        ({"repoUrl": "https://h/x", "option": 1}, 400, "INVALID_REQUEST"),
    ):
        for path in ("/api/git/checkout", "/api/git/checkout/stream"):
            answer = asked(shared, path, **body)
            if code == "PATH_EXISTS" and path.endswith("stream"):
                assert '"code":"PATH_EXISTS"' in answer.body.decode()
                continue
            assert (answer.status, answer.json["code"]) == (status, code), body


# --- progress --------------------------------------------------------------------------------------------


def test_progress_is_told(session: Session, folder: str, remote: Remote, login: tuple[str, dict[str, Any]]) -> None:
    kind, credentials = login
    told: list[GitProgress] = []
    session.git_checkout(remote.at(kind), on_progress=told.append, **credentials)
    received = [progress for progress in told if progress.phase == "receiving"]
    assert received and received[-1].percent == 100
    assert received[-1].done == received[-1].total > 5
    assert told[0].phase in ("counting", "compressing", "receiving")


def test_errors_of_a_clone_that_is_watched_are_the_same(session: Session, folder: str, remote: Remote) -> None:
    failures: list[dict[str, Any]] = [{"branch": "missing"}, {"target_dir": ".."}, {"target_dir": "/workspace"}]
    for failing in failures:
        caught = []
        for on_progress in (None, print):
            with pytest.raises((GitError, PathExistsError)) as error:
                session.git_checkout(remote.at("open"), on_progress=on_progress, **failing)
            caught.append((type(error.value), str(error.value), error.value.details.get("stderr")))
        assert caught[0] == caught[1]


# --- its end ---------------------------------------------------------------------------------------------


def arrived(sandbox: Sandbox) -> None:
    """Returns when a clone from /hold waits for what it fetches."""
    assert sandbox.exec("cat /tmp/arrived", timeout=20).stdout == "here\n"


def gits(sandbox: Sandbox) -> list[str]:
    """The gits of a sandbox, also those that its user code can't see, but not the remote's own."""
    found = []
    for pid in processes.of_sandbox(Path(os.environ["SANDCOVE_HOME"]), sandbox.id):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").replace("\0", " ")
            of_the_remote = b"GIT_PROJECT_ROOT=" in Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue  # it has ended meanwhile, or is not ours to look at: the agent
        if Path(line.partition(" ")[0]).name.startswith("git") and not of_the_remote:
            found.append(line)
    return found


def gone(session: Session, path: str) -> bool:
    return session.exec(f"timeout 10 bash -c 'while test -e {path}; do sleep 0.01; done'").success


def test_a_timeout_ends_all_of_it(shared: Sandbox, session: Session, folder: str, remote: Remote) -> None:
    waiting = threading.Thread(target=arrived, args=[shared])
    waiting.start()
    with pytest.raises(ExecutionTimeoutError, match=r"timeout of 1\.5 s"):
        session.git_checkout(remote.at("hold"), timeout=1.5, **LOGIN)
    assert session.list_files(include_hidden=True) == []
    assert gits(shared) == []
    waiting.join(20)
    shared.exec("echo > /tmp/release")
    session.mkdir("empty")
    with pytest.raises(ExecutionTimeoutError):
        session.git_checkout(remote.at("open"), target_dir="empty", timeout=0.001, on_progress=print)
    assert session.exec("ls -A . empty").stdout.split() == [".:", "empty", "empty:"]


@pytest.mark.parametrize("how", list(itertools.product(["", "/stream"], [False, True])))
def test_a_caller_who_leaves_ends_all_of_it(
    shared: Sandbox, session: Session, folder: str, remote: Remote, how: tuple[str, bool]
) -> None:
    stream, with_login = how
    url = remote.at("hold")
    body: dict[str, Any] = {"repoUrl": url, "sessionId": session.id}
    if with_login:
        body["credentials"] = LOGIN
    else:
        # The user's own configuration has the credentials.
        session.exec(f"git config --global http.{remote.url}.extraHeader 'Authorization: {remote.header}'")
    data = json.dumps(body).encode()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(Path(os.environ["SANDCOVE_HOME"], "run", f"{shared.id}.sock")))
        head = f"POST /api/git/checkout{stream} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(data)}\r\n\r\n"
        caller.sendall(head.encode() + data)
        arrived(shared)
        assert session.exists("repo/.git")
        assert [line for line in gits(shared) if "fetch" in line]
    assert gone(session, "repo")
    assert gits(shared) == []
    shared.exec("echo > /tmp/release; rm -f /root/.gitconfig")


def test_of_clones_into_one_folder_at_once_one_is_made(shared: Sandbox, folder: str, remote: Remote) -> None:
    answers: list[int] = []
    together = threading.Barrier(5)

    def clone() -> None:
        together.wait()
        answers.append(asked(shared, repoUrl=remote.at("open"), targetDir=f"{folder}/repo").status)

    threads = [threading.Thread(target=clone) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [200, 409, 409, 409, 409]
    assert shared.exec(f"git -C {folder}/repo rev-parse HEAD").stdout.strip() == remote.trunk


def test_the_users_own_configuration_applies(session: Session, folder: str, remote: Remote) -> None:
    try:
        session.exec(f"git config --global url.{remote.url}/open/.insteadOf https://host.invalid/")
        session.exec("mkdir -p template/hooks; echo 'touch ../ran' > template/hooks/post-checkout")
        session.exec("chmod +x template/hooks/*; git config --global init.templateDir $PWD/template")
        assert session.git_checkout("https://host.invalid/repo.git").commit == remote.trunk
        assert session.exists("ran")
    finally:
        session.delete_file("/root/.gitconfig")


def test_git_has_the_environment_that_the_session_has_exported(session: Session, folder: str, remote: Remote) -> None:
    session.exec("export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url./srv/git/.insteadOf GIT_CONFIG_VALUE_0=https://h/")
    session.exec("export GIT_DIR=/srv/work/.git LC_ALL=de_DE.UTF-8 LANGUAGE=de")
    assert session.git_checkout("https://h/repo.git").commit == remote.trunk
    with pytest.raises(GitError, match="no repository at this URL"):
        session.git_checkout("https://h/none.git")


def test_arguments_that_are_wrong_are_told_before_anything_is_sent(session: Session) -> None:
    for wrong in (
        {"url": 7},
        {"url": ""},
        {"branch": 7},
        {"branch": "a b"},
        {"target_dir": 7},
        {"target_dir": "a\nb"},
        {"depth": 0},
        {"depth": 1.5},
        {"depth": True},
        {"username": 7},
        {"username": "a\nb"},
        {"username": "", "password": ""},
        {"timeout": 0},
        {"timeout": "1"},
        {"on_progress": 7},
        {"url": "https://a:b@host/x", "username": "c"},
    ):
        arguments: dict[str, Any] = {"url": "https://host/x", **wrong}
        with pytest.raises(InvalidRequestError):
            session.git_checkout(arguments.pop("url"), **arguments)


@pytest.fixture(autouse=True)
def _unharmed(shared: Sandbox) -> Iterator[None]:
    yield
    assert gits(shared) == []
