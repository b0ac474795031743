"""One long-lived bash: runs a session's commands, survives whatever they do, keeps their state.

How a command runs. Bash reads its program from a pipe, as a script; the agent writes it one line a command, made of
fixed text and numbers only. The user's text lies in a file beside it, and the command's standard output and error are
two FIFOs that the agent holds open for reading before bash opens them. So no user text is ever quoted, a command can't
eat the shell's own input, and what a background child goes on printing reaches nobody else's result. That a command
has begun, and its exit code, come on a descriptor of their own (251), which the command does not have.

How state lasts. After each command (when its answer is out already) and on `exit`, bash writes its variables,
functions, aliases and options to a file in memory. When the shell dies (`exit 3`, `set -e`, `exec`, a kill, a
timeout) the next command gets a new one that reads the last whole file. `keep` copies it to the disk, so a session
also outlives sleep. `set -e` does not outlive the shell that it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sandcove.agent import bash, scratch
from sandcove.agent.confines import Confines
from sandcove.agent.init import Exit, Init
from sandcove.agent.output import Output, bytes_waiting
from sandcove.agent.shell_state import ShellState, records
from sandcove.errors import SandboxError, SessionNotFoundError
from sandcove.trees import delete_tree

__all__ = ["Command", "Shell"]

BASH = "/bin/bash"
_DAMAGED = f"{BASH} ended while it started; is the sandbox's /usr damaged, or are its limits too low?"
SETTLE_MS = 1000
KEEP_AFTER = 0.2
"""Seconds after a command, if no other follows, that the state is written to disk."""
_LONGEST_RECORD = 8192
_CHECK_AFTER = 1.0
"""Seconds after which a command that still runs is checked on, and every so many from then on."""
_LAUNCHES = 3
"""How often a command is given to a shell that ends, or can't work any more, before the command has begun."""


class Command:
    """A command that runs in a shell.

    Attributes:
        output: what it prints.
        ended: done when it has ended and its output is complete; its exit code (128 + n for death by signal n).
    """

    def __init__(self, shell: Shell, number: int, output: Output, confines: Confines) -> None:
        self._shell = shell
        self.number = number
        self.line = ""
        self.new_env = b""
        self.files = ["command", "out", "err"]
        self.output = output
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.launches = 0
        self.killed = False
        self.begun = False
        self._confines = confines
        self._oom_kills = confines.oom_kills()
        # The clock that /proc/<pid>/stat counts by; see `Init.signal`.
        self.since = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))

    @property
    def out_of_memory(self) -> bool:
        """The kernel has killed a process of the sandbox for want of memory since it began."""
        return self._confines.oom_kills() > self._oom_kills

    async def kill(self) -> None:
        """Ends it and all its children, and returns when it has ended. The session's state stays as it was before."""
        if not self.ended.done():
            self.killed = True
            await self._shell.kill(self)
            await asyncio.shield(self.ended)

    def finish(self, exit_code: int) -> None:
        self.output.finish()
        if not self.ended.done():
            self.ended.set_result(exit_code)

    def fail(self, error: SandboxError) -> None:
        self.output.abandon()
        if not self.ended.done():
            self.ended.set_exception(error)


class Shell:
    """One session's bash; started with its first command, and again after each death.

    Args:
        init: the PID namespace that it lives in.
        run: a folder of its own for commands and FIFOs, in memory.
        state: a folder of its own that lasts.
        env: its environment when it starts without saved state.
        cwd: where it starts then.
    """

    def __init__(self, init: Init, *, run: Path, state: Path, env: dict[str, str], cwd: str) -> None:
        self._init = init
        self._run = run
        self._state = state
        self._known = ShellState(run, state)
        self._env = env
        self._number = 0
        self._last_code = 0
        self._pid: int | None = None
        self._control = -1
        self._status = -1
        self._status_tail = b""
        self._current: Command | None = None
        self._ready: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._keeping: asyncio.TimerHandle | None = None
        # From a time before sleep there may be changes that no shell has met.
        self._env_changed = True
        self._check: asyncio.TimerHandle | None = None
        self._killing: asyncio.Future[int] | None = None
        self._relaunch: asyncio.Future[None] | None = None
        self._exit: asyncio.Future[Exit] | None = None
        self.ended = False
        self.cwd = cwd
        self._start_cwd = cwd

    async def run(
        self,
        command: str | list[str],
        *,
        cwd: str | None,
        env: dict[str, str] | None,
        stdin: bytes | Path | None,
        keep: int | None,
        wanted: Callable[[], Awaitable[bool]] | None = None,
    ) -> Command:
        """Starts a command; another one's turn comes after it has ended.

        When it had to wait for its turn, `wanted` is asked then whether its caller is still there.

        A command with a `cwd` or `env` of its own runs in a subshell and changes nothing in the session.
        `stdin` is its standard input, or the file that is.

        Raises:
            SandboxError: bash could not be started, or the caller has left.
        """
        waited = self._turn.locked()
        await self._turn.acquire()
        try:
            if waited and wanted is not None and not await wanted():
                raise SandboxError("the caller left before the command's turn came; it was not run")
            if self._pid is None:
                await self._start()
            self.check()
            running = self._prepare(command, cwd, env, stdin, keep)
            try:
                await self._launch(running)
            except BaseException:
                self._current = None
                running.output.abandon()
                raise
        except BaseException:
            self._turn.release()
            raise
        running.ended.add_done_callback(lambda _: self._turn.release())
        return running

    def set_env(self, env: dict[str, str | None]) -> None:
        """Sets and removes variables for the commands that start after this."""
        self._known.change(env)
        self._env_changed = True

    async def kill(self, command: Command) -> None:
        """Kills the running command's tree and the shell with it, but not what earlier commands left running."""
        if self._current is not command or self._pid is None:
            return
        with contextlib.suppress(SandboxError):
            await self._init.signal(self._pid, signal.SIGKILL, spare=self._children(), since=command.since)

    async def environment(self) -> dict[str, str]:
        """The variables that it exports; the last that it has told, while a command runs."""
        await self.settle()
        env = await self._known.exported(self._env)
        # What a shell sets for itself: a new one sets them anew.
        for name in ("OLDPWD", "SHLVL", "_"):
            env.pop(name, None)
        env["PWD"] = self.cwd
        return env

    async def settle(self) -> None:
        """Waits, not for long, until an idle shell has written its state: it has read all that it was told then."""
        for _ in range(SETTLE_MS):
            if self._pid is None or self._current is not None or bytes_waiting(self._control) == 0:
                return
            await asyncio.sleep(0.001)

    def keep(self) -> None:
        """Writes the state to where it outlasts the room."""
        self._known.keep()

    def check(self) -> None:
        """Raises `SessionNotFoundError` when it is not to be used any more."""
        if self.ended:
            raise SessionNotFoundError("the session was deleted before this began; it was not run")

    def forget(self) -> None:
        """From here on nothing starts, and its state is nobody's."""
        self.ended = True
        gone = self._state.with_name(f".deleted-{os.urandom(8).hex()}")
        with contextlib.suppress(OSError):
            self._state.rename(gone)
        self._state = gone
        self._known = ShellState(self._run, gone)

    async def end(self) -> None:
        """Kills the shell with all that it started, after `forget`."""
        if self._pid is not None:
            with contextlib.suppress(SandboxError):
                await self._init.signal(self._pid, signal.SIGKILL)
        if self._keeping is not None:
            self._keeping.cancel()
        await asyncio.to_thread(_delete, self._run, self._state)

    # --- one command ------------------------------------------------------------------------------------

    async def _launch(self, running: Command) -> None:
        """Gives a prepared command to the shell; to a new one if this one has ended meanwhile."""
        running.launches += 1
        self._current = None
        for _ in range(_LAUNCHES):
            if self._pid is None:
                await self._start()
            try:
                os.write(self._control, running.line.encode())
            except BrokenPipeError:
                assert self._exit is not None
                await asyncio.wait({self._exit})
                continue
            self._current = running
            break
        else:
            raise SandboxError(_DAMAGED)
        self._check = asyncio.get_running_loop().call_later(_CHECK_AFTER, self._check_on, running)

    def _prepare(
        self,
        command: str | list[str],
        cwd: str | None,
        env: dict[str, str] | None,
        stdin: bytes | Path | None,
        keep: int | None,
    ) -> Command:
        self._number = number = self._number + 1
        try:
            folder = os.open(self._run, os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._run.mkdir(parents=True)
            folder = os.open(self._run, os.O_DIRECTORY | os.O_CLOEXEC)
        opened: list[int] = []
        try:
            words = [command] if isinstance(command, str) else command
            _write(folder, f"{number}.command", records(words))
            for name in ("out", "err"):
                os.mkfifo(f"{number}.{name}", 0o600, dir_fd=folder)
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
                opened.append(os.open(f"{number}.{name}", flags, dir_fd=folder))
            if isinstance(stdin, bytes):
                _write(folder, f"{number}.in", stdin)
            apart = cwd is not None or env is not None
            if apart:
                pairs = [f"{name}={value}" for name, value in (env or {}).items()]
                _write(folder, f"{number}.env", records([cwd or self.cwd, *pairs]))
            new_env = self._known.changes() if self._env_changed else b""
            if new_env:
                _write(folder, f"{number}.newenv", new_env)
            running = Command(self, number, Output(opened[0], opened[1], keep=keep), self._init.confines)
            opened.clear()
            running.new_env = new_env
            running.files += [
                name for name, there in (("in", isinstance(stdin, bytes)), ("env", apart), ("newenv", new_env)) if there
            ]
            running.line = bash.line(
                self._run,
                number,
                self._last_code,
                is_list=isinstance(command, list),
                apart=apart,
                stdin=str(self._run / f"{number}.in" if isinstance(stdin, bytes) else stdin or "/dev/null"),
                has_new_env=bool(new_env),
            )
            return running
        finally:
            for fd in opened:
                os.close(fd)
            os.close(folder)

    def _on_status(self, status: int) -> None:
        try:
            data = os.read(status, 65536)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(status)
            return
        *records, self._status_tail = (self._status_tail + data).split(b"\0")
        self._status_tail = self._status_tail[-_LONGEST_RECORD:]
        for record in records:
            number, _, rest = record.partition(b" ")
            if number.startswith(b"+") and self._current is not None and number == b"+%d" % self._current.number:
                self._current.begun = True
                continue
            code, _, cwd = rest.partition(b" ")
            if not number.isdigit() or not code.isdigit():
                # The user's code has written to a descriptor of bash's own.
                continue
            self.cwd = os.fsdecode(cwd) or self.cwd
            if int(number) == 0:
                if self._ready is not None and not self._ready.done():
                    self._ready.set_result(None)
            elif self._current is not None and self._current.number == int(number):
                if not self._current.begun:
                    # Our own words in the shell were taken. A new shell has them back.
                    self._kill_shell()
                    continue
                self._forget_env(self._current.new_env, int(number))
                self._over(int(code))

    def _forget_env(self, applied: bytes, number: int) -> None:
        """These changes are in the shell, and will be in its saved state; later ones are not yet."""
        if applied:
            self._env_changed = bool(self._known.heard(applied, number))

    def _check_on(self, running: Command) -> None:
        """A shell that reads on without having told the command's end never will (`set -n`, say)."""
        if self._current is not running:
            return
        if bytes_waiting(self._control) == 0:
            self._on_status(self._status)
            if self._current is running:
                self._kill_shell()
                return
        self._check = asyncio.get_running_loop().call_later(_CHECK_AFTER, self._check_on, running)

    def _kill_shell(self) -> None:
        if self._pid is not None:
            self._killing = asyncio.ensure_future(self._init.signal(self._pid, signal.SIGKILL, spare=self._children()))

    def _over(self, exit_code: int) -> None:
        running, self._current = self._current, None
        if running is None:
            return
        if self._check is not None:
            self._check.cancel()
        self._last_code = exit_code
        if self._keeping is not None:
            self._keeping.cancel()
        if not self.ended:
            self._keeping = asyncio.get_running_loop().call_later(KEEP_AFTER, self.keep)
        for name in running.files:
            with contextlib.suppress(OSError):
                os.unlink(f"{self._run}/{running.number}.{name}")
        running.finish(exit_code)

    # --- the shell's life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts bash now, not with the first command."""
        async with self._turn:
            if self._pid is None:
                await self._start()

    async def _start(self) -> None:
        self.check()
        loop = asyncio.get_running_loop()
        text = bash.boot(self._run, self._known.hand_over(self._number))
        self._env_changed = True
        scratch.replace(self._run / "boot", text.encode())
        # Bash names its script in its messages; by a link of this name they read as usual.
        (self._run / "bash").unlink(missing_ok=True)
        (self._run / "bash").symlink_to(f"/dev/fd/{bash.SCRIPT_FD}")
        control_read, control = os.pipe2(os.O_CLOEXEC)
        status, status_write = os.pipe2(os.O_CLOEXEC)
        try:
            cwd = self._start_cwd if os.path.isdir(self._start_cwd) else "/"
            self._pid, exit_ = await self._init.spawn(
                [BASH, "--norc", "--noprofile", "bash"],
                env={**self._env, "_sandcove_cwd": cwd},
                cwd=str(self._run),
                fds={bash.SCRIPT_FD: control_read, bash.STATUS_FD: status_write},
                adopts=True,
            )
        except BaseException:
            os.close(control)
            os.close(status)
            raise
        finally:
            os.close(control_read)
            os.close(status_write)
        os.set_blocking(control, False)
        os.set_blocking(status, False)
        self._control, self._status, self._status_tail = control, status, b""
        self._ready = loop.create_future()
        loop.add_reader(status, self._on_status, status)
        self._exit = exit_
        exit_.add_done_callback(self._on_exit)
        # One that is no bash, or has none of its libraries, may have ended: `_on_exit` hears of it.
        with contextlib.suppress(BrokenPipeError):
            os.write(control, f". {self._run}/boot\n".encode())
        if self.ended:
            # While it was started: `end` has not seen it.
            with contextlib.suppress(SandboxError):
                await self._init.signal(self._pid, signal.SIGKILL)
                await self._ready
            self.check()
        await self._ready

    def _children(self) -> list[int]:
        """What earlier commands left running: jobs in the background, and orphans that the shell has adopted."""
        return [int(word) for word in scratch.read(self._run / "children")[0].split() if word.isdigit()]

    def _on_exit(self, exit_: asyncio.Future[Exit]) -> None:
        # A status that was written before the death counts: read it first.
        with contextlib.suppress(OSError, ValueError):
            self._on_status(self._status)
        asyncio.get_running_loop().remove_reader(self._status)
        os.close(self._status)
        os.close(self._control)
        self._pid = None
        if self._ready is not None and not self._ready.done():
            # Whoever starts it has the command in hand.
            self._ready.set_exception(SandboxError(_DAMAGED))
            return
        running = self._current
        if running is None or running.killed or running.begun:
            self._over(exit_.result().exit_code)
        elif running.launches < _LAUNCHES:
            self._relaunch = asyncio.ensure_future(self._launch_again(running))
        else:
            self._current = None
            running.fail(SandboxError(f"{BASH} ended {_LAUNCHES} times before the command began; it was not run"))

    async def _launch_again(self, running: Command) -> None:
        try:
            try:
                await self._launch(running)
            except BaseException:
                self._current = None
                running.output.abandon()
                raise
        except SandboxError as error:
            self._current = None
            running.fail(error)


def _delete(*folders: Path) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            delete_tree(folder)


def _write(folder: int, name: str, data: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    with open(fd, "wb") as file:
        file.write(data)
