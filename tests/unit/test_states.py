# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import pytest

from wsgi_zasync.states import FINAL, TRANSITIONS, CallbackState, CallState


def test_states_are_the_words_that_users_read():
    words = [str(state) for state in CallState]

    assert words == ["waiting", "running", "succeeded", "failed", "cancelled", "expired"]
    assert CallState("waiting") is CallState.WAITING
    assert CallState.FAILED == "failed"


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_follows_a_final_state(state):
    assert state.is_final
    assert TRANSITIONS[state] == frozenset()


@pytest.mark.parametrize("state", [CallState.WAITING, CallState.RUNNING])
def test_every_end_can_follow_a_state_that_is_not_final(state):
    assert not state.is_final
    assert TRANSITIONS[state] >= FINAL


def test_every_state_has_its_row():
    assert set(TRANSITIONS) == set(CallState)


def test_a_running_call_can_wait_again():
    assert CallState.WAITING in TRANSITIONS[CallState.RUNNING]


def test_callbacks_have_states_of_their_own():
    assert [str(state) for state in CallbackState] == ["pending", "done", "failed"]
