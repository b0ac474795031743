"""What a new room begins with: the folders of its `/`, and the read-only lower layer of its `/etc`.

The layer has accounts, certificates, the time zone; nothing that is the host's own. It is made once for each state
of the host's files that go into it and shared by all rooms; what a sandbox changes goes into its own upper layer.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from pathlib import Path

from sandcove.runtimes.local.network import RESOLVER
from sandcove.runtimes.local.packages import apt_files, system_users
from sandcove.runtimes.local.plan import ROOT_LINKS

__all__ = ["make_etc", "make_root"]

_VERSION = "3"
_FOLDERS = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "tmp": 0o1777,
    "usr": 0o755,
    "var": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/tmp": 0o1777,
    "workspace": 0o755,
}
_FILES = {
    "passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
    "resolv.conf": f"# There is a way to it where the egress is unfiltered.\nnameserver {RESOLVER}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "shells": "/bin/sh\n/bin/bash\n",
    "profile": "[ -f ~/.profile ] && . ~/.profile\n",
}
_FROM_HOST = (
    "alternatives",
    "ca-certificates.conf",
    "debconf.conf",
    "debian_version",
    "dpkg/origins",
    "dpkg/shlibs.default",
    "fonts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
)
"""Below /etc: what programs in /usr need, and nothing that could hold a secret."""
_NODE_PROXY = Path(__file__).with_name("node_proxy.cjs")
"""What Node.js that knows no proxy by itself loads first; see `sandcove.agent.way_out`."""
_FROM_HOST_PATTERNS = ("java-*", "perl", "python3*")


def make_root(root: Path) -> None:
    """Makes the folders of a new sandbox's `/`, or those that are missing."""
    old = os.umask(0)
    try:
        for name, mode in _FOLDERS.items():
            with contextlib.suppress(FileExistsError):
                os.mkdir(root / name, mode)
        for name in ROOT_LINKS:
            if os.path.islink(f"/{name}"):
                with contextlib.suppress(FileExistsError):
                    os.symlink(os.readlink(f"/{name}"), root / name)
    finally:
        os.umask(old)


def make_etc(templates: Path) -> Path:
    """The layer of `/etc` for the host as it is now, made if it is not there yet.

    Args:
        templates: the folder that holds them; older ones in it are removed, so no room may be open, and what a
            server has left that was killed in here.
    """
    etc = Path("/etc")
    sources = [etc / name for name in _FROM_HOST if (etc / name).exists()]
    for pattern in _FROM_HOST_PATTERNS:
        sources += sorted(etc.glob(pattern))
    files = _files()
    digest = hashlib.sha256(_VERSION.encode() + repr(files).encode())
    for source in sources:
        status = source.stat()
        digest.update(f"{source} {status.st_mtime_ns} {status.st_size}\n".encode())
    place = templates / digest.hexdigest()[:16]
    for other in templates.iterdir():
        if other != place:
            shutil.rmtree(other, ignore_errors=True)
    if not place.exists():
        new = templates / "new"
        _fill(new, files, sources)
        os.rename(new, place)
    return place


def _files() -> dict[str, str]:
    """The texts below `/etc` that are not the host's; one that begins with ``#!`` is a program."""
    files = {name: text + (system_users(name) if name in ("passwd", "group") else "") for name, text in _FILES.items()}
    files["sandcove/proxy.cjs"] = _NODE_PROXY.read_text()
    release = Path("/etc/os-release")
    return files | apt_files(release.read_text() if release.exists() else "")


def _fill(layer: Path, files: dict[str, str], sources: list[Path]) -> None:
    layer.mkdir(mode=0o755)
    for name, text in files.items():
        path = layer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)
    for source in sources:
        target = layer / source.relative_to("/etc")
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    """Copies what everybody may read; links stay links."""
    status = source.lstat()
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode):
        target.mkdir(mode=0o755)
        for entry in os.scandir(source):
            _copy(Path(entry.path), target / entry.name)
    elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH:
        shutil.copyfile(source, target)
        target.chmod(stat.S_IMODE(status.st_mode) & 0o755)
