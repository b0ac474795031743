"""Files and folders of the sandbox, for the agent: exact to the byte, written atomically.

The agent is the room's root, so a path leads it nowhere but into the room; its own ``/proc`` entry is not
visible there (see `Init.start`). What user code could put in its way is refused at the open descriptor: only
regular files are read and written, opened without blocking, so a FIFO holds nobody up.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import mimetypes
import os
import shutil
import stat
from collections.abc import Iterator
from typing import Literal

from sandcove.agent.memory import Memory
from sandcove.errors import (
    FileSystemError,
    InvalidRequestError,
    PathExistsError,
    PathNotFoundError,
    SandboxError,
    TooLargeError,
)
from sandcove.trees import delete_tree
from sandcove.wire.clock import timestamp
from sandcove.wire.models import FileInfo, Permissions

__all__ = [
    "NewFile",
    "delete",
    "exists",
    "file_error",
    "list_files",
    "make_folder",
    "move",
    "open_file",
    "read_file",
    "rename",
    "stat_file",
    "text",
    "write_file",
]

FileType = Literal["file", "directory", "symlink", "other"]
MAX_READ = 64 * 1024 * 1024
"""Bytes of the longest file that is read into one JSON answer."""
MAX_LISTED = 100_000
"""Most entries that one list answers."""


def file_error(error: OSError, path: str) -> SandboxError:
    """The error that says what the system refused, and what to do."""
    remedies = {
        errno.EISDIR: "it is a folder; name a file in it",
        errno.ENOTDIR: "a part of the path is a file, not a folder",
        errno.ENOTEMPTY: "the folder is not empty; delete it with recursive=True",
        errno.ENOSPC: "the disk is full; delete something first",
        errno.EDQUOT: "the disk quota is used up; delete something first",
        errno.ELOOP: "its symbolic links lead in a circle",
        errno.ENAMETOOLONG: "a part of the path is longer than 255 bytes",
        errno.EROFS: "that part of the file system is read-only",
        errno.EBUSY: "a mount point can't be moved or deleted",
        errno.EINVAL: "the system takes no such path here (a folder into itself?)",
    }
    if error.errno == errno.ENOENT:
        return PathNotFoundError(f"{path} does not exist in the sandbox")
    if error.errno == errno.EEXIST:
        return PathExistsError(f"{path} exists already")
    what = remedies.get(error.errno or 0, error.strerror or str(error))
    return FileSystemError(f"{path}: {what}", errno=errno.errorcode.get(error.errno or 0, ""))


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise file_error(error, path) from None


def open_file(path: str) -> tuple[int, int]:
    """Opens a regular file for reading; gives the descriptor and the size in bytes."""
    with _errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            return fd, status.st_size
        os.close(fd)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "")
    raise FileSystemError(f"{path} is a device, pipe or socket, not a file")


def read_file(path: str, encoding: str) -> tuple[str, str, bool, int]:
    """The content as text or base64, which of the two, whether it is binary, and the size in bytes."""
    fd, size = open_file(path)
    if size > MAX_READ:
        os.close(fd)
        raise TooLargeError(f"{path} has {size:,} bytes, more than {MAX_READ:,} in one answer; download it instead")
    with _errors(path), open(fd, "rb") as file:
        data = file.read(MAX_READ)
    if encoding != "base64":
        try:
            text = data.decode()
        except UnicodeDecodeError:
            pass
        else:
            return text, "utf-8", "\0" in text, len(data)
    return base64.b64encode(data).decode(), "base64", encoding != "base64" or not _is_text(data), len(data)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def mime_type(path: str, is_binary: bool) -> str:
    guessed, _ = mimetypes.guess_type(path)
    return guessed or ("application/octet-stream" if is_binary else "text/plain")


class NewFile:
    """A file being written beside its place, put there by `commit` in one step; `discard` leaves no trace.

    Missing folders are made. A symbolic link is followed: the file that it names is replaced. An existing
    file keeps its mode unless `mode` (permission bits) is given. `memory` knows of it meanwhile.
    """

    def __init__(self, path: str, mode: int | None, memory: Memory) -> None:
        self.path = path
        self._memory = memory
        with _errors(path):
            self._place = os.path.realpath(path)
            try:
                there = os.stat(self._place)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(self._place), exist_ok=True)
                self._mode = 0o644 if mode is None else mode & 0o7777
            else:
                if stat.S_ISDIR(there.st_mode):
                    raise IsADirectoryError(errno.EISDIR, "")
                if not stat.S_ISREG(there.st_mode):
                    raise FileSystemError(f"{path} is a device, pipe or socket, not a file")
                self._mode = stat.S_IMODE(there.st_mode) if mode is None else mode & 0o7777
            if path.endswith("/"):
                raise IsADirectoryError(errno.EISDIR, "")
            self._temporary = os.path.join(os.path.dirname(self._place), f".sandcove-{os.urandom(8).hex()}")
            memory.begin(self._temporary)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                self.fd = os.open(self._temporary, flags, 0o600)
            except OSError:
                memory.end(self._temporary)
                raise
        self.size = 0

    def write(self, data: bytes) -> None:
        with _errors(self.path):
            view = memoryview(data)
            while view:
                view = view[os.write(self.fd, view) :]
        self.size += len(data)

    def commit(self) -> int:
        """Puts the file in its place; gives its size in bytes."""
        with _errors(self.path):
            os.fchmod(self.fd, self._mode)
            os.rename(self._temporary, self._place)
        self._memory.end(self._temporary)
        os.close(self.fd)
        self.fd = -1
        return self.size

    def discard(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            with contextlib.suppress(OSError):
                os.unlink(self._temporary)
                self._memory.end(self._temporary)


def write_file(path: str, content: str, encoding: str, mode: int | None, memory: Memory) -> int:
    """Writes text or base64, exactly; gives the size in bytes."""
    if encoding == "base64":
        try:
            data = base64.b64decode(content, validate=True)
        except ValueError as error:
            raise InvalidRequestError(f"the content of {path} is no valid base64: {error}") from None
    else:
        data = content.encode("utf-8", "surrogatepass")
    file = NewFile(path, mode, memory)
    try:
        file.write(data)
        return file.commit()
    finally:
        file.discard()


def make_folder(path: str, recursive: bool) -> None:
    with _errors(path):
        if recursive:
            os.makedirs(path, exist_ok=True)
        else:
            os.mkdir(path)


def delete(path: str, recursive: bool) -> None:
    """Deletes a file, a link (not what it names), an empty folder, or with `recursive` a full one."""
    with _errors(path):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
        elif recursive:
            delete_tree(path)
        else:
            os.rmdir(path)


def rename(old: str, new: str) -> None:
    """Renames within one file system, in one step; replaces a file that is there."""
    with _errors(old):
        os.lstat(old)
    with _errors(new):
        try:
            os.rename(old, new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Across mounts, and for folders from a read-only layer: copy, then delete.
            try:
                shutil.move(old, new)
            except RecursionError:
                raise OSError(errno.ENAMETOOLONG, "") from None


def move(source: str, destination: str) -> None:
    """Moves to a path, or into a folder that is there, as `mv` does."""
    if os.path.isdir(destination) and not os.path.islink(destination):
        destination = os.path.join(destination, os.path.basename(source.rstrip("/")))
    rename(source, destination)


def exists(path: str) -> bool:
    return os.path.lexists(path)


def stat_file(path: str) -> FileInfo:
    """What is at the path; a symbolic link itself."""
    with _errors(path):
        return _info(path, os.lstat(path), os.path.basename(path.rstrip("/")) or "/")


def list_files(path: str, recursive: bool, include_hidden: bool) -> list[FileInfo]:
    """The entries of a folder, sorted by path; links are not followed. Names that start with a dot are hidden."""
    found: list[FileInfo] = []
    with _errors(path):
        folders = [("", path)]
        while folders:
            below, folder = folders.pop()
            try:
                entries = list(os.scandir(folder))
            except OSError:
                if folder == path:
                    raise
                continue
            for entry in entries:
                if entry.name.startswith(".") and not include_hidden:
                    continue
                relative = f"{below}{entry.name}"
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                found.append(_info(entry.path, status, relative))
                if len(found) > MAX_LISTED:
                    raise FileSystemError(f"{path} has over {MAX_LISTED:,} entries; list a folder below it")
                if recursive and stat.S_ISDIR(status.st_mode):
                    folders.append((f"{relative}/", entry.path))
    found.sort(key=lambda info: info.relative_path)
    return found


def _info(path: str, status: os.stat_result, relative: str) -> FileInfo:
    mode = status.st_mode
    kind: FileType = "other"
    if stat.S_ISREG(mode):
        kind = "file"
    elif stat.S_ISDIR(mode):
        kind = "directory"
    elif stat.S_ISLNK(mode):
        kind = "symlink"
    return FileInfo(
        name=text(os.path.basename(path.rstrip("/")) or "/"),
        absolute_path=text(path),
        relative_path=text(relative),
        type=kind,
        size=status.st_size,
        modified_at=timestamp(status.st_mtime),
        mode=stat.filemode(mode)[1:],
        permissions=Permissions(
            readable=bool(mode & 0o400), writable=bool(mode & 0o200), executable=bool(mode & 0o100)
        ),
        target=text(os.readlink(path)) if kind == "symlink" else None,
    )


def text(name: str) -> str:
    """A file name for JSON: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def size_hint(path: str) -> int:
    """The size in bytes of what is at the path, 0 if nothing is."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
