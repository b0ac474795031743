"""The `sandcove` command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from sandcove._version import __version__
from sandcove.cli.options import count, duration, hosts, limit, pair, place, resource, seconds, upload
from sandcove.cli.secrets import add_options
from sandcove.errors import ExecutionTimeoutError, InvalidRequestError, SandboxError
from sandcove.wire.code import LANGUAGES
from sandcove.wire.keys import SCOPES

__all__ = ["Terminated", "main", "parser"]

EPILOG = """\
exit codes:
  0        success; for run and exec: the command's own exit code, 128 + n when signal n ended it
  1        it failed; for code: the cell raised, or its context ended
  2        the command line is wrong
  124      run, exec, code: it ran longer than --timeout
  125      run, exec, code: Sandcove failed, not the command or cell
  130      ended by Ctrl-C
  143      ended by SIGTERM

environment:
  SANDCOVE_HOME     where the local server keeps sandboxes
  SANDCOVE_URL      use the server at http://host:port or https://host:port instead of the local one
  SANDCOVE_API_KEY  that server's key
  SANDCOVE_CA_FILE  the authorities that an https server's certificate is checked by
  SANDCOVE_DEBUG    1: show tracebacks and debug messages
"""

FAILED, USAGE, TIMED_OUT, OURS, PIPE_CLOSED = 1, 2, 124, 125, 141
RUNS_COMMANDS = ("run", "exec")
RUNS = (*RUNS_COMMANDS, "code")


class Terminated(BaseException):
    """SIGTERM or SIGHUP came. Like `KeyboardInterrupt`: what is under way is undone on the way out."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    known = parser()
    options, rest = known.parse_known_args(arguments)
    options.rest = rest
    if options.rest and options.command_name != "serve":
        known.error(f"unrecognized arguments: {' '.join(options.rest)}")
    debug = os.environ.get("SANDCOVE_DEBUG", "") not in ("", "0")
    if debug:
        import logging

        logging.basicConfig(level=logging.DEBUG, format="%(name)s: %(message)s")
    for number in (signal.SIGTERM, signal.SIGHUP):
        # A signal that the caller ignores (nohup does) stays ignored.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _terminate)
    try:
        code: int = options.call(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output went away, as `head` does. Python would complain at exit when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated as signalled:
        return 128 + signalled.number
    except Exception as error:
        if debug:
            raise
        return _report(error, options.command_name)


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise Terminated(number)


def _report(error: Exception, command_name: str) -> int:
    if isinstance(error, SandboxError):
        text = error.message
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    else:
        text = f"a fault in Sandcove itself: {type(error).__name__}: {error}; SANDCOVE_DEBUG=1 shows where"
    print("sandcove:", " ".join(text.split()), file=sys.stderr)
    if command_name in RUNS and isinstance(error, ExecutionTimeoutError):
        return TIMED_OUT
    # A command's own exit code can be 2, a cell's can't.
    if command_name not in RUNS_COMMANDS and isinstance(error, InvalidRequestError):
        return USAGE
    return OURS if command_name in RUNS else FAILED


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="sandcove",
        description="Runs untrusted code in isolated Linux sandboxes that start in milliseconds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"sandcove {__version__}")
    commands = top.add_subparsers(dest="command_name", metavar="COMMAND", required=True)

    def command(name: str, module: str, help: str, **options: Any) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=help, allow_abbrev=False, **options)
        made.set_defaults(call=_lazily(module, name))
        return made

    run = command("run", "run", "run a command in a throw-away sandbox", usage="sandcove run [OPTIONS] [--] COMMAND...")
    _running(run)
    run.add_argument("--upload", metavar="LOCAL:REMOTE", type=upload, action="append", default=[], help="copy in first")
    run.add_argument("--label", metavar="K=V", type=pair, action="append", default=[], help="label the sandbox")
    run.add_argument("--egress", metavar="HOST", action="append", help=EGRESS)
    run.add_argument("--limit", metavar="WHAT=N", type=resource, action="append", default=[], help=RESOURCES)
    add_options(run)
    run.add_argument("words", metavar="COMMAND", nargs=argparse.REMAINDER, help=WORDS)

    create = command("create", "sandboxes", "create a sandbox that stays, or wake it when it exists; prints its name")
    create.add_argument("name", metavar="NAME", nargs="?", help="1 to 63 of a-z 0-9 '-'; made up when left out")
    create.add_argument("--label", metavar="K=V", type=pair, action="append", default=[], help="to find it by")
    create.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="set in everything in it")
    create.add_argument("--sleep-after", metavar="SECONDS", type=seconds, help="sleep when idle so long; 0: never")
    create.add_argument("--time-to-live", metavar="TIME", type=duration, help="destroy it so long from now")
    create.add_argument("--keep-alive", action="store_true", help="it never sleeps by itself")
    create.add_argument("--egress", metavar="HOST", action="append", help=EGRESS)
    create.add_argument("--limit", metavar="WHAT=N", type=resource, action="append", default=[], help=RESOURCES)
    add_options(create)
    create.add_argument("--json", action="store_true", help="print all about it")

    execute = command(
        "exec", "run", "run a command in a sandbox; wakes it", usage="sandcove exec [OPTIONS] NAME [--] COMMAND..."
    )
    _running(execute)
    execute.add_argument("--session", metavar="NAME", help="in this session of the sandbox")
    execute.add_argument("name", metavar="NAME", help="the sandbox")
    execute.add_argument("words", metavar="COMMAND", nargs=argparse.REMAINDER, help=WORDS)

    code = command("code", "code", "run a cell of Python, JavaScript or TypeScript in a throw-away sandbox, or another")
    code.add_argument("-l", "--language", choices=LANGUAGES, help="else by the end of FILE's name; else python")
    code.add_argument("-c", metavar="CODE", dest="code", help="the code itself, in the place of FILE")
    code.add_argument("--sandbox", metavar="NAME", help="in this sandbox; wakes it")
    code.add_argument("--context", metavar="ID", help="in this context of it, not in the language's default one")
    code.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="set for the cell")
    code.add_argument("--timeout", metavar="SECONDS", type=seconds, help="interrupt the cell after so long")
    code.add_argument("--save", metavar="FOLDER", help="write its pictures there, as cell-1.png and so on")
    code.add_argument("--json", action="store_true", help="print each event as one line of JSON")
    code.add_argument("file", metavar="FILE", nargs="?", help="the file with the code; - is standard input")

    ls = command("ls", "sandboxes", "list the sandboxes")
    ls.add_argument("--label", metavar="K=V", type=pair, action="append", default=[], help="only those that have it")
    ls.add_argument("--json", action="store_true", help="for machines")

    usage = command("usage", "usage", "show what a sandbox uses of what it may; does not wake it")
    usage.add_argument(
        "--set", metavar="WHAT=N", type=resource, action="append", default=[], help="change first what " + RESOURCES
    )
    usage.add_argument("--json", action="store_true", help="for machines")
    usage.add_argument("name", metavar="NAME", help="the sandbox")

    egress = command(
        "egress", "egress", "show which connections a sandbox has asked for, newest last; does not wake it"
    )
    egress.add_argument("--refused", action="store_true", help="only those that a rule refused")
    egress.add_argument("--set", metavar="HOST[,HOST]", type=hosts, action="append", help="change first " + EGRESS)
    egress.add_argument("--json", action="store_true", help="for machines")
    egress.add_argument("name", metavar="NAME", help="the sandbox")

    rm = command("rm", "sandboxes", "destroy sandboxes with their files")
    rm.add_argument("names", metavar="NAME", nargs="*")
    rm.add_argument("--all", action="store_true", help="every sandbox of the server")

    cp = command("cp", "cp", "copy a file or folder into or out of a sandbox, which is written NAME:PATH")
    cp.add_argument("source", metavar="SRC", type=place)
    cp.add_argument("target", metavar="DST", type=place, help="a folder that exists gets SRC put into it")

    logs = command("logs", "server", "show the log of the local server")
    logs.add_argument("-n", metavar="LINES", type=count, default=100, dest="lines", help="the last so many (100)")
    logs.add_argument("-f", action="store_true", dest="follow", help="go on showing what comes")

    # The server's own parser knows its options, and tells them.
    command("serve", "server", "run the server in the foreground", add_help=False)

    _keys(command("keys", "keys", "make, list and revoke the keys of callers over TCP"))

    command("stop", "server", "stop the local server; sandboxes that have a name sleep")

    doctor = command("doctor", "doctor", "say whether this machine can isolate sandboxes, and what to do if not")
    doctor.add_argument("--json", action="store_true", help="for machines")
    doctor.add_argument("--probe", action="store_true", help="attack a new sandbox from inside: all of it must fail")

    version = command("version", "server", "show the versions of this client and its wire")
    version.add_argument("--json", action="store_true", help="for machines")
    return top


EGRESS = "what it may reach: none, public, python, node, git, debian, HOST[:PORT], or unfiltered; may be repeated"
LIMITS = (
    "at most: sandboxes, alive, execs (at once), rate (requests a second), burst; of each sandbox: memory, cpus, "
    "processes, disk; may be repeated"
)
RESOURCES = "it may use at most: memory=2g, cpus=1.5, processes, open_files, disk, inodes, logs; may be repeated"
WORDS = "one word is a command for the shell; several are a program and its arguments, which no shell sees"


def _keys(made: argparse.ArgumentParser) -> None:
    commands = made.add_subparsers(dest="keys_command", metavar="COMMAND", required=True)
    create = commands.add_parser("create", help="make a key and print it, once", allow_abbrev=False)
    create.add_argument("--tenant", metavar="NAME", help="whose sandboxes it sees; else it is a tenant of its own")
    create.add_argument("--name", metavar="TEXT", help="what it is for")
    create.add_argument("--scope", choices=SCOPES, action="append", help="what it may do; may be repeated (sandboxes)")
    create.add_argument("--expires", metavar="TIME", type=duration, help="seconds, or with s, m, h or d; else never")
    create.add_argument("--limit", metavar="WHAT=NUMBER", type=limit, action="append", default=[], help=LIMITS)
    ls = commands.add_parser("ls", help="list the keys, without their secrets", allow_abbrev=False)
    for each in (create, ls):
        each.add_argument("--json", action="store_true", help="for machines")
    revoke = commands.add_parser("revoke", help="refuse keys from now on", allow_abbrev=False)
    revoke.add_argument("ids", metavar="ID", nargs="+", help="as `ls` shows it: k_...")


def _running(made: argparse.ArgumentParser) -> None:
    made.add_argument("--env", metavar="K=V", type=pair, action="append", default=[], help="set for the command")
    made.add_argument("--cwd", metavar="DIR", help="the command's working directory")
    made.add_argument("--timeout", metavar="SECONDS", type=seconds, help="end the command after so long")


def _lazily(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    def call(options: argparse.Namespace) -> int:
        from importlib import import_module

        function: Callable[[argparse.Namespace], int] = getattr(import_module(f"sandcove.cli.{module}"), name)
        return function(options)

    return call


if __name__ == "__main__":
    sys.exit(main())
