# SPDX-License-Identifier: ZPL-2.1
"""What a board says of the calls that run, and when there is something new to say."""

from __future__ import annotations

from wsgi_zasync import Principal
from wsgi_zasync.worker.attempt import Attempt
from wsgi_zasync.worker.board import first_shown_at, on_board
from wsgi_zasync.worker.held import Held, Order


def order(handed_out, begun=None):
    held = Held(b"1", "1", ("", "ann"), "echo", 1, 0)
    ann = Principal("ann")
    attempt = Attempt(call_id="1", number=1, principal=ann, idempotency_key="1", settings={})
    return Order(held, attempt, None, 0, handed_out, 60.0, begun=begun)


def test_nothing_is_shown_where_nothing_runs():
    assert first_shown_at([]) is None


def test_a_call_is_shown_when_it_has_run_for_half_a_second():
    assert first_shown_at([order(10.0, begun=13.0), order(9.0, begun=12.0)]) == 12.5
    assert on_board([order(10.0, begun=12.0)], 12.4) == {}
    assert list(on_board([order(10.0, begun=12.0)], 12.5)) == [b"1"]


def test_a_call_that_its_thread_is_about_to_begin_is_not_forgotten():
    # Given a worker that looks at what runs before the thread has begun it, and then sleeps
    look_at = first_shown_at([order(10.0)])
    # When the thread begins it a moment later
    found = on_board([order(10.0, begun=10.01)], look_at)
    # Then it is shown at that next look, and not at a sign of life some time
    assert 10.5 < look_at < 10.6
    assert list(found) == [b"1"]
