"""Values as JSON has them: what plotting libraries keep in arrays, frames and objects of their own."""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Iterable, Sized
from itertools import islice
from typing import Any

__all__ = ["LONGEST_TEXT", "array_of", "column", "is_column", "plain", "text", "unit_of"]

LONGEST_TEXT = 1000
"""Characters of one title, label or category; what is longer is cut, with an ellipsis at its end."""

_WIDEST = 1 << 63
_DEEPEST = 8
_EXACT_FLOAT32 = 7
"""Decimal digits that a 4-byte float holds; more would be noise of its conversion."""


def text(value: Any) -> str | None:
    """A text, without surrogates that no encoding has; None when it is empty."""
    if value is None:
        return None
    told = value if type(value) is str else str(value)
    if not told:
        return None
    if len(told) > LONGEST_TEXT:
        told = told[: LONGEST_TEXT - 1] + "…"
    return told if told.isascii() else told.encode("utf-8", "replace").decode("utf-8")


def unit_of(label: str | None) -> str | None:
    """What a label has in brackets at its end: ``ms`` of ``Time (ms)`` and of ``Time [ms]``."""
    label = (label or "").rstrip()
    for opening, closing in ("()", "[]"):
        if label.endswith(closing):
            start = label.rfind(opening)
            if start > 0:
                return label[start + 1 : -1].strip() or None
    return None


def plain(value: Any, depth: int = 0) -> Any:
    """Any value as JSON: no NaN, no infinity, dates as ISO 8601, what is unknown as its text."""
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind is int:
        return value if -_WIDEST <= value < _WIDEST else float(value)
    if kind is str:
        return text(value) or ""
    if depth > _DEEPEST:
        return None
    if isinstance(value, dict):
        return {str(key): plain(inner, depth + 1) for key, inner in value.items()}
    if is_column(value):
        return column(value, depth + 1)
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if type(value).__name__ in ("NaTType", "NAType", "MaskedConstant"):
        return None
    if isinstance(value, datetime.datetime):
        told = value.isoformat()
        return told.removesuffix("T00:00:00")
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (str, bytes)):
        return text(value if isinstance(value, str) else value.decode("utf-8", "replace")) or ""
    if isinstance(value, bool):
        return bool(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return column(value.reshape(1))[0]
    if isinstance(value, (int, float)):
        return plain(int(value) if isinstance(value, int) else float(value))
    if type(value).__module__ in ("decimal", "fractions"):
        return plain(float(value))
    if type(value).__module__.startswith("sympy.") and getattr(value, "is_number", False):
        return plain(float(value))
    return text(value) or ""


def is_column(value: Any) -> bool:
    """Whether it holds several values: a list, an array, a column of a frame."""
    if isinstance(value, (list, tuple, range, set, frozenset)):
        return True
    if isinstance(value, (str, bytes, dict)):
        return False
    if hasattr(value, "__array__") or hasattr(value, "to_list") or hasattr(value, "to_numpy"):
        return getattr(value, "shape", (1,)) != ()
    return isinstance(value, Iterable) and isinstance(value, Sized) and hasattr(value, "__getitem__")


def array_of(value: Any) -> Any:
    """A numpy array of a column, whatever holds it; a masked array's hidden values are NaN."""
    numpy = sys.modules["numpy"]
    if isinstance(value, numpy.ma.MaskedArray):
        kept = value.astype(float) if value.dtype.kind in "biuf" else value.astype(object)
        return kept.filled(numpy.nan if kept.dtype.kind == "f" else None)
    if isinstance(value, numpy.ndarray):
        return numpy.asarray(value)
    if hasattr(value, "to_numpy"):
        return numpy.asarray(value.to_numpy())
    if isinstance(value, (set, frozenset)):
        value = list(value)
    try:
        made = numpy.asarray(value)
    except (TypeError, ValueError):
        return _objects(value)
    # numpy would make texts of the numbers beside a text, and of None a NaN or nothing.
    return _objects(value) if made.dtype.kind in "USO" and not hasattr(value, "dtype") else made


def _objects(values: Any) -> Any:
    made = sys.modules["numpy"].empty(len(values), dtype=object)
    for place, value in enumerate(values):
        made[place] = value
    return made


def column(value: Any, depth: int = 0) -> list[Any]:
    """A column as a list of JSON values; of an array with two dimensions a list of lists."""
    if isinstance(value, (list, tuple, range)) or "numpy" not in sys.modules:
        return [plain(each, depth + 1) for each in value]
    try:
        array = array_of(value)
    except (TypeError, ValueError):
        return [plain(each, depth + 1) for each in islice(value, 100_000)]
    if array.ndim == 0:
        return [plain(array.item(), depth + 1)]
    if array.ndim > 1:
        return [column(row, depth + 1) for row in array] if depth <= _DEEPEST else []
    return _of_array(array, depth)


def _of_array(array: Any, depth: int) -> list[Any]:
    numpy = sys.modules["numpy"]
    kind = array.dtype.kind
    if kind == "f":
        values: list[Any] = array.tolist()
        if array.dtype.itemsize < 8:
            values = [float(f"{value:.{_EXACT_FLOAT32}g}") for value in values]
        elif array.dtype.itemsize > 8:
            values = [float(value) for value in values]
        return values if numpy.isfinite(array).all() else [value if math.isfinite(value) else None for value in values]
    if kind in "biu":
        exact: list[Any] = array.tolist()
        return [plain(value) for value in exact] if kind == "u" else exact
    if kind == "M":
        return _dates(array)
    if kind == "m":
        return column((array / numpy.timedelta64(1, "s")).astype(float))
    return [plain(value, depth + 1) for value in array.tolist()]


def _dates(array: Any) -> list[Any]:
    """Dates alone where all are at midnight, otherwise with as much of the time as is needed, the same for all."""
    numpy = sys.modules["numpy"]
    missing = numpy.isnat(array)
    known = array[~missing]
    for unit in ("D", "s", "ms", "us", "ns"):
        if unit == "ns" or (known.astype(f"datetime64[{unit}]") == known).all():
            told = numpy.datetime_as_string(array.astype(f"datetime64[{unit}]")).tolist()
            return [None if lost else value for value, lost in zip(told, missing.tolist(), strict=False)]
    return []
