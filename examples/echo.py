"""What the example applications run in their sandboxes: a service for HTTP and WebSocket that says what it was sent."""

from __future__ import annotations

from sandcove import AsyncSandbox

SERVICE = """
import asyncio
from http import HTTPStatus
from websockets.asyncio.server import serve

async def answer(socket):
    async for message in socket:
        await socket.send(f"you said {message}")

def page(connection, request):
    if "Upgrade" not in request.headers:
        return connection.respond(HTTPStatus.OK, f"hello from {request.headers['X-Forwarded-Host']}{request.path}")

async def main():
    async with serve(answer, "127.0.0.1", 3000, process_request=page) as server:
        await server.serve_forever()

asyncio.run(main())
"""


async def start(sandbox: AsyncSandbox) -> None:
    """Starts it, unless it runs."""
    running = await sandbox.list_processes()
    if not any(process.id == "echo" and process.status == "running" for process in running):
        await sandbox.write_file("/workspace/service.py", SERVICE)
        service = await sandbox.start_process("python3 service.py", process_id="echo")
        await service.wait_for_port(3000, timeout=30)
