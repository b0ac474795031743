"""The published npm client: git. Its default branch is ``main``."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.e2e.npm.client import ClientError, NpmClient

PORT = 8417
SERVE = f"""
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com
set -e
git init --quiet --initial-branch main /tmp/origin
cd /tmp/origin
echo main >file; git add file; git commit --quiet -m first
git checkout --quiet -b other; echo other >file; git commit --quiet -am second; git checkout --quiet main
git clone --quiet --bare . /tmp/served/origin.git
git --git-dir /tmp/served/origin.git update-server-info
exec python3 -m http.server {PORT} --bind 127.0.0.1 --directory /tmp/served
"""


@pytest.fixture(scope="module")
def repository(npm: NpmClient) -> str:
    """The URL of a repository that a web server in the sandbox has, on its own loopback."""
    npm.startProcess(SERVE, "default", {"processId": "origin"})
    waiting = (
        f"for n in $(seq 200); do (exec 3<>/dev/tcp/127.0.0.1/{PORT}) 2>/dev/null && exit; sleep 0.05; done; exit 1"
    )
    assert npm.exec("default", waiting)["success"], npm.getProcessLogs("origin")
    return f"http://127.0.0.1:{PORT}/origin.git"


def test_a_repository_is_checked_out(npm: NpmClient, session: str, repository: str) -> None:
    answer = npm.gitCheckout(repository, session, None, "clone")
    assert (answer["success"], answer["exitCode"]) == (True, 0)
    assert (answer["repoUrl"], answer["branch"]) == (repository, "main")
    assert PurePosixPath("/workspace", answer["targetDir"]) == PurePosixPath("/workspace/clone")
    assert isinstance(answer["stdout"], str) and isinstance(answer["stderr"], str)
    assert npm.exec(session, "cat clone/file")["stdout"] == "main\n"


def test_another_branch_is_checked_out_to_a_folder_that_the_answer_names(
    npm: NpmClient, session: str, repository: str
) -> None:
    npm.exec(session, "mkdir -p /tmp/elsewhere && cd /tmp/elsewhere")
    answer = npm.gitCheckout(repository, session, "other")
    assert answer["branch"] == "other"
    assert npm.exec(session, f"cat {answer['targetDir']}/file")["stdout"] == "other\n"


@pytest.mark.parametrize("url", ["no url", "-u", "http://127.0.0.1:1/x.git; touch /tmp/pwned", "ext::touch /tmp/pwned"])
def test_what_is_no_repository_s_url_is_an_error(npm: NpmClient, session: str, url: str) -> None:
    with pytest.raises(ClientError):
        npm.gitCheckout(url, session)
    assert not npm.exec(session, "test -e /tmp/pwned")["success"]


def test_a_branch_that_is_not_there_is_told_with_git_s_words(npm: NpmClient, session: str, repository: str) -> None:
    answer = npm.gitCheckout(repository, session, "missing", "clone-of-nothing")
    assert answer["success"] is False
    assert answer["exitCode"] != 0
    assert "missing" in answer["stderr"]
    assert not npm.exec(session, "test -e clone-of-nothing")["success"]
