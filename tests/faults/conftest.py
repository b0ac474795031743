"""A server of its own for each test that harms it."""

from __future__ import annotations

from tests.server.conftest import serve, served

__all__ = ["serve", "served"]
