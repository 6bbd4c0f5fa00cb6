# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import threading

import pytest

from wsgi_zasync.worker.running.pool import Pool


def make(size=2):
    opened, closed = [], []
    pool = Pool("test", size, lambda n: opened.append(n) or n, closed.append)
    return pool, opened, closed


def test_each_thread_owns_one_thing_which_it_closes_itself():
    pool, opened, closed = make(size=2)
    ran = threading.Barrier(3)

    for _ in range(2):
        pool.submit(lambda slot: ran.wait(5))
    ran.wait(5)
    pool.stop(5)

    assert sorted(opened) == sorted(closed) == [0, 1]


def test_a_thread_without_work_looks_after_what_it_owns_and_works_again():
    looked, ran, threads = threading.Semaphore(0), threading.Semaphore(0), set()

    def idle(owned):
        threads.add(threading.current_thread())
        looked.release()

    def run(slot):
        threads.add(threading.current_thread())
        ran.release()

    pool = Pool("test", 1, lambda number: number, lambda number: None, idle, 0.001)
    for _ in range(2):
        pool.submit(run)
        assert ran.acquire(timeout=5)
        assert looked.acquire(timeout=5)
    pool.stop(5)

    assert len(threads) == 1


def test_no_more_run_at_a_time_than_the_pool_has_threads():
    pool, opened, _ = make(size=1)
    done = threading.Event()

    for _ in range(20):
        pool.submit(lambda slot: None)
    pool.submit(lambda slot: done.set())

    assert done.wait(5)
    assert opened == [0]
    pool.stop(5)


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_thread_that_was_given_up_is_replaced_and_told_of_and_ends_by_itself(caplog, waiting):
    # Given a pool of one thread, which hangs
    pool, _opened, closed = make(size=1)
    begun, release, done = threading.Event(), threading.Event(), threading.Event()
    slots, threads = [], []

    def hang(slot):
        slots.append(slot)
        threads.append(threading.current_thread())
        begun.set()
        release.wait(5)

    pool.submit(hang, "hangs")
    assert begun.wait(5)

    # When it is given up for what it runs, and not for what it ran before
    pool.submit(lambda slot: done.set())
    pool.abandon(slots[0], "something else")
    assert pool.abandoned == 0
    pool.abandon(slots[0], "hangs")
    pool.abandon(slots[0], "hangs")

    # Then another thread does what waits
    assert done.wait(5)
    assert pool.abandoned == 1
    assert "a thread of test was given up" in caplog.text
    assert "1 of them by now" in caplog.text

    # And the old one takes nothing of what waits, and closes what it owned
    busy, last = threading.Event(), []
    pool.submit(lambda slot: busy.wait(5))
    for _ in range(waiting):
        pool.submit(last.append)
    release.set()
    threads[0].join(5)
    assert (closed, last) == ([0], [])
    assert pool.abandoned == 0
    busy.set()
    pool.stop(5)
    assert (closed, pool.abandoned) == ([0, 0], 0)


def test_a_thread_that_waits_is_woken_rather_than_another_one_started():
    waits, ran, slots = threading.Semaphore(0), threading.Semaphore(0), []

    class Told(threading.Condition):
        def wait(self, timeout=None):
            waits.release()
            return super().wait(timeout)

    pool, opened, _ = make(size=2)
    pool._changed = Told()
    for number in range(2):
        pool.submit(lambda slot: (slots.append(slot), ran.release()), number)
        assert ran.acquire(timeout=5)
        assert waits.acquire(timeout=5)

    assert opened == [0]
    # What it has done is no reason any more to give it up.
    pool.abandon(slots[1], 1)
    assert pool.abandoned == 0

    # But two run at a time
    both = threading.Barrier(3)
    for _ in range(2):
        pool.submit(lambda slot: both.wait(5))
    both.wait(5)
    pool.stop(5)


def test_a_pool_that_stops_begins_nothing_more():
    pool, _opened, _ = make(size=1)
    begun, release, threads, late = threading.Event(), threading.Event(), [], []

    def run(slot):
        threads.append(threading.current_thread())
        begun.set()
        release.wait(5)

    pool.submit(run)
    assert begun.wait(5)
    pool.submit(late.append)
    pool.stop(0)
    release.set()
    threads[0].join(5)

    assert not threads[0].is_alive()
    assert not late


def test_a_thread_that_cannot_get_what_it_owns_tries_again_and_strands_nothing(monkeypatch):
    monkeypatch.setattr("wsgi_zasync.worker.running.pool.AGAIN_SECONDS", 0.01)
    tries, done = [], threading.Event()

    def enter(number):
        tries.append(number)
        if len(tries) < 3:
            raise OSError("the storage is away")
        return "a connection"

    pool = Pool("test", 1, enter, lambda owned: None)
    owned = []
    pool.submit(lambda slot: (owned.append(slot.owned), done.set()))
    assert done.wait(5)
    pool.stop(5)

    assert owned == ["a connection"]
    assert len(tries) == 3


def test_a_pool_that_is_stopped_waits_for_no_thread_that_never_got_what_it_owns():
    asked = threading.Event()

    def enter(number):
        asked.set()
        raise OSError("the storage is away")

    pool = Pool("test", 1, enter, lambda owned: None)
    pool.submit(lambda slot: None)
    assert asked.wait(5)
    pool.stop(5)

    assert not pool._threads


def test_what_waits_for_a_thread_that_cannot_be_started_runs_later(monkeypatch):
    pool, _opened, _ = make(size=1)
    done = threading.Event()
    start, failures = threading.Thread.start, [RuntimeError("can't start new thread")]
    monkeypatch.setattr(
        threading.Thread,
        "start",
        lambda thread: start(thread) if not failures else _raise(failures.pop()),
    )

    pool.submit(lambda slot: done.set())
    assert not pool._threads
    pool.start_missing()

    assert done.wait(5)
    pool.stop(5)


def _raise(error):
    raise error
