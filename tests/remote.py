"""A real git remote inside a sandbox: git's own ``http-backend`` behind a small web server on the sandbox's loopback.

`serve` starts it. Its paths begin with what it does:

    /open/repo.git      serves it to all
    /auth/repo.git      asks for a user name and password
    /hold/repo.git      as /auth, but sends nothing of what is fetched before it is told to: see `Remote`
    /away/repo.git      redirects to /auth of the second port
    /lure/repo.git      does so after it was told a user name and password
    /tell/repo.git      refuses, and repeats all that it was told
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import shutil
from typing import NamedTuple

import pytest

from sandcove import Sandbox

__all__ = ["NEEDS_GIT", "Remote", "serve"]

NEEDS_GIT = pytest.mark.skipif(
    shutil.which("git", path="/usr/bin:/bin") is None, reason="needs git: apt-get install git"
)


def _server() -> None:
    """The program that runs in the sandbox; it knows only a digest of what it is to be told."""
    import base64
    import hashlib
    import http.server
    import os
    import subprocess
    import sys
    import threading

    digest = sys.argv[1]

    class Requests(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def refuse(self, status: int, text: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = self.headers.get("Authorization") or ""
            with open("/tmp/remote.log", "a") as log:
                log.write(f"{self.connection.getsockname()[1]} {self.command} {self.path} {'told' if given else '-'}\n")
            _, kind, rest = self.path.split("/", 2)
            path, _, query = rest.partition("?")
            if kind == "away" or (kind == "lure" and given):
                self.refuse(302, b"", Location=f"http://127.0.0.1:{ports[1]}/auth/{rest}")
                return
            known = hashlib.sha256(given.encode()).hexdigest() == digest
            if kind in ("auth", "hold", "tell", "lure") and not known:
                self.refuse(401, b"who are you?", WWW_Authenticate='Basic realm="git"')
                return
            if kind == "tell":
                self.refuse(403, f"{given} {base64.b64decode(given.split()[1]).decode()}".encode())
                return
            if kind == "hold" and self.command == "POST" and b"want" in body:
                with open("/tmp/arrived", "w") as fifo:
                    fifo.write("here\n")
                with open("/tmp/release") as fifo:
                    fifo.read()
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": "/srv/git",
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": "/" + path,
                "QUERY_STRING": query,
                "REQUEST_METHOD": self.command,
                "REMOTE_ADDR": "127.0.0.1",
                "CONTENT_TYPE": self.headers.get("Content-Type") or "",
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding") or "",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol") or "",
            }
            done = subprocess.run(["git", "http-backend"], check=False, input=body, env=env, stdout=subprocess.PIPE)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            self.send_response(int(fields.pop("Status", "200").split()[0]))
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815 - the library's name

    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Requests) for _ in range(2)]
    ports = [server.server_port for server in servers]
    print(*ports, flush=True)
    if os.fork():
        return
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    threading.Thread(target=servers[1].serve_forever).start()
    servers[0].serve_forever()


MAKE_REPOSITORY = """
set -e
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q /srv/work && cd /srv/work && git checkout -q -b trunk
for n in 1 2 3; do echo $n > file; git add file; git commit -qm "number $n"; done
git tag light && git tag -a heavy -m heavy
git checkout -q -b feature/one HEAD~1 && echo one > one && git add one && git commit -qm one
git checkout -q --detach && echo lost > lost && git add lost && git commit -qm lost && git rev-parse HEAD > /srv/lost
git update-ref refs/odd/lost HEAD
git clone -q --mirror /srv/work /srv/git/repo.git
git -C /srv/git/repo.git symbolic-ref HEAD refs/heads/trunk
git init -q --bare /srv/git/empty.git
for ref in trunk trunk~1 feature/one; do git -C /srv/work rev-parse $ref; done
cat /srv/lost
mkfifo /tmp/arrived /tmp/release
"""


class Remote(NamedTuple):
    """Where it is, whom it knows, and what it has.

    A clone from ``/hold`` has arrived when ``/tmp/arrived`` gives a line, and goes on when ``/tmp/release`` is written.
    """

    url: str
    ports: tuple[int, int]
    username: str
    password: str
    trunk: str
    before: str
    feature: str
    lost: str
    """A commit that no branch and no tag has."""

    @property
    def header(self) -> str:
        return basic(self.username, self.password)

    def at(self, kind: str, repository: str = "repo.git") -> str:
        return f"{self.url}/{kind}/{repository}"

    def requests(self, sandbox: Sandbox) -> list[str]:
        """What was asked so far: port, method, path, and whether an Authorization came with it."""
        return sandbox.read_file("/tmp/remote.log").splitlines()


def basic(username: str, password: str) -> str:
    """The value of an Authorization header."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def serve(sandbox: Sandbox, username: str, password: str) -> Remote:
    """Makes ``/srv/git/repo.git`` (and an empty one beside it), and serves it."""
    made = sandbox.exec(MAKE_REPOSITORY, check=True, env={"HOME": "/nonexistent"}).stdout.split()
    sandbox.write_file("/srv/server.py", f"from __future__ import annotations\n{inspect.getsource(_server)}\n_server()")
    digest = hashlib.sha256(basic(username, password).encode()).hexdigest()
    first, second = sandbox.exec(["python3", "/srv/server.py", digest], check=True).stdout.split()
    return Remote(f"http://127.0.0.1:{first}", (int(first), int(second)), username, password, *made)
