# SPDX-License-Identifier: ZPL-2.1
"""Who conflicts with whom, and who never does: two clients with open transactions at once."""

from __future__ import annotations

import hashlib

import pytest
from ZODB.POSException import ConflictError

from wsgi_zasync.errors import CallIsFinal
from wsgi_zasync.store.mailbox import Mail
from wsgi_zasync.store.parking import FIRST, take_overdue

ANN = ("", "ann")
BOB = ("", "bob")

#: What a storage may raise when two transactions do not go together.
CONFLICT = ConflictError


def digest(key):
    return hashlib.blake2b(key.encode(), digest_size=16).digest()


@pytest.fixture
def prepared(one, two, put, register):
    """A store in which each lane and owner has had calls, and a worker; returns its area."""
    with one.writing() as store:
        for lane in range(3):
            put(store, lane=lane)
            put(store, lane=lane, owner=BOB)
    area = register(one)
    with two.reading():
        pass
    return area


def test_puts_into_different_lanes_never_conflict(one, two, put, prepared):
    # Given both have put and neither has committed, one owner or two
    for number in range(70):
        put(one.begin(), lane=0, owner=ANN)
        put(two.begin(), lane=1, owner=(ANN, BOB)[number % 2])
        one.commit()
        two.commit()
    # Then
    with one.reading() as store:
        assert store.tally(ANN).open == 3 + 70 + 35


def test_two_puts_into_one_lane_conflict_and_the_second_is_put_again(one, two, put, prepared):
    (first,) = put(one.begin(), lane=0)
    (second,) = put(two.begin(), lane=0)
    first_id = first.id
    one.commit()
    with pytest.raises(CONFLICT):
        two.commit()
    two.abort()

    with two.writing() as store:
        (second,) = put(store, lane=0)
        second_id = second.id
    with one.reading() as store:
        assert store.find(ANN, first_id)
        assert store.find(ANN, second_id)
        assert store.tally(ANN).open == 5


def test_puts_and_accepts_of_one_lane_do_not_conflict(one, two, put, accept, prepared):
    # When a producer crosses segments while a worker empties them
    total, got = 6, 0
    for _ in range(20):
        put(one.begin(), 5, lane=0)
        two.begin()
        got += len(accept(two, prepared, limit=7).calls)
        one.commit()
        two.commit()
        total += 5
    with two.writing():
        got += len(accept(two, prepared, limit=1_000).calls)
    # Then none was lost, none came twice
    assert got == total
    with two.reading():
        held = [c for chunk in two.get(prepared).chunks.values() for c in chunk.calls]
        assert len({call._p_oid for call in held}) == len(held) == total


def test_two_workers_at_one_lane_conflict_and_no_call_is_accepted_twice(
    one, two, put, register, accept, prepared
):
    other = register(two, "other")
    one.begin()
    mine = accept(one, prepared)
    two.begin()
    accept(two, other)
    assert mine.calls
    one.commit()
    with pytest.raises(CONFLICT):
        two.commit()
    two.abort()

    with two.writing():
        assert accept(two, other).calls == ()


def test_completions_of_two_workers_do_not_conflict(one, two, put, register, accept, prepared):
    other = register(two, "other")
    with one.writing() as store:
        put(store, 2, lane=3)
    with one.writing():
        mine = accept(one, prepared, limit=1, lanes=[3]).calls[0]._p_oid
    with two.writing():
        theirs = accept(two, other, limit=1, lanes=[3]).calls[0]._p_oid

    for session, area, oid in ((one, prepared, mine), (two, other, theirs)):
        store = session.begin()
        record = session.get(oid)
        record.succeed("done", 1)
        store.count_end(session.get(area).tallies, record)
    one.commit()
    two.commit()

    with one.reading() as store:
        assert store.tally(ANN).open == 3
        assert store.tally(ANN).stored == 5


def test_threads_of_one_worker_count_ends_without_conflicts(one, two, put, prepared):
    with one.writing() as store:
        oids = [record._p_oid for record in put(store, 2, lane=3)]
    for number, (session, oid) in enumerate(zip((one, two), oids, strict=True)):
        store = session.begin()
        area = session.get(prepared)
        area.hold()
        record = session.get(oid)
        record.succeed(None, 1)
        store.count_end(area.thread_tallies[number], record)
    one.commit()
    two.commit()

    with one.reading() as store:
        assert store.tally(ANN).open == 3


def test_a_put_and_the_end_of_a_call_of_the_same_owner_do_not_conflict(one, two, put, prepared):
    with one.writing() as store:
        (record,) = put(store, lane=0)
        oid = record._p_oid
    put(one.begin(), lane=0)
    store = two.begin()
    record = two.get(oid)
    record.succeed(None, 1)
    store.count_end(two.get(prepared).tallies, record)
    one.commit()
    two.commit()


def test_a_put_and_the_forgetting_of_old_calls_do_not_conflict(clients, one, two, put, prepared):
    if clients.kind == "mapping":
        pytest.skip("a MappingStorage resolves no conflicts of BTrees")
    # Given two full segments of final calls
    with one.writing() as store:
        records = put(store, 70, lane=3)
        ids = [record.id for record in records[:32]]
        for record in records:
            record.cancel(1)
            store.count_end(store.site.lanes[2].tallies, record)
    # When all calls of the first are forgotten while the lane's producer fills the third
    put(one.begin(), 40, lane=3)
    store = two.begin()
    for call_id in ids:
        store.forget(store.find(ANN, call_id), two.get(prepared).tallies)
    one.commit()
    two.commit()
    # Then
    with one.reading() as store:
        assert store.tally(ANN).stored == 3 + 70 + 40 - 32
        assert len(list(store.newest(ANN))) == 3 + 70 + 40 - 32


def test_a_cancel_and_a_completion_conflict_whoever_is_first(one, two, put, prepared):
    for first, second in ((one, two), (two, one)):
        with one.writing() as store:
            (record,) = put(store)
            oid = record._p_oid
        one.begin()
        one.get(oid).cancel(1)
        two.begin()
        two.get(oid).succeed("done", 1)
        first.commit()
        with pytest.raises(CONFLICT):
            second.commit()
        second.abort()
        # The second looks again, and finds that the call has ended.
        second.begin()
        with pytest.raises(CallIsFinal):
            second.get(oid).cancel(2)
        second.abort()


def test_mail_for_a_call_that_ends_meanwhile_conflicts(one, two, put, prepared):
    # Given
    with one.writing() as store:
        (record,) = put(store)
        oid = record._p_oid
    # When mail is written while the call ends, and the end is committed first
    store = two.begin()
    store.write_mail(two.get(oid), Mail(cancel_requested=True))
    with one.writing():
        one.get(oid).succeed("done", 1)
    # Then the mail is refused: nobody would read it
    with pytest.raises(CONFLICT):
        two.commit()


def test_mail_never_makes_a_completion_conflict(one, two, put, prepared):
    with one.writing() as store:
        (record,) = put(store)
        oid = record._p_oid
    one.begin()
    one.get(oid).succeed("hours of work", 1)
    with two.writing() as store:
        store.write_mail(two.get(oid), Mail(callbacks=(("any", "nothing"),)))
    one.commit()

    with one.reading() as store:
        record = one.get(oid)
        assert record.state == "succeeded"
        # It came in time, and the worker finds it there after its commit.
        assert store.mail(record).callbacks == (("any", "nothing"),)


def test_mail_of_two_calls_of_one_segment_is_kept_apart(one, put):
    with one.writing() as store:
        _, first, second = put(store, 3)
        store.write_mail(first, Mail(cancel_requested=True))
        store.write_mail(second, Mail(messages=("hello",)))
        assert store.mail(first) == Mail(cancel_requested=True)
        assert store.mail(second) == Mail(messages=("hello",))
        assert first.mailbox is second.mailbox


def test_a_unique_call_that_is_returned_while_it_is_accepted_conflicts(
    one, two, put, accept, prepared
):
    """A put that takes an open call for its own must not be told so after the work began."""
    # Given
    with one.writing() as store:
        accept(one, prepared)
        (record,) = put(store, lane=3)
        store.set_unique(digest("nightly"), record)
    # When the put returns it, having written something of its own
    store = two.begin()
    assert store.unique_call(digest("nightly")) is not None
    put(store, lane=1, owner=BOB)
    # and it is accepted meanwhile
    with one.writing():
        assert len(accept(one, prepared).calls) == 1
    # Then
    with pytest.raises(CONFLICT):
        two.commit()


def test_two_workers_that_find_one_call_to_be_too_late_conflict(one, two, put, register, accept):
    areas = {one: register(one, "one"), two: register(two, "two")}
    with one.writing() as store:
        (late,) = put(store, plugin="t.strange", expires=50)
        wanted = late.id
    with one.writing():
        accept(one, areas[one])
    for session, area in areas.items():
        overdue, _ = take_overdue(session.begin().site, 50, FIRST, 10)
        notes = accept(session, area, now=50, overdue=overdue).notes
        assert [record.id for record in notes] == [wanted]

    one.commit()

    with pytest.raises(CONFLICT):
        two.commit()


def test_two_puts_with_one_unique_key_conflict(one, two, put, prepared):
    store = one.begin()
    store.set_unique(digest("nightly"), put(store, lane=0)[0])
    store = two.begin()
    assert store.unique_call(digest("nightly")) is None
    store.set_unique(digest("nightly"), put(store, lane=1)[0])
    one.commit()
    with pytest.raises(CONFLICT):
        two.commit()
    two.abort()

    assert two.begin().unique_call(digest("nightly")) is not None


def test_a_unique_key_is_free_once_its_call_has_ended_or_is_forgotten(one, put):
    with one.writing() as store:
        first, second = put(store, 2)
        store.set_unique(digest("a"), first)
        store.set_unique(digest("b"), second)
        first.cancel(1)
        second.cancel(1)
        store.forget(second, store.site.lanes[0].tallies)
    with one.reading() as store:
        assert store.unique_call(digest("a")) is None
        assert store.unique_call(digest("b")) is None
        assert store.unique_call(digest("c")) is None


def test_unique_keys_go_with_their_calls(one, put):
    keys = {digest("a"), digest("b"), digest("c")}
    with one.writing() as store:
        records = put(store, 3)
        for key, record in zip(keys, records, strict=True):
            store.set_unique(key, record)
            record.cancel(1)
        # One is another call's by now
        (later,) = put(store)
        taken = records[0].unique
        store.set_unique(taken, later)
        for record in records:
            store.forget(record, store.site.lanes[0].tallies)
    with one.reading() as store:
        assert {key for tree in store.site.keys for key in tree} == {taken}
        assert store.unique_call(taken).id == later.id


def test_a_put_and_the_forgetting_of_the_call_that_had_its_unique_key_conflict(
    one, two, put, prepared
):
    # Given a call that has ended, and others with keys in the same tree
    with one.writing() as store:
        records = put(store, 3)
        keys = [digest("nightly")[:1] + bytes([n]) * 15 for n in range(3)]
        for key, record in zip(keys, records, strict=True):
            store.set_unique(key, record)
        records[1].cancel(1)
        oid = records[1]._p_oid
    # When the key is given to a new call while the old one is forgotten
    store = one.begin()
    (new,) = put(store, lane=1)
    store.set_unique(keys[1], new)
    store = two.begin()
    store.forget(two.get(oid), two.get(prepared).tallies)
    one.commit()
    # Then the new one keeps it
    with pytest.raises(CONFLICT):
        two.commit()
    two.abort()
    with two.writing() as store:
        store.forget(two.get(oid), two.get(prepared).tallies)
    with one.reading() as store:
        assert store.unique_call(keys[1]).id == new.id


def test_unique_keys_of_many_puts_do_not_conflict(one, two, put, prepared):
    for number in range(40):
        for session, lane in ((one, 0), (two, 1)):
            store = session.begin()
            store.set_unique(digest(f"{lane} {number}"), put(store, lane=lane)[0])
        one.commit()
        two.commit()
