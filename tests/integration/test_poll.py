# SPDX-License-Identifier: ZPL-2.1
"""The user's side over HTTP: one's own calls, and nobody else's."""

from __future__ import annotations

import io
import json
import logging
from typing import ClassVar
from wsgiref.handlers import SimpleHandler
from wsgiref.validate import validator

import pytest
from webob import Request
from ZODB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from wsgi_zasync import CallManagerMiddleware, Principal, Unauthorized, get_manager
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.store.wakeup import Watch
from wsgi_zasync.testing import calls_of, deployment_of, run_calls
from wsgi_zasync.web import parameters, visitor
from wsgi_zasync.web.csrf import make_token
from wsgi_zasync.worker import Worker

TEXT = [("Content-Type", "text/plain")]

#: What makes a request one that a program means.
MEANT = {"Origin": "http://localhost", "X-Zasync": "1", "Content-Type": "application/json"}


def broken(attempt):
    raise ValueError("it is broken")


PLUGINS = {"echo": lambda attempt, value=None: value, "broken": broken}


class Site:
    """An application that puts what the query asks for, and the addresses of its calls."""

    def __init__(self, db, wrap, ask, **settings):
        self.db = db
        self.application = wrap(self._put, plugins=PLUGINS, **settings)
        self._ask = ask

    def _put(self, environ, start_response):
        request = Request(environ)
        calls = get_manager(environ)
        options = {name: float(value) for name, value in request.GET.items() if name != "plugin"}
        body = json.loads(request.body or b"null")
        call = calls.options(**options).put(request.GET.get("plugin", "echo"), *(body or []))
        start_response("200 OK", TEXT)
        return [call.id.encode()]

    def put(self, *args, plugin="echo", user="ann", query=""):
        body = json.dumps(args).encode()
        path = f"/put?plugin={plugin}{query}"
        return self._ask(self.application, path, user, POST=body).text

    def ask(self, path, user="ann", **options):
        return self._ask(self.application, path, user, **options)

    def get(self, identifier, tail="", **options):
        return self.ask(f"/_zasync/calls/{identifier}{tail}", **options)

    def run(self):
        worker = Worker(self.db, plugins=PLUGINS)
        worker.run_once()
        worker.stop()


@pytest.fixture
def db():
    """A database in memory: what is asked here does not depend on the storage."""
    database = DB(MappingStorage())
    yield database
    database.close()


@pytest.fixture
def site(db, wrap, ask):
    return Site(db, wrap, ask)


# -- one's own ----------------------------------------------------------------------------


def test_a_call_is_shown_as_json(site):
    identifier = site.put("hello")

    response = site.get(identifier)

    assert response.status_int == 200
    assert response.content_type == "application/json"
    assert response.json["id"] == identifier
    assert response.json["plugin"] == "echo"
    assert response.json["state"] == "waiting"
    assert response.json["owner"] == {"id": "ann", "source": ""}
    assert "args" not in response.json


def test_its_outcome_is_shown(site):
    identifier = site.put({"answer": 42})
    site.run()

    response = site.get(identifier)

    assert response.json["state"] == "succeeded"
    assert response.json["result"] == {"answer": 42}
    assert "Retry-After" not in response.headers


def test_a_failure_is_shown_without_its_traceback(site):
    identifier = site.put(plugin="broken")
    site.run()

    response = site.get(identifier)

    assert response.json["state"] == "failed"
    assert response.json["failure"]["type"] == "ValueError"
    assert response.json["failure"]["message"] == "it is broken"
    assert "Traceback" not in response.text


def test_links_are_paths_below_where_the_application_is_mounted(site):
    identifier = site.put()
    environ = {"SCRIPT_NAME": "/my app", "HTTP_HOST": "evil.org", "REMOTE_USER": "ann"}

    response = site.get(identifier, environ=environ)

    assert response.json["links"]["self"] == f"/my%20app/_zasync/calls/{identifier}"
    assert "evil.org" not in response.text


@pytest.mark.parametrize("script", ["//evil.org", "//evil.org/x"])
def test_links_never_lead_to_another_host(site, script):
    identifier = site.put()

    response = site.get(identifier, environ={"SCRIPT_NAME": script, "REMOTE_USER": "ann"})

    assert response.json["links"]["self"].startswith("/evil.org/")


@pytest.mark.parametrize("tail", ["", "/result"])
def test_every_answer_is_private(site, tail):
    identifier = site.put(1)
    site.run()

    headers = site.get(identifier, tail).headers

    assert headers["Cache-Control"] == "private, no-store"
    assert headers["Vary"] == "Cookie, Authorization, Accept"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "Set-Cookie" not in headers


def test_a_page_of_ours_is_framed_by_nobody(site):
    policy = site.get(site.put()).headers["Content-Security-Policy"]

    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy


# -- conditions ---------------------------------------------------------------------------


def test_what_the_client_has_is_not_sent_again(site):
    identifier = site.put()
    etag = site.get(identifier).headers["ETag"]

    response = site.get(identifier, headers={"If-None-Match": etag})

    assert response.status_int == 304
    assert response.body == b""
    assert response.headers["ETag"] == etag
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "known", ['"other", {}', '"other",{}', "W/{}", '"other",W/{},"another"', " {} ,", "*", " * "]
)
def test_a_client_may_have_several_versions(site, known):
    identifier = site.put()
    etag = site.get(identifier).headers["ETag"]

    response = site.get(identifier, headers={"If-None-Match": known.format(etag)})

    assert response.status_int == 304


@pytest.mark.parametrize("known", ["", '"other"', '"other","another"', '"', '""', '"*"', "\xff"])
def test_what_the_client_has_of_other_versions_is_no_reason_to_send_nothing(site, known):
    identifier = site.put()

    assert site.get(identifier, headers={"If-None-Match": known}).status_int == 200


def test_a_change_changes_the_etag(site):
    identifier = site.put()
    etag = site.get(identifier).headers["ETag"]
    site.run()

    response = site.get(identifier, headers={"If-None-Match": etag})

    assert response.status_int == 200
    assert response.headers["ETag"] != etag


def test_etags_of_two_users_differ_where_their_lists_are_alike(site):
    one = site.ask("/_zasync/calls", user="ann")
    other = site.ask("/_zasync/calls", user="bob")

    assert one.body == other.body
    assert one.headers["ETag"] != other.headers["ETag"]


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", "1"), ("&begin_after=30", "30"), ("&begin_after=86400", "60")],
)
def test_a_call_that_is_not_final_says_when_to_come_again(site, query, seconds):
    identifier = site.put(query=query)

    assert site.get(identifier).headers["Retry-After"] == seconds


# -- results --------------------------------------------------------------------------------


def test_a_result_is_a_download_and_never_a_page(site):
    identifier = site.put("<script>alert(1)</script>")
    site.run()

    response = site.get(identifier, "/result")

    assert response.json == {"result": "<script>alert(1)</script>"}
    assert response.content_type == "application/json"
    assert response.headers["Content-Disposition"] == 'attachment; filename="result.json"'
    assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_a_result_that_the_client_has_is_not_sent_again(site):
    identifier = site.put("x")
    site.run()
    etag = site.get(identifier, "/result").headers["ETag"]

    response = site.get(identifier, "/result", headers={"If-None-Match": etag})

    assert response.status_int == 304
    assert response.body == b""
    assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


def test_data_that_looks_like_a_reference_comes_out_escaped(site):
    identifier = site.put({"$ref": "0x01"})
    site.run()

    assert site.get(identifier, "/result").json == {"result": {"$$ref": "0x01"}}


def test_a_result_that_json_hardly_has_does_not_break_the_list(db, wrap, ask):
    odd = [10**5000, float("nan"), b"\xff", {"$bytes": 1}, {1: 2}]
    plugins = {"echo": lambda attempt: odd}
    site = Site(db, wrap, ask)
    identifier = site.put()
    worker = Worker(db, plugins=plugins)
    worker.run_once()
    worker.stop()

    number, nan, data, escaped, keys = site.get(identifier, "/result").json["result"]

    assert site.ask("/_zasync/calls").status_int == 200
    assert number == hex(10**5000)
    assert (nan, data) == ("nan", {"$bytes": "/w=="})
    assert (escaped, keys) == ({"$$bytes": 1}, {"1": 2})


@pytest.mark.parametrize(("plugin", "run"), [("echo", False), ("broken", True)])
def test_a_call_without_a_result_says_why(site, plugin, run):
    identifier = site.put(plugin=plugin)
    if run:
        site.run()

    response = site.get(identifier, "/result")

    assert response.status_int == 409
    assert response.content_type == "application/problem+json"
    assert response.json["state"] == ("failed" if run else "waiting")
    assert ("Retry-After" in response.headers) is not run


# -- the list ---------------------------------------------------------------------------------


def test_the_newest_calls_come_first(site):
    identifiers = [site.put(number) for number in range(3)]

    response = site.ask("/_zasync/calls")

    assert [call["id"] for call in response.json["calls"]] == identifiers[::-1]
    assert response.json["next"] is None


def test_a_long_list_comes_in_parts(site):
    identifiers = [site.put(number) for number in range(5)]

    shown, path = [], "/_zasync/calls?limit=2&state=waiting"
    while path is not None:
        part = site.ask(path).json
        assert len(part["calls"]) <= 2
        shown += [call["id"] for call in part["calls"]]
        path = part["next"]

    assert shown == identifiers[::-1]


def test_a_list_has_no_more_than_the_most_whatever_is_asked_for(site, monkeypatch):
    monkeypatch.setattr(parameters, "MAX_LIMIT", 2)
    identifiers = [site.put(number) for number in range(3)]

    response = site.ask("/_zasync/calls?limit=1000")

    assert [call["id"] for call in response.json["calls"]] == identifiers[:0:-1]


def test_a_list_of_large_results_comes_in_smaller_parts(site, monkeypatch):
    # Given more than a list may have, which is all written into the memory of the web process
    monkeypatch.setattr(visitor, "MOST_LISTED_BYTES", 20_000)
    identifiers = [site.put("\x01" * size) for size in (9_000, 1, 1_000, 2_000, 1_000, 4_000, 1)]
    site.run()

    # When all are asked for
    shown, path = [], "/_zasync/calls?limit=200"
    while path is not None:
        response = site.ask(path)
        shown.append([call["id"] for call in response.json["calls"]])
        assert len(response.body) < 21_000 or len(shown[-1]) == 1
        path = response.json["next"]

    # Then each part is of bounded size, unless one call alone is larger, and none is left out
    assert sum(shown, []) == identifiers[::-1]
    assert [len(part) for part in shown] == [1, 1, 2, 2, 1]


def test_a_list_of_one_state(site):
    site.put()
    site.put(plugin="broken")
    site.run()

    response = site.ask("/_zasync/calls?state=failed")

    assert [call["plugin"] for call in response.json["calls"]] == ["broken"]


@pytest.mark.parametrize(
    "query",
    ["state=done", "state=", "limit=0", "limit=-1", "limit=x", "limit=%EF%BC%91", "limit=1e3",
     "limit=9999999", "after=nothing", "after=%ff", "state=%ff"],
)  # fmt: skip
def test_a_parameter_that_is_none_is_a_bad_request_that_repeats_nothing(site, query):
    site.put()

    response = site.ask(f"/_zasync/calls?{query}")

    assert response.status_int == 400
    assert response.content_type == "application/problem+json"
    assert query.partition("=")[0] in response.json["detail"]
    assert "nothing" not in response.text


def test_more_parameters_than_are_read_are_not_passed_by(site):
    identifier = site.put()
    many = "&".join(["state=failed", *["x=y"] * 100])

    assert site.ask(f"/_zasync/calls?{many}").status_int == 400
    assert site.ask(f"/_zasync/calls?{many[:-4]}").json["calls"] == []
    form = {"method": "POST", "headers": {"Origin": "http://localhost", **FORM}}
    assert site.get(identifier, "/cancel", **form, body=many.encode()).status_int == 400


def test_somebody_elses_call_is_no_place_to_go_on_from(site):
    identifier = site.put(user="bob")

    assert site.ask(f"/_zasync/calls?after={identifier}").status_int == 400


def test_strangers_have_no_list(site):
    response = site.ask("/_zasync/calls", user=None)

    assert response.status_int == 404


def test_strangers_are_told_to_log_in_where_identity_is_configured(db, wrap, ask):
    site = Site(db, wrap, ask, identity=lambda environ: None)

    assert site.ask("/_zasync/calls").status_int == 403
    assert site.get("a-b").status_int == 404


# -- somebody else's ----------------------------------------------------------------------------


def everything(response):
    return (response.status, sorted(response.headers.items()), response.body)


ANSWERS = [
    ("GET", "", {}),
    ("HEAD", "", {}),
    ("OPTIONS", "", {}),
    ("PUT", "", {}),
    ("TRACE", "", {}),
    ("DELETE", "", {}),
    ("DELETE", "", MEANT),
    ("GET", "?wait=9", {}),
    ("GET", "?wait=x", {}),
    ("GET", "", {"If-None-Match": "*"}),
    ("GET", "", {"If-Match": '"other"'}),
    ("DELETE", "", MEANT | {"If-Match": '"other"'}),
    ("GET", "", {"Range": "bytes=0-1"}),
    ("GET", "", {"Accept": "text/html"}),
    ("GET", "/result", {}),
    ("OPTIONS", "/result", {}),
    ("POST", "/result", MEANT),
    ("POST", "/cancel", {}),
    ("POST", "/cancel", MEANT),
    ("GET", "/cancel", {}),
    ("POST", "/forget", MEANT),
    ("POST", "/retry", MEANT),
    ("POST", "/nothing", MEANT),
    ("GET", "/result/x.css", {}),
    ("GET", ";x", {}),
    ("GET", "/", {}),
]


@pytest.mark.parametrize(("method", "tail", "headers"), ANSWERS)
@pytest.mark.parametrize("final", [False, True])
def test_somebody_elses_call_is_an_unknown_one_byte_for_byte(site, method, tail, headers, final):
    foreign = site.put(user="bob")
    if final:
        site.run()
    forged = foreign[:-1] + ("a" if foreign[-1] != "a" else "b")

    answers = [
        everything(site.get(identifier, tail, method=method, headers=headers))
        for identifier in (foreign, forged, "a-aaaaaaaaaaaaaaaa", "nonsense", "%00", "%C3%A9")
    ]

    assert answers[0][0] == "404 Not Found"
    assert all(answer == answers[0] for answer in answers)
    assert site.get(foreign, user="bob").json["state"] == ("succeeded" if final else "waiting")


@pytest.mark.parametrize(("method", "tail", "headers"), ANSWERS)
def test_nobody_gets_the_same_answer(site, method, tail, headers):
    identifier = site.put()

    stranger = site.get(identifier, tail, user=None, method=method, headers=headers)
    unknown = site.get("a-aaaaaaaaaaaaaaaa", tail, method=method, headers=headers)

    assert everything(stranger) == everything(unknown)


def test_no_record_is_loaded_to_find_out_that_a_call_is_somebody_elses(site, monkeypatch):
    foreign = site.put(user="bob")
    site.put()
    loaded = []
    storage = site.db.storage
    before = storage.loadBefore
    monkeypatch.setattr(
        storage, "loadBefore", lambda oid, tid: loaded.append(oid) or before(oid, tid)
    )

    def loads(identifier):
        # A new connection has nothing in its cache, and takes the storage's methods anew.
        while site.db.pool.pop() is not None:
            pass
        loaded.clear()
        assert site.get(identifier).status_int == 404
        return list(loaded)

    forged = foreign[:-1] + ("a" if foreign[-1] != "a" else "b")
    unknown = foreign.partition("-")[0] + "-aaaaaaaaaaaaaaaa"
    assert loads(foreign) == loads(forged) == loads(unknown) != []


def test_the_same_id_of_another_source_is_another_owner(db, wrap, ask):
    who = [Principal("ann")]
    site = Site(db, wrap, ask, identity=lambda environ: who[0])
    identifier = site.put()
    who[0] = Principal("ann", source="members")

    assert site.get(identifier).status_int == 404


class Directory(DefaultPolicy):
    """A policy that knows who is gone."""

    gone: ClassVar = set()

    def principal_now(self, principal, root):
        if principal.id in self.gone:
            raise Unauthorized(f"{principal.id} is gone")
        return super().principal_now(principal, root)


@pytest.mark.parametrize("tail", ["", "/result", "?wait=1"])
def test_who_is_gone_sees_nothing_any_more(db, wrap, ask, tail, monkeypatch):
    site = Site(db, wrap, ask, policy=Directory())
    identifier = site.put()
    assert site.get(identifier).status_int == 200

    monkeypatch.setattr(Directory, "gone", {"ann"})

    unknown = site.get("a-aaaaaaaaaaaaaaaa", tail)
    assert everything(site.get(identifier, tail)) == everything(unknown)
    assert site.get(identifier, method="DELETE", headers=MEANT).status_int == 404
    assert site.ask("/_zasync/calls").status_int == 404


def test_whom_the_policy_mistakes_for_another_sees_nothing(db, wrap, ask, monkeypatch):
    site = Site(db, wrap, ask, policy=Directory())
    identifier = site.put()

    monkeypatch.setattr(Directory, "principal_now", lambda *_: Principal("bob"))

    assert site.get(identifier).status_int == 404


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/{}"), ("GET", "/{}/result"), ("DELETE", "/{}")]
)
def test_where_nobody_knows_who_the_user_is_now_it_is_to_be_asked_again(
    db, wrap, ask, method, path, monkeypatch, caplog
):
    class Away(dict):
        def __contains__(self, user):
            raise ConnectionError("ldap.example is away")

    site = Site(db, wrap, ask, policy=Directory())
    identifier = site.put()
    monkeypatch.setattr(Directory, "gone", Away())

    path = "/_zasync/calls" + path.format(identifier)
    response = site.ask(path, method=method, headers=MEANT)

    assert response.status_int == 503
    assert response.headers["Retry-After"] == "1"
    assert "ldap" not in response.text
    assert "ldap.example is away" in caplog.text
    monkeypatch.undo()
    assert site.get(identifier).json["state"] == "waiting"


# -- changing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "tail"), [("DELETE", ""), ("POST", "/cancel")])
def test_a_waiting_call_is_cancelled(site, method, tail):
    identifier = site.put()

    response = site.get(identifier, tail, method=method, headers=MEANT)

    assert response.status_int == 200
    assert response.json["state"] == "cancelled"
    assert site.get(identifier).json["state"] == "cancelled"


def test_cancelling_twice_says_the_same(site):
    identifier = site.put()
    first = site.get(identifier, method="DELETE", headers=MEANT)
    second = site.get(identifier, method="DELETE", headers=MEANT)

    assert everything(first) == everything(second)


def test_cancelling_an_ended_call_leaves_it_as_it_is(site):
    identifier = site.put(1)
    site.run()

    response = site.get(identifier, method="DELETE", headers=MEANT)

    assert response.status_int == 200
    assert response.json["state"] == "succeeded"


def test_a_final_call_is_forgotten_and_a_waiting_one_is_not(site):
    identifier = site.put()
    refused = site.get(identifier, "/forget", method="POST", headers=MEANT)
    site.run()
    done = site.get(identifier, "/forget", method="POST", headers=MEANT)
    again = site.get(identifier, "/forget", method="POST", headers=MEANT)

    assert refused.status_int == 409
    assert (done.status_int, done.body) == (204, b"")
    assert again.status_int == 404
    assert site.get(identifier).status_int == 404


def test_what_an_owner_does_is_one_line_of_the_log_with_plugin_and_owner(site, caplog):
    caplog.set_level(logging.INFO, "wsgi_zasync.manager.context")
    first, second = site.put(), site.put()
    site.get(first, "/cancel", method="POST", headers=MEANT)
    site.run()
    for identifier in (first, second):
        site.get(identifier, "/forget", method="POST", headers=MEANT)

    records = [record for record in caplog.records if record.name == "wsgi_zasync.manager.context"]

    assert [record.getMessage() for record in records] == [
        f"call {identifier} {what} plugin=echo owner=ann"
        for identifier, what in [
            (first, "put"),
            (second, "put"),
            (first, "cancelled"),
            (first, "forgotten"),
            (second, "forgotten"),
        ]
    ]
    assert {(record.plugin, tuple(record.owner)) for record in records} == {("echo", ("", "ann"))}


def test_retrying_callbacks_of_a_call_that_is_not_final_is_refused(site):
    identifier = site.put()

    assert site.get(identifier, "/retry", method="POST", headers=MEANT).status_int == 409


def test_retrying_where_nothing_failed_changes_nothing(site):
    identifier = site.put()
    site.run()

    response = site.get(identifier, "/retry", method="POST", headers=MEANT)

    assert response.status_int == 200
    assert response.json["callbacks_failed"] == 0


ONLY_IF = [
    ("If-Match", "{}", True),
    ("If-Match", '"other", {}', True),
    ("If-Match", "*", True),
    ("If-Match", '"other"', False),
    ("If-Match", "W/{}", False),
    ("If-Match", "", False),
    ("If-None-Match", '"other"', True),
    ("If-None-Match", "{}", False),
    ("If-None-Match", "W/{}", False),
    ("If-None-Match", "*", False),
]


@pytest.mark.parametrize(("name", "value", "is_met"), ONLY_IF)
@pytest.mark.parametrize(("method", "tail"), [("DELETE", ""), ("POST", "/cancel")])
def test_a_call_is_changed_only_in_the_version_that_is_asked_for(
    site, method, tail, name, value, is_met
):
    identifier = site.put()
    etag = site.get(identifier).headers["ETag"]

    headers = MEANT | {name: value.format(etag)}
    response = site.get(identifier, tail, method=method, headers=headers)

    assert response.status_int == (200 if is_met else 412)
    assert site.get(identifier).json["state"] == ("cancelled" if is_met else "waiting")


def test_a_call_that_has_changed_meanwhile_is_not_forgotten(site):
    identifier = site.put()
    etag = site.get(identifier).headers["ETag"]
    site.run()

    headers = MEANT | {"If-Match": etag}
    response = site.get(identifier, "/forget", method="POST", headers=headers)

    assert response.status_int == 412
    assert response.content_type == "application/problem+json"
    assert site.get(identifier).json["state"] == "succeeded"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_another_version_than_the_one_that_is_asked_for_is_not_shown(site, method):
    identifier = site.put()
    etag = site.get(identifier).headers["ETag"]

    def ask(tags):
        return site.get(identifier, method=method, headers={"If-Match": tags}).status_int

    assert (ask(etag), ask('"other"')) == (200, 412)


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _without(name):
    return {key: value for key, value in MEANT.items() if key != name}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        _without("Origin"),
        _without("X-Zasync"),
        MEANT | {"Content-Type": "text/plain"},
        MEANT | FORM,
        MEANT | {"Origin": "http://evil.org"},
        MEANT | {"Origin": "null"},
        MEANT | {"Origin": "https://localhost"},
        MEANT | {"Sec-Fetch-Site": "cross-site"},
        _without("Origin") | {"Sec-Fetch-Site": "same-site"},
        _without("Origin") | {"Referer": "http://localhost/"},
        {"Origin": "http://localhost", "X-Zasync-Token": "forged"},
    ],
)
@pytest.mark.parametrize(
    ("method", "tail"),
    [("DELETE", ""), ("POST", "/cancel"), ("POST", "/forget"), ("POST", "/retry")],
)
def test_a_request_that_may_come_from_elsewhere_changes_nothing(site, method, tail, headers):
    identifier = site.put()

    response = site.get(identifier, tail, method=method, headers=headers)

    assert response.status_int == 403
    assert site.get(identifier).json["state"] == "waiting"


@pytest.mark.parametrize("override", ["X-HTTP-Method-Override", "X-Method-Override"])
def test_overrides_of_the_method_are_ignored(site, override):
    identifier = site.put()

    response = site.get(identifier, headers=MEANT | {override: "DELETE"})

    assert response.status_int == 200
    assert site.get(identifier).json["state"] == "waiting"


@pytest.mark.parametrize("way", ["header", "field"])
@pytest.mark.parametrize(
    ("user", "purpose", "status"),
    [("ann", "change", 200), ("bob", "change", 403), ("ann", "other", 403)],
)
def test_a_form_carries_the_token_of_its_user(site, way, user, purpose, status):
    identifier = site.put()
    process = site.application._process
    keys, clock = process._poll._keys, process.deployment.clock
    token = make_token(keys, Principal(user), purpose, clock.now())
    headers = {"Origin": "http://localhost", **FORM}
    if way == "header":
        headers["X-Zasync-Token"] = token
    body = f"zasync_token={token}".encode() if way == "field" else b""

    response = site.get(identifier, "/cancel", method="POST", headers=headers, body=body)

    assert response.status_int == status


def test_a_form_that_is_too_long_is_not_read(site):
    identifier = site.put()
    process = site.application._process
    keys, clock = process._poll._keys, process.deployment.clock
    token = make_token(keys, Principal("ann"), "change", clock.now())
    body = b"x=" + b"y" * 70_000 + f"&zasync_token={token}".encode()

    response = site.get(
        identifier,
        "/cancel",
        method="POST",
        headers={"Origin": "http://localhost", **FORM},
        body=body,
    )

    assert response.status_int == 403


@pytest.mark.parametrize("length", ["-1", "-65536"])
def test_a_form_of_negative_length_is_not_read(site, length):
    # Given a server that passes on what the client says, and a client that sends without end
    class Endless(io.RawIOBase):
        def read(self, size=-1):
            pytest.fail(f"read({size}) takes all that comes")

    identifier = site.put()

    response = site.get(
        identifier,
        "/cancel",
        method="POST",
        headers={"Origin": "http://localhost", **FORM},
        environ={"CONTENT_LENGTH": length, "wsgi.input": Endless()},
    )

    assert response.status_int == 403


# -- other methods and addresses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "method", "allow"),
    [
        ("", "PUT", "GET, DELETE, HEAD, OPTIONS"),
        ("", "POST", "GET, DELETE, HEAD, OPTIONS"),
        ("/result", "POST", "GET, HEAD, OPTIONS"),
        ("/cancel", "GET", "POST, OPTIONS"),
        ("/forget", "DELETE", "POST, OPTIONS"),
    ],
)
def test_a_method_that_is_not_possible_says_which_are(site, tail, method, allow):
    identifier = site.put()

    refused = site.get(identifier, tail, method=method, headers=MEANT)
    options = site.get(identifier, tail, method="OPTIONS")

    assert refused.status_int == 405
    assert refused.headers["Allow"] == options.headers["Allow"] == allow
    assert options.status_int == 204


def test_nothing_puts_a_call(site):
    response = site.ask("/_zasync/calls", method="POST", headers=MEANT, body=b"{}")

    assert response.status_int == 405
    assert site.ask("/_zasync/calls").json["calls"] == []


def test_head_is_get_without_the_body(site):
    identifier = site.put()
    got, head = site.get(identifier), site.get(identifier, method="HEAD")

    assert sorted(head.headers.items()) == sorted(got.headers.items())
    assert head.body == b""


@pytest.mark.parametrize(
    "path", ["/_zasync", "/_zasync/", "/_zasync/x", "/_zasync//calls", "/_zasync/calls/",
             "/_zasync/calls//result", "/_zasync/../calls", "/_zasync/Calls"]
)  # fmt: skip
def test_other_addresses_of_ours_are_not_there(site, path):
    assert site.ask(path).status_int == 404


@pytest.mark.parametrize(
    "path",
    [
        "//_zasync/calls",
        "/_ZASYNC/calls",
        "/_zasync%252e/calls",
        "/_zasync%2e/calls",
        "/_zasyncs/calls",
        "/x/_zasync/calls",
    ],
)
def test_addresses_that_only_look_like_ours_are_the_applications(db, wrap, ask, path):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [b"the application"]

    assert ask(wrap(app), path).body == b"the application"


def test_the_prefix_can_be_configured(db, wrap, ask):
    site = Site(db, wrap, ask, prefix="/my/calls-of-mine")
    identifier = site.put()

    response = site.ask(f"/my/calls-of-mine/calls/{identifier}")

    assert response.json["links"]["self"] == f"/my/calls-of-mine/calls/{identifier}"


@pytest.mark.parametrize("user", ["ann", None])
@pytest.mark.parametrize("prefix", ["/_zasync", "/mounted"])
@pytest.mark.parametrize("run", [False, True])
def test_our_addresses_are_as_wsgiref_wants_them(db, wrap, user, prefix, run):
    # By the middleware itself, and by an application that authenticates inside
    def app(environ, start_response):
        calls = get_manager(environ)
        calls.principal = "ann"
        if environ["PATH_INFO"].startswith("/mounted"):
            tail = environ["PATH_INFO"].removeprefix("/mounted")
            environ = dict(environ, SCRIPT_NAME="/mounted", PATH_INFO=tail)
        return calls.serve(environ, start_response)

    with calls_of(db, "ann", deployment_of(PLUGINS)) as calls:
        identifier = calls.put("echo").id
    if run:
        run_calls(db, PLUGINS)
    application = validator(wrap(validator(app)))

    def ask(path, method, **more):
        path, _, query = path.partition("?")
        blank = Request.blank("/", method=method, remote_user=user).environ
        environ = {k: v for k, v in blank.items() if not k.startswith(("wsgi.", "webob."))}
        environ |= {"PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": "", **more}
        output, errors = io.BytesIO(), io.StringIO()
        SimpleHandler(io.BytesIO(), output, errors, environ, multithread=True).run(application)
        assert errors.getvalue() == ""
        return output.getvalue().partition(b"\r\n")[0].split()[1]

    meant = {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in MEANT.items()}
    meant["CONTENT_TYPE"] = meant.pop("HTTP_CONTENT_TYPE")
    tails = ["", "?limit=0", "/x", *(f"/{identifier}{t}" for t in ("", "/result", "?wait=0"))]
    statuses = {
        ask(f"{prefix}/calls{tail}", method, **more)
        for tail in tails
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE")
        for more in ({}, {"HTTP_IF_NONE_MATCH": "*"}, meant)
    }
    statuses.add(ask(f"{prefix}/calls/{identifier}/forget", "POST", **meant))

    assert statuses == {b"200", b"204", b"304", b"400", b"403", b"404", b"405", b"409"} - (
        # Cancelled by then, it has no result, and can be forgotten, in any case.
        set() if not run else {b"409"}
    )


def test_polling_leaves_no_connection_open_and_writes_nothing(site):
    identifier = site.put()
    last = site.db.lastTransaction()

    site.get(identifier)
    site.ask("/_zasync/calls")
    site.get(identifier, user="bob")

    assert [c for c in site.db.connectionDebugInfo() if c["opened"]] == []
    assert site.db.lastTransaction() == last


def test_a_database_in_which_nothing_was_put_has_no_calls(site):
    last = site.db.lastTransaction()

    assert site.ask("/_zasync/calls").json == {"calls": [], "next": None}
    assert site.get("a-aaaaaaaaaaaaaaaa").status_int == 404
    assert site.db.lastTransaction() == last


# -- what happens beside a request ----------------------------------------------------------------


def test_a_database_that_is_busy_is_to_be_asked_again(site, monkeypatch):
    identifier = site.put()

    def busy(*_):
        raise ConflictError("others are writing")

    for name, options in (("look", {}), ("change", {"method": "DELETE", "headers": MEANT})):
        with monkeypatch.context() as patched:
            patched.setattr(visitor.Visitor, name, busy)
            response = site.get(identifier, **options)
        assert response.status_int == 503
        assert response.headers["Retry-After"] == "1"
        assert response.content_type == "application/problem+json"
    assert site.get(identifier).json["state"] == "waiting"


def test_a_process_that_has_not_seen_the_database_yet_is_to_be_asked_again(ask, caplog):
    # Given a host that binds its own connection in each request, and that had none yet
    application = CallManagerMiddleware(lambda environ, start_response: [])

    for path in ("/_zasync/calls", "/_zasync/calls/a-aaaaaaaaaaaaaaaa"):
        response = ask(application, path)
        assert response.status_int == 503
        assert response.headers["Retry-After"] == "1"
        assert "configured" not in response.text
    assert "give CallManagerMiddleware a db or a zodb_uri" in caplog.text


def test_callbacks_that_were_retried_too_often_are_refused(db, wrap, ask):
    site = Site(db, wrap, ask, max_owner_retries=1)
    with calls_of(db, "ann", deployment_of(PLUGINS)) as calls:
        identifier = calls.put("echo").on_any("nowhere").id
    site.run()
    again = {"method": "POST", "headers": MEANT}

    assert site.get(identifier, "/retry", **again).status_int == 200
    site.run()
    response = site.get(identifier, "/retry", **again)

    assert response.status_int == 403
    assert "1 times" in response.json["detail"]


@pytest.mark.parametrize(
    ("query", "options"), [("?wait=20", {}), ("", {"method": "DELETE", "headers": MEANT})]
)
def test_a_call_that_is_forgotten_while_it_is_looked_at_is_not_there(
    site, monkeypatch, query, options
):
    """Nor does who waits for it wait for what has happened before."""
    identifier = site.put()
    look = visitor.Visitor.look

    def look_and_forget(self, call_id):
        seen = look(self, call_id)
        if seen is not None:
            with calls_of(site.db, "ann", deployment_of(PLUGINS)) as calls:
                calls.cancel(call_id).forget()
        return seen

    monkeypatch.setattr(visitor.Visitor, "look", look_and_forget)
    monkeypatch.setattr(Watch, "wait", lambda self, seconds: pytest.fail("it waits"))

    assert site.get(identifier, query, **options).status_int == 404
