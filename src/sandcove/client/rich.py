"""A rich result of a cell: one value in several representations."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

from sandcove.client.chart import Chart
from sandcove.errors import CodeExecutionError
from sandcove.wire.code import CodeEvent

__all__ = ["Result"]

TYPES: Final = {
    "text": "text/plain",
    "html": "text/html",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
    "latex": "text/latex",
    "markdown": "text/markdown",
    "javascript": "application/javascript",
    "json": "application/json",
    "chart": "application/vnd.sandcove.chart+json",
    "pdf": "application/pdf",
    "plotly": "application/vnd.plotly.v1+json",
    "vega": "application/vnd.vega.v{}+json",
    "vega_lite": "application/vnd.vegalite.v{}+json",
    "geojson": "application/geo+json",
}
"""The representations that have names, and their MIME types: the seed's in its order, then ours."""

_OLDEST_VEGA: Final = {"vega": "5", "vega_lite": "5"}
_SCHEMA_VERSION = re.compile(r"/v(\d{1,3})(?:\.|$|/)", re.ASCII)


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
        return [*(name for name in TYPES if getattr(self._event, name) is not None), *self.data]

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What IPython asks of a value that it shows: a result shows itself in its user's own notebook."""
        types = {name: self._type(name) for name in TYPES if getattr(self._event, name) is not None}
        bundle = {mime: getattr(self._event, name) for name, mime in types.items()}
        return bundle | self.data, {types.get(name, name): value for name, value in self.metadata.items()}

    def _type(self, name: str) -> str:
        if name not in _OLDEST_VEGA:
            return TYPES[name]
        # Viewers choose by the type's version, which the document tells by its schema.
        document = getattr(self._event, name)
        schema = document.get("$schema") if isinstance(document, dict) else None
        found = _SCHEMA_VERSION.search(schema) if isinstance(schema, str) else None
        return TYPES[name].format(found[1] if found else _OLDEST_VEGA[name])

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
