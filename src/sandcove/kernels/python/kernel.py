"""The kernel's life: a request comes, is answered, and the next comes, until the channel ends."""

from __future__ import annotations

import faulthandler
import json
import os
from typing import Any, NoReturn

from sandcove.kernels.python import branch, cell
from sandcove.kernels.python.channel import end
from sandcove.kernels.python.host import Host, Kit
from sandcove.kernels.python.jsonable import text_of

__all__ = ["Kernel"]


class Kernel:
    def __init__(self, kit: Kit, host: Host) -> None:
        self.kit = kit
        self.host = host

    def start(self) -> None:
        """From now on this process prints, is interrupted and forks as a kernel."""
        faulthandler.enable(2)
        self.kit.interrupts.install()
        self.kit.streams.restore()
        self.ready()

    def ready(self) -> None:
        version, notes = text_of(self.host.version), text_of(self.host.notes)
        self.kit.channel.tell(f'{{"type":"ready","pid":{os.getpid()},"version":{version},"notes":{notes}}}\n'.encode())

    def run(self) -> NoReturn:
        while True:
            self.answer()

    def answer(self) -> None:
        """Waits for one request and answers it."""
        loop, channel = self.kit.loop, self.kit.channel
        while loop.is_busy() and not loop.wait():
            pass
        received = channel.receive()
        if received is None:
            self.kit.streams.flush()
            end()
        line, fds = received
        request: dict[str, Any] = json.loads(line)
        if request["op"] == "run":
            cell.run(self.kit, self.host, request["code"], request.get("env"))
        elif request["op"] == "fork":
            branch.fork(self.kit, self.host, fds, self.ready)
