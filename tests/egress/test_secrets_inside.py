"""Secrets that real programs in a sandbox use and never have: a host of this machine that asks for them."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from sandcove import FileSystemError, ForbiddenError, InvalidRequestError, Sandbox, Secret
from sandcove.server.egress.authority import Authority
from tests.conftest import COMMAND, MakeSandbox, making, sandcove_home
from tests.egress.mirror import fill

NAME = socket.gethostname()
"""A name of this machine that programs don't take for themselves, as they do `localhost`."""
VALUE = "v4lue-that-no-sandbox-has"
OTHER = "an0ther-value-of-the-same"

pytestmark = pytest.mark.local("hosts of this machine, and the server's own trust store")


class Asking(SimpleHTTPRequestHandler):
    """Shows files to those alone who know the value; else, in its answer's head, what it was sent."""

    protocol_version = "HTTP/1.1"
    values = frozenset({VALUE, OTHER})

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", self.headers["x-to"])
            self.send_header("content-length", "0")
            self.end_headers()
        elif self._knows():
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("www-authenticate", 'Basic realm="here"')
            self.send_header("x-was", f"{self.headers['authorization']} {self.headers['x-key']}")
            self.send_header("content-length", "0")
            self.end_headers()

    def _knows(self) -> bool:
        kind, _, word = (self.headers["authorization"] or "").partition(" ")
        if kind == "Basic":
            word = base64.b64decode(word).decode().partition(":")[2]
        return not {word, self.headers["x-key"]}.isdisjoint(self.values)


class Mirror(NamedTuple):
    secure: int
    plain: int
    certificate: Path


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    """The same by TLS and in the clear, and the certificate of its authority."""
    root = tmp_path_factory.mktemp("mirror")
    fill(root)
    authority = Authority(Authority.make())
    certificate = tmp_path_factory.mktemp("trust") / "ca.pem"
    certificate.write_text(authority.certificate)
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), partial(Asking, directory=str(root))) for _ in range(2)]
    servers[0].socket = authority.context(NAME).wrap_socket(servers[0].socket, server_side=True)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Mirror(servers[0].server_address[1], servers[1].server_address[1], certificate)
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def home(capable: None, mirror: Mirror) -> Iterator[Path]:
    """A server whose operator trusts the mirror, and lets sandboxes reach it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(mirror.certificate))
        patch.setenv("SANDCOVE_EGRESS_PRIVATE", f"127.0.0.1:{mirror.secure},127.0.0.1:{mirror.plain}")
        patch.setenv("SANDCOVE_EGRESS_CEILING", f"*:443,{NAME}:{mirror.secure},{NAME}:{mirror.plain}")
        with sandcove_home() as path:
            yield path


@pytest.fixture(scope="module")
def box(home: Path, mirror: Mirror) -> Iterator[Sandbox]:
    with Sandbox(egress=egress(mirror), secrets=secrets(mirror)) as made:
        yield made


def egress(mirror: Mirror) -> list[str]:
    return [f"{NAME}:{mirror.secure}", f"{NAME}:{mirror.plain}"]


def secrets(mirror: Mirror, value: str = VALUE) -> dict[str, Secret]:
    return {
        "KEY": Secret(value, hosts=[f"{NAME}:{mirror.secure}"], intercept_tls=True),
        "CLEAR": Secret(value, hosts=[f"{NAME}:{mirror.plain}"]),
    }


PROGRAMS = {
    "curl": 'curl -sSf -H "X-Key: $KEY" {url}/hello',
    "curl -u": "curl -sSf -u me:$KEY {url}/hello",
    "curl by SOCKS5": "curl -sSf -u me:$KEY --proxy socks5h://127.0.0.1:61080 {url}/hello",
    "wget": 'wget -qO- --header "X-Key: $KEY" {url}/hello',
    "urllib": "python3 -c \"import os, urllib.request as u; r = u.Request('{url}/hello', headers={{'X-Key': "
    "os.environ['KEY']}}); print(u.urlopen(r).read().decode())\"",
    "requests": "python3 -c \"import os, requests; print(requests.get('{url}/hello', auth=('me', "
    "os.environ['KEY'])).text)\"",
    "httpx": "python3 -c \"import os, httpx; print(httpx.get('{url}/hello', headers={{'Authorization': "
    "'Bearer ' + os.environ['KEY']}}).text)\"",
    "fetch of Node.js": "node -e \"fetch('{url}/hello', {{headers: {{'X-Key': process.env.KEY}}}}).then(r => r.text())"
    '.then(console.log)"',
    "https of Node.js": "node -e \"require('https').get('{url}/hello', {{headers: {{'X-Key': process.env.KEY}}}}, "
    'r => r.pipe(process.stdout))"',
    "pip": "pip install -q --no-input --index-url https://me:$KEY@{host}/simple --target /tmp/t tiny-thing && "
    "PYTHONPATH=/tmp/t python3 -c \"import tiny_thing; print('hello from outside', tiny_thing.word)\"",
    "git": "rm -rf /tmp/cloned; git clone -q https://me:$KEY@{host}/repo.git /tmp/cloned && cat /tmp/cloned/README && "
    "echo hello from outside",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_use_it_and_never_have_it(box: Sandbox, mirror: Mirror, program: str) -> None:
    word = PROGRAMS[program].split()[1 if program == "git" else 0].removesuffix("-rf")
    if program == "git":
        word = "git"
    host = f"{NAME}:{mirror.secure}"
    if program in ("requests", "httpx"):
        if box.exec(["python3", "-c", f"import {program}"]).exit_code:
            pytest.skip(f"there is no {program} here")
    elif box.exec(["sh", "-c", f"command -v {word}"]).exit_code:
        pytest.skip(f"there is no {word} here")
    line = PROGRAMS[program].format(url=f"https://{host}", host=host)
    ran = box.exec(line, timeout=60)
    assert "hello from outside" in ran.stdout, ran.stderr
    assert VALUE not in ran.stdout + ran.stderr
    noted = box.get_egress_log()[-1]
    assert (noted.via, noted.verdict, noted.secrets) == ("https", "allowed", ["KEY"])
    if program != "pip":  # it takes its time
        # The same with what another sandbox would have in its place:
        others = {"KEY": f"sandcove_secret_{'0' * 32}"}
        assert "hello from outside" not in box.exec(line, env=others, timeout=60).stdout


def test_in_the_clear(box: Sandbox, mirror: Mirror) -> None:
    line = f"curl -sS -i -u me:$%s http://{NAME}:{mirror.plain}/hello"
    assert "hello from outside" in box.exec(line % "CLEAR", timeout=20).stdout
    refused = box.exec(line % "KEY", timeout=20).stdout
    assert "401" in refused, "a secret for TLS alone"


def test_every_kind_of_program_has_the_placeholder(box: Sandbox) -> None:
    word = box.exec("echo $KEY").stdout.strip()
    assert word.startswith("sandcove_secret_") and len(word) == 48
    session = box.create_session("of-its-own", isolation=True)
    assert session.exec("echo $KEY").stdout.strip() == word
    process = box.start_process("echo $KEY")
    process.wait()
    assert process.logs().stdout.strip() == word
    assert box.run_code("import os; print(os.environ['KEY'])").logs.stdout == [f"{word}\n"]


def test_a_redirect_to_another_host_does_not_carry_it(box: Sandbox, mirror: Mirror) -> None:
    to = f"http://{NAME}:{mirror.plain}/hello"
    line = f'curl -sSiL --location-trusted -H "X-Key: $KEY" -H "X-To: {to}" https://{NAME}:{mirror.secure}/elsewhere'
    ran = box.exec(line, timeout=20)
    assert "302" in ran.stdout and "401" in ran.stdout
    assert f"x-was: None {box.exec('echo $KEY').stdout.strip()}" in ran.stdout.lower().replace("none", "None")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_changes_and_the_listing(home: Path, mirror: Mirror, kind: str) -> None:
    with making(kind) as make:
        _changes(make, mirror)


def _changes(make: MakeSandbox, mirror: Mirror) -> None:
    sandbox = make(egress=egress(mirror))
    assert sandbox.get_secrets() == []
    line = f'curl -sS -m 20 -H "X-Key: $KEY" https://{NAME}:{mirror.secure}/hello'
    listing = sandbox.set_secrets(secrets(mirror))
    assert [(each.name, each.hosts, each.intercept_tls) for each in listing] == [
        ("CLEAR", [f"{NAME}:{mirror.plain}"], False),
        ("KEY", [f"{NAME}:{mirror.secure}"], True),
    ]
    assert VALUE not in repr(listing)
    before = sandbox.exec("echo $KEY").stdout
    assert sandbox.exec(line).stdout == "hello from outside"
    assert sandbox.set_secrets({"KEY": Secret("wrong-one", [f"{NAME}:{mirror.secure}"], intercept_tls=True)}) == listing
    assert sandbox.exec("echo $KEY").stdout == before
    assert sandbox.exec(line).stdout == ""
    sandbox.set_secrets({"KEY": secrets(mirror, OTHER)["KEY"], "CLEAR": None})
    assert sandbox.exec(line).stdout == "hello from outside"
    assert sandbox.exec("echo ${CLEAR-gone}").stdout == "gone\n"
    sandbox.set_secrets({"KEY": None})
    assert sandbox.get_secrets() == []
    assert sandbox.exec(line.replace("$KEY", before.strip())).stdout == ""


def test_it_survives_sleep_and_the_servers_end(home: Path, mirror: Mirror) -> None:
    line = f'curl -sS -m 20 -H "X-Key: $KEY" https://{NAME}:{mirror.secure}/hello'
    with Sandbox("keeper", egress=egress(mirror), secrets=secrets(mirror)) as sandbox:
        word = sandbox.exec("echo $KEY").stdout
        sandbox.sleep()
        assert sandbox.exec(line).stdout == "hello from outside"
        subprocess.run([COMMAND, "stop"], check=True, capture_output=True, timeout=60)
        assert sandbox.exec(line).stdout == "hello from outside"
        again = Sandbox("keeper", secrets=secrets(mirror, OTHER))
        assert again.exec("echo $KEY").stdout == word
        sandbox.destroy()
        # A sandbox of the same name has nothing of the first.
        with Sandbox("keeper", egress=egress(mirror)) as another:
            assert another.get_secrets() == []
            assert another.exec(f"{line.replace('$KEY', word.strip())} 2>&1; echo ${{KEY-gone}}").stdout.endswith(
                "gone\n"
            )
            another.destroy()


def test_the_certificates_are_what_code_inside_has_made_of_them(home: Path, mirror: Mirror) -> None:
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    with Sandbox(egress=egress(mirror)) as sandbox:
        for made in (f"mkfifo {bundle}", f"mkdir {bundle}", f"truncate -s 64M {bundle}"):
            sandbox.exec(f"rm -rf {bundle}; {made}", check=True)
            with pytest.raises(FileSystemError, match=bundle):
                sandbox.set_secrets(secrets(mirror))
        sandbox.exec(f"rm -rf {bundle}", check=True)
        for _ in range(2):
            sandbox.set_secrets(secrets(mirror))
        assert sandbox.exec(f"grep -c BEGIN {bundle}").stdout == "1\n"
        line = f'curl -sS -m 20 -H "X-Key: $KEY" https://{NAME}:{mirror.secure}/hello'
        assert sandbox.exec(line).stdout == "hello from outside"


def test_what_may_not_be_reached(home: Path, mirror: Mirror) -> None:
    with pytest.raises(InvalidRequestError, match="not in the egress"), Sandbox(secrets=secrets(mirror)):
        pass
    with pytest.raises(ForbiddenError, match="egress_ceiling"):
        Sandbox(egress=["a.test:80"], secrets={"KEY": Secret(VALUE, hosts=["a.test"])}).ping()
    with pytest.raises(InvalidRequestError, match="not in both"):
        Sandbox(egress=egress(mirror), secrets=secrets(mirror), env={"KEY": "x"}).ping()
    with Sandbox(egress=egress(mirror)) as sandbox:
        with pytest.raises(InvalidRequestError, match="not in the egress"):
            sandbox.set_secrets({"KEY": Secret(VALUE, hosts=["a.test"])})
        assert sandbox.get_secrets() == []


def test_the_commands_options(home: Path, mirror: Mirror, tmp_path: Path) -> None:
    host = f"{NAME}:{mirror.secure}"
    line = f'curl -sS -m 20 -H "X-Key: $KEY" https://{host}/hello'
    words = ["run", "--egress", host, "--secret", f"KEY={host}", "--intercept-tls", "--", line]
    environment = os.environ | {"KEY": VALUE}
    run = partial(subprocess.run, check=False, capture_output=True, text=True, timeout=60)
    assert run([COMMAND, *words], env=environment).stdout == "hello from outside"
    missing = run([COMMAND, *words])
    assert (missing.returncode, "KEY" in missing.stderr) == (125, True)
    file = tmp_path / "secrets.json"
    file.write_text(f'{{"KEY": {{"value": "{VALUE}", "hosts": ["{host}"], "interceptTls": true}}}}')
    by_file = ["run", "--egress", host, "--secrets", str(file), "--", line]
    assert run([COMMAND, *by_file]).stdout == "hello from outside"
    file.write_text(f'{{"KEY": {{"value": "{VALUE}", "host": ["{host}"]}}}}')
    wrong = run([COMMAND, *by_file])
    assert wrong.returncode == 125 and VALUE not in wrong.stderr and "secrets.json" in wrong.stderr
