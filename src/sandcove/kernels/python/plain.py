"""The host without IPython: Python alone, and the display protocol that libraries know from IPython."""

from __future__ import annotations

import ast
import builtins
import codeop
import linecache
import sys
from types import ModuleType, TracebackType
from typing import Any

from sandcove.kernels.python import mime
from sandcove.kernels.python.failure import format_plainly, print_plainly
from sandcove.kernels.python.figures import picture_of, show_figures
from sandcove.kernels.python.host import Host, Kit

__all__ = ["Plain"]

_METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_pdf_": "application/pdf",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": mime.JSON,
    "_repr_javascript_": "application/javascript",
}
_NOTE = (
    "IPython is not installed, so cells have no magics, no !commands and no ?: `pip install 'sandcove[interpreter]'`"
    " outside, where the server runs, or `pip install ipython` inside"
)
_SIMPLE = (int, float, str, bool, complex, bytes)


class Plain(Host):
    own_notes: tuple[str, ...] = (_NOTE,)

    def __init__(self, kit: Kit, module: ModuleType) -> None:
        super().__init__(kit, module)
        self._count = 0
        self._compile = codeop.Compile()
        self._compile.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._names: set[str] = set()
        self._last_id = 0

    @property
    def execution_count(self) -> int:
        return self._count

    def fresh(self) -> None:
        super().fresh()
        names = self.module.__dict__
        names.clear()
        names.update(__name__="__main__", __doc__=None, __package__=None, __loader__=None, __spec__=None)
        names["__builtins__"] = builtins
        builtins.display = self.display  # type: ignore[attr-defined]

    def execute(self, code: str) -> None:
        self.kit.interrupts.check()
        if not code.strip():
            return
        self._count += 1
        self.cell = f"<cell {self._count}>"
        self._names.add(self.cell)
        linecache.cache[self.cell] = (len(code), None, code.splitlines(keepends=True), self.cell)
        sys.displayhook = self._show_value
        try:
            nodes = self._parsed(code).body
            self.run_nodes(nodes, int(bool(nodes) and isinstance(nodes[-1], ast.Expr)), self._compile)
        finally:
            self.close_shown()
            show_figures(self.display)

    def _parsed(self, code: str) -> ast.Module:
        try:
            flags = self._compile.flags | ast.PyCF_ONLY_AST
            tree: ast.Module = compile(code, self.cell, "exec", flags, dont_inherit=True)
            return tree
        except SyntaxError as error:
            line = (error.text or "").strip()
            if line.startswith(("%", "!", "?")) or line.endswith("?") or "=!" in line.replace(" ", ""):
                error.msg = f"{error.msg} ({_NOTE})"
            raise

    def is_cell(self, name: str) -> bool:
        return name in self._names

    def format_error(self, error: BaseException, at: TracebackType | None) -> list[str]:
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, at
        return format_plainly(error, at)

    def _show_value(self, value: object) -> None:
        if value is None:
            return
        builtins._ = value  # type: ignore[attr-defined]
        with self.showing(value, main=True):
            self.publish(*self.format(value))

    def display(self, *values: Any, **options: Any) -> _Display | None:
        """Shows values, as IPython's function of that name does."""
        raw, metadata = options.get("raw", False), options.get("metadata") or {}
        display_id = options.get("display_id")
        if display_id is True:
            self._last_id += 1
            display_id = f"display-{self._last_id}"
        for value in values:
            with self.showing(None if raw else value):
                data, own = (dict(value), {}) if raw else self.format(value)
                self.publish(data, {**own, **metadata}, display_id=display_id, update=options.get("update", False))
        return None if display_id is None else _Display(self, display_id)

    def format(self, value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The MIME bundle and its metadata."""
        data: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        kind = type(value)
        if kind not in _SIMPLE and not isinstance(value, type):
            bundle = self._ask(value, "_repr_mimebundle_", include=None, exclude=None)
            _add(bundle, data, metadata)
            for method, name in _METHODS.items():
                if name not in data and (found := self._ask(value, method)) is not None:
                    data[name], told = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
                    if told:
                        metadata[name] = told
            try:
                if (picture := picture_of(value)) is not None:
                    data["image/png"] = picture
            except Exception as error:  # noqa: BLE001 - what the user has drawn may not be drawable
                print_plainly(error, sys.stderr)
        if mime.TEXT not in data:
            try:
                data[mime.TEXT] = repr(value)
            except Exception as error:  # noqa: BLE001 - the user's own code
                print_plainly(error, sys.stderr)
        mime.with_json(data, value)
        return data, metadata

    def _ask(self, value: Any, method: str, **options: Any) -> Any:
        # Of the type: an object that answers to every name, such as a mock, does not mean it.
        if getattr(type(value), method, None) is None:
            return None
        try:
            return getattr(value, method)(**options)
        except NotImplementedError:
            return None
        except Exception as error:  # noqa: BLE001 - the user's own code
            print_plainly(error, sys.stderr)
            return None


class _Display:
    """A display that can be updated."""

    def __init__(self, host: Plain, display_id: str) -> None:
        self._host = host
        self.display_id = display_id

    def display(self, value: Any, **options: Any) -> None:
        self._host.display(value, display_id=self.display_id, **options)

    def update(self, value: Any, **options: Any) -> None:
        self._host.display(value, display_id=self.display_id, update=True, **options)


def _add(bundle: Any, data: dict[str, Any], metadata: dict[str, Any]) -> None:
    told: Any = None
    if isinstance(bundle, tuple) and len(bundle) == 2:
        bundle, told = bundle
    if isinstance(bundle, dict):
        data.update((str(name), value) for name, value in bundle.items() if value is not None)
        if isinstance(told, dict):
            metadata.update(told)
