# SPDX-License-Identifier: ZPL-2.1
"""What is counted of an owner's calls, and what counting it writes."""

from __future__ import annotations

from wsgi_zasync.store.tallies import ENDS, Tallies, summed
from wsgi_zasync.testing import memory_db

OWNERS = [f"\0owner{number}" for number in range(100)]


def test_an_end_writes_little_although_many_owners_have_calls_that_ended():
    db = memory_db()
    with db.transaction() as connection:
        tallies = connection.root()["tallies"] = Tallies()
        for owner in OWNERS:
            tallies.count_end(owner, "succeeded", 10)

    with db.transaction() as connection:
        connection.root()["tallies"].count_end(OWNERS[50], "failed", 10)

    [written] = list(db.storage.iterator())[-1]
    assert len(written.data) < 500
    db.close()


def test_who_takes_over_adds_what_the_other_has_counted():
    ours, others = Tallies(), Tallies()
    for owner in OWNERS:
        others.count_end(owner, "failed", 10)
    ours.count_end(OWNERS[0], "succeeded", 1)
    others.count_forgotten(OWNERS[0], "failed", 15)
    others.count_bytes(OWNERS[0], 3)

    ours.take_over(others)

    first, last = (summed(2, 20, [ours[owner]]) for owner in (OWNERS[0], OWNERS[-1]))
    assert first.by_state == dict.fromkeys(ENDS, 0) | {"succeeded": 1}
    assert (first.open, first.stored, first.bytes) == (0, 1, 20 + 10 - 15 + 3 + 1)
    assert (last.open, last.stored, last.by_state["failed"], last.bytes) == (1, 2, 1, 30)
