# SPDX-License-Identifier: ZPL-2.1
"""Fences: what a worker had accepted is taken over, and what it then commits is refused."""

from __future__ import annotations

import pytest
from ZODB.POSException import ConflictError

from wsgi_zasync.errors import Fenced
from wsgi_zasync.states import CallState
from wsgi_zasync.store import accepted

ANN = ("", "ann")


def test_a_stopped_worker_whose_calls_were_taken_over_commits_nothing(
    one, two, put, register, accept
):
    # Given a worker that has run a call and stops just before its commit
    area, rescuer = register(one), register(two, "rescuer")
    with one.writing() as store:
        (record,) = put(store)
        oid = record._p_oid
    with one.writing():
        accept(one, area)
    one.begin()
    # As if it had just been loaded by nobody: readCurrent does nothing for a ghost.
    one.connection.cacheMinimize()
    one.get(area).hold()
    one.get(oid).succeed("the stopped one's", 1)
    # When another takes over
    with two.writing() as store:
        numbers = store.take_over(two.get(rescuer), two.get(area))
    # Then the stopped one's commit is refused
    with pytest.raises(ConflictError):
        one.commit()
    one.abort()
    # and it learns why
    one.begin()
    with pytest.raises(Fenced, match="rescuer"):
        one.get(area).hold()
    one.abort()
    with two.reading():
        chunk = two.get(rescuer).chunks[numbers[0]]
        assert [call._p_oid for call in chunk.calls] == [oid]
        assert chunk.interruptions == 1
        assert two.get(oid).state == "waiting"


def test_a_fence_does_not_make_a_living_workers_threads_conflict(one, two, put, register):
    area = register(one)
    with one.writing() as store:
        oids = [record._p_oid for record in put(store, 2)]
    for number, session in enumerate((one, two)):
        store = session.begin()
        session.get(area).hold()
        record = session.get(oids[number])
        record.succeed(None, 1)
        store.count_end(session.get(area).thread_tallies[number], record)
    one.commit()
    two.commit()


def test_two_rescuers_at_once_share_nothing(one, two, put, register, accept):
    area = register(one, "dead")
    first, second = register(one, "first"), register(one, "second")
    with one.writing() as store:
        put(store, 5)
    with one.writing():
        accept(one, area)
    with two.reading():
        pass
    one.begin().take_over(one.get(first), one.get(area))
    two.begin().take_over(two.get(second), two.get(area))
    one.commit()
    with pytest.raises(ConflictError):
        two.commit()
    two.abort()

    with two.reading() as store:
        assert sorted(a.name for a in store.areas()) == ["first", "second"]
        assert len(two.get(second).chunks) == 0


def test_all_that_a_worker_had_comes_along(one, put, register, accept):
    # Given an area with a chunk, a call that waits, and tallies of two threads
    dead, rescuer = register(one, "dead"), register(one, "rescuer")
    with one.writing() as store:
        put(store, 2)
        put(store, 1, due=9_000)
        own = put(store, 1, lane=1)[0]._p_oid
    with one.writing():
        accept(one, rescuer, lanes=[1])
    with one.writing() as store:
        accepted = accept(one, dead, lanes=[0], now=1)
        assert len(accepted.calls) == 2
        for number, record in enumerate(accepted.calls):
            record.succeed(None, 1)
            store.count_end(one.get(dead).thread_tallies[number], record, 7)
        record.size += 7
        before = store.tally(ANN)
    # When
    with one.writing() as store:
        (number,) = store.take_over(one.get(rescuer), one.get(dead))
    # Then
    with one.writing() as store:
        area = one.get(rescuer)
        assert number == 1
        assert [c._p_oid for c in area.chunks[0].calls] == [own]
        assert area.chunks[0].interruptions == 0
        assert store.tally(ANN) == before
        assert before.by_state[CallState.SUCCEEDED] == 2
        assert area.next_due() == 9_000
        assert len(accept(one, rescuer, now=9_000).calls) == 1
        # A tree that came along is let go when it is empty.
        assert len(area.waiting) == 1


def test_a_worker_that_stopped_in_good_order_interrupted_nothing(one, put, register, accept):
    dead, rescuer = register(one, "dead"), register(one, "rescuer")
    with one.writing() as store:
        put(store)
    with one.writing():
        accept(one, dead)
        one.get(dead).board.released = True
    with one.writing() as store:
        (number,) = store.take_over(one.get(rescuer), one.get(dead))
        assert one.get(rescuer).chunks[number].interruptions == 0


def test_a_rescuer_may_be_rescued(one, put, register, accept):
    areas = [register(one, f"worker {number}") for number in range(4)]
    with one.writing() as store:
        ids = {record.id for record in [*put(store, 40), *put(store, 3, due=5)]}
    with one.writing():
        accept(one, areas[0], limit=1_000, now=1)
    for dead, rescuer in zip(areas, areas[1:], strict=False):
        with one.writing() as store:
            store.take_over(one.get(rescuer), one.get(dead))
    with one.writing():
        area = one.get(areas[-1])
        (chunk,) = area.chunks.values()
        assert chunk.interruptions == 3
        found = [call.id for call in chunk.calls]
        found += [call.id for call in accept(one, areas[-1], now=5).calls]
    assert len(found) == 43
    assert set(found) == ids


def test_calls_wait_in_trees_that_came_along_as_in_its_own(one, put, register, accept, monkeypatch):
    # Given who has taken over so many waiting calls from two that their trees came along
    monkeypatch.setattr(accepted, "FEW_WAITING", 1)
    rescuer = register(one, "rescuer")
    for due in (7, 5):
        dead = register(one, f"dead {due}")
        with one.writing() as store:
            put(store, 2, due=due)
        with one.writing():
            accept(one, dead, now=1)
        with one.writing() as store:
            store.take_over(one.get(rescuer), one.get(dead))
    with one.writing() as store:
        area = one.get(rescuer)
        assert [len(tree) for tree in area.waiting] == [0, 2, 2]
        # When it looks when the next one is due, that may be in any of them
        assert area.next_due() == 5
        assert all(area.holds_waiting(record) for record in store.oldest(ANN))
        # Then it takes no more than it asked for, of all of them together
        first = accept(one, rescuer, now=7, limit=3)
        assert (len(first.calls), first.is_full) == (3, True)
        assert sum(area.holds_waiting(record) for record in store.oldest(ANN)) == 1
        assert len(accept(one, rescuer, now=7).calls) == 1
        assert area.next_due() is None
        assert len(area.waiting) == 1


def test_the_latest_fences_of_those_that_were_taken_over_are_kept(one, register, monkeypatch):
    monkeypatch.setattr(accepted, "KEPT_FENCES", 3)
    areas = [register(one, f"worker {number}") for number in range(6)]
    fences = []
    for dead, rescuer in zip(areas, areas[1:], strict=False):
        with one.writing() as store:
            fences.append(one.get(dead).fence._p_oid)
            store.take_over(one.get(rescuer), one.get(dead))
    with one.reading():
        assert [fence._p_oid for fence in one.get(areas[-1]).old_fences] == fences[-3:]


def test_what_was_put_aside_stays_there_when_its_worker_dies(one, put, register, accept):
    dead, rescuer = register(one, "dead"), register(one, "rescuer")
    with one.writing() as store:
        (record,) = put(store, plugin="t.strange")
        call_id = record.id
    with one.writing():
        accept(one, dead)
    with one.writing() as store:
        store.take_over(one.get(rescuer), one.get(dead))
    with one.writing():
        accepted = accept(one, rescuer, plugins=("t.strange",))
        assert [call.id for call in accepted.calls] == [call_id]


def test_a_new_worker_of_the_same_name_is_another_one(one, register):
    old, new = register(one, "same"), register(one, "same")
    with one.writing() as store:
        assert len(store.areas()) == 2
        store.take_over(one.get(new), one.get(old))
    with one.reading() as store:
        assert [area._p_oid for area in store.areas()] == [new]


def test_in_a_worker_that_stopped_before_its_accept_nothing_is_lost(
    one, two, put, register, accept
):
    """It accepts in a transaction that began before it was taken over."""
    area, rescuer = register(one), register(two, "rescuer")
    with one.writing() as store:
        (record,) = put(store)
        call_id = record.id
    one.begin()
    accept(one, area)
    with two.writing() as store:
        store.take_over(two.get(rescuer), two.get(area))
    with pytest.raises(ConflictError):
        one.commit()
    one.abort()

    with two.writing():
        assert [call.id for call in accept(two, rescuer).calls] == [call_id]
