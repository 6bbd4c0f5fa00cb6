# SPDX-License-Identifier: ZPL-2.1
"""The states of a call and of a callback, and which may follow which."""

from __future__ import annotations

from enum import StrEnum


class CallState(StrEnum):
    """Where a call stands. A final state never changes."""

    #: Not begun: in line, not yet due, waiting for a retry, or its plugin is unknown.
    WAITING = "waiting"
    #: A worker is at it.
    RUNNING = "running"
    #: Ended with a result.
    SUCCEEDED = "succeeded"
    #: Ended with a failure.
    FAILED = "failed"
    #: Ended because its owner or an operator asked for it.
    CANCELLED = "cancelled"
    #: Ended because it was not begun in time.
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows this state."""
        return self in FINAL


#: The states that nothing follows.
FINAL = frozenset({CallState.SUCCEEDED, CallState.FAILED, CallState.CANCELLED, CallState.EXPIRED})

#: What may follow what, by text as it is stored. ``running`` goes back to ``waiting`` for a retry.
TRANSITIONS: dict[str, frozenset[CallState]] = {
    CallState.WAITING: frozenset({CallState.RUNNING}) | FINAL,
    CallState.RUNNING: frozenset({CallState.WAITING}) | FINAL,
    **{state: frozenset() for state in FINAL},
}


class CallbackState(StrEnum):
    """Where a callback expression stands; it never changes the call's state."""

    #: The call has not ended the way that this callback is for, or it is yet to be evaluated.
    PENDING = "pending"
    #: Evaluated, and its effects are committed.
    DONE = "done"
    #: Raised; its effects were rolled back and its error is kept.
    FAILED = "failed"
