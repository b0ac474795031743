"""What is let through as a repository's URL, a branch or a folder is no option, names no program, and has no secret."""

from __future__ import annotations

import string
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sandcove.errors import InvalidRequestError, SecurityError
from sandcove.wire.repository import (
    SCHEMES,
    Credentials,
    check_branch,
    check_credentials,
    check_target,
    parse_repository,
)
from tests.remote import NEEDS_GIT

PARTS = "http https ssh ext fd file :: :// : / // @ - --upload-pack=x a b.git .git .. %2e %0a host [::1] :80 ~ ? #"
NEARLY_URLS = st.builds("".join, st.lists(st.sampled_from([*PARTS.split(), " ", "\\", "\n", "\0"]), max_size=9))


@given(st.text(max_size=60) | NEARLY_URLS)
@example("-x")
@example("ext::sh -c 'touch /tmp/pwned'")
@example("fd::17/repo")
@example("a+b::c")
@example("::")
@example("ssh://-oProxyCommand=x/y")
@example("-oProxyCommand=x:y")
@example("a@-oProxyCommand=x:y")
@example("git@host:-x")
@example("http://host/a\nb")
@example("http://[::1]:8080/a")
def test_what_is_let_through_is_no_option_and_names_no_program(url: str) -> None:
    try:
        found = parse_repository(url)
    except InvalidRequestError as error:
        assert len(error.message) < 500  # noqa: PT017 - most values raise it, some raise nothing
        return
    assert found.url.isprintable() or not set(found.url) & {chr(code) for code in (*range(32), 127)}
    assert not found.url.startswith("-")
    scheme, separator, rest = found.url.partition("://")
    if found.url.startswith("/"):
        assert found.url == url
    elif separator and scheme.isalpha():
        assert scheme in SCHEMES
        host = rest.partition("/")[0].rpartition("@")[2]
        assert (scheme == "file") == (host == "") and not host.startswith("-")
    else:
        # What git takes for `user@host:path`: the host is before the first colon, and has nothing special.
        host, colon, path = found.url.partition(":")
        assert colon and path and path[0] not in "-:"
        assert not set(host) - set(string.ascii_letters + string.digits + "._-@")
        assert not host.rpartition("@")[2].startswith("-")
    assert found.name not in ("", ".", "..", ".git") and "/" not in found.name and not found.name.startswith("-")
    assert (found.origin is not None) == found.url.startswith(("http://", "https://"))


SECRETS = st.text(alphabet=string.ascii_letters + string.digits + "%:@/?#&=+ é\\'\"$`", min_size=1, max_size=20)


def quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


@given(SECRETS, SECRETS, st.sampled_from(["http", "https", "HTTPS"]))
def test_a_user_name_and_password_are_taken_out_of_the_url(username: str, password: str, scheme: str) -> None:
    url = f"{scheme}://{quoted(username)}:{quoted(password)}@host:8080/team/repo.git"
    found = parse_repository(url)
    assert found.credentials == Credentials(username, password)
    assert found.url == f"{scheme.lower()}://host:8080/team/repo.git"
    assert (found.name, found.origin) == ("repo", f"{scheme.lower()}://host:8080")
    assert password not in repr(found.credentials) or password in "Credentials(...)"


@given(
    st.text(alphabet=string.ascii_letters + ":@/?#%\n\0", max_size=12),
    st.sampled_from(["http://{}@host:x/y", "ssh://u:{}@host/y", "git://{}@host/y", "ext://{}@h/y", "https://{}@h\n/y"]),
)
def test_an_error_does_not_tell_what_may_be_a_password(garbage: str, form: str) -> None:
    try:
        found = parse_repository(form.format(f"QQ{garbage}ZZ"))
    except InvalidRequestError as error:
        assert "QQ" not in str(error) and "ZZ" not in str(error)  # noqa: PT017 - some raise nothing
    else:
        assert "/" in garbage, f"a slash ends the host, as URLs have it; nothing else does: {found}"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/team/repo.git", "repo"),
        ("https://host/team/repo/", "repo"),
        ("https://host/team/repo/.git", "repo"),
        ("git@host:team/repo.git", "repo"),
        ("git@host:repo", "repo"),
        ("host:repo.git", "repo"),
        ("ssh://git@host:22/~user/repo.git", "repo"),
        ("git://host/repo.git", "repo"),
        ("file:///srv/repo.git", "repo"),
        ("/srv/a b/repo.git", "repo"),
    ],
)
def test_the_folder_is_called_as_git_calls_it(url: str, name: str) -> None:
    assert parse_repository(url).name == name


@pytest.mark.parametrize(
    "url", ["ext::sh -c x", "fd::3", "ftp://h/x", "persistent-https://h/x", "-x", "--upload-pack=x"]
)
def test_what_runs_programs_is_a_matter_of_security(url: str) -> None:
    with pytest.raises(SecurityError):
        parse_repository(url)


BRANCHES = st.text(alphabet="ab./-@{}~^:?*[\\ \n\0é", min_size=0, max_size=8)


@NEEDS_GIT
@given(BRANCHES)
@example("@")
@example("a.lock")
@example("a/.b")
@example("refs/heads/a")
def test_a_branch_is_what_git_allows(name: str) -> None:
    try:
        check_branch(name)
        allowed = True
    except InvalidRequestError:
        allowed = False
    if "\0" in name:
        assert not allowed
        return
    git = subprocess.run(["git", "check-ref-format", f"refs/heads/{name}"], check=False).returncode == 0
    # As a branch git refuses these too, which are refs all the same.
    assert allowed == (git and not name.startswith("-") and name != "@")


@given(st.text(max_size=20))
@example("-x")
@example("a\nb")
def test_a_target_folder_is_no_option(path: str) -> None:
    try:
        check_target(path)
    except (InvalidRequestError, UnicodeEncodeError):
        return
    assert not path.startswith("-") and not set(path) & {chr(code) for code in (*range(32), 127)}


@given(st.text(max_size=20), st.text(max_size=20))
@example("a\nhost=evil", "b")
@example("a", "b\0")
def test_credentials_are_one_line_each(username: str, password: str) -> None:
    try:
        check_credentials(username, password)
    except InvalidRequestError as error:
        assert not (len(password) > 3 and password in str(error))  # noqa: PT017 - most values raise nothing
        return
    assert not set(username + password) & set("\n\r\0")
