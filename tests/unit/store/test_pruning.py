# SPDX-License-Identifier: ZPL-2.1
"""Pruning forgets what is over, once through all calls, in parts."""

from __future__ import annotations

import os

import pytest
import transaction

from wsgi_zasync.call import CallRecord
from wsgi_zasync.store import index, open_store, pruning
from wsgi_zasync.store.mailbox import Mail
from wsgi_zasync.testing import memory_db

SECOND = 1_000_000
KEEP = 100.0


@pytest.fixture
def store():
    db = memory_db()
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(transaction_manager=manager)
    store = open_store(connection)
    for lane in range(3):
        store.site.claims[lane] = "test"
    yield store
    manager.abort()
    connection.close()
    db.close()


@pytest.fixture
def put(store):
    """Puts a call at a second, ended a second later unless it stays open."""

    def put_one(second, owner="ann", lane=0, ended=True, **attributes):
        call = CallRecord()
        call.seed = os.urandom(16)
        call.owner = ("", owner)
        call.plugin = "t.add"
        call.created = second * SECOND
        for name, value in attributes.items():
            setattr(call, name, value)
        record = store.add(call, lane)
        if ended:
            record.succeed("result", (second + 1) * SECOND)
            store.count_end(store.site.lanes[lane].tallies, record)
        return record

    return put_one


def passed(store, now, **more):
    """One whole pass at a second; returns what each part did."""
    parts, begin = [], pruning.Position()
    while begin is not None:
        part = pruning.prune(
            store,
            lambda record: store.site.lanes[0].tallies,
            now * SECOND,
            KEEP,
            begin=begin,
            **more,
        )
        parts.append(part.count)
        begin = part.next
    return parts


def test_a_call_is_forgotten_when_its_time_is_over_and_not_a_microsecond_before(store, put):
    record = put(5)

    assert sum(passed(store, 6 + KEEP - 1e-6)) == 0
    assert sum(passed(store, 6 + KEEP)) == 1
    assert record.forgotten
    assert store.tally(("", "ann")).stored == 0


def test_one_pass_in_parts_forgets_all_owners_calls_once(store, put):
    for number in range(300):
        put(number, owner=f"user{number % 7}", lane=number % 3)

    parts = passed(store, 1_000, limit=50)

    assert sum(parts) == 300
    assert len(parts) > 1
    assert max(parts) < 50 + 32
    assert sum(passed(store, 1_000)) == 0
    assert all(store.tally(("", f"user{n}")).stored == 0 for n in range(7))


def test_what_has_a_keep_of_its_own_is_kept_so_long(store, put):
    short, long = put(0, keep=10.0), put(0, keep=1_000.0)

    assert sum(passed(store, 11)) == 1
    assert short.forgotten
    assert sum(passed(store, 1_000)) == 0
    assert not long.forgotten


def test_open_calls_and_those_of_which_something_is_owed_stay(store, put):
    put(0, ended=False)
    put(0, callbacks=(("success", "result", None, None, "pending", None, None),))
    mailed = put(0)
    store.write_mail(mailed, Mail(callbacks=(("any", "x", None, None, "pending", None, None),)))
    put(0, callbacks=(("failure", "result", None, None, "pending", None, None),))

    assert sum(passed(store, 1_000)) == 1


def test_segments_of_young_calls_are_passed_by_without_reading_one(store, put):
    # Given 100 calls that are too young
    for _ in range(100):
        put(5_000)
    transaction_manager = store.connection.transaction_manager
    transaction_manager.commit()
    transaction_manager.begin()
    store.connection.cacheMinimize()
    # When
    fresh = open_store(store.connection)
    assert sum(passed(fresh, 5_000)) == 0
    # Then
    loaded = [o for o in store.connection._cache.lru_items() if type(o[1]) is CallRecord]
    assert loaded == []


def test_what_was_erased_in_the_last_segment_goes_once_that_is_full(store, put):
    # Given calls forgotten by their owner while their segment was the last one
    for record in [put(0) for _ in range(1 + 4)]:
        store.forget(record, store.site.lanes[0].tallies)
    anns = store.site.lanes[0].owners["\0ann"]
    put(2_000)
    assert anns.segments[1] is not None
    # When
    passed(store, 2_000)
    # Then
    assert anns.segments[1] is None
    (oldest,) = anns.oldest()
    assert [record.created for record in oldest] == [2_000 * SECOND]


def test_a_record_that_cannot_be_read_keeps_no_other_of_its_segment(store, put, monkeypatch):
    records = [put(0) for _ in range(1 + 4 + 1)]
    monkeypatch.setattr(
        index, "why_unreadable", lambda record: "spoilt" if record is records[2] else None
    )
    monkeypatch.setattr(pruning, "why_unreadable", index.why_unreadable)

    assert sum(passed(store, 1_000)) == 5

    segment = store.site.lanes[0].owners["\0ann"].segments[1]
    assert [call for call in segment.calls if call is not None] == [records[2]]
    monkeypatch.undo()
    assert sum(passed(store, 1_000)) == 1


def test_a_dry_run_names_the_same_calls(store, put):
    wanted = {put(number).id for number in range(40)}
    put(2_000)

    found = {record.id for record in pruning.prunable(store, 1_000 * SECOND, KEEP)}

    assert found == wanted
