"""The variables that a shell exports, read from what `export -p` prints. Pure.

Bash prints a value in one of two forms: in double quotes, with a backslash before each of ``$ ` " \\``, or, where it
holds control characters or bytes that are no text, as ``$'...'`` with the escapes of ANSI C.
"""

from __future__ import annotations

import os
import re

__all__ = ["exported"]

# Possessive throughout: what was matched is never tried again, and the 16 MiB that a value may have take no memory.
_QUOTED = rb'"(?:[^"\\]++|\\.)*+"'
_ANSI_C = rb"\$'(?:[^'\\]++|\\.)*+'"
# A parenthesis in a list's own words is quoted.
_LIST = rb"\((?:[^\"$)]++|%b|%b)*+\)" % (_QUOTED, _ANSI_C)
_VARIABLE = re.compile(
    rb"declare -[A-Za-z]+ ([A-Za-z_][A-Za-z0-9_]*)(?:=(%b|%b|%b))?\n" % (_QUOTED, _ANSI_C, _LIST), re.DOTALL
)
_LONGEST = 4 * 128 * 1024
"""A value's longest form, with four characters for each byte, that the kernel lets a program be started with."""
_PLAIN_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_CONTROLS = {
    b"a": b"\a",
    b"b": b"\b",
    b"e": b"\x1b",
    b"E": b"\x1b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}


def exported(text: bytes) -> dict[str, str]:
    """The variables with a value that the beginning of `text` names, as far as it is what `export -p` prints.

    Lists are left out: a program's environment has none; nor has it a value with a NUL, which only a forged text has.
    Bytes that are no UTF-8 become surrogates, as `os.environ` has them.
    """
    found: dict[str, str] = {}
    at = 0
    while match := _VARIABLE.match(text, at):
        at = match.end()
        name, value = match.groups()
        if value is None or value.startswith(b"("):
            continue
        if b"\0" not in (plain := _value(value)):
            found[name.decode()] = os.fsdecode(plain)
    return found


def _value(quoted: bytes) -> bytes:
    if len(quoted) > _LONGEST:
        # Too long for the kernel as it is: whoever starts a program with it is told so.
        return quoted
    if quoted.startswith(b'"'):
        return _PLAIN_ESCAPE.sub(rb"\1", quoted[1:-1])
    return _ESCAPE.sub(_unescaped, quoted[2:-1])


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, other = match.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _CONTROLS.get(other, other)
