# SPDX-License-Identifier: ZPL-2.1
"""What a worker has in hand, without its database."""

from __future__ import annotations

import pytest

from wsgi_zasync.plugins import PluginDeclaration
from wsgi_zasync.testing import FakeClock
from wsgi_zasync.worker.held import Held, Order, Report
from wsgi_zasync.worker.holdings import ALONE_SECONDS, Holdings
from wsgi_zasync.worker.rescuer import Adopted


def make():
    return Holdings(FakeClock().monotonic)


def held(name, chunk, alone=False):
    return Held(name.encode(), name, ("", "ann"), "p", 1, chunk=chunk, alone=alone)


def order(held):
    return Order(held, None, PluginDeclaration(name=held.plugin, target=print), 0, 0.0, 1.0)


def begin_all(holdings):
    return [each.call_id for each in holdings.backlog.take(100, lambda held: True)]


def test_all_that_has_not_begun_is_counted_however_it_is_to_run():
    holdings = make()
    both = [held("a", 1), held("b", 1, alone=True)]

    holdings.adopt(Adopted(held=both, chunks={1: {b"a", b"b"}}))

    assert holdings.waiting_to_begin == 2
    assert len(holdings) == 2


def test_a_call_that_is_held_from_a_later_chunk_is_not_taken_once_more():
    # Given a call that was retried, and so accepted once more
    holdings = make()
    holdings.accept([held("a", 7)], [])

    # When its old chunk is found, with another call, and one with nothing else
    found = Adopted(
        held=[held("a", 3), held("b", 3)],
        reports=[Report(held("a", 3)), Report(held("c", 3))],
        chunks={3: {b"a", b"b", b"c"}, 5: {b"a"}},
    )
    reports = holdings.adopt(found)

    # Then only the others of it are to be run and written
    assert begin_all(holdings) == ["a", "b"]
    assert [report.held.call_id for report in reports] == ["c"]
    assert len(holdings) == 3
    # And what is of no use is dropped
    assert holdings.done_chunks == [5]
    assert holdings.knows() == {3, 5, 7}


def test_a_chunk_whose_calls_are_all_done_is_dropped_once_and_forgotten():
    holdings = make()
    first, second = held("a", 1), held("b", 1)
    holdings.accept([first, second], [])

    holdings.release(first)
    assert holdings.done_chunks == []
    holdings.release(second)
    holdings.release(second)

    assert holdings.done_chunks == [1]
    holdings.done_chunks = []
    assert holdings.knows() == set()


def test_calls_that_could_not_be_begun_are_in_hand_again():
    holdings = make()
    one, alone = held("a", 1), held("b", 1, alone=True)

    with pytest.raises(OSError, match="away"), holdings.taken([one, alone]):
        raise OSError("away")

    assert holdings.next_alone() is alone
    assert begin_all(holdings) == ["a"]


def test_an_order_that_came_back_is_counted_no_more_and_only_once():
    holdings = make()
    first, second = order(held("a", 1)), order(held("a", 1))
    holdings.began(first)
    assert (holdings.by_plugin["p"], holdings.by_place["thread"]) == (1, 1)

    # Another attempt of the same call is not this one.
    holdings.ended(second)
    assert holdings.running == {b"a": first}
    holdings.ended(first)
    holdings.ended(first)

    assert holdings.running == {}
    assert (holdings.by_plugin["p"], holdings.by_place["thread"]) == (0, 0)


def test_a_call_that_runs_alone_waits_for_the_others_and_they_for_it():
    clock = FakeClock()
    holdings = Holdings(clock.monotonic)
    other, alone = order(held("a", 1)), order(held("b", 1, alone=True))
    assert holdings.others_may_begin()
    assert holdings.next_alone() is None
    holdings.began(other)
    holdings.adopt(Adopted(held=[alone.held, held("c", 1, alone=True)]))

    # It waits for what runs, and nothing else begins
    assert holdings.next_alone() is None
    assert not holdings.others_may_begin()
    holdings.ended(other)
    assert holdings.next_alone() is alone.held
    holdings.began(alone)

    # While it runs nothing begins, and when it has ended nothing until that is written
    assert holdings.next_alone() is None
    holdings.ended(alone)
    assert holdings.next_alone() is None
    assert not holdings.others_may_begin()
    holdings.settled(other.held)
    assert not holdings.others_may_begin()
    holdings.settled(alone.held)
    assert holdings.others_may_begin()
    assert holdings.next_alone().call_id == "c"
    assert holdings.next_alone() is None


def test_a_call_that_was_to_run_alone_and_does_not_begin_keeps_nobody_waiting():
    holdings = make()
    alone = held("a", 1, alone=True)
    holdings.adopt(Adopted(held=[alone]))

    assert holdings.next_alone() is alone

    assert holdings.others_may_begin()


def test_neither_waits_for_hours():
    clock = FakeClock()
    holdings = Holdings(clock.monotonic)
    alone = order(held("b", 1, alone=True))
    holdings.began(order(held("a", 1)))
    holdings.adopt(Adopted(held=[alone.held, held("c", 1, alone=True)]))
    assert holdings.next_alone() is None

    # It begins beside what takes long
    clock.advance(ALONE_SECONDS)
    assert holdings.next_alone() is alone.held
    holdings.began(alone)
    assert not holdings.others_may_begin()

    # Others begin beside it, but none that has to run alone
    clock.advance(ALONE_SECONDS)
    assert holdings.others_may_begin()
    assert holdings.next_alone() is None
