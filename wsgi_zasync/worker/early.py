# SPDX-License-Identifier: ZPL-2.1
"""Short calls that find the worker idle: begun before their accept commits, to end in it.

Thread: the acceptor's, in the transaction of the accept.
"""

from __future__ import annotations

from .acceptor import Acceptor
from .desk import Writing
from .held import Held, Order, Report
from .holdings import Holdings
from .rounds import BATCH
from .running.dispatch import Dispatcher
from .waking.bell import Bell

#: How many calls are begun before their accept is committed, and the seconds that it waits: so
#: long whatever others have to say, and so long as they say nothing.
AT_ONCE = 4
AT_ONCE_SECONDS = 0.005
UNDISTURBED_SECONDS = 0.05

#: How long the accept waits where the outcome has been committed already: who was told of that
#: reads it first, and waits neither for this process nor for the server.
READERS_SECONDS = 0.003


class Early:
    """The calls of one accept that are run before it is committed."""

    def __init__(
        self, acceptor: Acceptor, dispatcher: Dispatcher, bell: Bell, holdings: Holdings
    ) -> None:
        """Run nothing yet."""
        self._acceptor = acceptor
        self._dispatcher = dispatcher
        self._bell = bell
        self._holdings = holdings
        #: What needs no attempt, as what has expired.
        self._reports: list[Report] = []
        #: Handed out.
        self._orders: list[Order] = []
        #: What is written already, by commits of its own.
        self._over: list[Report] = []

    def begin(self, writing: Writing, held: list[Held]) -> bool:
        """Begin what was accepted, if it is a few short calls; else it is to be accepted first."""
        if len(held) > AT_ONCE or not self._dispatcher.may_run_at_once(self._holdings, held):
            return False
        if any(each.keyed for each in held):
            # A put that takes it for its own conflicts with the accept: it must not have begun.
            return False
        found = [self._acceptor.order(writing, each) for each in held]
        orders = [each for each in found if isinstance(each, Order)]
        if any(not each.may_be_repeated for each in orders):
            # Only what is accepted already is known to have been begun, should it kill us.
            return False
        if any(isinstance(each, Report) and _is_put_aside(each) for each in found):
            # Only what is in a chunk of ours is ours to put aside.
            return False
        self._orders = orders
        self._reports = [each for each in found if isinstance(each, Report)]
        self._dispatcher.hand_out(orders, self._holdings)
        return True

    def ended(self) -> list[Report]:
        """Wait a moment for what was begun; gives what has ended by then.

        That is what is to be written, and what is already, by a commit of its own.
        """
        reports = self._reports
        wanted = len(self._orders)
        self._bell.wait_for_more(wanted, AT_ONCE_SECONDS, lambda: True)
        self._bell.wait_for_more(wanted, UNDISTURBED_SECONDS, lambda: not self._bell.is_told)
        others: list[Report] = []
        for report in self._bell.take(BATCH):
            if report.order in self._orders:
                self._holdings.ended(report.order)
                reports.append(report)
            else:
                others.append(report)
        self._bell.put_back(others)
        self._over = [report for report in reports if report.entry is not None]
        if (others or self._over) and len(self._over) == len(reports):
            self._bell.wait_for_news(READERS_SECONDS)
        return reports

    def give_up(self) -> None:
        """The commit has not come about: nothing of them counts but what was written before."""
        self._bell.put_back(self._over)
        for order in self._orders:
            self._dispatcher.give_up(order)
            self._holdings.ended(order)


def _is_put_aside(report: Report) -> bool:
    return report.outcome is not None and report.outcome.parked
