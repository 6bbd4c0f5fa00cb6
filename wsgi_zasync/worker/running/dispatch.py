# SPDX-License-Identifier: ZPL-2.1
"""Hands orders out to who runs them, and takes them back when their time is over.

Thread: the acceptor's; reports come back through the bell, from any.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from random import Random
from typing import Any

from ...call import Failure
from ...deployment import Deployment
from ...settings import WorkerSettings
from .. import log
from ..attempt import cancel
from ..beginning import Beginning
from ..completion import Completion
from ..desk import Desk
from ..held import Entry, Held, Order, Outcome, Report
from ..holdings import Holdings
from ..membership import Membership
from ..waking.bell import Bell
from .pool import Pool
from .transactions import TransactionRunner
from .without_transaction import ReactorRunner, ThreadRunner, timed_out

logger = logging.getLogger(__name__)

#: Short calls are handed to the threads ahead of time, at most so many.
LONGEST_QUEUE = 100

#: Seconds within which a queued call should have begun; else fewer are queued.
QUEUED_SECONDS = 0.05

#: A plugin is known to be short after so many calls that took no longer than this, in seconds.
KNOWN_AFTER = 3
SHORT_SECONDS = 0.005


class Dispatcher:
    """Who runs what of one worker."""

    def __init__(
        self,
        db: Any,
        deployment: Deployment,
        settings: WorkerSettings,
        membership: Membership,
        beginning: Beginning,
        completion: Completion,
        bell: Bell,
        *,
        one_by_one: bool,
    ) -> None:
        """Make the runners; threads are started when there is something to run."""
        self._clock = deployment.clock
        self._registry = deployment.registry
        self._settings = settings
        self._bell = bell
        self._one_by_one = one_by_one
        #: How many calls may be queued in front of the threads.
        self._queue = 0
        #: When orders were last handed out, on the monotonic clock.
        self.handed_out_at = float("-inf")
        #: plugin -> (how many of its calls have ended here, seconds they took of late)
        self._took: dict[str, tuple[int, float]] = {}
        self._threads: Pool[None] = Pool(
            f"{membership.name}-thread", settings.threads, lambda _: None, lambda _: None
        )
        self._desks: Pool[Desk] = Pool(
            f"{membership.name}-transaction",
            settings.threads,
            lambda _: Desk(db, deployment.site),
            lambda desk: desk.close(),
            lambda desk: desk.catch_up(),
        )
        self._reactor = ReactorRunner(self.ended, self._clock)
        self._thread = ThreadRunner(self._threads, self.ended, self._clock, db, beginning)
        self._transaction = TransactionRunner(
            self._desks,
            deployment,
            beginning,
            completion,
            membership,
            committed=self._committed,
            ended=self.ended,
            fenced=bell.fenced,
            random=Random(),
        )

    # -- what may begin ---------------------------------------------------------------------

    def room(self, holdings: Holdings) -> int:
        """How many more orders may be out."""
        limit = 1 if self._one_by_one else self._settings.max_running
        return max(0, limit - len(holdings.running))

    def may_begin(self, holdings: Holdings, chosen: dict[str, int], held: Held) -> bool:
        """Whether this call may be handed out, with those chosen already; counts it if so."""
        declaration = self._registry.declaration(held.plugin)
        plugin, place = f"plugin {held.plugin}", f"runs {declaration.runs}"
        most = declaration.max_running
        out = holdings.by_plugin[held.plugin] + chosen.get(plugin, 0)
        if most is not None and out >= most:
            return False
        if declaration.runs != "reactor":
            out = holdings.by_place[declaration.runs] + chosen.get(place, 0)
            if out >= self._settings.threads + self._queue:
                return False
        chosen[plugin] = chosen.get(plugin, 0) + 1
        chosen[place] = chosen.get(place, 0) + 1
        return True

    def adapt(self, holdings: Holdings) -> None:
        """Queue more in front of the threads while calls are short, less when they are not."""
        now = self._clock.monotonic()
        late = any(
            order.begun is None and now - order.handed_out > QUEUED_SECONDS
            for order in holdings.running.values()
        )
        if late:
            self._queue //= 2
        elif not holdings.running and holdings.waiting_to_begin:
            self._queue = min(LONGEST_QUEUE, 2 * self._queue + self._settings.threads)

    @property
    def ahead(self) -> int:
        """How many calls are worth accepting before there is room for them."""
        return 2 * self._queue

    # -- handing out --------------------------------------------------------------------------

    def hand_out(self, orders: Iterable[Order], holdings: Holdings) -> None:
        """Have these run."""
        for_reactor: list[Order] = []
        self.handed_out_at = self._clock.monotonic()
        for order in orders:
            holdings.began(order)
            log.began(order)
            if order.declaration.runs == "reactor":
                for_reactor.append(order)
            elif order.declaration.runs == "transaction":
                self._transaction.begin(order)
            else:
                self._thread.begin(order)
        self._reactor.begin(for_reactor)

    def ended(self, order: Order, outcome: Outcome | None) -> None:
        """An order has ended; called from any thread."""
        self._note_time(order)
        self._bell.report(Report(order.held, outcome, order))

    def _committed(self, order: Order, entry: Entry) -> None:
        self._note_time(order)
        self._bell.report(Report(order.held, None, order, entry))

    def _note_time(self, order: Order) -> None:
        # A commit takes what the storage takes, whatever the plugin.
        returned = order.returned or self._clock.monotonic()
        took = returned - (order.begun or order.handed_out)
        ended, average = self._took.get(order.held.plugin, (0, took))
        self._took[order.held.plugin] = (ended + 1, 0.7 * average + 0.3 * took)

    def is_short(self, plugin: str) -> bool:
        """Whether calls of the plugin have ended here before, and soon.

        Those of others are accepted in a commit of their own before they begin, so that a call
        that kills its worker is known to have been begun.
        """
        ended, seconds = self._took.get(plugin, (0, 0.0))
        return ended >= KNOWN_AFTER and seconds < SHORT_SECONDS

    def may_run_at_once(self, holdings: Holdings, held: Iterable[Held]) -> bool:
        """Whether all of these are of short plugins, and may be handed out together."""
        chosen: dict[str, int] = {}
        return all(
            self.is_short(each.plugin) and self.may_begin(holdings, chosen, each) for each in held
        )

    # -- taking back --------------------------------------------------------------------------

    def take_overdue(self, holdings: Holdings) -> None:
        """Report what has taken too long in a thread, and give the thread up."""
        for pool in (self._threads, self._desks):
            pool.start_missing()
        now = self._clock.monotonic()
        for order in list(holdings.running.values()):
            if order.begun is None or order.given_up or order.declaration.runs == "reactor":
                continue
            if now - order.begun >= order.timeout_seconds:
                self.give_up(order)
                self.ended(order, timed_out(order, self._clock))

    def next_overdue(self, holdings: Holdings) -> float | None:
        """When the next order in a thread may have taken too long, at the earliest."""
        now = self._clock.monotonic()
        return min(
            (
                # What is queued still has all of its time.
                (now if order.begun is None else order.begun) + order.timeout_seconds
                for order in holdings.running.values()
                if order.declaration.runs != "reactor" and not order.given_up
            ),
            default=None,
        )

    @staticmethod
    def ask_to_stop(order: Order) -> None:
        """Let what runs know that it is not wanted any more; it reports as it ends."""
        cancel(order.attempt)
        if order.interrupt is not None:
            order.interrupt()

    @staticmethod
    def give_up(order: Order) -> None:
        """Wait for it no more: whatever it says or wants to write does not count."""
        order.given_up = True
        cancel(order.attempt)
        if order.interrupt is not None:
            order.interrupt()

    def interrupt(self, order: Order) -> None:
        """Wait for it no more, because the worker stops: another one will run it.

        What may have run and must not run again fails instead, as it does when a worker dies.
        """
        self.give_up(order)
        if order.begun is None or order.may_be_repeated:
            return
        failure = Failure(
            "Interrupted",
            "its worker stopped while it ran, and it must not be repeated",
            "",
            order.attempt.number,
            self._clock.now(),
        )
        self._bell.report(Report(order.held, Outcome(failure=failure)))

    def stop(self, timeout_seconds: float) -> None:
        """End the threads that have not been given up."""
        self._transaction.stop()
        self._threads.stop(timeout_seconds)
        self._desks.stop(timeout_seconds)
