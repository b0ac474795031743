"""How the kernel for JavaScript and TypeScript is started: a program for Bun or Node, from one descriptor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["arguments", "source"]

_PARTS = ("channel", "show", "console", "failure", "lines", "bun", "node", "main")
_HEAD = """"use strict";
const [requireOwn, load, engine, language] = arguments;
// What a cell may overwrite.
const {
  Array, Atomics, BigInt, Buffer, Bun, Error, Int32Array, Map, Number, Object, Promise, Set, SharedArrayBuffer, String,
  Symbol, SyntaxError, Uint8Array, clearInterval, console, process, queueMicrotask, setImmediate, setInterval,
  setTimeout,
} = globalThis;
const JSON = { parse: globalThis.JSON.parse, stringify: globalThis.JSON.stringify };
const fs = requireOwn("node:fs"), path = requireOwn("node:path");
const util = requireOwn("node:util"), vm = requireOwn("node:vm");
const stream = requireOwn("node:stream"), { Console } = requireOwn("node:console");
const { createRequire } = requireOwn("node:module");
"""
_TAIL = "setImmediate(() => begin(engine, language, load));\n"
"""Not at once: Node gives its names to globals when the program that it was started with has run."""
_BEGIN = (
    "const code = require('node:fs').readFileSync('/proc/self/fd/5', 'utf8'); require('node:fs').closeSync(5);"
    "new Function(code)(require, (name) => import(name), '{engine}', '{language}')"
)
"""Only a program's own text can import modules for what runs in it."""


def source() -> bytes:
    """The program, which the kernel reads from its descriptor 5."""
    folder = Path(__file__).parent
    parts = [(folder / f"{name}.js").read_text("utf-8") for name in _PARTS]
    return "\n".join([_HEAD, *parts, _TAIL]).encode()


def arguments(program: str, engine: Literal["bun", "node"], language: str) -> tuple[str, ...]:
    """What starts it; `program` is the path of Bun or Node. It says itself if that is too old."""
    begin = _BEGIN.replace("{engine}", engine).replace("{language}", language)
    if engine == "bun":
        # A package that is missing is an error, not a download.
        return (program, "--no-install", "-e", begin)
    return (program, "--no-warnings", "-e", begin)
