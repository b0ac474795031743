"""What a cell displays, sent when it is displayed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandcove.kernels.python import mime
from sandcove.kernels.python.channel import Channel
from sandcove.kernels.python.streams import Streams

__all__ = ["Results"]


class Results:
    def __init__(self, channel: Channel, streams: Streams) -> None:
        self._channel = channel
        self._streams = streams

    def send(
        self,
        data: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        *,
        main: bool = False,
        display_id: str | None = None,
        update: bool = False,
    ) -> None:
        """Returns when the agent has it."""
        if not data:
            return
        self._streams.flush()
        if not self._channel.is_ours():  # a process that the user forked has only its output
            self._streams.out.write(f"{data.get(mime.TEXT, '')}\n")
            return
        message = mime.result(data, metadata, main=main, display_id=display_id, update=update)
        if message and main:  # mostly the last thing that a cell does: only what is written next waits for it
            self._channel.ask_ahead(message)
            self._streams.active = None
        elif message:
            self._channel.ask(message)

    def clear(self, wait: bool) -> None:
        self._streams.flush()
        self._channel.ask(mime.clear_output(wait))
