"""The server of its own that `tests/server` has too."""

from __future__ import annotations

from tests.server.conftest import served

__all__ = ["served"]
