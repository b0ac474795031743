"""What a sandbox reaches, by real programs: a mirror on this machine, and the registries where there is a network."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sandcove import ForbiddenError, InvalidRequestError, Sandbox
from tests.conftest import COMMAND, sandcove_home
from tests.egress.mirror import fill
from tests.security.probes import inside

NAME = socket.gethostname()
"""A name of this machine that programs don't take for themselves, as they do `localhost`."""


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass


def addresses(*names: str) -> set[str]:
    found = set()
    for name in names:
        try:
            found |= {str(a[4][0]) for a in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
        except OSError:
            return set()
    return found


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A package index, a git repository and a file, on a port of this machine's own name."""
    if not any(address.startswith("127.") for address in addresses(NAME)):
        pytest.skip(f"this machine's name {NAME} does not lead to its loopback")
    root = tmp_path_factory.mktemp("mirror")
    fill(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


REGISTRIES = ("pypi.org", "files.pythonhosted.org", "registry.npmjs.org")


@pytest.fixture(scope="module")
def home(capable: None, mirror: int) -> Iterator[Path]:
    """A server whose operator allows the mirror, and what the registries' names lead to here."""
    private = [f"127.0.0.1:{mirror}", *(f"[{a}]" if ":" in a else a for a in addresses(*REGISTRIES))]
    settings = {"SANDCOVE_EGRESS_PRIVATE": ",".join(private), "SANDCOVE_EGRESS_CEILING": f"*:443,{NAME}:{mirror}"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with sandcove_home() as path:
            yield path
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def box(home: Path, mirror: int) -> Iterator[Sandbox]:
    with Sandbox(egress=[f"{NAME}:{mirror}"]) as made:
        yield made


def test_by_default_nothing(home: Path, mirror: int) -> None:
    with Sandbox() as sandbox:
        assert sandbox.info().egress == "none"
        said = sandbox.exec(f"curl -sS http://{NAME}:{mirror}/hello")
        assert f'allow it with egress=["{NAME}:{mirror}"]' in said.stdout
        # The same program, when it may:
        sandbox.set_egress([f"{NAME}:{mirror}"])
        assert sandbox.exec(f"curl -sS http://{NAME}:{mirror}/hello").stdout == "hello from outside"
        assert [entry.verdict for entry in sandbox.get_egress_log()] == ["refused", "allowed"]


def test_the_command_line_tells_of_it(home: Path, mirror: int) -> None:
    with Sandbox("told", egress=[f"{NAME}:{mirror}"]) as sandbox:
        sandbox.exec(f"curl -sSf http://{NAME}:{mirror}/hello", check=True)
        told = subprocess.run([COMMAND, "egress", "told"], check=True, capture_output=True, text=True).stdout
        (entry,) = sandbox.get_egress_log()
        cells = told.splitlines()[1].split()
        assert cells[1] == "allowed" and f"{NAME}:{mirror}" in cells and cells[-1] == entry.address
        assert f"1 allowed, 0 refused, 0 failed; {entry.sent} B sent, {entry.received} B received." in told
        sandbox.destroy()


PROGRAMS = {
    "curl": "curl -sSf {url}/hello",
    "curl by CONNECT": "curl -sSf -p {url}/hello",
    "curl by SOCKS5": "curl -sSf --noproxy '' --proxy socks5h://127.0.0.1:61080 {url}/hello",
    "wget": "wget -qO- {url}/hello",
    "urllib": "python3 -c \"import urllib.request as u; print(u.urlopen('{url}/hello').read().decode())\"",
    "requests": "PYTHONPATH=/tmp/lib python3 -c \"import requests; print(requests.get('{url}/hello').text)\"",
    "httpx": "PYTHONPATH=/tmp/lib python3 -c \"import httpx; print(httpx.get('{url}/hello').text)\"",
    "fetch of Node.js": "node -e \"fetch('{url}/hello').then(r => r.text()).then(console.log)\"",
    "http of Node.js": "node -e \"require('http').get('{url}/hello', r => r.pipe(process.stdout))\"",
    "pip": "pip install -q --no-input --index-url {url}/simple --trusted-host {name} --target /tmp/t tiny-thing && "
    "PYTHONPATH=/tmp/t python3 -c \"import tiny_thing; print('hello from outside', tiny_thing.word)\"",
    "git": "git clone -q {url}/repo.git /tmp/cloned && cat /tmp/cloned/README && echo hello from outside",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_find_the_way_by_themselves(box: Sandbox, mirror: int, program: str) -> None:
    word = PROGRAMS[program].removeprefix("PYTHONPATH=/tmp/lib ").split()[0]
    if box.exec(["sh", "-c", f"command -v {word}"]).exit_code:
        pytest.skip(f"there is no {word} here")
    if program in ("requests", "httpx"):
        if not addresses(*REGISTRIES):
            pytest.skip("this machine does not reach the registry that has it")
        box.set_egress(["python", f"{NAME}:{mirror}"])
        box.exec(f"pip install -q --no-input --target /tmp/lib {program}", timeout=60, check=True)
    ran = box.exec(PROGRAMS[program].format(url=f"http://{NAME}:{mirror}", name=NAME), timeout=60)
    assert "hello from outside" in ran.stdout, ran.stderr
    assert box.get_egress_log()[-1].verdict == "allowed"
    # The same where it may not:
    box.set_egress("none")
    ran = box.exec("rm -rf /tmp/t /tmp/cloned; " + PROGRAMS[program].format(url=f"http://{NAME}:{mirror}", name=NAME))
    assert "hello from outside" not in ran.stdout
    assert box.get_egress_log()[-1].verdict == "refused"


UDP = """
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(0.2)
u.sendto(b"x", ("127.0.0.2", 53))
u.recv(9)
"""


def test_there_is_no_other_way(box: Sandbox, mirror: int) -> None:
    for probe in (
        "socket.create_connection((args[0], int(args[1])), 2)",
        "socket.create_connection(('127.0.0.1', int(args[1])), 2)",
        "socket.getaddrinfo('pypi.org', 443)",
        UDP,
        "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 443))",
    ):
        assert not inside(box, probe, NAME, mirror).reached, probe


def test_a_change_cuts_what_is_not_allowed_any_more(box: Sandbox, mirror: int) -> None:
    program = (
        "import socket, sys\n"
        "s = socket.create_connection(('127.0.0.1', 61080))\n"
        f"s.sendall(b'CONNECT {NAME}:{mirror} HTTP/1.1\\r\\n\\r\\n')\n"
        "print(s.recv(99).split()[1].decode(), flush=True)\n"
        "print(s.recv(99), flush=True)\n"
    )
    process = box.start_process(["python3", "-c", program])
    process.wait_for_log("200", timeout=20)
    box.set_egress("none")
    assert process.wait(timeout=20) is not None
    log = box.get_egress_log()[-1]
    assert (log.verdict, log.ended, log.reason) == ("refused", True, "its egress was changed")


def test_the_ceiling(home: Path) -> None:
    for egress in ("public", "unfiltered", ["example.com"], ["*:*"]):
        with pytest.raises(ForbiddenError, match="egress_ceiling"), Sandbox(egress=egress):
            pass
    with Sandbox(egress=["example.com:443", "python"]) as sandbox:
        with pytest.raises(ForbiddenError, match="egress_ceiling"):
            sandbox.set_egress("public")
        assert sandbox.info().egress == ["example.com:443", "python"]


@pytest.mark.parametrize("egress", ["pyhton", ["*"], ["*.*"], ["http://pypi.org"], ["pypi.org:0"], [1], [["none"]], 5])
def test_what_is_no_egress(egress: object) -> None:
    if egress == ["*"]:
        Sandbox(egress=["*"])
        return
    with pytest.raises(InvalidRequestError, match="egress"):
        Sandbox(egress=egress)  # type: ignore[arg-type]


def test_it_survives_sleep_and_the_servers_end(home: Path, mirror: int) -> None:
    with Sandbox("sleeper", egress=[f"{NAME}:{mirror}"]) as sandbox:
        sandbox.sleep()
        assert sandbox.exec(f"curl -sS http://{NAME}:{mirror}/hello").stdout == "hello from outside"
        subprocess.run([COMMAND, "stop"], check=True, capture_output=True, timeout=60)
        assert sandbox.exec(f"curl -sS http://{NAME}:{mirror}/hello").stdout == "hello from outside"
        assert Sandbox("sleeper").info().egress == [f"{NAME}:{mirror}"]
        sandbox.destroy()
    lines = (home / "egress.log").read_text().splitlines()
    assert any('"sandbox":"sleeper"' in line and '"verdict":"allowed"' in line for line in lines)


def test_the_commands_option(home: Path, mirror: int) -> None:
    words = ["run", "--egress", f"{NAME}:{mirror}", "--", f"curl -sS http://{NAME}:{mirror}/hello"]
    ran = subprocess.run([COMMAND, *words], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "hello from outside"
