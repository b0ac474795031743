"""Archives that are sent to a sandbox, whoever made them: what is in them lands there, never on the host."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from sandcove import Sandbox
from tests.security.probes import NEEDS_ROOT
from tests.server.conftest import ask

Fill = Callable[[tarfile.TarFile, str], None]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, mode
    return made


def file(tar: tarfile.TarFile, name: str, mode: int = 0o644) -> None:
    made = member(name, mode=mode)
    made.size = 7
    tar.addfile(made, io.BytesIO(b"planted"))


def device(tar: tarfile.TarFile, outer: str) -> None:
    made = member(f"{outer}/planted", tarfile.CHRTYPE)
    made.devmajor, made.devminor = 1, 3
    tar.addfile(made)


def through_a_link(tar: tarfile.TarFile, outer: str) -> None:
    tar.addfile(member("link", tarfile.SYMTYPE, outer))
    file(tar, "link/planted")


def over_a_link(tar: tarfile.TarFile, outer: str) -> None:
    tar.addfile(member("own", tarfile.SYMTYPE, f"{outer}/own"))
    file(tar, "own")


def hard_link(tar: tarfile.TarFile, outer: str) -> None:
    tar.addfile(member("linked", tarfile.LNKTYPE, f"{outer}/own"))


# `outer` is a folder of the host, with a file `own` in it.
ARCHIVES: dict[str, Fill] = {
    "an absolute name": lambda tar, outer: file(tar, f"{outer}/planted"),
    "a name that leads upwards": lambda tar, outer: file(tar, f"../../../../../../..{outer}/planted"),
    "a file through a link": through_a_link,
    "a hard link to what is outside": hard_link,
    "a device": device,
    "a pipe": lambda tar, outer: tar.addfile(member(f"{outer}/planted", tarfile.FIFOTYPE)),
    "a program with another's rights": lambda tar, outer: file(tar, f"{outer}/planted", mode=0o6755),
}


def archive(fill: Fill, outer: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        fill(tar, str(outer))
    return buffer.getvalue()


def send(home: Path, sandbox: Sandbox, data: bytes) -> int:
    """To the agent itself: no client looks at it before. Gives the answer's status."""
    return ask(home / "run" / f"{sandbox.id}.sock", "PUT", f"/api/folder?path={quote('/workspace/sent')}", data).status


@NEEDS_ROOT
@pytest.mark.local("it speaks with the agent itself")
@pytest.mark.parametrize("what", ARCHIVES)
def test_what_is_uploaded_lands_in_the_sandbox(cell: Sandbox, home: Path, tmp_path: Path, what: str) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    (outer / "own").write_text("own")
    data = archive(ARCHIVES[what], outer)
    send(home, cell, data)
    assert os.listdir(outer) == ["own"]
    assert ((outer / "own").read_text(), (outer / "own").stat().st_nlink) == ("own", 1)
    assert cell.exec(["sh", "-c", 'find /workspace/sent "$0" -type b -o -type c', str(tmp_path)]).stdout == ""
    cell.exec(["rm", "-rf", "/workspace/sent", str(tmp_path)])
    # The control: what the same archive does on the host.
    (tmp_path / "into").mkdir()
    subprocess.run(["tar", "-P", "-xf", "-", "-C", tmp_path / "into"], input=data, capture_output=True, check=False)
    assert "planted" in os.listdir(outer) or (outer / "own").stat().st_nlink == 2


@pytest.mark.local("it speaks with the agent itself")
def test_a_sparse_file_of_a_petabyte(home: Path) -> None:
    """An old GNU header: one hole, and a byte at its end."""
    made = bytearray(member("sparse", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))

    def number(value: int) -> bytes:
        return b"\x80" + value.to_bytes(11, "big")

    made[124:136] = number(512)
    made[386:410] = number(2**50 - 512) + number(512)
    made[483:495] = number(2**50)
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    data = bytes(made) + b"x" * 512 + bytes(1024)
    with Sandbox() as sandbox:
        sandbox.ping()
        assert send(home, sandbox, data) == 400, "a file may be as long as the disk's limit says"
        assert int(sandbox.exec("du -s /workspace | cut -f1").stdout) < 1000
        # The control: one of a gibibyte is made, and takes no space.
        small = data.replace(number(2**50 - 512), number(2**30 - 512)).replace(number(2**50), number(2**30))
        fixed = bytearray(small)
        fixed[148:156] = b" " * 8
        fixed[148:156] = b"%06o\0 " % sum(fixed[:512])
        assert send(home, sandbox, bytes(fixed)) == 200
        assert sandbox.stat("/workspace/sent/sparse").size == 2**30
        assert int(sandbox.exec("du -s /workspace | cut -f1").stdout) < 1000
