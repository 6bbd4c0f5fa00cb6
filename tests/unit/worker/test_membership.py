# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import os

import pytest

from tests.integration.stepping import Site
from wsgi_zasync.store import open_store
from wsgi_zasync.store.wakeup import signal_for


@pytest.fixture
def site():
    found = Site()
    found.add("echo", lambda attempt: None)
    yield found
    found.close()


@pytest.fixture
def told(site):
    """What was announced of each commit, and whether a worker said that it was its own."""
    told, memberships = [], []
    unsubscribe = signal_for(site.db).subscribe(
        lambda tid, oids: told.extend((oids, each.is_announcing()) for each in memberships)
    )
    service = site.service("worker")
    memberships.append(service.membership)
    yield service, told
    unsubscribe()


class Watchdog:
    def __init__(self):
        self.noted = []

    def enter(self):
        self.noted.append("enter")

    def leave(self):
        self.noted.append("leave")


class Refuses(Exception):
    pass


class Transaction:
    def __init__(self, noted, error=None):
        self._noted, self._error = noted, error

    def commit(self):
        self._noted.append("commit")
        if self._error is not None:
            raise self._error


def test_an_operator_sees_in_which_process_a_worker_is(site):
    site.service("worker")
    with site.db.transaction() as connection:
        [area] = open_store(connection).areas()
        assert (area.board.host, area.board.pid) == (os.uname().nodename, os.getpid())


def test_a_worker_knows_its_own_commits_from_those_of_others_in_the_same_thread(site, told):
    service, announced = told
    # When it commits, and another one does that uses its thread
    site.put("echo")
    assert [is_its_own for _, is_its_own in announced] == [False]
    site.work(service)
    own = announced[1:]
    site.put("echo")
    # Then it is woken by the others only
    assert own
    assert all(is_its_own for _, is_its_own in own)
    assert announced[-1][1] is False


def test_a_commit_that_comes_about_is_watched_counted_and_announced(told):
    service, announced = told
    watchdog = service.membership._watchdog = Watchdog()
    before = service.membership.commits
    service.membership.commit(Transaction(watchdog.noted), [b"call"])
    assert watchdog.noted == ["enter", "commit", "leave"]
    assert service.membership.commits == before + 1
    assert announced == [(frozenset([b"call"]), True)]
    # One that nobody waits for is not announced
    service.membership.commit(Transaction(watchdog.noted))
    assert len(announced) == 1


def test_a_commit_that_fails_is_watched_no_longer_and_not_told_of(told):
    service, announced = told
    watchdog = service.membership._watchdog = Watchdog()
    before = service.membership.commits
    with pytest.raises(Refuses):
        service.membership.commit(Transaction(watchdog.noted, Refuses()), [b"call"])
    assert watchdog.noted == ["enter", "commit", "leave"]
    assert (service.membership.commits, announced) == (before, [])
