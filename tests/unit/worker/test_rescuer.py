# SPDX-License-Identifier: ZPL-2.1
"""When another worker counts as dead."""

from __future__ import annotations

from types import SimpleNamespace

from wsgi_zasync.testing import FakeClock
from wsgi_zasync.worker.rescuer import Watch


def area(key="w1", serial=b"1", released=False, taken_by=None):
    board = SimpleNamespace(_p_serial=serial, released=released, _p_activate=lambda: None)
    fence = SimpleNamespace(taken_by=taken_by)
    return SimpleNamespace(key=key, name=f"name of {key}", board=board, fence=fence)


def watch(clock, longest_step=7.5):
    return Watch(clock, 15.0, longest_step)


def test_a_worker_whose_board_stands_still_for_fifteen_seconds_is_dead():
    clock = FakeClock()
    looking = watch(clock)

    found = []
    for _ in range(4):
        found.append(looking.look([area()], "me"))
        clock.advance(5)

    assert found == [{}, {}, {}, {"w1": b"1"}]


def test_who_is_fenced_is_taken_over_at_once():
    assert watch(FakeClock()).look([area(taken_by="w2")], "me") == {"w1": b"1"}


def test_a_worker_whose_board_changes_lives():
    clock = FakeClock()
    looking = watch(clock)

    for beat in range(20):
        assert looking.look([area(serial=bytes([beat]))], "me") == {}
        clock.advance(5)


def test_nobody_is_dead_because_we_were_stopped_for_an_hour():
    clock = FakeClock()
    looking = watch(clock)

    looking.look([area()], "me")
    clock.advance(3600)

    assert looking.look([area()], "me") == {}


def test_nobody_is_dead_because_the_storage_was_away():
    clock = FakeClock()
    looking = watch(clock)

    for _ in range(3):
        looking.look([area()], "me")
        clock.advance(5)
    looking.forget()

    assert looking.look([area()], "me") == {}


def test_who_has_stopped_in_good_order_is_taken_over_at_once():
    assert watch(FakeClock()).look([area(released=True)], "me") == {"w1": b"1"}


def test_nobody_takes_over_from_himself():
    assert watch(FakeClock()).look([area("me", released=True)], "me") == {}


def test_who_took_the_place_of_a_worker_takes_over_from_it_at_once():
    found = watch(FakeClock()).look([area(), area("w2")], "me", "name of w1")

    assert found == {"w1": b"1"}
