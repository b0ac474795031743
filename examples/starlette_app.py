"""A Starlette application that runs visitors' web pages in sandboxes, and answers them at hosts of its own.

Run it, and open http://localhost:8000/: ``uvicorn examples.starlette_app:app``
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from examples.echo import start
from sandcove import AsyncSandbox, proxy_to_sandbox

HOSTNAME = os.environ.get("PREVIEWS", "localhost:8000")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with AsyncSandbox() as sandbox:
        app.state.sandbox = sandbox
        await start(sandbox)
        app.state.preview = await sandbox.expose_port(3000, hostname=HOSTNAME)
        yield


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.app.state.preview.url)


app = Starlette(
    routes=[Route("/", home)],
    middleware=[Middleware(proxy_to_sandbox, hostname=HOSTNAME)],
    lifespan=lifespan,
)
