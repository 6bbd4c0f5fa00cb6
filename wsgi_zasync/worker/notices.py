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

#: Seconds within which a free thread begins what was handed to it.
BEGINS_WITHIN_SECONDS = 0.05


def on_board(orders: Iterable[Order], now: float) -> RunningOnBoard:
    """What is to be shown of these attempts."""
    return {
        order.held.oid: (order.attempt.number, order.started, *progress_of(order.attempt))
        for order in orders
        if order.begun is not None and now - order.begun >= SHOWN_AFTER_SECONDS
    }


def first_shown_at(orders: Iterable[Order]) -> float | None:
    """When the first of them is to be on the board, on the monotonic clock."""
    # The thread that one was handed to just now may not have begun it yet.
    begun = [o.handed_out + BEGINS_WITHIN_SECONDS if o.begun is None else o.begun for o in orders]
    return min(begun) + SHOWN_AFTER_SECONDS if begun else None
