# SPDX-License-Identifier: ZPL-2.1
"""The record behind a call that somebody holds: which it is, and whether it can be used still.

A view is of one transaction. Its connection may be another request's by the time that somebody
looks again, and the put may have been taken back, so that the record is another call's or none.
"""

from __future__ import annotations

from typing import Any

from ZODB.POSException import ConnectionStateError, POSKeyError

from ..call import CallRecord, call_id
from ..errors import CallNotFound, TransactionOver
from ..security import Principal
from ..values import masked, restored
from .context import CallContext, PutState, is_there
from .too_late import OfOneTransaction, read_too_late


class RecordView(OfOneTransaction):
    """A view of a call's record, for its owner."""

    def __init__(
        self, record: CallRecord, context: CallContext, author: Principal | None = None
    ) -> None:
        """Look at a record, in the transaction that the context is of.

        Args:
            record: The call's.
            context: Of the call manager.
            author: Who wrote the expressions declared through it, when that is a user.
        """
        self._record = record
        self._context = context
        self._author = author
        # Copies: what the id is made of is known also when the transaction is over.
        self._oid: bytes = record._p_oid
        self._seed, self._place = record.seed, record.place

    @property
    def id(self) -> str:
        """URL-safe, unguessable, never reused; known also when the transaction is over."""
        return call_id(self._seed, self._place)

    @property
    def oid(self) -> bytes:
        """Of the record, for waiting until it is written; known from the put on, as the id is."""
        return self._oid

    def __eq__(self, other: object) -> bool:
        """Whether it is the same call, however it was come by."""
        if not isinstance(other, RecordView):
            return NotImplemented
        return (self._seed, self._place) == (other._seed, other._place)

    def __hash__(self) -> int:
        return hash((self._seed, self._place))

    @property
    def _is_over(self) -> bool:
        """Whether the connection that it is read by is another request's now."""
        context = self._context
        return context.store.connection.opened is not None and context.access.is_over

    @property
    def _readable(self) -> CallRecord:
        """The record, as far as it is loaded, until its connection serves others.

        Raises:
            TransactionOver: Its request has ended.
        """
        if self._is_over or (
            self._record._p_changed is None and self._context.store.connection.opened is None
        ):
            raise read_too_late(self.id)
        return self._own

    @property
    def _own(self) -> CallRecord:
        """The record, unless the put was taken back: it may be another call's by now.

        Raises:
            TransactionOver: The transaction that put it was aborted, or went back to a savepoint.
        """
        if not is_there(self._record, self._seed):
            self._record = self._found_again()
        return self._record

    def _found_again(self) -> CallRecord:
        """The record of a put that met a conflict and was replayed, which may be a new one."""
        try:
            found = self._context.store.find(self._context.owner.owner, self.id)
        except (CallNotFound, ConnectionStateError, POSKeyError):
            found = None
        # What an aborted transaction has made is in memory still.
        if found is None or not is_there(found, self._seed):
            raise TransactionOver(
                f"call {self.id} does not exist: the transaction that put it was aborted, or went "
                "back to a savepoint before the put; put it again"
            )
        return found

    def _restored(self, value: Any) -> Any:
        """A copy of something of the record as its owner sees it: secrets masked."""
        return restored(value, self._context.store.connection, masked)

    def _writable(self) -> tuple[CallContext, PutState, CallRecord]:
        """What is needed to write, if the transaction that this view is of is not over.

        Raises:
            TransactionOver: It has ended: its connection may be another request's by now.
        """
        state = self._context.state()
        return self._context, state, self._own
