"""JSON decoders: one of each type, made by one thread at a time."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import sys, threading
import msgspec
from sandcove.wire.codec import decoder_of
sys.setswitchinterval(1e-6)
for _ in range(300):
    class Inner(msgspec.Struct):
        a: str
        b: dict[str, list[int]] | None = None
    class Outer(msgspec.Struct):
        inner: Inner
    barrier = threading.Barrier(8)
    def decode():
        barrier.wait()
        assert decoder_of(Outer).decode(b'{"inner":{"a":"x"}}').inner.a == "x"
    threads = [threading.Thread(target=decode) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""


def test_threads_that_meet_a_type_for_the_first_time_together_all_get_it() -> None:
    # In a process of its own: msgspec's own way ends it with a segmentation fault, on most of the runs.
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
