# SPDX-License-Identifier: ZPL-2.1
"""The demo in a real browser: what arrives appears by itself."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from browser import Browser, find_chromium
from demo_site import DemoProcess

pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason="there is no chromium on this machine (apt install chromium)"
)


@pytest.fixture
def demo(tmp_path):
    """One of its own for each test: what is on a shelf is that test's."""
    with DemoProcess(tmp_path / "demo") as running:
        yield running


@pytest.fixture
def browser(demo, tmp_path):
    # Each test finds nothing under way and the shelves empty, whichever was before.
    demo.clear()
    opened = Browser(find_chromium(), tmp_path / "profile")
    try:
        yield opened
        assert opened.complaints == []
    finally:
        opened.close()


def log_in(browser, demo, user):
    browser.open(f"http://127.0.0.1:{demo.port}/")
    browser.click(f'button[value="{user}"]')


def add(browser, url):
    browser.evaluate(f"document.getElementById('url').value = {json.dumps(url)}")
    browser.click("form.add button")
    browser.evaluate("window.sameDocument = true")


def shelf_has(text):
    return f"document.getElementById('shelf').textContent.includes({json.dumps(text)})"


def test_a_link_appears_on_the_shelf_without_a_reload(browser, demo):
    log_in(browser, demo, "ann")

    add(browser, demo.sample("slow"))

    assert not browser.evaluate(shelf_has("The snail"))
    browser.wait_for(shelf_has("The snail, at its own pace"))
    assert browser.evaluate("window.sameDocument")
    assert browser.evaluate("document.querySelectorAll('[data-call]').length") == 0


def test_several_at_a_time_arrive_and_hostile_titles_stay_text(browser, demo):
    log_in(browser, demo, "bob")

    for name in ("slow", "markup", "tides", "missing"):
        add(browser, demo.sample(name))

    for text in ("<script>alert(", "Gezeiten", "There is no such page", "The snail"):
        browser.wait_for(shelf_has(text))
    assert browser.evaluate("window.sameDocument")


def test_what_is_under_way_arrives_on_a_page_that_refused_an_address_too(browser, demo):
    log_in(browser, demo, "ann")
    add(browser, demo.sample("slow"))

    browser.evaluate("document.querySelector('form.add').noValidate = true")
    add(browser, "heron")
    assert browser.evaluate("document.querySelector('[role=alert]').textContent")
    assert browser.evaluate("document.getElementById('url').value") == "heron"
    browser.wait_for(shelf_has("The snail, at its own pace"))

    assert browser.evaluate("window.sameDocument")
    # The browser says in its log that it was refused, and nothing else.
    (refused,) = browser.complaints
    assert "422" in refused
    browser.complaints.clear()


def test_the_progress_of_a_report_moves_and_its_end_appears(browser, demo):
    log_in(browser, demo, "ann")
    for name in ("heron", "tides", "markup"):
        add(browser, demo.sample(name))
    for text in ("The grey heron", "Gezeiten", "<script>alert("):
        browser.wait_for(shelf_has(text))
    reports = browser.evaluate("document.querySelectorAll('#reports .report').length")

    browser.click("#reports form button")
    browser.wait_for("document.querySelector('#calls progress[value]')?.value > 0")
    if "SCREENSHOTS" in os.environ:
        browser.screenshot(Path(os.environ["SCREENSHOTS"]) / "shelf.png", height=1500)
        browser.screenshot(Path(os.environ["SCREENSHOTS"]) / "narrow.png", width=380, height=1800)
    browser.wait_for(f"document.querySelectorAll('#reports .report').length > {reports}")

    assert browser.evaluate("document.querySelector('.report dd').textContent") == "3"


def test_who_uses_the_keyboard_stays_in_place_when_something_arrives(browser, demo):
    log_in(browser, demo, "ann")
    # Two with the same title: not the other one's button.
    for query in ("?1", "?2"):
        add(browser, demo.sample("heron") + query)
        browser.wait_for(shelf_has(f"heron{query}"))
    add(browser, demo.sample("slow"))

    browser.evaluate("document.querySelector('#shelf li:last-child form button').focus()")
    focused = "document.activeElement.form.elements.url.value"
    before = browser.evaluate(focused)
    browser.wait_for(shelf_has("The snail, at its own pace"))

    assert before.endswith("heron?1")
    assert browser.evaluate(focused) == before


def test_cancel_takes_a_call_off_the_page(browser, demo):
    log_in(browser, demo, "bob")
    browser.click("#reports form button")
    browser.wait_for("document.querySelector('[data-call]')?.dataset.state === 'running'")

    browser.click("#calls form button")

    browser.wait_for("!document.querySelector('[data-call]')")
    states = "[...document.querySelectorAll('#ended .state')].map((e) => e.textContent)"
    assert "cancelled" in browser.evaluate(states)
