# SPDX-License-Identifier: ZPL-2.1
"""What a worker owes later: callbacks of ended calls that could not be decided, or follow.

Thread: the acceptor's.
"""

from __future__ import annotations

import heapq
from itertools import count

from ..held import Report


class Owed:
    """Reports by the moment, on the monotonic clock, at which they are to be tried."""

    def __init__(self) -> None:
        """Owe nothing."""
        self._heap: list[tuple[float, int, Report]] = []
        self._tie = count()

    def add(self, report: Report, at: float) -> None:
        """Owe this from that moment on."""
        heapq.heappush(self._heap, (at, next(self._tie), report))

    def take(self, now: float) -> list[Report]:
        """What is to be tried now."""
        taken: list[Report] = []
        while self.is_due(now):
            taken.append(heapq.heappop(self._heap)[2])
        return taken

    def is_due(self, now: float) -> bool:
        """Whether any of it is to be tried now."""
        return self.next_at is not None and self.next_at <= now

    @property
    def next_at(self) -> float | None:
        """When the next one is to be tried; None: nothing is owed."""
        return self._heap[0][0] if self._heap else None
