"""A chat: everybody who has the page open gets what anybody says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse

app = FastAPI()
everybody: set[WebSocket] = set()


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    everybody.add(socket)
    try:
        async for text in socket.iter_text():
            # Who has just left fails alone.
            await asyncio.gather(*(other.send_text(text) for other in everybody), return_exceptions=True)
    finally:
        everybody.discard(socket)
