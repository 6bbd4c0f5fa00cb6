# SPDX-License-Identifier: ZPL-2.1
"""repoze.tm2 owns the transaction, in the thread's manager: inside of us, and around us."""

from __future__ import annotations

import pytest
import transaction
from repoze.tm import TM, default_commit_veto
from webob import Request
from ZODB.POSException import ConflictError

from wsgi_zasync import ConfigurationError, get_manager

pytestmark = pytest.mark.timeout(60)

TEXT = [("Content-Type", "text/plain")]


@pytest.fixture(params=["inside", "around"])
def pipeline(request, wrap):
    """The application with repoze.tm2 behind or before the middleware."""

    def build(app, **settings):
        veto = settings.pop("commit_veto", None)
        if request.param == "inside":
            return wrap(TM(app, veto), **settings)
        return TM(wrap(app, **settings), veto)

    return build


@pytest.fixture(autouse=True)
def clean_thread():
    """Leave the thread's manager as it was."""
    yield
    transaction.abort()


def run(application, path="/"):
    environ = Request.blank(path).environ
    environ["REMOTE_USER"] = "ann"
    return b"".join(application(environ, lambda status, headers, exc_info=None: None))


def put(environ):
    return get_manager(environ).put("echo")


def opened(db):
    return [c for c in db.connectionDebugInfo() if c["opened"]]


def test_the_call_commits_with_repozes_transaction(pipeline, db, stored_ids, root_of):
    def app(environ, start_response):
        calls = get_manager(environ)
        calls.root["note"] = "written"
        start_response("200 OK", TEXT)
        return [calls.put("echo").id.encode()]

    told = run(pipeline(app))

    assert stored_ids(db) == [told.decode()]
    assert root_of(db, lambda root: root["note"]) == "written"
    assert opened(db) == []


def test_the_applications_own_connection_is_used(pipeline, db, stored_ids, root_of):
    def app(environ, start_response):
        connection = db.open()
        environ["repoze.tm.after"] = connection
        assert get_manager(environ).connection is connection
        connection.root()["note"] = "written"
        put(environ)
        from repoze.tm import after_end

        after_end.register(connection.close, transaction.get())
        start_response("200 OK", TEXT)
        return [b"fine"]

    run(pipeline(app))

    assert len(stored_ids(db)) == 1
    assert root_of(db, lambda root: root["note"]) == "written"
    assert opened(db) == []


def test_an_exception_aborts(pipeline, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(pipeline(app))

    assert stored_ids(db) == []
    assert opened(db) == []


def test_a_doomed_transaction_aborts(pipeline, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        transaction.doom()
        start_response("200 OK", TEXT)
        return [b"fine"]

    assert run(pipeline(app)) == b"fine"

    assert stored_ids(db) == []
    assert opened(db) == []


@pytest.mark.parametrize("veto", [None, default_commit_veto])
def test_the_veto_is_repozes(pipeline, db, stored_ids, veto):
    def app(environ, start_response):
        put(environ)
        start_response("404 Not Found", TEXT)
        return [b"sorry"]

    run(pipeline(app, commit_veto=veto))

    assert len(stored_ids(db)) == (1 if veto is None else 0)


def test_a_stream_that_fails_midway_has_no_call(pipeline, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        yield b"first"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(pipeline(app))

    assert stored_ids(db) == []
    assert opened(db) == []


def test_a_put_in_the_middle_of_a_stream_commits_with_it(pipeline, db, stored_ids):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"first"
        put(environ)
        yield b"second"

    run(pipeline(app))

    assert len(stored_ids(db)) == 1
    assert opened(db) == []


def test_a_failed_commit_raises_and_has_no_call(pipeline, db, stored_ids):
    def app(environ, start_response):
        calls = get_manager(environ)
        calls.put("echo")
        calls.root["bad"] = lambda: None
        start_response("200 OK", TEXT)
        return [b"fine"]

    with pytest.raises(Exception, match="pickle|lambda"):
        run(pipeline(app))
    transaction.abort()

    assert stored_ids(db) == []
    assert opened(db) == []


def test_a_conflict_that_somebody_retries_leaves_one_call(pipeline, db, stored_ids):
    told = []

    def app(environ, start_response):
        told.append(put(environ).id)
        if len(told) < 3:
            raise ConflictError
        start_response("200 OK", TEXT)
        return [b"fine"]

    application = pipeline(app)
    for _ in range(2):
        with pytest.raises(ConflictError):
            run(application)
    run(application)

    assert stored_ids(db) == [told[-1]]


def test_a_conflict_of_the_commit_that_somebody_retries_leaves_one_call(pipeline, db, stored_ids):
    told = []

    def app(environ, start_response):
        calls = get_manager(environ)
        told.append(calls.put("echo").id)
        calls.root["count"] = len(told)
        if len(told) < 3:
            with db.transaction() as other:
                other.root()["count"] = 10
        start_response("200 OK", TEXT)
        return [b"fine"]

    application = pipeline(app)
    for _ in range(2):
        with pytest.raises(ConflictError):
            run(application)
        # Who sends a request again begins anew; repoze.tm2 leaves what failed as it is.
        transaction.abort()
        assert stored_ids(db) == []
    run(application)

    assert stored_ids(db) == [told[-1]]
    assert opened(db) == []


def test_a_second_connection_to_the_storage_fails_and_never_hangs(pipeline, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        db.open().root()["second"] = True
        start_response("200 OK", TEXT)
        return [b"fine"]

    with pytest.raises(ConfigurationError, match="two connections"):
        run(pipeline(app))
    transaction.abort()

    assert stored_ids(db) == []


def test_a_manager_that_is_none_is_refused(wrap):
    def app(environ, start_response):
        environ["tm.active"] = True
        environ["tm.manager"] = "a header could say this"
        with pytest.raises(ConfigurationError, match="no transaction manager"):
            put(environ)
        start_response("200 OK", TEXT)
        return []

    run(wrap(app))
