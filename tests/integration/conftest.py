# SPDX-License-Identifier: ZPL-2.1
"""A database in a file, who looks at it from outside, and what holds its worker up."""

from __future__ import annotations

import pytest
import transaction
from webob import Request
from ZODB import DB
from ZODB.FileStorage import FileStorage

from tests.integration.long_callbacks import Gate
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.store import open_store
from wsgi_zasync.web.transactions import catch_up
from wsgi_zasync.worker.long_callbacks import LongCallbacks


@pytest.fixture
def db(tmp_path):
    """A ZODB on a FileStorage."""
    database = DB(FileStorage(str(tmp_path / "Data.fs")))
    yield database
    database.close()


@pytest.fixture
def root_of():
    """Look at a database's root with a connection and transaction of one's own."""

    def look(database, function):
        catch_up(database)
        manager = transaction.TransactionManager(explicit=True)
        manager.begin()
        connection = database.open(transaction_manager=manager)
        try:
            return function(connection.root())
        finally:
            manager.abort()
            connection.close()

    return look


@pytest.fixture
def stored_ids(root_of):
    """The ids of a user's calls in a database, as committed."""

    def ids(database, user="ann"):
        def look(root):
            store = open_store(root._p_jar)
            return [record.id for record in store.oldest(("", user))]

        return root_of(database, look)

    return ids


@pytest.fixture
def wrap(db):
    """Wrap an application with the middleware, on ``db`` where no other database is named."""

    def wrapped(application, database=db, **settings):
        settings = {"plugins": {"echo": echo}, **settings}
        return CallManagerMiddleware(application, database, **settings)

    return wrapped


def echo(attempt, value=None):
    return value


@pytest.fixture
def ask():
    """Make a request of a WSGI application, as ann; returns WebOb's response."""

    def get_response(application, path="/", user="ann", **options):
        request = Request.blank(path, **options)
        if user is not None:
            request.environ["REMOTE_USER"] = user
        return request.get_response(application)

    return get_response


@pytest.fixture
def gate(monkeypatch):
    """Holds callbacks that take long up, until it is opened."""
    found = Gate()
    monkeypatch.setattr(LongCallbacks, "stand_aside", lambda long: found.stand_aside(long))
    yield found
    found.open.set()
