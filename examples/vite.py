"""A React app on Vite's dev server in a sandbox, opened in a browser: an edit shows there without a reload.

Once: ``npm ci --prefix examples/apps/vite``. Run it: ``python -m examples.vite``, and open the URL that it prints.
"""

from __future__ import annotations

from pathlib import Path

from sandcove import Sandbox

__all__ = ["APP", "edit", "serve"]

APP = Path(__file__).parent / "apps" / "vite"


def serve(sandbox: Sandbox, app: Path = APP) -> str:
    """Starts the app, a folder with its ``node_modules``; gives the URL for a browser."""
    sandbox.upload(app, "/workspace/app")
    sandbox.start_process("npm run dev", cwd="/workspace/app").wait_for_port(5173, timeout=60)
    return sandbox.expose_port(5173, name="vite").url


def edit(sandbox: Sandbox, old: str, new: str) -> None:
    """Writes another text into the page's source, as an agent would."""
    source = sandbox.read_file("/workspace/app/Counter.jsx")
    sandbox.write_file("/workspace/app/Counter.jsx", source.replace(old, new))


if __name__ == "__main__":
    with Sandbox() as sandbox:
        print(serve(sandbox))
        heading = "Hello"
        while new := input(f"The page says {heading!r}. What shall it say? "):
            edit(sandbox, f"<h1>{heading}</h1>", f"<h1>{new}</h1>")
            heading = new
