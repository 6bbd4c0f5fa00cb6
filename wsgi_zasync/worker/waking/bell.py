# SPDX-License-Identifier: ZPL-2.1
"""What wakes the acceptor's thread: outcomes that are ready, and commits of others.

Threads: rung from any, waited at by the acceptor's only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from ..held import Report


class Bell:
    """Hands reports over, and wakes who waits for them."""

    def __init__(self) -> None:
        """Nothing is ready yet."""
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._quiet = threading.Condition(lock)
        self._is_quiet = False
        self._reports: deque[Report] = deque()
        self._news = False
        self._tid: bytes | None = None
        self._mail = False
        self._stop = False
        self._fenced = False

    # -- rung by others -------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Something is to be written."""
        with self._changed:
            self._reports.append(report)
            self._changed.notify()

    @property
    def has_news(self) -> bool:
        """Whether there are news that were not taken yet."""
        return self._news

    @property
    def is_told(self) -> bool:
        """Whether others have something to say that was not taken yet."""
        return self._news or self._mail or self._stop or self._fenced

    def news(self, tid: bytes | None) -> None:
        """There may be calls to accept, visible from the transaction ``tid`` on."""
        with self._changed:
            self._news = True
            # One of this process is visible already, and takes no other's place.
            self._tid = max(tid or b"", self._tid or b"") or None
            self._changed.notify()

    def mail(self, tid: bytes | None) -> None:
        """Something that we run may be wanted to stop."""
        with self._changed:
            self._mail = True
            self._tid = max(tid or b"", self._tid or b"") or None
            self._changed.notify()

    def stop(self) -> None:
        """The worker is to stop."""
        with self._changed:
            self._stop = True
            self._changed.notify()
            self._quiet.notify_all()

    def fenced(self) -> None:
        """Somebody has found that we were taken for dead."""
        with self._changed:
            self._fenced = True
            self._changed.notify()

    # -- for others who do not want to be in its way ----------------------------------------

    def wait_for_quiet(self, timeout_seconds: float) -> None:
        """Wait until the acceptor has nothing to do, or the time is over."""
        with self._quiet:
            self._quiet.wait_for(
                lambda: self._stop or (self._is_quiet and not self._is_rung()), timeout_seconds
            )

    # -- for the acceptor -----------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether the worker is to stop."""
        return self._stop

    def __len__(self) -> int:
        """How many reports are ready."""
        return len(self._reports)

    def take(self, limit: int) -> list[Report]:
        """Take up to ``limit`` reports, in the order in which they came."""
        with self._changed:
            count = min(limit, len(self._reports))
            return [self._reports.popleft() for _ in range(count)]

    def put_back(self, reports: Iterable[Report]) -> None:
        """What could not be written stands in front again."""
        with self._changed:
            self._reports.extendleft(reversed(list(reports)))

    def drop_reports(self) -> None:
        """Throw away what is ready: it does not count any more."""
        with self._changed:
            self._reports.clear()

    def take_news(self) -> tuple[bool, bool, bytes | None]:
        """Whether there may be calls, whether there may be mail, and from when on."""
        with self._changed:
            found = (self._news, self._mail, self._tid)
            self._news = self._mail = False
            self._tid = None
            return found

    def take_fenced(self) -> bool:
        """Whether somebody has found that we were taken for dead."""
        with self._changed:
            fenced, self._fenced = self._fenced, False
            return fenced

    def wait(self, timeout_seconds: float) -> None:
        """Wait until something is there, or the time is over."""
        with self._changed:
            if not self._is_rung():
                self._is_quiet = True
                self._quiet.notify_all()
            self._changed.wait_for(self._is_rung, timeout_seconds)
            self._is_quiet = False

    def wait_for_more(self, limit: int, timeout_seconds: float, more: Callable[[], bool]) -> None:
        """Wait for a full batch of reports, as long as ``more`` are on their way."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._reports) >= limit or not more() or self._stop, timeout_seconds
            )

    def wait_for_news(self, timeout_seconds: float) -> None:
        """Wait until others have something to say, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_told, timeout_seconds)

    def wait_for_stop(self, timeout_seconds: float) -> None:
        """Wait until the worker is to stop, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop, timeout_seconds)

    def wait_for_report(self, timeout_seconds: float) -> None:
        """Wait until a report is ready, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._reports), timeout_seconds)

    def _is_rung(self) -> bool:
        return bool(self._reports) or self.is_told
