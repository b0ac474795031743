"""Where a git repository is and what is wanted of it: URLs and names of branches, checked before git sees them.

Pure functions. What is let through is no option of git, names no program to run, and has no secret in it: a URL's user
name and password are taken out as credentials. No error repeats what could be one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sandcove.errors import InvalidRequestError, SecurityError
from sandcove.wire.names import check_path

__all__ = ["Credentials", "Repository", "check_branch", "check_credentials", "check_target", "parse_repository"]

MAX_URL_BYTES = 4095
MAX_BRANCH_BYTES = 250
"""A branch is a file below ``refs/heads``: its longest name, with git's ``.lock``, has 255 bytes."""
MAX_CREDENTIAL_BYTES = 16 * 1024
SCHEMES = ("http", "https", "ssh", "git", "file")
"""What git may speak; its other transports run programs that a URL names."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?", re.ASCII)
_SCP = re.compile(r"(?:([A-Za-z0-9_][A-Za-z0-9._-]*)@)?([A-Za-z0-9_][A-Za-z0-9._-]*):([^:].*|)", re.ASCII | re.DOTALL)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
_NOT_IN_A_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|$)")


class Credentials(NamedTuple):
    """A user name and a password, or a token in place of either. Its text is no secret's."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(...)"


class Repository(NamedTuple):
    """A repository's URL in parts.

    Attributes:
        url: what git is given: a URL without user name and password, ``user@host:path``, or an absolute path.
        name: the folder that it is cloned into when none is named.
        origin: scheme, host and port of an http or https URL, else None: whom credentials are for.
        credentials: what was in the URL.
    """

    url: str
    name: str
    origin: str | None
    credentials: Credentials | None


def parse_repository(url: str) -> Repository:
    """Takes an http, https, ssh, git or file URL, ``user@host:path``, or an absolute path of the sandbox.

    Raises:
        InvalidRequestError: it is none of them.
        SecurityError: it is an option, or names a program to run.
    """
    if not url:
        raise InvalidRequestError("the repository's URL is empty; give one such as https://host/path.git")
    if _CONTROL.search(url):
        raise SecurityError(f"the repository's URL {_shown(url)} has a control character; remove it")
    if len(url.encode()) > MAX_URL_BYTES:
        raise InvalidRequestError(f"the repository's URL is longer than {MAX_URL_BYTES:,} bytes")
    if url.startswith("-"):
        raise SecurityError(f"the repository's URL {_shown(url)} begins with '-', as an option of git does")
    if url.startswith("/"):
        return Repository(url, _name(url, url), None, None)
    if _HELPER.match(url):
        raise SecurityError(f"the repository's URL {_shown(url)} names a program to run; give one of {_allowed()}")
    if match := _SCHEME.fullmatch(url):
        return _with_scheme(url, match[1].lower(), match[2])
    if match := _SCP.fullmatch(url):
        path = match[3]
        if not path or path.startswith("-"):
            raise InvalidRequestError(f"the repository's URL {_shown(url)} has no path after its host")
        return Repository(url, _name(path, url), None, None)
    raise InvalidRequestError(
        f"the repository's URL {_shown(url)} is none; give {_allowed()}, user@host:path, or an absolute path"
    )


def check_branch(name: str) -> str:
    """The name of a branch or tag as git takes it, or a commit's id.

    Raises:
        InvalidRequestError: git has no such names.
        SecurityError: it is an option.
    """
    if not name:
        raise InvalidRequestError("the branch is empty; leave it out for the repository's default branch")
    if name.startswith("-"):
        raise SecurityError(f"the branch {_short(name)} begins with '-', as an option of git does")
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BRANCH_BYTES:
        raise InvalidRequestError(f"the branch {_short(name)} is longer than {MAX_BRANCH_BYTES} bytes")
    if _NOT_IN_A_BRANCH.search(name) or _CONTROL.search(name) or name[0] in "./" or name[-1] in "./" or name == "@":
        raise InvalidRequestError(f"the branch {_short(name)} is no name that git allows for a branch or tag")
    return name


def check_target(path: str) -> str:
    """The path of the folder to clone into.

    Raises:
        InvalidRequestError: it is no path, or has a control character.
        SecurityError: it is an option.
    """
    check_path(path)
    if path.startswith("-"):
        raise SecurityError(f"the target folder {_short(path)} begins with '-', as an option does; write ./{path[:40]}")
    if _CONTROL.search(path):
        raise InvalidRequestError(f"the target folder {_short(path)} has a control character; remove it")
    return path


def check_credentials(username: str, password: str) -> Credentials:
    """Texts of at most 16 KiB on one line each: git takes no others."""
    for what, value in (("username", username), ("password", password)):
        # Neither value is shown: people paste tokens into both.
        if _CONTROL.search(value):
            raise InvalidRequestError(f"the {what} has a line break or another control character; remove it")
        if len(value.encode()) > MAX_CREDENTIAL_BYTES:
            raise InvalidRequestError(f"the {what} is longer than {MAX_CREDENTIAL_BYTES:,} bytes")
    if not username and not password:
        raise InvalidRequestError("username and password are both empty; leave them out for none")
    return Credentials(username, password)


def _with_scheme(url: str, scheme: str, rest: str) -> Repository:
    if scheme not in SCHEMES:
        raise SecurityError(f"the repository's URL {_shown(url)} has a transport that is not allowed; use {_allowed()}")
    netloc, slash, path = rest.partition("/")
    userinfo, at, host = netloc.rpartition("@")
    if scheme == "file":
        if netloc not in ("", "localhost"):
            raise InvalidRequestError(f"the repository's URL {_shown(url)} names another machine; write file:///path")
        return Repository(f"file:///{path}", _name(path, url), None, None)
    match = _HOST.fullmatch(host)
    if not match or (match[1] and not 0 < int(match[1]) < 65536):
        raise InvalidRequestError(
            f"the repository's URL {_shown(url)} has no valid host; write it as {scheme}://host[:port]/path, "
            "and percent-encode what is special in a user name or password"
        )
    if not path.strip("/"):
        raise InvalidRequestError(f"the repository's URL {_shown(url)} has no path; write {scheme}://host/path")
    clean = f"{scheme}://{host}{slash}{path}"
    if scheme in ("http", "https"):
        if re.search(r"\s", path):
            raise InvalidRequestError(f"the repository's URL {_shown(url)} has a space; write %20")
        credentials = None
        if userinfo:
            username, _, password = userinfo.partition(":")
            credentials = check_credentials(_unquoted(username), _unquoted(password))
        return Repository(clean, _name(path, url), f"{scheme}://{host.lower()}", credentials)
    if at and (scheme == "git" or not _USER.fullmatch(userinfo)):
        takes = "no user name" if scheme == "git" else "a user name alone, and proves it by a key"
        raise InvalidRequestError(f"the repository's URL {_shown(url)} is {scheme}, which takes {takes}")
    return Repository(f"{scheme}://{userinfo}{at}{host}/{path}", _name(path, url), None, None)


def _name(path: str, url: str) -> str:
    """What git calls the folder: the path's last part, without ``.git``."""
    name = path.rstrip("/").removesuffix("/.git").rstrip("/").rpartition("/")[2].removesuffix(".git")
    if name in ("", ".", "..", ".git") or name.startswith("-") or len(name.encode()) > 255:
        raise InvalidRequestError(
            f"the repository's URL {_shown(url)} ends in no name for a folder; name one by target_dir"
        )
    return name


def _unquoted(text: str) -> str:
    """Percent-decoded, as UTF-8.

    Raises:
        InvalidRequestError: it is no UTF-8 then.
    """
    try:
        return re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode()).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError("the user name or password in the repository's URL is no UTF-8") from None


def _allowed() -> str:
    return "an http, https, ssh, git or file URL"


def _shown(url: str) -> str:
    """The URL for an error, without all that could be a user name or password."""
    _, at, rest = url.rpartition("@")
    return _short(f"...@{rest}" if at else url)


def _short(value: str) -> str:
    return repr(value if len(value) <= 80 else value[:77] + "...")
