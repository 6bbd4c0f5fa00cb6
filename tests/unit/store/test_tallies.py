# SPDX-License-Identifier: ZPL-2.1
"""What is counted of an owner's calls, and what counting it writes."""

from __future__ import annotations

import pytest
from BTrees.OOBTree import OOBTree

from wsgi_zasync.store.tallies import (
    ENDS,
    Tallies,
    count_bytes,
    count_end,
    count_forgotten,
    summed,
    take_over,
)
from wsgi_zasync.testing import memory_db

OWNERS = [f"\0owner{number}" for number in range(100)]


def test_an_end_writes_little_although_many_owners_have_calls_that_ended():
    db = memory_db()
    with db.transaction() as connection:
        tallies = connection.root()["tallies"] = Tallies()
        for owner in OWNERS:
            count_end(tallies, owner, "succeeded", 10)

    with db.transaction() as connection:
        count_end(connection.root()["tallies"], OWNERS[50], "failed", 10)

    [written] = list(db.storage.iterator())[-1]
    assert len(written.data) < 500
    db.close()


@pytest.mark.parametrize("of_dead", [Tallies, OOBTree], ids=["new", "of a store made before"])
def test_who_takes_over_adds_what_the_other_has_counted(of_dead):
    ours, others = Tallies(), of_dead()
    for owner in OWNERS:
        count_end(others, owner, "failed", 10)
    count_end(ours, OWNERS[0], "succeeded", 1)
    count_forgotten(others, OWNERS[0], "failed", 15)
    count_bytes(others, OWNERS[0], 3)

    take_over(ours, others)

    first, last = (summed(2, 20, [ours[owner]]) for owner in (OWNERS[0], OWNERS[-1]))
    assert first.by_state == dict.fromkeys(ENDS, 0) | {"succeeded": 1}
    assert (first.open, first.stored, first.bytes) == (0, 1, 20 + 10 - 15 + 3 + 1)
    assert (last.open, last.stored, last.by_state["failed"], last.bytes) == (1, 2, 1, 30)
