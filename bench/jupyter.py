"""A Jupyter kernel, the peer of a code context: ipykernel, driven by jupyter_client, as notebooks do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["PEER", "Jupyter", "jupyter"]

PEER = "ipykernel"
WITHIN = 60.0


class Jupyter:
    """A kernel that runs, and the client that is connected to it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, code: str) -> int:
        """Runs a cell; when all of its output is there, gives how many characters and base64 digits that was.

        Raises:
            RuntimeError: the cell raised.
        """
        own = self._client.execute(code, store_history=False)
        size = 0
        while True:
            message = self._client.get_iopub_msg(timeout=WITHIN)
            if message["parent_header"].get("msg_id") != own:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    size += len(content["text"])
                case "display_data" | "execute_result":
                    size += sum(len(str(value)) for value in content["data"].values())
                case "error":
                    raise RuntimeError(f"{content['ename']}: {content['evalue']}")
                case "status" if content["execution_state"] == "idle":
                    return size


@contextmanager
def jupyter() -> Iterator[Jupyter]:
    """Starts a kernel, and ends it."""
    from jupyter_client.manager import KernelManager

    manager: Any = KernelManager(kernel_name="python3", transport="ipc")
    manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=WITHIN)
        yield Jupyter(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
