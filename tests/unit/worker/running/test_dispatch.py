# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.stepping import Site
from wsgi_zasync import CallState, RetryPolicy
from wsgi_zasync.worker.held import Entry, Held, Outcome, Settled
from wsgi_zasync.worker.running.dispatch import KNOWN_AFTER, SHORT_SECONDS
from wsgi_zasync.worker.running.reactor import ensure_running


@pytest.fixture
def site():
    found = Site(threads=1)
    yield found
    found.close()


def order_of(plugin, **times):
    held = Held(plugin.encode(), plugin, ("", "ann"), plugin, 1, 0)
    defaults = {"handed_out": 0.0, "begun": None, "returned": None}
    return SimpleNamespace(held=held, **{**defaults, **times})


def committed(dispatcher, order):
    report = SimpleNamespace(held=order.held)
    dispatcher._committed(order, Entry(report, Settled.DONE, "succeeded"))


def ended(dispatcher, order):
    dispatcher.ended(order, Outcome())


@pytest.mark.parametrize("end", [ended, committed], ids=["by a report", "by a commit"])
def test_a_plugin_is_known_to_be_short_after_several_calls(site, end):
    dispatcher = site.service("worker").dispatcher
    known = []
    for _ in range(KNOWN_AFTER):
        known.append(dispatcher.is_short("echo"))
        now = site.clock.monotonic()
        end(dispatcher, order_of("echo", begun=now))
    assert known == [False] * KNOWN_AFTER
    assert dispatcher.is_short("echo")
    assert not dispatcher.is_short("another")


@pytest.mark.parametrize(
    ("times", "is_short"),
    [
        # What it took from its beginning, whenever it was handed out
        ({"handed_out": -60.0, "begun": -SHORT_SECONDS / 2}, True),
        ({"handed_out": -60.0, "begun": -2 * SHORT_SECONDS}, False),
        ({"handed_out": -2 * SHORT_SECONDS}, False),
        # until it returned, whatever its commit took
        ({"begun": -60.0, "returned": -60.0 + SHORT_SECONDS / 2}, True),
        ({"begun": -60.0, "returned": -60.0 + 2 * SHORT_SECONDS}, False),
    ],
)
def test_how_long_a_call_took_is_what_its_plugin_took(site, times, is_short):
    dispatcher = site.service("worker").dispatcher
    now = site.clock.monotonic()
    for _ in range(KNOWN_AFTER):
        times_on_clock = {name: now + seconds for name, seconds in times.items()}
        ended(dispatcher, order_of("echo", **times_on_clock))
    assert dispatcher.is_short("echo") is is_short


def test_a_worker_that_is_stepped_has_one_call_out_at_a_time(site):
    gate = threading.Event()
    site.add("wait", lambda attempt: gate.wait(30))
    for _ in range(3):
        site.put("wait")
    service = site.service("worker")
    for _ in range(3):
        service.turn()
    assert len(service.holdings.running) == 1
    gate.set()
    site.work(service)
    assert service.ended == 3


def test_a_call_for_which_no_thread_could_be_started_is_run_when_one_can(site, monkeypatch):
    # Given a process that has as many threads as it may
    monkeypatch.setattr(threading.Thread, "start", _no_more_threads)
    site.add("echo", lambda attempt: 1)
    call = site.put("echo")
    service = site.service("worker", one_by_one=False)
    service.turn()
    assert len(service.holdings.running) == 1
    # When some have ended
    monkeypatch.undo()
    # Then the next turn sees to it
    site.work(service)
    assert site.state(call) is CallState.SUCCEEDED


def _no_more_threads(thread):
    raise RuntimeError("can't start new thread")


def test_what_has_not_begun_when_the_worker_stops_is_run_by_the_next_one_though_it_runs_once(site):
    # Given two calls that must not be repeated, and a thread
    begun, gate, ran = threading.Event(), threading.Event(), []

    def pay(attempt, number):
        ran.append(number)
        if len(ran) == 1:
            begun.set()
            assert gate.wait(30)

    site.add("pay", pay, retry=RetryPolicy(interruptions=1))
    calls = [site.put("pay", number) for number in range(2)]
    site.settings["grace"] = 0.0
    site.worker.start()
    assert begun.wait(30)
    service = site.worker._service
    while len(service.holdings.running) < 2:
        gate.wait(0.01)
    # When the worker stops while one runs, and the other waits for the thread
    site.worker.stop(0)
    # Then nobody knows what became of the first one, and the other one is as new
    with site.calls() as found:
        assert found.get(calls[0]).failure.type == "Interrupted"
        assert found.get(calls[1]).state is CallState.WAITING
    gate.set()
    other = site.service("other")
    site.work(other)
    assert site.state(calls[1]) is CallState.SUCCEEDED
    assert ran == [0, 1]


@pytest.mark.parametrize("runs", ["thread", "transaction"])
def test_what_waits_for_a_thread_is_not_run_after_its_worker_was_taken_over(site, runs):
    # Given two calls, and a thread
    begun, gate, last, ran = (threading.Event(), threading.Event(), threading.Event(), [])

    def slow(attempt, number):
        ran.append(number)
        begun.set()
        assert gate.wait(30)

    site.add("slow", slow, runs=runs)
    for number in range(2):
        site.put("slow", number)
    service = site.service("worker", one_by_one=False)
    service.turn()
    assert begun.wait(30)
    assert len(service.holdings.running) == 2
    # When the worker is taken over, while one runs and the other waits for the thread
    service.start_anew()
    # Then that one is another worker's to run, and not this thread's
    pools = {"thread": service.dispatcher._threads, "transaction": service.dispatcher._desks}
    gate.set()
    pools[runs].submit(lambda slot: last.set())
    assert last.wait(30)
    assert ran == [0]


def test_what_waits_for_the_reactor_is_not_run_after_its_worker_was_taken_over(site):
    # Given a call that is handed to the reactor, which is busy
    ran, busy, gate, last = [], threading.Event(), threading.Event(), threading.Event()
    site.add("note", lambda attempt: ran.append(1), runs="reactor")
    service = site.service("worker", one_by_one=False)
    reactor = ensure_running()
    reactor.callFromThread(lambda: busy.set() or gate.wait(30))
    assert busy.wait(30)
    site.put("note")
    service.turn()
    assert len(service.holdings.running) == 1
    # When the worker is taken over before its turn comes
    service.start_anew()
    # Then it is not run there
    gate.set()
    reactor.callFromThread(last.set)
    assert last.wait(30)
    assert ran == []


def test_what_the_reactor_runs_says_nothing_to_a_worker_that_has_a_new_place(site):
    """It would be written, for another attempt of what is another worker's call by then."""
    # Given a call in the reactor, which is busy
    begun, gate, last, cancelled = threading.Event(), threading.Event(), threading.Event(), []

    def slow(attempt):
        begun.set()
        return Deferred(cancelled.append)

    site.add("slow", slow, runs="reactor")
    site.put("slow")
    service = site.service("worker", one_by_one=False)
    service.turn()
    assert begun.wait(30)
    ensure_running().callFromThread(gate.wait, 30)
    # When its worker was taken over, and begins anew
    service.start_anew()
    gate.set()
    ensure_running().callFromThread(last.set)
    assert last.wait(30)
    # Then it is interrupted, and that is the end of it
    assert len(cancelled) == 1
    assert len(service.bell) == 0


def test_a_plugin_in_the_reactor_is_told_that_its_time_is_over_and_nothing_is_left_of_it(site):
    attempts, last, timers = [], threading.Event(), []

    def note(attempt, deferred):
        attempts.append(attempt)
        return deferred

    site.add("late", lambda attempt: note(attempt, Deferred()), runs="reactor", timeout=0.01)
    site.add("soon", lambda attempt: note(attempt, deferLater(reactor, 0)), runs="reactor")
    late, soon = site.put("late"), site.put("soon")
    # When one does not end in time, and one does
    site.worker.run_once()
    # Then what goes on of the first one can see that it is not wanted any more
    with site.calls() as calls:
        assert calls.get(late).failure.type == "TimedOut"
        assert calls.get(soon).state == "succeeded"
    ensure_running().callFromThread(
        lambda: timers.extend(c.func.__name__ for c in reactor.getDelayedCalls()) or last.set()
    )
    assert last.wait(30)
    assert [attempt.is_cancelled for attempt in attempts] == [True, False]
    # and no timer keeps the other one for as long as it might have taken
    assert "_time_is_over" not in timers
