# SPDX-License-Identifier: ZPL-2.1
"""Zope owns the thread's transaction, says so nowhere, and gives its views a copy of the environ.

What stands for Zope here does what ZPublisher.WSGIPublisher of Zope 6.3 does, in its order.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import transaction
from ZODB.POSException import ConflictError

from wsgi_zasync import TransactionOver, get_manager
from wsgi_zasync.manager import ENVIRON_KEY
from wsgi_zasync.testing import memory_db

pytestmark = pytest.mark.timeout(60)


class BaseRequest(dict):
    """``ZPublisher.BaseRequest.BaseRequest``."""

    def __init__(self, environ):
        super().__init__()
        self.environ = dict(environ)


class Zope:
    """A WSGI application that publishes one view."""

    def __init__(self, db, view, attempts=3):
        self.db = db
        self.view = view
        self.attempts = attempts
        #: The request that the thread publishes.
        self.request = None

    def __call__(self, environ, start_response):
        for left in reversed(range(self.attempts)):
            self.request = BaseRequest(environ)
            connection = self.db.open()
            try:
                transaction.begin()
                self.request["PARENTS"] = [SimpleNamespace(_p_jar=connection)]
                text = self.view(self.request)
                transaction.abort() if transaction.isDoomed() else transaction.commit()
                break
            except ConflictError:
                if not left:
                    raise
            finally:
                transaction.abort()
                connection.close()
                self.request = None
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [text.encode()]


@pytest.fixture
def publish(monkeypatch, wrap, ask, db):
    """Publish a view, behind the middleware."""

    def publish(view, database=None):
        zope = Zope(db, view)
        publisher, thread = ModuleType("ZPublisher.BaseRequest"), ModuleType("zope.globalrequest")
        publisher.BaseRequest = BaseRequest
        thread.getRequest = lambda: zope.request
        for module in (publisher, thread):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return ask(wrap(zope, database=database))

    yield publish
    transaction.abort()


def put(request):
    return get_manager(request.environ).put("echo")


@pytest.fixture(params=["in Zope's database", "in another"])
def calls_db(request, db):
    """The database of the calls, and what the middleware is given of it."""
    if request.param == "in Zope's database":
        yield db, None
        return
    other = memory_db()
    yield other, other
    other.close()


def test_the_call_commits_with_zopes_transaction(publish, calls_db, db, stored_ids, root_of):
    def view(request):
        calls = get_manager(request.environ)
        assert calls.connection is request["PARENTS"][-1]._p_jar
        calls.root["note"] = "written"
        return calls.put("echo").id

    response = publish(view, calls_db[1])

    assert stored_ids(calls_db[0]) == [response.text]
    assert root_of(db, lambda root: root["note"]) == "written"
    assert [c for c in calls_db[0].connectionDebugInfo() if c["opened"]] == []


def test_a_doomed_transaction_has_no_call(publish, calls_db, stored_ids):
    def view(request):
        put(request)
        transaction.doom()
        return "fine"

    assert publish(view, calls_db[1]).status_int == 200
    assert stored_ids(calls_db[0]) == []


def test_a_conflict_that_zope_retries_leaves_one_call(publish, calls_db, stored_ids):
    seen, told = [], []

    def view(request):
        calls = get_manager(request.environ)
        seen.append(calls.principal.id)
        if len(seen) == 1:
            calls.principal = "bob"
        told.append(calls.put("echo").id)
        if len(seen) < 3:
            raise ConflictError
        return "fine"

    publish(view, calls_db[1])

    assert seen == ["ann", "ann", "ann"]
    assert stored_ids(calls_db[0]) == [told[-1]]
    assert stored_ids(calls_db[0], "bob") == []


def test_a_put_after_zopes_commit_is_refused(publish, db, stored_ids):
    kept = []

    def view(request):
        kept.append(get_manager(request.environ))
        return put(request).id

    publish(view)

    with pytest.raises(TransactionOver):
        kept[0].put("echo")
    assert len(stored_ids(db)) == 1


def test_the_request_of_another_manager_is_not_joined(publish, db, stored_ids):
    others = memory_db()

    def view(request):
        # A request that the application makes of itself, of which Zope knows nothing
        within = request.environ.pop(ENVIRON_KEY)
        transaction.doom()
        return within.put("echo").id

    response = publish(view, others)

    assert stored_ids(others) == [response.text]
    others.close()
