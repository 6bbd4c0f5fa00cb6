# SPDX-License-Identifier: ZPL-2.1
"""Replaying: the puts of a transaction of ours, once more after its commit met a conflict.

Only for transactions that hold nothing but puts, so that nobody's reading has become wrong.
The ids that the application was told stay what they are: a call whose place another process
has taken meanwhile cannot be replayed.
"""

from __future__ import annotations

from typing import Any

from ..call import CallRecord
from ..deployment import Deployment
from ..errors import StoreConflict
from ..ports import Access
from ..security import Principal
from ..store import open_store
from .context import CallContext, PutState, changes_of


class Replay:
    """The puts of one transaction, as they were just before its commit."""

    def __init__(self, access: Access, deployment: Deployment, state: PutState) -> None:
        self._access = access
        self._deployment = deployment
        # Copies: after an abort the records are empty again.
        self._records = [dict(record.__dict__) for record in state.puts()]
        #: By id, what the puts have changed, and the oids of what they count on.
        self.changed = dict(state.changed_by_puts)
        self.counted_on = frozenset(state.counted_on_by_puts)
        self.hooks = state.hooks

    def replay(self) -> None:
        """Write the same calls with the same ids in the current transaction.

        Raises:
            StoreConflict: Not possible: a place or a unique key is another call's by now.
        """
        connection = self._access.store_connection()
        store = open_store(connection, self._deployment.site)
        for attributes in self._records:
            source, identifier = attributes["owner"]
            owner = Principal(identifier, source)
            context = CallContext(self._access, self._deployment, store, owner)
            state = context.state()
            self._hold_lane(state, connection, attributes["place"][0])
            before = changes_of(connection)
            self._put_again(context, state, attributes)
            state.note_changes(connection, before)

    def _hold_lane(self, state: PutState, connection: Any, lane: int) -> None:
        """Keep other transactions of this process out of the lane, which the abort gave back."""
        pool = self._deployment.lanes.of(connection.db())
        if state.lane is None and pool.retake(lane):
            state.lane, state.pool = lane, pool

    def _put_again(self, context: CallContext, state: PutState, attributes: dict[str, Any]) -> None:
        call = CallRecord()
        call.__dict__.update(attributes)
        if call.unique is not None and context.store.unique_call(call.unique) is not None:
            raise StoreConflict(f"the unique key of call {call.id} was taken meanwhile")
        record = context.store.add(call, call.place[0])
        if record.place != call.place:
            raise StoreConflict(f"the place of call {call.id} was taken meanwhile")
        if call.unique is not None:
            context.store.set_unique(call.unique, record)
        state.add(record)
        context.written(state, record, "put")


def replayable(access: Access, deployment: Deployment) -> Replay | None:
    """What could be replayed of the current transaction; None if there is more than puts in it.

    What the application wrote itself is not seen here: ask only if it wrote nothing.
    """
    state = PutState.peek(access.transaction(), deployment)
    if state is None or not state.puts():
        return None
    if any(note.action != "put" for note in state.written):
        return None
    return Replay(access, deployment, state)
