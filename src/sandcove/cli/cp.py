"""`cp`: a file or folder into or out of a sandbox."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from sandcove.cli.draw import progress
from sandcove.cli.options import Place
from sandcove.cli.sandboxes import existing
from sandcove.client._sync.sandbox import Sandbox
from sandcove.errors import InvalidRequestError

__all__ = ["cp"]


def cp(options: Namespace) -> int:
    """`sandcove cp`. As with `cp -r`: a target folder that exists gets the source put into it, under its name."""
    source: Place = options.source
    target: Place = options.target
    if (source.sandbox is None) == (target.sandbox is None):
        raise InvalidRequestError("one of the two is a path in a sandbox, written NAME:PATH, and one of this machine")
    if target.sandbox is not None:
        if not os.path.exists(source.path):
            raise InvalidRequestError(f"there is no file or folder {source.path!r} on this machine")
        sandbox = existing(target.sandbox)
        to = _remote_target(sandbox, source.path, target.path)
        with progress(f"{Path(source.path).name} → {target.sandbox}") as moved:
            sandbox.upload(source.path, to, moved)
        return 0
    sandbox = existing(source.sandbox or "")
    to = _local_target(source.path, target.path)
    with progress(f"{source.sandbox}:{source.path}") as moved:
        sandbox.download(source.path, to, moved)
    return 0


def _remote_target(sandbox: Sandbox, source: str, target: str) -> str:
    if _contents_only(source):
        return target
    # With "/." a symlink to a folder counts as the folder.
    if target.endswith("/") or sandbox.exists(f"{target}/."):
        name = os.path.basename(os.path.abspath(source))
        return f"{target.rstrip('/')}/{name}"
    return target


def _local_target(source: str, target: str) -> str:
    if _contents_only(source):
        return target
    if target.endswith("/") or os.path.isdir(target):
        name = os.path.basename(source.rstrip("/"))
        if name in ("", ".", ".."):
            raise InvalidRequestError(f"{source!r} has no name of its own to have in {target}; give the whole target")
        if not os.path.isdir(target):
            raise InvalidRequestError(f"there is no folder {target!r} on this machine; make it first")
        return os.path.join(target, name)
    return target


def _contents_only(source: str) -> bool:
    """``FOLDER/.`` means what is in the folder, for a target that exists already."""
    return source.endswith("/.")
