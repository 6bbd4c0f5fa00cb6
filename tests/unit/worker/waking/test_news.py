# SPDX-License-Identifier: ZPL-2.1
"""An idle worker wakes for what was written: no put may go unnoticed, whatever it writes."""

from __future__ import annotations

import random

import pytest
import transaction

from wsgi_zasync.call import CallRecord
from wsgi_zasync.store import open_store
from wsgi_zasync.store.accepting import Wanted, accept
from wsgi_zasync.store.lanes import MOST_OPEN
from wsgi_zasync.store.parking import leave
from wsgi_zasync.testing import memory_db
from wsgi_zasync.worker.waking.news import what_changes_with_news

QUEUES = ("default", "slow")
OURS = frozenset(range(2))


@pytest.fixture
def connection():
    db = memory_db()
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(transaction_manager=manager)
    store = open_store(connection)
    for lane in range(2):
        store.site.claims[lane] = "test"
    yield connection
    manager.abort()
    connection.close()
    db.close()


def next_transaction(connection):
    connection.transaction_manager.commit()
    connection.transaction_manager.begin()
    return open_store(connection)


@pytest.mark.parametrize("ours", [OURS, frozenset(), frozenset({0})])
@pytest.mark.parametrize("seed", range(4))
def test_each_put_and_note_writes_something_that_is_watched(connection, seed, ours):
    chance = random.Random(seed)
    store = next_transaction(connection)
    area = store.register_worker("worker", {"echo": None}, QUEUES)
    other = store.register_worker("other", {"echo": None}, QUEUES)
    watched, is_awake = frozenset(), True

    def check():
        nonlocal is_awake
        written = {each._p_oid for each in connection._registered_objects}
        is_awake = is_awake or not written.isdisjoint(watched)
        assert is_awake

    for _ in range(400):
        # Given a worker that looks when it is awake, and takes all there is in its lanes or knows
        # that there is more, and another one that accepts from the other lanes
        store = next_transaction(connection)
        if chance.random() < 0.3:
            theirs = OURS - ours
            wanted = Wanted(sorted(theirs), QUEUES, ("echo",), chance.choice((1, 40)))
            accept(store, other, wanted, 0)
            store = next_transaction(connection)
        if is_awake and chance.random() < 0.7:
            limit = chance.choice((1, 40))
            accepted = accept(store, area, Wanted(sorted(ours), QUEUES, ("echo",), limit), 0)
            watched = what_changes_with_news(store.site, QUEUES, ours)
            is_awake = accepted.is_full
            store = next_transaction(connection)
        # When
        call = CallRecord()
        call.seed = chance.randbytes(16)
        call.plugin = "echo"
        call.owner = ("", f"owner{chance.randrange(MOST_OPEN + 5)}")
        call.queue = chance.choice(QUEUES)
        record = store.add(call, chance.randrange(2))
        # Then
        check()
        if chance.random() < 0.2:
            store = next_transaction(connection)
            record.cancel(1)
            store.post_note(record, chance.randrange(2))
            check()


def test_what_workers_write_is_not_watched(connection):
    """Else they would wake each other for ever."""
    store = next_transaction(connection)
    area = store.register_worker("worker", {"echo": None}, QUEUES)
    call = CallRecord()
    call.seed, call.plugin, call.owner = b"s" * 16, "echo", ("", "ann")
    record = store.add(call, 0)
    store = next_transaction(connection)

    assert accept(store, area, Wanted(range(2), QUEUES, ("echo",), 10), 0).calls
    record.succeed(None, 1)
    store.count_end(area.tallies, record)

    written = {each._p_oid for each in connection._registered_objects}
    assert not what_changes_with_news(store.site, QUEUES, OURS) & written


def test_each_call_that_is_left_to_others_writes_something_that_is_watched(connection):
    for created in range(100):
        store = next_transaction(connection)
        watched = what_changes_with_news(store.site, QUEUES, OURS)
        record = CallRecord()
        record.plugin, record.created = "echo", created
        connection.add(record)
        before = set(map(id, connection._registered_objects))

        leave(store.site, record)

        written = [o for o in connection._registered_objects if id(o) not in before]
        assert not watched.isdisjoint(each._p_oid for each in written)
