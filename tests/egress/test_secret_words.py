"""What is a secret and what is none, said at the edge; and that nothing shows a value."""

from __future__ import annotations

import sys

import pytest

from sandcove.errors import HostUnsupportedError, InvalidRequestError
from sandcove.server.egress.purse import NO_SECRETS, Purse
from sandcove.wire.egress import parse_egress
from sandcove.wire.secrets import Secret, check_secrets

VALUE = "s3cret/value+1"
OURS = "api.test"


def purse_of(**secrets: Secret) -> Purse:
    return NO_SECRETS.changed(check_secrets(secrets), parse_egress("public"))


WRONG = {
    "empty": (Secret("", ["a.test"]), "empty"),
    "a line break": (Secret("s3cr\r\nX: y", ["a.test"]), "line break"),
    "a line break at its end": (Secret("s3cr\n", ["a.test"]), "line break"),
    "a NUL": (Secret("s3cr\0", ["a.test"]), "control character"),
    "a space at its end": (Secret("s3cr ", ["a.test"]), "space"),
    "no text": (Secret("s3cr\udc80", ["a.test"]), "UTF-8"),
    "long": (Secret("s3cr" * 9999, ["a.test"]), "bytes"),
    "bytes": (Secret(b"s3cr", ["a.test"]), "not bytes"),  # type: ignore[arg-type]
    "no secret": ("s3cr", "not str"),
    "no hosts": (Secret("s3cr", []), "0 hosts"),
    "a text of hosts": (Secret("s3cr", "a.test"), "list of str"),  # type: ignore[arg-type]
    "every host": (Secret("s3cr", ["*"]), "too many hosts"),
    "every host of a port": (Secret("s3cr", ["*:443"]), "too many hosts"),
    "a whole domain": (Secret("s3cr", ["*.com:443"]), "not understood"),
    "public": (Secret("s3cr", ["public"]), "no host"),
    "none": (Secret("s3cr", ["none"]), "no host"),
    "a preset": (Secret("s3cr", ["python"]), "no host"),
    "every host, within TLS": (Secret("s3cr", ["*"], intercept_tls=True), "too many hosts"),
    "a URL": (Secret("s3cr", ["https://a.test/"]), "not understood"),
    "a header without it": (Secret("s3cr", ["a.test"], "X-Key: s"), "{secret}"),
    "a header with it twice": (Secret("s3cr", ["a.test"], "X-Key: {secret}{secret}"), "{secret}"),
    "two headers": (Secret("s3cr", ["a.test"], "X: {secret}\r\nY: z"), "{secret}"),
    "a header of the connection": (Secret("s3cr", ["a.test"], "Host: {secret}"), "connection"),
    "the same by another name": (Secret("s3cr", ["a.test"], "Content_Length: {secret}"), "connection"),
    "a header and the URL": (Secret("s3cr", ["a.test"], "X: {secret}", False, True), "in_url"),
    "no flag": (Secret("s3cr", ["a.test"], intercept_tls=1), "intercept_tls"),  # type: ignore[arg-type]
    "for TLS, which it does not get into": (Secret("s3cr", ["b.test", "a.test:443"]), "intercept_tls"),
    "removal": (None, "NoneType"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_secret_is_refused_without_a_word_of_it(case: str) -> None:
    value, match = WRONG[case]
    with pytest.raises(InvalidRequestError) as refused:
        check_secrets({"KEY": value})
    assert match in str(refused.value)
    assert "s3cr" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "A B", "1A", "A=B", "A\0"])
def test_what_is_no_variable_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        check_secrets({name: Secret("s3cret", ["a.test"])})


def test_a_host_that_may_not_be_reached_gets_no_secret() -> None:
    for words, tls in ((["other.test"], True), (["api.test:80"], True), (["api.test:443"], False), ("none", True)):
        with pytest.raises(InvalidRequestError, match="not in the egress"):
            NO_SECRETS.changed({"KEY": Secret("s3cret", [OURS], intercept_tls=tls)}, parse_egress(words))
    with pytest.raises(InvalidRequestError, match="not in the egress"):
        NO_SECRETS.changed({"KEY": Secret("s3cret", ["*.test.test"])}, parse_egress(["a.test.test"]))


def test_two_secrets_for_one_header_of_a_host() -> None:
    one = Secret("s3cret", ["*.api.test"], "X-Key: {secret}")
    for other, refused in (
        (Secret("s3cret", ["a.api.test"], "x_key: {secret}"), True),
        (Secret("s3cret", ["a.api.test"], "X-Other: {secret}"), False),
        (Secret("s3cret", ["api.test"], "X-Key: {secret}"), False),
        (Secret("s3cret", ["a.api.test"], "X-Key: {secret}", intercept_tls=True), False),
    ):
        if refused:
            with pytest.raises(InvalidRequestError, match="both for the header"):
                purse_of(ONE=one, OTHER=other)
        else:
            purse_of(ONE=one, OTHER=other)


def test_nothing_shows_a_value() -> None:
    purse = purse_of(KEY=Secret(VALUE, [OURS], intercept_tls=True))
    shown = [
        purse,
        purse.kept,
        purse.keyring(),
        purse.keyring().of(OURS, 443, tls=True),
        purse.listing(),
        purse.kept["KEY"],
    ]
    text = " ".join(f"{each} {each!r}" for each in shown)
    assert VALUE not in text
    assert "PRIVATE KEY" not in text


def test_without_the_library_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(HostUnsupportedError, match=r"sandcove\[secrets\]"):
        purse_of(KEY=Secret(VALUE, [OURS], intercept_tls=True))
    purse_of(KEY=Secret(VALUE, [OURS]))
