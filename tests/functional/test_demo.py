# SPDX-License-Identifier: ZPL-2.1
"""The demo in one process: what ann asks for arrives on her shelf, and on nobody else's."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from webob import Request

sys.path.insert(0, str(Path(__file__).parent))

from demo_site import ROOT, DemoProcess, Visitor

from demo_app.application import Application
from demo_app.plugins import fetch, report
from demo_app.session import Session, SessionFilter, Signer, identify
from demo_app.shelf import shelf_of
from demo_app.titles import title_of
from wsgi_zasync import CallManagerMiddleware, Unauthorized
from wsgi_zasync.testing import calls_of, deployment_of, memory_db, run_calls


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    with DemoProcess(tmp_path_factory.mktemp("demo")) as running:
        yield running


@pytest.fixture
def ann(demo):
    """Ann, with nothing left of what other tests asked for as her."""
    return demo.visitor("ann").clear()


@pytest.fixture
def bob(demo):
    """Bob, likewise."""
    return demo.visitor("bob").clear()


def add(visitor, url):
    """Ask for a link; returns the address of its call."""
    return visitor.ask("/links", url=url)


def test_a_sample_page_arrives_on_the_shelf_of_who_asked_for_it(demo, ann, bob):
    call = ann.ended(add(ann, demo.sample("heron") + "?for=ann"))

    assert call["state"] == "succeeded"
    assert call["result"]["title"] == "The grey heron"
    assert [(c["on"], c["state"]) for c in call["callbacks"]] == [
        ("success", "done"),
        ("failure", "pending"),
    ]
    page = ann.get("/").text
    assert "The grey heron" in page
    assert 'data-status="200">200<' in page
    assert "?for=ann" in page
    assert "?for=ann" not in bob.get("/").text


def test_the_request_does_not_wait_for_the_page_that_it_asked_for(demo, ann):
    link = add(ann, demo.sample("slow"))

    # It takes three seconds, and is under way when the form has been answered.
    assert ann.get(link).json["state"] in ("waiting", "running")
    assert ann.ended(link)["result"]["title"] == "The snail, at its own pace"


def test_the_request_itself_reads_nothing_of_the_address():
    # Given the application without any worker, and an address where somebody listens
    db, signer = memory_db(), Signer(b"a key for this test, long enough")
    with db.transaction() as connection:
        shelf_of(connection.root(), "ann")
    plugins = {"shelf.fetch": fetch, "shelf.report": report}
    middleware = CallManagerMiddleware(Application(), db, plugins=plugins, identity=identify)
    session = Session("1", "ann")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        form = Request.blank("/links", POST={"url": url, "token": signer.token(session)})
        form.cookies["shelf_session_80"] = signer.cookie(session)

        # When ann asks for it
        answer = form.get_response(SessionFilter(middleware, signer))

        # Then there is a call, and nobody has come
        assert answer.status_code == 303
        with calls_of(db, "ann", deployment_of(plugins)) as calls:
            assert [(call.args, call.state) for call in calls.mine()] == [((url,), "waiting")]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    middleware.stop()
    db.close()


def test_another_user_gets_the_answer_for_what_is_not_there(demo, ann, bob):
    link = add(ann, demo.sample("tides"))
    ann.ended(link)

    others, unknown = bob.get(link), bob.get(link[:-4] + "aaaa")

    assert (others.status, others.body) == (unknown.status, unknown.body)
    assert others.status == 404
    bobs = {name: value for name, value in others.headers.items() if name != "Date"}
    assert bobs == {name: value for name, value in unknown.headers.items() if name != "Date"}
    identifier = link.rpartition("/")[2]
    assert bob.send_form(f"/calls/{identifier}/cancel").status == 404
    assert Visitor(demo.port).get(link).status == 404


def test_a_title_that_looks_like_markup_is_text(demo, ann):
    ann.ended(add(ann, demo.sample("markup")))

    page = ann.get("/").text
    assert "&lt;script&gt;alert(" in page
    assert "<script>alert" not in page


@pytest.mark.parametrize("title", ["\u200b", " \u2060 \n"])
def test_a_title_that_cannot_be_seen_is_none(title):
    # The link is named by its address then, and can be found.
    assert title_of(f"<title>{title}</title>") == ""
    assert title_of(f"<title>{title}x</title>").endswith("x")


def test_what_cannot_be_read_is_on_the_shelf_with_its_reason(demo, bob):
    # Everything of this machine is closed, but for the demo's own port.
    call = bob.ended(add(bob, "http://127.0.0.1:22/"))

    assert call["state"] == "failed"
    assert [c["state"] for c in call["callbacks"]] == ["pending", "done"]
    assert call["failure"]["message"][:40] in bob.get("/").text


def test_a_page_that_is_not_there_is_a_result_with_its_status(demo, bob):
    call = bob.ended(add(bob, demo.sample("missing")))

    assert call["result"]["status"] == 404
    assert 'data-status="404"' in bob.get("/").text


def test_a_call_can_write_on_its_owners_shelf_and_on_no_other():
    # Given the shelves of both
    db = memory_db()
    page = {"title": "The grey heron", "status": 200, "size": 300}
    plugins = {"shelf.fetch": lambda attempt, url: page, "shelf.report": report}
    deployment = deployment_of(plugins)
    with calls_of(db, "bob", deployment) as calls:
        for user in ("ann", "bob"):
            shelf_of(calls.root, user)

    # When a call of ann's is given bob's as well
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("shelf.fetch", "http://site.example/")
        for user in ("bob", "ann"):
            call.on_success(
                "python: shelf.add('http://site.example/', result, now)",
                shelf=shelf_of(calls.root, user),
            )
        with pytest.raises(Unauthorized):
            calls.put("shelf.report", shelf_of(calls.root, "bob"))
    run_calls(db, plugins)

    # Then it has written on her own
    with calls_of(db, "ann", deployment) as calls:
        (call,) = calls.mine()
        assert call.state == "succeeded"
        assert [callback.state for callback in call.callbacks] == ["failed", "done"]
        assert call.callbacks[0].error.startswith("Unauthorized")
        assert [link.title for link in shelf_of(calls.root, "ann").newest()] == ["The grey heron"]
        assert shelf_of(calls.root, "bob").newest() == []
    db.close()


def test_a_redirect_is_followed(demo, bob):
    call = bob.ended(add(bob, demo.sample("moved")))

    assert call["result"]["url"] == demo.sample("heron")


def test_the_same_address_twice_is_one_call(demo, bob):
    link = add(bob, demo.sample("slow"))

    again = bob.send_form("/links", url=demo.sample("slow"))

    assert again.headers["Location"].endswith("?said=twice")
    assert bob.open_calls() == [link]
    assert bob.send_form(f"/calls/{link.rpartition('/')[2]}/cancel").status == 303
    assert bob.ended(link)["state"] == "cancelled"


def test_a_report_shows_progress_and_is_written_with_its_outcome(demo, ann):
    ann.ended(add(ann, demo.sample("heron")))

    link = ann.ask("/reports")
    seen = []
    while not seen or not seen[-1]["finished"]:
        seen.append(ann.get(f"{link}?wait=2").json)

    assert seen[-1]["state"] == "succeeded"
    assert any(call["progress"]["message"].endswith("links") for call in seen[:-1])
    assert any(call["state"] == "running" for call in seen[:-1])
    page = ann.get("/").text
    assert "<dt>Words in titles</dt>" in page
    assert "heron (" in page


def test_a_cancelled_report_leaves_nothing(demo, bob):
    reports = bob.get("/").text.count('class="report"')
    link = bob.ask("/reports")
    bob.running(link)

    answer = bob.send_form(f"/calls/{link.rpartition('/')[2]}/cancel")

    assert answer.status == 303
    assert bob.ended(link)["state"] == "cancelled"
    assert bob.get("/").text.count('class="report"') == reports


def test_forms_of_other_sites_change_nothing(demo, ann):
    before = ann.open_calls()

    without = ann.post("/links", url=demo.sample("heron"))
    others = ann.post("/links", url=demo.sample("heron"), token="0" * 64)

    assert (without.status, others.status) == (403, 403)
    assert ann.open_calls() == before


def test_a_cookie_that_was_changed_is_nobodys(ann):
    (name,) = ann.cookies
    ann.cookies[name] = ann.cookies[name].replace(".ann.", ".bob.")

    assert "Who are you?" in ann.get("/").text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "file:///etc/passwd", "", "http://", "x"])
def test_what_is_no_address_is_refused(demo, url, bob):
    answer = bob.send_form("/links", url=url)

    assert answer.status == 422
    assert "That is no address" in answer.text
    # To be corrected, and not to be typed again.
    assert f'id="url" name="url" value="{url}"' in answer.text


def test_the_address_of_a_form_leads_to_the_shelf(demo, bob):
    # Where the browser is when the form was not taken: its user reloads, or sends the address.
    for path in ("/links", "/reports", "/login", "/logout"):
        answer = bob.get(path)
        assert (answer.status, answer.headers["Location"]) == (
            303,
            f"http://127.0.0.1:{demo.port}/",
        )


def test_a_browser_may_be_at_two_demos_at_a_time(demo, bob):
    # Cookies are kept by host, and both are 127.0.0.1.
    (name,) = bob.cookies

    assert name.endswith(f"_{demo.port}")


@pytest.fixture(scope="module")
def pages(demo):
    """All kinds of pages, with everything on them that there can be."""
    ann = demo.visitor("ann").clear()
    ann.ended(add(ann, demo.sample("heron")))
    ann.ended(add(ann, "http://127.0.0.1:1/"))
    ann.send_form("/reports")
    full = ann.get("/").text
    for link in ann.open_calls():
        ann.send_form(f"/calls/{link.rpartition('/')[2]}/cancel")
        ann.ended(link)
    return [Visitor(demo.port).get("/").text, ann.get("/nowhere").text, full, ann.get("/").text]


def test_pages_are_well_formed_and_can_be_used_by_ear_and_keyboard(pages):
    for page in pages:
        tree = ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>"))
        every = list(tree.iter())
        ids = Counter(e.get("id") for e in every if e.get("id"))
        assert not [name for name, count in ids.items() if count > 1]
        assert tree.get("lang") == "en"
        labels = {e.get("for") for e in every if e.tag == "label"}
        for element in every:
            if element.tag == "input" and element.get("type") != "hidden":
                assert element.get("id") in labels
            if element.tag in ("button", "a", "h2", "h3"):
                assert "".join(element.itertext()).strip()
            if element.tag == "progress":
                assert element.get("aria-label")
            if element.get("aria-labelledby"):
                assert element.get("aria-labelledby") in ids
        levels = [int(e.tag[1]) for e in every if re.fullmatch("h[1-6]", e.tag)]
        assert levels[0] == 1
        assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_pages_load_nothing_from_elsewhere(demo, pages):
    answer = Visitor(demo.port).get("/")

    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for page in pages:
        assert not re.findall(r'(?:src|action)="(?:https?:)?//', page)
        assert not re.findall(r'<link[^>]*href="(?:https?:)?//', page)
        assert not re.findall(r"\son\w+=|<style|style=", page)
    assert Visitor(demo.port).get("/static/../session.py").status in (403, 404)


@pytest.mark.parametrize("path", ["/nowhere", "/static/nothing.css", "/static/%2e%2e/session.py"])
def test_what_is_not_there_is_a_page_of_ours_without_a_path_of_the_disk(demo, path):
    answer = Visitor(demo.port).get(path)

    assert answer.status == 404
    assert "There is no such page." in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert str(ROOT) not in answer.text
    assert 'href="/static/shelf.css"' in answer.text


def test_the_samples_are_at_hand_while_there_is_nothing_else(demo):
    bob = demo.visitor("bob")
    for link in re.findall('name="url" value="([^"]+)" />', bob.get("/").text):
        bob.send_form("/links/remove", url=link)
    assert 'open="open"' in bob.get("/").text

    bob.ended(add(bob, demo.sample("heron")))
    with_a_sample = bob.get("/").text
    bob.ended(add(bob, "http://127.0.0.1:22/"))

    assert 'open="open"' in with_a_sample
    assert 'open="open"' not in bob.get("/").text


def test_without_its_script_the_page_says_how_to_see_more(demo):
    ann = demo.visitor("ann")
    link = add(ann, demo.sample("slow") + "?noscript")

    assert "<noscript>" in ann.get("/").text
    ann.ended(link)


class TestProcess:
    """How it begins and ends."""

    def test_sigterm_and_ctrl_c_end_it_cleanly(self, tmp_path):
        for number in (signal.SIGTERM, signal.SIGINT):
            with DemoProcess(tmp_path) as running:
                running.visitor("ann")

                assert running.stop(number) == 0

                assert "Ctrl-C again ends it at once." in "".join(running.output)
                assert "The demo has ended." in "".join(running.output)
                assert "Traceback" not in "".join(running.output)

    @pytest.mark.parametrize("options", [(), ("--processes",)], ids=["one", "three"])
    def test_a_second_signal_ends_all_of_it_at_once(self, tmp_path, options):
        with DemoProcess(tmp_path, *options) as running:
            ann = running.visitor("ann")
            ann.send_form("/reports")
            (link,) = ann.open_calls()
            while ann.get(f"{link}?wait=1").json["state"] != "running":
                pass
            running.process.send_signal(signal.SIGTERM)
            while "Ending" not in "".join(running.output):
                pass

            assert running.stop(signal.SIGTERM) == -signal.SIGTERM

        # Its output has ended, so that no other process has it any more.
        assert "succeeded plugin=shelf.report" not in "".join(running.output)
        assert "The demo has ended." not in "".join(running.output)

    def test_a_port_in_use_is_told_with_its_number(self, demo, tmp_path):
        found = run("demo", "--port", str(demo.port), "--data", str(tmp_path))

        assert found.returncode == 2
        assert f"port {demo.port} of 127.0.0.1 is in use" in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1

    @pytest.mark.parametrize("options", [(), ("--processes",)], ids=["one", "three"])
    def test_data_in_use_is_told(self, demo, options):
        found = run("demo", "--port", "0", "--data", str(demo.data), *options)

        assert found.returncode == 2
        assert "is open in another process" in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1

    @pytest.mark.slow
    def test_a_call_that_ran_when_the_process_was_killed_runs_again(self, tmp_path):
        with DemoProcess(tmp_path) as running:
            ann = running.visitor("ann")
            link = ann.ask("/reports")
            ann.running(link)
            running.process.kill()
            running.process.wait()

        with DemoProcess(tmp_path) as running:
            ann = running.visitor("ann")
            assert ann.ended(link)["state"] == "succeeded"
            assert ann.get("/").text.count('class="report"') == 1


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "wsgi_zasync", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
