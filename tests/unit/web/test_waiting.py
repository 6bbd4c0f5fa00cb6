# SPDX-License-Identifier: ZPL-2.1
"""The gate of waiting clients."""

from __future__ import annotations

import pytest

from wsgi_zasync.web.waiting import WaitingGate

ANN, BOB, CAROL = ("", "ann"), ("", "bob"), ("", "carol")


def test_so_many_wait_at_a_time_as_the_gate_allows():
    gate = WaitingGate(limit=2)

    with gate.entered(ANN) as ann, gate.entered(BOB) as bob, gate.entered(CAROL) as carol:
        assert (ann, bob, carol) == (True, True, False)


def test_an_owner_waits_once_at_a_time():
    gate = WaitingGate(limit=2)

    with gate.entered(ANN) as first, gate.entered(ANN) as second:
        assert (first, second) == (True, False)


def test_who_leaves_makes_room():
    gate = WaitingGate(limit=1)

    with gate.entered(ANN) as first:
        assert first
    with gate.entered(ANN) as again:
        assert again


def test_who_was_not_let_in_makes_no_room_by_leaving():
    gate = WaitingGate(limit=1)

    with gate.entered(ANN):
        with gate.entered(ANN) as refused:
            assert not refused
        with gate.entered(BOB) as bob:
            assert not bob


def test_an_exception_makes_room():
    gate = WaitingGate(limit=1)
    with pytest.raises(ZeroDivisionError), gate.entered(ANN):
        raise ZeroDivisionError

    with gate.entered(BOB) as bob:
        assert bob


def test_a_gate_of_none_lets_nobody_in():
    with WaitingGate(limit=0).entered(ANN) as ann:
        assert not ann
