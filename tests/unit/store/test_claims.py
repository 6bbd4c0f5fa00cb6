# SPDX-License-Identifier: ZPL-2.1
"""Lanes of one process: which one a transaction puts into."""

from __future__ import annotations

from itertools import count

import pytest
from ZODB.utils import p64

from wsgi_zasync.store.claims import LanePool


@pytest.fixture
def pool():
    return LanePool()


@pytest.fixture
def claim_one():
    numbers = count()
    return lambda: next(numbers)


def none_to_claim():
    raise AssertionError("one more is claimed")


def put(pool, claim_one, began, committed):
    lane = pool.take(claim_one, p64(began))
    pool.give_back(lane, p64(committed))
    return lane


def test_who_puts_one_after_another_uses_one_lane(pool, claim_one):
    assert {put(pool, claim_one, now, now) for now in range(1, 100)} == {0}


def test_a_lane_that_is_in_use_is_not_given_again(pool, claim_one):
    taken = [pool.take(claim_one, p64(1)) for _ in range(pool.MAX_LANES)]

    assert sorted(taken) == list(range(pool.MAX_LANES))


def test_one_thread_after_another_claims_one_more(pool):
    def claim_one():
        assert pool._lock.locked()
        return 7

    assert pool.take(claim_one, p64(1)) == 7
    assert not pool._lock.locked()


def test_no_more_lanes_are_claimed_than_a_process_may_have(pool, claim_one):
    for _ in range(pool.MAX_LANES + 1):
        pool.take(claim_one, p64(1))

    assert len(pool.claimed()) == pool.MAX_LANES


def test_whose_transaction_began_long_ago_finds_a_lane_that_nobody_has_put_into_since(
    pool, claim_one
):
    # Given a process that once put into as many lanes as it may have
    taken = [pool.take(claim_one, p64(1)) for _ in range(pool.MAX_LANES)]
    for lane in taken:
        pool.give_back(lane, p64(1))

    # When two are at work, each transaction seeing what was committed before it
    for now in range(10, 500, 2):
        first = pool.take(none_to_claim, p64(now))
        put(pool, none_to_claim, now, now)
        pool.give_back(first, p64(now + 1))

    # Then who began before all of them finds other lanes than theirs
    for _ in range(pool.MAX_LANES - 2):
        lane = pool.take(none_to_claim, p64(5))
        assert pool.has_put(lane, p64(5))
