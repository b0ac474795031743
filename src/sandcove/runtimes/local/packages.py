"""What apt and dpkg need in a room, on a host that has them: Debian, Ubuntu.

A room's `/usr` is the host's, copy-on-write; so is the list of what is installed there. The rest lies in `/etc`: where
the distribution's archive is, its users, and that root of a room has no capabilities.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

__all__ = ["DPKG", "EMPTIED", "apt_files", "system_users"]

DPKG = "/var/lib/dpkg"
"""The host folder that says what is installed; a room sees it copy-on-write."""
EMPTIED = "statoverride"
"""The file in it that a room has empty: owners of the host's, which dpkg would ask for and a room does not have."""
_KEYRING = "/usr/share/keyrings/{}-archive-keyring.gpg"
_PORTS = "http://ports.ubuntu.com/ubuntu-ports"
_TOOL = Path(__file__).with_name("room_dpkg.py")
_BASE = Path("/usr/share/base-passwd")

_APT = """\
// User code of a sandbox has no capability: it can't become another user.
APT::Sandbox::User "root";
// Programs need no recommended packages, and the disk of a sandbox is small.
APT::Install-Recommends "false";
Binary::apt::APT::Keep-Downloaded-Packages "false";
APT::Keep-Downloaded-Packages "false";
Acquire::Languages "none";
Dir::Log::Terminal "/dev/null";
Dir::Bin::dpkg "/etc/sandcove/dpkg";
"""
_DPKG = """\
# Owners that can't be given are left out: root of a sandbox has no capability.
force-not-root
force-unsafe-io
force-confdef
force-confold
"""


def apt_files(release: str) -> dict[str, str]:
    """Files below `/etc`, by path: none where the distribution is not known.

    Args:
        release: the text of ``/etc/os-release``.
    """
    facts = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    facts = {name: value.strip("\"'") for name, value in facts.items()}
    sources = _sources(facts.get("ID", ""), facts.get("VERSION_CODENAME", ""))
    if not sources or not Path(DPKG).is_dir():
        return {}
    return {
        "apt/apt.conf.d/50sandcove": _APT,
        "apt/preferences.d/.keep": "",
        "apt/sources.list.d/sandcove.sources": sources,
        "apt/trusted.gpg.d/.keep": "",
        "dpkg/dpkg.cfg.d/sandcove": _DPKG,
        "sandcove/dpkg": f"#!{sys.executable} -IS\n{_TOOL.read_text()}",
    }


def _sources(distribution: str, codename: str) -> str:
    keyring = _KEYRING.format(distribution)
    if not codename or not Path(keyring).exists():
        return ""
    if distribution == "debian":
        parts = "main"
        places = [
            ("http://deb.debian.org/debian", f"{codename} {codename}-updates"),
            ("http://deb.debian.org/debian-security", f"{codename}-security"),
        ]
    elif distribution == "ubuntu":
        parts = "main universe"
        on_x86 = platform.machine() == "x86_64"
        places = [
            ("http://archive.ubuntu.com/ubuntu" if on_x86 else _PORTS, f"{codename} {codename}-updates"),
            ("http://security.ubuntu.com/ubuntu" if on_x86 else _PORTS, f"{codename}-security"),
        ]
    else:
        return ""
    return "\n".join(
        f"Types: deb\nURIs: {place}\nSuites: {suites}\nComponents: {parts}\nSigned-By: {keyring}\n"
        for place, suites in places
    )


def system_users(name: str) -> str:
    """The lines that every system of the distribution has in its ``passwd`` or ``group``, but root's and nobody's."""
    try:
        lines = (_BASE / f"{name}.master").read_text().splitlines()
    except OSError:
        return ""
    return "".join(f"{line}\n" for line in lines if line.split(":")[0] not in ("root", "nobody", "nogroup"))
