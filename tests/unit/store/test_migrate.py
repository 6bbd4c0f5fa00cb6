# SPDX-License-Identifier: ZPL-2.1
"""What an older version has stored is read by a newer one, and not the other way round."""

from __future__ import annotations

import pytest

from tests.integration.stepping import Site
from wsgi_zasync import CallState, ConfigurationError, plugin
from wsgi_zasync import call as call_module
from wsgi_zasync.store import migrate, open_store, parking
from wsgi_zasync.store import root as root_module
from wsgi_zasync.testing import calls_of, deployment_of
from wsgi_zasync.worker import Worker
from wsgi_zasync.worker.desk import StorageAway

PLUGINS = {"echo": plugin("echo")(lambda attempt, value=None: value)}


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


def test_what_an_upgrade_says_of_an_empty_record_is_nothing_of_the_call_put_there(db, next_version):
    deployment = deployment_of(PLUGINS)
    places = []
    for number in range(4):
        if number == 3:
            next_version()
        db.cacheMinimize()
        with calls_of(db, "ann", deployment) as calls:
            call = calls.put("echo")
            places.append(call._record.place)
            title = call.title
    db.cacheMinimize()

    # Given that the older version has made the record that is filled by the newer one
    assert places[2] == (*places[3][:2], places[3][2] - 1)
    assert title is None
    assert view(db, call.id) == (CallState.WAITING, None, 2)


def test_who_was_rolled_back_puts_into_what_a_newer_version_has_left_empty(db, monkeypatch):
    deployment = deployment_of(PLUGINS)

    def put_some(count):
        db.cacheMinimize()
        for _ in range(count):
            with calls_of(db, "ann", deployment) as calls:
                calls.put("echo")

    def seen():
        db.cacheMinimize()
        with calls_of(db, "ann", deployment) as calls:
            return calls.count(), len(calls.mine())

    put_some(3)
    # Given calls of a newer version, and room that it has made for more
    with monkeypatch.context() as newer:
        newer.setattr(call_module, "RECORD_VERSION", 2)
        newer.setitem(call_module.RECORD_STEPS, 1, lambda state: None)
        put_some(7)

    # When an older one puts the next
    put_some(4)

    # Then it counts no call that is none, and the newer one sees all of them
    assert seen() == (14, 7)
    monkeypatch.setattr(call_module, "RECORD_VERSION", 2)
    monkeypatch.setitem(call_module.RECORD_STEPS, 1, lambda state: None)
    put_some(1)
    assert seen() == (15, 15)


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
    run(db)
    assert view(db, new)[0] is CallState.SUCCEEDED


def test_a_newer_record_runs_although_an_older_worker_puts_it_aside_again(db, monkeypatch):
    monkeypatch.setattr(call_module, "RECORD_VERSION", 2)
    call_id = put(db)
    newer = Worker(db, plugins=PLUGINS)
    for _ in range(2):
        # Given an older worker, which is quicker each time that a newer one has taken it up
        with monkeypatch.context() as older:
            older.setattr(call_module, "RECORD_VERSION", 1)
            db.cacheMinimize()
            run(db)
        with db.transaction() as connection:
            site = open_store(connection).site
            assert len(parking.unreadable(site)) == 1
            parking.take_up(site, set())
            assert parking.unreadable(site) == []

    assert newer.run_once() == 1

    newer.stop()
    assert view(db, call_id)[0] is CallState.SUCCEEDED


def test_what_cannot_be_read_is_tried_once_by_a_process(db, monkeypatch):
    monkeypatch.setattr(call_module, "RECORD_VERSION", 2)
    put(db)
    monkeypatch.setattr(call_module, "RECORD_VERSION", 1)
    db.cacheMinimize()
    run(db)
    tried = []
    monkeypatch.setattr(parking, "why_unreadable", lambda record: tried.append(record) or "newer")
    in_vain = set()

    for _ in range(3):
        with db.transaction() as connection:
            parking.take_up(open_store(connection).site, in_vain)

    assert len(tried) == len(in_vain) == 1


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


def set_version(db, version):
    with db.transaction() as connection:
        connection.root()[root_module.ROOT_KEY].version = version


@pytest.mark.parametrize("runs", ["thread", "transaction", "reactor"])
def test_a_worker_whose_store_was_upgraded_keeps_what_it_holds_and_waits(runs):
    site = Site()
    site.add("echo", lambda attempt, value: value, runs=runs)
    service = site.service("older", one_by_one=False)
    # Given a call that an older worker runs, and one that came later
    running = site.put("echo", 1)
    service.turn()
    later = site.put("echo", 2)
    set_version(site.db, 2)

    # When the store is a newer one's now
    for _ in range(30):
        with pytest.raises(StorageAway, match="upgrade this process"):
            service.turn()

    # Then nothing was blamed or lost
    set_version(site.db, 1)
    site.work(service)
    assert {site.state(call) for call in (running, later)} == {CallState.SUCCEEDED}
    site.close()


def test_a_worker_that_meets_a_newer_store_does_not_start(db):
    put(db)
    set_version(db, 2)
    worker = Worker(db)

    with pytest.raises(ConfigurationError, match="upgrade this process"):
        worker.start()

    assert not worker.is_running
