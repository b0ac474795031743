"""The machine's clock is set while a server runs: nothing is lost by it, and nothing that has expired is good again.

The server's process has a clock that the test sets: a small library in front of the C library's.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandcove import get_sandbox
from tests.conftest import sandcove_home
from tests.server.conftest import ask
from tests.tenants import Tcp, serving_in

pytestmark = [
    pytest.mark.local("the server's process has a library of the test's"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler for the clock"),
]

DAY = 86_400.0
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    static volatile long *shift;
    if (!real) {
        real = dlsym(RTLD_NEXT, "clock_gettime");
        shift = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, open(getenv("SHIFT_FILE"), O_RDONLY | O_CLOEXEC), 0);
    }
    int result = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec += *shift;
    return result;
}
"""

SetClock = Callable[[float], None]


@pytest.fixture
def shifted(capable: None, tmp_path: Path) -> Iterator[tuple[Tcp, SetClock]]:
    """A server, and what sets its clock by so many seconds ahead of the machine's."""
    (tmp_path / "clock.c").write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"], cwd=tmp_path, check=True)
    shift = tmp_path / "shift"
    shift.write_bytes(bytes(8))

    def set_clock(seconds: float) -> None:
        with shift.open("r+b") as file:
            file.write(struct.pack("l", int(seconds)))

    with sandcove_home() as home, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFT_FILE", str(shift))
        patch.setenv("LD_PRELOAD", str(tmp_path / "clock.so"))
        with serving_in(home) as server:
            patch.undo()
            patch.setenv("SANDCOVE_HOME", str(home))
            yield server, set_clock


def told_time(server: Tcp) -> str:
    """What time it is for the server, when it makes a sandbox."""
    return str(ask(server.home / "server.sock", "POST", "/v1/sandboxes", {}).json["createdAt"])


def test_a_clock_that_is_set_forward_ends_no_life(shifted: tuple[Tcp, SetClock]) -> None:
    server, set_clock = shifted
    sock = server.home / "server.sock"
    box = get_sandbox("lives", time_to_live=3600, sleep_after=3600)
    box.write_file("/workspace/f", "kept")
    for seconds in (DAY, -DAY, 50 * 365 * DAY, 0):
        set_clock(seconds)
        # The end of another life has all of them looked at.
        made = ask(sock, "POST", "/v1/sandboxes", {"id": "short", "timeToLive": 50})
        assert made.status == 201
        until = time.monotonic() + 20
        while ask(sock, "GET", "/v1/sandboxes/short").status != 404:
            assert time.monotonic() < until, "a life of 50 ms did not end"
        assert ask(sock, "GET", "/v1/sandboxes/lives").json["state"] == "running"
    assert box.read_file("/workspace/f") == "kept"
    assert "Traceback" not in (server.home / "server.log").read_text()


def test_a_clock_that_is_set_back_prolongs_no_life_key_or_token(shifted: tuple[Tcp, SetClock]) -> None:
    server, set_clock = shifted
    sock = server.home / "server.sock"
    key = server.key("t", expires_in=3_600_000).key
    assert server.ask("POST", "/v1/sandboxes", key, {"id": "a"}).status == 201
    token = server.ask("POST", "/v1/sandboxes/a/tokens", key, {"expiresIn": 1_800_000}).json["token"]
    assert server.ask("GET", "/v1/sandboxes/a", token).status == 200
    # It is as if two hours had passed; all that expires does. What then sets the clock back opens nothing.
    for seconds in (7200.0, 0.0, -DAY):
        set_clock(seconds)
        for given in (key, token):
            refused = server.ask("GET", "/v1/sandboxes/a", given)
            assert refused.status == 401 and "expired" in refused.json["error"]
    assert ask(sock, "POST", "/v1/sandboxes", {"id": "short", "timeToLive": 300}).status == 201
    set_clock(-2 * DAY)
    until = time.monotonic() + 20
    while ask(sock, "GET", "/v1/sandboxes/short").status != 404:
        assert time.monotonic() < until, "a life of 300 ms did not end"


def test_sleep_limits_of_rates_and_calls_heed_the_clock_on_no_account(shifted: tuple[Tcp, SetClock]) -> None:
    server, set_clock = shifted
    sock = server.home / "server.sock"
    key = server.key("t", limits={"rate": 5}).key
    before = told_time(server)
    assert ask(sock, "POST", "/v1/sandboxes", {"id": "sleeps", "sleepAfter": 700}).status == 201
    assert ask(sock, "POST", "/v1/sandboxes", {"id": "stays", "sleepAfter": 3_600_000}).status == 201
    box = get_sandbox("stays")
    for seconds in (DAY, -DAY):
        set_clock(seconds)
        assert box.exec("echo on", timeout=5).stdout == "on\n"
        assert 429 in [server.ask("GET", "/v1/sandboxes", key).status for _ in range(30)]
        until = time.monotonic() + 20
        while server.ask("GET", "/v1/sandboxes", key).status == 429:
            assert time.monotonic() < until, "it never may again"
    assert told_time(server) < before  # it has heard of it
    until = time.monotonic() + 20
    while ask(sock, "GET", "/v1/sandboxes/sleeps").json["state"] != "asleep":
        assert time.monotonic() < until, "it does not sleep"
    assert ask(sock, "GET", "/v1/sandboxes/stays").json["state"] == "running"
    assert "Traceback" not in (server.home / "server.log").read_text()
