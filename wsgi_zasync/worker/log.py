# SPDX-License-Identifier: ZPL-2.1
"""The worker's log: one line for each change of a call's state, never its data.

The message is for people; ``extra`` has the same for programs. Controls are escaped, since
titles, names and reasons come from users.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ..lines import counted, escape_controls, owner_text
from ..states import CallState
from .held import Entry, Held, Order, Settled

logger = logging.getLogger("wsgi_zasync.worker")


def began(order: Order) -> None:
    """An attempt was begun."""
    _line(logging.INFO, "running", order.held, order, "")


def settled(entries: Iterable[Entry], now: float) -> None:
    """Reports were written.

    Args:
        entries: What became of them.
        now: On the monotonic clock.
    """
    for entry in entries:
        held, order = entry.report.held, entry.report.order
        seconds = None if order is None else now - (order.begun or order.handed_out)
        if entry.settled is Settled.WAITS:
            _line(
                logging.INFO, "waiting", held, order, _cause(entry) or entry.reason or "", seconds
            )
        elif entry.ended:
            level = logging.WARNING if entry.state == CallState.FAILED else logging.INFO
            # Of a result that could not be stored only the record knows.
            why = entry.failure_type or _cause(entry)
            _line(level, entry.state, held, order, why, seconds)
        if entry.callbacks_failed:
            _line(
                logging.WARNING,
                "callbacks failed",
                held,
                order,
                counted(entry.callbacks_failed, "callback"),
            )
        elif entry.settled is Settled.OWED and entry.reason:
            _line(logging.INFO, "callbacks wait", held, order, entry.reason)


def _cause(entry: Entry) -> str:
    outcome = entry.report.outcome
    if outcome is None or outcome.failure is None:
        return ""
    # Its message may hold the user's data; the type never does.
    return outcome.failure.type


def _line(
    level: int,
    what: str,
    held: Held,
    order: Order | None,
    why: str,
    seconds: float | None = None,
) -> None:
    if not logger.isEnabledFor(level):
        return
    number = None if order is None else order.attempt.number
    parts = [f"call {held.call_id} {what} plugin={held.plugin} owner={owner_text(held.owner)}"]
    if number is not None:
        parts.append(f"attempt={number}")
    if seconds is not None:
        parts.append(f"seconds={seconds:.3f}")
    if why:
        parts.append(f"({why})")
    logger.log(
        level,
        "%s",
        escape_controls(" ".join(parts)),
        extra={
            "action": what,
            "call": held.call_id,
            "plugin": held.plugin,
            "owner": list(held.owner),
            "attempt": number,
            "seconds": seconds,
        },
    )
