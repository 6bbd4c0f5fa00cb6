# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import threading

from wsgi_zasync.testing import FakeClock
from wsgi_zasync.worker.watchdog import Watchdog


def test_a_commit_that_does_not_come_back_makes_it_bite():
    clock, bites = FakeClock(), []
    dog = Watchdog(clock, 120, lambda: bites.append(True))

    dog.enter()
    clock.advance(119)
    assert not dog.look()
    clock.advance(1)
    assert dog.look()

    assert bites == [True]


def test_commits_that_come_back_are_of_no_interest():
    clock, bites = FakeClock(), []
    dog = Watchdog(clock, 120, lambda: bites.append(True))

    dog.enter()
    dog.leave()
    clock.advance(1000)

    assert not dog.look()
    assert bites == []


def test_it_watches_every_thread_by_itself():
    clock, bites = FakeClock(), []
    dog = Watchdog(clock, 120, lambda: bites.append(True))
    stuck = threading.Thread(target=dog.enter)
    stuck.start()
    stuck.join()

    clock.advance(130)
    dog.enter()
    dog.leave()

    assert dog.look()
