# SPDX-License-Identifier: ZPL-2.1
"""What a worker takes: order, queues, due times, chunks, calls put aside, notes, boards."""

from __future__ import annotations

import pytest
from ZODB.Connection import TransactionMetaData

from wsgi_zasync.store.accepting import FEW, Wanted, read_ahead
from wsgi_zasync.store.lanes import MOST_OPEN
from wsgi_zasync.store.mailbox import Mail
from wsgi_zasync.store.parking import FIRST, count_without, take_overdue
from wsgi_zasync.store.reading import send_together

ANN = ("", "ann")
BOB = ("", "bob")
HIGH, NORMAL, LOW = range(3)


#: A callback that nobody has evaluated.
OWED = ("any", "nothing", None, None, "pending", None, None)


def ids(calls):
    return [call.id for call in calls]


def test_calls_are_accepted_once_in_the_order_of_their_puts(one, put, register, accept):
    # Given 100 calls: three segments and a part of a fourth
    area = register(one)
    with one.writing() as store:
        wanted = ids(put(store, 100))
    # When they are accepted in batches that do not fit the segments
    got = []
    for limit in (1, 30, 1, 32, 50):
        with one.writing():
            accepted = accept(one, area, limit)
            got += ids(accepted.calls)
    # Then
    assert got == wanted
    with one.writing():
        nothing = accept(one, area)
    assert nothing.calls == ()
    with one.reading():
        assert nothing.chunk not in one.get(area).chunks


def test_an_accept_that_was_aborted_took_nothing(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        wanted = ids(put(store, 40))

    one.begin()
    accept(one, area, 35)
    one.abort()

    with one.writing():
        assert ids(accept(one, area).calls) == wanted


def test_the_cursor_stops_at_the_border_of_a_segment_and_goes_on_later(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        put(store, 32)
    with one.writing():
        assert len(accept(one, area).calls) == 32
        assert len(accept(one, area).calls) == 0
    with one.writing() as store:
        late = ids(put(store, 1))
    with one.writing() as store:
        assert ids(accept(one, area).calls) == late


def test_better_priorities_come_first_over_all_lanes_and_queues(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        low = put(store, lane=0, priority=LOW)
        normal = put(store, lane=1)
        other = put(store, lane=2, queue="other", priority=HIGH)
        high = put(store, lane=3, priority=HIGH)
        wanted = ids([*other, *high, *normal, *low])
        foreign = ids(put(store, queue="not ours", priority=HIGH))
    with one.writing():
        accepted = accept(one, area, queues=("default", "other"))
        assert ids(accepted.calls) == wanted
    with one.writing():
        assert ids(accept(one, area, queues=("not ours",)).calls) == foreign


def test_only_the_lanes_asked_for_are_read(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        here, there = ids(put(store, lane=1)), ids(put(store, lane=2))

    with one.writing():
        assert ids(accept(one, area, lanes=[1]).calls) == here
    with one.writing():
        assert ids(accept(one, area, lanes=[1, 2]).calls) == there


def test_a_call_that_is_not_due_waits_in_the_workers_area_until_it_is(one, put, register, accept):
    # Given
    area = register(one)
    with one.writing() as store:
        late = ids(put(store, due=2_000))
        later = ids(put(store, due=3_000))
        now = ids(put(store))
    # When and then
    with one.writing():
        accepted = accept(one, area, now=1_999)
        assert ids(accepted.calls) == now
        assert one.get(area).next_due() == 2_000
    with one.writing():
        assert ids(accept(one, area, now=2_000).calls) == late
    with one.writing():
        assert ids(accept(one, area, now=3_000).calls) == later
        assert one.get(area).next_due() is None


def test_due_calls_beyond_the_limit_come_with_the_next_accept(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        wanted = set(ids(put(store, 5, due=10)))
    with one.writing():
        accept(one, area)
    got = []
    for _ in range(3):
        with one.writing():
            got += ids(accept(one, area, limit=2, now=10).calls)
    assert len(got) == 5
    assert set(got) == wanted


def test_no_more_is_taken_than_was_asked_for_wherever_it_is(one, put, register, accept):
    # Given calls that are due, that were put aside, and that are new, in two lanes
    area = register(one)
    with one.writing() as store:
        put(store, 2, due=5)
        put(store, 2, plugin="t.back")
    with one.writing():
        accept(one, area, now=1)
    with one.writing() as store:
        put(store, 2)
        put(store, 2, lane=1)
    # When as many are asked for as end in the middle of each of them
    taken = []
    for limit in (3, 2, 2, 2):
        with one.writing():
            more = {"now": 5, "plugins": ("t.add", "t.back")}
            taken.append(len(accept(one, area, limit=limit, **more).calls))
    # Then
    assert taken == [3, 2, 2, 1]


def test_it_is_known_which_lane_was_put_into_last(one, put):
    """A process that comes when all lanes are claimed takes one that nobody uses any more."""
    for lane in (2, 1, 3):
        with one.writing() as store:
            put(store, lane=lane)
    with one.reading() as store:
        one.connection.cacheMinimize()
        opened = [store.site.lanes[lane].last_opened() for lane in range(4)]
    assert sorted(range(4), key=opened.__getitem__) == [0, 2, 1, 3]


@pytest.mark.parametrize(
    "places",
    [
        [{"lane": 0}, {"lane": 2}, {"lane": 3}],
        [{"queue": "first"}, {"queue": "second"}],
    ],
)
def test_of_equal_priority_no_lane_and_no_queue_keeps_others_waiting(
    one, put, register, accept, places
):
    # Given a full inbox, and one call in each of others
    area = register(one)
    with one.writing() as store:
        put(store, 40, **places[0])
        wanted = {call.id for place in places[1:] for call in put(store, **place)}
    # When calls are taken one by one, as by a worker that is at its limit
    got = []
    for _ in places:
        with one.writing():
            got += ids(accept(one, area, limit=1, queues=("default", "first", "second")).calls)
    # Then the others came in their turn
    assert wanted < set(got)


def test_calls_that_are_due_at_one_moment_come_in_the_order_of_their_puts(
    one, put, register, accept
):
    # Given so many for midnight that the places in their ids have one, two and three digits
    area = register(one)
    with one.writing() as store:
        wanted = ids(put(store, 70, due=10))
    for now in (0, 10):
        with one.writing():
            accepted = accept(one, area, now=now)
    assert ids(accepted.calls) == wanted


def test_what_is_due_comes_after_better_priorities_and_before_its_own(one, put, register, accept):
    # Given many that are due, more than are accepted at once
    area = register(one)
    with one.writing() as store:
        late = put(store, 20, priority=LOW, due=10)
        due = put(store, due=10)
    with one.writing():
        accept(one, area)
    # When others are put then
    with one.writing() as store:
        low, normal, high = (put(store, priority=priority) for priority in (LOW, NORMAL, HIGH))
    # Then
    with one.writing():
        first = ids(accept(one, area, limit=5, now=10).calls)
        rest = ids(accept(one, area, now=10).calls)
    assert first + rest == ids([*high, *due, *normal, *late, *low])


def test_what_was_put_aside_comes_by_priority_from_the_queues_that_are_served(
    one, put, register, accept
):
    # Given calls that this worker put aside, as it has not their plugin
    area = register(one)
    with one.writing() as store:
        other = put(store, plugin="t.new", queue="night")
        low = put(store, plugin="t.new", priority=LOW)
        first = put(store, 40, plugin="t.new")
    with one.writing():
        accept(one, area, queues=("default", "night"))
    # When it is there, with another worker's calls
    with one.writing() as store:
        fresh = put(store)
    with one.writing():
        found = accept(one, area, plugins=("t.add", "t.new"))
        assert ids(found.calls) == ids([*first, *fresh, *low])
    # Then the others wait for who serves their queue
    with one.writing():
        found = accept(one, area, plugins=("t.new",), queues=("night",))
        assert ids(found.calls) == ids(other)


def test_accepted_calls_are_held_in_a_chunk_until_it_is_dropped(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        wanted = ids(put(store, 3))
    with one.writing():
        number = accept(one, area).chunk
    with one.reading():
        chunk = one.get(area).chunks[number]
        assert ids(chunk.calls) == wanted
        assert chunk.interruptions == 0
    with one.writing():
        one.get(area).drop([number, 77])
    with one.reading():
        assert not one.get(area).chunks


def test_no_chunk_takes_the_place_of_one_that_is_still_held(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        wanted = ids(put(store, 4))
    # Given chunks of which an earlier one was dropped
    numbers = []
    for _ in range(3):
        with one.writing():
            numbers.append(accept(one, area, limit=1).chunk)
    with one.writing():
        one.get(area).drop(numbers[:1])
    # When more is accepted
    with one.writing():
        accept(one, area)
    # Then all the others are held
    with one.reading():
        chunks = one.get(area).chunks.values()
        assert [id for chunk in chunks for id in ids(chunk.calls)] == wanted[1:]


def test_of_a_chunk_a_part_can_be_let_go(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        put(store, 3)
    with one.writing():
        accepted = accept(one, area)
        kept = ids(accepted.calls[1:])
        one.get(area).replace_chunk(accepted.chunk, accepted.calls[1:])
    with one.reading():
        assert ids(one.get(area).chunks[accepted.chunk].calls) == kept


def test_a_call_of_an_unknown_plugin_is_put_aside_and_comes_when_the_plugin_does(
    one, put, register, accept
):
    # Given
    area = register(one)
    with one.writing() as store:
        known = ids(put(store))
        strange = ids(put(store, plugin="t.strange"))
    # When
    with one.writing():
        accepted = accept(one, area)
        assert ids(accepted.calls) == known
        assert ids(accepted.parked) == strange
    # Then it says why it waits, and does not come again
    with one.writing() as store:
        assert "t.strange" in store.find(ANN, strange[0]).waiting_reason
        assert accept(one, area).calls == ()
    with one.writing():
        accepted = accept(one, area, plugins=("t.add", "t.strange"))
        assert ids(accepted.calls) == strange
    with one.writing():
        assert accept(one, area, plugins=("t.strange",)).calls == ()


def test_calls_of_a_plugin_that_is_held_up_are_left_to_others_but_for_what_is_due(
    one, put, register, accept
):
    """What is due may be in an earlier chunk: who takes that over would run it beside the other."""
    # Given a call that was accepted, and waits to be tried again
    area = register(one)
    with one.writing() as store:
        due = ids(put(store))
    with one.writing():
        [record] = accept(one, area).calls
        record.wait("again", 10)
        one.get(area).wait(record, 10)
    # When it is due, and others have been put
    with one.writing() as store:
        left = ids(put(store, 2))
        other = ids(put(store, plugin="t.other"))
    plugins = ("t.add", "t.other")
    with one.writing() as store:
        found = accept(one, area, now=10, plugins=plugins, held_up=("t.add",))
        assert ids(found.calls) == due + other
        # Then the others wait for who can begin them, and lack nothing
        assert count_without(store.site, lambda plugin, queue: plugin in plugins) == 0
        assert count_without(store.site, lambda plugin, queue: queue == "night") == 2
    with one.writing() as store:
        assert store.find(ANN, left[0]).waiting_reason is None
        assert accept(one, area, plugins=plugins, held_up=("t.add",)).calls == ()
        assert ids(accept(one, area, plugins=plugins).calls) == left


def test_a_plugin_whose_name_begins_like_another_takes_none_of_its_calls(
    one, put, register, accept
):
    area = register(one)
    with one.writing() as store:
        put(store, plugin="t.stranger")
    with one.writing():
        accept(one, area)
    with one.writing():
        assert accept(one, area, plugins=("t.strange", "t.", "")).calls == ()


def test_put_aside_calls_that_are_too_late_are_looked_for_a_few_at_a_time(
    one, put, register, accept
):
    # Given calls that were put aside, five of them for a time only, and one that is spoilt since
    area = register(one)
    with one.writing() as store:
        late = ids(put(store, 5, plugin="t.strange", expires=50))
        (spoilt,) = put(store, plugin="t.strange", expires=50)
        put(store, plugin="t.strange", expires=51)
        put(store, plugin="t.stranger", expires=50, attempts=1)
        oid = spoilt._p_oid
    with one.writing():
        assert len(accept(one, area).parked) == 8
    spoil_record(one, oid)
    # When they are looked at, three at a time
    found, after, looks = [], FIRST, []
    for _ in range(4):
        with one.writing() as store:
            overdue, after = take_overdue(store.site, 50, after, 3)
            found += ids(accept(one, area, now=50, overdue=overdue).notes)
            looks.append(after == FIRST)
    # Then each was taken once, the others wait, and it begins anew after the last
    assert sorted(found) == sorted(late)
    assert looks == [False, False, True, False]
    with one.reading() as store:
        assert len(store.site.parked) == 3


def test_a_call_that_is_too_late_is_not_left_for_others_to_begin(one, put, register, accept):
    # Given calls of a plugin that begins no more of them here for now
    area = register(one)
    with one.writing() as store:
        (late,) = put(store, expires=50)
        put(store, expires=51)
    # When they are come across, and when they are looked at once they have been left aside
    with one.writing():
        accepted = accept(one, area, now=50, held_up=("t.add",))
        assert ids(accepted.notes) == [late.id]
    with one.writing() as store:
        assert len(store.site.parked) == 1
        overdue, _ = take_overdue(store.site, 51, FIRST, 100)
        accepted = accept(one, area, now=51, held_up=("t.add",), overdue=overdue)
        assert ids(accepted.notes) == ids(overdue)
    # Then none of them is left
    with one.reading() as store:
        assert not store.site.parked


def test_a_final_call_that_owes_something_comes_as_a_note_and_one_that_is_over_not_at_all(
    one, put, register, accept
):
    # Given calls that were cancelled: one owes a callback, one got another one by mail, one owes
    # nothing, and one is forgotten
    area = register(one)
    with one.writing() as store:
        owing, mailed, over, forgotten = put(store, 4)
        owing.callbacks = (OWED,)
        store.write_mail(mailed, Mail(callbacks=(OWED,)))
        for record in (owing, mailed, over, forgotten):
            record.cancel(5)
            store.count_end(store.site.lanes[1].tallies, record)
        store.forget(forgotten, store.site.lanes[1].tallies)
        notes = [owing.id, mailed.id]
    with one.writing():
        accepted = accept(one, area)
        assert accepted.calls == ()
        assert ids(accepted.notes) == notes
        assert accepted.passed == 2


@pytest.fixture
def area(one, put, register, accept):
    """A worker's, which has read what there is of a segment that is open."""
    oid = register(one)
    with one.writing() as store:
        put(store, 7)
    with one.writing():
        accept(one, oid)
    return oid


def test_an_accept_need_not_be_committed_as_long_as_few_calls_are_over(one, put, accept, area):
    needed = []
    for _ in range(FEW + 1):
        # When one call after the other is put and ends before its accept is committed
        with one.writing() as store:
            (call,) = put(store)
        one.begin()
        accepted = accept(one, area, keeps=False)
        assert accepted.calls == (call,)
        changed = list(one.connection._registered_objects)
        assert not accepted.is_needless((), changed)
        needed.append(not accepted.is_needless({call._p_oid}, changed))
        one.abort()
        with one.writing():
            call.cancel(5)
    # Then the next one comes whatever is before it; at last a commit says how far has been read
    assert needed == [False] * FEW + [True]


@pytest.mark.usefixtures("area")
def test_what_tells_of_a_call_more_is_known_although_a_cursor_is_behind(one, put):
    # Given a cursor that is two calls behind, which are over
    with one.writing() as store:
        for record in put(store, 2):
            record.cancel(5)
    # When it is asked what the next put writes
    with one.reading() as store:
        inbox = store.site.lanes[0].inboxes[("default", NORMAL)]
        assert inbox.cursor.is_behind()
        told = [record._p_oid for record in inbox.next_records(is_read_on=True)]
    # Then the next record is among it, and is the last
    with one.writing() as store:
        (record,) = put(store)
        assert record._p_oid == told[-1]


@pytest.mark.parametrize("kind", ["waiting", "unique", "owing", "many"])
def test_an_accept_that_says_more_than_that_has_to_be_committed(one, put, register, accept, kind):
    # Given a call, and another one that is over
    area = register(one)
    with one.writing() as store:
        (call,) = put(store)
        (over,) = put(store, due=1_000 if kind == "waiting" else None)
        if kind == "unique":
            store.set_unique(b"\0" * 16, over)
        if kind == "owing":
            over.callbacks = (OWED,)
        if kind != "waiting":
            over.cancel(5)
    # When the one ends before the accept is committed
    one.begin()
    accepted = accept(one, area, 2 if kind == "many" else 100, keeps=False)
    needless = accepted.is_needless({call._p_oid}, one.connection._registered_objects)
    one.abort()
    # Then it is committed all the same: what waits is written, a callback is owed, or there may
    # be more of them; a key of one that is over matters to nobody
    assert needless == (kind == "unique")


def test_two_entries_of_one_call_are_held_once(one, put, register, accept):
    area = register(one)
    with one.writing() as store:
        (record,) = put(store)
        record.callbacks = (OWED,)
        record.cancel(5)
        store.post_note(record, 1)
        store.post_note(record, 0)
    with one.writing():
        accepted = accept(one, area)
        assert len(accepted.notes) == 1
        assert len(one.get(area).chunks[accepted.chunk].calls) == 1


def test_an_entry_whose_record_cannot_be_read_is_put_aside_and_stops_no_other(
    one, put, register, accept
):
    # Given
    area = register(one)
    with one.writing() as store:
        first, gone, last = put(store, 3)
        wanted = ids([first, last])
        oid = gone._p_oid
    spoil_record(one, oid)
    # When
    with one.writing():
        accepted = accept(one, area)
    # Then
    assert ids(accepted.calls) == wanted
    assert [broken for broken, _ in accepted.broken] == [oid]
    with one.writing() as store:
        assert ("", oid.hex()) in store.site.parked
        assert accept(one, area).broken == ()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_segment_that_cannot_be_read_is_put_aside_and_stops_no_other(
    one, put, register, accept, is_known
):
    # Given a segment of bob's, which the worker has read from before, or not
    area = register(one)
    with one.writing() as store:
        put(store, 3, owner=BOB)
        segments = store.site.lanes[0].owners["\0bob"].segments
        segment = segments[segments.maxKey()]
    with one.writing():
        taken = ids(accept(one, area, 3 if is_known else 1).calls)
        assert len(taken) == (3 if is_known else 1)
    oid = segment._p_oid
    with one.writing() as store:
        wanted = ids(put(store, 2))
    spoil_record(one, oid)
    # When
    with one.writing() as store:
        accepted = accept(one, area)
        assert ids(accepted.calls) == wanted
        assert [broken for broken, _ in accepted.broken] == [oid]
    # Then it is left alone, also by those whose puts would close it
    wanted = []
    with one.writing() as store:
        for number in range(MOST_OPEN + 1):
            wanted += ids(put(store, 2, owner=("", f"stranger{number}")))
    with one.writing():
        again = accept(one, area)
        assert ids(again.calls) == wanted
        assert again.broken == ()


def test_to_read_ahead_stops_at_what_cannot_be_read(one, put, register, accept):
    # Given a segment among those to come that cannot be read, with two of bob's calls
    area = register(one)
    with one.writing() as store:
        put(store, 40)
        put(store, 7, owner=("", "bob"))
        segments = store.site.lanes[0].owners["\0bob"].segments
        segment = segments[segments.maxKey()]
    broken = segment._p_oid
    spoil_record(one, broken)
    with one.writing() as store:
        accepted = accept(one, area, 20)
        # When
        read_ahead(store, Wanted(range(4), ("default",), ("t.add",), 100))
    # Then nothing has come of it for the accept
    assert len(accepted.calls) == 20
    with one.writing():
        accepted = accept(one, area)
    assert [oid for oid, _ in accepted.broken] == [broken]
    assert len(accepted.calls) == 20 + 5


@pytest.mark.parametrize("before", [1, 3, 5])
def test_a_call_that_cannot_be_read_does_not_keep_its_owner_from_the_next_put(
    one, put, register, accept, before
):
    # Given the last call of a segment, also of a full one, that cannot be read
    area = register(one)
    with one.writing() as store:
        records = put(store, before, size=7)
        wanted = ids(records[:-1])
        oid = records[-1]._p_oid
    spoil_record(one, oid)
    # When
    with one.writing() as store:
        wanted += ids(put(store, size=7))
    # Then
    with one.writing():
        accepted = accept(one, area)
        assert ids(accepted.calls) == wanted
        assert [broken for broken, _ in accepted.broken] == [oid]
    with one.reading() as store:
        assert ids(store.oldest(ANN)) == wanted
        assert store.tally(ANN).stored == before + 1
        # What the spoilt one counted for is known by nobody.
        assert store.tally(ANN).bytes == 7 * before


@pytest.mark.parametrize("before", [1, 3, 5])
def test_a_segment_that_cannot_be_read_does_not_keep_its_owner_from_the_next_put(
    one, put, register, accept, before
):
    # Given the last segment of an owner, also a full one, that cannot be read
    area = register(one)
    with one.writing() as store:
        put(store, before)
        segments = store.site.lanes[0].owners["\0ann"].segments
        segment = segments[segments.maxKey()]
    oid = segment._p_oid
    spoil_record(one, oid)
    # When
    with one.writing() as store:
        wanted = ids(put(store, 3))
    # Then
    with one.writing():
        accepted = accept(one, area)
        assert ids(accepted.calls)[-3:] == wanted
        assert (oid in [broken for broken, _ in accepted.broken]) is (before > 1)
    with one.reading() as store:
        assert ids(store.oldest(ANN))[-3:] == wanted
        assert store.find(ANN, wanted[0]).id == wanted[0]


def test_calls_that_do_not_come_one_by_one_are_fetched_together(
    one, put, register, accept, monkeypatch
):
    # Given two segments full of calls, of which none is in memory
    area = register(one)
    with one.writing() as store:
        records = {record._p_oid for record in put(store, 37)}
    fetched, alone = set(), []
    with one.reading():
        one.connection.cacheMinimize()
        storage = one.connection._storage
        inner = storage.load

        def load(oid, *rest):
            if oid in records and oid not in fetched:
                alone.append(oid)
            return inner(oid, *rest)

        monkeypatch.setattr(storage, "load", load)
        monkeypatch.setattr(storage, "prefetch", fetched.update, raising=False)
        # When
        taken = accept(one, area).calls
    # Then
    assert len(taken) == 37
    assert len(alone) <= 5


def spoil_record(session, oid):
    """Write bytes in the record's place that nobody can read."""
    session.manager.begin()
    session.connection.cacheMinimize()
    storage, transaction = session.connection._storage, TransactionMetaData()
    _, serial = storage.load(oid)
    storage.tpc_begin(transaction)
    try:
        storage.store(oid, serial, b"no pickle at all", "", transaction)
        storage.tpc_vote(transaction)
        storage.tpc_finish(transaction)
    finally:
        # Does nothing after the end; else the storage would be locked for ever.
        storage.tpc_abort(transaction)
    session.manager.abort()


def test_a_board_tells_what_runs_and_only_of_open_calls(one, put, register):
    area = register(one, "worker-7")
    with one.writing() as store:
        running, ended = put(store, 2)
        board = one.get(area).board
        board.running = {
            running._p_oid: (2, 1_000, 0.5, "half"),
            ended._p_oid: (1, 1_000, None, ""),
        }
        ended.cancel(5)
        ids_ = running.id, ended.id
    with one.reading() as store:
        shown = store.running(store.find(ANN, ids_[0]))
        assert (shown.worker, shown.attempt, shown.fraction, shown.message) == (
            "worker-7",
            2,
            0.5,
            "half",
        )
        assert store.running(store.find(ANN, ids_[1])) is None


def test_workers_publish_what_they_have(one, register):
    register(one, "a", plugins=("t.add", "t.only_here"))
    register(one, "b", plugins=("t.add",))

    with one.reading() as store:
        assert set(store.published()) == {"t.add", "t.only_here"}
        assert sorted(area.name for area in store.areas()) == ["a", "b"]


@pytest.mark.parametrize("waiting", [0, 200])
def test_a_put_reads_and_writes_few_objects_however_many_wait(one, put, waiting):
    # Given
    with one.writing() as store:
        put(store, waiting + 2)
    # When
    store = one.begin()
    put(store)
    written = one.connection._registered_objects
    # Then: the call, and the last segment of its owner's index
    assert len(written) <= 2
    one.abort()


def test_objects_are_sent_together_also_while_there_is_a_savepoint(one, put, monkeypatch):
    """Whoever ends calls with callbacks has some, and may accept in the same transaction."""
    with one.writing() as store:
        records = put(store, 3)
    one.connection.cacheMinimize()
    sent = []
    with one.writing() as store:
        monkeypatch.setattr(one.connection._storage, "prefetch", sent.extend, raising=False)
        put(store, owner=BOB)
        one.manager.savepoint()
        sent.clear()
        send_together(one.connection, records)
    assert sent == [record._p_oid for record in records]
