# SPDX-License-Identifier: ZPL-2.1
"""How many calls a worker accepts ahead of those that it can begin, and of which plugins.

A few wait here, so that the next ones are at hand when others end. But a plugin may run all the
calls that it may, or its calls fill the threads, for minutes or hours; what comes after them, of
other plugins or with a better priority, must not wait for that. Such a plugin is *held up*: its
calls that are here do not count, and those that are come across are left for later, aside.

Thread: the acceptor's.
"""

from __future__ import annotations

from .holdings import Holdings
from .running.dispatch import Dispatcher

#: Calls that are accepted ahead of what can begin, at least.
AHEAD = 32

#: Seconds for which nothing began before what waits is held up. To leave a call aside and take it
#: up again costs as much as to accept it twice: where calls begin all the time it is not worth it.
HELD_UP_SECONDS = 0.1


class Room:
    """The room that one worker has for calls that are to begin later."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        """Hold nothing up."""
        self._dispatcher = dispatcher
        self.held_up: frozenset[str] = frozenset()

    def count(self, holdings: Holdings) -> int:
        """How many more calls may be accepted."""
        of_plugins = holdings.backlog.by_plugin
        waiting = holdings.waiting_to_begin - sum(of_plugins[name] for name in self.held_up)
        return max(0, max(AHEAD, self._dispatcher.ahead) - waiting)

    def look(self, holdings: Holdings, now: float) -> bool:
        """Find out what is held up, after all has begun that can; whether something is no more.

        A plugin is held up until the last of its calls that are here has begun: then those that
        were left aside are taken up together.
        """
        before, waiting = self.held_up, holdings.backlog.by_plugin
        full_at = self.full_at(holdings)
        is_full = full_at is not None and now >= full_at
        self.held_up = frozenset(waiting) if is_full else before.intersection(waiting)
        return not before <= self.held_up

    def full_at(self, holdings: Holdings) -> float | None:
        """When what waits here is held up if nothing begins until then, on the monotonic clock."""
        if self.count(holdings) or not self._dispatcher.room(holdings):
            return None
        if not holdings.others_may_begin() or self.held_up.issuperset(holdings.backlog.by_plugin):
            return None
        return self._dispatcher.handed_out_at + HELD_UP_SECONDS
