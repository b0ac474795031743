"""(to come) How the kernel for JavaScript and TypeScript is started."""

from __future__ import annotations

from typing import Literal

__all__ = ["arguments", "source"]


def source() -> bytes:
    return b""


def arguments(program: str, engine: Literal["bun", "node"], language: str) -> tuple[str, ...]:
    return (program, engine, language)
