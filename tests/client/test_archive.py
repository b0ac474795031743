"""Folders as tar streams: what is packed is unpacked, whatever tool wrote it; what is hostile does no harm."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.client.archive import ArchiveReader, Entry
from sandcove.client.pack import pack_folder
from sandcove.client.unpack import Unpacker, _stays_inside
from sandcove.errors import SandboxError, SecurityError


def archive(*members: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as tar:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, type: bytes = tarfile.REGTYPE, target: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = type, target, mode
    return info


def unpack(data: bytes, root: Path, step: int = 1 << 20) -> None:
    unpacker = Unpacker(root)
    try:
        for start in range(0, len(data), step):
            unpacker.feed(data[start : start + step])
        unpacker.finish()
    finally:
        unpacker.close()


def listing(root: Path) -> dict[str, object]:
    """What is below `root`: bytes of files, targets of links, None for folders, with permission bits."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = (None, stat.S_IMODE(path.stat().st_mode))
        else:
            found[name] = (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "deep" / ("d" * 120) / ("e" * 120)).mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "empty").chmod(0o750)
    (root / "big").write_bytes(os.urandom(2_500_000))
    (root / "nothing").touch()
    (root / "ü b\n.txt").write_text("text")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "secret").write_text("s")
    (root / "secret").chmod(0o400)
    (root / "deep" / ("d" * 120) / ("e" * 120) / ("f" * 120)).write_text("far")
    (root / "deep" / "up").symlink_to("../run")
    (root / "broken").symlink_to("not-there")
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9")).write_text("1")
    return root


@pytest.mark.parametrize("step", [7, 512, 5000, 1 << 20])
def test_there_and_back(tree: Path, tmp_path: Path, step: int) -> None:
    unpack(b"".join(pack_folder(str(tree))), tmp_path / "back", step)
    assert listing(tmp_path / "back") == listing(tree)


def test_what_we_pack_others_read(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"".join(pack_folder(str(tree))))
    (tmp_path / "back").mkdir()
    assert os.spawnlp(os.P_WAIT, "tar", "tar", "-xpf", str(tmp_path / "a.tar"), "-C", str(tmp_path / "back")) == 0
    assert listing(tmp_path / "back") == listing(tree)


def test_what_gnu_tar_packs_we_read(tree: Path, tmp_path: Path) -> None:
    os.link(tree / "run", tree / "run-too")
    assert os.spawnlp(os.P_WAIT, "tar", "tar", "-cf", str(tmp_path / "a.tar"), "-C", str(tree), ".") == 0
    unpack((tmp_path / "a.tar").read_bytes(), tmp_path / "back")
    assert listing(tmp_path / "back") == listing(tree)
    assert (tmp_path / "back" / "run").stat().st_ino == (tmp_path / "back" / "run-too").stat().st_ino


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format(tmp_path: Path, format: int) -> None:
    name = "a/" + "b" * 90 + "/" + "c" * 90
    unpack(archive((member(name), b"x"), format=format), tmp_path)
    assert (tmp_path / name).read_bytes() == b"x"


def test_files_in_the_way_are_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    root = tmp_path / "root"
    root.mkdir()
    (root / "kept").write_text("kept")
    (root / "linked").symlink_to(outside)
    os.link(outside, root / "same-inode")
    unpack(archive((member("linked"), b"new"), (member("same-inode"), b"new")), root)
    assert outside.read_text() == "mine"
    assert (root / "linked").read_text() == (root / "same-inode").read_text() == "new"
    assert (root / "kept").read_text() == "kept"


HOSTILE = {
    "absolute": [(member("/tmp/sandcove-escaped"), b"x")],
    "up": [(member("../escaped"), b"x")],
    "up in the middle": [(member("a/../../escaped"), b"x")],
    "a folder up": [member("..", tarfile.DIRTYPE)],
    "through a symlink of its own": [
        member("a", tarfile.SYMTYPE, "b"),
        member("b", tarfile.DIRTYPE),
        (member("a/x"), b"x"),
    ],
    "folder over symlink": [member("a", tarfile.SYMTYPE, "."), member("a", tarfile.DIRTYPE)],
    "through a file": [(member("a"), b"x"), (member("a/x"), b"x")],
    "file over folder": [member("a", tarfile.DIRTYPE), (member("a"), b"x")],
    "hard link out": [member("a", tarfile.LNKTYPE, "../outside")],
    "hard link to an absolute path": [member("a", tarfile.LNKTYPE, "/etc/passwd")],
    "hard link to nothing": [member("a", tarfile.LNKTYPE, "b")],
    "hard link to a symlink": [member("b", tarfile.SYMTYPE, "c"), member("a", tarfile.LNKTYPE, "b")],
    "hard link to the root": [member("a", tarfile.LNKTYPE, ".")],
    "device": [member("a", tarfile.CHRTYPE)],
    "block device": [member("a", tarfile.BLKTYPE)],
    "pipe": [member("a", tarfile.FIFOTYPE)],
    "unknown type": [member("a", b"V")],
    "the root as a file": [(member("."), b"x")],
    "the root as a symlink": [member("./", tarfile.SYMTYPE, "/")],
    "very deep": [(member("a/" * 300 + "x"), b"x")],
}


@pytest.mark.parametrize("members", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_hostile_is_refused(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    (tmp_path / "outside").write_text("mine")
    root = tmp_path / "deep" / "root"
    with pytest.raises(SecurityError):
        unpack(archive(*members), root)
    assert (tmp_path / "outside").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "outside"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["root"]
    assert not Path("/tmp/sandcove-escaped").exists()


@pytest.mark.parametrize(
    ("link", "target"),
    [("a", "/etc/passwd"), ("a", ".."), ("a", "../x"), ("d/a", "../../x"), ("a", "d/../x"), ("a", "d/../../x")],
)
def test_symlinks_that_point_out_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, link: str, target: str
) -> None:
    unpack(archive(member(link, tarfile.SYMTYPE, target), (member("kept"), b"x")), tmp_path / "root")
    assert not (tmp_path / "root" / link).is_symlink()
    assert (tmp_path / "root" / "kept").exists()
    assert "points out of the folder" in caplog.text


def test_setuid_and_owner_are_dropped_and_folders_can_be_changed(tmp_path: Path) -> None:
    owned = member("a", mode=0o6755)
    owned.uid = owned.gid = 12345
    unpack(archive((owned, b"x"), member("d", tarfile.DIRTYPE, mode=0o3000)), tmp_path)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o755
    assert (tmp_path / "a").stat().st_uid == os.getuid()
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700


def test_an_archive_that_is_cut_short_is_an_error(tree: Path, tmp_path: Path) -> None:
    whole = b"".join(pack_folder(str(tree)))
    for keep in (0, 100, 512, 1000, len(whole) // 2, len(whole) - 1024):
        with pytest.raises(SecurityError, match="cut short"):
            unpack(whole[:keep], tmp_path / "back")


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    data = bytearray(archive((member("a"), b"x")))
    data[3] ^= 1
    with pytest.raises(SecurityError, match="checksum"):
        unpack(bytes(data), tmp_path)


def test_an_extended_header_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(SecurityError, match="extended header of"):
        unpack(archive((member("x" * 2_000_000), b"")), tmp_path)


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=9))
def test_rubbish_is_an_error_of_ours_and_harms_nothing(data: bytes, places: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        unpacker = Unpacker(Path(folder) / "root")
        try:
            edges = sorted({min(place, len(data)) for place in places} | {0, len(data)})
            for start, end in pairwise(edges):
                unpacker.feed(data[start:end])
            unpacker.finish()
        except SandboxError:
            pass
        finally:
            unpacker.close()
        assert os.listdir(folder) == ["root"]


@given(st.lists(st.integers(0, 20_000), max_size=30), st.sampled_from([0, 1, 511, 512, 513, 3000]))
def test_any_cut_gives_the_same_entries(places: list[int], size: int) -> None:
    content = bytes(range(256)) * 12
    data = archive(
        (member("a"), content[:size]),
        member("d", tarfile.DIRTYPE),
        (member("d/" + "n" * 200), b"y"),
        (member("e"), b""),
    )
    reader = ArchiveReader()
    edges = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    found: list[tuple[bytes, bytes]] = []
    for start, end in pairwise(edges):
        for part in reader.feed(data[start:end]):
            if isinstance(part, Entry):
                found.append((part.name, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + part)
    reader.finish()
    assert found == [(b"a", content[:size]), (b"d/", b""), (b"d/" + b"n" * 200, b"y"), (b"e", b"")]


PARTS = st.sampled_from(["..", ".", "a", "b", "c"])


@given(
    st.lists(
        st.tuples(
            st.lists(PARTS.filter(lambda p: p not in "..."), min_size=1, max_size=3), st.lists(PARTS, max_size=5)
        ),
        max_size=6,
    )
)
def test_no_set_of_symlinks_that_is_let_in_leads_out(links: list[tuple[list[str], list[str]]]) -> None:
    """Against the kernel's own resolution: every link that was made, followed, ends below the root or nowhere."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "x" / "root"
        root.mkdir(parents=True)
        made = []
        for where, target in links:
            path = root.joinpath(*where)
            if not _stays_inside("/".join(target).encode(), len(where) - 1):
                continue
            try:
                if path.parent.resolve() != path.parent:
                    continue  # the unpacker never makes anything below a symlink
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to("/".join(target))
            except (OSError, RuntimeError):  # something is there, is no folder, or a loop
                continue
            made.append(path)
        for path in made:
            try:
                real = path.resolve()
            except (OSError, RuntimeError):
                continue  # a loop
            assert real == root or root in real.parents
