#!/usr/bin/env python3
"""Writes the blocking half of the SDK from the asyncio half: `src/sandcove/client/_sync` from `_async`.

    scripts/unasync.py           writes what is out of date
    scripts/unasync.py --check   writes nothing; exit code 1 when something is out of date

`io.py`, the only code that does I/O, is written by hand on both sides.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIENT = ROOT / "src" / "sandcove" / "client"
BY_HAND = {"__init__.py", "io.py"}

# In this order: whole words and patterns of the asyncio half, and what stands for them in the blocking one.
RULES = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait ", ""),
    (r"\bAsyncGenerator\[(.*?), None\]", r"Generator[\1, None, None]"),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\banext\b", "next"),
    (r"\bget_async_sandbox\b", "get_sandbox"),
    (r"\basync_list_sandboxes\b", "list_sandboxes"),
    (r"\bAsync([A-Z])", r"\1"),
    (r"\b_async\b", "_sync"),
    (r"  # noqa: ASYNC\d+.*", ""),
]


def blocking(source: str, name: str) -> str:
    """The text of the blocking file for that of the asyncio file `name`, before it is formatted."""
    for pattern, replacement in RULES:
        source = re.sub(pattern, replacement, source)
    return f"# Written by scripts/unasync.py from _async/{name}. Change that file, not this one.\n{source}"


def formatted(source: str, path: Path) -> str:
    """As ruff formats it: names that became shorter change where lines break and how imports are sorted."""
    for command in (["check", "--quiet", "--select", "I,RUF022", "--fix-only"], ["format", "--quiet"]):
        run = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        source = run.stdout
    return source


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = 0
    made = set(BY_HAND)
    for source in sorted((CLIENT / "_async").glob("*.py")):
        if source.name in BY_HAND:
            continue
        made.add(source.name)
        target = CLIENT / "_sync" / source.name
        text = formatted(blocking(source.read_text(), source.name), target)
        if not target.exists() or target.read_text() != text:
            stale += 1
            print(f"{target.relative_to(ROOT)} {'is out of date' if check else 'written'}")
            if not check:
                target.write_text(text)
    for target in sorted((CLIENT / "_sync").glob("*.py")):
        if target.name not in made:
            stale += 1
            print(f"{target.relative_to(ROOT)} has no source {'' if check else '; deleted'}")
            if not check:
                target.unlink()
    if check and stale:
        print("run scripts/unasync.py")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
