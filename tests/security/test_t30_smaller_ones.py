# SPDX-License-Identifier: ZPL-2.1
"""T30: addresses, errors and answers give nothing away, and lead nowhere else."""

from __future__ import annotations

import json

import pytest
from webob import Request

from wsgi_zasync import Principal, get_manager
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.testing import calls_of, deployment_of, run_calls

PLUGINS = {"echo": lambda attempt, value=None: value}
MEANT = {"Origin": "http://localhost", "X-Zasync": "1", "Content-Type": "application/json"}

#: What nobody but the client can have said.
CANARY = "CANARY-<script>\u00e9\u202e" + "x" * 200


@pytest.fixture
def ask(db):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/put":
            return [get_manager(environ).put("echo", 7).id.encode()]
        return [f"application {environ['SCRIPT_NAME']}{environ['PATH_INFO']}".encode("latin-1")]

    application = CallManagerMiddleware(app, db, plugins=PLUGINS)

    def get_response(path, method="GET", headers=(), user="ann", query="", **environ):
        request = Request.blank("/", method=method, headers=headers, remote_user=user)
        request.environ |= {"PATH_INFO": path, "QUERY_STRING": query, **environ}
        return request.get_response(application)

    return get_response


@pytest.fixture
def call_id(ask, db):
    identifier = ask("/put").text
    run_calls(db, PLUGINS)
    return identifier


# -- where addresses lead -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "base"),
    [("", ""), ("/app", "/app"), ("//evil.org", "/evil.org"), ("/a b", "/a%20b"), ("/", "")],
)
@pytest.mark.parametrize("host", ["evil.org", "evil.org:80@x", "localhost", "", "a\r\nb"])
def test_links_are_paths_whatever_the_host_is_said_to_be(ask, call_id, script, base, host):
    for path in (f"/_zasync/calls/{call_id}", "/_zasync/calls"):
        answer = ask(path, SCRIPT_NAME=script, HTTP_HOST=host, HTTP_X_FORWARDED_HOST="evil.org")
        shown = answer.json if "links" in answer.json else answer.json["calls"][0]

        for name, link in shown["links"].items():
            tail = "" if name == "self" else f"/{name}"
            assert link == f"{base}/_zasync/calls/{call_id}{tail}"
        assert "Location" not in answer.headers


@pytest.mark.parametrize(
    "path",
    ["//_zasync/calls", "/_zasyncs", "/_zasync.", "/_zasync%2e/calls", "/_ZASYNC/calls",
     "/x/_zasync", "/_zasync;x/calls", "/_zasync\\calls", "_zasync/calls", "/./_zasync/calls",
     "/_zasync ", "", "/\u00c3\u00bf_zasync"],
)  # fmt: skip
def test_only_whole_segments_are_ours(ask, path):
    assert ask(path).body == f"application {path}".encode("latin-1")


@pytest.mark.parametrize("script", ["/_zasync", "/x/_zasync"])
def test_where_the_application_is_mounted_is_not_our_prefix(ask, script):
    assert ask("/calls", SCRIPT_NAME=script).text == f"application {script}/calls"


@pytest.mark.parametrize("path", ["/_zasync", "/_zasync/", "/_zasync//calls", "/_zasync/../calls"])
def test_what_is_below_the_prefix_never_reaches_the_application(ask, path):
    assert ask(path).status_int == 404


# -- errors repeat nothing ------------------------------------------------------------------------


def _everything_said(call_id):
    """Requests with something of the client's own at each place where there can be."""
    said = CANARY.encode().decode("latin-1")
    calls = "/_zasync/calls"
    yield (f"/_zasync/{said}",), {}
    yield (f"{calls}/{said}",), {}
    yield (f"{calls}/{call_id}/{said}",), {}
    yield (f"{calls}/{call_id}", said.encode("ascii", "ignore").decode()[:20].upper()), {}
    for name in ("wait", "state", "limit", "after", said):
        yield (calls,), {"query": f"{name}={said}"}
        yield (f"{calls}/{call_id}",), {"query": f"{name}={said}"}
    for name in ("If-None-Match", "Range", "Accept", "Origin", "Host", "X-Zasync-Token", "Cookie"):
        yield (f"{calls}/{call_id}",), {"headers": {name: said}}
        yield (f"{calls}/{call_id}", "DELETE"), {"headers": {**MEANT, name: said}}
        yield (f"{calls}/{call_id}/cancel", "POST"), {"headers": {name: said}}
    yield (f"{calls}/{call_id}", "DELETE"), {"headers": {"Content-Type": said}}


def test_no_answer_repeats_what_the_client_has_said(ask, call_id):
    answers = [ask(*args, **more) for args, more in _everything_said(call_id)]

    assert {answer.status_int for answer in answers} >= {200, 400, 403, 404, 405}
    for answer in answers:
        everything = str(answer.headerlist) + answer.text
        assert answer.status_int < 500
        assert "CANARY" not in everything
        assert "script>" not in everything


# -- every answer ---------------------------------------------------------------------------------


def test_every_answer_is_an_object_that_nobody_caches_frames_or_sniffs(ask, call_id):
    calls = "/_zasync/calls"
    answers = [
        ask(calls),
        ask(f"{calls}/{call_id}"),
        ask(f"{calls}/{call_id}/result"),
        ask(calls, query="limit=0"),
        ask(f"{calls}/{call_id}", "DELETE", MEANT),
        ask(f"{calls}/{call_id}", "DELETE"),
        ask(f"{calls}/{call_id}", "PUT"),
        ask(f"{calls}/nothing"),
        ask("/_zasync"),
        ask(calls, user=None),
    ]

    for answer in answers:
        assert type(json.loads(answer.body)) is dict
        assert answer.content_type in ("application/json", "application/problem+json")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert answer.headers["Vary"] == "Cookie, Authorization, Accept"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.body.isascii()


def test_answers_without_a_body_have_the_same_headers(ask, call_id):
    path = f"/_zasync/calls/{call_id}"
    etag = ask(path).headers["ETag"]

    for answer in (
        ask(path, headers={"If-None-Match": etag}),
        ask(path, "OPTIONS"),
        ask(path, "HEAD"),
        ask(f"{path}/forget", "POST", MEANT),
    ):
        assert answer.body == b""
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("tail", ["", "/result", "/cancel"])
def test_head_and_options_obey_the_same_ownership(ask, call_id, method, tail):
    others = ask(f"/_zasync/calls/{call_id}{tail}", method, user="bob")
    unknown = ask(f"/_zasync/calls/{call_id[:-4]}aaaa{tail}", method, user="bob")

    assert (others.status, others.headerlist, others.body) == (
        unknown.status,
        unknown.headerlist,
        unknown.body,
    )
    assert others.status_int == 404


def test_one_body_has_another_etag_for_each_owner(ask):
    lists = [ask("/_zasync/calls", user=user) for user in ("ann", "bob", "carol")]

    assert len({answer.body for answer in lists}) == 1
    assert len({answer.headers["ETag"] for answer in lists}) == 3


# -- expressions that look built from data -------------------------------------------------------


@pytest.mark.parametrize(("count", "warnings"), [(50, 0), (51, 1), (120, 1)])
def test_a_line_of_code_that_declares_many_different_texts_is_warned_of_once(
    db, caplog, count, warnings
):
    deployment = deployment_of(PLUGINS)
    for number in range(count):
        with calls_of(db, "ann", deployment) as calls:
            calls.put("echo").on_success(f"string:{number}")

    found = [record for record in caplog.records if "different expressions" in record.message]
    assert len(found) == warnings
    for record in found:
        assert __file__ in record.message
        assert "bind" in record.message
        # What they say is users' data, and in no log.
        assert "string:" not in record.message


def test_one_text_with_bound_names_and_texts_with_an_author_are_not(db, caplog):
    deployment = deployment_of(PLUGINS)
    for number in range(120):
        with calls_of(db, "ann", deployment) as calls:
            calls.put("echo").on_success("string:${number}", number=number)
            asking = calls.options(author=Principal("mallory"))
            asking.put("echo").on_success(f"string:{number}")

    assert "different expressions" not in caplog.text
