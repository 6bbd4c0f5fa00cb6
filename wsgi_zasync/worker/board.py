# SPDX-License-Identifier: ZPL-2.1
"""What a worker's board says of the calls that run: those that run for longer than a moment.

Thread: the acceptor's.
"""

from __future__ import annotations

from collections.abc import Iterable

from .attempt import progress_of
from .held import Order
from .rounds import RunningOnBoard

#: Seconds that a call runs before it is on the board.
SHOWN_AFTER_SECONDS = 0.5

#: Seconds in which a thread should have begun what it was handed. Who does not wait for it to
#: begin looks that much later, to find that it has run for long enough.
BEGUN_WITHIN_SECONDS = 0.05


def on_board(orders: Iterable[Order], now: float) -> RunningOnBoard:
    """What is to be shown of these attempts."""
    return {
        order.held.oid: (order.attempt.number, order.started, *progress_of(order.attempt))
        for order in orders
        if order.begun is not None and now - order.begun >= SHOWN_AFTER_SECONDS
    }


def first_shown_at(orders: Iterable[Order]) -> float | None:
    """When the first of them is to be on the board, on the monotonic clock."""
    begun = (
        # It is a thread of its own that begins, and tells nobody.
        order.handed_out + BEGUN_WITHIN_SECONDS if order.begun is None else order.begun
        for order in orders
    )
    first = min(begun, default=None)
    return None if first is None else first + SHOWN_AFTER_SECONDS
