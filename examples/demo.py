"""The demo (`scripts/demo`): a real project's own test suite, run in a sandbox, and what that did to this machine.

It takes the source distribution of `idna` from the package index (kept in .cache/demo for the next time), sends it
into a sandbox, unpacks it and runs its tests there with live output; lets the sandbox destroy what it can see; shows
that this machine did not change and that a second sandbox sees nothing of it; analyses data in cells of Python and
JavaScript; and prints times and memory.

Everything happens in a Sandcove folder of its own in /tmp, which is gone at the end. Exit code 0: all as promised.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import processes
from bench.harness import Samples
from bench.rooms import first_result, own_home
from examples.analyse import analyse
from sandcove import Sandbox
from sandcove.errors import SandboxError

PROJECT = "idna>=3.10,<4"
"""Small, and its source distribution carries thousands of tests that need nothing but Python."""

CACHE = Path(__file__).parents[1] / ".cache" / "demo"
PICTURE = CACHE / "sales.png"

DAMAGE = """
rm -rf "$(python -c 'import os, rich; print(os.path.dirname(rich.__file__))')" /etc/passwd /usr/bin
echo 'I was here' > /etc/evil
{ tar --version || python -c 'import rich'; } 2>/dev/null || echo destroyed
"""
"""What hostile code might do: delete a package of the Python environment and the system's programs, plant a file."""

TRACES = """
ls -A /workspace; ls /etc/evil 2>/dev/null; tar --version >/dev/null || echo 'no tar'
python -c 'import rich' 2>/dev/null || echo 'no rich'
"""
"""Prints what a sandbox sees of another's work; nothing when it sees none."""

console = Console(highlight=False, soft_wrap=True)


def step(text: str) -> None:
    console.print(f"\n[bold cyan]==>[/] [bold]{text}[/]")


def source_distribution() -> Path:
    """The project's archive: from the cache, else by `pip download`.

    Raises:
        SystemExit: it is not in the cache and can't be downloaded.
    """
    if cached := sorted(CACHE.glob("*.tar.gz")):
        console.print(f"{cached[-1].name} (kept from an earlier run in {CACHE})")
        return cached[-1]
    CACHE.mkdir(parents=True, exist_ok=True)
    console.print(f"pip download {PROJECT!r} as source, into {CACHE}")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    name = PROJECT.partition(">")[0]
    done = subprocess.run(
        [*pip, "download", "--no-deps", "--no-binary", name, "--dest", str(CACHE), PROJECT],
        check=False,
        capture_output=True,
        text=True,
    )
    if not (found := sorted(CACHE.glob("*.tar.gz"))):
        sys.exit(f"demo: the project can't be downloaded (is there a network? it is needed once):\n{done.stderr}")
    console.print(found[-1].name)
    return found[-1]


def fingerprint() -> str:
    """A hash of this machine's programs, settings and Python environment: names, sizes, modes, times of change."""
    digest = hashlib.sha256()
    for top in (sys.prefix, "/usr/bin", "/etc"):
        for entry in sorted(_below(top)):
            digest.update(entry.encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _below(top: str) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        # Python itself caches compiled modules as it meets them.
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            status = os.lstat(f"{folder}/{name}")
            yield f"{folder}/{name} {status.st_size} {status.st_mode:o} {status.st_mtime_ns}\n"


def live(width: int = 100) -> Callable[[str], None]:
    """Prints text as it arrives; a long line of dots is cut at `width`."""
    column = 0

    def show(text: str) -> None:
        nonlocal column
        for character in text:
            if column >= width and character != "\n":
                sys.stdout.write("\n")
                column = 0
            sys.stdout.write(character)
            column = 0 if character == "\n" else column + 1
        sys.stdout.flush()

    return show


def run_the_tests(sandbox: Sandbox, archive: Path, which: list[str]) -> int:
    """Unpacks the archive inside (this machine never does) and runs its tests; their exit code."""
    sandbox.upload(archive, "/workspace/project.tar.gz")
    sandbox.exec("tar xzf project.tar.gz --strip-components=1 && rm project.tar.gz", check=True)
    show = live()
    result = sandbox.exec(["python", "-m", "unittest", *which], on_stdout=show, on_stderr=show, timeout=600)
    return result.exit_code


def seconds_of(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def forked() -> float:
    """Milliseconds until a new sandbox's agent answers: the room is made, and the agent forked into it."""
    begin = time.perf_counter()
    with Sandbox() as sandbox:
        sandbox.ping()
        return (time.perf_counter() - begin) * 1e3


def first_cell(sandbox: Sandbox) -> None:
    with sandbox.create_code_context() as context:
        sandbox.run_code("import pandas; pandas.DataFrame({'a': [1]})", context=context, check=True)


def figures(home: Path, sandbox: Sandbox, rounds: int) -> Table:
    table = Table("", "p50", "p95", "", title="times and memory", title_justify="left")

    def times(name: str, samples: Samples, note: str) -> None:
        table.add_row(name, f"{samples.p50:.2f} ms", f"{samples.p95:.2f} ms", note)

    times("start", Samples([first_result() for _ in range(rounds)]), "new sandbox to its first command's result")
    with Sandbox() as cells:
        contexts = Samples([seconds_of(lambda: first_cell(cells)) * 1e3 for _ in range(rounds)])
        cells.run_code("1 + 1")
        warm = Samples([seconds_of(lambda: cells.run_code("1 + 1")) * 1e3 for _ in range(rounds * 10)])
    times("context", contexts, "new Python context to its first result, pandas imported")
    times("cell", warm, "`1 + 1` in a context that is there")
    times("fork", Samples([forked() for _ in range(rounds)]), "new sandbox until its agent answers")
    commands = Samples([seconds_of(lambda: sandbox.exec("true")) * 1e3 for _ in range(rounds * 10)])
    times("exec", commands, "`true` in a session that is there")
    try:
        memory = f"{processes.proportional_memory(processes.of_sandbox(home, sandbox.info().id)):.1f} MB"
    except PermissionError:
        memory = "?"  # an ordinary user may not look into agents
    table.add_row(
        "memory", memory, "", "of one idle sandbox of two, PSS" + (" (only root sees it)" if memory == "?" else "")
    )
    return table


def demo(home: Path, *, quick: bool) -> bool:
    """Runs it all; whether everything was as promised."""
    verdicts: list[bool] = []

    def verdict(holds: bool, text: str) -> None:
        verdicts.append(holds)
        console.print(f"[green]yes[/]  {text}" if holds else f"[bold red]NO[/]   {text}")

    step("A real project")
    archive = source_distribution()
    before = fingerprint()

    step("The first sandbox (Sandcove's server starts by itself)")
    begin = time.perf_counter()
    with Sandbox() as sandbox, Sandbox() as other:
        sandbox.exec("true")
        took = time.perf_counter() - begin
        console.print(f"two sandboxes and a first result after {took * 1e3:.0f} ms, the server's start included")

        step("Its own test suite, inside")
        which = ["tests.test_idna_codec", "tests.test_idna_compat"] if quick else []
        verdict(run_the_tests(sandbox, archive, which) == 0, "the tests pass in the sandbox")

        step("Now the sandbox destroys what it sees")
        console.print(DAMAGE.strip())
        destroyed = sandbox.exec(DAMAGE)
        verdict("destroyed" in destroyed.stdout, "inside, the system and the Python environment are broken")
        verdict(sandbox.exec("ls /root /home /var/lib/sandcove 2>/dev/null").stdout == "", "it sees no one's files")
        verdict(fingerprint() == before, f"this machine did not change (fingerprint {before})")
        verdict(other.exec(TRACES).stdout == "", "a second sandbox sees nothing of it")

        step("Data, in cells of a code context")
        found = analyse(PICTURE)
        verdict(found == {"best": "Jun", "total": 370, "mean": 280}, "JavaScript goes on with what Python wrote")
        verdict(PICTURE.read_bytes().startswith(b"\x89PNG"), f"the picture that it drew is {PICTURE}")

        step("Figures")
        console.print(figures(home, other, 5 if quick else 40))
        ids = [sandbox.info().id, other.info().id]

    step("Cleaning up")
    left = [pid for name in ids for pid in processes.of_sandbox(home, name)]
    verdict(not left, "both sandboxes are gone, with every process")
    return all(verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a part of the tests and few measurements")
    quick = parser.parse_args().quick
    try:
        with own_home() as home:
            promised = demo(home, quick=quick)
        console.print("the server has stopped, its folder is removed")
    except SandboxError as error:
        console.print(f"[bold red]demo: {error}[/] ({error.code}); `sandcove doctor` tells what this machine lacks")
        return 1
    except KeyboardInterrupt:
        return 130
    console.print("\n[bold green]All as promised.[/]" if promised else "\n[bold red]Not all as promised.[/]")
    return 0 if promised else 1


if __name__ == "__main__":
    sys.exit(main())
