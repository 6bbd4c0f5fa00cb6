# SPDX-License-Identifier: ZPL-2.1
"""What becomes of a worker that could not begin, or one of whose turns has failed."""

from __future__ import annotations

import logging
import threading

import pytest
from ZODB.POSException import ConflictError

from tests.integration.long_callbacks import StartedSite
from tests.integration.stepping import Site
from wsgi_zasync import CallState, ConfigurationError
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import memory_db
from wsgi_zasync.worker import AWAY_SECONDS, Worker
from wsgi_zasync.worker.membership import REGISTERING_TRIES, Membership
from wsgi_zasync.worker.service import Service


def failing(function, error, times=1):
    """The function, which raises this the first times that it is called."""
    left = [error] * times

    def fails(*args, **kwargs):
        if left:
            raise left.pop()
        return function(*args, **kwargs)

    return fails


@pytest.fixture
def site():
    found = Site()
    found.add("echo", lambda attempt, value=None: value)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("error", "level", "told"),
    [
        (RuntimeError("a bad day"), logging.ERROR, "a turn failed and is tried again"),
        (ConflictError("somebody was faster"), logging.INFO, "tried again"),
    ],
    ids=["unexpected", "conflict"],
)
def test_turns_that_fail_are_told_and_end_no_worker(db, caplog, error, level, told):
    # Given a worker that is idle
    caplog.set_level(logging.INFO)
    site = StartedSite(db)
    site.worker.start()
    service, pauses = site.worker._service, []
    service.bell.wait_for_stop = pauses.append
    # When turns fail, for whatever reason
    service.turn = failing(service.turn, error, 3)
    _, oid = site.put("ann", "string:done")
    # Then the next one does what is to be done
    assert site.end_of(oid) == ("succeeded", "done", None)
    assert site.worker.is_running
    assert [r.levelno for r in caplog.records if told in r.getMessage()] == 3 * [level]
    # and there is a longer pause after each, until one has gone well
    service.turn = failing(service.turn, error)
    _, oid = site.put("ann", "string:done")
    assert site.end_of(oid) == ("succeeded", "done", None)
    assert pauses == [AWAY_SECONDS, 2 * AWAY_SECONDS, 4 * AWAY_SECONDS, AWAY_SECONDS]
    site.worker.stop(1)


def test_a_worker_that_cannot_begin_says_why_and_may_be_started_again(monkeypatch):
    # Given a worker that opens its database, which is of no use yet
    opened, closed = [], []

    def open_one():
        database = memory_db()
        inner = database.close
        database.close = lambda: (closed.append(database), inner())
        opened.append(database)
        return database

    worker = Worker(open_one, plugins={})
    monkeypatch.setattr(Service, "open", failing(Service.open, ConfigurationError("not yet")))
    # When it is started
    with pytest.raises(ConfigurationError, match="not yet"):
        worker.start()
    # Then nothing of it is left
    assert not worker.is_running
    assert (len(opened), closed) == (1, opened)
    for thread in threading.enumerate():
        if thread.name.startswith(worker.name):
            thread.join(10)
            assert not thread.is_alive()
    # and it can be started once more
    worker.start()
    assert worker.is_running
    worker.stop()
    assert (len(opened), closed) == (2, opened)


def test_a_worker_that_was_taken_over_and_cannot_register_at_once_does_so_later(db, monkeypatch):
    # Given a worker whose place another one has taken
    site = StartedSite(db)
    site.worker.start()
    service = site.worker._service
    first = service.membership.area_oid
    monkeypatch.setattr(
        Membership, "register", failing(Membership.register, ConflictError("not now"))
    )
    with db.transaction() as connection:
        connection.get(first).fence.taken_by = "another one"
    # When it finds that out at its next turn
    _, oid = site.put("ann", "string:done")
    # Then it begins anew, as soon as it can
    assert site.end_of(oid) == ("succeeded", "done", None)
    assert service.membership.area_oid != first
    site.worker.stop(1)


def test_workers_that_register_at_the_same_moment_all_do(site, monkeypatch):
    # Given a conflict for each of many others that begin as well
    monkeypatch.setattr(
        Membership,
        "_register",
        failing(Membership._register, ConflictError("another one"), REGISTERING_TRIES),
    )
    site.service("last")
    with site.db.transaction() as connection:
        assert [area.name for area in open_store(connection).areas()] == ["last"]


def test_workers_that_are_stepped_in_turn_take_over_from_each_other_without_end(site):
    # Given two workers that are stepped, each of which gives its place up as it returns
    workers = [Worker(site.db, plugins=site.plugins, clock=site.clock) for _ in range(2)]
    for _ in range(3):
        for worker in workers:
            # When one of them goes on whose place was taken over by the other
            call = site.put("echo", 7)
            site.clock.advance(5.1)
            # Then it begins anew, and does what is due
            assert worker.run_once() == 1
            assert site.state(call) is CallState.SUCCEEDED
    for worker in workers:
        worker.stop()


def test_a_call_that_ran_while_its_stepped_worker_was_taken_over_ends_once(site):
    # Given a worker that is stepped, and fenced while its only call runs
    ran = []

    def slow(attempt):
        ran.append(threading.current_thread().name)
        if len(ran) == 1:
            with site.db.transaction() as connection:
                for area in open_store(connection).areas():
                    area.fence.taken_by = "another one"

    site.add("slow", slow, runs="transaction")
    call = site.put("slow")
    # When it goes on
    ended = site.worker.run_once()
    # Then what it did does not count, and the call is run by whoever takes over: itself
    assert ended == 1
    assert len(ran) == 2
    assert site.state(call) is CallState.SUCCEEDED
