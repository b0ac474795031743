"""A chat by FastAPI in a sandbox: browsers talk over WebSockets through its preview.

Once: ``pip install fastapi websockets`` beside Sandcove; sandboxes see the packages of its environment.
Run it: ``python -m examples.chat``, and open the URL that it prints twice.
"""

from __future__ import annotations

from pathlib import Path

from sandcove import Sandbox

__all__ = ["serve"]

APP = Path(__file__).parent / "apps" / "chat"


def serve(sandbox: Sandbox) -> str:
    """Starts the chat; gives the URL for browsers."""
    sandbox.upload(APP, "/workspace/chat")
    server = sandbox.start_process("python -m uvicorn app:app --port 8000", cwd="/workspace/chat")
    server.wait_for_port(8000, timeout=60)
    return sandbox.expose_port(8000, name="chat").url


if __name__ == "__main__":
    with Sandbox() as sandbox:
        print(serve(sandbox))
        input("Enter ends it. ")
