"""A real browser, and a sandbox whose previews it opens. Pictures of pages are kept in ``.cache/artefacts``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bench.harness import UnavailableError
from bench.npm import installed
from sandcove import Sandbox

ROOT = Path(__file__).parents[3]
ARTEFACTS = ROOT / ".cache" / "artefacts"
CHROMIUM = "chromium"
QUIET = ["--disable-quic", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
"""It asks nothing of the network by itself."""


def skip(reason: str) -> None:
    """In CI a failure: nothing would be tested."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    program = shutil.which(CHROMIUM)
    if program is None:
        skip("Chromium is not installed; `scripts/browser` does it, as root on Debian and Ubuntu")
    with sync_playwright() as playwright:
        # Its own sandbox needs another user than root.
        root = os.geteuid() == 0
        browser = playwright.chromium.launch(executable_path=program, args=QUIET, chromium_sandbox=not root)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Opens empty pages, each as a user of its own would; at the end none may have met an error."""
    contexts = []
    errors: list[str] = []

    def opened() -> Page:
        contexts.append(browser.new_context(viewport={"width": 640, "height": 320}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        expect.set_options(timeout=20_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Page, str], Path]:
    """Keeps a picture of a page, and says where."""

    def kept(page: Page, name: str) -> Path:
        picture = ARTEFACTS / f"{name}.png"
        page.screenshot(path=picture)
        print(f"the picture of the page: {picture}")
        return picture

    return kept


@pytest.fixture(scope="module")
def box(home: Path) -> Iterator[Sandbox]:
    """One for all apps: each has a port of its own."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def with_packages(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of an app's folder with its npm packages, which are installed outside of the sandbox, once."""

    def copied(app: Path) -> Path:
        try:
            packages = installed(app)
        except UnavailableError as error:
            skip(f"the npm packages of {app.name} can't be had here: {error}")
            raise
        copy = tmp_path / app.name
        shutil.copytree(packages, copy, symlinks=True)
        shutil.copytree(app, copy, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        return copy

    return copied
