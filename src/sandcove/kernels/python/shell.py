"""The host with IPython: its shell, with displays, errors and programs' output going the kernel's ways."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace, TracebackType
from typing import Any

import IPython
from IPython.core import interactiveshell
from IPython.core.autocall import ExitAutocall
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell
from traitlets.config import Config

from sandcove.kernels.python import mime, programs
from sandcove.kernels.python.failure import format_plainly, is_group
from sandcove.kernels.python.host import Host, Kit

__all__ = ["Shell"]

_SIMPLE = (int, float, str, bool, complex, bytes, type(None))


class _Formatter(DisplayFormatter):
    """Makes MIME bundles: those of dicts and lists have the value itself, those of figures the chart's data."""

    host: Shell

    def format(self, obj: Any, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if type(obj) in _SIMPLE and not include and not exclude and self._is_plain(type(obj)):
            text = self.formatters[mime.TEXT](obj)
            return ({} if text is None else {mime.TEXT: text}), {}
        with self.host.showing(obj, main=self.host.is_main):
            data, metadata = super().format(obj, include, exclude)
        if data:
            data = dict(data)
            mime.with_json(data, obj)
            self.host.add_chart(data, obj)
        return data, metadata

    def _is_plain(self, kind: type) -> bool:
        """Whether no formatter but that of plain text was told to do anything with this type."""
        return not any(
            kind in formatter.type_printers for name, formatter in self.formatters.items() if name != mime.TEXT
        ) and not (self.ipython_display_formatter.type_printers or self.mimebundle_formatter.type_printers)


class _Hook(DisplayHook):
    """Shows the value of an expression."""

    host: Shell

    def quiet(self) -> bool:
        history = self.host.shell.history_manager.input_hist_parsed
        cell = history[-1] if history else ""
        return ";" in cell and bool(self.semicolon_at_end_of_expression(cell))

    def write_output_prompt(self) -> None:
        pass  # the message's place says it

    def compute_format_data(self, result: Any) -> Any:
        self.host.is_main = True
        try:
            return super().compute_format_data(result)
        finally:
            self.host.is_main = False

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        with self.host.showing(None, main=True):
            self.host.publish(dict(format_dict), md_dict)

    def log_output(self, format_dict: Any) -> None:
        pass  # would keep all that was ever shown

    def finish_displayhook(self) -> None:
        self._is_active = False


class _Publisher(DisplayPublisher):
    """Sends what `display` shows."""

    @property
    def is_publishing(self) -> bool:
        return False

    def publish(
        self,
        data: Any,
        metadata: Any = None,
        source: Any = None,
        *,
        transient: Any = None,
        update: bool = False,
        **options: Any,
    ) -> None:
        display_id = (transient or {}).get("display_id")
        self.shell.host.publish(dict(data), metadata, display_id=display_id, update=update)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.host.kit.results.clear(wait)


class _Exit(ExitAutocall):
    """``exit`` and ``quit`` in a cell end the cell."""

    def __call__(self, code: object = None) -> None:
        raise SystemExit(code)


class _Store(dict):  # type: ignore[type-arg] # any key, any value
    """In the place of IPython's database on disk: bookmarks and the like last as long as the kernel."""

    def __init__(self, path: object = None) -> None:
        super().__init__()


class _Interactive(InteractiveShell):
    """Keeps nothing on disk, starts no thread, and speaks to nobody but the host."""

    displayhook_class = _Hook
    display_pub_class = _Publisher
    host: Shell
    profile_dir = SimpleNamespace(location="")

    def init_ipython_dir(self, ipython_dir: Any) -> None:
        pass  # making the folder is left to those who need one

    def init_profile_dir(self, profile_dir: Any) -> None:
        self.db = _Store()

    def init_virtualenv(self) -> None:
        pass  # this Python's path is the one that its cells have

    def init_display_formatter(self) -> None:
        self.display_formatter = _Formatter(parent=self)
        self.configurables.append(self.display_formatter)  # type: ignore[arg-type] # the list's type is wrong

    def init_prompts(self) -> None:
        pass  # ``sys.ps1`` would say that somebody sits at a terminal

    def enable_gui(self, gui: Any = None) -> None:
        pass  # there is no screen

    def ask_exit(self) -> None:
        raise SystemExit

    def atexit_operations(self) -> None:
        pass

    def set_next_input(self, s: str, replace: bool = False) -> None:
        print(s)

    def _showtraceback(self, etype: Any, evalue: Any, stb: Any) -> None:
        """Of what is no cell's error: a formatter's, or a nested cell's."""
        print(self.InteractiveTB.stb2text(stb), file=sys.stderr)

    def system(self, cmd: str) -> None:
        programs.system(self, self.var_expand(cmd, depth=1))


def _settings() -> Any:
    settings = Config()
    settings.InteractiveShell.colors = "nocolor" if IPython.version_info[0] >= 9 else "NoColor"
    settings.InteractiveShell.xmode = "Context"
    settings.InteractiveShell.ast_node_interactivity = "last_expr"
    settings.HistoryManager.enabled = False
    settings.HistoryManager.hist_file = ":memory:"
    settings.Completer.use_jedi = False
    return settings


class Shell(Host):
    def __init__(self, kit: Kit, module: ModuleType) -> None:
        super().__init__(kit, module)
        self.is_main = False
        before = sys.modules["__main__"], sys.excepthook
        if hasattr(interactiveshell, "PickleShareDB"):  # which some versions make at their start
            interactiveshell.PickleShareDB = _Store
        shell: Any = _Interactive.instance(config=_settings(), user_module=module)
        self.shell = shell
        sys.modules["__main__"], sys.excepthook = before
        shell.host = shell.display_formatter.host = shell.displayhook.host = self
        shell.exiter = _Exit(shell)
        shell.set_hook("show_in_pager", self._page, 0)
        shell.set_hook("synchronize_with_editor", lambda *_: None, 0)
        programs.register_magics(shell)

    @property
    def version(self) -> str:
        return f"{super().version}, IPython {IPython.__version__}"

    @property
    def execution_count(self) -> int:
        return int(self.shell.execution_count) - 1

    def fresh(self) -> None:
        super().fresh()
        shell, names = self.shell, self.module.__dict__
        names.clear()
        names.update(__name__="__main__", __doc__=None, __package__=None, __loader__=None, __spec__=None)
        shell.prepare_user_module(self.module)
        shell.user_ns_hidden.clear()
        history = shell.history_manager
        history.input_hist_parsed[:] = history.input_hist_raw[:] = [""]
        history.output_hist.clear()
        history.output_hist_reprs.clear()
        history.dir_hist[:] = [_folder()]
        history._i00 = history._i = history._ii = history._iii = ""
        shell.execution_count = 1
        shell.init_user_ns()
        hook = shell.displayhook
        hook._, hook.__, hook.___ = "", "", ""
        names.update({"_": "", "__": "", "___": ""})
        # Not by Path, which fails where the user has none.
        shell.home_dir = os.path.expanduser("~")
        shell.last_execution_result = None
        sys.displayhook = sys.__displayhook__

    def execute(self, code: str) -> None:
        self.kit.interrupts.check()
        if not code or code.isspace():
            return
        shell = self.shell
        count = shell.execution_count
        shell.execution_count = count + 1
        info = ExecutionInfo(code, True, False, True, None)
        result = ExecutionResult(info)
        result.execution_count = count
        self.cell = ""
        try:
            with shell.builtin_trap, shell.display_trap:
                self._execute(code, count, info, result)
        except BaseException as error:
            result.error_in_exec = error
            raise
        finally:
            shell.displayhook.exec_result = None
            shell.last_execution_succeeded = result.error_in_exec is None
            shell.last_execution_result = result
            self.close_shown()
            shell.events.trigger("post_execute")
            shell.events.trigger("post_run_cell", result)

    def _execute(self, code: str, count: int, info: Any, result: Any) -> None:
        shell = self.shell
        try:
            cell = shell.transform_cell(code)
        except Exception:
            shell.history_manager.store_inputs(count, code, code)
            raise
        if (blank := _blank_lines(code)) and not cell.startswith("\n"):
            cell = "\n" * blank + cell  # which the transformation drops: lines keep their numbers
        info.transformed_cell = cell
        shell.events.trigger("pre_execute")
        shell.events.trigger("pre_run_cell", info)
        shell.history_manager.store_inputs(count, cell, code)
        shell.history_manager.db_input_cache.clear()
        self.cell = shell.compile.cache(cell, count, raw_code=code)
        tree = shell.transform_ast(shell.compile.ast_parse(cell, filename=self.cell))
        shell.displayhook.exec_result = result
        nodes = tree.body
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if shell.autoawait else 0
        with shell.compile.extra_flags(flags):
            self.run_nodes(nodes, _shown(nodes, shell.ast_node_interactivity), shell.compile)

    def is_cell(self, name: str) -> bool:
        return name in self.shell.compile._filename_map

    def format_error(self, error: BaseException, at: TracebackType | None) -> list[str]:
        kind, shell = type(error), self.shell
        sys.last_type, sys.last_value, sys.last_traceback = kind, error, at
        if kind is UsageError:
            return [f"UsageError: {error}"]
        if isinstance(error, SyntaxError):
            return list(shell.SyntaxTB.structured_traceback(kind, error, []))
        if is_group(error):
            return format_plainly(error, at)
        try:
            if hasattr(error, "_render_traceback_"):
                return list(error._render_traceback_())
            return list(shell.InteractiveTB.structured_traceback(kind, error, at, tb_offset=0))
        except Exception:  # noqa: BLE001 - it reads the source of all that is in the traceback, and asks for values
            return format_plainly(error, at)

    def forget_threads(self) -> None:
        programs.forget_threads(self.shell)

    def _page(self, shell: Any, data: Any, start: int = 0, screen_lines: int = 0) -> None:
        del shell, start, screen_lines
        bundle = dict(data) if isinstance(data, dict) else {mime.TEXT: str(data)}
        self.publish(bundle)


def _shown(nodes: list[ast.stmt], interactivity: str) -> int:
    """How many of the last statements are interactive."""
    if not nodes or interactivity == "none":
        return 0
    if interactivity == "all":
        return len(nodes)
    if interactivity == "last_expr_or_assign" and (name := _assigned(nodes[-1])):
        nodes.append(ast.fix_missing_locations(ast.Expr(ast.Name(name, ast.Load()))))
    return int(interactivity == "last" or isinstance(nodes[-1], ast.Expr))


def _assigned(node: ast.stmt) -> str | None:
    target: ast.expr | None = None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, (ast.AugAssign, ast.AnnAssign)):
        target = node.target
    return target.id if isinstance(target, ast.Name) else None


def _blank_lines(code: str) -> int:
    """How many lines at the beginning are empty."""
    if not code[0].isspace():
        return 0
    count = 0
    for line in code.splitlines():
        if line and not line.isspace():
            break
        count += 1
    return count


def _folder() -> Path:
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
