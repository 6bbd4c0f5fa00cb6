# SPDX-License-Identifier: ZPL-2.1
"""What a worker with a backlog asks the storage for, before it needs it."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import pytest

from wsgi_zasync.store.accepting import Wanted, read_ahead

BATCH = 20
QUEUES = ("default",)

#: Ways in which a backlog comes: by how many owners, and how many calls of each.
BACKLOGS = {"of few owners": (3, 70), "of many owners, one each": (90, 1)}


@pytest.fixture
def asked(one, monkeypatch):
    """The oids that were asked for."""
    oids = set()
    with one.reading():
        pass  # it is opened by that
    monkeypatch.setattr(one.connection._storage, "prefetch", oids.update, raising=False)
    return oids


@contextmanager
def loaded(session):
    """Gives a set that gets the oids that are loaded meanwhile."""
    oids = set()
    storage = session.connection._storage
    inner = storage.load

    def load(oid, *rest):
        oids.add(oid)
        return inner(oid, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "load", load)
        yield oids


def put_backlog(one, put, owners, each, lane=0):
    with one.writing() as store:
        for _ in range(each):
            for number in range(owners):
                put(store, owner=("", f"owner{number}"), lane=lane)


@pytest.mark.parametrize("kind", BACKLOGS)
def test_nothing_is_asked_for_again_and_again_nor_much_more_than_is_needed(
    one, put, register, accept, monkeypatch, kind
):
    # Given a backlog in each of many lanes
    area = register(one)
    for lane in range(4):
        put_backlog(one, put, *BACKLOGS[kind], lane=lane)
    one.connection.cacheMinimize()
    with one.writing() as store:
        accept(one, area, BATCH)
        asked = []
        monkeypatch.setattr(one.connection._storage, "prefetch", asked.extend, raising=False)
        # When it reads ahead
        read_ahead(store, Wanted(range(4), QUEUES, (), BATCH))
        # Then not in all of them
        assert len(asked) <= 2 * BATCH + 100
        # And not once more
        before = list(asked)
        read_ahead(store, Wanted(range(4), QUEUES, (), BATCH))
        assert asked == before
    for _ in range(5):
        with one.writing() as store:
            assert accept(one, area, BATCH).is_full
            read_ahead(store, Wanted(range(4), QUEUES, (), BATCH))
    # And no more than once ahead, and when it is read, for which a segment may take two accepts
    assert max(Counter(asked).values()) <= 3


@pytest.mark.parametrize("kind", BACKLOGS)
def test_what_the_next_accepts_read_was_asked_for(one, put, register, accept, asked, kind):
    # Given a backlog, and a worker that has nothing in memory
    area = register(one)
    put_backlog(one, put, *BACKLOGS[kind])
    one.connection.cacheMinimize()
    with one.writing() as store:
        assert accept(one, area, BATCH).is_full
        # When it reads ahead
        read_ahead(store, Wanted(range(4), QUEUES, (), BATCH))
    # Then, each time, whatever it has to load was asked for a turn before
    for _ in range(3):
        ahead = set(asked)
        with one.writing() as store, loaded(one) as oids:
            assert accept(one, area, BATCH).is_full
        calls = {oid for oid in oids if hasattr(one.connection.get(oid), "seed")}
        assert len(calls) > 0
        assert calls <= ahead
        with one.writing() as store:
            read_ahead(store, Wanted(range(4), QUEUES, (), BATCH))
