"""A tar stream from a sandbox, unpacked into a folder of the user. The archive is hostile until proven otherwise.

What it can do is decided by how files are opened, not by what names look like: every parent folder is opened in turn,
relative to the one before and never through a symlink, so that nothing lands outside whatever the archive, or another
process in the meantime, put there. Each entry that would need more is an error that ends the unpacking.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from sandcove.client.archive import ArchiveReader, Entry
from sandcove.client.results import log
from sandcove.errors import SecurityError

__all__ = ["Unpacker"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 256


class Unpacker:
    """Unpacks what `feed` is given into the folder `root`, which is made if it is missing.

    Files in the way are replaced, folders are merged. Owners are not kept, nor are setuid, setgid and sticky bits.
    Symlinks that point out of the folder are left out, with a warning in the log.

    Attributes:
        received: bytes of content so far.
    """

    def __init__(self, root: Path) -> None:
        self.received = 0
        self._reader = ArchiveReader()
        root.mkdir(parents=True, exist_ok=True)
        # The root is the user's own choice, and may well be behind a symlink of theirs.
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = -1
        self._entry: Entry | None = None

    def feed(self, data: bytes) -> None:
        """Takes the next piece of the stream.

        Raises:
            SecurityError: an entry that is refused; what was unpacked before it stays.
            OSError: the local file system refused.
        """
        for part in self._reader.feed(data):
            if isinstance(part, Entry):
                self._close_file()
                self._begin(part)
            else:
                self.received += len(part)
                rest = memoryview(part)
                while rest:
                    rest = rest[os.write(self._file, rest) :]

    def finish(self) -> None:
        """The stream is at its end; raises `SecurityError` when the archive is not."""
        self._reader.finish()
        self._close_file()

    def close(self) -> None:
        """Closes what is open; call it in any case."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def _begin(self, entry: Entry) -> None:
        parts = _parts(entry.name)
        if not parts:
            if entry.type != "folder":
                raise SecurityError(f"the archive would replace the folder itself ({entry.name!r})")
            return
        *parents, name = parts
        folder = self._open_folder(parents, make=True)
        try:
            if entry.type == "folder":
                self._make_folder(folder, name, entry)
                return
            if entry.type == "symlink" and not _stays_inside(entry.target, len(parents)):
                log.warning("left out the symlink %r: it points out of the folder, to %r", entry.name, entry.target)
                return
            _make_room(folder, name, entry)
            if entry.type == "symlink":
                os.symlink(entry.target, name, dir_fd=folder)
            elif entry.type == "hardlink":
                self._link(folder, name, entry)
            else:
                self._file = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
                self._entry = entry
        finally:
            os.close(folder)

    def _make_folder(self, parent: int, name: bytes, entry: Entry) -> None:
        folder = _enter(parent, name, entry.name, make=True)
        try:
            # The user can always change and remove what was unpacked.
            os.fchmod(folder, entry.mode & 0o777 | 0o700)
        finally:
            os.close(folder)

    def _link(self, folder: int, name: bytes, entry: Entry) -> None:
        *parents, source = _parts(entry.target) or [b""]
        from_folder = self._open_folder(parents, make=False)
        try:
            if not source or not stat.S_ISREG(os.stat(source, dir_fd=from_folder, follow_symlinks=False).st_mode):
                raise SecurityError(f"the archive has a hard link to something that is no file: {entry.target!r}")
            os.link(source, name, src_dir_fd=from_folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            raise SecurityError(f"the archive has a hard link to a file that is not in it: {entry.target!r}") from None
        finally:
            os.close(from_folder)

    def _open_folder(self, parts: list[bytes], *, make: bool) -> int:
        folder = os.dup(self._root)
        for part in parts:
            above = folder
            try:
                folder = _enter(above, part, b"/".join(parts), make=make)
            finally:
                os.close(above)
        return folder

    def _close_file(self) -> None:
        if self._file < 0 or self._entry is None:
            return
        os.fchmod(self._file, self._entry.mode & 0o777)
        mtime = max(0.0, min(self._entry.mtime, 2.0**33))
        os.utime(self._file, (mtime, mtime))
        os.close(self._file)
        self._file, self._entry = -1, None


def _parts(name: bytes) -> list[bytes]:
    """The parts of a name in the archive.

    Raises:
        SecurityError: it is absolute, goes up, has a NUL or an empty end, or is very deep.
    """
    if name.startswith(b"/"):
        raise SecurityError(f"the archive has an absolute path, {name!r}")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise SecurityError(f"the archive has a path that leaves its folder, {name!r}")
    if b"\0" in name or len(parts) > MAX_DEPTH:
        raise SecurityError(f"the archive has a path that no folder of files needs, {name[:80]!r}")
    return parts


def _stays_inside(target: bytes, depth: int) -> bool:
    """A symlink `depth` folders below the root that points to `target` points into the root.

    Upward steps may stand only at the front. After a name they would be counted from wherever that name, itself
    perhaps a symlink, leads, and that can be higher than it looks.
    """
    if not target or target.startswith(b"/"):
        return False
    parts = [part for part in target.split(b"/") if part not in (b"", b".")]
    ups = 0
    while ups < len(parts) and parts[ups] == b"..":
        ups += 1
    return ups <= depth and b".." not in parts[ups:]


def _enter(parent: int, name: bytes, path: bytes, *, make: bool) -> int:
    """Opens the folder `name` in `parent`, made if it is missing, never through a symlink."""
    if make:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            pass
    try:
        return os.open(name, _FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise SecurityError(f"the archive puts something below {path!r}, which is no folder here") from None


def _make_room(folder: int, name: bytes, entry: Entry) -> None:
    """Removes what is in the entry's place, so that nothing is ever written into a file that was there."""
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        raise SecurityError(f"the archive has a {entry.type} where a folder is: {entry.name!r}") from None
