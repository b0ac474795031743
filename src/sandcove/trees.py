"""Deletes folder trees that hostile code has made: any depth, any permissions, links never followed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque

__all__ = ["delete_tree"]


def delete_tree(path: str | os.PathLike[str]) -> None:
    """Deletes the folder `path` with all in it.

    Every folder that is met is moved up into `path` under a new name and emptied there, so that neither recursion nor
    open descriptors nor the length of a path grow with the depth; permissions that keep the owner out are lifted.

    Raises:
        OSError: something could not be deleted; the rest is gone or lies in `path`.
    """
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(top, stat.S_IRWXU)
        waiting: deque[str] = deque()
        _empty(top, top, waiting)
        while waiting:
            name = waiting.popleft()
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                _empty(folder, top, waiting)
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(folder: int, top: int, waiting: deque[str]) -> None:
    """Unlinks the files of `folder`, and moves its folders to `top`."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
            continue
        # To move or empty a folder takes write permission on itself. It is no link, and nobody else is at work here.
        with contextlib.suppress(OSError):
            os.chmod(name, stat.S_IRWXU, dir_fd=folder)
        if folder == top:
            waiting.append(name)
            continue
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError:
            new = f".deleting-{os.urandom(12).hex()}"
            os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
            waiting.append(new)
