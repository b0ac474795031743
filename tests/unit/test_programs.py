"""The launcher's machine code is what its source assembles to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sandcove.runtimes.local import programs

SOURCES = Path(programs.__file__).with_name("launcher")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_launcher_is_what_its_source_says(machine: str, tmp_path: Path) -> None:
    tools = [shutil.which(f"{machine}-linux-gnu-{tool}") for tool in ("as", "objcopy")]
    if None in tools:
        pytest.skip(
            f"there is no assembler for {machine} here: Debian has it as binutils-{machine.replace('_', '-')}-linux-gnu"
        )
    assembler, objcopy = map(str, tools)
    made, code = tmp_path / "launcher.o", tmp_path / "launcher.bin"
    subprocess.run([assembler, "-o", made, SOURCES / f"{machine}.s"], check=True)
    subprocess.run([objcopy, "-O", "binary", "-j", ".text", made, code], check=True)
    assert programs.launcher(machine).endswith(code.read_bytes())
