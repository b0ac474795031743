"""What a visitor of a preview sees where no service answers: a page for browsers, JSON for programs. No I/O."""

from __future__ import annotations

import html
from dataclasses import dataclass

from sandcove.wire.codec import encode

__all__ = ["Page"]

_HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{refresh}
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 34em; margin: 18vh auto; padding: 0 1.5em; color: #223;
background: #fafbfc }} h1 {{ font-size: 1.4em }} p {{ color: #556 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #15181c; color: #dde }} p {{ color: #99a }} }}
</style></head><body><h1>{title}</h1><p>{text}</p></body></html>
"""


@dataclass(frozen=True)
class Page:
    """An answer of Sandcove's own.

    Attributes:
        code: as in the error tree.
        again: seconds after which a browser tries again by itself, or 0.
        location: of a redirect.
    """

    status: int
    code: str
    title: str
    text: str
    again: int = 0
    location: str = ""

    def body(self) -> bytes:
        """As JSON."""
        return encode({"error": f"{self.title}: {self.text}", "code": self.code})

    def shown(self, *, as_html: bool) -> tuple[list[tuple[str, str]], bytes]:
        """Headers, names in lower case, and body."""
        if as_html:
            refresh = f'<meta http-equiv="refresh" content="{self.again}">' if self.again else ""
            title, text = html.escape(self.title), html.escape(self.text)
            kind, body = "text/html; charset=utf-8", _HTML.format(refresh=refresh, title=title, text=text).encode()
        else:
            kind, body = "application/json", self.body()
        headers = [
            ("content-type", kind),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            ("x-sandcove-error", self.code),
            ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
            ("x-content-type-options", "nosniff"),
        ]
        if self.again:
            headers.append(("retry-after", str(self.again)))
        if self.location:
            headers.append(("location", self.location))
        return headers, body
