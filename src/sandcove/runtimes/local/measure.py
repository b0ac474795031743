"""Measures what folders take of the disk: a program of its own, which needs nothing but the standard library.

It reads one JSON object from standard input: by name the folder, the processes whose nameless files count too, and how
many bytes and files it may have, far above which counting may stop; and writes a line for each as soon as it has it:
name, bytes and files that have a name in the folder, bytes and files that have none. What it looks at is hostile: it
follows no link, opens nothing but folders, and what would take it more time or memory than anyone has a use for counts
as `TOO_MUCH`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import stat
import sys
import time
from collections.abc import Iterator

__all__ = ["DEEPEST", "TOO_MUCH", "held", "measure"]

DEEPEST = 10_000
"""Folders within each other; fewer where this process may not open as many."""
_SPARED = 64
TOO_MUCH = 2**60
LONGEST = 10.0
"""Seconds of processor time for the descriptors and mappings of one room: some two million."""
LATEST = 60.0
"""Seconds for them in any case, however busy the machine is."""
MOST = 2_000_000
"""Files, and names of folders, of one room that are remembered at a time."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_MEMORY = {0x01021994, 0x858458F6, 0x958458F6}
"""File systems whose files are counted as memory: tmpfs, ramfs and hugetlbfs; see statfs(2)."""
_KCMP = {"x86_64": 312, "aarch64": 272}.get(os.uname().machine)
_KCMP_FILES = 2

_libc = ctypes.CDLL(None, use_errno=True)


def measure(folder: str, most_files: int) -> tuple[int, int]:
    """Bytes and number of files of all in `folder`. It stops when the latter is above its limit; 0 is none."""
    size, files, waiting = 0, 0, 0
    # A folder is read to its end before those in it: so many descriptors are open as the tree is deep.
    deepest = min(DEEPEST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARED)
    seen: set[int] = set()
    stack: list[tuple[int, list[bytes]]] = [(os.open(folder, _FOLDER), [])]
    try:
        while True:
            fd, folders = stack[-1]
            for name, status in _entries(fd):
                files += 1
                is_folder = stat.S_ISDIR(status.st_mode)
                if is_folder or status.st_nlink == 1 or status.st_ino not in seen:
                    size += status.st_blocks * 512
                if is_folder:
                    folders.append(os.fsencode(name))
                    waiting += 1
                elif status.st_nlink > 1:
                    seen.add(status.st_ino)
                if most_files and files > most_files:
                    return size, files
                if waiting + len(seen) > max(MOST, most_files):
                    return TOO_MUCH, TOO_MUCH
            below = None
            while below is None:
                if not stack[-1][1]:
                    os.close(stack.pop()[0])
                    if not stack:
                        return size, files
                elif len(stack) >= deepest:
                    return TOO_MUCH, TOO_MUCH
                else:
                    waiting -= 1
                    with contextlib.suppress(OSError):
                        below = os.open(stack[-1][1].pop(), _FOLDER, dir_fd=stack[-1][0])
            stack.append((below, []))
    finally:
        for fd, _ in stack:
            os.close(fd)


def _entries(fd: int) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a folder, one by one: its names may be more than memory holds."""
    with contextlib.suppress(OSError), os.scandir(fd) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # it is gone
                yield entry.name, os.stat(entry.name, dir_fd=fd, follow_symlinks=False)


def held(pids: list[int], most_bytes: int, most_files: int) -> tuple[int, int]:
    """Bytes and number of files without a name that these processes have open or mapped.

    It stops when one is above its limit; 0 is none.
    """
    until, latest = time.process_time() + LONGEST, time.monotonic() + LATEST
    found: dict[tuple[int, int], int] = {}
    in_memory: dict[int, bool] = {}
    size = 0
    for path, key, least in _held(pids):
        if time.process_time() > until or time.monotonic() > latest or len(found) > MOST:
            return TOO_MUCH, TOO_MUCH
        try:
            status = os.stat(path)
        except OSError:
            if not least:
                continue
            # It is a mapping, and this process has no CAP_SYS_ADMIN.
        else:
            if not stat.S_ISREG(status.st_mode) or status.st_nlink:
                continue
            key, least = (status.st_dev, status.st_ino), status.st_blocks * 512
            if key[0] not in in_memory:
                in_memory[key[0]] = _kind(path) in _IN_MEMORY
            if in_memory[key[0]]:
                continue
        size += max(0, least - found.get(key, 0))
        found[key] = max(least, found.get(key, 0))
        if (most_bytes and size > most_bytes) or (most_files and len(found) > most_files):
            break
    return size, len(found)


def _held(pids: list[int]) -> Iterator[tuple[str, tuple[int, int], int]]:
    """Paths of the open files of these processes, and of what they have mapped that has lost its name.

    Of the latter also what its line tells: device and inode, and how many bytes it has at least; 0 where it may be
    in memory. A path that is none says that nothing was found for a while.
    """
    for pid in pids:
        mapped = False
        for number, thread in enumerate(_list(f"/proc/{pid}/task")):
            yield "", (0, 0), 0
            # A thread can have descriptors of its own, and outlive the first, with which what /proc/PID shows ends.
            if not number or not _shares_files(pid, int(thread)):
                for fd in _list(f"/proc/{thread}/fd"):
                    yield f"/proc/{thread}/fd/{fd}", (0, 0), 0
            if not mapped:
                with contextlib.suppress(OSError), open(f"/proc/{thread}/maps", "rb") as maps:
                    for count, line in enumerate(maps):
                        mapped = True
                        if line.endswith(b" (deleted)\n"):
                            place, _, offset, device, inode = line.split()[:5]
                            start, end = (int(word, 16) for word in place.split(b"-"))
                            major, minor = (int(word, 16) for word in device.split(b":"))
                            least = int(offset, 16) + end - start if major else 0
                            path = f"/proc/{thread}/map_files/{start:x}-{end:x}"
                            yield path, (os.makedev(major, minor), int(inode)), least
                        elif count % 1000 == 0:
                            yield "", (0, 0), 0


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # it is gone


def _shares_files(pid: int, thread: int) -> bool:
    """This thread has the descriptors of its process's first; False where that can't be known."""
    return _KCMP is not None and bool(_libc.syscall(_KCMP, pid, thread, _KCMP_FILES, 0, 0) == 0)


def _kind(path: str) -> int:
    """Of the file system in which it is; -1 if that can't be known."""
    # Its first field, f_type, is a long: see statfs(2).
    answer = (ctypes.c_long * 64)()
    return -1 if _libc.statfs(path.encode(), answer) else answer[0] & 0xFFFFFFFF


def main() -> None:
    """Answers one question."""
    os.nice(10)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        question = json.load(sys.stdin)
    except ValueError:
        return  # the server has ended before it had asked
    with contextlib.suppress(BrokenPipeError):
        for name, (folder, pids, most_bytes, most_files) in question.items():
            try:
                nameless = held(pids, most_bytes, most_files)
                # How far it is above its limits tells what it may have left when it wakes.
                named = measure(folder, 2 * most_files) if nameless[0] < TOO_MUCH else (0, 0)
            except OSError:
                continue
            os.write(1, f"{json.dumps([name, *named, *nameless])}\n".encode())


if __name__ == "__main__":
    main()
