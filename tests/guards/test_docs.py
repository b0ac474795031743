"""The pages: links lead somewhere, the index names all, and the command line is what its page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
COMMAND = str(Path(sys.executable).with_name("sandcove"))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ +(.+)$", without_code(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    for page in ROOT.glob("docs/*.md"):
        assert page.name == "index.md" or f"]({page.name})" in index, page.name


def documented_commands() -> list[str]:
    page = (ROOT / "docs" / "cli.md").read_text()
    return sorted(set(re.findall(r"^#+ +`?sandcove ([a-z]+)", page, re.MULTILINE)))


def test_the_command_line_has_the_commands_of_its_page() -> None:
    told = subprocess.run([COMMAND, "--help"], check=True, capture_output=True, text=True).stdout
    offered = set(re.findall(r"^\s{2,}([a-z]+)\b", told, re.MULTILINE))
    assert documented_commands(), "docs/cli.md has no headings that name commands"
    assert set(documented_commands()) <= offered
    for command in documented_commands():
        asked = subprocess.run([COMMAND, command, "--help"], check=False, capture_output=True, text=True)
        assert asked.returncode == 0, asked.stderr
