# Written by scripts/unasync.py from _async/transfer.py. Change that file, not this one.
"""Files and folders between this machine and a sandbox: streamed, in flat memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from sandcove.client._sync.connection import Response
from sandcove.client._sync.files import Files
from sandcove.client._sync.io import call_back, run_blocking
from sandcove.client.check import StrPath, check_callback
from sandcove.client.endpoint import LONG, Broken
from sandcove.errors import FileSystemError, InvalidRequestError

__all__ = ["OnProgress", "Transfer"]

OnProgress = Callable[[int, int | None], object]
"""Called with the bytes moved so far and the bytes in all: None for a folder, whose size is not known beforehand."""


class Transfer(Files):
    """What a sandbox and a session can both copy."""

    def upload(self, local: StrPath, remote: StrPath, on_progress: OnProgress | None = None) -> None:
        """Copies a local file to the path `remote`, or what is in a local folder into the folder `remote`.

        Permission bits are kept, symlinks in a folder stay symlinks, missing folders are made. A file is put in place
        when all of it has come.

        Args:
            local: a file or folder of this machine.
            remote: the path that it shall have in the sandbox.
            on_progress: called with the bytes moved so far and in all (None for a folder).

        Raises:
            InvalidRequestError: there is no such local file or folder.
        """
        check_callback("on_progress", on_progress)
        path, info = run_blocking(_local, local)
        if stat.S_ISDIR(info.st_mode):
            from sandcove.client.pack import pack_folder

            pieces = self._outgoing(pack_folder(path), None, on_progress)
            response = self._agent.open("PUT", self._raw("folder", remote), pieces, within=LONG)
        else:
            from sandcove.client.pack import read_file

            pieces = self._outgoing(read_file(path, info.st_size), info.st_size, on_progress)
            target = self._raw("file", remote, stat.S_IMODE(info.st_mode) & 0o777)
            response = self._agent.open("PUT", target, (pieces, info.st_size), within=LONG)
        self._whole(response)

    def download(self, remote: StrPath, local: StrPath, on_progress: OnProgress | None = None) -> None:
        """Copies a file of the sandbox to the path `local`, or what is in a folder into the folder `local`.

        A local file is put in place when all of it has come. A folder's files replace those of the same name; the
        rest of `local` stays. Whatever the sandbox sends, nothing is written outside of `local`, no device is made,
        and symlinks that point out of it are left out, with a warning in the log.

        Args:
            remote: a file or folder of the sandbox.
            local: the path that it shall have on this machine.
            on_progress: called with the bytes moved so far and in all (None for a folder).

        Raises:
            PathNotFoundError: nothing is at `remote`.
            SecurityError: the sandbox sent a folder that tries to do more than be a folder of files.
        """
        check_callback("on_progress", on_progress)
        to = Path(local)
        info = self.stat(remote)
        if info.type != "directory":
            from sandcove.client.local import permission_bits

            try:
                response = self._agent.open("GET", self._raw("file", remote), repeatable=True)
            except FileSystemError:
                if info.type != "symlink":
                    raise
                # It may point to a folder, which is then what is meant.
            else:
                mode = 0o644 if info.type == "symlink" else permission_bits(info.mode)
                self._receive_file(response, to, mode, on_progress)
                return
        response = self._agent.open("GET", self._raw("folder", remote), repeatable=True, within=LONG)
        self._receive_folder(response, to, on_progress)

    def _outgoing(
        self, pieces: Iterator[bytes], size: int | None, on_progress: OnProgress | None
    ) -> Generator[bytes, None, None]:
        done = 0
        while piece := run_blocking(next, pieces, b""):
            yield piece
            done += len(piece)
            if on_progress:
                call_back(on_progress, done, size)

    def _receive_file(self, response: Response, to: Path, mode: int, on_progress: OnProgress | None) -> None:
        from sandcove.client.local import IncomingFile

        length = response.head.get(b"content-length")
        size = None if length is None else int(length)
        done = 0
        pieces = response.pieces()
        try:
            file = run_blocking(IncomingFile, to, mode)
            try:
                for piece in pieces:
                    run_blocking(file.write, piece)
                    done += len(piece)
                    if on_progress:
                        call_back(on_progress, done, size)
                run_blocking(file.commit)
            finally:
                file.discard()
        except Broken as error:
            raise self._agent.ended(error) from None
        finally:
            pieces.close()
            response.close()

    def _receive_folder(self, response: Response, to: Path, on_progress: OnProgress | None) -> None:
        from sandcove.client.unpack import Unpacker

        pieces = response.pieces()
        try:
            unpacker = run_blocking(Unpacker, to)
            try:
                for piece in pieces:
                    run_blocking(unpacker.feed, piece)
                    if on_progress:
                        call_back(on_progress, unpacker.received, None)
                run_blocking(unpacker.finish)
            finally:
                unpacker.close()
        except Broken as error:
            raise self._agent.ended(error) from None
        finally:
            pieces.close()
            response.close()


def _local(local: StrPath) -> tuple[str, os.stat_result]:
    """The path of a local file or folder, and what it is."""
    path = os.fspath(local)
    try:
        info = os.stat(path)
    except OSError as error:
        raise InvalidRequestError(f"the local path {path!r} can't be read: {error.strerror}") from None
    if not (stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)):
        raise InvalidRequestError(f"the local path {path!r} is no file or folder")
    return path, info
