# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_zasync.errors import InvalidArguments, ZasyncError
from wsgi_zasync.retry import (
    ASKED_ATTEMPTS,
    WITHOUT_RETRY,
    Retry,
    RetryDecision,
    RetryEvent,
    RetryPolicy,
)


class Still(Random):
    """A random source that always answers the same."""

    def __init__(self, value: float) -> None:
        super().__init__(0)
        self.value = value

    def random(self) -> float:
        return self.value


MIDDLE = Still(0.5)


def raised(policy, count, error=None, random=MIDDLE, **more) -> RetryDecision:
    error = ValueError("no") if error is None else error
    return policy.decide(RetryEvent.RAISED, count=count, error=error, random=random, **more)


def test_without_a_policy_the_first_failure_is_final():
    decision = raised(WITHOUT_RETRY, 1)

    assert not decision.again
    assert "attempt 1 of 1" in decision.reason


def test_a_policy_counts_the_first_attempt():
    policy = RetryPolicy(attempts=3)

    assert [raised(policy, count).again for count in (1, 2, 3, 4)] == [True, True, False, False]


def test_delays_grow_by_the_backoff_up_to_the_longest():
    policy = RetryPolicy(attempts=9, delay_seconds=2, backoff=3, max_delay_seconds=40, jitter=0)

    delays = [raised(policy, count).delay_seconds for count in (1, 2, 3, 4)]

    assert delays == [2.0, 6.0, 18.0, 40.0]


def test_a_huge_count_overflows_to_the_longest_delay():
    policy = RetryPolicy(attempts=1000, backoff=1000, jitter=0)

    assert raised(policy, 999).delay_seconds == policy.max_delay_seconds


@pytest.mark.parametrize(("drawn", "expected"), [(0.0, 8.0), (0.5, 10.0), (1.0, 12.0)])
def test_jitter_spreads_a_delay_to_both_sides(drawn, expected):
    policy = RetryPolicy(delay_seconds=10, jitter=0.2)

    assert raised(policy, 1, random=Still(drawn)).delay_seconds == pytest.approx(expected)


def test_jitter_never_exceeds_the_longest_delay():
    policy = RetryPolicy(delay_seconds=10, max_delay_seconds=10, jitter=1.0)

    assert raised(policy, 1, random=Still(1.0)).delay_seconds == 10.0


@pytest.mark.parametrize(
    "on", [(ConnectionError,), ("ConnectionError",), ("builtins.ConnectionError",), ("OSError",)]
)
def test_on_matches_the_type_and_its_bases_by_either_name(on):
    policy = RetryPolicy(on=on)

    assert raised(policy, 1, ConnectionResetError()).again
    assert not raised(policy, 1, ValueError()).again


def test_a_single_type_stands_for_itself():
    assert RetryPolicy(on=TimeoutError).on == ("builtins.TimeoutError",)
    assert RetryPolicy(on="TimeoutError").on == ("TimeoutError",)


def test_names_of_types_serve_where_the_error_is_in_another_process():
    policy = RetryPolicy(on=("LookupError",))

    again = policy.decide(
        RetryEvent.RAISED, count=1, names=("KeyError", "LookupError"), random=MIDDLE
    )
    not_again = policy.decide(RetryEvent.RAISED, count=1, names=("ValueError",), random=MIDDLE)

    assert again.again
    assert not not_again.again


def test_a_plugin_that_asks_gets_its_delay_and_its_message():
    decision = raised(WITHOUT_RETRY, 1, Retry("not there yet", delay=timedelta(minutes=1)))

    assert decision == RetryDecision(True, 60.0, "not there yet")


def test_a_plugin_that_asks_without_a_delay_gets_the_policys():
    decision = raised(RetryPolicy(delay_seconds=7, jitter=0), 1, Retry())

    assert decision.delay_seconds == 7.0
    assert decision.reason == "the plugin asked to be run again"


def test_asking_has_a_bound_with_and_without_a_policy():
    assert raised(WITHOUT_RETRY, ASKED_ATTEMPTS - 1, Retry()).again
    assert not raised(WITHOUT_RETRY, ASKED_ATTEMPTS, Retry()).again
    assert not raised(RetryPolicy(attempts=4), 4, Retry()).again


def test_what_a_plugin_asks_for_is_not_held_up_by_the_types_of_the_policy():
    assert raised(RetryPolicy(on=("OSError",)), 1, Retry()).again


def test_retry_is_no_error_of_the_tree():
    assert not issubclass(Retry, ZasyncError)


def test_conflicts_are_bounded_on_their_own_and_soon():
    decisions = [
        WITHOUT_RETRY.decide(RetryEvent.CONFLICT, count=count, random=Still(0.99))
        for count in range(1, 22)
    ]

    assert [decision.again for decision in decisions] == [True] * 20 + [False]
    assert all(decision.delay_seconds <= 1.0 for decision in decisions)


def test_the_third_interruption_is_final():
    decisions = [
        WITHOUT_RETRY.decide(RetryEvent.INTERRUPTED, count=count, random=MIDDLE)
        for count in (1, 2, 3)
    ]

    assert [decision.again for decision in decisions] == [True, True, False]
    assert "interrupted 3 times" in decisions[-1].reason


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"attempts": 0}, "retry.attempts"),
        ({"attempts": True}, "retry.attempts"),
        ({"attempts": 2.0}, "retry.attempts"),
        ({"attempts": 1001}, "retry.attempts"),
        ({"conflicts": -1}, "retry.conflicts"),
        ({"interruptions": 0}, "retry.interruptions"),
        ({"delay_seconds": -1}, "retry.delay_seconds"),
        ({"delay_seconds": float("nan")}, "retry.delay_seconds"),
        ({"delay_seconds": "1"}, "retry.delay_seconds"),
        ({"max_delay_seconds": timedelta(days=366)}, "retry.max_delay_seconds"),
        ({"backoff": 0.5}, "retry.backoff"),
        ({"backoff": float("nan")}, "retry.backoff"),
        ({"jitter": 1.1}, "retry.jitter"),
        ({"on": (int,)}, "retry.on"),
        ({"on": ("",)}, "retry.on"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(wrong, path):
    with pytest.raises(InvalidArguments) as caught:
        RetryPolicy(**wrong)

    assert caught.value.path == path


def test_a_retry_with_a_senseless_delay_is_refused():
    with pytest.raises(InvalidArguments):
        Retry(delay=-1)


@given(
    st.builds(
        RetryPolicy,
        attempts=st.integers(1, 1000),
        delay_seconds=st.floats(0, 1e6),
        backoff=st.floats(1, 1000),
        max_delay_seconds=st.floats(0, 1e6),
        jitter=st.floats(0, 1),
        on=st.lists(st.sampled_from([OSError, "KeyError"])).map(tuple),
        conflicts=st.integers(0, 1000),
        interruptions=st.integers(1, 1000),
    ),
    st.integers(1, 1000),
    st.integers(),
)
def test_any_policy_survives_its_stored_form_and_keeps_to_its_bounds(policy, count, seed):
    plain = policy.to_plain()

    assert RetryPolicy.from_plain(plain) == policy
    assert {type(value) for value in plain.values()} <= {int, float, tuple}
    delay = raised(policy, count, random=Random(seed)).delay_seconds
    assert 0.0 <= delay <= policy.max_delay_seconds


def test_a_stored_form_of_a_later_version_is_read_as_far_as_it_is_known():
    plain = {**RetryPolicy(attempts=7).to_plain(), "from_the_future": 1}

    assert RetryPolicy.from_plain(plain).attempts == 7
