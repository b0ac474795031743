"""Grades programs that nobody has read: each in a sandbox of its own, all at once, none can spoil another's result.

Run it: ``python -m examples.grade``
"""

from __future__ import annotations

import asyncio

from sandcove import AsyncSandbox
from sandcove.errors import ExecutionTimeoutError

TASK = "Read numbers from standard input, one a line, and print their sum."
INPUT = "1\n2\n3\n"
EXPECTED = "6\n"

SUBMISSIONS = {
    "ada": "import sys; print(sum(int(line) for line in sys.stdin))",
    "bob": "print(7)",
    "eve": "print(open('/etc/shadow').read())",
    "mallory": "import shutil; shutil.rmtree('/usr/bin'); print(6)",
    "sloth": "while True: pass",
    "zoe": "prnt('6')",
}


async def grade(program: str) -> str:
    """What became of one submission."""
    async with AsyncSandbox() as sandbox:
        await sandbox.write_file("submission.py", program)
        try:
            result = await sandbox.exec(["python", "submission.py"], stdin=INPUT, timeout=5)
        except ExecutionTimeoutError:
            return "ran for over 5 s"
        if not result.success:
            return f"failed: {result.stderr.splitlines()[-1]}"
        return "right" if result.stdout == EXPECTED else f"wrong: printed {result.stdout!r}"


async def main() -> None:
    print(TASK)
    grades = await asyncio.gather(*(grade(program) for program in SUBMISSIONS.values()))
    for name, verdict in zip(SUBMISSIONS, grades, strict=True):
        print(f"{name:8} {verdict}")


if __name__ == "__main__":
    asyncio.run(main())
