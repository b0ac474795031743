"""The published npm client in a Node of its own, called from Python by the names of its methods."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Called", "ClientError", "Interpreter", "NpmClient"]

PROGRAM = Path(__file__).with_name("drive.mjs")
ANSWERS_WITHIN = 60.0


class ClientError(Exception):
    """The client threw. `name` is the JavaScript class of the error."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class NpmClient:
    """``npm.exec("session", "true")`` calls the client's ``exec`` and gives what that returns.

    None stands for JavaScript's ``undefined``. Of a stream the events or the file are returned, see `Called`.
    ``npm.interpreter.runCode("1 + 1")`` calls a method of the package's ``CodeInterpreter`` on this client.

    Attributes:
        callbacks: those that the last call made, as lists of the callback's name and its arguments.
        interpreter: that ``CodeInterpreter``.
    """

    def __init__(self, package: Path, base_url: str) -> None:
        self.callbacks: list[list[Any]] = []
        self.interpreter = Interpreter(self._call)
        self._node = subprocess.Popen(
            ["node", str(PROGRAM), str(package), base_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._log: list[str] = []
        assert self._node.stderr is not None
        self._logging = threading.Thread(target=self._log.extend, args=(self._node.stderr,))
        self._logging.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._node.stdin is not None and self._node.stdout is not None and self._node.stderr is not None
        self._node.stdin.close()
        try:
            self._node.wait(20)
        except subprocess.TimeoutExpired:
            self._node.kill()
            self._node.wait()
            raise
        finally:
            self._logging.join()
            self._node.stdout.close()
            self._node.stderr.close()

    def __getattr__(self, method: str) -> Called:
        return Called(partial(self._call, method))

    @property
    def console(self) -> str:
        """What Node has printed on its console."""
        return "".join(self._log)

    def _call(
        self, method: str, *args: Any, of: str | None = None, read: str | None = None, until: str | None = None
    ) -> Any:
        assert self._node.stdin is not None and self._node.stdout is not None
        asked = {"of": of, "call": method, "args": args, "read": read, "until": until}
        self._node.stdin.write(json.dumps({name: value for name, value in asked.items() if value is not None}) + "\n")
        self._node.stdin.flush()
        # A client that never answers is ended, so that the test fails with what it said until then.
        late = threading.Timer(ANSWERS_WITHIN, self._node.kill)
        late.start()
        try:
            line = self._node.stdout.readline()
        finally:
            late.cancel()
            late.join()
        assert line, f"Node ended during {method}{args}; its console:\n{''.join(self._log[-30:])}"
        answer = json.loads(line)
        self.callbacks = answer["callbacks"]
        if "error" in answer:
            raise ClientError(**answer["error"])
        return answer["value"]


class Interpreter:
    """The package's ``CodeInterpreter``, by the names of its methods."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Called:
        return Called(partial(self._call, method, of="interpreter"))


class Called:
    """A method of the client. Call it; or, when it returns a stream or a `Response`, by the method named after that."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def events(self, *args: Any, until: str | None = None) -> list[dict[str, Any]]:
        """All events of the stream; the reader leaves when the data of one contains `until`."""
        return self._call(*args, read="events", until=until)  # type: ignore[no-any-return]

    def file(self, *args: Any) -> dict[str, Any]:
        """What the package's own reader of file streams collects: content, whether that is bytes, metadata."""
        return self._call(*args, read="file")  # type: ignore[no-any-return]

    def response(self, *args: Any) -> dict[str, Any]:
        """Status, headers by their names in lower case, and the body in base64."""
        return self._call(*args, read="response")  # type: ignore[no-any-return]

    def lines(self, *args: Any, until: str | None = None) -> list[dict[str, Any]]:
        """All events of a stream of lines; the reader leaves when the text of one contains `until`."""
        return self._call(*args, read="lines", until=until)  # type: ignore[no-any-return]

    def cell(self, *args: Any) -> Any:
        """Calls it with the four callbacks of a cell, in the options where the last argument is one."""
        return self._call(*args, read="cell")
