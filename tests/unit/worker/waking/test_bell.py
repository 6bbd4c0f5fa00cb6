# SPDX-License-Identifier: ZPL-2.1
"""Whoever waits at the bell is woken by what concerns them, and by nobody's clock."""

from __future__ import annotations

import threading

import pytest

from wsgi_zasync.worker.waking.bell import Bell

#: Seconds that nobody has to wait in a test that succeeds.
FOREVER = 50.0

RINGS = {
    "report": lambda bell: bell.report("a report"),
    "news": lambda bell: bell.news(None),
    "mail": lambda bell: bell.mail(None),
    "stop": lambda bell: bell.stop(),
    "fenced": lambda bell: bell.fenced(),
}


class Waiting:
    """A condition that says when somebody has begun to wait at it."""

    def __init__(self, condition):
        self._condition = condition
        self.begun = threading.Event()

    def __getattr__(self, name):
        return getattr(self._condition, name)

    def __enter__(self):
        return self._condition.__enter__()

    def __exit__(self, *exc):
        return self._condition.__exit__(*exc)

    def wait_for(self, predicate, timeout):
        # The lock is held until the wait has begun.
        self.begun.set()
        return self._condition.wait_for(predicate, timeout)


def woken_by(bell, condition, wait, ring):
    """Whether who waits like this is woken when it rings, without its time being over."""
    at = Waiting(getattr(bell, condition))
    setattr(bell, condition, at)
    thread = threading.Thread(target=wait, args=(bell,), daemon=True)
    thread.start()
    assert at.begun.wait(FOREVER)
    ring(bell)
    thread.join(FOREVER / 5)
    return not thread.is_alive()


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_everything_wakes_the_acceptor(ring):
    assert woken_by(Bell(), "_changed", lambda bell: bell.wait(FOREVER), ring)


@pytest.mark.parametrize(
    ("wait", "ring"),
    [
        (lambda bell: bell.wait_for_report(FOREVER), "report"),
        (lambda bell: bell.wait_for_more(1, FOREVER, lambda: True), "report"),
        (lambda bell: bell.wait_for_more(1, FOREVER, lambda: True), "stop"),
        (lambda bell: bell.wait_for_stop(FOREVER), "stop"),
        (lambda bell: bell.wait_for_news(FOREVER), "news"),
        (lambda bell: bell.wait_for_news(FOREVER), "stop"),
    ],
)
def test_who_waits_for_one_thing_is_woken_by_it(wait, ring):
    assert woken_by(Bell(), "_changed", wait, RINGS[ring])


def test_who_waits_for_quiet_is_woken_when_the_acceptor_waits():
    bell = Bell()
    acceptor = threading.Thread(target=bell.wait, args=(FOREVER,), daemon=True)

    assert woken_by(
        bell, "_quiet", lambda bell: bell.wait_for_quiet(FOREVER), lambda bell: acceptor.start()
    )
    bell.stop()
    acceptor.join(FOREVER)


def test_who_waits_for_quiet_is_woken_by_the_stop():
    assert woken_by(Bell(), "_quiet", lambda bell: bell.wait_for_quiet(FOREVER), Bell.stop)


def test_it_is_not_quiet_once_the_acceptor_has_gone_on(monkeypatch):
    bell, is_quiet = Bell(), []
    monkeypatch.setattr(bell._quiet, "wait_for", lambda quiet, timeout: is_quiet.append(quiet()))

    bell.wait(0)
    bell.wait_for_quiet(FOREVER)

    assert is_quiet == [False]


@pytest.mark.parametrize("tell", [Bell.news, Bell.mail])
@pytest.mark.parametrize(
    ("tids", "last"),
    [
        ([None], None),
        ([b"1", b"2"], b"2"),
        ([b"2", b"1"], b"2"),
        ([b"2", None], b"2"),
        ([None, b"2"], b"2"),
    ],
)
def test_news_are_seen_from_the_last_of_what_was_told_on(tell, tids, last):
    bell = Bell()
    for tid in tids:
        tell(bell, tid)

    assert bell.take_news() == (tell is Bell.news, tell is Bell.mail, last)
    assert bell.take_news() == (False, False, None)


def test_what_is_put_back_stands_in_front_in_its_order():
    bell = Bell()
    for number in range(5):
        bell.report(number)

    bell.put_back(bell.take(3))

    assert bell.take(10) == [0, 1, 2, 3, 4]
