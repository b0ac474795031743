"""Short answers, which say that something was done. `models` has those that tell more."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sandcove.wire.models import Answer, ExposedPort, FileInfo, ProcessInfo

__all__ = [
    "Activity",
    "CleanedUp",
    "Destroyed",
    "Done",
    "Error",
    "FileDone",
    "FileExists",
    "FileList",
    "FileMoved",
    "FileRenamed",
    "FileStat",
    "FileStored",
    "FolderMade",
    "InputTaken",
    "KilledAll",
    "PathDone",
    "Pong",
    "PortDone",
    "PortExposed",
    "ProcessKilled",
    "SessionCreated",
    "SessionDeleted",
    "Success",
]


Counted = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A number that the server reckons with, though code inside may have taken over the agent that tells it."""


class Error(Answer):
    """What every error is answered as; some have more fields, see the page of errors."""

    error: str
    """What failed, with which value, and what to do."""
    code: str
    """Stable, unlike the text."""
    begun: bool | msgspec.UnsetType = msgspec.UNSET
    """False: nothing of the call was done, send it again."""
    retry_after: float | msgspec.UnsetType = msgspec.UNSET
    """Seconds after which the call may work."""


class Success(Answer):
    success: bool = True


class Done(Success, kw_only=True):
    timestamp: str


# --- the server wire ------------------------------------------------------------------------------------


class Destroyed(Success, kw_only=True):
    """``DELETE /v1/sandboxes/{id}``."""

    id: str


class PortExposed(ExposedPort, kw_only=True):
    """``POST /v1/sandboxes/{id}/ports`` and ``POST /api/expose-port``."""

    success: Literal[True]
    timestamp: str


class PortDone(Done, kw_only=True):
    """``DELETE /v1/sandboxes/{id}/ports/{port}`` and ``/api/unexpose-port``; (ours) ``POST /api/wait-for-port``."""

    port: int


# --- the agent wire: life and sessions ------------------------------------------------------------------


class Pong(Answer):
    """``GET /api/ping``."""

    timestamp: str
    message: Literal["pong"] = "pong"
    status: Literal["ready"] = "ready"
    system: Literal["sandcove"] = "sandcove"


class Activity(Answer):
    """(ours) ``GET /api/activity``."""

    busy: Counted
    """Calls that run."""
    idle: Counted
    """Milliseconds since the last ended."""
    processes: Counted
    """Background processes that run."""


class SessionCreated(Success, kw_only=True):
    """``POST /api/session/create``."""

    id: str
    message: str


class SessionDeleted(Done, kw_only=True):
    """(ours) ``DELETE /api/session/{id}``."""

    id: str


# --- processes ------------------------------------------------------------------------------------------


class ProcessKilled(Done, kw_only=True):
    """``DELETE /api/process/{id}``."""

    process_id: str
    session_id: str
    message: str
    process: ProcessInfo
    """(ours)"""


class KilledAll(Done, kw_only=True):
    """``DELETE /api/process/kill-all``."""

    killed_count: int
    message: str


class CleanedUp(Done, kw_only=True):
    """(ours) ``POST /api/process/cleanup``."""

    cleaned_count: int


class InputTaken(Done, kw_only=True):
    """(ours) ``POST /api/process/{id}/stdin``."""

    process_id: str
    written: int
    """Bytes."""


# --- files ----------------------------------------------------------------------------------------------


class FileDone(Done, kw_only=True):
    """What the answers about files have in common; paths are as they were given."""

    exit_code: Literal[0] = 0


class PathDone(FileDone, kw_only=True):
    """``POST /api/write``, ``/api/delete`` and (ours) ``PUT /api/folder``, whose path is absolute."""

    path: str


class FolderMade(PathDone, kw_only=True):
    """``POST /api/mkdir``."""

    recursive: bool
    stdout: Literal[""] = ""
    stderr: Literal[""] = ""


class FileRenamed(FileDone, kw_only=True):
    """``POST /api/rename``."""

    old_path: str
    new_path: str


class FileMoved(FileDone, kw_only=True):
    """``POST /api/move``."""

    source_path: str
    destination_path: str


class FileList(PathDone, kw_only=True):
    """``POST /api/list-files``."""

    files: list[FileInfo]


class FileExists(PathDone, kw_only=True):
    """(ours) ``POST /api/exists``."""

    exists: bool


class FileStat(PathDone, kw_only=True):
    """(ours) ``POST /api/stat``."""

    file: FileInfo


class FileStored(PathDone, kw_only=True):
    """(ours) ``PUT /api/file``; the path is absolute."""

    size: int
