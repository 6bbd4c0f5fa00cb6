# SPDX-License-Identifier: ZPL-2.1
"""Going back in a worker's transaction."""

from __future__ import annotations

import pytest
from persistent.mapping import PersistentMapping
from ZODB.POSException import ReadConflictError

from wsgi_zasync.manager.context import PutState, Written
from wsgi_zasync.testing import deployment_of, memory_db
from wsgi_zasync.worker.callbacks.savepoint import Savepoint
from wsgi_zasync.worker.desk import Desk, Writing


@pytest.fixture
def db():
    database = memory_db()
    with database.transaction() as connection:
        connection.root()["users"] = PersistentMapping(ann="editor")
        connection.root()["shelf"] = PersistentMapping()
    yield database
    database.close()


@pytest.fixture
def desk(db):
    found = Desk(db, "main")
    yield found
    found.close()


def writing_of(desk, transaction):
    return Writing(transaction, desk.connection, desk.open_store(), None, None, lambda: 0)


def test_what_a_decision_rests_on_must_stay_even_if_it_was_written_and_that_undone(db, desk):
    with desk.transaction() as transaction:
        writing = writing_of(desk, transaction)
        users = writing.root["users"]
        users._p_activate()
        desk.connection.readCurrent(users)
        writing.root["shelf"]["allowed"] = users["ann"]

        before = Savepoint(writing, deployment_of({}))
        users["ann"] = "owner"
        desk.connection.savepoint()
        before.rollback()
        with db.transaction() as other:
            other.root()["users"]["ann"] = "nobody"

        with pytest.raises(ReadConflictError):
            transaction.commit()


def test_what_was_undone_is_not_told(desk):
    deployment = deployment_of({})
    with desk.transaction() as transaction:
        writing = writing_of(desk, transaction)
        state = PutState.of(transaction, deployment)
        kept = Written(b"1", b"kept", (0, 0, 0), "echo", ("", "ann"), "put")
        state.written.append(kept)

        before = Savepoint(writing, deployment)
        state.written.append(Written(b"2", b"undone", (0, 0, 0), "echo", ("", "ann"), "put"))
        before.rollback()

        assert state.written == [kept]


def test_a_transaction_that_has_told_nothing_yet_tells_nothing_after_going_back(desk):
    deployment = deployment_of({})
    with desk.transaction() as transaction:
        writing = writing_of(desk, transaction)

        before = Savepoint(writing, deployment)
        state = PutState.of(transaction, deployment)
        state.written.append(Written(b"2", b"undone", (0, 0, 0), "echo", ("", "ann"), "put"))
        before.rollback()

        assert state.written == []
