# SPDX-License-Identifier: ZPL-2.1
"""A point in a worker's transaction that one can go back to, as if nothing had come after it.

Transaction: the one that is being written. Going back does not end it.
"""

from __future__ import annotations

from ...deployment import Deployment
from ...manager.context import PutState
from ..desk import Writing


class Savepoint:
    """ZODB's savepoint, and what is kept beside the objects of a transaction."""

    def __init__(self, writing: Writing, deployment: Deployment) -> None:
        """Remember the transaction as it is now."""
        self._writing, self._deployment = writing, deployment
        self._savepoint = writing.transaction.savepoint()
        self._told = len(self._notes())
        # ZODB need not check that what a transaction writes is current. What is not written
        # after all must be checked again: a decision before this point may rest on it.
        self._pinned = [
            (connection, dict(connection._readCurrent))
            for connection in writing.connection.connections.values()
        ]

    def rollback(self) -> None:
        """Undo what was written since."""
        self._savepoint.rollback()
        del self._notes()[self._told :]
        for connection, pinned in self._pinned:
            for oid, serial in pinned.items():
                connection._readCurrent.setdefault(oid, serial)

    def _notes(self) -> list[object]:
        """What is to be told once the transaction is committed."""
        state = PutState.peek(self._writing.transaction, self._deployment)
        notes: list[object] = [] if state is None else state.written  # type: ignore[assignment]
        return notes
