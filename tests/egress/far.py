"""A host of registries on this machine's loopback: git by its own server program, archives for apt and pip."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, cast

__all__ = ["NAME", "far_host", "found", "make_archive", "make_index", "make_repository"]

NAME = socket.gethostname()
"""A name of this machine that programs don't take for themselves, as they do `localhost`."""


def found(*names: str) -> set[str]:
    """All addresses of these names; none if one is not known here."""
    addresses: set[str] = set()
    for name in names:
        try:
            addresses |= {str(a[4][0]) for a in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
        except OSError:
            return set()
    return addresses


class _Answers(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.startswith("/git/"):
            self._git()
        else:
            super().do_GET()

    def do_POST(self) -> None:
        self._git()

    def _git(self) -> None:
        """By ``git http-backend``, which speaks CGI."""
        path, _, query = self.path.removeprefix("/git").partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(Path(self.directory) / "git"),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
        }
        body = self._body()
        env["CONTENT_LENGTH"] = str(len(body))
        said = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=True).stdout
        head, _, rest = said.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in fields.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)

    def _body(self) -> bytes:
        stream = cast(IO[bytes], self.rfile)
        if self.headers.get("transfer-encoding") != "chunked":
            return stream.read(int(self.headers.get("content-length", "0")))
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return body


@contextmanager
def far_host(root: Path) -> Iterator[int]:
    """Serves a folder; gives the port. What is below its ``git`` are repositories."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answers, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def make_repository(root: Path) -> None:
    """``git/repo.git`` of two commits, the older one tagged ``old``."""
    work, bare = root / "work", root / "git" / "repo.git"
    git = partial(subprocess.run, check=True, capture_output=True)
    git(["git", "init", "-q", "-b", "main", str(work)])
    for text, tag in (("first", "old"), ("second", "new")):
        (work / "README").write_text(text)
        git(["git", "-C", str(work), "add", "."])
        git(["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", text])
        git(["git", "-C", str(work), "tag", tag])
    bare.parent.mkdir()
    git(["git", "clone", "-q", "--bare", str(work), str(bare)])


def make_index(root: Path, *names: str) -> None:
    """``simple/``, an index of pure packages of these names; each has a module with the name as ``word``."""
    for name in names:
        index = root / "simple" / name.replace("_", "-")
        index.mkdir(parents=True)
        wheel = index / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{name}.py", f"word = {name!r}\n")
            archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (index / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')


def make_archive(root: Path) -> None:
    """``apt/``, an archive of one package, as hard for a root without privileges as packages are.

    It has a file of another user's, and its script adds a user, to whom it gives a folder.
    """
    tree = root / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: tiny-thing\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@t>\nDescription: tiny\n"
    (tree / "DEBIAN" / "control").write_text(control)
    script = tree / "DEBIAN" / "postinst"
    script.write_text(
        "#!/bin/sh\nset -e\nmkdir -p /var/lib/tiny\necho 'tiny:x:200:200::/:/bin/sh' >> /etc/passwd\n"
        "chown tiny:mail /var/lib/tiny\ninvoke-rc.d ssh start || true\n"
    )
    script.chmod(0o755)
    program = tree / "usr" / "bin" / "tiny-thing"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho tiny runs\n")
    program.chmod(0o755)
    os.chown(program, 1234, 4321)
    place = root / "apt"
    place.mkdir()
    package = place / "tiny-thing_1.0_all.deb"
    subprocess.run(["dpkg-deb", "-b", str(tree), str(package)], check=True, capture_output=True)
    data = package.read_bytes()
    (place / "Packages").write_text(
        f"{control}Filename: ./{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    )
    shutil.rmtree(tree)
