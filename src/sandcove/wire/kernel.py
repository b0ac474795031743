"""What an agent asks its runtime for: a Python kernel that has its libraries imported already.

The agent sends `KERNEL_REQUEST` on the channel that it has from its runtime, with `KERNEL_FDS` descriptors: those of
the kernel's contract for channel, acknowledgements, standard output and standard error (`sandcove.kernels.messages`),
then those of the namespaces that the kernel shall join, as `sandcove.linux.NAMESPACES`. `Start` is the first line on
the kernel's channel.

A runtime need not do it. If nothing comes of it the descriptors are closed, and the agent starts Python itself.
"""

from __future__ import annotations

import msgspec

from sandcove.linux import NAMESPACES

__all__ = ["KERNEL_FDS", "KERNEL_REQUEST", "Start"]

KERNEL_REQUEST = b"kernel"
KERNEL_FDS = 4 + len(NAMESPACES)


class Start(msgspec.Struct):
    """What a kernel begins with."""

    cwd: str
    env: dict[str, str]
