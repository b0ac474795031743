"""A folder that a web server can show: a file, an index of Python packages with one in it, a git repository."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from functools import partial
from pathlib import Path

__all__ = ["fill"]


def fill(root: Path) -> None:
    """Fills it."""
    (root / "hello").write_text("hello from outside")
    index = root / "simple" / "tiny-thing"
    index.mkdir(parents=True)
    wheel = index / "tiny_thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_thing.py", "word = 'tiny'\n")
        archive.writestr("tiny_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        archive.writestr(
            "tiny_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_thing-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (index / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    if shutil.which("git"):
        work = root / "work"
        git = partial(subprocess.run, check=True, capture_output=True)
        git(["git", "init", "-q", "-b", "main", str(work)])
        (work / "README").write_text("cloned")
        git(["git", "-C", str(work), "add", "."])
        git(["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one"])
        git(["git", "clone", "-q", "--bare", str(work), str(root / "repo.git")])
        git(["git", "-C", str(root / "repo.git"), "update-server-info"])
