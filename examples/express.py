"""A JSON API by Express in a sandbox, with a URL, and called from Python.

Run it: ``python -m examples.express``. What it needs is installed in the sandbox, by npm.
"""

from __future__ import annotations

import json
from pathlib import Path

from sandcove import Sandbox

__all__ = ["APP", "note", "serve"]

APP = Path(__file__).parent / "apps" / "express"


def serve(sandbox: Sandbox, app: Path = APP) -> str:
    """Starts the app, with what npm installs for it if its ``node_modules`` have not come along; gives its URL."""
    sandbox.upload(app, "/workspace/api")
    if not (app / "node_modules").exists():
        sandbox.exec("npm ci --no-audit --no-fund", cwd="/workspace/api", timeout=120, check=True)
    sandbox.start_process("node app.js", cwd="/workspace/api").wait_for_port(3000, timeout=60)
    return sandbox.expose_port(3000, name="api").url


def note(sandbox: Sandbox, text: str) -> list[str]:
    """Has the app write a text down; gives all that it has."""
    headers = {"Content-Type": "application/json"}
    with sandbox.fetch("/notes", 3000, method="POST", headers=headers, body=json.dumps({"text": text})) as made:
        assert made.status == 201, made.text()
    notes: list[str] = sandbox.fetch("/notes", 3000).json()
    return notes


if __name__ == "__main__":
    with Sandbox(egress="node") as sandbox:
        print(serve(sandbox))
        while text := input("A note: "):
            print(note(sandbox, text))
