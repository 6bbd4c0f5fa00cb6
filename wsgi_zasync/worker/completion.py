# SPDX-License-Identifier: ZPL-2.1
"""Writes what became of a call: outcome, callbacks and counts, in one transaction.

Transaction: the caller's, which holds the worker's fence; whatever is wrong with it (the call
has ended meanwhile, the attempt is not the one that counts) writes nothing. A final state is
written once, for only a call that is not final is ended here, and its record is then changed:
of two transactions that do so ZODB lets one commit.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from random import Random
from typing import Any

from ..call import CallRecord, Failure
from ..deployment import Deployment
from ..errors import InvalidResult, Unauthorized
from ..retry import RetryEvent, RetryPolicy, policy_in_force
from ..states import CallState
from ..store.mailbox import Mail
from ..store.parking import hand_on, park, put_aside
from ..store.reading import why_unreadable
from ..values import Storing
from .callbacks.evaluation import Evaluation, TakesLong, Undecided, mark_gone
from .callbacks.savepoint import Savepoint
from .desk import Writing
from .held import Entry, Held, Outcome, Report, Settled
from .redaction import failure_from, shown, text_of

logger = logging.getLogger(__name__)

#: After how long something is tried again that a policy could not decide, in seconds.
UNDECIDED_DELAY = 5.0


class Completion:
    """Settles reports; shared by the committing threads of a worker."""

    def __init__(self, deployment: Deployment, evaluation: Evaluation, random: Random) -> None:
        """Keep what all transactions share."""
        self._deployment = deployment
        self._evaluation = evaluation
        self._random = random

    def settle(self, writing: Writing, report: Report, *, brief: bool = False) -> Entry:
        """Write what the report says.

        Args:
            writing: The transaction.
            report: Of what has become of a call.
            brief: Whether others wait for this thread, so that long callbacks are refused.

        Raises:
            TransientError: The transaction has to be done again.
        """
        record = writing.record(report.held)
        if (reason := why_unreadable(record)) is not None:
            logger.error("a call that was accepted is put aside: %s", shown(reason))
            put_aside(writing.store.site, record)
            _leave_chunk(writing, report.held)
            return Entry(report, Settled.WAITS, CallState.WAITING, "its record cannot be read")
        if not report.held.is_of(record):
            if writing.area.has(record, report.held.chunk):
                _leave_chunk(writing, report.held)
                hand_on(writing.store.site, record)
            return Entry(report, Settled.WAITS, CallState.WAITING, "its put was undone")
        if record.forgotten:
            return Entry(report, Settled.DONE, record.state)
        mail = writing.store.mail(record)
        has_callbacks = bool(record.callbacks or mail.callbacks)
        owner = writing.callback_owner
        if has_callbacks and not self._may_evaluate(writing, record):
            return Entry(report, Settled.NOT_NOW, record.state)
        if not (brief and has_callbacks):
            return self._settled(writing, report, record, mail)
        before = Savepoint(writing, self._deployment)
        try:
            return self._settled(writing, report, record, mail, brief=True)
        except TakesLong:
            before.rollback()
            writing.callback_owner = owner
            return Entry(report, Settled.LONG, record.state)

    def _settled(
        self,
        writing: Writing,
        report: Report,
        record: CallRecord,
        mail: Mail,
        *,
        brief: bool = False,
    ) -> Entry:
        ended = False
        if not record.is_final:
            if report.outcome is None or not _counts(record, report):
                return Entry(report, Settled.VOID, record.state)
            waits = self._write(writing, record, mail, report, report.outcome)
            if waits is not None:
                return waits
            ended = True
        _append_late(record, mail)
        entry = self._callbacks(writing, record, report, ended, brief)
        if ended and record.failure is not None:
            entry = replace(entry, failure_type=Failure.from_plain(record.failure).type)
        return entry

    def _may_evaluate(self, writing: Writing, record: CallRecord) -> bool:
        """Whether this owner's callbacks may share the transaction with those before."""
        if getattr(self._deployment.policy, "stateless", False):
            return True
        if writing.callback_owner is None:
            writing.callback_owner = record.owner
        return writing.callback_owner == record.owner

    # -- the end --------------------------------------------------------------------------

    def _write(
        self, writing: Writing, record: CallRecord, mail: Mail, report: Report, outcome: Outcome
    ) -> Entry | None:
        """End the call, or let it wait; what it says then, if it waits."""
        now = self._deployment.clock.micros()
        if outcome.parked:
            # Else a commit came about of which we were told that it had not, and it may be
            # another worker's by now.
            if writing.area.has(record, report.held.chunk):
                park(writing.store.site, record)
                _leave_chunk(writing, report.held)
            return Entry(report, Settled.WAITS, record.state, record.waiting_reason)
        if outcome.interrupted:
            outcome = self._after_interruption(writing, record, report, outcome)
        if outcome.wait is not None:
            reason, delay = outcome.wait
            return self._waits(writing, record, report, reason, delay, now)
        if report.order is not None and not outcome.expired:
            record.attempted(report.order.started)
        size = 0
        if mail.cancel_requested or outcome.cancelled:
            record.cancel(now)
        elif outcome.expired:
            record.expire(now)
        elif outcome.failure is None:
            size = self._succeed(writing, record, outcome.value, now)
        else:
            decision = _policy(record, report).decide(
                RetryEvent.RAISED,
                count=record.attempts,
                random=self._random,
                error=outcome.error,
            )
            if decision.again and report.order is not None and not outcome.interrupted:
                # What a plugin says with Retry is as likely to quote a secret as any failure.
                said = shown(decision.reason, report.order.secrets)
                reason = f"{said}: {outcome.failure.type}"
                return self._waits(writing, record, report, reason, decision.delay_seconds, now)
            record.fail(outcome.failure, now)
            size = len(outcome.failure.message) + len(outcome.failure.traceback_text)
            if outcome.owner_gone:
                mark_gone(writing, record, now)
        record.size += size
        writing.store.count_end(writing.tallies, record, size)
        return None

    def _after_interruption(
        self, writing: Writing, record: CallRecord, report: Report, outcome: Outcome
    ) -> Outcome:
        """The same, to wait and run again; or the end, at the interruption that is one too many."""
        if writing.area.holds_waiting(record):
            # A commit came about of which we were told that it had not: it is counted.
            return outcome
        record.interruptions += 1
        policy = _policy(record, report)
        decision = policy.decide(
            RetryEvent.INTERRUPTED, count=record.interruptions, random=self._random
        )
        if decision.again:
            return outcome
        if outcome.failure is not None:
            # As it looks it is the plugin's own; but what must not run again does not for that.
            return replace(outcome, wait=None, interrupted=policy.interruptions == 1)
        failure = Failure(
            "Interrupted",
            f"its storage was lost: {decision.reason}",
            "",
            record.attempts + 1,
            self._deployment.clock.now(),
        )
        return replace(outcome, wait=None, failure=failure)

    def _succeed(self, writing: Writing, record: CallRecord, value: Any, now: int) -> int:
        """End with a result; with a failure where the result cannot be stored."""
        storing = Storing(
            writing.store.connection,
            max_bytes=self._deployment.quotas.max_result_bytes,
            error=InvalidResult,
            # A thread without a transaction is lent one that is closed by now.
            other_connections=True,
        )
        try:
            record.succeed(storing.stored(value, "result"), now)
        except InvalidResult as exc:
            failure = Failure(
                "InvalidResult",
                shown(text_of(exc)),
                "",
                record.attempts,
                self._deployment.clock.now(),
            )
            record.fail(failure, now)
            return len(failure.message)
        return storing.size

    @staticmethod
    def _waits(
        writing: Writing,
        record: CallRecord,
        report: Report,
        reason: str,
        delay_seconds: float,
        now: int,
    ) -> Entry:
        due = now + int(delay_seconds * 1_000_000)
        mailbox = record.mailbox
        if mailbox is not None:
            # Nobody looks at its mail before it is due: what is asked for at this very moment
            # has to be seen now, or be told that it waits.
            mailbox._p_activate()
            writing.store.connection.readCurrent(mailbox)
        if not writing.area.holds_waiting(record):
            # Else a commit came about of which we were told that it had not.
            record.wait(reason, due)
            writing.area.wait(record, due)
        return Entry(report, Settled.WAITS, record.state, reason)

    # -- its callbacks ----------------------------------------------------------------------

    def _callbacks(
        self, writing: Writing, record: CallRecord, report: Report, ended: bool, brief: bool
    ) -> Entry:
        held = report.held
        if not record.pending_callbacks():
            return Entry(report, Settled.DONE, record.state, ended=ended)
        if held.callbacks_error is not None:
            failed = _give_callbacks_up(record, held.callbacks_error)
            return Entry(report, Settled.DONE, record.state, None, failed, ended=ended)
        if held.callbacks_later and ended:
            return Entry(report, Settled.OWED, record.state, "callbacks follow", ended=ended)
        try:
            failed = self._evaluation.evaluate(writing, record, brief=brief)
        except Undecided as exc:
            return Entry(
                report, Settled.OWED, record.state, str(exc), 0, UNDECIDED_DELAY, ended=ended
            )
        return Entry(report, Settled.DONE, record.state, None, failed, ended=ended)


def own_policy(record: CallRecord) -> RetryPolicy | None:
    """The retry policy that the call was put with."""
    return None if record.retry is None else RetryPolicy.from_plain(record.retry)


def _policy(record: CallRecord, report: Report) -> RetryPolicy:
    """The retry policy that holds for a call; without an order no plugin was asked."""
    declared = None if report.order is None else report.order.declaration.retry
    return policy_in_force(own_policy(record), declared)


def unauthorized(error: Unauthorized, number: int, deployment: Deployment) -> Failure:
    """The failure of a call that its owner may not make any more."""
    return failure_from(
        error, attempt=number, when=deployment.clock.now(), type_name="Unauthorized"
    )


def _leave_chunk(writing: Writing, held: Held) -> None:
    """Take a parked call out of its chunk: whoever takes that over must not find it there."""
    chunk = writing.area.chunks.get(held.chunk)
    if chunk is not None:
        rest = (call for call in chunk.calls if call._p_oid != held.oid)
        writing.area.replace_chunk(held.chunk, rest)


def _counts(record: CallRecord, report: Report) -> bool:
    return report.order is None or report.order.attempt.number == record.attempts + 1


def _append_late(record: CallRecord, mail: Mail) -> None:
    """Take over callbacks that were declared after the put."""
    late = mail.callbacks[record.late_callbacks :]
    if late:
        record.callbacks += late
        record.late_callbacks = len(mail.callbacks)


def _give_callbacks_up(record: CallRecord, error: str) -> int:
    callbacks = record.all_callbacks()
    pending = record.pending_callbacks()
    for index in pending:
        callbacks[index] = callbacks[index].failed(error)
    record.set_callbacks(callbacks)
    return len(pending)
