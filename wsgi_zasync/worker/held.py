# SPDX-License-Identifier: ZPL-2.1
"""What a worker remembers of the calls that it has accepted, without their database.

A call that is *held* leads to an *order* for an attempt; what became of that is a *report*, and
what was written of it an *entry*.

Threads: made and kept in the acceptor's thread. An ``Order`` is handed to the thread that runs
it, and a ``Report`` comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..call import CallRecord, Failure
from ..plugins import PluginDeclaration
from ..retry import RetryPolicy, policy_in_force
from .attempt import Attempt


@dataclass(slots=True, eq=False)
class Held:
    """One accepted call."""

    oid: bytes
    call_id: str
    owner: tuple[str, str]
    plugin: str
    priority: int
    #: The chunk of our area that it is in, unless it ends in the commit that accepts it.
    chunk: int
    #: It has a ``unique`` key, so that others may add to what it is about until it is accepted.
    keyed: bool = False
    #: It may have killed a worker: it runs while nothing else does, and a mark says so.
    alone: bool = False
    #: Its end conflicts with mail that it does not see, or it is read again from the inbox: so
    #: nobody has to look once more.
    checked: bool = False
    #: Commits of its end that conflicted, in a row.
    conflicts: int = 0
    #: Its end commits without its callbacks, which follow in a transaction of their own.
    callbacks_later: bool = False
    #: Its callbacks are not evaluated: they are why it could not be committed.
    callbacks_error: str | None = None

    def is_of(self, record: CallRecord) -> bool:
        """Whether the record is this call's still: its put may have been undone.

        It is empty then, or of who was put at the same place.
        """
        return record.id == self.call_id


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as its thread saw it."""

    value: Any = None
    failure: Failure | None = None
    #: What was raised, without its traceback; for the retry policy.
    error: BaseException | None = None
    #: It was not begun, and waits: the reason, and for how many seconds.
    wait: tuple[str, float] | None = None
    #: It was begun, and our storage was lost meanwhile: it waits as ``wait`` says, as often as
    #: its policy lets it. ``failure`` is then what it ends with if it was not that, after all.
    interrupted: bool = False
    #: It was not begun in time.
    expired: bool = False
    #: It stopped because it was asked to.
    cancelled: bool = False
    #: It was not begun, and is put aside: no plugin of its name is known here.
    parked: bool = False
    #: It was not begun, because its owner is no more.
    owner_gone: bool = False


@dataclass(slots=True, eq=False)
class Order:
    """One attempt that is to be made, or is being made."""

    held: Held
    attempt: Attempt
    declaration: PluginDeclaration
    #: Microseconds since 1970 UTC.
    started: int
    #: On the monotonic clock.
    handed_out: float
    timeout_seconds: float
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    #: Values that must not appear in a failure's texts.
    secrets: tuple[str, ...] = ()
    #: When its thread began it, on the monotonic clock; None while it is queued.
    begun: float | None = None
    #: When its plugin had returned, if a commit of its own follows; on the same clock.
    returned: float | None = None
    #: Its plugin was called in a transaction, which may have to be done again.
    was_called: bool = False
    #: The call's own retry policy, if it has one.
    retry: RetryPolicy | None = None
    #: How often our storage was lost while it ran.
    interruptions: int = 0
    #: Nobody waits for it any more: timed out, or its worker was taken over.
    given_up: bool = False
    #: Interrupts what runs; set by who runs it.
    interrupt: Callable[[], None] | None = None

    @property
    def policy(self) -> RetryPolicy:
        """The retry policy that holds for it."""
        return policy_in_force(self.retry, self.declaration.retry)

    @property
    def may_be_repeated(self) -> bool:
        """Whether the call may run again after an interruption, as its retry policy says."""
        return self.policy.interruptions > 1


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be written about a call."""

    held: Held
    #: None: it is final already, and only its callbacks and mail are looked at.
    outcome: Outcome | None = None
    order: Order | None = None
    #: What was written already, by the thread that ran it.
    entry: Entry | None = None


class Settled(StrEnum):
    """What a report led to."""

    #: The call is final, and nobody is owed anything any more.
    DONE = "done"
    #: It is final; callbacks are pending, to be evaluated in a later transaction.
    OWED = "owed"
    #: It waits, in our area's tree of waiting calls.
    WAITS = "waits"
    #: Nothing was written: the report is of an attempt that does not count any more.
    VOID = "void"
    #: Nothing was written: this transaction has evaluated another owner's callbacks.
    NOT_NOW = "not now"
    #: Nothing was written: a callback takes longer than others may be made to wait.
    LONG = "long"


@dataclass(frozen=True, slots=True)
class Entry:
    """One settled report, for the log and for what the worker remembers."""

    report: Report
    settled: Settled
    #: The call's state and reason as they are now, and how many callbacks failed.
    state: str
    reason: str | None = None
    callbacks_failed: int = 0
    #: Seconds until what is owed should be tried.
    delay_seconds: float = 0.0
    #: Whether this report is what made the call final.
    ended: bool = False
    #: The type of the failure that it ended with.
    failure_type: str = ""
