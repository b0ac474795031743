"""The examples' apps in sandboxes, opened by a browser through their previews."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from examples import chat, express, vite
from sandcove import Sandbox

Open = Callable[[], Page]
Keep = Callable[[Page, str], Path]
WithPackages = Callable[[Path], Path]


def test_an_edit_shows_in_a_vite_app_without_a_reload(
    box: Sandbox, open_page: Open, keep: Keep, with_packages: WithPackages
) -> None:
    url = vite.serve(box, with_packages(vite.APP))
    page = open_page()
    loads: list[str] = []
    page.on("domcontentloaded", lambda loaded: loads.append(loaded.url))
    with page.expect_websocket() as socket, page.expect_console_message(lambda told: "[vite] connected" in told.text):
        page.goto(url)
    # Hot reload goes through the preview, not by a port of the host's.
    assert socket.value.url.startswith(url.replace("http", "ws", 1))
    button = page.get_by_role("button")
    for _ in range(3):
        button.click()
    expect(button).to_have_text("clicked 3 times")
    page.evaluate("window.since = 'the beginning'")
    vite.edit(box, "<h1>Hello</h1>", "<h1>Hello from an edit</h1>")
    expect(page.get_by_role("heading")).to_have_text("Hello from an edit")
    # What the page knew it still knows: the state of the component, and of the window.
    expect(button).to_have_text("clicked 3 times")
    assert page.evaluate("window.since") == "the beginning" and len(loads) == 1
    button.click()
    expect(button).to_have_text("clicked 4 times")
    assert keep(page, "vite").read_bytes().startswith(b"\x89PNG")


def test_two_browsers_talk_by_fastapi_s_websockets(box: Sandbox, open_page: Open, keep: Keep) -> None:
    url = chat.serve(box)
    ada, bob = open_page(), open_page()
    for page in (ada, bob):
        page.goto(url)
        expect(page.get_by_role("button")).to_be_enabled()

    def say(page: Page, text: str) -> None:
        page.get_by_role("textbox").fill(text)
        page.get_by_role("button").click()

    say(ada, "hello, Bob")
    expect(bob.get_by_role("listitem")).to_have_text(["hello, Bob"])
    say(bob, "hällo, Ada 😀")
    for page in (ada, bob):
        expect(page.get_by_role("listitem")).to_have_text(["hello, Bob", "hällo, Ada 😀"])
    keep(bob, "chat")
    # One who leaves is missed by nobody.
    bob.close()
    say(ada, "still here")
    expect(ada.get_by_role("listitem").last).to_have_text("still here")


def test_an_express_app_is_opened_and_called(
    box: Sandbox, open_page: Open, keep: Keep, with_packages: WithPackages
) -> None:
    url = express.serve(box, with_packages(express.APP))
    assert express.note(box, "by fetch") == ["by fetch"]
    page = open_page()
    answer = page.goto(url)
    assert answer is not None and answer.json() == {"message": "Hello from a sandbox", "host": "localhost:3000"}
    # A script on the page is at home there: it calls the app without CORS.
    say = """fetch("/notes", {method: "POST", headers: {"content-type": "application/json"}, body: '{"text": "a"}'})
        .then(async (made) => [made.status, made.headers.get("location"), await made.json()])"""
    assert page.evaluate(say) == [201, "/notes/1", {"count": 2}]
    page.goto(f"{url}notes")
    expect(page.locator("body")).to_contain_text('["by fetch","a"]')
    keep(page, "express")


def test_a_page_that_waits_becomes_the_service_s_when_that_listens(box: Sandbox, open_page: Open, keep: Keep) -> None:
    url = box.expose_port(4000).url
    page = open_page()
    answer = page.goto(url)
    assert answer is not None and answer.status == 502
    expect(page.get_by_role("heading")).to_have_text("Waiting for the service")
    keep(page, "waiting")
    box.write_file("/workspace/late/index.html", "<h1>Late, but here</h1>")
    box.start_process("python3 -m http.server 4000", cwd="/workspace/late").wait_for_port(4000, timeout=20)
    expect(page.get_by_role("heading")).to_have_text("Late, but here", timeout=20_000)
    box.unexpose_port(4000)
    page.reload()
    expect(page.get_by_role("heading")).to_have_text("This preview has ended")
