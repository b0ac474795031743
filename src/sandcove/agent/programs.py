"""Where a program lies, as a shell would find it."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["find_program"]


def find_program(program: str, env: Mapping[str, str], cwd: str) -> str | None:
    """The path of an executable file: `program` itself if it has a slash, else the first of its name on PATH."""
    if "/" in program:
        places = [os.path.join(cwd, program)]
    else:
        places = [os.path.join(cwd, folder, program) for folder in env.get("PATH", os.defpath).split(":")]
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)
