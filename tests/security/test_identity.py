"""Outside of its room a sandbox's root is nobody: where the server is root, a user of its own for each sandbox."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path

import pytest

from bench import processes
from sandcove import Sandbox, ServiceUnavailableError
from sandcove.home import Home
from sandcove.runtimes.local.identities import Identities, plan_ranges, shift
from sandcove.trees import delete_tree
from tests.security.probes import NEEDS_ROOT

FIRST = 0x70000000
NARROW = 0x7F000000
WHOLE = "         0          0 4294967295\n"


@pytest.fixture(scope="module")
def pair(home: Path) -> Iterator[tuple[Sandbox, Sandbox]]:
    with Sandbox() as first, Sandbox() as second:
        yield first, second


def _owners(home: Path, sandbox: Sandbox) -> set[int]:
    """The real user ids of all of a sandbox's processes."""
    found = set()
    for pid in processes.of_sandbox(home, sandbox.id):
        status = Path(f"/proc/{pid}/status").read_text()
        found |= {int(line.split()[1]) for line in status.splitlines() if line.startswith(("Uid:", "Gid:"))}
    return found


def _host_user(sandbox: Sandbox) -> int:
    isolation = sandbox.info().isolation
    assert isolation is not None
    return int(isolation.host_user)


@NEEDS_ROOT
def test_no_process_of_a_sandbox_is_the_hosts_root(pair: tuple[Sandbox, Sandbox], home: Path) -> None:
    owners = []
    for sandbox in pair:
        sandbox.start_process("sleep 60")
        sandbox.create_session("isolated", isolation=True).exec("true")
        sandbox.run_code("1")
        sandbox.run_code("1", language="javascript")
        (owner,) = _owners(home, sandbox)
        assert owner >= FIRST
        assert _host_user(sandbox) == owner
        assert sandbox.exec("id -u").stdout == "0\n", "inside it is root"
        owners.append(owner)
    assert abs(owners[0] - owners[1]) >= 65536, "and each is another's"


@NEEDS_ROOT
def test_no_process_of_a_sandbox_holds_a_mount_of_the_hosts(fresh_home: Path, tmp_path: Path) -> None:
    """What is mounted while a room is made can be unmounted while it stands."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    try:
        with Sandbox() as sandbox:
            sandbox.exec("true")
            for pid in processes.of_sandbox(fresh_home, sandbox.id):
                assert str(tmp_path) not in Path(f"/proc/{pid}/mountinfo").read_text(), processes.of_home(fresh_home)
            assert str(tmp_path) in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@NEEDS_ROOT
def test_its_files_belong_to_that_user(pair: tuple[Sandbox, Sandbox], home: Path) -> None:
    sandbox, _ = pair
    owner = _host_user(sandbox)
    sandbox.exec(
        "touch /workspace/mine /usr/bin/mine; mkdir /etc/mine; chmod 4755 /workspace/mine; chmod 711 /usr/share"
    )
    sandbox.write_file("/workspace/by-the-agent", "x")
    folder = home / "sandboxes" / sandbox.id
    for path in (
        "root/workspace/mine",
        "root/workspace/by-the-agent",
        "layers/usr/upper/bin/mine",
        "layers/usr/upper/share",
        "layers/etc/upper/mine",
    ):
        status = (folder / path).lstat()
        assert (status.st_uid, status.st_gid) == (owner, owner), path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o711
    assert stat.S_IMODE((home / "sandboxes").stat().st_mode) & 0o077 == 0, "the way to it is shut to that user"


@NEEDS_ROOT
def test_the_hosts_folders_are_the_sandboxs_own_to_change(pair: tuple[Sandbox, Sandbox]) -> None:
    """As apt-get and pip do: their owner is root inside too, by a mapped mount."""
    first, second = pair
    script = (
        "cp /bin/true /usr/bin/new && rm /usr/bin/whoami && chmod 700 /usr/bin/env && mkdir /usr/lib/new && echo done"
    )
    assert first.exec(script).stdout == "done\n"
    assert second.exec("ls /usr/bin/new; ls -l /usr/bin/whoami /usr/bin/env | cut -c1-10").stdout == "-rwxr-xr-x\n" * 2
    assert not os.path.exists("/usr/bin/new") and os.path.exists("/usr/bin/whoami")


@NEEDS_ROOT
def test_a_sandbox_of_an_older_version_gets_its_own_user(fresh_home: Path) -> None:
    """Its files belonged to the server's user."""
    with Sandbox("old") as sandbox:
        sandbox.exec(
            "touch /workspace/a; ln -s /etc/passwd /workspace/link; mkdir -p /workspace/b/c; touch /usr/bin/mine"
        )
        owner = _host_user(sandbox)
        sandbox.sleep()
        host_passwd = os.stat("/etc/passwd").st_uid
        for top in ("root", "layers"):
            for place, folders, files in os.walk(fresh_home / "sandboxes" / "old" / top):
                for path in (place, *(os.path.join(place, name) for name in (*folders, *files))):
                    os.chown(path, 0, 0, follow_symlinks=False)
        listing = sandbox.exec("stat -c '%u %n' /workspace/a /workspace/link /workspace/b/c /usr/bin/mine")
        assert listing.stdout == "0 /workspace/a\n0 /workspace/link\n0 /workspace/b/c\n0 /usr/bin/mine\n"
        again = _host_user(sandbox)
        assert again >= FIRST
        assert (fresh_home / "sandboxes/old/root/workspace/a").stat().st_uid == again
        assert os.stat("/etc/passwd").st_uid == host_passwd, "no link was followed"
        assert owner >= FIRST
        sandbox.destroy()


@NEEDS_ROOT
def test_a_root_folder_that_was_given_away_does_not_move_the_range(fresh_home: Path) -> None:
    """The agent may give its room's root to any user of the range: it must not reach into the next one by that."""
    with Sandbox("moves") as sandbox:
        owner = _host_user(sandbox)
        sandbox.sleep()
        root = fresh_home / "sandboxes" / "moves" / "root"
        os.chown(root, owner + 65535, owner + 65535)
        sandbox.wake()
        assert _host_user(sandbox) == owner
        assert _owners(fresh_home, sandbox) == {owner}
        sandbox.destroy()


@NEEDS_ROOT
def test_owners_of_a_tree_deeper_than_the_stack_are_moved(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(tmp_path)
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        os.mkdir("e", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    try:
        shift(str(top), 70_000)
        assert os.fstat(here).st_uid == 70_000
        assert (top / "link").lstat().st_uid == (top / "e").stat().st_gid == 70_000
        assert tmp_path.stat().st_uid == 0
        shift(str(top), 70_000)
        assert os.fstat(here).st_uid == 70_000, "once is enough"
    finally:
        os.close(here)
        delete_tree(top)


def test_ranges_are_apart_and_what_the_server_can_give() -> None:
    ids = Identities(0, WHOLE)
    taken = [ids.take() for _ in range(500)]
    assert len(set(taken)) == 500 and all(first % 65536 == 0 and FIRST <= first < 2**31 for first in taken)
    assert ids.size == 65536


@pytest.mark.parametrize(
    ("uid_map", "most"), [(f"0 0 {NARROW + 0x100000}\n", 4864), ("0 0 33000\n", 232)], ids=["many", "few"]
)
def test_no_two_sandboxes_share_ids_however_many_there_are(uid_map: str, most: int) -> None:
    ids = Identities(0, uid_map)
    taken: list[int] = []
    with pytest.raises(ServiceUnavailableError, match=f"no user ids are left .*: {most:,} of this server"):
        while True:
            taken.append(ids.take())
    assert len(taken) == most
    lines = [[int(word) for word in line.split()] for first in taken for line in ids.mapping(first).splitlines()]
    parts = sorted((outside, outside + count) for _, outside, count in lines)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(parts))
    ids.give_back(taken[7])
    assert ids.take() == taken[7], "that of a sandbox that is gone, and no other"


@NEEDS_ROOT
def test_a_sandbox_with_few_ids_has_those_that_programs_use(home: Path) -> None:
    """The first 3,840 of a server have more; this one's files are made to say that it came later."""
    with Sandbox("came-late") as sandbox:
        first = _host_user(sandbox)
        assert first < NARROW
        sandbox.sleep()
        folder = Home(home).sandboxes / sandbox.id
        places = [Path(at, name) for at, *names in os.walk(folder) for name in chain(*names)]
        for place in places:
            if (owner := place.lstat().st_uid) >= first:
                os.chown(place, owner - first + NARROW, owner - first + NARROW, follow_symlinks=False)
        lines = [line.split() for line in sandbox.exec("cat /proc/self/uid_map /proc/self/gid_map").stdout.splitlines()]
        assert lines == 2 * [["0", str(NARROW), "1023"], ["65534", str(NARROW + 1023), "1"]]
        assert sandbox.exec("stat -c %u:%g /usr /workspace; python3 -c 'import numpy'").stdout == "0:0\n0:0\n"
        assert _host_user(sandbox) == NARROW
        assert _owners(home, sandbox) == {NARROW}


@pytest.mark.parametrize(
    ("uid", "uid_map", "size"),
    [
        (1000, WHOLE, 0),
        (0, "0 1000 1\n", 0),
        (0, "0 1000 1\n1 100000 65536\n", 1),
        (0, "0 100000 65536\n", 1),
    ],
)
def test_a_server_with_few_ids_gives_few(uid: int, uid_map: str, size: int) -> None:
    ids = Identities(uid, uid_map)
    assert ids.size == size
    if size:
        assert len({ids.take() for _ in range(100)}) == 100
        assert all(0 < first < 65534 for ids in plan_ranges(uid, uid_map) for first in ids)
