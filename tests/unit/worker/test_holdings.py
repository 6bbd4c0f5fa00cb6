# SPDX-License-Identifier: ZPL-2.1
"""What a worker has in hand, without its database."""

from __future__ import annotations

from wsgi_zasync.testing import FakeClock
from wsgi_zasync.worker.held import Held, Report
from wsgi_zasync.worker.holdings import Holdings
from wsgi_zasync.worker.rescuer import Adopted


def make():
    return Holdings(FakeClock().monotonic)


def held(name, chunk, alone=False):
    return Held(name.encode(), name, ("", "ann"), "p", 1, chunk=chunk, alone=alone)


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
