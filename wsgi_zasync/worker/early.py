# SPDX-License-Identifier: ZPL-2.1
"""Short calls that find the worker idle: begun before their accept commits, to end in it.

Thread: the acceptor's, in the transaction of the accept.
"""

from __future__ import annotations

from .acceptor import Acceptor
from .bell import Bell
from .desk import Writing
from .dispatch import Dispatcher
from .held import Held, Order, Report
from .holdings import Holdings
from .rounds import BATCH

#: How many calls are begun before their accept is committed, and the seconds that it waits.
AT_ONCE = 4
AT_ONCE_SECONDS = 0.005

#: How long the accept waits where the outcome has been committed already: who was told of that
#: reads it first, and does not wait for the server to write that it was accepted.
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

    def begin(self, writing: Writing, held: list[Held]) -> bool:
        """Begin what was accepted, if it is a few short calls; else it is to be accepted first."""
        if len(held) > AT_ONCE or not self._dispatcher.may_run_at_once(self._holdings, held):
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
        """Wait a moment for what was begun; gives what has ended by then."""
        reports = self._reports
        if self._orders:
            self._bell.wait_for_more(len(self._orders), AT_ONCE_SECONDS, lambda: True)
        others: list[Report] = []
        for report in self._bell.take(BATCH):
            if report.order in self._orders and report.entry is None:
                self._holdings.ended(report.order)
                reports.append(report)
            else:
                others.append(report)
        if others:
            self._bell.put_back(others)
            if not reports:
                self._bell.wait_for_news(READERS_SECONDS)
        return reports

    def give_up(self) -> None:
        """The commit has not come about: nothing of them counts."""
        for order in self._orders:
            self._dispatcher.give_up(order)
            self._holdings.ended(order)


def _is_put_aside(report: Report) -> bool:
    return report.outcome is not None and report.outcome.parked
