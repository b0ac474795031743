"""Some of the disk stays free, however fast sandboxes write: on a disk of its own, a file that is mounted."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rooms import stop_server
from sandcove import ContainerNotReadyError, Sandbox, ServiceUnavailableError
from tests.security.probes import NEEDS_ROOT
from tests.security.test_limits import eventually

MIB = 1 << 20
RESERVE = 512 * MIB
WRITE = """
import os
block = b"x" * (1 << 20)
for number in range(1, 4):
    if number < 3 and os.fork() == 0:
        continue
    break
with open(f"/workspace/{number}", "wb") as file:
    for _ in range(1500):
        file.write(block)
"""


@pytest.fixture
def disk(capable: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server's home on a small disk, where 64 MiB more than the reserve are free."""
    with tempfile.TemporaryDirectory() as folder:
        image, place = Path(folder, "image"), Path(folder, "disk")
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(1024 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
        if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode:
            pytest.skip("no file can be mounted here")
        try:
            home = place / "home"
            home.mkdir()
            monkeypatch.setenv("SANDCOVE_HOME", str(home))
            monkeypatch.setenv("SANDCOVE_DISK_RESERVE", "512m")
            fill(place, free(place) - RESERVE - 64 * MIB)
            yield place
            stop_server(home)
        finally:
            subprocess.run(["umount", "-l", place], check=True)


def free(place: Path) -> int:
    status = os.statvfs(place)
    return status.f_bavail * status.f_frsize


def fill(place: Path, size: int) -> None:
    fd = os.open(place / "filled", os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(fd, 0, size)
    os.close(fd)


@NEEDS_ROOT
@pytest.mark.alone
@pytest.mark.parametrize("cgroups", ["auto", "off"])
def test_fast_writers_end_before_the_disk_is_full(disk: Path, cgroups: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDCOVE_CGROUPS", cgroups)
    least, over = [free(disk)], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            least[0] = min(least[0], free(disk))

    watching = threading.Thread(target=watch)
    watching.start()
    writer, neighbour = Sandbox("writer"), Sandbox("neighbour")
    try:
        neighbour.exec("true")
        with pytest.raises(ContainerNotReadyError, match="ended during the call"):
            writer.exec(["python3", "-c", WRITE], timeout=40)
        assert eventually(lambda: "disk was nearly full" in (writer.info().note or ""))
        assert neighbour.exec("echo on; echo on >/workspace/small; cat /workspace/small").stdout == "on\non\n"
        with pytest.raises(ServiceUnavailableError, match=r"less than the 536,870,912 that it keeps free"):
            Sandbox("late").exec("true")
        # The one that wrote may be woken, to delete.
        writer.exec("rm /workspace/*")
        with Sandbox() as late:
            assert late.exec("echo made").stdout == "made\n"
    finally:
        over.set()
        watching.join()
        writer.destroy()
        neighbour.destroy()
    assert least[0] > RESERVE // 8
    print(f"least free: {least[0] / MIB:.0f} MiB")
