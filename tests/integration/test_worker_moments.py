# SPDX-License-Identifier: ZPL-2.1
"""Moments that are easily overlooked: between two commits, at a stop, in a thread of one's own."""

from __future__ import annotations

import threading

import pytest
from ZEO.Exceptions import ClientDisconnected

from tests.integration.long_callbacks import EXHAUSTING, LONG, StartedSite
from tests.integration.stepping import Site
from wsgi_zasync import CallState, RetryPolicy, expose, plugin
from wsgi_zasync.call import to_micros
from wsgi_zasync.store import open_store
from wsgi_zasync.store.accepting import Wanted, accept
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.worker import Worker
from wsgi_zasync.worker import long_callbacks as lane
from wsgi_zasync.worker.desk import StorageAway
from wsgi_zasync.worker.held import Held
from wsgi_zasync.worker.holdings import Holdings
from wsgi_zasync.worker.long_callbacks import LongCallbacks

WAITING = "waiting"


@pytest.fixture
def stepped():
    found = Site(dead_after=15)
    found.add("echo", lambda attempt, value=None: value)
    yield found
    found.close()


@pytest.fixture
def started(db):
    found = StartedSite(db)
    yield found
    found.worker.stop(1)


class Remote:
    """Something that has a server of its own, which is away."""

    def read(self):
        raise ClientDisconnected("not your storage")


expose("read")(Remote)


def test_a_call_does_not_wait_for_a_poll_behind_many_that_are_not_due(stepped):
    # Given a worker, and more calls for later than are accepted at once
    service = stepped.service("worker", one_by_one=False)
    with stepped.calls() as calls:
        for _ in range(100):
            calls.options(begin_after=3600).put("echo", 1)
        call = calls.put("echo", 2).id
    # When it looks as long as it believes that there is more
    while service.timetable.is_more_there:
        service.turn()
    service.bell.wait_for_report(10)
    service.turn()
    # Then
    assert stepped.state(call) == "succeeded"


def test_what_the_old_worker_commits_while_it_is_fenced_is_taken_over_too(stepped):
    first = stepped.put("echo", 1)
    old = stepped.service("old")
    old.dispatcher.room = lambda holdings: 0
    old.turn()
    new = stepped.service("old")
    later = stepped.put("echo", 2)

    # Given an old worker that accepts once more and ends a call, when the new one has begun to
    # take over and has not committed
    commit = new.membership.commit

    def commit_after_the_other(transaction, oids=()):
        new.membership.commit = commit
        with stepped.db.transaction() as connection:
            store = open_store(connection)
            area = connection.get(old.membership.area_oid)
            area.hold()
            (record,) = next(iter(area.chunks.values())).calls
            record.cancel(to_micros(stepped.clock.now()))
            store.count_end(area.thread_tallies[0], record)
            wanted = Wanted(range(64), ("default",), {"echo": 0}, 10)
            accept(store, area, wanted, 1 << 60).keep(area)
        commit(transaction, oids)

    inner = new.rescuer._take_over

    def take_over(key, serial):
        new.membership.commit = commit_after_the_other
        return inner(key, serial)

    new.rescuer._take_over = take_over
    for _ in range(3):
        stepped.work(new)
        stepped.clock.advance(5.1)
    stepped.work(new)

    # Then nothing of it is lost, and the counts are right
    assert stepped.state(first) is CallState.CANCELLED
    assert stepped.state(later) is CallState.SUCCEEDED
    with stepped.calls() as calls:
        tally = calls._context(calls.principal).store.tally(("", "ann"))
        assert (tally.open, tally.stored) == (0, 2)


def test_who_fenced_and_died_before_taking_over_is_made_up_for(stepped):
    call = stepped.put("echo", 1)
    old = stepped.service("old")
    old.dispatcher.room = lambda holdings: 0
    old.turn()
    with stepped.db.transaction() as connection:
        connection.get(old.membership.area_oid).fence.taken_by = "somebody who is no more"

    stepped.work(stepped.service("new"))

    assert stepped.state(call) is CallState.SUCCEEDED


def test_an_outcome_in_line_is_kept_when_the_worker_stops(db, gate):
    runs = []
    once = plugin("once", runs="reactor", retry=RetryPolicy(interruptions=1))(
        lambda attempt: runs.append(1)
    )
    site = StartedSite(db, {"once": once})
    site.worker.start()
    _, oid = site.put("ann", EXHAUSTING, "once")
    assert gate.reached.wait(30)

    stopper = threading.Thread(target=site.worker.stop, args=(0.0,))
    stopper.start()
    with signal_for(db).watch(oid) as watch:
        while site.seen(oid)[0] == WAITING:
            watch.wait(0.05)
    gate.open.set()
    stopper.join(30)
    assert site.seen(oid)[0] == "succeeded"

    following = Worker(db, plugins={"once": once})
    following.run_once()
    following.stop()

    assert site.seen(oid)[:2] == ("succeeded", "failed")
    assert runs == [1]


def test_a_connection_that_cannot_be_had_at_once_is_had_later(started, monkeypatch):
    monkeypatch.setattr(lane, "AWAY_SECONDS", 0.01)
    opened, failures = lane.Desk, [OSError("too many files")] * 2

    def open_desk(*args):
        if failures:
            raise failures.pop()
        return opened(*args)

    monkeypatch.setattr(lane, "Desk", open_desk)
    started.worker.start()

    _, oid = started.put("ann", LONG)

    assert started.end_of(oid)[:2] == ("succeeded", "done")


def test_a_thread_that_cannot_be_started_is_started_by_the_next_call(started, monkeypatch):
    started.worker.start()
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]

    def start_thread(thread):
        if thread.name.endswith("-callbacks") and failures:
            raise failures.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_thread)
    _, first = started.put("ann", LONG)
    with signal_for(started.db).watch(first) as watch:
        while failures:
            watch.wait(0.02)

    _, second = started.put("ann", LONG)

    assert started.end_of(first)[:2] == started.end_of(second)[:2] == ("succeeded", "done")


def test_a_storage_that_is_away_is_waited_for_and_no_callback_is_blamed(started, monkeypatch):
    monkeypatch.setattr(lane, "AWAY_SECONDS", 0.01)
    written, outages = LongCallbacks._written, [StorageAway("a driver's error")] * 5

    def fail_at_first(long, *args):
        if outages:
            raise outages.pop()
        return written(long, *args)

    monkeypatch.setattr(LongCallbacks, "_written", fail_at_first)
    started.worker.start()

    _, oid = started.put("ann", LONG)

    assert started.end_of(oid) == ("succeeded", "done", None)


def test_one_call_that_cannot_be_committed_delays_no_other_owner(started):
    started.worker.start()
    service = started.worker._service
    commit = service.membership.commit
    _, anns = started.put("ann", LONG)

    def refuse(transaction, oids=()):
        if anns in oids and threading.current_thread().name.endswith("-callbacks"):
            raise ValueError("a hook that refuses")
        commit(transaction, oids)

    started.end_of(anns)
    service.membership.commit = refuse
    _, anns = started.put("ann", LONG)
    _, bobs = started.put("bob", LONG)

    assert started.end_of(bobs)[:2] == ("succeeded", "done")
    assert started.seen(anns)[0] == WAITING


@pytest.mark.parametrize(
    "text", ["python: box.read()", "python: [n for n in range(9000)] and box.read()"]
)
def test_a_lost_connection_of_somebody_elses_delays_that_callback_alone(db, text):
    site = StartedSite(db, exposed={"box": Remote()})
    site.worker.start()
    try:
        _, anns = site.put("ann", text)
        assert site.end_of(anns)[:2] == ("succeeded", "pending")

        for long in ("string:fine", "python: [n for n in range(9000)] and 1"):
            _, bobs = site.put("bob", long)
            assert site.end_of(bobs)[:2] == ("succeeded", "done")
    finally:
        site.worker.stop(1)


def test_nothing_runs_alone_before_the_one_before_it_is_written():
    holdings = Holdings(lambda: 0.0)
    one, other = (
        Held(oid, str(oid), ("", "ann"), "echo", 1, 0, alone=True) for oid in (b"1", b"2")
    )
    for held in (one, other):
        holdings.again(held)
    assert holdings.next_alone() is other

    class Order:
        held = other

        class declaration:
            runs = "thread"

    holdings.began(Order)
    holdings.ended(Order)
    assert holdings.next_alone() is None

    holdings.settled(other)
    assert holdings.next_alone() is one
