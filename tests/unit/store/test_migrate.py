# SPDX-License-Identifier: ZPL-2.1
"""What an older version has stored is read by a newer one, and not the other way round."""

from __future__ import annotations

import pytest

from wsgi_zasync import CallState, ConfigurationError, plugin
from wsgi_zasync import call as call_module
from wsgi_zasync.store import migrate, open_store
from wsgi_zasync.store import root as root_module
from wsgi_zasync.testing import calls_of, deployment_of, memory_db
from wsgi_zasync.worker import Worker

PLUGINS = {"echo": plugin("echo")(lambda attempt, value=None: value)}


@pytest.fixture
def db():
    database = memory_db()
    yield database
    database.close()


def put(db, *args):
    with calls_of(db, "ann", deployment_of(PLUGINS)) as calls:
        return calls.put("echo", *args).id


def run(db):
    worker = Worker(db, plugins=PLUGINS)
    worker.run_once()
    worker.stop()


def view(db, call_id):
    with calls_of(db, "ann", deployment_of(PLUGINS)) as calls:
        call = calls.get(call_id)
        return call.state, call.title, call._record.version


@pytest.fixture
def next_version(monkeypatch):
    """Version 2, in which every title is in capitals."""

    def to_2(state):
        state["title"] = (state.get("title") or "untitled").upper()

    def become():
        monkeypatch.setattr(call_module, "RECORD_VERSION", 2)
        monkeypatch.setitem(call_module.RECORD_STEPS, 1, to_2)

    return become


def test_an_older_record_is_brought_up_as_it_is_loaded_and_runs(db, next_version):
    old = put(db, 7)
    db.cacheMinimize()

    next_version()

    assert view(db, old) == (CallState.WAITING, "UNTITLED", 2)
    run(db)
    assert view(db, old) == (CallState.SUCCEEDED, "UNTITLED", 2)
    new = put(db)
    db.cacheMinimize()
    assert view(db, new) == (CallState.WAITING, None, 2)


def test_a_newer_record_waits_untouched_and_stops_no_other(db, monkeypatch, next_version):
    with monkeypatch.context() as newer:
        newer.setattr(call_module, "RECORD_VERSION", 2)
        new = put(db, "from the future")
    old = put(db)
    db.cacheMinimize()

    run(db)

    assert view(db, old)[0] is CallState.SUCCEEDED
    db.cacheMinimize()
    next_version()
    assert view(db, new)[0] is CallState.WAITING


def test_an_older_store_is_brought_up_by_the_first_worker(db, monkeypatch):
    call_id = put(db)
    monkeypatch.setattr(root_module, "STORE_VERSION", 2)
    monkeypatch.setitem(migrate.STORE_STEPS, 1, lambda root: setattr(root, "new", "thing"))
    with pytest.raises(ConfigurationError, match="start a worker of this version"):
        put(db)

    run(db)

    assert view(db, call_id)[0] is CallState.SUCCEEDED
    with db.transaction() as connection:
        root = connection.root()[root_module.ROOT_KEY]
        assert (root.version, root.new) == (2, "thing")


def test_a_newer_store_is_refused(db, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(root_module, "STORE_VERSION", 2)
        put(db)

    with pytest.raises(ConfigurationError, match="upgrade this process"):
        put(db)
    with db.transaction() as connection:
        assert not migrate.upgrade(connection)
        with pytest.raises(ConfigurationError):
            open_store(connection)
