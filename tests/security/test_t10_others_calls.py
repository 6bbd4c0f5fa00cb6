# SPDX-License-Identifier: ZPL-2.1
"""T10: whose call an id is cannot be told, neither by the answer nor by what is loaded for it."""

from __future__ import annotations

import json
import logging
from itertools import product

import pytest
from webob import Request

from wsgi_zasync import CallNotFound
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.testing import calls_of, deployment_of, run_calls

PLUGINS = {"echo": lambda attempt, value=None: value}
MEANT = {"Origin": "http://localhost", "X-Zasync": "1", "Content-Type": "application/json"}


@pytest.fixture
def deployment():
    return deployment_of(PLUGINS)


@pytest.fixture
def put(db, deployment):
    """Put a call of a user's; returns its id."""

    def put_one(user="ann"):
        with calls_of(db, user, deployment) as calls:
            return calls.put("echo", user).id

    return put_one


@pytest.fixture
def ask(db):
    application = CallManagerMiddleware(lambda *_: [], db, plugins=PLUGINS)

    def get_response(tail, method="GET", headers=(), user="ann"):
        path, _, query = f"/_zasync/calls{tail}".partition("?")
        request = Request.blank("/", method=method, headers=headers, remote_user=user)
        request.environ |= {"PATH_INFO": path, "QUERY_STRING": query}
        return request.get_response(application)

    return get_response


def forged(call_id):
    """The id with another last letter."""
    return call_id[:-1] + ("a" if call_id[-1] != "a" else "b")


# -- what is loaded ---------------------------------------------------------------------------


@pytest.fixture
def loads_of(db, monkeypatch):
    """The oids that are loaded, in order, while something is done with empty caches."""
    loaded = []
    storage = db.storage
    for name in ("load", "loadBefore", "loadSerial", "getTid"):
        if hasattr(storage, name):
            inner = getattr(storage, name)
            monkeypatch.setattr(
                storage,
                name,
                lambda oid, *more, _name=name, _inner=inner: (
                    loaded.append((_name, oid)) or _inner(oid, *more)
                ),
            )

    def measure(function):
        # A new connection has nothing in its cache, and takes the storage's methods anew.
        while db.pool.pop() is not None:
            pass
        loaded.clear()
        function()
        return list(loaded)

    return measure


@pytest.fixture
def ids(put):
    """Ids that are none of ann's: bob's, one like it, and one that never was."""
    put("ann")
    foreign = put("bob")
    unknown = foreign.partition("-")[0] + "-aaaaaaaaaaaaaaaa"
    return [foreign, forged(foreign), unknown]


WEB = [
    ("GET", "", {}),
    ("GET", "?wait=9", {}),
    ("HEAD", "", {}),
    ("OPTIONS", "", {}),
    ("DELETE", "", MEANT),
    ("POST", "/cancel", MEANT),
    ("POST", "/retry", MEANT),
    ("POST", "/forget", MEANT),
    ("GET", "/result", {}),
]


@pytest.mark.parametrize(("method", "tail", "headers"), WEB)
def test_the_same_is_loaded_for_foreign_forged_and_unknown_ids(
    ask, ids, loads_of, method, tail, headers
):
    def look(call_id):
        assert ask(f"/{call_id}{tail}", method, headers).status_int == 404

    loads = [loads_of(lambda each=each: look(each)) for each in ids]

    assert loads[0] != []
    assert loads[0] == loads[1] == loads[2]


@pytest.mark.parametrize("way", ["get", "in", "cancel", "forget", "mine after"])
def test_a_manager_loads_the_same_for_them(db, deployment, ids, loads_of, way):
    def look(call_id):
        with calls_of(db, "ann", deployment) as calls:
            if way == "in":
                assert call_id not in calls
                return
            with pytest.raises(CallNotFound):
                if way == "mine after":
                    calls.mine(after=call_id)
                else:
                    getattr(calls, way)(call_id)

    loads = [loads_of(lambda each=each: look(each)) for each in ids]

    assert loads[0] != []
    assert loads[0] == loads[1] == loads[2]


@pytest.mark.parametrize("nonsense", ["nonsense", "", "-", "!", "é", "a" * 500, "\x00"])
def test_as_much_is_loaded_for_what_is_no_id(db, deployment, ids, loads_of, nonsense):
    def look(call_id):
        with calls_of(db, "carol", deployment) as calls:
            assert call_id not in calls

    foreign = loads_of(lambda: look(ids[0]))

    assert len(loads_of(lambda: look(nonsense))) == len(foreign)


# -- what is answered ----------------------------------------------------------------------------


def test_every_request_for_a_call_of_somebody_else_has_the_one_answer(ask, ids, db, put):
    run_calls(db, PLUGINS)
    waiting = put("bob")
    methods = ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "TRACE", "PROPFIND"]
    paths = ["", "/cancel", "/result", "/forget", "/retry", "/messages", "/events", "/x/y"]
    queries = ["", "?wait=9", "?wait=x", "?limit=0"]
    headers = [
        {},
        MEANT,
        {"If-None-Match": "*"},
        {"If-Match": "*"},
        {"Range": "bytes=0-3"},
        {"Accept": "text/html"},
        {"Origin": "http://evil.org"},
    ]
    last = db.lastTransaction()

    different = {"GET": set(), "HEAD": set()}
    for method, path, query, extra in product(methods, paths, queries, headers):
        for call_id in (*ids, waiting):
            answer = ask(f"/{call_id}{path}{query}", method, extra)
            kind = "HEAD" if method == "HEAD" else "GET"
            different[kind].add((answer.status, tuple(answer.headerlist), answer.body))

    ((status, headerlist, body),) = different["GET"]
    assert status == "404 Not Found"
    assert different["HEAD"] == {(status, headerlist, b"")}
    assert json.loads(body)["status"] == 404
    assert db.lastTransaction() == last


# -- ids and keys ----------------------------------------------------------------------------------


def test_an_id_that_was_aborted_is_never_found(db, deployment, ask):
    told = []
    with calls_of(db, "ann", deployment) as calls:
        calls.put("echo")
    with pytest.raises(ZeroDivisionError), calls_of(db, "ann", deployment) as calls:
        told.append(calls.put("echo").id)
        raise ZeroDivisionError

    def looked():
        with calls_of(db, "ann", deployment) as calls:
            return told[0] in calls, ask(f"/{told[0]}").status_int

    for user in ("bob", "ann", "ann"):
        assert looked() == (False, 404)
        with calls_of(db, user, deployment) as calls:
            told.append(calls.put("echo").id)
    assert looked() == (False, 404)
    assert len(set(told)) == 4
    # Its place is used again, and only what is random tells the two apart.
    assert told[0].partition("-")[0] in [identifier.partition("-")[0] for identifier in told[1:]]


def test_nothing_shows_the_key_that_other_servers_are_told(db, deployment, ask, caplog):
    caplog.set_level(logging.DEBUG)
    keys = []

    def tell(attempt):
        keys.append(attempt.idempotency_key)
        attempt.log.info("telling")

    plugins = {**PLUGINS, "tell": tell}
    with calls_of(db, "ann", deployment_of(plugins)) as calls:
        call_id = calls.put("tell").id
    run_calls(db, plugins)

    shown = ask("").text + ask(f"/{call_id}").text + ask(f"/{call_id}/result").text
    assert call_id in shown
    assert keys[0] not in shown
    assert keys[0] not in caplog.text
    assert call_id not in keys[0]
    assert keys[0] not in call_id
