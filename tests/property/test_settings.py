"""Settings: a flag beats the environment beats the default, and what is no number of seconds is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandcove.errors import InvalidRequestError
from sandcove.server.config import SETTINGS, Settings, load

seconds = st.floats(0, 1e9, exclude_max=True, allow_nan=False)
flags = st.fixed_dictionaries({setting.name: st.none() | seconds for setting in SETTINGS})
environments = st.dictionaries(st.sampled_from([setting.variable for setting in SETTINGS]), seconds)


@given(flags, environments)
def test_the_nearest_wins(given_flags: dict[str, float | None], environment: dict[str, float]) -> None:
    settings = load(given_flags, {name: repr(value) for name, value in environment.items()})
    for setting in SETTINGS:
        flag = given_flags[setting.name]
        wanted = flag if flag is not None else environment.get(setting.variable, setting.default)
        assert getattr(settings, setting.name) == wanted


def test_without_any_the_defaults_hold() -> None:
    assert load({}, {}) == Settings()


@given(st.sampled_from(SETTINGS), st.text(max_size=10))
def test_a_text_is_a_number_of_seconds_or_refused(setting: object, text: str) -> None:
    chosen = next(s for s in SETTINGS if s is setting)
    try:
        value = getattr(load({}, {chosen.variable: text}), chosen.name)
    except InvalidRequestError as error:
        told = str(error)
        assert chosen.variable in told or chosen.name in told
    else:
        assert 0 <= value < 1e9


@pytest.mark.parametrize("wrong", [-1.0, -0.001, 1e9, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_a_number_out_of_range_is_refused(setting: object, wrong: float) -> None:
    chosen = next(s for s in SETTINGS if s is setting)
    for flags_, environment in [({chosen.name: wrong}, {}), ({}, {chosen.variable: str(wrong)})]:
        with pytest.raises(InvalidRequestError, match=chosen.name):
            load(flags_, environment)
