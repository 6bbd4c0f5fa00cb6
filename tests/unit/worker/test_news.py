# SPDX-License-Identifier: ZPL-2.1
"""An idle worker wakes for what was written: no put may go unnoticed, whatever it writes."""

from __future__ import annotations

import random

import pytest
import transaction

from wsgi_zasync.call import CallRecord
from wsgi_zasync.store import open_store
from wsgi_zasync.store.lanes import MOST_OPEN
from wsgi_zasync.testing import memory_db
from wsgi_zasync.worker.acceptor import _what_changes_with_news

QUEUES = ("default", "slow")


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


@pytest.mark.parametrize("seed", range(4))
def test_each_put_and_note_writes_something_that_is_watched(connection, seed):
    chance = random.Random(seed)
    store = next_transaction(connection)
    area = store.register_worker("worker", {"echo": None}, QUEUES)
    for _ in range(300):
        # Given a worker that looks now and then, and takes some of what is there
        store = next_transaction(connection)
        if chance.random() < 0.5:
            limit = chance.choice((1, 40))
            store.accept(area, range(2), QUEUES, ("echo",), limit, now=0)
            store = next_transaction(connection)
        watched = _what_changes_with_news(store.site, QUEUES)
        # When
        record = CallRecord()
        record.seed = chance.randbytes(16)
        record.plugin = "echo"
        record.owner = ("", f"owner{chance.randrange(MOST_OPEN + 5)}")
        record.queue = chance.choice(QUEUES)
        store.add(record, chance.randrange(2))
        if chance.random() < 0.2:
            store = next_transaction(connection)
            watched = _what_changes_with_news(store.site, QUEUES)
            record.cancel(1)
            store.post_note(record, chance.randrange(2))
        # Then
        assert watched & {each._p_oid for each in connection._registered_objects}


def test_what_workers_write_is_not_watched(connection):
    """Else they would wake each other for ever."""
    store = next_transaction(connection)
    area = store.register_worker("worker", {"echo": None}, QUEUES)
    record = CallRecord()
    record.seed, record.plugin, record.owner = b"s" * 16, "echo", ("", "ann")
    store.add(record, 0)
    store = next_transaction(connection)

    assert store.accept(area, range(2), QUEUES, ("echo",), 10, now=0).calls
    record.succeed(None, 1)
    store.count_end(area.tallies, record)

    written = {each._p_oid for each in connection._registered_objects}
    assert not _what_changes_with_news(store.site, QUEUES) & written
