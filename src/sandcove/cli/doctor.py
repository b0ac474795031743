"""`doctor`: whether this machine can isolate sandboxes."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace

from sandcove.cli.draw import checks
from sandcove.errors import SandboxError

__all__ = ["doctor"]


def doctor(options: Namespace) -> int:
    """`sandcove doctor`. Exit code 1 when something that is needed is missing."""
    # A process of its own: it tries namespaces out, and the SDK's side does not import the runtime.
    line = [sys.executable, "-P", "-m", "sandcove.runtimes.local.doctor", "--json"]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    try:
        report = json.loads(done.stdout)
        ok = report["ok"] is True
    except (ValueError, KeyError, TypeError):
        told = (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no output"])[-1]
        raise SandboxError(
            f"the check of this machine did not end well (exit code {done.returncode}): {told}"
        ) from None
    if options.json:
        print(json.dumps(report))
    else:
        checks(report["checks"])
        print("This machine can isolate sandboxes." if ok else "This machine can't isolate sandboxes yet; see above.")
    return 0 if ok else 1
