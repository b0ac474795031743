"""When a failed request is made again: a pure decision, for every error and every number of tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sandcove.client.endpoint import Broken, Unreachable
from sandcove.client.retry import FIRST_WAIT, LONGEST_WAIT, TRIES, wait_before
from sandcove.errors import ServiceUnavailableError, error_tree

ERRORS: list[type[Exception]] = [Unreachable, Broken, *error_tree()]
DETAILS = st.fixed_dictionaries(
    {},
    optional={
        "begun": st.sampled_from([True, False, None, 0, "no"]),
        "retryAfter": st.one_of(st.floats(-1, 100), st.integers(-1, 100), st.sampled_from([None, True, "5", [1]])),
    },
)


@st.composite
def failures(draw: st.DrawFn, kinds: list[type[Exception]] = ERRORS) -> Exception:
    kind = draw(st.sampled_from(kinds))
    return kind("x") if kind in (Unreachable, Broken) else kind("x", **draw(DETAILS))


JITTER = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10), failures(), st.booleans(), st.booleans(), JITTER)
def test_only_what_can_t_happen_twice_is_repeated(
    tries: int, error: Exception, repeatable: bool, resendable: bool, jitter: float
) -> None:
    wait = wait_before(tries, error, repeatable=repeatable, resendable=resendable, jitter=jitter)
    if wait is None:
        return
    assert tries < TRIES
    if isinstance(error, Unreachable):
        return  # not a byte of it was sent
    assert resendable
    if isinstance(error, Broken):
        assert repeatable
    else:
        assert isinstance(error, ServiceUnavailableError)
        assert repeatable or error.details["begun"] is False


@given(st.integers(1, TRIES - 1), failures([Unreachable, Broken, ServiceUnavailableError]), JITTER)
def test_what_can_t_happen_twice_is_repeated(tries: int, error: Exception, jitter: float) -> None:
    asked = getattr(error, "retry_after", None) or 0
    wait = wait_before(tries, error, repeatable=True, resendable=True, jitter=jitter)
    assert (wait is None) == (asked > LONGEST_WAIT)


@given(st.integers(1, TRIES - 1), failures(), st.booleans(), JITTER)
def test_the_wait_is_bounded_and_grows_and_what_was_asked_is_respected(
    tries: int, error: Exception, repeatable: bool, jitter: float
) -> None:
    wait = wait_before(tries, error, repeatable=repeatable, resendable=True, jitter=jitter)
    if wait is None:
        return
    asked = error.retry_after if isinstance(error, ServiceUnavailableError) else None
    own = FIRST_WAIT * 2 ** (tries - 1)
    assert 0 <= wait <= max(own, LONGEST_WAIT)
    if asked is not None:
        assert wait >= asked
    elif tries == 1 and isinstance(error, Unreachable):
        assert wait == 0  # it is started, or woken, meanwhile
    else:
        assert wait == own * jitter


def test_what_is_no_number_of_seconds_asks_for_nothing() -> None:
    for said in (None, True, "5", [1], -1):
        assert ServiceUnavailableError("x", retryAfter=said).retry_after is None
