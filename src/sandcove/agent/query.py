"""The parameters in a request's target, checked as bodies are: none is accepted and then ignored."""

from __future__ import annotations

import re
from typing import TypeVar

from starlette.requests import Request

from sandcove.errors import InvalidRequestError

__all__ = ["flag", "number", "query"]

D = TypeVar("D")

_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def query(http: Request, *known: str) -> dict[str, str]:
    """All of them by name; raises `InvalidRequestError` for one that the route does not know."""
    found = dict(http.query_params)
    if unknown := set(found) - set(known):
        raise InvalidRequestError(f"unknown query parameter {min(unknown)!r}")
    return found


def number(parameters: dict[str, str], name: str, default: D, *, least: int = 0, most: int = 10**12) -> int | D:
    """A whole number; `default` when it is not given."""
    text = parameters.get(name)
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,13}", text, re.ASCII) or not least <= int(text) <= most:
        raise InvalidRequestError(
            f"the query parameter {name} is {text[:80]!r}; give a whole number from {least} to {most}"
        )
    return int(text)


def flag(parameters: dict[str, str], name: str, default: bool) -> bool:
    """True or false; `default` when it is not given."""
    text = parameters.get(name)
    if text is None:
        return default
    if text not in _FLAGS:
        raise InvalidRequestError(f"the query parameter {name} is {text[:80]!r}; give true or false")
    return _FLAGS[text]
