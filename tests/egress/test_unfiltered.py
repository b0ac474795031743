"""The network that nobody filters: the server is in a network namespace of this test's, the world in another one."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sandcove import HostUnsupportedError, InvalidRequestError, Sandbox
from sandcove.wire.egress import parse_egress
from tests.conftest import COMMAND, sandcove_home
from tests.egress import peer
from tests.egress.world import DATAGRAM, NAME, PING, PUBLIC, PUBLIC_6, SHUT, STREAM, US
from tests.security.probes import inside


@pytest.fixture(scope="module")
def home(unfiltered_home: Path) -> Path:
    return unfiltered_home


@pytest.fixture
def box(unfiltered: Sandbox) -> Sandbox:
    return unfiltered


def pastas(namespace: str) -> list[int]:
    """Those whose sockets are in this namespace."""
    there = os.stat(f"/run/netns/{namespace}").st_ino
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            program = os.readlink(f"/proc/{entry}/exe").rpartition("/")[2]
            if program.startswith("passt") and os.stat(f"/proc/{entry}/ns/net").st_ino == there:
                found.append(int(entry))
    return found


WAYS: dict[str, tuple[str, *tuple[object, ...]]] = {
    "TCP": (STREAM, PUBLIC, peer.TCP),
    "TCP by IPv6": (STREAM, PUBLIC_6, peer.TCP),
    "UDP": (DATAGRAM, PUBLIC, peer.UDP),
    "UDP by IPv6": (DATAGRAM, PUBLIC_6, peer.UDP),
    "names": (NAME,),
    "echo": (PING, PUBLIC, 0),
    "echo by IPv6": (PING, PUBLIC_6, 0),
}


def test_everything_is_reached_and_nothing_after_a_change(box: Sandbox) -> None:
    assert (box.info().egress, getattr(box.info().isolation, "network", "")) == ("unfiltered", "unfiltered")
    for name, (probe, *args) in WAYS.items():
        assert inside(box, probe, *args).reached, name
    box.set_egress("none")
    assert getattr(box.info().isolation, "network", "") == "loopback"
    for name, (probe, *args) in WAYS.items():
        assert not inside(box, probe, *args).reached, name


def test_no_port_of_a_sandbox_is_open_to_the_world(box: Sandbox, ours: str) -> None:
    process = box.start_process("python3 -m http.server 7171 --bind 0.0.0.0")
    process.wait_for_port(7171, timeout=20)
    assert box.fetch("/", 7171).status == 200
    tried = "import socket, sys; socket.create_connection((sys.argv[1], 7171), 1)"
    for address in (US, "127.0.0.1"):
        there = ["ip", "netns", "exec", ours, sys.executable, "-c", tried, address]
        assert b"refused" in subprocess.run(there, check=False, capture_output=True).stderr


def test_pasta_is_nobody_on_the_host(box: Sandbox, ours: str) -> None:
    isolation = box.info().isolation
    assert isolation is not None
    (pid,) = pastas(ours)

    def status_of_pasta() -> dict[str, str]:
        return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())

    end = time.monotonic() + 5
    while status_of_pasta()["Seccomp"] != "2" and time.monotonic() < end:
        pass  # it has said that it is ready a moment before
    status = status_of_pasta()
    assert status["Uid"].split() == status["Gid"].split() == [isolation.host_user] * 4
    assert os.stat(f"/proc/{pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
    assert status["Seccomp"] == "2"


def test_it_ends_with_the_room_and_comes_back(home: Path, ours: str) -> None:
    with Sandbox("sleeper", egress="unfiltered") as sandbox:
        try:
            assert len(pastas(ours)) == 1
            sandbox.sleep()
            assert pastas(ours) == []
            assert inside(sandbox, *WAYS["UDP"]).reached
            # What kills pasta alone takes the network, and nothing else.
            (pid,) = pastas(ours)
            end = os.pidfd_open(pid)
            signal.pidfd_send_signal(end, signal.SIGKILL)
            os.close(end)
            while getattr(sandbox.info().isolation, "network", "") != "loopback":
                pass
            assert "pasta ended" in (sandbox.info().note or "")
            assert not inside(sandbox, *WAYS["UDP"]).reached
            sandbox.set_egress("none")
            assert sandbox.info().note is None
            sandbox.set_egress("unfiltered")
            assert sandbox.info().note is None
            assert inside(sandbox, *WAYS["UDP"]).reached
            assert not inside(sandbox, STREAM, SHUT[0], peer.TCP).reached
        finally:
            sandbox.destroy()
    assert pastas(ours) == []


def test_it_ends_with_a_killed_server(home: Path, ours: str, start: list[str]) -> None:
    with Sandbox("survivor", egress="unfiltered") as sandbox:
        (pid,) = pastas(ours)
        server = int(Path(f"/proc/{pid}/status").read_text().partition("PPid:")[2].split()[0])
        ends = [os.pidfd_open(each) for each in (pid, server)]
        os.kill(server, signal.SIGKILL)
        for end in ends:
            wait_for(end)
        subprocess.run(start, check=True, timeout=60)
        assert inside(sandbox, *WAYS["TCP"]).reached
        sandbox.destroy()


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [("PATH", "/nowhere", "passt"), ("SANDCOVE_EGRESS_CEILING", "public", "egress_ceiling")],
)
def test_it_wakes_also_where_it_may_not_any_more(
    home: Path, start: list[str], variable: str, value: str, why: str
) -> None:
    with Sandbox("left", egress="unfiltered") as sandbox:
        subprocess.run([COMMAND, "stop"], check=True, capture_output=True, timeout=60)
        subprocess.run(start, check=True, timeout=60, env={**os.environ, variable: value})
        try:
            assert sandbox.exec("echo lives").stdout == "lives\n"
            info = sandbox.info()
            assert getattr(info.isolation, "network", "") == "loopback" and why in (info.note or "")
            sandbox.set_egress("none")
            assert sandbox.info().egress == "none"
        finally:
            subprocess.run([COMMAND, "stop"], check=True, capture_output=True, timeout=60)
            subprocess.run(start, check=True, timeout=60)
            sandbox.destroy()


def wait_for(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(10_000), "a process is left"
    os.close(pidfd)


def test_the_operator_must_allow_it() -> None:
    wanted = parse_egress("unfiltered")
    for ceiling in ("public", "*:*", "python", "none"):
        assert wanted.beyond(parse_egress(ceiling)) == ["unfiltered"]
    for egress in ("unfiltered", "public", "python"):
        assert parse_egress(egress).beyond(wanted) == []
    with pytest.raises(InvalidRequestError, match="stands alone"):
        parse_egress(["unfiltered", "python"])


def test_without_pasta_it_says_how_to_get_it(capable: None, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SANDCOVE_EGRESS_CEILING", "unfiltered")
        patch.setenv("PATH", str(tmp_path))
        with sandcove_home():
            with pytest.raises(HostUnsupportedError, match="passt"), Sandbox(egress="unfiltered"):
                pass
            with Sandbox() as sandbox:
                with pytest.raises(HostUnsupportedError, match="passt"):
                    sandbox.set_egress("unfiltered")
                assert sandbox.info().egress == "none"
                assert sandbox.exec("echo lives").stdout == "lives\n"
