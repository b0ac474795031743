"""A secret that requests of a sandbox carry is nowhere in it, in no log and in no process but the server's."""

from __future__ import annotations

import secrets
import socket
import subprocess
from pathlib import Path

import pytest

from bench import processes
from sandcove import Sandbox, Secret
from sandcove.server.egress.authority import Authority
from tests.conftest import COMMAND
from tests.egress.secure import SecureHost
from tests.security.probes import NEEDS_ROOT, inside
from tests.security.test_secrets import _holds

NAME = socket.gethostname()

SEARCH = """
# In halves, so that what searches does not find itself.
words = [(left + right).encode() for left, right in zip(args[::2], args[1::2])]

def look(place, data):
    for number, word in enumerate(words):
        if word in data:
            say(f"{number} {place}")

for pid in filter(str.isdigit, os.listdir("/proc")):
    place = f"/proc/{pid}"
    for name in ("environ", "cmdline"):
        try:
            data = open(f"{place}/{name}", "rb").read()
        except OSError:
            continue
        look(f"{place}/{name}", data)
    if int(pid) == os.getpid():
        continue
    try:
        memory, maps = open(f"{place}/mem", "rb", 0), open(f"{place}/maps").read()
    except OSError:
        continue
    for line in maps.splitlines():
        area, rights = line.split()[:2]
        if not rights.startswith("rw"):
            continue
        start, end = (int(number, 16) for number in area.split("-"))
        try:
            memory.seek(start)
            while start < end and (piece := memory.read(min(end - start, 1 << 24))):
                look(f"{place}/mem", piece)
                start += len(piece)
        except OSError:
            continue
for top in ("/workspace", "/root", "/tmp", "/run", "/var", "/etc", "/home", "/dev/shm"):
    for folder, folders, names in os.walk(top):
        # The Python of the host, which has thousands of files.
        folders[:] = [each for each in folders if not os.path.ismount(os.path.join(folder, each))]
        for name in names:
            path = os.path.join(folder, name)
            try:
                if os.path.isfile(path) and os.path.getsize(path) < 1 << 24:
                    look(path, open(path, "rb").read())
            except OSError:
                continue
if not said:
    refuse("nowhere")
"""


@NEEDS_ROOT
@pytest.mark.local("the server's memory and folder")
def test_a_secret_is_nowhere_in_its_sandbox(fresh_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(Authority.make())
    (tmp_path / "ca.pem").write_text(authority.certificate)
    host = SecureHost(authority, NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SANDCOVE_EGRESS_PRIVATE", f"127.0.0.1:{host.port}")
    value = secrets.token_hex(16)
    where = [f"{NAME}:{host.port}"]
    with Sandbox("holder", egress=where, secrets={"KEY": Secret(value, where, intercept_tls=True)}) as sandbox:
        line = f'curl -sS -m 20 -H "X-Key: $KEY" https://{where[0]}/'
        assert sandbox.exec(line).stdout == "hello"
        assert f"x-key: {value}\r\n".encode() in host.got
        sandbox.sleep()
        assert sandbox.exec(line).stdout == "hello"
        waits = sandbox.start_process("sleep 60")
        sandbox.run_code("import os; key = os.environ['KEY']")
        word = sandbox.exec("echo $KEY").stdout.strip()
        parts = (value[:16], value[16:], "PRIVATE", " KEY-----", word[:24], word[24:])
        found = inside(sandbox, SEARCH, *parts).said
        # What the sandbox does have is found, in a process, its memory and a file; neither the value nor a key is.
        assert {place.split()[0] for place in found} == {"2"}
        assert f"2 /proc/{waits.pid}/environ" in found
        assert any(place.endswith("/mem") for place in found)
        assert any(not place.startswith("2 /proc/") for place in found)
        # The same from outside, of all that belongs to it; the server alone has it.
        room = processes.of_sandbox(fresh_home, sandbox.id)
        all_ = processes.of_home(fresh_home)
        server = [pid for pid, command in all_.items() if "sandcove.server" in command]
        assert len(room) > 3
        assert [pid for pid in sorted(all_.keys() | room) if _holds(pid, value.encode())] == server
        sandbox.destroy()
    subprocess.run([COMMAND, "stop"], check=True, capture_output=True, timeout=60)
    logs = [*fresh_home.glob("*.log"), *fresh_home.glob("sandboxes/*/*.log")]
    assert {"egress.log", "server.log", "audit.log"} <= {path.name for path in logs}
    assert not [path for path in logs if value in path.read_text()]
    host.close()
