# SPDX-License-Identifier: ZPL-2.1
"""Runs plugins whose effects, outcome and callbacks are one commit.

Transaction: one for each try, begun here; a conflict makes another try and costs no attempt.
What fails writes nothing here: it is reported, and the acceptor writes it.
Threads: those of a pool, each with its own connection and its own counts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random

from transaction.interfaces import TransientError

from ...deployment import Deployment
from ...errors import Fenced, TransactionOver
from ...retry import RetryEvent
from ...states import CallState
from ..attempt import cancel
from ..beginning import Beginning
from ..completion import Completion
from ..desk import AWAY, Desk, StorageAway, StorageFull, Writing, is_foreign, is_full, serialise
from ..held import Entry, Order, Outcome, Report, Settled
from ..membership import Membership
from ..redaction import shown, text_of
from .pool import Pool, Slot
from .without_transaction import call_blocking, outcome_of

logger = logging.getLogger(__name__)

#: Seconds between tries while the storage is away.
AWAY_SECONDS = 0.5

#: Conflicts after which a call runs while no other of this process does that has met as many.
PATIENCE = 2

#: Tries of a commit that fails for a reason that is no conflict: a hook that refuses, or a
#: storage that has errors of its own for what is one.
UNKNOWN_TRIES = 3

#: Tries that lose a connection although our storage is there, in a row: then it is a failure of
#: the plugin's like any other.
LOST_TRIES = 3

#: Tries of what a full disk has no room for, while it has for others: each one waits for twice as
#: many commits of others, since the last few small ones find room on any disk.
FULL_TRIES = 8

#: Conflicts after which the callbacks follow in a transaction of their own.
CALLBACKS_PATIENCE = 4

#: Says that everything is written already.
_WRITTEN = Outcome(value="written")


class TransactionRunner:
    """Runs orders in threads that have a connection."""

    def __init__(
        self,
        pool: Pool[Desk],
        deployment: Deployment,
        beginning: Beginning,
        completion: Completion,
        membership: Membership,
        *,
        committed: Callable[[Order, Entry], None],
        ended: Callable[[Order, Outcome | None], None],
        fenced: Callable[[], None],
        random: Random,
    ) -> None:
        """Use the pool's threads.

        Args:
            pool: Threads that own a desk.
            deployment: What the process knows.
            beginning: Decides whether and with what an attempt is made.
            completion: Writes its end.
            membership: Knows where our area is now, and commits.
            committed: Told of what was written, after the commit.
            ended: Told of an outcome that the acceptor has to write; None: it has ended.
            fenced: Told that we were taken for dead.
            random: Where delays come from.
        """
        self._pool = pool
        self._deployment = deployment
        self._beginning, self._completion = beginning, completion
        self._membership = membership
        self._committed, self._ended, self._fenced = committed, ended, fenced
        self._random = random
        self._turns = threading.Condition()
        #: The order that runs while no other one does that has met ``PATIENCE`` conflicts.
        self._alone: Order | None = None
        self._stopping = threading.Event()

    def begin(self, order: Order) -> None:
        """Run it as soon as a thread has time."""
        order.interrupt = lambda: cancel(order.attempt)
        self._pool.submit(lambda slot: self._run(order, slot), order)

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._stopping.set()

    def _run(self, order: Order, slot: Slot[Desk]) -> None:
        order.interrupt = lambda: self._interrupt(order, slot)
        order.begun = self._deployment.clock.monotonic()
        conflicts = lost = full = 0
        without_callbacks = False
        outcome: Outcome | None = None
        while not order.given_up:
            try:
                order.held.callbacks_later = without_callbacks or conflicts >= CALLBACKS_PATIENCE
                if conflicts < PATIENCE:
                    outcome = self._try(order, slot)
                else:
                    with self._turn_alone(order):
                        outcome = self._try(order, slot)
                break
            except Fenced:
                # One that was given up belongs to a place that its worker has left already.
                if not order.given_up:
                    self._fenced()
                return
            except StorageFull as exc:
                full += 1
                if full >= FULL_TRIES:
                    outcome = outcome_of(order, exc.__cause__ or exc, self._deployment.clock)
                    break
                if self._is_stopped_while_full(order, 2 ** (full - 1)):
                    return
            except AWAY as exc:
                # Of a database of the plugin's own, if ours is there. But ours may have been away
                # for a moment only, so that it takes more than one to say that.
                lost = lost + 1 if is_foreign(exc, slot.owned.connection) else 0
                if lost >= LOST_TRIES:
                    outcome = outcome_of(order, exc, self._deployment.clock)
                    break
                if self._is_stopped_while_away(order):
                    return
            except Exception as exc:  # noqa: BLE001 - the storage's, whose kinds nobody can list
                conflicts += 1
                lost = 0
                # A conflict is nobody's fault; another reason may be a callback's.
                without_callbacks |= not isinstance(exc, TransientError)
                if (failed := self._give_up_after(order, conflicts, exc)) is not None:
                    outcome = failed
                    break
        if not order.given_up and outcome is not _WRITTEN:
            self._ended(order, outcome)

    def _is_stopped_while_away(self, order: Order) -> bool:
        """Wait a moment for the storage; whether the worker stops meanwhile."""
        # An outage is none of the time that the call may take.
        order.begun = None
        if self._stopping.wait(AWAY_SECONDS):
            return True
        order.begun = self._deployment.clock.monotonic()
        return False

    def _is_stopped_while_full(self, order: Order, count: int) -> bool:
        """Wait until so many others were written; whether the worker stops meanwhile.

        It is not run again before that: its plugin may do something outside the database.
        """
        order.begun = None
        until = self._membership.commits + count
        while self._membership.commits < until and not _is_unwanted(order):
            if self._stopping.wait(AWAY_SECONDS):
                return True
        order.begun = self._deployment.clock.monotonic()
        return False

    @contextmanager
    def _turn_alone(self, order: Order) -> Iterator[None]:
        """Wait until no other order has its turn, but for those whose end nobody waits for."""
        with self._turns:
            self._turns.wait_for(
                lambda: order.given_up or self._alone is None or self._alone.given_up
            )
            if not order.given_up:
                self._alone = order
        try:
            yield
        finally:
            with self._turns:
                if self._alone is order:
                    self._alone = None
                self._turns.notify_all()

    def _interrupt(self, order: Order, slot: Slot[Desk]) -> None:
        cancel(order.attempt)
        if order.given_up:
            self._pool.abandon(slot, order)
            with self._turns:
                self._turns.notify_all()

    def _give_up_after(self, order: Order, conflicts: int, error: Exception) -> Outcome | None:
        """Wait a moment before the next try; or the failure, if there is to be none."""
        decision = order.policy.decide(RetryEvent.CONFLICT, count=conflicts, random=self._random)
        known = isinstance(error, TransientError)
        if not known:
            logger.warning(
                "call %s could not be committed: %s: %s",
                order.held.call_id,
                type(error).__name__,
                shown(text_of(error)),
            )
        if not decision.again or (not known and conflicts >= UNKNOWN_TRIES):
            return outcome_of(order, error, self._deployment.clock)
        self._stopping.wait(decision.delay_seconds)
        return None

    def _try(self, order: Order, slot: Slot[Desk]) -> Outcome | None:
        """One try; an outcome for the acceptor to write, or _WRITTEN."""
        outcome = self._in_transaction(order, slot)
        if outcome is not None and outcome.error is not None and slot.owned.is_away():
            # What the plugin read or wrote is what failed, and not the plugin.
            raise StorageAway(text_of(outcome.error)) from outcome.error
        return outcome

    def _in_transaction(self, order: Order, slot: Slot[Desk]) -> Outcome | None:
        desk = slot.owned
        with desk.transaction() as transaction:
            writing = self._membership.writing(desk, transaction, slot.number)
            fresh = self._beginning.order(writing, order.held, has_begun=order.was_called)
            if not isinstance(fresh, Order):
                return fresh
            if order.attempt.is_cancelled:
                return Outcome(cancelled=True)
            order.attempt, order.secrets = fresh.attempt, fresh.secrets
            order.retry, order.was_called = fresh.retry, True
            outcome = call_blocking(replace(fresh, held=order.held), self._deployment.clock)
            order.returned = self._deployment.clock.monotonic()
            if isinstance(outcome.error, (TransientError, Fenced)):
                raise outcome.error
            if outcome.failure is not None or order.given_up:
                return outcome
            if order.attempt.is_cancelled:
                # It was asked to stop while it ran: the asking is newer than this snapshot, and
                # half of its effects are not wanted.
                return Outcome(cancelled=True)
            if not writing.is_current():
                error = TransactionOver(
                    f"plugin {order.declaration.name!r} has ended its transaction or closed its "
                    "connection, so that its effects and its outcome are not one commit: leave "
                    "both to the worker"
                )
                return outcome_of(order, error, self._deployment.clock)
            return self._write(order, writing, outcome)

    def _write(self, order: Order, writing: Writing, outcome: Outcome) -> Outcome | None:
        held = order.held
        try:
            # What the plugin changed is serialised here, so that an effect that cannot be
            # stored is the plugin's failure and not its callbacks'.
            serialise(writing)
        except TransientError:
            raise
        except Exception as exc:
            if is_full(exc):
                raise
            return outcome_of(order, exc, self._deployment.clock)
        entry = self._completion.settle(writing, Report(held, outcome, order))
        if order.given_up or entry.settled is Settled.VOID:
            return None
        if entry.state != CallState.SUCCEEDED:
            # Cancelled meanwhile, or a result that cannot be stored: then its effects are not
            # wanted either.
            return outcome if entry.state == CallState.FAILED else Outcome(cancelled=True)
        self._membership.commit(writing.transaction, [held.oid])
        self._committed(order, entry)
        return _WRITTEN


def _is_unwanted(order: Order) -> bool:
    return order.given_up or order.attempt.is_cancelled
