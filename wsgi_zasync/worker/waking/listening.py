# SPDX-License-Identifier: ZPL-2.1
"""Hears of commits, and rings the bell for those that concern a worker.

Threads: it is told in that of ZEO's client, or of whoever commits in this process; all else is the
acceptor's. What the two share are single assignments.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from ...store.wakeup import Signal
from .bell import Bell


class Listener:
    """One worker's ear."""

    def __init__(
        self,
        signal: Signal,
        bell: Bell,
        *,
        running: Callable[[], Container[bytes]],
        is_announcing: Callable[[], bool],
    ) -> None:
        """Hear nothing yet.

        Args:
            signal: Of the database that holds the calls.
            bell: Rung.
            running: Gives what has the oids of the calls that run.
            is_announcing: Whether this thread is just telling of a commit of the worker's own.
        """
        self.signal = signal
        self._bell = bell
        self._running = running
        self._is_announcing = is_announcing
        self._unsubscribe: Callable[[], None] | None = None
        #: The oids of the mailboxes of the calls that run.
        self.mailboxes: frozenset[bytes] = frozenset()
        #: The oids that change when there is something to accept.
        self._watched: frozenset[bytes] = frozenset()
        #: Whether an accept is under way, which will tell what to watch.
        self._looking = True
        #: The last commit of another process that we were told of.
        self._heard: bytes | None = None

    def open(self) -> None:
        """Listen from now on."""
        if self._unsubscribe is None:
            self._unsubscribe = self.signal.subscribe(self.told)

    def close(self) -> None:
        """Listen no more."""
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def told(self, tid: bytes | None, oids: frozenset[bytes]) -> None:
        """A commit: in the thread of ZEO's client, or in that of who committed here."""
        if self._is_announcing():
            return
        if tid is not None:
            self._heard = tid
        running = self._running()
        if any(oid in running for oid in oids) or not oids.isdisjoint(self.mailboxes):
            self._bell.mail(tid)
        # Of a commit in this process only the call is known, not the inbox that it went to.
        # And what came into being since we began to look is not among what we know to watch.
        if tid is None or self._looking or not oids.isdisjoint(self._watched):
            try:
                # Before anybody wakes, who would have the interpreter then. What comes later may
                # be written once more until it is looked at.
                if not self._bell.has_news:
                    self.signal.fetch(oids, tid)
            finally:
                self._bell.news(tid)

    def look(self, *, accepts: bool) -> None:
        """A transaction is about to begin; one that ``accepts`` will tell what to watch."""
        self._looking = accepts
        if accepts:
            # What we know to watch may be behind what was told of: all of that is seen now, and
            # what is told of from now on rings.
            self.signal.until_visible(self._heard)

    def looked(self, watched: frozenset[bytes]) -> None:
        """It has accepted: these are to be watched, or the same as before if there are none."""
        self._watched = watched or self._watched
        self._looking = False
