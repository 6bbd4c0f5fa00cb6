# SPDX-License-Identifier: ZPL-2.1
"""Reads what others want of calls that a worker has: that they stop, or more callbacks.

Thread: the acceptor's. Transaction: one that writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..store.mailbox import owes
from ..store.reading import readable
from .acceptor import Acceptor
from .held import Entry, Report


class MailReader:
    """Asks by the acceptor's connection."""

    def __init__(self, acceptor: Acceptor) -> None:
        """Read nothing yet."""
        self._acceptor = acceptor

    def cancelled(self, oids: Iterable[bytes]) -> list[bytes]:
        """Which of these calls are wanted to stop, or have been ended by others."""
        found: list[bytes] = []
        with self._acceptor.desk.transaction():
            store = self._acceptor.desk.open_store()
            for oid in list(oids):
                record = readable(store.connection, oid)
                if record is None:
                    continue
                if record.is_final or record.forgotten or store.mail(record).cancel_requested:
                    found.append(oid)
        return found

    def mailboxes(self, oids: Iterable[bytes]) -> frozenset[bytes]:
        """The oids of the mailboxes of these calls."""
        oids = list(oids)
        if not oids:
            return frozenset()
        with self._acceptor.desk.transaction():
            store = self._acceptor.desk.open_store()
            records = [readable(store.connection, oid) for oid in oids]
            boxes = [record.mailbox for record in records if record is not None]
            return frozenset(box._p_oid for box in boxes if box is not None)

    def still_owed(self, entries: Iterable[Entry]) -> list[Report]:
        """Which of these ended calls got callbacks that their completion did not see.

        A callback declared in a transaction that committed just before the completion is not in
        the completion's snapshot; it is in that of any later transaction.
        """
        owed: list[Report] = []
        with self._acceptor.desk.transaction():
            store = self._acceptor.desk.open_store()
            for entry in entries:
                record = readable(store.connection, entry.report.held.oid)
                if record is None or record.forgotten:
                    continue
                if record.is_final and owes(record):
                    owed.append(Report(entry.report.held))
        return owed
