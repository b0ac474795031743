"""A FastAPI application with a sandbox for each visitor's name, previewed at hosts of its own.

Run it, and open http://localhost:8000/sandboxes/ada: ``uvicorn examples.fastapi_app:app``
"""

from __future__ import annotations

import os

from fastapi import FastAPI

from examples.echo import start
from sandcove import AsyncSandbox, proxy_to_sandbox

HOSTNAME = os.environ.get("PREVIEWS", "localhost:8000")

app = FastAPI()
app.add_middleware(proxy_to_sandbox, hostname=HOSTNAME)


@app.get("/sandboxes/{name}")
async def open_sandbox(name: str) -> dict[str, str]:
    """The URL of what runs in the sandbox of this name; started if it does not run."""
    sandbox = AsyncSandbox(name)
    await start(sandbox)
    exposed = {port.port: port for port in await sandbox.get_exposed_ports(hostname=HOSTNAME)}
    preview = exposed.get(3000) or await sandbox.expose_port(3000, hostname=HOSTNAME)
    return {"url": preview.url}


@app.delete("/sandboxes/{name}")
async def delete_sandbox(name: str) -> None:
    await AsyncSandbox(name).destroy()
