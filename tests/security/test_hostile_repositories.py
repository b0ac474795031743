"""Repositories that are an attack on who checks them out: nothing of them runs, nor leaves its folder.

Each is made object by object, since git itself makes no such trees. The control does what the trees say, name by name.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from sandcove import GitError, Sandbox
from tests.remote import NEEDS_GIT
from tests.security.probes import inside

pytestmark = NEEDS_GIT

# A tree is a list of (mode, name, content or tree), in git's order or not.
Tree = list[tuple[str, str, Any]]
FILE, PROGRAM, LINK, FOLDER, COMMIT = "100644", "100755", "120000", "40000", "160000"
HOOK = "#!/bin/sh\ntouch /tmp/pwned\n"
HOOKS: Tree = [(FOLDER, "hooks", [(PROGRAM, "post-checkout", HOOK)])]
CONFIG = '[core]\n\tfsmonitor = touch /tmp/pwned\n\thooksPath = .\n[filter "x"]\n\tsmudge = touch /tmp/pwned\n'


def modules(name: str, url: str, path: str = "x") -> Tree:
    """A submodule that says so of itself."""
    text = f'[submodule "{name}"]\n\tpath = {path}\n\turl = {url}\n'
    return [(FILE, ".gitmodules", text), (COMMIT, "x", "1" * 40)]


TREES: dict[str, Tree] = {
    "a folder .git": [(FOLDER, ".git", HOOKS)],
    "a link .git": [(LINK, ".git", "/tmp/other")],
    "a folder .GIT": [(FOLDER, ".GIT", HOOKS)],
    "a folder git~1": [(FOLDER, "git~1", HOOKS)],
    "a .git with a character that some ignore": [(FOLDER, ".g\u200cit", HOOKS)],
    "the folder above": [(FOLDER, "..", [(FILE, "planted", "x")])],
    "far above": [(FOLDER, "..", [(FOLDER, "..", [(FOLDER, "tmp", [(FILE, "planted", "x")])])])],
    "an absolute name": [(FILE, "/tmp/planted", "x")],
    "a file below a link": [(LINK, "link", "/tmp"), (FOLDER, "link", [(FILE, "planted", "x")])],
    "a hook below a link": [(LINK, "link", ".git"), (FOLDER, "link", HOOKS)],
    "a hook by a link of other case": [(LINK, "Link", ".git/hooks"), (FOLDER, "link", HOOKS)],
    "a file over a link": [(LINK, "a", "/tmp/planted"), (FILE, "a", "x")],
    "a submodule of a name with .. (CVE-2018-11235)": modules("../../../../tmp/planted", "/srv/x"),
    "a submodule that is an option (CVE-2018-17456)": modules("x", "-u./payload", "-x"),
    "a submodule by ext": modules("x", "ext::touch /tmp/pwned"),
    "attributes with a filter": [(FILE, ".gitattributes", "* filter=x\n"), (FILE, "a", "x")],
    "attributes by a link": [(LINK, ".gitattributes", "/tmp/attributes"), (FILE, "a", "x")],
    "modules by a link": [(LINK, ".gitmodules", "/tmp/modules"), (COMMIT, "x", "1" * 40)],
}
MAKE = """
import hashlib, subprocess, zlib
subprocess.run(["git", "init", "-q", "-b", "main", "/workspace/evil"], check=True)
def write(kind, data):
    data = f"{kind} {len(data)}\\0".encode() + data
    name = hashlib.sha1(data).hexdigest()
    os.makedirs(f"/workspace/evil/.git/objects/{name[:2]}", exist_ok=True)
    with open(f"/workspace/evil/.git/objects/{name[:2]}/{name[2:]}", "wb") as file:
        file.write(zlib.compress(data))
    return name
def tree(entries):
    data = b""
    for mode, name, content in entries:
        made = tree(content) if mode == "40000" else content if mode == "160000" else write("blob", content.encode())
        data += f"{mode} {name}".encode() + b"\\0" + bytes.fromhex(made)
    return write("tree", data)
who = "a <a@b> 1 +0000"
commit = write("commit", f"tree {tree(json.loads(args[0]))}\\nauthor {who}\\ncommitter {who}\\n\\nevil\\n".encode())
with open("/workspace/evil/.git/refs/heads/main", "w") as file:
    file.write(commit)
with open("/workspace/evil/.git/config", "a") as file:
    file.write(args[1])
for name in ("post-checkout", "post-upload-pack", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"):
    with open(f"/workspace/evil/.git/hooks/{name}", "w") as file:
        file.write(args[2])
    os.chmod(f"/workspace/evil/.git/hooks/{name}", 0o755)
"""
# As unpacking an archive of the tree would do it.
WRITE = """
os.makedirs("/workspace/naive" if '", ".git", ' in args[0] else "/workspace/naive/.git/hooks")
def write(entries, place):
    for mode, name, content in entries:
        path = f"{place}/{name}" if not name.startswith("/") else name
        if mode == "40000":
            os.makedirs(path, exist_ok=True)
            write(content, path)
        elif mode == "120000":
            os.path.lexists(path) or os.symlink(content, path)
        elif mode != "160000":
            with open(path, "w") as file:
                file.write(content)
            os.chmod(path, int(mode, 8))
write(json.loads(args[0]), "/workspace/naive")
"""
OUTSIDE = ("/tmp/pwned", "/tmp/planted", "/workspace/planted", "/workspace/tmp")


@pytest.fixture(autouse=True)
def _clean(cell: Sandbox) -> Iterator[None]:
    yield
    cell.exec("cd /workspace; rm -rf /workspace/* /tmp/p* /tmp/other /root/.git*")


def _leaks(cell: Sandbox, folder: str) -> list[str]:
    """What came outside of the folder, or runs with git in it."""
    found = [path for path in OUTSIDE if cell.exists(path)]
    git = f"{folder}/.git"
    if cell.exists(git) and cell.stat(git).type != "directory":
        found.append(git)
    hook = f"{git}/hooks/post-checkout"
    return [*found, *([hook] if cell.exists(hook) else [])]


# Where git, told to, does what they say.
BY_GIT = {
    "a submodule by ext": "git -c protocol.ext.allow=always clone -q --recurse-submodules evil naive",
    "attributes with a filter": "git -c filter.x.smudge='tee /tmp/pwned' clone -q evil naive",
}
# Where other file systems, or an older git, would: there is no control.
ELSEWHERE = {
    "a folder .GIT",
    "a folder git~1",
    "a .git with a character that some ignore",
    "a hook by a link of other case",
    "a submodule of a name with .. (CVE-2018-11235)",
    "a submodule that is an option (CVE-2018-17456)",
    "attributes by a link",
    "modules by a link",
}


@pytest.mark.parametrize("what", TREES)
def test_what_a_tree_says_stays_in_its_folder(cell: Sandbox, what: str) -> None:
    words = json.dumps(TREES[what])
    assert inside(cell, MAKE, words, CONFIG, HOOK).reached
    with contextlib.suppress(GitError):
        cell.git_checkout("file:///workspace/evil", target_dir="cloned")
    assert _leaks(cell, "/workspace/cloned") == []
    # Who works on in it runs nothing either.
    cell.exec("git -C cloned status; git -C cloned checkout -f; rm -rf cloned")
    assert _leaks(cell, "/workspace/cloned") == []
    # The control.
    if what in BY_GIT:
        cell.exec(BY_GIT[what])
    elif what not in ELSEWHERE:
        inside(cell, WRITE, words)
    assert bool(_leaks(cell, "/workspace/naive")) == (what not in ELSEWHERE)
