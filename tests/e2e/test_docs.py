"""The pages' examples, run: every ``python`` block as a program, every ``console`` block as typed.

In a console block a line that begins with ``$ `` is typed; what follows it is what must be printed, ``...`` standing
for anything. A block after ``<!-- not run: REASON -->`` is left out, one after ``<!-- needs: PROGRAM... -->`` where the
machine, and so a sandbox, lacks one of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?P<left_out><!-- not run: .+? -->\n+)?(?:<!-- needs: (?P<needs>.+?) -->\n+)?"
    r"^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Example:
    """One block of a page."""

    page: Path
    line: int
    language: str
    code: str
    needs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def examples(language: str) -> Iterator[Example]:
    for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]):
        text = page.read_text()
        for block in BLOCK.finditer(text):
            if block["language"] == language and not block["left_out"]:
                line = text.count("\n", 0, block.start("code")) + 1
                yield Example(page, line, language, block["code"], tuple((block["needs"] or "").split()))


def typed(code: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with a pattern for what it must print."""
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        while command.endswith("\\"):
            more, _, printed = printed.partition("\n")
            command = f"{command}\n{more}"
        yield (
            command,
            "".join(".*?" if piece == "..." else re.escape(piece) for piece in re.split(r"(\.\.\.)", printed)),
        )


def skip_without(programs: tuple[str, ...]) -> None:
    """Skips the test where a program is not in ``/usr``, which sandboxes see."""
    if missing := [program for program in programs if shutil.which(program, path="/usr/bin:/bin") is None]:
        pytest.skip(f"needs {missing[0]} in /usr: apt-get install it")


@pytest.mark.parametrize("example", list(examples("python")), ids=str)
def test_a_python_example_runs(example: Example, home: Path, tmp_path: Path) -> None:
    skip_without(example.needs)
    # -X dev tells of what is left open; -W error makes that fail.
    line = [sys.executable, "-W", "error", "-X", "dev", "-c", example.code]
    done = subprocess.run(line, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stderr == ""


@pytest.mark.parametrize("example", list(examples("console")), ids=str)
def test_a_console_example_prints_what_the_page_says(example: Example, home: Path, tmp_path: Path) -> None:
    skip_without(example.needs)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command, pattern in typed(example.code):
        done = subprocess.run(
            ["bash", "-c", command],
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert re.fullmatch(pattern, done.stdout, re.DOTALL), f"$ {command}\n{done.stdout}(exit code {done.returncode})"


def test_there_are_examples() -> None:
    assert len(list(examples("python"))) >= 3
    assert len(list(examples("console"))) >= 1
