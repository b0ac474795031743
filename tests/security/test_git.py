"""What is given to a clone runs nothing, and credentials that are given for one are found nowhere, then or later."""

from __future__ import annotations

import base64
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import processes
from sandcove import GitCheckout, GitError, Sandbox, Session
from sandcove.errors import InvalidRequestError, PathExistsError, SandboxError
from tests.remote import NEEDS_GIT, Remote, serve
from tests.security.probes import inside
from tests.server.conftest import ask

pytestmark = NEEDS_GIT

PASSWORD = secrets.token_hex(16)


@pytest.fixture(scope="module")
def remote(cell: Sandbox) -> Remote:
    return serve(cell, "alice", PASSWORD)


@pytest.fixture(autouse=True)
def _clean(cell: Sandbox) -> Iterator[None]:
    yield
    cell.exec("cd /workspace; rm -rf /workspace/* /tmp/pwned* /tmp/stolen* /root/.git* /etc/gitconfig")


# --- what is given runs nothing --------------------------------------------------------------------------

SHELL = [
    "$(touch /tmp/pwned)",
    "`touch /tmp/pwned`",
    "; touch /tmp/pwned #",
    "$(touch${IFS}/tmp/pwned)",
    "'\"|touch /x",
]
OPTIONS = ["--upload-pack=touch /tmp/pwned", "-utouch /tmp/pwned", "--config=core.sshCommand=x", "-", "--"]
URLS = [
    *OPTIONS,
    "ext::sh -c 'touch /tmp/pwned'",
    "ext::touch /tmp/pwned",
    "fd::17",
    "ssh://-oProxyCommand=touch%20/tmp/pwned/x",
    "-oProxyCommand=touch /tmp/pwned:x",
    "a@-oProxyCommand=touch:x",
    "git@host:-utouch",
    "http://host/x\n-c core.pager=x",
    "http://host/x\0y",
    "ftp://host/x",
    "../work",
    "",
]


@pytest.mark.parametrize("url", URLS)
def test_hostile_urls_are_refused(cell: Sandbox, remote: Remote, url: str) -> None:
    socket = Path(os.environ["SANDCOVE_HOME"], "run", f"{cell.id}.sock")
    answer = ask(socket, "POST", "/api/git/checkout", {"repoUrl": url})
    assert (answer.status, answer.json["code"]) in ((400, "SECURITY"), (400, "INVALID_REQUEST"))
    with pytest.raises(InvalidRequestError):
        cell.git_checkout(url)
    assert not cell.exists("/tmp/pwned")


@pytest.mark.parametrize("text", [*OPTIONS, *SHELL, "a\nb", "a\0b", "..", "a..b", "@{-1}", "HEAD:file", "^HEAD"])
def test_hostile_branches_do_nothing(cell: Sandbox, remote: Remote, text: str) -> None:
    socket = Path(os.environ["SANDCOVE_HOME"], "run", f"{cell.id}.sock")
    answer = ask(socket, "POST", "/api/git/checkout", {"repoUrl": remote.at("open"), "branch": text})
    assert answer.status == 400 or answer.json["success"] is False
    with pytest.raises((InvalidRequestError, GitError)):
        cell.git_checkout(remote.at("open"), branch=text)
    assert cell.list_files("/workspace", include_hidden=True) == []
    assert not cell.exists("/tmp/pwned")


@pytest.mark.parametrize("text", [*OPTIONS, *SHELL, "a\nb", "a\0b", "", "/proc/1/root/x", "/proc/self/x", "/dev/null"])
def test_hostile_folders_do_nothing(cell: Sandbox, remote: Remote, text: str) -> None:
    socket = Path(os.environ["SANDCOVE_HOME"], "run", f"{cell.id}.sock")
    answer = ask(socket, "POST", "/api/git/checkout", {"repoUrl": remote.at("open"), "targetDir": text})
    if text in SHELL:
        assert answer.json["targetDir"] == f"/workspace/{text}"
        assert cell.read_file(f"/workspace/{text}/file") == "3\n"
    else:
        assert answer.status in (400, 404, 409, 422), answer.body
        with pytest.raises(SandboxError):
            cell.git_checkout(remote.at("open"), target_dir=text)
        assert cell.list_files("/workspace", include_hidden=True) == []
    assert not cell.exists("/tmp/pwned")


def test_paths_in_a_url_are_no_shell_text(cell: Sandbox, remote: Remote) -> None:
    for text in SHELL:
        for url in (f"/srv/{text}", f"file:///srv/{text}", f"{remote.url}/open/{text}"):
            with pytest.raises((GitError, InvalidRequestError)):
                cell.git_checkout(url)
    assert not cell.exists("/tmp/pwned")


def test_a_transport_that_runs_programs_is_not_reached_by_a_detour(cell: Sandbox, remote: Remote) -> None:
    cell.exec("git config --global url.'ext::sh -c touch% /tmp/pwned% '.insteadOf https://host.invalid/")
    cell.exec("git config --global protocol.ext.allow always")
    with pytest.raises(GitError, match="may not use this transport"):
        cell.git_checkout("https://host.invalid/x")
    assert not cell.exists("/tmp/pwned")
    # The control: git by itself goes there.
    cell.exec("git clone https://host.invalid/x")
    assert cell.exists("/tmp/pwned")


# --- credentials are found nowhere -----------------------------------------------------------------------

SEARCH = """
import glob
words = [word.encode() for word in args]
def look(path):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            data = os.pread(fd, 1 << 20, 0)
            if any(word in data for word in words):
                say(path)
    except OSError:
        pass
    finally:
        os.close(fd)
mine = os.getpid()
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != mine:
        for path in (*glob.glob(f"/proc/{pid}/fd/*"), f"/proc/{pid}/environ", f"/proc/{pid}/cmdline"):
            look(path)
for top in ("/run", "/tmp", "/dev/shm", "/workspace", "/root", "/var", "/etc", "/srv"):
    for folder, _, files in os.walk(top):
        for name in files:
            look(f"{folder}/{name}")
"""


def words(remote: Remote) -> list[str]:
    """The password in the forms that it may lie about in."""
    return [PASSWORD, remote.header.removeprefix("Basic "), base64.b64encode(PASSWORD.encode()).decode()[:-4]]


def found(where: Sandbox | Session, remote: Remote) -> list[str]:
    """Where user code sees the password: files, and of each process the arguments, the environment, the open files.

    The words go in reversed, so that the search does not find itself.
    """
    body = f"args = [word[::-1] for word in args]{SEARCH}"
    return inside(where, body, *(word[::-1] for word in words(remote))).said


def on_the_host(home: Path, remote: Remote) -> list[str]:
    """The files of the whole Sandcove folder, its logs and all sandboxes' files, that have the password."""
    has = []
    for folder, _, files in os.walk(home):
        for name in files:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                if any(word.encode() in data for word in words(remote)):
                    has.append(str(path))
    return has


def in_processes(home: Path, sandbox: Sandbox, remote: Remote) -> tuple[list[str], list[str]]:
    """As the host sees them: the sandbox's processes that tell the password, and those that have it in an open file."""
    told, held = [], []
    for pid in processes.of_sandbox(home, sandbox.id):
        place = Path(f"/proc/{pid}")
        try:
            if any(PASSWORD.encode() in (place / name).read_bytes() for name in ("cmdline", "environ")):
                told.append((place / "cmdline").read_text())
            files = [fd for fd in (place / "fd").iterdir() if "memfd:git" in os.readlink(fd)]
            held += [(place / "cmdline").read_text() for fd in files if PASSWORD.encode() in fd.read_bytes()]
        except OSError:
            continue  # it has ended, or is not ours to look at
    return told, held


def test_they_are_not_seen_while_it_clones(cell: Sandbox, remote: Remote, home: Path) -> None:
    isolated = cell.create_session("looks")
    done: list[GitCheckout] = []
    running = threading.Thread(
        target=lambda: done.append(cell.git_checkout(remote.at("hold"), username="alice", password=PASSWORD))
    )
    running.start()
    assert cell.exec("cat /tmp/arrived", timeout=20).stdout == "here\n"
    # Whatever it finds in the folder by then, it must not heed.
    cell.write_file(
        "/workspace/repo/.git/config", "[credential]\n helper = !tee -a /tmp/stolen\n[core]\n hooksPath = /tmp\n"
    )
    try:
        assert found(cell, remote) == []
        assert found(isolated, remote) == []
        assert cell.exec("pgrep -af 'git.*fetch|remote-http'").stdout == ""
        told, held = in_processes(home, cell, remote)
        assert told == []
        if os.geteuid() == 0:
            assert held, "the control: it is in a file of git's that has no name, where the host's root sees it"
        assert on_the_host(home, remote) == []
    finally:
        cell.exec("echo > /tmp/release")
        running.join(30)
        cell.delete_session("looks")
    assert done[0].commit == remote.trunk
    assert "credential" not in cell.read_file("/workspace/repo/.git/config")
    assert not cell.exists("/tmp/stolen")
    # The control: of a clone by user code with the password in its URL the same search finds all.
    held_url = remote.at("hold").replace("//", f"//alice:{PASSWORD}@")
    cell.exec(f"git clone -q {held_url} seen >/dev/null 2>&1 &")
    assert cell.exec("cat /tmp/arrived", timeout=20).stdout == "here\n"
    seen = found(cell, remote)
    assert [path for path in seen if path.endswith("cmdline")]
    cell.exec("echo > /tmp/release; wait; rm -rf seen")


def test_nothing_keeps_them(cell: Sandbox, remote: Remote, home: Path) -> None:
    cell.git_checkout(remote.at("auth"), target_dir="one", username="alice", password=PASSWORD)
    cell.git_checkout(remote.at("auth").replace("//", f"//alice:{PASSWORD}@"), target_dir="two", on_progress=print)
    errors = []
    for kind, branch in (("tell", None), ("away", None), ("lure", None), ("auth", "missing"), ("open", "0" * 40)):
        with pytest.raises(GitError) as caught:
            cell.git_checkout(remote.at(kind), branch=branch, target_dir="three", username="alice", password=PASSWORD)
        errors.append(f"{caught.value} {caught.value.details}")
    with pytest.raises(PathExistsError) as exists:
        cell.git_checkout(remote.at("auth"), target_dir="one", username="alice", password=PASSWORD)
    errors.append(f"{exists.value} {exists.value.details}")
    assert "***" in errors[0], "the remote had repeated it"
    assert not [error for error in errors if any(word in error for word in words(remote))]
    assert cell.exec("git -C one remote get-url origin; git -C two remote get-url origin").stdout.split() == [
        remote.at("auth"),
        remote.at("auth"),
    ]
    assert found(cell, remote) == []
    assert on_the_host(home, remote) == []
    # Nor does git have them any more.
    assert "could not read Username" in cell.exec("GIT_TERMINAL_PROMPT=0 git -C one fetch").stderr
    # The control: the same search finds a file.
    cell.write_file("/workspace/note", PASSWORD)
    assert found(cell, remote) == ["/workspace/note"]
    assert [Path(path).name for path in on_the_host(home, remote)] == ["note"]
    cell.delete_file("/workspace/note")


def test_they_do_not_follow_a_redirect(cell: Sandbox, remote: Remote) -> None:
    for kind in ("away", "lure"):
        cell.delete_file("/tmp/remote.log")
        with pytest.raises(GitError):
            cell.git_checkout(remote.at(kind), username="alice", password=PASSWORD)
        asked = [line.split() for line in remote.requests(cell)]
        assert [line for line in asked if line[0] == str(remote.ports[1])], "it was led there"
        assert not [line for line in asked if line[0] == str(remote.ports[1]) and line[-1] == "told"]
    with pytest.raises(GitError, match=f"redirects to http://127.0.0.1:{remote.ports[1]}"):
        cell.git_checkout(remote.at("away"), username="alice", password=PASSWORD)
    # The control: to whom they are for, they are told.
    cell.git_checkout(f"http://127.0.0.1:{remote.ports[1]}/auth/repo.git", username="alice", password=PASSWORD)
    assert remote.requests(cell)[-1].split()[-1] == "told"


HOSTILE = """
[credential]
    helper = "!tee -a /tmp/stolen-by-helper >/dev/null; echo"
[core]
    askPass = /tmp/steal
    hooksPath = /tmp/hooks
    fsmonitor = /tmp/steal
[init]
    templateDir = /tmp/template
[http]
    proxy = http://127.0.0.1:{port}
    cookieFile = /tmp/stolen-cookies
    saveCookies = true
[filter "steal"]
    smudge = /tmp/steal
[trace2]
    normalTarget = /tmp/stolen-trace2
    eventTarget = /tmp/stolen-event
"""
STEAL = r"""#!/bin/sh
touch /tmp/pwned
cat /proc/[0-9]*/fd/9 /proc/[0-9]*/environ >> /tmp/stolen-by-program 2>/dev/null
exit 0
"""
SET_TRAPS = """
mkdir -p /tmp/hooks /tmp/template/hooks /root/.config/git
for name in post-checkout reference-transaction post-index-change fsmonitor-watchman; do
    cp /tmp/steal /tmp/hooks/$name; cp /tmp/steal /tmp/template/hooks/$name
done
cp -r /tmp/template/hooks/. /usr/share/git-core/templates/hooks/
echo '* filter=steal' | tee /etc/gitattributes > /root/.config/git/attributes
"""


def test_no_configuration_of_user_code_gets_them(cell: Sandbox, remote: Remote) -> None:
    """User code leaves traps wherever git looks: its own and the system's configuration, hooks, the environment."""
    cell.write_file("/tmp/steal", STEAL, mode=0o755)
    cell.exec(SET_TRAPS, check=True)
    config = HOSTILE.replace("{port}", str(remote.ports[1]))
    cell.write_file("/root/.gitconfig", config)
    cell.write_file("/etc/gitconfig", config)
    traps = {
        "GIT_TRACE_CURL": "/tmp/stolen-trace",
        "GIT_TRACE_REDACT": "0",
        "GIT_TRACE2_EVENT": "/tmp/stolen-event",
        "GIT_ASKPASS": "/tmp/steal",
        "SSH_ASKPASS": "/tmp/steal",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "credential.helper",
        "GIT_CONFIG_VALUE_0": "!tee -a /tmp/stolen-by-helper",
        "GIT_PROXY_COMMAND": "/tmp/steal",
        "https_proxy": "http://127.0.0.1:1",
    }
    cell.set_env_vars(traps)
    try:
        cell.git_checkout(remote.at("auth"), username="alice", password=PASSWORD)
        with pytest.raises(GitError):
            cell.git_checkout(remote.at("tell"), target_dir="x", username="alice", password=PASSWORD)
        assert found(cell, remote) == []
        # The control: a git of user code walks into them.
        cell.exec(f"git -c http.proxy= clone {remote.at('auth').replace('//', f'//alice:{PASSWORD}@')} trapped")
        assert {"/tmp/stolen-by-helper", "/tmp/stolen-trace"} <= set(found(cell, remote))
    finally:
        cell.set_env_vars(dict.fromkeys(traps))
        cell.exec("rm -rf /etc/gitattributes /root/.config/git /tmp/hooks /tmp/template /tmp/steal")
        cell.exec(
            "cd /usr/share/git-core/templates/hooks && rm -f post-checkout reference-transaction post-index-change"
        )


MAKE_EVIL = """
git init -q evil && cd evil && git config user.name a && git config user.email a@b
printf '[submodule "x"]\\n path = x\\n url = ext::touch /tmp/pwned\\n' > .gitmodules
echo '* filter=x diff=x' > .gitattributes
git add . && git update-index --add --cacheinfo 160000,$(printf %040d 1),x && git commit -qm evil
"""


def test_a_submodule_and_a_name_in_attributes_run_nothing(cell: Sandbox, remote: Remote) -> None:
    """What a hostile repository itself can say."""
    cell.exec(MAKE_EVIL, check=True, env={"HOME": "/nonexistent"})
    for depth in (None, 1):
        done = cell.git_checkout("file:///workspace/evil", target_dir="cloned", depth=depth)
        assert done.commit
        cell.delete_file("cloned", recursive=True)
    assert not cell.exists("/tmp/pwned")
