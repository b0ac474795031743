"""The libraries that draw, told that what they draw is shown in results."""

from __future__ import annotations

import sys
import threading
from typing import Any

from sandcove.kernels.python.figures import set_up_pyplot
from sandcove.kernels.python.host import Host
from sandcove.kernels.python.imports import AfterImport, LateFinder
from sandcove.kernels.python.plain import Plain

__all__ = ["Hooks", "hooks"]


class Hooks:
    def __init__(self, host: Host) -> None:
        self._host = host

    def install(self) -> None:
        calls = {
            "asyncio": self._asyncio,
            "matplotlib.pyplot": self._pyplot,
            "plotly.io": self._plotly,
            "altair": self._altair,
        }
        AfterImport(calls).install()
        sys.meta_path.append(LateFinder())

    def _asyncio(self, asyncio: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._host.kit.loop.begin()

    def _pyplot(self, pyplot: Any) -> None:
        matplotlib = sys.modules["matplotlib"]
        if isinstance(dict.__getitem__(matplotlib.rcParams, "backend"), str):
            return  # the user has chosen one
        host = self._host
        if isinstance(host, Plain):
            set_up_pyplot(pyplot, host.display)
        else:
            host.shell.enable_matplotlib("inline")  # type: ignore[attr-defined]

    def _plotly(self, io: Any) -> None:
        io.renderers.default = "plotly_mimetype"
        show, host = io.show, self._host

        def showing(fig: Any, renderer: Any = None, validate: bool = True, **options: Any) -> Any:
            with host.showing(fig, main=host.takes_main()):
                if renderer is not None or io.renderers.default != "plotly_mimetype":
                    return show(fig, renderer, validate, **options)
                # Plotly's own way asks for nbformat, which has no part in this.
                data = fig if isinstance(fig, dict) else fig.to_dict()
                return host.publish(io.renderers._build_mime_bundle(data, **options))

        io.show = showing

    def _altair(self, altair: Any) -> None:
        altair.renderers.enable("mimetype")


def hooks(host: Host) -> Hooks:
    return Hooks(host)
