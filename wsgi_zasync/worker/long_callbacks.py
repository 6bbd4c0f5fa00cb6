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
from typing import Any

from transaction.interfaces import TransientError

from ..deployment import Deployment
from ..errors import Fenced
from ..store.accepted import WorkerArea
from .acceptor import Acceptor
from .bell import Bell
from .completion import Completion, Entry
from .desk import AWAY, Desk, Writing
from .held import Report
from .patience import blame
from .redaction import shown, text_of

logger = logging.getLogger(__name__)

#: Seconds for which a long evaluation stands aside now and then, and for how many more while
#: the acceptor has something to do. No other thread waits for it for longer than a moment, and
#: it comes to its end also where there is always something to do.
ASIDE_SECONDS = 0.0005
BUSY_SECONDS = 0.05

#: Seconds between tries while the storage is away, and after a conflict.
AWAY_SECONDS = 0.5
AGAIN_SECONDS = 0.02


class LongCallbacks:
    """The thread that ends calls with long callbacks, and what is in line for it."""

    def __init__(
        self,
        db: Any,
        deployment: Deployment,
        acceptor: Acceptor,
        completion: Completion,
        bell: Bell,
        name: str,
        number: int,
    ) -> None:
        """Describe it; the thread is started when there is something to do.

        Args:
            db: The application's database.
            deployment: What the process knows.
            acceptor: Knows where our area is now, and commits.
            completion: Writes ends.
            bell: Told of what was written, and that we were taken for dead.
            name: Of the worker.
            number: Of the thread's own counts in our area.
        """
        self._db, self._site = db, deployment.site
        self._acceptor, self._completion, self._bell = acceptor, completion, bell
        self._name, self._number = name, number
        self._changed = threading.Condition()
        #: By owner, in the order of their turns: reports, each with the area it belongs to.
        self._lines: OrderedDict[tuple[str, str], deque[tuple[Report, bytes | None]]] = (
            OrderedDict()
        )
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
            found = [report for line in self._lines.values() for report, _ in line]
            return found if self._doing is None else [self._doing, *found]

    def add(self, report: Report) -> None:
        """Have this call ended."""
        with self._changed:
            line = self._lines.setdefault(report.held.owner, deque())
            line.append((report, self._acceptor.area_oid))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"{self._name}-callbacks", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def drop(self) -> None:
        """Forget what is in line: it belongs to somebody else now."""
        with self._changed:
            self._lines.clear()

    def stand_aside(self) -> None:
        """Let other threads go first; for evaluations that are not brief, in any thread."""
        if not self._stopping.wait(ASIDE_SECONDS):
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
        desk = Desk(self._db, self._site)
        try:
            while (found := self._next()) is not None:
                self._end(desk, *found)
                with self._changed:
                    self._doing = None
        finally:
            desk.close()

    def _next(self) -> tuple[Report, bytes | None] | None:
        """The next one of the owner whose turn it is; None: it is time to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._stopping.is_set())
            if self._stopping.is_set():
                return None
            owner, line = self._lines.popitem(last=False)
            report, area = line.popleft()
            if line:
                self._lines[owner] = line
            self._doing = report
            return report, area

    def _end(self, desk: Desk, report: Report, area_oid: bytes | None) -> None:
        # What an area of ours held that was taken over is somebody else's now.
        while not self._stopping.is_set() and area_oid == self._acceptor.area_oid:
            try:
                entry = self._written(desk, report, area_oid)
            except Fenced:
                self._bell.fenced()
                return
            except AWAY:
                self._stopping.wait(AWAY_SECONDS)
            except Exception as exc:  # noqa: BLE001 - blame tells the kinds apart
                blame(report.held, exc)
                if not isinstance(exc, TransientError):
                    logger.warning(
                        "the callbacks of call %s could not be committed: %s",
                        report.held.call_id,
                        shown(text_of(exc)),
                    )
                self._stopping.wait(AGAIN_SECONDS)
            else:
                self._bell.report(Report(report.held, report.outcome, report.order, entry))
                return

    def _written(self, desk: Desk, report: Report, area_oid: bytes | None) -> Entry:
        with desk.transaction() as transaction:
            store = desk.open_store()
            area: WorkerArea = store.connection.get(area_oid)
            area.hold()
            tallies = area.thread_tallies[self._number]
            claim = self._acceptor.claim_lane
            writing = Writing(transaction, desk.connection, store, area, tallies, claim)
            entry = self._completion.settle(writing, report)
            if desk.has_changes():
                self._acceptor.commit(transaction, [report.held.oid])
            return entry
