# SPDX-License-Identifier: ZPL-2.1
"""A worker as one of the workers that its store knows: its area there, and the way of its commits.

Threads: the acceptor's registers it; all threads of the worker commit through it, each with a desk
of its own.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from ZODB.POSException import ConflictError

from ..deployment import Deployment
from ..store.accepted import held_area
from ..store.claims import claim
from ..store.databases import calls_database
from ..store.migrate import upgrade
from ..store.wakeup import signal_for
from .desk import Desk, Writing
from .watchdog import Watchdog

logger = logging.getLogger(__name__)

#: How often a worker tries to register while others do so at the same moment.
REGISTERING_TRIES = 20


class Membership:
    """One worker's."""

    def __init__(
        self,
        db: Any,
        deployment: Deployment,
        *,
        name: str,
        queues: tuple[str, ...],
        plugins: dict[str, Any],
        threads: int,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Describe it; nothing is written before ``register``.

        Args:
            db: The application's database.
            deployment: What the process knows.
            name: Of the worker.
            queues: That it serves.
            plugins: That it has, by name, with their parameters.
            threads: How many of its threads beside the acceptor's count the ends of calls.
            watchdog: Told of every commit.
        """
        self._db = db
        self._site = deployment.site
        self.name = name
        self.queues = queues
        self.plugins = plugins
        self._threads = threads
        self._watchdog = watchdog
        self._signal = signal_for(calls_database(db))
        #: Where our area is now; another one after we were taken over. None: not registered yet.
        self.area_oid: bytes | None = None
        #: How many commits of this worker have come about; nearly so, with several threads.
        self.commits = 0
        self._announcing = threading.local()

    def register(self, desk: Desk) -> None:
        """Begin anew with an empty area.

        Where several workers begin at the same moment each conflict means that one of them has
        registered, so that it is tried again at once.

        Raises:
            TransientError: The storage is away, or nothing comes of it.
        """
        for _ in range(REGISTERING_TRIES):
            try:
                return self._register(desk)
            except ConflictError as exc:
                logger.debug("worker %s: registering is tried again: %s", self.name, exc)
        return self._register(desk)

    def _register(self, desk: Desk) -> None:
        with desk.transaction() as transaction:
            upgrade(desk.store_connection)
            store = desk.open_store()
            area = store.register_worker(self.name, self.plugins, self.queues, self._threads)
            area.board.host = os.uname().nodename
            area.board.pid = os.getpid()
            store.connection.add(area)
            oid: bytes = area._p_oid
            # Who waits for a call watches the boards that there are: tell of a new one.
            workers = store.site.workers._p_oid
            self.commit(transaction, [] if workers is None else [workers])
        self.area_oid = oid

    def writing(
        self,
        desk: Desk,
        transaction: Any,
        number: int | None = None,
        area_oid: bytes | None = None,
    ) -> Writing:
        """What a transaction writes to; it holds our area, or commits nothing.

        Args:
            desk: Of the thread.
            transaction: The one that was begun there.
            number: Of this thread's own counts in the area; None: those of the acceptor's.
            area_oid: Where our area was when that which is to be written came to be; None: where
                it is.

        Raises:
            Fenced: We were taken for dead.
        """
        oid = self.area_oid if area_oid is None else area_oid
        assert oid is not None, "the worker is not registered"
        store = desk.open_store()
        area = held_area(store.connection, oid)
        tallies = area.tallies if number is None else area.thread_tallies[number]
        return Writing(transaction, desk.connection, store, area, tallies, self.claim_lane)

    def commit(self, transaction: Any, oids: Iterable[bytes] = ()) -> None:
        """Commit, watched, and tell this process of what was written."""
        if self._watchdog is not None:
            self._watchdog.enter()
        try:
            transaction.commit()
        finally:
            if self._watchdog is not None:
                self._watchdog.leave()
        self.commits += 1
        written = frozenset(oids)
        if written:
            self._announcing.now = True
            try:
                self._signal.announce(written)
            finally:
                self._announcing.now = False

    def is_announcing(self) -> bool:
        """Whether this thread is just telling of a commit of this worker's own."""
        return getattr(self._announcing, "now", False)

    def claim_lane(self) -> int:
        """Claim a lane for the puts of callbacks, beside the current transaction."""
        desk = Desk(self._db, self._site)
        try:
            with desk.transaction() as transaction:
                lane = claim(desk.open_store().site, f"{self.name}/{os.getpid()}")
                self.commit(transaction)
                return lane
        finally:
            desk.close()
