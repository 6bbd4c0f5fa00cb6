# SPDX-License-Identifier: ZPL-2.1
"""What a call manager and its calls share, and what they keep on a transaction.

``PutState`` lives on the transaction itself: it is gone with it, so that a host that runs a
request again finds a clean manager.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from ZODB.POSException import POSKeyError

from .call import CallRecord, to_micros
from .deployment import Deployment
from .lines import escape_controls, owner_text
from .ports import Access
from .security import Principal
from .store import Store
from .store.claims import NOTHING, LanePool, LastPut, claim
from .store.index import IndexSegment
from .store.wakeup import Signal, signal_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CallContext:
    """Where and for whom calls are looked at; of one transaction, like its store."""

    access: Access
    deployment: Deployment
    store: Store
    owner: Principal

    def state(self) -> PutState:
        """What is kept on the current transaction."""
        return PutState.of(self.access.transaction(), self.deployment)

    def lane(self) -> int:
        """The lane of this transaction, claimed at first need."""
        state = self.state()
        if state.lane is None:
            if self.store.is_new:
                # Another transaction beside this one cannot claim in a store that is not there.
                state.lane = claim(self.store.site, "maker")
            else:
                state.pool = self.deployment.lanes.of(self.store.connection.db())
                state.lane = state.pool.take(lambda: self.access.claim_lane(self.store), self._sees)
                self.store.own_lanes = state.pool.claimed()
        return state.lane

    def _sees(self, last: LastPut) -> bool:
        """Whether this transaction is young enough to see what was put into a lane."""
        if not last.tid:
            return True
        try:
            segment = self.store.connection.get(last.oid)
            segment._p_activate()
        except POSKeyError:
            # Forgotten since, all of it, and packed away.
            return True
        return bool(segment._p_serial >= last.tid)

    def written(self, record: CallRecord, action: str, plugin: str | None = None) -> None:
        """Remember a write, for waking workers and for the log, once it is committed.

        Args:
            record: What was written.
            action: What was done, for the log.
            plugin: Its plugin, where the record has just been erased.
        """
        plugin = record.plugin if plugin is None else plugin
        note = Written(record._p_oid, record.id, plugin, record.owner, action)
        state = self.state()
        state.signal = signal_for(self.store.connection.db())
        state.written.append(note)

    def now(self) -> int:
        """The time in microseconds since 1970 UTC."""
        return to_micros(self.deployment.clock.now())


class Written(NamedTuple):
    """One change of a call. A copy: after a commit nothing may be loaded to tell of it."""

    oid: bytes
    id: str
    plugin: str
    owner: tuple[str, str]
    action: str


class PutState:
    """What a deployment keeps on one transaction."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        #: The owner as the application set it; None may be what it said, too.
        self.principal: Principal | None = None
        self.is_principal_set = False
        #: The lane that this transaction puts into.
        self.lane: int | None = None
        #: Where it goes back to.
        self.pool: LanePool | None = None
        #: The records of the puts, in order, for a replay after a conflict.
        self.puts: list[CallRecord] = []
        #: Of the index, the segment that the last put has written.
        self.segment: IndexSegment | None = None
        #: What is to be told of once it is committed, and to whom.
        self.written: list[Written] = []
        self.signal: Signal | None = None
        #: By id, the objects that puts have changed, and the oids of those that they count on
        #: to stay as they are (BTrees do that): the rest of a transaction is the application's.
        self.changed_by_puts: dict[int, Any] = {}
        self.counted_on_by_puts: set[bytes] = set()

    @contextmanager
    def putting(self, connection: Any) -> Iterator[None]:
        """Note what is changed through the connection within, as changed by a put."""
        before, known = len(connection._registered_objects), set(connection._readCurrent)
        yield
        changed = connection._registered_objects[before:]
        self.changed_by_puts.update((id(each), each) for each in changed)
        self.counted_on_by_puts |= set(connection._readCurrent) - known

    @classmethod
    def peek(cls, txn: Any, deployment: Deployment) -> PutState | None:
        """What is kept on the transaction, None if nothing was yet."""
        try:
            found: PutState = txn.data(deployment)
        except KeyError:
            return None
        return found

    @classmethod
    def of(cls, txn: Any, deployment: Deployment) -> PutState:
        """What is kept on the transaction, made at first need."""
        state = cls.peek(txn, deployment)
        if state is None:
            state = cls(deployment)
            txn.set_data(deployment, state)
            txn.addAfterCommitHook(state._ended)
            txn.addAfterAbortHook(state._ended, (False,))
        return state

    @property
    def hooks(self) -> frozenset[Any]:
        """What this has asked the transaction to call at its end."""
        return frozenset({self._ended})

    def _ended(self, committed: bool) -> None:
        """The transaction is over; runs in the thread that ended it."""
        lane, self.lane = self.lane, None
        if lane is not None and self.pool is not None:
            segment = self.segment if committed else None
            last = NOTHING if segment is None else LastPut(segment._p_serial, segment._p_oid)
            self.pool.give_back(lane, last)
        # What a savepoint took back again is of no database any more.
        stored = {record._p_oid for record in self.puts if record._p_jar is not None}
        written = [n for n in self.written if n.action != "put" or n.oid in stored]
        self.written = []
        if not committed or self.signal is None:
            return
        self.signal.announce(note.oid for note in written)
        if not logger.isEnabledFor(logging.INFO):
            return
        for note in written:
            owner = owner_text(note.owner)
            logger.info(
                "%s",
                escape_controls(f"call {note.id} {note.action} plugin={note.plugin} owner={owner}"),
                extra={
                    "action": note.action,
                    "call": note.id,
                    "plugin": note.plugin,
                    "owner": list(note.owner),
                },
            )
