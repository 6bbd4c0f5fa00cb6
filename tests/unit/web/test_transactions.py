# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import pytest
from ZODB.POSException import ConflictError

from wsgi_zasync.errors import StoreConflict
from wsgi_zasync.web.transactions import in_transaction


def tried(db, errors, attempts=3):
    """What a transaction says whose tries fail with these errors, and how many there were."""
    tries, left = [], list(errors)

    def work(connection):
        tries.append(connection)
        connection.root()["n"] = len(tries)
        if left:
            raise left.pop(0)
        return len(tries)

    try:
        result = in_transaction(db, work, attempts=attempts)
    except Exception as exc:
        result = exc
    assert [each for each in db.connectionDebugInfo() if each["opened"]] == []
    with db.transaction() as connection:
        assert connection.root().get("n") == (result if isinstance(result, int) else None)
    return result, len(tries)


@pytest.mark.parametrize("conflict", [ConflictError("taken"), StoreConflict("taken")])
def test_what_meets_conflicts_is_tried_again(db, conflict):
    assert tried(db, 2 * [conflict]) == (3, 3)


@pytest.mark.parametrize("conflict", [ConflictError("taken"), StoreConflict("taken")])
def test_the_last_conflict_is_the_answer(db, conflict):
    assert tried(db, 3 * [conflict]) == (conflict, 3)


def test_what_is_no_conflict_is_not_tried_again(db):
    error = ValueError("wrong")
    assert tried(db, [error]) == (error, 1)
