"""Settings: a flag beats the environment beats the file beats the default, and what is wrong is refused by its name."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandcove.errors import InvalidRequestError
from sandcove.server import config
from sandcove.server.config import SETTINGS, Setting, Settings, load

BY_NAME = {setting.name: setting for setting in SETTINGS}
OF_SECONDS = [setting for setting in SETTINGS if setting.kind is config.SECONDS]
ids: Any = lambda setting: setting.name  # noqa: E731 - a parameter of each test below


def good(setting: Setting) -> st.SearchStrategy[Any]:
    """Values of this setting as a TOML file has them."""
    if setting.kind is config.SECONDS:
        return st.floats(0, 1e9, exclude_max=True, allow_nan=False)
    if setting.kind.options:
        return st.sampled_from(setting.kind.options)
    if setting.kind.types == (int,):
        return st.integers(1, 9)
    if setting.kind is config.URL:
        return st.from_regex(r"https?://[a-z]{1,10}(:[1-9][0-9]{0,3})?", fullmatch=True)
    if setting.kind is config.EGRESS:
        return st.sampled_from(["none", "public", "python, a.test"])
    if setting.kind is config.ADDRESSES:
        return st.sampled_from(["10.1.2.3:443", "fd00::/8, 10.0.0.0/8"])
    if setting.kind is config.SPACE:
        return st.integers(0, 10**12)
    if setting.kind is config.RATE:
        return st.integers(16_384, 10**9)
    if setting.kind is config.LIMITS:
        return st.from_regex(r"processes=[1-9][0-9]{2,5}(,memory=[1-9]g)?", fullmatch=True)
    return st.from_regex(r"[a-z]{1,10}", fullmatch=True)


NEEDED = {"host": "some", "tls_cert": "some"}
"""What others make no sense without."""
SOME = st.fixed_dictionaries({}, optional={setting.name: good(setting) for setting in SETTINGS})


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def toml(values: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SOME, SOME, SOME)
def test_the_nearest_wins(
    tmp_path: Path, flags: dict[str, Any], environment: dict[str, Any], in_file: dict[str, Any]
) -> None:
    file = tmp_path / "some.toml"
    in_file = NEEDED | in_file
    file.write_text(toml(in_file))
    texts = {name: as_text(value) for name, value in flags.items()}
    variables = {BY_NAME[name].variable: as_text(value) for name, value in environment.items()}
    loaded = load({**texts, "config": str(file)}, variables)
    for setting in SETTINGS:
        values = [of[setting.name] for of in (flags, environment, in_file) if setting.name in of]
        wanted = values[0] if values else setting.default
        if values and setting.kind is config.PATH:
            # A path in the file is one below the file's folder.
            wanted = Path(tmp_path if len(values) == 1 and setting.name in in_file else "", wanted).absolute()
        assert getattr(loaded, setting.name) == wanted


def test_without_any_the_defaults_hold() -> None:
    assert load({}, {}) == Settings()
    assert [field.name for field in dataclasses.fields(Settings)] == list(BY_NAME)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.shown], ids=ids)
def test_a_default_is_a_value_of_its_setting(setting: Setting) -> None:
    assert setting.kind.read(setting.shown) == setting.default


@given(st.sampled_from(SETTINGS), st.text(max_size=10))
def test_a_text_is_a_value_or_refused_with_the_place_it_is_from(setting: Setting, text: str) -> None:
    needed = {} if setting.name == "host" else NEEDED | {setting.name: None}
    for flags, environment, place in [
        (needed, {setting.variable: text}, setting.variable),
        (needed | {setting.name: text}, {}, setting.flag),
    ]:
        try:
            load(flags, environment)
        except InvalidRequestError as error:
            told = str(error)
        else:
            continue
        assert place in told
        assert repr(text) in told


@pytest.mark.parametrize("wrong", [-1.0, -0.001, 1e9, math.inf, -math.inf, math.nan, 10**400])
@pytest.mark.parametrize("setting", OF_SECONDS, ids=ids)
def test_seconds_out_of_range_are_refused(setting: Setting, wrong: float, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(f"{setting.name} = {wrong}\n")
    for flags, environment, place in [
        ({setting.name: str(wrong)}, {}, setting.flag),
        ({}, {setting.variable: str(wrong)}, setting.variable),
        ({"config": str(file)}, {}, f"{file}: {setting.name}"),
    ]:
        with pytest.raises(InvalidRequestError) as caught:
            load(flags, environment)
        assert place in str(caught.value)


@pytest.mark.parametrize("wrong", ["true", "[1]", "{a = 1}", "1979-05-27", "[]"])
@pytest.mark.parametrize("setting", SETTINGS, ids=ids)
def test_a_value_of_the_wrong_type_is_refused_with_file_and_key(setting: Setting, wrong: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(f"{setting.name} = {wrong}\n")
    with pytest.raises(InvalidRequestError, match="wrong type") as caught:
        load({}, {"SANDCOVE_CONFIG": str(file)})
    assert f"{file}: {setting.name} = " in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"port": "1"}, "port is 1, but there is no host"),
        ({"tls_cert": "/a"}, "tls_cert is /a, but there is no host"),
        ({"tls_cert": "/a", "host": ""}, "tls_cert is /a, but there is no host"),
        ({"tls_key": "/a", "host": "x"}, "tls_key is /a, but there is no tls_cert"),
    ],
)
def test_a_setting_that_would_do_nothing_is_refused(flags: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        load(flags, {})


def test_an_unknown_key_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("slep_after = 1\n")
    with pytest.raises(
        InvalidRequestError, match=r"wrong\.toml: there is no setting 'slep_after'; there are .*sleep_after"
    ):
        load({"config": str(file)}, {})
    for content in (b"sleep_after", b"\xff\xfe", b"a = 1\na = 2\n"):
        file.write_bytes(content)
        with pytest.raises(InvalidRequestError, match=r"wrong\.toml is no TOML file"):
            load({"config": str(file)}, {})
    with pytest.raises(InvalidRequestError, match=r"--config .*missing: the file can't be read: No such file"):
        load({"config": str(tmp_path / "missing")}, {})
    with pytest.raises(InvalidRequestError, match=r"SANDCOVE_CONFIG=.*: the file can't be read: Is a directory"):
        load({}, {"SANDCOVE_CONFIG": str(tmp_path)})
