# Written by scripts/unasync.py from _async/files.py. Change that file, not this one.
"""Files and folders of a sandbox. Relative paths start at the session's working directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, overload

import msgspec

from sandcove.client._sync.agent import Agent
from sandcove.client._sync.connection import Response
from sandcove.client.check import StrPath, check_encoding, check_flag, check_mode, check_path, check_text
from sandcove.client.endpoint import ANSWER, LONG, Broken
from sandcove.client.results import FileInfo
from sandcove.errors import InvalidRequestError, TooLargeError
from sandcove.wire import models
from sandcove.wire.http import quote

__all__ = ["Files"]

MAX_READ = 256 * 1024 * 1024
"""Bytes of the longest file that `read_file` holds in memory."""


class _Exists(msgspec.Struct):
    exists: bool


class _Stat(msgspec.Struct):
    file: models.FileInfo


class _Listing(msgspec.Struct):
    files: list[models.FileInfo]


class Files:
    """What a sandbox and a session can both do with files."""

    _agent: Agent
    _session_id: str

    def write_file(self, path: StrPath, content: str | bytes, mode: int | None = None) -> None:
        """Writes a file, exactly `content`, replacing what was there at once; missing parent folders are made.

        Args:
            path: where.
            content: text, which is written as UTF-8, or bytes.
            mode: permission bits; without it a new file has 0o644 and an existing one keeps its own.
        """
        if isinstance(content, str):
            body = check_text("content", content).encode()
        elif isinstance(content, bytes | bytearray | memoryview):
            body = bytes(content)
        else:
            raise InvalidRequestError(f"content is a str or bytes, not {type(content).__name__}")
        response = self._agent.open("PUT", self._raw("file", path, check_mode(mode)), body, repeatable=True)
        self._whole(response)

    @overload
    def read_file(self, path: StrPath, *, encoding: Literal["utf-8"] = "utf-8") -> str: ...

    @overload
    def read_file(self, path: StrPath, *, encoding: None) -> bytes: ...

    def read_file(self, path: StrPath, *, encoding: Literal["utf-8"] | None = "utf-8") -> str | bytes:
        """The content of a file: text, or the exact bytes with ``encoding=None``.

        Raises:
            PathNotFoundError: nothing is there.
            InvalidRequestError: it is no UTF-8 text and text was asked for.
            TooLargeError: it is longer than 256 MiB; `download` takes any length.
        """
        text = check_encoding(encoding)
        response = self._agent.open("GET", self._raw("file", path), repeatable=True)
        length = int(response.head.get(b"content-length") or 0)
        if length > MAX_READ:
            response.close()
            raise TooLargeError(f"{path} has {length:,} bytes, more than read_file takes ({MAX_READ:,}); use download")
        content = self._whole(response)
        if not text:
            return content
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError(
                f"{path} is no UTF-8 text (byte 0x{content[error.start]:02x} at {error.start:,}); "
                "read it with encoding=None"
            ) from None

    def mkdir(self, path: StrPath, *, recursive: bool = False) -> None:
        """Makes a folder; with `recursive` the missing parents too, and one that exists is no error.

        Raises:
            PathExistsError: something is there already.
        """
        request = models.MakeFolder(
            path=check_path(path), recursive=check_flag("recursive", recursive), session_id=self._session_id
        )
        self._agent.call("POST", "/api/mkdir", dict, request)

    def delete_file(self, path: StrPath, *, recursive: bool = False) -> None:
        """Deletes a file, a symlink or an empty folder; with `recursive` a folder with all in it.

        Raises:
            PathNotFoundError: nothing is there.
            FileSystemError: it is a folder that is not empty.
        """
        request = models.DeletePath(
            path=check_path(path), recursive=check_flag("recursive", recursive), session_id=self._session_id
        )
        self._agent.call("POST", "/api/delete", dict, request, within=LONG if recursive else ANSWER)

    def rename_file(self, old_path: StrPath, new_path: StrPath) -> None:
        """Renames a file or folder; a file that is at `new_path` is replaced."""
        request = models.RenamePath(
            old_path=check_path(old_path, "old_path"),
            new_path=check_path(new_path, "new_path"),
            session_id=self._session_id,
        )
        self._agent.call("POST", "/api/rename", dict, request)

    def move_file(self, source_path: StrPath, destination_path: StrPath) -> None:
        """Moves a file or folder, also to another file system; into `destination_path` when that is a folder."""
        request = models.MovePath(
            source_path=check_path(source_path, "source_path"),
            destination_path=check_path(destination_path, "destination_path"),
            session_id=self._session_id,
        )
        self._agent.call("POST", "/api/move", dict, request, within=LONG)

    def list_files(
        self, path: StrPath = ".", *, recursive: bool = False, include_hidden: bool = False
    ) -> list[FileInfo]:
        """What is in a folder.

        Args:
            path: the folder.
            recursive: what is in its folders too; symlinks are not followed.
            include_hidden: names that begin with a dot too.
        """
        request = models.ListFiles(
            path=check_path(path),
            options=models.ListOptions(
                recursive=check_flag("recursive", recursive),
                include_hidden=check_flag("include_hidden", include_hidden),
            ),
            session_id=self._session_id,
        )
        listing = self._agent.call(
            "POST", "/api/list-files", _Listing, request, repeatable=True, within=LONG if recursive else ANSWER
        )
        return [FileInfo.of(info) for info in listing.files]

    def exists(self, path: StrPath) -> bool:
        """Something is at this path; a symlink counts, also one that points nowhere."""
        request = models.PathOnly(path=check_path(path), session_id=self._session_id)
        return (self._agent.call("POST", "/api/exists", _Exists, request, repeatable=True)).exists

    def stat(self, path: StrPath) -> FileInfo:
        """What is at this path; a symlink is told as itself.

        Raises:
            PathNotFoundError: nothing is there.
        """
        request = models.PathOnly(path=check_path(path), session_id=self._session_id)
        return FileInfo.of((self._agent.call("POST", "/api/stat", _Stat, request, repeatable=True)).file)

    def _whole(self, response: Response) -> bytes:
        try:
            return response.read(MAX_READ)
        except Broken as error:
            raise self._agent.ended(error) from None

    def _raw(self, what: str, path: object, mode: int | None = None) -> str:
        """The target of a request whose body is the bytes of a file, or of a folder's tar stream."""
        query: Mapping[str, Any] = {"path": check_path(path), "sessionId": self._session_id}
        if mode is not None:
            query = {**query, "mode": f"{mode:04o}"}
        return f"/api/{what}?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())
