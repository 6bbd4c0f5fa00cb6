# SPDX-License-Identifier: ZPL-2.1
"""How workers find calls: by reading the segments of owners' indexes that are open."""

from __future__ import annotations

import pytest
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError

from wsgi_zasync.store import index
from wsgi_zasync.store.lanes import MOST_OPEN

ANN = ("", "ann")
BOB = ("", "bob")
STRANGERS = [("", f"stranger{number}") for number in range(MOST_OPEN)]


def ids(calls):
    return [call.id for call in calls]


def segment_of(store, owner, lane=0):
    """The last segment of the owner's index."""
    segments = store.site.lanes[lane].owners[f"\0{owner[1]}"].segments
    return segments[segments.maxKey()]


def put_open(store, put, owner):
    """Put so that the owner's segment is open."""
    records = put(store, 2, owner=owner)
    assert segment_of(store, owner).is_open
    return records


def put_for_strangers(store, put):
    """Open so many segments that all which were open before are closed."""
    for stranger in STRANGERS:
        put_open(store, put, stranger)


def test_a_put_into_an_open_segment_writes_nothing_else_than_the_call(one, put):
    # Given twenty owners who put again and again
    with one.writing() as store:
        for _ in range(3):
            for stranger in STRANGERS[:20]:
                put(store, owner=stranger)
    for stranger in STRANGERS[:20]:
        store = one.begin()
        # When
        (record,) = put(store, owner=stranger)
        # Then
        assert one.connection._registered_objects == [record]
        assert record in segment_of(store, stranger).calls
        one.abort()


@pytest.mark.parametrize("before", [1, 2])
def test_a_put_for_which_the_log_cannot_be_read_writes_no_call(
    one, put, register, accept, monkeypatch, before
):
    """An application may go on after the error, and commit: nobody would ever run the call."""
    # Given ann's segment, which is not open
    area = register(one)
    with one.writing() as store:
        wanted = ids(put(store, before))
        put_for_strangers(store, put)
    with one.writing() as store:
        tail = store.site.lanes[0].inboxes["default", 1].tail
        tail._p_deactivate()
        storage = one.connection._storage
        inner = storage.load

        def load(oid, *rest):
            if oid == tail._p_oid:
                raise ClientDisconnected("away for a moment")
            return inner(oid, *rest)

        # When
        monkeypatch.setattr(storage, "load", load)
        with pytest.raises(ClientDisconnected):
            put(store)
        monkeypatch.undo()
    # Then
    with one.reading() as store:
        assert ids(store.oldest(ANN)) == wanted
    with one.writing() as store:
        wanted += ids(put(store))
    with one.writing():
        assert [c.id for c in accept(one, area).calls if c.owner == ANN] == wanted


@pytest.mark.parametrize("who_is_first", ["the put", "the one that closes"])
def test_a_put_and_the_closing_of_its_segment_conflict(
    one, two, put, register, accept, who_is_first
):
    """Two processes in one lane: what a worker sees closed must be all there is in it."""
    # Given ann's segment, which is open, and has been read
    area = register(one)
    with one.writing() as store:
        put_open(store, put, ANN)
    with one.writing():
        accept(one, area)
    with two.reading():
        pass
    # When one puts into it, and another closes it by opening many others
    (record,) = put(one.begin(), owner=ANN)
    call_id = record.id
    put_for_strangers(two.begin(), put)
    first, second = (one, two) if who_is_first == "the put" else (two, one)
    first.commit()
    # Then
    with pytest.raises(ConflictError):
        second.commit()
    second.abort()
    with two.writing():
        found = ids(accept(two, area).calls)
    assert (call_id in found) is (who_is_first == "the put")


def test_a_closed_segment_is_opened_for_who_puts_again_soon(one, put, register, accept):
    # Given a segment that was closed, and is not read any more
    area = register(one)
    with one.writing() as store:
        put(store, 3, owner=ANN)
        put_for_strangers(store, put)
        assert not segment_of(store, ANN).is_open
    with one.writing() as store:
        accept(one, area)
        reading = store.site.lanes[0].inboxes["default", 1].cursor.reading
        assert segment_of(store, ANN) not in [segment for segment, _ in reading]
    # When
    wanted = []
    for is_open in (False, True, True):
        with one.writing() as store:
            wanted += ids(put(store, owner=ANN))
            assert segment_of(store, ANN).is_open is is_open
    # Then nothing of before comes again
    with one.writing():
        assert ids(accept(one, area).calls) == wanted


def test_nothing_is_opened_or_closed_for_many_who_put_now_and_then(one, put):
    owners = [("", f"o{number}") for number in range(MOST_OPEN + 8)]
    for _ in range(3):
        for owner in owners:
            store = one.begin()
            put(store, owner=owner)
            # The call, its owner's segment, the log; at the first time also what is new
            written = len(one.connection._registered_objects)
            one.commit()
    assert written <= 3
    with one.reading() as store:
        assert store.site.lanes[0].inboxes["default", 1].open == ()


@pytest.mark.parametrize("limit", [1, 100])
def test_a_segment_closed_and_opened_again_between_two_looks_is_read_on(
    one, put, register, accept, limit
):
    area = register(one)
    with one.writing() as store:
        put_open(store, put, ANN)
    with one.writing():
        assert len(accept(one, area).calls) == 2
    with one.writing() as store:
        wanted = ids(put(store, owner=ANN))
        put_for_strangers(store, put)
        wanted += ids(put_open(store, put, ANN))
    found, calls = [], True
    while calls:
        with one.writing():
            calls = accept(one, area, limit).calls
            found += [call.id for call in calls if call.owner == ANN]
    assert found == wanted


@pytest.mark.parametrize("limit", [3, 20, 100])
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("end", ["open", "closed", "full"])
def test_no_opening_of_a_segment_repeats_the_calls_of_another(
    one, put, register, accept, monkeypatch, limit, is_known, end
):
    """A worker that looks late finds several openings of one segment in the log."""
    # Given a segment that the worker reads, or has never seen, none of the small ones
    monkeypatch.setattr(index, "_FIRST_SIZES", ())
    area = register(one)
    found = []

    def look():
        calls = True
        while calls:
            with one.writing():
                calls = accept(one, area, limit).calls
                found.extend(call.id for call in calls if call.owner == ANN)

    with one.writing() as store:
        put_open(store, put, ANN)
    if is_known:
        look()
    # When it is closed and opened again and again
    with one.writing() as store:
        for _ in range(2):
            put_for_strangers(store, put)
            put_open(store, put, ANN)
            put(store, owner=ANN)
        if end == "closed":
            put_for_strangers(store, put)
        segment = segment_of(store, ANN)
        assert len(segment.closings) == (3 if end == "closed" else 2)
        if end == "full":
            put(store, 40, owner=ANN)
    look()
    # Then
    with one.reading() as store:
        assert found == ids(store.oldest(ANN))


def test_a_segment_is_opened_again_while_a_worker_lets_go_of_it(one, two, put, register, accept):
    # Given a closed segment of which the worker has not read the last calls
    area = register(one)
    with one.writing() as store:
        put_open(store, put, ANN)
        put_for_strangers(store, put)
    # When the worker reads it and lets go, while it is opened again
    two.begin()
    first = accept(two, area).calls
    with one.writing() as store:
        wanted = ids(put_open(store, put, ANN))
    assert len(first) == 2 + 2 * MOST_OPEN
    two.commit()
    # Then
    with two.writing():
        assert ids(accept(two, area).calls) == wanted


def test_owners_wait_for_no_more_than_the_rest_of_a_segment(one, put, register, accept):
    """Of those who put again and again one with very many calls is taken 32 at a time."""
    area = register(one)
    with one.writing() as store:
        put(store, 200, owner=ANN)
        put_open(store, put, BOB)
        put(store, 200, owner=ANN)
    with one.writing():
        accept(one, area, limit=226)
    with one.writing() as store:
        late = ids(put(store, owner=BOB))
    with one.writing():
        assert set(late) <= set(ids(accept(one, area, limit=33).calls))


def test_what_was_forgotten_before_it_was_read_is_passed_by(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        records = put(store, 40)
        wanted = ids(records[1:])
        records[0].cancel(1)
        store.count_end(store.site.lanes[0].tallies, records[0])
    with one.writing() as store:
        store.forget(one.get(records[0]._p_oid), store.site.lanes[0].tallies)
    with one.writing():
        accepted = accept(one, area)
        assert ids(accepted.calls) == wanted
        assert accepted.notes == ()


def test_a_worker_of_one_queue_takes_nothing_of_an_owners_other_queues(one, put, register, accept):
    # Given one owner's calls of two queues and two priorities in turn
    area = register(one)
    queues, priorities = ("default", "slow"), (0, 1)
    wanted = {}
    for number in range(160):
        queue, priority = queues[number % 2], priorities[number // 2 % 2]
        with one.writing() as store:
            (record,) = put(store, queue=queue, priority=priority)
            wanted.setdefault((queue, priority), []).append(record.id)
    # Then each queue's worker finds its own, better priorities first
    for queue in queues:
        with one.writing():
            calls = accept(one, area, limit=1_000, queues=(queue,)).calls
            assert ids(calls) == wanted[queue, 0] + wanted[queue, 1]
    # and the owner sees all of them, in the order of the puts
    with one.reading() as store:
        records = list(store.oldest(ANN))
        assert ids(records) == sorted(
            (i for part in wanted.values() for i in part),
            key=lambda i: store.find(ANN, i).created,
        )
        assert list(store.newest(ANN)) == records[::-1]
        middle = records[80]
        newest = [r for r in store.newest(ANN, middle.created) if r.created <= middle.created]
        assert newest == records[80::-1]
        assert store.tally(ANN).stored == 160
    # and may forget them
    with one.writing() as store:
        for record in list(store.oldest(ANN)):
            record.cancel(1)
            store.count_end(store.site.lanes[0].tallies, record)
            store.forget(record, store.site.lanes[0].tallies)
    with one.reading() as store:
        assert list(store.oldest(ANN)) == []
        assert store.tally(ANN).stored == 0
        segments = store.site.lanes[0].owners["\0ann"].segments
        # Of each chain only the last segment is left, which a put may be writing.
        assert len([segment for segment in segments.values() if segment is not None]) == 4
