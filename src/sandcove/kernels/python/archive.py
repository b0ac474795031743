"""The kernel as a zip, for a Python that is started for one context and has not got this package."""

from __future__ import annotations

import importlib.util
import io
import marshal
import zipfile
from pathlib import Path

__all__ = ["COLD", "archive"]

_START = """\
import sys
if sys.version_info < (3, 10):
    sys.stderr.write("cells need Python 3.10 or newer, and %s is %s\\n" % (sys.executable, sys.version.split()[0]))
    sys.exit(3)
sys.path[:1] = ["/proc/self/fd/5"]
from sandcove.kernels.python.main import cold
cold()
"""

COLD: tuple[str, ...] = ("-c", _START)
"""The arguments of an interpreter that is to be a kernel; descriptor 5 is then a file with what `archive` gives."""

_UNCHECKED = (1).to_bytes(4, "little")
_EPOCH = (1980, 1, 1, 0, 0, 0)


def archive() -> bytes:
    """The zip: sources, and the same compiled for the Python that runs this."""
    folder = Path(__file__).parents[1]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in ("sandcove/__init__.py", "sandcove/kernels/__init__.py"):
            _add(made, name, b"")
        for package in ("charts", "python"):
            for path in sorted((folder / package).rglob("*.py")):
                _add(made, f"sandcove/kernels/{path.relative_to(folder)}", path.read_bytes())
    return file.getvalue()


def _add(made: zipfile.ZipFile, name: str, source: bytes) -> None:
    made.writestr(zipfile.ZipInfo(name, _EPOCH), source)
    code = compile(source, name, "exec", dont_inherit=True)
    # The layout of a .pyc: https://peps.python.org/pep-0552/. Another Python takes the source.
    compiled = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source) + marshal.dumps(code)
    made.writestr(zipfile.ZipInfo(f"{name}c", _EPOCH), compiled)
