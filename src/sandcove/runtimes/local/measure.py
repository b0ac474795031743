"""Measures what folders take of the disk: a program of its own, which needs nothing but the standard library.

It reads one JSON object from standard input: by name the folder, the processes whose nameless files count too, and at
which number of bytes and files it may stop; and writes a line for each as soon as it has it: name, bytes, files. What
it walks is hostile: it follows no link, opens nothing but folders, and a nesting that is deeper than `DEEPEST` counts
as more than any limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import stat
import sys

__all__ = ["DEEPEST", "TOO_MUCH", "measure"]

DEEPEST = 10_000
"""Folders within each other; fewer where this process may not open as many."""
_SPARED = 64
TOO_MUCH = 2**60
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def measure(folder: str, pids: list[int], most_bytes: int, most_files: int) -> tuple[int, int]:
    """Bytes and number of files of all in `folder`, and of files without a name that these processes hold open.

    It stops when one is above its limit; 0 is none.
    """
    size, files = _nameless(pids)
    # A folder is read to its end before those in it: so many descriptors are open as the tree is deep.
    deepest = min(DEEPEST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARED)
    seen: set[int] = set()
    stack: list[tuple[int, list[str]]] = []
    try:
        stack.append(_read(folder, None))
        while stack:
            fd, names = stack[-1]
            if not names:
                os.close(fd)
                stack.pop()
                continue
            name = names.pop()
            try:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue  # it is gone
            files += 1
            if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode) or status.st_ino not in seen:
                size += status.st_blocks * 512
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                seen.add(status.st_ino)
            if (most_bytes and size > most_bytes) or (most_files and files > most_files):
                break
            if stat.S_ISDIR(status.st_mode):
                if len(stack) >= deepest:
                    return TOO_MUCH, files
                with contextlib.suppress(OSError):
                    stack.append(_read(name, fd))
    finally:
        for fd, _ in stack:
            os.close(fd)
    return size, files


def _read(name: str, within: int | None) -> tuple[int, list[str]]:
    fd = os.open(name, _FOLDER, dir_fd=within)
    try:
        return fd, os.listdir(fd)
    except BaseException:
        os.close(fd)
        raise


def _nameless(pids: list[int]) -> tuple[int, int]:
    found: dict[tuple[int, int], int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    status = os.stat(f"/proc/{pid}/fd/{number}")
                    if stat.S_ISREG(status.st_mode) and status.st_nlink == 0 and os.major(status.st_dev) != 0:
                        found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values()), len(found)


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
                found = measure(folder, pids, most_bytes, most_files)
            except OSError:
                continue
            os.write(1, f"{json.dumps([name, *found])}\n".encode())


if __name__ == "__main__":
    main()
