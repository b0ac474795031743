"""Deletes folder trees that hostile code has made: any depth, any permissions, links never followed."""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["delete_tree"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def delete_tree(path: str | os.PathLike[str]) -> None:
    """Deletes the folder `path` with all in it.

    Every folder that is met is moved up into `path` under a new name and emptied there, so that neither recursion nor
    open descriptors nor the length of a path grow with the depth, nor memory with the number of files; permissions
    that keep the owner out are lifted.

    Raises:
        OSError: something could not be deleted; the rest is gone or lies in `path`.
    """
    top = os.open(path, _FOLDER)
    try:
        os.fchmod(top, stat.S_IRWXU)
        _empty(top, top)
    finally:
        os.close(top)
    os.rmdir(path)


def _empty(folder: int, top: int) -> None:
    """Unlinks the files of `folder`, and moves its folders to `top`; those of `top` itself are emptied and deleted."""
    # What is deleted or moved in while a folder is read can hide other names, or show one twice.
    found = True
    while found:
        found = False
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    _delete(entry, folder, top)
                    found = True


def _delete(entry: os.DirEntry[str], folder: int, top: int) -> None:
    name = entry.name
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(name, dir_fd=folder)
        return
    # To move or empty a folder takes write permission on itself. It is no link, and nobody else is at work here.
    with contextlib.suppress(OSError):
        os.chmod(name, stat.S_IRWXU, dir_fd=folder)
    with contextlib.suppress(OSError):
        os.rmdir(name, dir_fd=folder)
        return
    if folder != top:
        os.rename(name, f".deleting-{os.urandom(12).hex()}", src_dir_fd=folder, dst_dir_fd=top)
        return
    below = os.open(name, _FOLDER, dir_fd=top)
    try:
        _empty(below, top)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=top)
