"""Arguments are checked at the SDK's edge, with an error that names the argument; no server is needed to be told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sandcove import AsyncSandbox, InvalidRequestError, Sandbox, SandboxError, SecurityError
from sandcove.client.check import check_env_changes, check_path, check_seconds
from sandcove.client.endpoint import Endpoint
from tests.both import Blocking, blocking


@pytest.fixture(params=["sync", "async"])
def box(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "sync":
        yield Sandbox("x", url="http://127.0.0.1:9")
    else:
        with blocking() as portal:
            yield Blocking(portal, AsyncSandbox("x", url="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda box: box.exec(5), "command is a str for the shell or a list of str, not int"),
        (lambda box: box.exec(b"ls"), "command is a str .* not bytes"),
        (lambda box: box.exec(["ls", 5]), r"command\[1\] is a str, not int"),
        (lambda box: box.exec(""), "command is empty"),
        (lambda box: box.exec("  "), "command is empty"),
        (lambda box: box.exec([]), "command is empty"),
        (lambda box: box.exec("a\0b"), "NUL"),
        (lambda box: box.exec("x" * 10_000_000), "longer than 1,048,576 bytes; write it to a file"),
        (lambda box: box.exec("x", timeout="5"), r"timeout is a number of seconds, not str \('5'\)"),
        (lambda box: box.exec("x", timeout=True), "timeout is a number of seconds, not bool"),
        (lambda box: box.exec("x", timeout=0), "timeout is a number of seconds over 0, not 0"),
        (lambda box: box.exec("x", timeout=-1), "over 0, not -1"),
        (lambda box: box.exec("x", timeout=float("nan")), "not nan"),
        (lambda box: box.exec("x", cwd=5), "cwd is a str or a path of text, not int"),
        (lambda box: box.exec("x", env=["A=b"]), "env is a mapping of str to str, not list"),
        (lambda box: box.exec("x", env={"A": 5}), r"env\['A'\] is a str, not int"),
        (lambda box: box.exec("x", env={"A=B": "5"}), "environment variable name"),
        (lambda box: box.exec("x", env={5: "5"}), "a name in env is a str, not int"),
        (
            lambda box: box.exec("x", stdin=5),
            "stdin is a str, bytes, a file object or an iterable of str or bytes, not int",
        ),
        (lambda box: box.exec("x", stdin="\ud800"), "stdin has a character"),
        (lambda box: box.exec("x", stdin=[b"a", 5]), "a piece of stdin is a str or bytes, not int"),
        (lambda box: box.exec_stream("x", stdin=5), "stdin is a str, bytes, a file object"),
        (lambda box: box.exec("x", encoding="latin-1"), "encoding is 'utf-8' for text or None for bytes"),
        (lambda box: box.exec("x", on_stdout=5), "on_stdout is a function, not int"),
        (lambda box: box.exec("x", check=1), "check is True or False, not int"),
        (lambda box: box.exec_stream(5), "command is a str"),
        (lambda box: box.write_file("x", 5), "content is a str or bytes, not int"),
        (lambda box: box.write_file("", "x"), "path is empty"),
        (lambda box: box.write_file("a\0b", "x"), "NUL"),
        (lambda box: box.write_file("x", "y", mode="0644"), "mode is permission bits as an int, not str"),
        (lambda box: box.write_file("x", "y", mode=0o1_0000), "mode is permission bits such as 0o644, not 4096"),
        (lambda box: box.read_file(5), "path is a str or a path of text, not int"),
        (lambda box: box.read_file("x" * 5000), "path is longer than 4,095 bytes"),
        (lambda box: box.mkdir("x", recursive="yes"), "recursive is True or False, not str"),
        (lambda box: box.list_files("x", include_hidden=1), "include_hidden is True or False"),
        (lambda box: box.rename_file("x", 5), "new_path is a str"),
        (lambda box: box.upload("/no/such/file", "x"), "local path '/no/such/file' can't be read: No such file"),
        (lambda box: box.upload("/dev/null", "x"), "is no file or folder"),
        (lambda box: box.upload("/etc/passwd", "x", on_progress=5), "on_progress is a function"),
        (lambda box: box.create_session("a b"), "session name 'a b'"),
        (lambda box: box.create_session(5), "session name is a str, not int"),
        (lambda box: box.delete_session("../x"), "session name"),
        (lambda box: box.set_env_vars({"A": 5}), r"env\['A'\] is a str"),
        (lambda box: box.set_env_vars(None), "env is a mapping"),
    ],
)
def test_a_wrong_argument(box: Any, call: Any, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        call(box)


@pytest.mark.parametrize("kind", [Sandbox, AsyncSandbox])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"id": "Upper"}, "sandbox id 'Upper'"),
        ({"id": ""}, "sandbox id ''"),
        ({"id": "admin"}, "reserved"),
        ({"id": 5}, "id is a str, not int"),
        ({"labels": {"a b": "c"}}, "label name"),
        ({"labels": "a=b"}, "labels is a mapping"),
        ({"env": {"A": None}}, r"env\['A'\] is a str"),
        ({"sleep_after": -1}, "sleep_after is a number of seconds over 0, or 0 for never"),
        ({"sleep_after": "20m"}, "sleep_after is a number of seconds"),
        ({"keep_alive": 1}, "keep_alive is True or False"),
        ({"time_to_live": -1}, "time_to_live is a number of seconds over 0, or 0 for a life for good"),
        ({"url": 5}, "url is a str"),
        ({"api_key": b"k"}, "api_key is a str"),
    ],
)
def test_a_wrong_option(kind: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        kind(**{"id": "x"} | options)


def test_an_unknown_option_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="colour"):
        Sandbox("x", colour="red")  # type: ignore[call-arg]


def test_ids_are_a_matter_of_security() -> None:
    with pytest.raises(SecurityError):
        Sandbox("../x")


def test_an_anonymous_sandbox_has_no_id_yet() -> None:
    with pytest.raises(InvalidRequestError, match="before its first call"):
        _ = Sandbox().id
    assert repr(Sandbox()) == "<Sandbox 'anonymous'>"
    assert repr(AsyncSandbox("x")) == "<AsyncSandbox 'x'>"


def test_seconds_are_milliseconds_on_the_wire() -> None:
    assert check_seconds("timeout", 1.5) == 1500
    assert check_seconds("timeout", 0.0001) == 1
    assert check_seconds("sleep_after", 0, zero="never") == 0


def test_env_changes() -> None:
    assert check_env_changes({"A": "b", "C": None}) == {"A": "b", "C": None}
    with pytest.raises(InvalidRequestError):
        check_env_changes({5: None})


def test_a_path_with_undecodable_bytes() -> None:
    with pytest.raises(InvalidRequestError, match="UTF-8 can't encode"):
        check_path("a\udcff")


@pytest.mark.parametrize(
    ("url", "host", "port", "name"),
    [
        ("http://localhost:8080", "localhost", 8080, "localhost:8080"),
        ("http://10.0.0.1:1/", "10.0.0.1", 1, "10.0.0.1:1"),
        ("http://[::1]:8080", "::1", 8080, "[::1]:8080"),
        ("http://box.example", "box.example", 80, "box.example:80"),
    ],
)
def test_urls(url: str, host: str, port: int, name: str) -> None:
    endpoint = Endpoint.parse(url, "secret")
    assert (endpoint.host, endpoint.port, endpoint.unix) == (host, port, None)
    assert f"Host: {name}\r\n" in endpoint.fixed
    assert "Authorization: Bearer secret\r\n" in endpoint.fixed


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8080",
        "http://",
        "http://a:0",
        "http://a:65536",
        "http://a/path",
        "http://u:p@a",
        "ftps://a",
        "http://a b",
    ],
)
def test_wrong_urls(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="server URL"):
        Endpoint.parse(url, None)


def test_a_key_can_carry_no_further_header() -> None:
    with pytest.raises(InvalidRequestError, match="line break"):
        Endpoint.parse("http://a:1", "k\r\nX-Evil: 1")


def test_an_unreachable_server_is_named() -> None:
    with pytest.raises(SandboxError, match=r"the server at 127\.0\.0\.1:9 can't be reached: Connection refused; check"):
        Sandbox("x", url="http://127.0.0.1:9").ping()
