"""The server's end of a connection to an agent, which passes sockets whose last close waits."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from sandcove.server.agents import AgentSocket
from tests.lingering import LINGER, lingering


@pytest.mark.parametrize("within", [False, True], ids=["itself", "within another"])
@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
def test_no_call_waits(tmp_path: Path, read: bool, within: bool) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket(socket.AF_UNIX) as listener, AgentSocket() as ours:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        ours.connect(str(tmp_path / "s"))
        with listener.accept()[0] as agent, lingering(within=within) as fd:
            socket.send_fds(agent, [b"answer"], [fd])
            os.close(fd)
            start = time.monotonic()
            if read:
                assert ours.recv(3, socket.MSG_PEEK) == b"ans" and ours.recv(100) == b"answer"
            ours.close()
            assert time.monotonic() - start < LINGER / 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_that_is_not_connected_closes() -> None:
    ours = AgentSocket()
    ours.close()
    ours.close()
    assert ours.fileno() == -1
