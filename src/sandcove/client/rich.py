"""A rich result of a cell: one value in several representations."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from sandcove.client.chart import Chart
from sandcove.errors import CodeExecutionError
from sandcove.wire.code import CodeEvent

__all__ = ["Result"]

FORMATS: Final = (
    *("text", "html", "png", "jpeg", "svg", "latex", "markdown", "javascript", "json", "chart"),
    *("pdf", "plotly", "vega", "vega_lite", "geojson"),
)
"""The representations that have names: the seed's in its order, then ours."""

SHOWN: Final = {"text": "text/plain", "png": "image/png", "jpeg": "image/jpeg"}
"""What a notebook may show of itself, and its MIME types: these run nothing. A page that shows HTML, SVG or JavaScript
of a stranger's runs it with all that the notebook's user may do, out of the sandbox."""


class Result:
    """What a cell displayed, or the value of its last expression, in all the representations that it has.

    A representation that it does not have is None.

    Attributes:
        text: as plain text, what a terminal would show.
        html, markdown, latex, svg, javascript: as text in these formats.
        png, jpeg, pdf: bytes, as a file would have them.
        json: the value that JSON stands for.
        chart: the `Chart` that a picture was drawn from.
        plotly, vega, vega_lite, geojson: what these formats have as JSON.
        data: the representations of every other type, by MIME type, as Jupyter has them.
        metadata: by the same names and types, such as a picture's ``width``.
        main: it is the value of the cell's last expression; not displayed by a call.
        display_id: the name of a display that may be updated, or None.
        update: it takes the place of an earlier result of the same `display_id`.
    """

    __slots__ = ("_event",)

    def __init__(self, event: CodeEvent) -> None:
        self._event = event

    @property
    def text(self) -> str | None:
        return self._event.text

    @property
    def html(self) -> str | None:
        return self._event.html

    @property
    def markdown(self) -> str | None:
        return self._event.markdown

    @property
    def latex(self) -> str | None:
        return self._event.latex

    @property
    def svg(self) -> str | None:
        return self._event.svg

    @property
    def javascript(self) -> str | None:
        return self._event.javascript

    @property
    def png(self) -> bytes | None:
        return _bytes("png", self._event.png)

    @property
    def jpeg(self) -> bytes | None:
        return _bytes("jpeg", self._event.jpeg)

    @property
    def pdf(self) -> bytes | None:
        return _bytes("pdf", self._event.pdf)

    @property
    def json(self) -> Any:
        return self._event.json

    @property
    def chart(self) -> Chart | None:
        return None if self._event.chart is None else Chart(self._event.chart)

    @property
    def plotly(self) -> Any:
        return self._event.plotly

    @property
    def vega(self) -> Any:
        return self._event.vega

    @property
    def vega_lite(self) -> Any:
        return self._event.vega_lite

    @property
    def geojson(self) -> Any:
        return self._event.geojson

    @property
    def data(self) -> dict[str, Any]:
        return self._event.data or {}

    @property
    def metadata(self) -> dict[str, Any]:
        return self._event.metadata or {}

    @property
    def main(self) -> bool:
        return self._event.main

    @property
    def display_id(self) -> str | None:
        return self._event.display_id

    @property
    def update(self) -> bool:
        return self._event.update

    def formats(self) -> list[str]:
        """The representations that it has, by name; those in `data` by MIME type."""
        return [*(name for name in FORMATS if getattr(self._event, name) is not None), *self.data]

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """What IPython asks of a value that it shows: a result shows its text and pictures in its user's notebook."""
        shown = {mime: getattr(self._event, name) for name, mime in SHOWN.items()}
        return {mime: value for mime, value in shown.items() if value is not None}

    def __repr__(self) -> str:
        text = self.text
        shown = "" if text is None else f": {text if len(text) <= 60 else text[:57] + '...'!r}"
        return f"<Result {' '.join(self.formats())}{shown}>"


def _bytes(name: str, text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError) as error:
        # The sandbox's code made it, and may have made it wrong.
        raise CodeExecutionError(f"the {name} that the cell gave is no base64: {error}") from None
