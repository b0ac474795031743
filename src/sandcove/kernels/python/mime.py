"""A display's MIME bundle as the JSON of a ``result`` message. The fields are those of the wire's `CodeEvent`."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any

from sandcove.kernels.python.jsonable import is_small, text_of

__all__ = ["CHART", "JSON", "PICTURES", "TEXT", "clear_output", "result", "with_json"]

TEXT = "text/plain"
JSON = "application/json"
CHART = "application/vnd.sandcove.chart+json"
"""Our own: the data that the picture beside it was drawn from."""

_FIELDS = {
    TEXT: "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "text/latex": "latex",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "application/javascript": "javascript",
    "text/javascript": "javascript",
    JSON: "json",
    "application/vnd.plotly.v1+json": "plotly",
    "application/geo+json": "geojson",
    CHART: "chart",
}
_VERSIONED = re.compile(r"application/vnd\.(vega|vegalite)\.v\d+(?:\.\d+)*(?:\+json|\.json)")
_BINARY = {"png", "jpeg", "pdf"}
_STRUCTURED = {"json", "plotly", "vega", "vegaLite", "geojson", "chart"}
PICTURES = {"svg", "png", "jpeg", "pdf", "plotly", "vega", "vegaLite"}

_LONGEST_ID = 1000
LONGEST = 16 * 1024 * 1024
"""Bytes of a result."""


def field_of(mime: str) -> str | None:
    """The field that has this type's data; None: it is in ``data``, by its type."""
    known = _FIELDS.get(mime)
    if known is None and (match := _VERSIONED.fullmatch(mime)):
        return "vega" if match[1] == "vega" else "vegaLite"
    return known


def result(
    data: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    main: bool = False,
    display_id: str | None = None,
    update: bool = False,
) -> bytes:
    """The message, one line. A format that can't be encoded is left out; without any it is empty."""
    parts: dict[str, str] = {}
    others: dict[str, str] = {}
    for mime, value in data.items():
        mime = str(mime)
        field = field_of(mime)
        try:
            encoded = _encoded(field, value)
        except (TypeError, ValueError, RecursionError):
            continue
        if field is None:
            others[mime] = encoded
        else:
            parts[field] = encoded
    if others:
        parts["data"] = _object(others)
    if not parts:
        return b""
    if metadata and (told := _metadata(metadata)):
        parts["metadata"] = told
    if (length := sum(map(len, parts.values()))) > LONGEST:
        formats = ", ".join(sorted({*parts, *others} - {"metadata", "data"}))
        parts = {"text": text_of(_too_long(length, formats))}
    if main:
        parts["main"] = "true"
    if display_id is not None:
        parts["displayId"] = text_of(str(display_id)[:_LONGEST_ID])
    if update:
        parts["update"] = "true"
    return _object({"type": '"result"', **parts}).encode() + b"\n"


def clear_output(wait: bool) -> bytes:
    return b'{"type":"clear_output","wait":%s}\n' % (b"true" if wait else b"false")


def with_json(data: dict[str, Any], value: object) -> None:
    """Adds a dict or a list itself, if it is JSON and not large."""
    if isinstance(value, (dict, list)) and JSON not in data and is_small(value):
        data[JSON] = value


def _object(parts: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{text_of(name)}:{value}" for name, value in parts.items()) + "}"


def _encoded(field: str | None, value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        if field is None or field in _BINARY:
            value = base64.b64encode(value).decode()
        else:
            value = bytes(value).decode(errors="replace")
    elif field in _BINARY and isinstance(value, str):
        value = value.replace("\n", "")  # base64 as `base64.encodebytes` breaks it
    if field is not None and field not in _STRUCTURED and not isinstance(value, str):
        if not (isinstance(value, (list, tuple)) and all(isinstance(line, str) for line in value)):
            raise TypeError(f"{field} is text")
        value = "".join(value)  # as notebooks have it
    if field == "chart" and not isinstance(value, dict):
        raise TypeError("a chart is an object")
    return text_of(value)


def _metadata(metadata: Mapping[str, Any]) -> str | None:
    told: dict[str, str] = {}
    for mime, value in metadata.items():
        if value is None or value == {}:
            continue
        try:
            told[field_of(str(mime)) or str(mime)] = text_of(value)
        except (TypeError, ValueError, RecursionError):
            continue
    return _object(told) if told else None


def _too_long(length: int, formats: str) -> str:
    return (
        f"(a result of {length:,} bytes as {formats} is not shown: {LONGEST:,} is the most; write it to a file instead,"
        " or show a part of it)"
    )
