"""Python values as JSON: always ASCII, always valid, whatever the value holds."""

from __future__ import annotations

import json
import math
import numbers
import re
from typing import Any

__all__ = ["is_small", "text_of"]

_MOST_NODES = 50_000
_MOST_TEXT = 1024 * 1024

_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_ESCAPE = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|u(d[89a-f][0-9a-f]{2})|.)")


def text_of(value: Any) -> str:
    """JSON of `value`. NaN and infinities are null, keys are strings, tuples and sets are lists.

    Raises:
        TypeError, ValueError, RecursionError: it can't be said in JSON.
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError):
        text = _encode(_clean(value, frozenset()))
    return _ESCAPE.sub(_without_half_pair, text) if "\\ud" in text else text


def _without_half_pair(match: re.Match[str]) -> str:
    """Half a surrogate pair is no character, and not valid in JSON: it becomes its own escape, as text."""
    return f"\\\\u{match[3]}" if match[3] else match[0]


def _clean(value: Any, above: frozenset[int]) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        if id(value) in above:
            raise ValueError("it contains itself")
        above |= {id(value)}
        if isinstance(value, dict):
            return {_key(key): _clean(item, above) for key, item in value.items()}
        return [_clean(item, above) for item in value]
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return _clean(float(value), above)
    raise TypeError(f"{type(value).__name__} is not known to JSON")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return json.dumps(key)
    return str(key)


def is_small(value: Any) -> bool:
    """Whether `value` is made of what JSON knows, and of so little of it that sending it a second time is cheap."""
    nodes = text = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        nodes += 1
        if isinstance(item, str):
            text += len(item)
        elif isinstance(item, dict):
            nodes += len(item)
            if nodes > _MOST_NODES:
                return False
            text += sum(len(key) for key in item if isinstance(key, str))
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            if nodes + len(item) > _MOST_NODES:
                return False
            waiting.extend(item)
        elif not (item is None or isinstance(item, numbers.Real)):
            return False
        if nodes > _MOST_NODES or text > _MOST_TEXT:
            return False
    return True
