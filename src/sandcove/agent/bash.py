"""What the agent says to bash: the texts and lines of a session's shell. Pure; see `Shell` for how they are used.

Each is made of fixed text, numbers, and paths of our own. What a user's code could have redefined is called as
`builtin`, quoted against aliases; `>|` because `set -C` must not stop it.
"""

from __future__ import annotations

from math import inf
from pathlib import Path

__all__ = ["NEXT", "SCRIPT_FD", "STATUS_FD", "boot", "line", "numbered", "state_number"]

SCRIPT_FD = 250
"""Bash opens its program by this descriptor, and keeps it as one that no command has."""
STATUS_FD = 251
"""Where it tells that a command has begun (``+7``), and its end (``7 0 /workspace``), each with a NUL after it."""
END = "# sandcove: end of state"
"""Begins the last line of a state that was written to its end; the number of its command follows, or ``exit``."""
NEXT = "\\:\n"
"""Bash reads a pipe a line at a time: while it is busy with a command's line, this one waits in the pipe behind it."""

_BEGIN = r"""
builtin exec 250<&-
BASH_ARGV0=bash
builtin cd -- "$_sandcove_cwd"
builtin unset -v _sandcove_cwd OLDPWD
"""
_RESTORE = r"""
builtin source @SAVED@ 2>/dev/null
for _sandcove_command in ${BASHOPTS//:/ }; do
  [[ :$_sandcove_shopt: == *:$_sandcove_command:* ]] || builtin shopt -u "$_sandcove_command"
done
for _sandcove_command in ${_sandcove_shopt//:/ }; do builtin shopt -s "$_sandcove_command"; done
for _sandcove_command in ${_sandcove_set//:/ }; do
  [[ $_sandcove_command == @(errexit|noexec|onecmd) ]] || builtin set -o "$_sandcove_command"
done
builtin cd -- "$_sandcove_pwd" 2>/dev/null || builtin cd -- "$HOME" || builtin cd /
builtin unset -v _sandcove_shopt _sandcove_set _sandcove_pwd _sandcove_command
"""
_BOOT = r"""
builtin shopt -u expand_aliases
_sandcove() {
  case $1 in
    check)
      # In a restricted shell no command has its output: a new shell must take over.
      [[ $- == *r* ]] && builtin kill -9 $$
      builtin return 0 ;;
    status)
      [[ $- == *e* ]] && builtin return 0
      builtin return "$2" ;;
    env)
      while IFS= builtin read -r -d '' _sandcove_pair; do
        case $_sandcove_pair in
          *=*) builtin export -- "$_sandcove_pair" ;;
          *) builtin unset -v "$_sandcove_pair" ;;
        esac
      done <"$2"
      builtin return 0 ;;
    enter)
      {
        IFS= builtin read -r -d '' _sandcove_pair
        builtin cd -- "$_sandcove_pair" || builtin return 1
        while IFS= builtin read -r -d '' _sandcove_pair; do builtin export -- "$_sandcove_pair"; done
      } <"$2"
      builtin return 0 ;;
    save)
      {
        builtin export -p; builtin declare -p; builtin declare -f; builtin alias -p; builtin umask -p
        builtin printf '_sandcove_shopt=%q _sandcove_set=%q _sandcove_pwd=%q\n%s\n' \
          "$BASHOPTS" "$SHELLOPTS" "${DIRSTACK[0]}" "@END@ $3"
      } >|"@RUN@/state.$2" 2>/dev/null
      IFS= builtin read -r _sandcove_pair <"/proc/$$/task/$$/children"
      builtin printf '%s\n' "$_sandcove_pair" >|"@RUN@/children"
      builtin return 0 ;;
  esac
}
builtin shopt -s expand_aliases
{ builtin echo 1000 >|/proc/self/oom_score_adj; } 2>/dev/null
builtin trap '\_sandcove save exit exit' EXIT
builtin printf '0 0 %s\0' "${DIRSTACK[0]}" >&251
"""


def boot(run: Path, saved: Path | None) -> str:
    """What a new shell reads first: it takes up the state in the file `saved`, if there is one, and gets ready.

    Args:
        run: the folder for its commands.
    """
    restore = _RESTORE.replace("@SAVED@", str(saved)) if saved else ""
    return _BEGIN + restore + _BOOT.replace("@RUN@", str(run)).replace("@END@", END)


def state_number(state: bytes) -> float:
    """The number of the command that a state was written after; ``inf`` on `exit`; -1 when it is not whole."""
    last = state.rstrip(b"\n").rpartition(b"\n")[2]
    word = last.removeprefix(f"{END} ".encode())
    if word == last or not state.endswith(b"\n"):
        return -1
    return inf if word == b"exit" else int(word) if word.isdigit() and len(word) < 19 else -1


def numbered(state: bytes, number: int) -> bytes:
    """The state as that of command `number`."""
    return state.rstrip(b"\n").rpartition(b"\n")[0] + f"\n{END} {number}\n".encode()


def line(run: Path, number: int, last_code: int, *, is_list: bool, apart: bool, stdin: str, has_new_env: bool) -> str:
    """The line that runs command `number`, whose text lies in `run`.

    Args:
        last_code: what ``$?`` is at its start.
        is_list: the text is a program and its arguments, which no shell is to see.
        apart: it has a folder or variables of its own, and changes nothing in the session.
        stdin: what its standard input is, a path of ours.
        has_new_env: variables are to be changed in the session first.
    """
    base = f"{run}/{number}"
    parts = []
    if has_new_env:
        parts.append(rf"\_sandcove env {base}.newenv")
    if is_list:
        parts.append(rf"\builtin mapfile -d '' -t _sandcove_command <{base}.command")
        what = r'\builtin exec -- "${_sandcove_command[@]}"'
    else:
        parts.append(rf"IFS= \builtin read -r -d '' _sandcove_command <{base}.command")
        what = r'\builtin eval "$_sandcove_command"'
    enter = rf"\_sandcove enter {base}.env || \builtin exit 1; " if apart else ""
    if is_list or apart:
        what = f"( {enter}{what} )"
    parts += [
        r"\_sandcove check",
        rf"\builtin printf '+{number}\0' >&{STATUS_FD}",
        rf"\_sandcove status {last_code}",
        f"{what} <{stdin} >{base}.out 2>{base}.err {SCRIPT_FD}<&- {STATUS_FD}>&-",
        rf"""\builtin printf '{number} %d %s\0' "$?" "${{DIRSTACK[0]}}" >&{STATUS_FD}""",
        rf"\_sandcove save {number % 2} {number}",
    ]
    return "; ".join(parts) + f"\n{NEXT}"
