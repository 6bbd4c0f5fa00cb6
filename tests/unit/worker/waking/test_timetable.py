# SPDX-License-Identifier: ZPL-2.1
"""What a worker does next, and when: by a clock that stands still until it is told to go on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from wsgi_zasync.call import to_micros
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.testing import FakeClock
from wsgi_zasync.worker.held import Held, Report
from wsgi_zasync.worker.waking.timetable import AGAIN_SECONDS, Timetable


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def timetable(clock):
    """One of a worker that has just looked everywhere and shown its board."""
    made = timetable_of(clock)
    made.looked(clock.monotonic(), everywhere=True, more=False, next_due=None)
    made.beat(clock.monotonic())
    return made


def timetable_of(clock, **settings):
    settings = {"safety_poll": 30, "dead_after": 15, **settings}
    made = Timetable(clock, WorkerSettings.from_kwargs(db=object(), **settings))
    made.open()
    return made


def wait_of(timetable, *others, progress_from=None, accepting=True):
    return timetable.seconds_to_wait(others, progress_from=progress_from, accepting=accepting)


def report():
    return Report(Held(b"1", "1", ("", "ann"), "echo", 1, 0))


def test_at_first_all_is_due(clock):
    made, now = timetable_of(clock), clock.monotonic()

    assert made.is_time_to_look()
    assert made.is_time_to_poll(now)
    assert made.is_time_to_beat(now)
    assert made.is_time_for_progress(now)
    assert wait_of(made) == 0


@pytest.mark.parametrize(("dead_after", "seconds"), [(15, 5), (3, 1), (60, 5)])
def test_three_signs_of_life_fit_into_the_time_after_which_it_is_dead(clock, dead_after, seconds):
    made = timetable_of(clock, dead_after=dead_after)

    made.beat(clock.monotonic())

    assert wait_of(made, accepting=False) == pytest.approx(seconds)


def test_a_turn_that_takes_long_makes_no_sign_of_life_later(clock, timetable):
    now = clock.monotonic()
    clock.advance(1)

    timetable.beat(now)

    assert wait_of(timetable) == 4


def test_it_polls_when_it_was_told_of_nothing(clock, timetable):
    clock.advance(29)
    assert not timetable.is_time_to_poll(clock.monotonic())

    clock.advance(1)

    assert timetable.is_time_to_poll(clock.monotonic())


def test_a_look_at_our_own_lanes_is_no_poll(clock, timetable):
    clock.advance(20)
    timetable.looked(clock.monotonic(), everywhere=False, more=False, next_due=None)

    clock.advance(10)

    assert timetable.is_time_to_poll(clock.monotonic())


def test_it_looks_again_at_once_where_more_is_left(clock, timetable):
    timetable.looked(clock.monotonic(), everywhere=True, more=True, next_due=None)

    assert timetable.is_time_to_look()
    assert wait_of(timetable) == 0


def test_a_worker_without_room_sleeps_although_more_is_left(clock, timetable):
    timetable.looked(clock.monotonic(), everywhere=True, more=True, next_due=None)

    assert wait_of(timetable, accepting=False) == 5


def test_a_call_that_waits_is_looked_for_when_it_is_due(clock, timetable):
    due = to_micros(clock.now() + timedelta(seconds=3))
    timetable.looked(clock.monotonic(), everywhere=True, more=False, next_due=due)
    assert wait_of(timetable) == 3
    assert not timetable.is_time_to_look()

    clock.advance(3)

    assert timetable.is_time_to_look()
    assert wait_of(timetable) == 0


def test_it_is_due_by_the_wall_clock_when_that_is_put_forward(clock, timetable):
    due = to_micros(clock.now() + timedelta(hours=1))
    timetable.looked(clock.monotonic(), everywhere=True, more=False, next_due=due)

    clock.set(clock.now() + timedelta(hours=1))

    assert timetable.is_time_to_look()


def test_what_runs_is_looked_at_more_often_than_the_board_is_written(clock, timetable):
    assert wait_of(timetable, progress_from=0.0) == 2

    clock.advance(2)
    timetable.saw_progress(clock.monotonic())

    assert wait_of(timetable, progress_from=0.0) == 2
    assert wait_of(timetable) == 3


def test_what_has_just_begun_is_looked_at_when_it_is_to_be_shown(clock, timetable):
    assert wait_of(timetable, progress_from=clock.monotonic() + 3) == 3


def test_what_is_owed_wakes_it_and_stays_owed_when_it_is_opened_again(clock, timetable):
    owed = report()
    timetable.owed.add(owed, clock.monotonic() + 1)
    assert wait_of(timetable) == 1

    timetable.open()

    assert not timetable.owed.is_due(clock.monotonic())
    clock.advance(1)
    assert timetable.owed.is_due(clock.monotonic())
    assert timetable.owed.take(clock.monotonic()) == [owed]


def test_others_that_have_something_to_do_wake_it(clock, timetable):
    assert wait_of(timetable, None, clock.monotonic() + 4) == 4


def test_a_commit_that_has_not_come_about_waits_a_moment_whatever_is_due(clock, timetable):
    timetable.is_more_there = True
    timetable.tried(clock.monotonic(), complete=False)

    assert 0 < wait_of(timetable) <= AGAIN_SECONDS

    clock.advance(AGAIN_SECONDS)
    assert wait_of(timetable) == 0


def test_after_a_commit_that_has_come_about_nothing_is_waited_for(clock, timetable):
    timetable.is_more_there = True
    timetable.tried(clock.monotonic(), complete=False)

    timetable.tried(clock.monotonic(), complete=True)

    assert wait_of(timetable) == 0


def test_what_never_comes_about_is_tried_as_often_as_a_sign_of_life_is_given(clock):
    timetable = timetable_of(clock, dead_after=15)
    timetable._random.random = lambda: 1.0

    waits = []
    for _ in range(12):
        timetable.tried(clock.monotonic(), complete=False)
        waits.append(wait_of(timetable))
    timetable.tried(clock.monotonic(), complete=True)
    timetable.tried(clock.monotonic(), complete=False)

    assert waits[:3] == pytest.approx([AGAIN_SECONDS, 2 * AGAIN_SECONDS, 4 * AGAIN_SECONDS])
    assert waits[-1] == pytest.approx(5)
    assert wait_of(timetable) == pytest.approx(AGAIN_SECONDS)
