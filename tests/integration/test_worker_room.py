# SPDX-License-Identifier: ZPL-2.1
"""What comes after many calls that cannot begin for long: it does not wait for them."""

from __future__ import annotations

import threading

import pytest

from tests.integration.stepping import Site
from wsgi_zasync import CallState
from wsgi_zasync.store import open_store
from wsgi_zasync.worker.held import Held
from wsgi_zasync.worker.room import AHEAD, HELD_UP_SECONDS
from wsgi_zasync.worker.running.dispatch import LONGEST_QUEUE
from wsgi_zasync.worker.service import YOUNG_SECONDS

MANY = 3 * AHEAD
#: What a worker has of a plugin that runs one call at a time.
HELD = 1 + AHEAD


@pytest.fixture
def gate():
    found = threading.Event()
    yield found
    found.set()


@pytest.fixture
def site(gate):
    made = Site(threads=2, dead_after=15)
    made.began = []
    made.fast_ran = threading.Event()

    def slow(attempt, number):
        made.began.append(number)
        gate.wait(60)

    made.slow = slow
    yield made
    gate.set()
    made.close()


def put_slow(site, **options):
    with site.calls() as calls:
        return [calls.options(**options).put("slow", number).id for number in range(MANY)]


def begin_what_can_begin(service):
    while service.turn() or not service.seconds_to_wait():
        pass


def parked(site):
    with site.db.transaction() as connection:
        return len(open_store(connection).site.parked)


@pytest.mark.parametrize(
    ("declared", "fast", "priority"),
    [
        # A plugin that runs as many calls as it may, or threads that are all taken
        ({"max_running": 1}, "thread", "normal"),
        ({"max_running": 1}, "thread", "high"),
        ({}, "reactor", "normal"),
        ({}, "transaction", "high"),
    ],
)
def test_more_calls_than_can_begin_keep_no_others_from_beginning(site, declared, fast, priority):
    # Given a worker that has begun of them what it may
    site.add("slow", site.slow, runs="thread", **declared)
    site.add("fast", lambda attempt: site.fast_ran.set(), runs=fast)
    put_slow(site)
    service = site.service("worker", one_by_one=False)
    begin_what_can_begin(service)
    # When a call of another plugin is put
    with site.calls("bob") as calls:
        calls.options(priority=priority).put("fast")
    site.clock.advance(HELD_UP_SECONDS)
    begin_what_can_begin(service)
    # Then it is run
    assert site.fast_ran.wait(5)


def test_what_was_left_aside_is_run_in_its_order_and_is_said_to_lack_nothing(site, gate):
    # Given a worker that has left calls aside
    site.add("slow", site.slow, runs="thread", max_running=1)
    ids = put_slow(site)
    service = site.service("worker", one_by_one=False)
    begin_what_can_begin(service)
    site.clock.advance(HELD_UP_SECONDS)
    begin_what_can_begin(service)
    assert parked(site) == MANY - HELD
    with site.calls() as calls:
        assert calls.get(ids[-1]).waiting_reason is None
    # When the others have ended
    gate.set()
    while len(site.began) < MANY or not service.is_idle():
        if not service.turn():
            service.bell.wait(1)
    # Then
    assert site.began == list(range(MANY))
    assert parked(site) == 0
    assert {site.state(call) for call in ids} == {CallState.SUCCEEDED}


def test_what_was_left_aside_is_taken_up_by_a_worker_that_can_begin_it(site):
    site.add("slow", site.slow, runs="thread", max_running=1)
    put_slow(site)
    first = site.service("first", one_by_one=False)
    begin_what_can_begin(first)
    site.clock.advance(HELD_UP_SECONDS)
    begin_what_can_begin(first)
    # When another one comes
    begin_what_can_begin(site.service("second", one_by_one=False))
    # Then it has begun one, and has others
    assert parked(site) == MANY - 2 * HELD
    assert first.holdings.waiting_to_begin == AHEAD


def test_no_more_calls_are_queued_than_threads_may_soon_have_time_for(site):
    site.add("slow", site.slow, runs="thread")
    put_slow(site)
    service = site.service("worker", one_by_one=False)

    begin_what_can_begin(service)

    # Two run, and two are queued before it is known how long they take.
    assert len(service.holdings.running) == 4


def test_no_more_calls_are_out_than_the_worker_may_have_running(gate):
    site = Site(threads=5, max_running=3)
    site.add("slow", lambda attempt, number: gate.wait(60))
    put_slow(site)
    service = site.service("worker", one_by_one=False)

    begin_what_can_begin(service)

    assert len(service.holdings.running) == 3
    gate.set()
    site.close()


def test_more_are_queued_only_while_calls_wait_and_not_without_bound(site):
    service = site.service("worker", one_by_one=False)
    dispatcher, holdings = service.dispatcher, service.holdings
    for _ in range(20):
        dispatcher.adapt(holdings)
    assert dispatcher.ahead == 0

    holdings.backlog.add(Held(b"a", "a", ("", "ann"), "slow", 1, chunk=0))
    for _ in range(20):
        dispatcher.adapt(holdings)
    assert dispatcher.ahead == 2 * LONGEST_QUEUE


@pytest.mark.parametrize(("count", "ahead"), [(2, 4), (MANY, 2)])
def test_fewer_are_queued_after_those_that_wait_for_a_thread(site, gate, count, ahead):
    # Given calls that take long, in all threads, and perhaps some that are queued behind them
    begun = threading.Semaphore(0)
    site.add("long", lambda attempt: (begun.release(), gate.wait(60)))
    with site.calls() as calls:
        for _ in range(count):
            calls.put("long")
    service = site.service("worker", one_by_one=False)
    begin_what_can_begin(service)
    assert begun.acquire(timeout=5)
    assert begun.acquire(timeout=5)
    assert service.dispatcher.ahead == 4
    # When time has passed
    site.clock.advance(1)
    service.turn()
    # Then that is told by the queued ones only
    assert service.dispatcher.ahead == ahead


def test_outcomes_wait_only_for_calls_that_were_handed_out_a_moment_ago(site, gate):
    site.add("slow", lambda attempt: gate.wait(60))
    with site.calls() as calls:
        calls.put("slow")
    service = site.service("worker", one_by_one=False)
    assert not service.are_more_expected()

    begin_what_can_begin(service)
    assert service.are_more_expected()

    site.clock.advance(2 * YOUNG_SECONDS)
    assert not service.are_more_expected()
