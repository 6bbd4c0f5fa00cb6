# SPDX-License-Identifier: ZPL-2.1
"""Wake-up: who is told, without polling, that something was committed.

A commit of another process is announced by ZEO's invalidation, or where that process is a client
of ours by our own server (``sharing``); one of this process by whoever commits
(``Signal.announce`` as an after-commit hook). Subscribers are called in the thread of whoever
commits, or in ZEO's own: they only hand over and return.

Two traps that this module knows. ZEO announces a transaction *before* ``lastTransaction()``
reaches it, so a connection opened at once may not see it yet: subscribers are told a moment
later, and ``Signal.until_visible`` makes sure. And a committing client gets no invalidation of
its own commits: hence the hook.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from ..fork_lock import ForkLock
from . import zeo_client

logger = logging.getLogger(__name__)

#: Called with the tid (None: already visible here) and the oids that were written.
Subscriber = Callable[[bytes | None, frozenset[bytes]], None]

#: So many objects of a commit are fetched for who is told of it: what a put or two write. More are
#: left to those who know which of them they need.
FEW_OIDS = 8

_ATTRIBUTE = "_wsgi_zasync_signal"
_creating = ForkLock()


def signal_for(db: Any) -> Signal:
    """The signal of a database; made, and tied to its storage, at first need."""
    found: Signal | None = vars(db).get(_ATTRIBUTE)
    if found is None:
        with _creating:
            found = vars(db).get(_ATTRIBUTE)
            if found is None:
                found = Signal(db)
                setattr(db, _ATTRIBUTE, found)
    return found


class Signal:
    """Tells of commits to one database."""

    #: Seconds for which a waiter looks for a transaction that was announced to it.
    VISIBLE_WITHIN = 1.0

    def __init__(self, db: Any) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._subscribers: tuple[Subscriber, ...] = ()
        #: The ZEO client, where others commit to the storage through a server.
        self._client = zeo_client.client_of(db.storage)
        if self._client is not None:
            zeo_client.tell_of_commits(self._client, self.announce, lambda: self.announce(()))
            zeo_client.forget_oids_without_server(self._client)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Be told of every commit from now on; returns what ends that."""
        with self._lock:
            self._subscribers += (subscriber,)

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(s for s in self._subscribers if s is not subscriber)

        return unsubscribe

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._subscribers)

    def announce(self, oids: Iterable[bytes], tid: bytes | None = None) -> None:
        """Tell the subscribers that these objects were written."""
        written = frozenset(oids)
        for subscriber in self._subscribers:
            try:
                subscriber(tid, written)
            except Exception:  # one subscriber's fault must not keep the others from being told
                logger.exception("a subscriber to commits failed")

    def fetch(self, oids: frozenset[bytes], tid: bytes | None) -> None:
        """Have what a small transaction of another process wrote sent, without waiting for it.

        For a thread that will read it in a moment: it comes while that one wakes and begins. Only
        for a subscriber, who is called in the thread of the ZEO client then.
        """
        # What was committed here, or by commands beside this process to its file, is here.
        if self._client is not None and tid is not None and len(oids) <= FEW_OIDS:
            zeo_client.ask_for(self._client, oids, tid)

    def watch(self, *oids: bytes) -> Watch:
        """Watch objects: begin before reading them, so that no change falls in between."""
        return Watch(self, frozenset(oids))

    def until_visible(self, tid: bytes | None) -> None:
        """Return when a connection opened now sees the transaction, or after a second."""
        if tid is None:
            return
        pause = threading.Event()
        for _ in range(int(self.VISIBLE_WITHIN / 0.0005)):
            if self._db.lastTransaction() >= tid:
                return
            pause.wait(0.0005)


class Watch:
    """Waits in a web thread, which holds neither connection nor transaction meanwhile."""

    def __init__(self, signal: Signal, watched: frozenset[bytes]) -> None:
        self._signal = signal
        self._watched = watched
        self._written = threading.Event()
        self._tid: bytes | None = None
        self._unsubscribe: Callable[[], None] | None = None

    def __enter__(self) -> Watch:
        self._unsubscribe = self._signal.subscribe(self._told)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def _told(self, tid: bytes | None, oids: frozenset[bytes]) -> None:
        written = self._watched & oids
        if not written:
            return
        try:
            self._signal.fetch(written, tid)
        finally:
            self._tid = tid
            self._written.set()

    def widen(self, oids: Iterable[bytes]) -> bool:
        """Watch these as well; whether any is new, so that what was read may be old by now."""
        wider = self._watched.union(oids)
        is_wider = wider != self._watched
        self._watched = wider
        return is_wider

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for one of the objects to be written; whether one was."""
        if not self._written.wait(timeout_seconds):
            return False
        self._written.clear()
        self._signal.until_visible(self._tid)
        return True
