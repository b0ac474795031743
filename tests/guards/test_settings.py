"""Every setting and every error code is on the pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sandcove
from sandcove.errors import SandboxError, error_tree
from sandcove.server import config

ROOT = Path(__file__).parents[2]
PAGES = "\n".join(path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
SETTINGS = sorted(
    {
        name
        for path in Path(sandcove.__file__).parent.rglob("*.py")
        # Quoted: read from the environment or set for a child, not only spoken of.
        for name in re.findall(r"[\"'](SANDCOVE_[A-Z_]+)[\"']", path.read_text())
    }
    | {setting.variable for setting in config.SETTINGS}
)


def test_there_are_settings() -> None:
    assert "SANDCOVE_HOME" in SETTINGS


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_on_the_pages(name: str) -> None:
    assert f"`{name}`" in PAGES


def test_the_pages_have_no_setting_that_is_not_there() -> None:
    of_tests = {
        name
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"environ\.get\(\"(SANDCOVE_[A-Z_]+)\"", path.read_text())
    }
    assert set(re.findall(r"SANDCOVE_[A-Z_]+", PAGES)) <= {*SETTINGS, *of_tests}


def test_the_page_of_the_server_has_the_table_of_its_settings() -> None:
    lines = ["| key in the file | flag | variable | default | means |", "| --- | --- | --- | --- | --- |"]
    for setting in config.SETTINGS:
        default = f"`{setting.shown}`" if setting.shown else ""
        means = setting.help if not setting.kind.options else f"{setting.help}: {', '.join(setting.kind.options)}"
        lines.append(f"| `{setting.name}` | `{setting.flag}` | `{setting.variable}` | {default} | {means} |")
    table = "\n".join(lines)
    assert f"\n{table}\n\n" in (ROOT / "docs" / "server.md").read_text(), f"docs/server.md lacks:\n{table}"


@pytest.mark.parametrize("error", list(error_tree()), ids=lambda error: error.__name__)
def test_an_error_is_on_the_pages_with_its_code(error: type[SandboxError]) -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    assert re.search(rf"`{error.__name__}`.*`{error.code}`", page), f"docs/errors.md lacks {error.__name__}"
