# SPDX-License-Identifier: ZPL-2.1
"""Runs plugins that have no transaction: in the reactor, or blocking in a thread.

Whatever happens, each order is reported exactly once: by its end, by its time being over, or
not at all if it was given up.

Threads: ``begin`` and what it leaves as an order's ``interrupt`` are called from the acceptor's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from transaction.interfaces import TransientError
from twisted.internet.defer import Deferred
from ZEO.Exceptions import ClientDisconnected

from ...call import Failure
from ...clock import Clock
from ...retry import Retry
from ...values import persistent_objects
from ..attempt import cancel
from ..beginning import Beginning
from ..desk import Desk, StorageAway, is_foreign
from ..held import Order, Outcome
from ..redaction import failure_from
from .pool import Pool, Slot
from .reactor import ensure_running

#: After how long a call begins, or runs again, whose objects could not be read, in seconds.
AGAIN_SECONDS = 5.0

#: Why a call waits that has to run again because of that.
LOST = "the storage was lost while it ran"

#: Told how an order ended; called from any thread.
Ended = Callable[[Order, Outcome], None]


def outcome_of(order: Order, error: BaseException, clock: Clock) -> Outcome:
    """The outcome of an attempt that raised."""
    failure = failure_from(
        error, attempt=order.attempt.number, when=clock.now(), secrets=order.secrets
    )
    # The frames of the traceback hold the plugin's values, and are not needed any more.
    return Outcome(failure=failure, error=error.with_traceback(None))


def timed_out(order: Order, clock: Clock) -> Outcome:
    """The outcome of an attempt that took too long."""
    text = f"no result after {order.timeout_seconds:g} seconds"
    failure = Failure("TimedOut", text, "", order.attempt.number, clock.now())
    return Outcome(failure=failure, error=TimedOut(text))


class TimedOut(TimeoutError):
    """An attempt took longer than it may; retry policies can name it."""


class ThreadRunner:
    """Runs blocking plugins in threads.

    They have no database; only one whose arguments are objects is lent a connection, to read
    them by.
    """

    def __init__(
        self, pool: Pool[None], ended: Ended, clock: Clock, db: Any, beginning: Beginning
    ) -> None:
        """Use the threads of ``pool``, which own nothing."""
        self._pool = pool
        self._ended = ended
        self._clock = clock
        self._db = db
        self._beginning = beginning

    def begin(self, order: Order) -> None:
        """Run it as soon as a thread has time."""
        order.interrupt = lambda: cancel(order.attempt)
        self._pool.submit(lambda slot: self._run(order, slot), order)

    def _run(self, order: Order, slot: Slot[None]) -> None:
        # Before we look whether it was given up: who does that later calls this.
        order.interrupt = lambda: self._pool.abandon(slot, order) if order.given_up else None
        if order.given_up:
            return
        order.begun = self._clock.monotonic()
        if persistent_objects((order.args, order.kwargs)):
            try:
                outcome = self._call_with_objects(order)
            except (TransientError, StorageAway) as exc:
                outcome = Outcome(wait=(f"its objects cannot be read now: {exc}", AGAIN_SECONDS))
            except Exception as exc:  # noqa: BLE001 - nor will they ever be
                outcome = outcome_of(order, exc, self._clock)
        else:
            outcome = call_blocking(order, self._clock)
        if not order.given_up:
            self._ended(order, outcome)

    def _call_with_objects(self, order: Order) -> Outcome:
        """Give it objects of a connection of its own: the acceptor's are for its thread only."""
        desk = Desk(self._db, self._beginning.deployment.site)
        try:
            if order.interruptions and desk.is_away():
                raise StorageAway("the storage is still away")
            outcome = self._called_at(desk, order)
            if outcome.error is None or isinstance(outcome.error, Retry):
                return outcome
            return _interrupted_or(outcome, outcome.error, desk)
        finally:
            desk.close()

    def _called_at(self, desk: Desk, order: Order) -> Outcome:
        with desk.transaction():
            record = desk.store_connection.get(order.held.oid)
            order.args, order.kwargs = self._beginning.arguments(record, desk.store_connection, [])
            outcome = call_blocking(order, self._clock)
            order.args, order.kwargs = (), {}
            if outcome.failure is None and desk.has_changes():
                error = TypeError(
                    f"plugin {order.declaration.name!r} changed an object, and runs in a "
                    'thread without a transaction: declare it with runs="transaction"'
                )
                return outcome_of(order, error, self._clock)
            return outcome


def _interrupted_or(outcome: Outcome, error: BaseException, desk: Desk) -> Outcome:
    """What a failure was if it was our storage's; else the same."""
    interrupted = Outcome(wait=(LOST, AGAIN_SECONDS), interrupted=True)
    if is_foreign(error, desk.connection):
        # Of a database of the plugin's own. But ours may have been away for a moment only, so
        # that it takes more than one to say that.
        return replace(interrupted, failure=outcome.failure, error=error)
    if isinstance(error, ClientDisconnected) or desk.is_away():
        return interrupted
    return outcome


def call_blocking(order: Order, clock: Clock) -> Outcome:
    """Call the plugin in this thread."""
    try:
        value = order.declaration.load()(order.attempt, *order.args, **order.kwargs)
        if inspect.isawaitable(value):  # a Deferred is, too
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError(
                f"plugin {order.declaration.name!r} returned something to be awaited, and runs in "
                'a thread; declare it with runs="reactor"'
            )
    except BaseException as exc:  # noqa: BLE001 - SystemExit too must end the call, not a thread
        return outcome_of(order, exc, clock)
    return Outcome(value=value)


class ReactorRunner:
    """Runs plugins that never block, in the reactor's thread."""

    def __init__(self, ended: Ended, clock: Clock) -> None:
        """Use the reactor of this process; it is started when something is to run."""
        self._ended = ended
        self._clock = clock

    def begin(self, orders: Iterable[Order]) -> None:
        """Run them all, soon."""
        runs = [_ReactorRun(order, self._ended, self._clock) for order in orders]
        if not runs:
            return
        reactor = ensure_running()
        for run in runs:
            run.order.interrupt = lambda run=run: reactor.callFromThread(run.interrupt)
        reactor.callFromThread(_begin_all, reactor, runs)


def _begin_all(reactor: Any, runs: list[_ReactorRun]) -> None:
    for run in runs:
        run.begin(reactor)


class _ReactorRun:
    """One order in the reactor's thread."""

    def __init__(self, order: Order, ended: Ended, clock: Clock) -> None:
        self.order = order
        self._ended = ended
        self._clock = clock
        self._deferred: Deferred[Any] | None = None
        self._timer: Any = None
        self._over = False

    def begin(self, reactor: Any) -> None:
        order = self.order
        if order.given_up:
            return
        order.begun = self._clock.monotonic()
        try:
            value = order.declaration.load()(order.attempt, *order.args, **order.kwargs)
            if inspect.iscoroutine(value):
                value = Deferred.fromCoroutine(value)
        except BaseException as exc:  # noqa: BLE001 - SystemExit must not stop the reactor
            self._end(outcome_of(order, exc, self._clock))
            return
        if not isinstance(value, Deferred):
            self._end(Outcome(value=value))
            return
        self._deferred = value
        self._timer = reactor.callLater(order.timeout_seconds, self._time_is_over)
        value.addCallbacks(self._returned, self._raised)

    def interrupt(self) -> None:
        if self.order.given_up:
            self._over = True
        if self._deferred is not None:
            self._deferred.cancel()

    def _returned(self, value: Any) -> None:
        self._end(Outcome(value=value))

    def _raised(self, failure: Any) -> None:
        self._end(outcome_of(self.order, failure.value, self._clock))

    def _time_is_over(self) -> None:
        # First the outcome: what a cancelled Deferred says then is of no interest.
        self._end(timed_out(self.order, self._clock))
        cancel(self.order.attempt)
        if self._deferred is not None:
            self._deferred.cancel()

    def _end(self, outcome: Outcome) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self._over:
            self._over = True
            self._ended(self.order, outcome)
