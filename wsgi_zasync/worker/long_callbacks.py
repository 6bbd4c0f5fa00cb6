# SPDX-License-Identifier: ZPL-2.1
"""Ends calls whose callbacks take long, where nobody has to wait for that.

Transaction: one for each call; outcome and callbacks are one commit here as well.
Thread: one of its own, with its own connection and its own counts. It lets the others go first,
and owners take turns, so that one whose callbacks use up their budgets delays only their own.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

from ..deployment import Deployment
from ..errors import Fenced
from .completion import Completion
from .desk import AWAY, Desk, is_foreign
from .held import Entry, Report
from .membership import Membership
from .patience import blame
from .running.pool import IDLE_SECONDS
from .waking.bell import Bell

logger = logging.getLogger(__name__)

#: Seconds for which a long evaluation stands aside now and then, and for how many more while
#: the acceptor has something to do. No other thread waits for it for longer than a moment, and
#: it comes to its end also where there is always something to do.
ASIDE_SECONDS = 0.0005
BUSY_SECONDS = 0.05

#: Seconds between tries while the storage is away; and until a call that could not be ended is
#: tried again, longer from time to time, while others have their turns.
AWAY_SECONDS = 0.5
AGAIN_SECONDS = 0.02
LONGEST_AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class _InLine:
    """A call that is to be ended here."""

    report: Report
    #: The area of ours that it belongs to.
    area_oid: bytes | None
    #: Not before this moment, on the monotonic clock.
    at: float = 0.0
    tries: int = 0


class LongCallbacks:
    """The thread that ends calls with long callbacks, and what is in line for it."""

    def __init__(
        self,
        db: Any,
        deployment: Deployment,
        membership: Membership,
        completion: Completion,
        bell: Bell,
        number: int,
    ) -> None:
        """Describe it; the thread is started when there is something to do.

        Args:
            db: The application's database.
            deployment: What the process knows.
            membership: Knows where our area is now, and commits.
            completion: Writes ends.
            bell: Told of what was written, and that we were taken for dead.
            number: Of the thread's own counts in our area.
        """
        self._db, self._site, self._clock = db, deployment.site, deployment.clock
        self._membership, self._completion, self._bell = membership, completion, bell
        self._number = number
        self._changed = threading.Condition()
        #: By owner, in the order of their turns.
        self._lines: OrderedDict[tuple[str, str], deque[_InLine]] = OrderedDict()
        self._doing: Report | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def __len__(self) -> int:
        """How many are not done."""
        with self._changed:
            return sum(map(len, self._lines.values())) + (self._doing is not None)

    def reports(self) -> list[Report]:
        """Those that are not done."""
        with self._changed:
            found = [each.report for line in self._lines.values() for each in line]
            return found if self._doing is None else [self._doing, *found]

    def add(self, report: Report) -> None:
        """Have this call ended."""
        with self._changed:
            self._append(_InLine(report, self._membership.area_oid))
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(
                    target=self._run, name=f"{self._membership.name}-callbacks", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as exc:
                    # There are too many threads now. The next one that is added tries again.
                    logger.error("worker %s: %s", self._membership.name, exc)
                    return
                self._thread = thread

    def _append(self, each: _InLine) -> None:
        self._lines.setdefault(each.report.held.owner, deque()).append(each)
        self._changed.notify()

    def drop(self) -> None:
        """Forget what is in line: it belongs to somebody else now."""
        with self._changed:
            self._lines.clear()

    def give_back(self) -> list[Report]:
        """Begin nothing more, and give back what is not done: the worker stops."""
        self._stopping.set()
        left = self.reports()
        self.drop()
        return left

    def stand_aside(self) -> None:
        """Let other threads go first; for evaluations that are not brief, in any thread."""
        if self._stopping.wait(ASIDE_SECONDS) or threading.current_thread() is not self._thread:
            # A thread that runs transactions has an attempt whose time goes on.
            return
        self._bell.wait_for_quiet(BUSY_SECONDS)

    def stop(self, timeout_seconds: float) -> None:
        """End the thread; what it has not ended is left to whoever takes our calls over."""
        self._stopping.set()
        with self._changed:
            self._lines.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_seconds)

    # -- in the thread ----------------------------------------------------------------------

    def _run(self) -> None:
        desk = self._opened()
        if desk is None:
            return
        try:
            while not self._stopping.is_set():
                each = self._next()
                if each is None:
                    desk.catch_up()
                    continue
                self._end(desk, each)
                with self._changed:
                    self._doing = None
        finally:
            desk.close()

    def _opened(self) -> Desk | None:
        """Our connection, as soon as it can be had; None: it is time to stop."""
        while not self._stopping.is_set():
            try:
                return Desk(self._db, self._site)
            except Exception:
                logger.exception(
                    "worker %s: no connection for long callbacks yet", self._membership.name
                )
                self._stopping.wait(AWAY_SECONDS)
        return None

    def _next(self) -> _InLine | None:
        """The next one of the owner whose turn it is; None: there is none for long, or we stop."""
        with self._changed:
            while not self._stopping.is_set():
                now = self._clock.monotonic()
                due = [owner for owner, line in self._lines.items() if line[0].at <= now]
                if not due:
                    at = min((line[0].at for line in self._lines.values()), default=None)
                    wait = IDLE_SECONDS if at is None else max(0.001, at - now)
                    if not self._changed.wait(wait) and at is None:
                        return None
                    continue
                owner = due[0]
                line = self._lines.pop(owner)
                each = line.popleft()
                if line:
                    self._lines[owner] = line
                self._doing = each.report
                return each
        return None

    def _end(self, desk: Desk, each: _InLine) -> None:
        report = each.report
        # What an area of ours held that was taken over is somebody else's now.
        while not self._stopping.is_set() and each.area_oid == self._membership.area_oid:
            try:
                entry = self._written(desk, report, each.area_oid)
            except Fenced:
                if each.area_oid == self._membership.area_oid:
                    self._bell.fenced()
                return
            except Exception as exc:  # noqa: BLE001 - blame tells the kinds apart
                if isinstance(exc, AWAY) and not is_foreign(exc, desk.connection):
                    self._stopping.wait(AWAY_SECONDS)
                    continue
                self._later(each, exc)
                return
            self._bell.report(Report(report.held, report.outcome, report.order, entry))
            return

    def _later(self, each: _InLine, error: Exception) -> None:
        """Let others have their turns before this one is tried again."""
        blame(each.report.held, error)
        pause = min(AGAIN_SECONDS * 2 ** min(each.tries, 16), LONGEST_AGAIN_SECONDS)
        each.tries += 1
        each.at = self._clock.monotonic() + pause
        with self._changed:
            if not self._stopping.is_set() and each.area_oid == self._membership.area_oid:
                self._append(each)

    def _written(self, desk: Desk, report: Report, area_oid: bytes | None) -> Entry:
        with desk.transaction() as transaction:
            writing = self._membership.writing(desk, transaction, self._number, area_oid)
            entry = self._completion.settle(writing, report)
            if desk.has_changes():
                self._membership.commit(transaction, [report.held.oid])
            return entry
