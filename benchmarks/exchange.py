# SPDX-License-Identifier: ZPL-2.1
"""A bare exchange: what a call takes in one process when nothing is done for it.

A thread with a connection of its own is told that an object was written, reads it, writes it and
tells that it has; the first connection reads it. No plugin, owner, outcome or callback: it is the
least that any product on ZODB could need from one commit to the sight of the answer.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from persistent.mapping import PersistentMapping
from transaction import TransactionManager

from .site import ARGUMENT


class Exchange:
    """Two connections of one database, and the thread of the second."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self._manager = TransactionManager(explicit=True)
        self._connection = db.open(self._manager)
        with self._manager:
            message = self._connection.root()["exchanged"] = PersistentMapping()
        self._oid = message._p_oid
        self._put, self._answered = threading.Event(), threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()

    def seconds(self) -> float:
        """From the commit of a message to the sight of its answer, in seconds."""
        with self._manager:
            self._connection.get(self._oid)["asked"] = ARGUMENT
        begun = time.perf_counter()
        self._put.set()
        self._answered.wait()
        self._answered.clear()
        with self._manager:
            assert self._connection.get(self._oid).pop("answer") == len(ARGUMENT)
            return time.perf_counter() - begun

    def _answer(self) -> None:
        manager = TransactionManager(explicit=True)
        connection = self._db.open(manager)
        while self._put.wait() and not self._stopped:
            self._put.clear()
            with manager:
                message = connection.get(self._oid)
                message["answer"] = len(message["asked"])
            self._answered.set()
        connection.close()

    def close(self) -> None:
        """End the thread, and close the connections."""
        self._stopped = True
        self._put.set()
        self._thread.join()
        self._connection.close()


@contextlib.contextmanager
def exchange(db: Any) -> Iterator[Exchange]:
    """A bare exchange on this database."""
    bare = Exchange(db)
    try:
        yield bare
    finally:
        bare.close()
