"""`doctor`: whether this machine can isolate sandboxes, and whether they hold."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace

from sandcove.cli.draw import checks, table
from sandcove.cli.probes import PROBES, Finding, run
from sandcove.client._sync.sandbox import Sandbox
from sandcove.errors import SandboxError

__all__ = ["doctor"]


def doctor(options: Namespace) -> int:
    """`sandcove doctor`. Exit code 1 when something that is needed is missing, or a probe succeeded."""
    if options.probe:
        return _probe(as_json=options.json)
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


def _probe(*, as_json: bool) -> int:
    """Attacks a new sandbox from inside."""
    with Sandbox() as sandbox:
        findings = list(run(sandbox))
    reached = sum(finding.reached for finding in findings)
    if as_json:
        print(json.dumps({"ok": not reached, "probes": [_told(finding) for finding in findings]}))
        return 1 if reached else 0
    rows = [["GOT IN" if f.reached else "held", f.probe.group, f.probe.name, f.why] for f in findings]
    table(["", "attacks", "asks for", "stopped by"], rows)
    if reached:
        print(f"{reached} of {len(PROBES)} attacks succeeded; report this: SECURITY.md says how.")
        return 1
    print(f"All {len(PROBES)} attacks failed, as they must.")
    return 0


def _told(finding: Finding) -> dict[str, str | bool]:
    return {
        "name": finding.probe.name,
        "group": finding.probe.group,
        "reached": finding.reached,
        "why": finding.why,
    }
