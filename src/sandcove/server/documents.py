"""The OpenAPI documents of both wires, as `scripts/openapi.py` has written them: for whoever has a key, or a token."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from sandcove.calls import Call

__all__ = ["document_routes"]

FOLDER = Path(__file__).parent / "openapi"


class Document(Response):
    """A file that is JSON already."""

    media_type = "application/json"

    def __init__(self, name: str) -> None:
        super().__init__((FOLDER / name).read_bytes())


def document_routes() -> list[Call]:
    """The routes of both."""

    async def server(_: Request) -> Document:
        """The server wire, as OpenAPI."""
        return Document("server.json")

    async def agent(_: Request) -> Document:
        """The agent wire, as OpenAPI."""
        return Document("agent.json")

    return [Call("GET", "/v1/openapi.json", server), Call("GET", "/v1/openapi/agent.json", agent)]
