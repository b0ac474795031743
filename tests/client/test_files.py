"""Files and transfers through the SDK, both halves by one body, in a real sandbox."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest

from sandcove import (
    FileSystemError,
    InvalidRequestError,
    PathExistsError,
    PathNotFoundError,
    Sandbox,
    SecurityError,
)
from tests.conftest import MakeSandbox


@pytest.fixture
def box(make_sandbox: MakeSandbox) -> Sandbox:
    return make_sandbox()


@pytest.mark.parametrize("content", ["", "text", "é\n\n", "x" * 300_000])
def test_text_there_and_back(box: Sandbox, content: str) -> None:
    box.write_file("a/b/file é.txt", content)
    assert box.read_file("/workspace/a/b/file é.txt") == content
    assert box.read_file(PurePosixPath("a/b/file é.txt")) == content


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
def test_bytes_there_and_back(box: Sandbox, size: int) -> None:
    content = os.urandom(size)
    box.write_file("data", content)
    assert box.read_file("data", encoding=None) == content
    assert box.stat("data").size == size


@pytest.mark.parametrize("name", ["a b", "a?b=c&d#e%20", "ü", "-rf", "a\nb", "$(touch x)", "'\"", "\\", "+"])
def test_names_are_only_names(box: Sandbox, name: str) -> None:
    box.write_file(f"names/{name}", name)
    assert [file.name for file in box.list_files("names", include_hidden=True)] == [name]
    assert box.read_file(f"names/{name}") == name
    box.delete_file(f"names/{name}")


def test_what_is_no_text_is_not_replaced(box: Sandbox) -> None:
    box.write_file("data", b"ab\xff")
    with pytest.raises(
        InvalidRequestError, match=r"data is no UTF-8 text \(byte 0xff at 2\); read it with encoding=None"
    ):
        box.read_file("data")


def test_modes(box: Sandbox) -> None:
    box.write_file("run", "#!/bin/sh\necho ran\n", mode=0o755)
    assert box.exec("./run").stdout == "ran\n"
    assert box.stat("run").mode == "rwxr-xr-x"
    box.write_file("run", "#!/bin/sh\necho again\n")
    assert box.exec("./run").stdout == "again\n"
    box.write_file("plain", "x")
    assert box.stat("plain").mode == "rw-r--r--"


def test_folders(box: Sandbox) -> None:
    with pytest.raises(PathNotFoundError):
        box.mkdir("a/b")
    box.mkdir("a/b", recursive=True)
    box.mkdir("a/b", recursive=True)
    with pytest.raises(PathExistsError):
        box.mkdir("a")
    box.write_file("a/b/.hidden", "x")
    box.write_file("a/file", "xyz")
    assert [file.name for file in box.list_files("a")] == ["b", "file"]
    everything = {file.relative_path: file for file in box.list_files("a", recursive=True, include_hidden=True)}
    assert everything.keys() == {"b", "b/.hidden", "file"}
    info = everything["file"]
    assert (info.type, info.size, info.path, info.readable) == ("file", 3, "/workspace/a/file", True)
    assert abs(datetime.now(UTC) - info.modified_at) < timedelta(minutes=1)
    with pytest.raises(FileSystemError):
        box.delete_file("a")
    box.delete_file("a", recursive=True)
    assert not box.exists("a")


def test_rename_and_move(box: Sandbox) -> None:
    box.write_file("one", "1")
    box.rename_file("one", "two")
    box.mkdir("folder")
    box.move_file("two", "folder")
    assert box.read_file("folder/two") == "1"
    with pytest.raises(PathNotFoundError):
        box.rename_file("one", "two")


def test_links_are_told_as_themselves(box: Sandbox) -> None:
    box.exec("ln -s nowhere link", check=True)
    assert box.exists("link")
    assert (box.stat("link").type, box.stat("link").target) == ("symlink", "nowhere")


def test_what_is_not_there(box: Sandbox) -> None:
    assert not box.exists("missing")
    for call in (box.read_file, box.stat, box.delete_file, box.list_files):
        with pytest.raises(PathNotFoundError, match="missing"):
            call("missing")
    with pytest.raises(FileSystemError):
        box.read_file("/workspace")


def test_relative_paths_start_where_the_session_is(box: Sandbox) -> None:
    box.exec("mkdir sub && cd sub")
    box.write_file("here", "x")
    assert box.exists("/workspace/sub/here")
    session = box.create_session("s", cwd="/tmp")
    session.write_file("there", "x")
    assert box.exists("/tmp/there")


# --- transfers ---


def test_a_file_there_and_back(box: Sandbox, tmp_path: Path) -> None:
    data = os.urandom(3_500_000)
    (tmp_path / "in").write_bytes(data)
    (tmp_path / "in").chmod(0o750)
    moved: list[tuple[int, int | None]] = []
    box.upload(tmp_path / "in", "deep/er/data", on_progress=lambda *told: moved.append(told))
    assert moved[-1] == (len(data), len(data))
    assert [done for done, _ in moved] == sorted(done for done, _ in moved)
    assert box.stat("deep/er/data").mode == "rwxr-x---"
    moved.clear()
    box.download("deep/er/data", tmp_path / "out", on_progress=lambda *told: moved.append(told))
    assert moved[-1] == (len(data), len(data))
    assert (tmp_path / "out").read_bytes() == data
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750


def test_an_empty_file_and_an_empty_folder(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    box.upload(tmp_path / "file", "file")
    box.upload(tmp_path / "folder", "folder")
    box.download("file", tmp_path / "file-back")
    box.download("folder", tmp_path / "folder-back")
    assert (tmp_path / "file-back").read_bytes() == b""
    assert list((tmp_path / "folder-back").iterdir()) == []


def test_a_folder_there_and_back(box: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    for n in range(300):
        (tree / "a" / f"{n}.txt").write_text(str(n) * 50)
    (tree / "big").write_bytes(os.urandom(3_000_000))
    (tree / "a" / "b" / "link").symlink_to("../0.txt")
    (tree / ".hidden").write_text("x")
    moved: list[tuple[int, int | None]] = []
    box.upload(tree, "tree", on_progress=lambda *told: moved.append(told))
    assert moved[-1][0] > 3_000_000
    assert moved[-1][1] is None
    assert box.exec("cat tree/a/b/link").stdout == "0" * 50
    box.download("tree", tmp_path / "back")
    for path in tree.rglob("*"):
        back = tmp_path / "back" / path.relative_to(tree)
        if path.is_symlink():
            assert back.readlink() == path.readlink()
        elif path.is_file():
            assert back.read_bytes() == path.read_bytes()
        else:
            assert back.is_dir()


def test_a_link_to_a_file_or_folder_is_followed(box: Sandbox, tmp_path: Path) -> None:
    box.exec("mkdir real && echo x > real/file && ln -s real folder-link && ln -s real/file file-link", check=True)
    box.download("folder-link", tmp_path / "folder")
    box.download("file-link", tmp_path / "file")
    assert (tmp_path / "folder" / "file").read_text() == (tmp_path / "file").read_text() == "x\n"


def test_what_goes_wrong_leaves_nothing_half_done(box: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError, match="missing"):
        box.download("missing", tmp_path / "out")
    box.write_file("file", "x")
    with pytest.raises(InvalidRequestError, match="is a folder; give the path"):
        box.download("file", tmp_path)
    with pytest.raises(InvalidRequestError, match="there is no folder"):
        box.download("file", tmp_path / "no" / "out")
    with pytest.raises(FileSystemError):
        box.upload(tmp_path, "file")
    assert list(tmp_path.iterdir()) == []
    assert box.read_file("file") == "x"


def test_a_callback_that_fails_leaves_nothing_half_done(box: Sandbox, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    box.write_file("data", bytes(5_000_000))
    with pytest.raises(ZeroDivisionError):
        box.download("data", tmp_path / "out", on_progress=fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "in").write_bytes(bytes(5_000_000))
    with pytest.raises(ZeroDivisionError):
        box.upload(tmp_path / "in", "in", on_progress=fail)
    assert not box.exists("in")


def test_a_pipe_in_a_folder_is_refused(box: Sandbox, tmp_path: Path) -> None:
    box.exec("mkdir trap && mkfifo trap/pipe", check=True)
    with pytest.raises(SecurityError, match="named pipe"):
        box.download("trap", tmp_path / "out")
