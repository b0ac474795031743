"""A server that an ordinary user starts, on a machine whose tests run as root: all that a sandbox does works there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import sandcove_home
from tests.security.probes import NEEDS_ROOT

pytestmark = [NEEDS_ROOT, pytest.mark.local("the server is another user's")]
USER = 12345
# The Python of this environment may lie below root's own folder, which others may not enter: they get a view of it.
AS_USER = """
set -e
umask 022
python=$1 home=$2; shift 2
mount --make-rprivate /
mount --rbind "$python" /mnt
first=/$(echo "$python" | cut -d / -f 2)
if [ "$(stat -c %a "$first" | tail -c 2)" = 0 ]; then
  mount -t tmpfs -o mode=755 none "$first"
  mkdir -p "$python"
  mount --rbind /mnt "$python"
fi
exec setpriv --reuid 12345 --regid 12345 --clear-groups env -i PATH=/usr/bin:/bin SANDCOVE_HOME="$home" "$@"
"""
SCRIPT = """
import json, os, subprocess, sys
from sandcove import Sandbox
told = {"uid": os.geteuid()}
try:
    with Sandbox("mine", limits={"memory": "512m", "processes": 100}) as box:
        told["exec"] = box.exec("id -u; echo x > /workspace/x; cat /workspace/x").stdout.split()
        exe = "import os; os.readlink('/proc/self/exe')"
        told["kernel"] = box.run_code(exe).text
        told["second"] = box.run_code(exe, context=box.create_code_context()).text
        told["isolated"] = box.create_session("apart", isolation=True).exec("echo $$").stdout.split()
        listing = "for n in user mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done"
        by_cell = "".join(box.run_code("!" + listing).logs.stdout).replace("\\r", "")
        told["namespaces"] = [box.exec(listing).stdout, by_cell]
        box.sleep()
        told["woken"] = box.read_file("/workspace/x")
finally:
    command = os.path.join(os.path.dirname(sys.executable), "sandcove")
    subprocess.run([command, "stop"], check=True, capture_output=True)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(capable: None) -> Iterator[dict[str, Any]]:
    with sandcove_home() as folder:
        os.chown(folder, USER, USER)
        command = ["unshare", "-m", "sh", "-c", AS_USER, "sh", sys.base_prefix, str(folder), sys.executable, "-c"]
        tried = subprocess.run([*command, "import sandcove"], check=False, capture_output=True, text=True, timeout=60)
        if tried.returncode != 0:
            pytest.skip(f"another user can't use this environment: {tried.stderr[-300:]}")
        done = subprocess.run([*command, SCRIPT], check=False, capture_output=True, text=True, timeout=110)
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)


def test_sandboxes_work(told: dict[str, Any]) -> None:
    assert told["uid"] == USER
    assert told["exec"] == ["0", "x"] and told["woken"] == "x\n" and len(told["isolated"]) == 1


def test_python_kernels_are_forked_and_join_all_namespaces(told: dict[str, Any]) -> None:
    assert told["kernel"] == told["second"] == "'/memfd:python (deleted)'"
    ours, theirs = told["namespaces"]
    assert ours == theirs and ours.count("\n") == 7
