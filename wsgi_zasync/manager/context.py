# SPDX-License-Identifier: ZPL-2.1
"""What a call manager and its calls share, and what they keep on a transaction.

``PutState`` lives on the transaction itself: it is gone with it, so that a host that runs a
request again finds a clean manager.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from ZODB.POSException import POSKeyError

from ..call import CallRecord, call_id
from ..deployment import Deployment
from ..lines import escape_controls, owner_text
from ..ports import Access
from ..security import Principal
from ..store import Store
from ..store.claims import LanePool, claim, seen_before
from ..store.wakeup import Signal, signal_for

logger = logging.getLogger(__name__)


class CallContext(NamedTuple):
    """Where and for whom calls are looked at; of one transaction, like its store."""

    access: Access
    deployment: Deployment
    store: Store
    owner: Principal

    def state(self) -> PutState:
        """What is kept on the current transaction."""
        return PutState.of(self.access.transaction(), self.deployment)

    def lane(self, state: PutState) -> int:
        """The lane of this transaction, claimed at first need."""
        site = self.store.site
        if state.lane is not None and (state.pool is not None or state.lane in site.claims):
            return state.lane
        if self.store.is_new:
            # Another transaction beside this one cannot claim in a store that is not there. And
            # the claim here goes with the store, should a savepoint take that back.
            state.lane = claim(site, "maker")
        else:
            state.pool = self.deployment.lanes.of(self.store.connection.db())
            before = seen_before(self.store.connection)
            state.lane = state.pool.take(lambda: self.access.claim_lane(self.store), before)
            if state.pool.has_put(state.lane, before) and state.lane not in site.claims:
                # The claim was undone, and without one nobody would read what is put here.
                site.claims[state.lane] = "again"
        return state.lane

    def written(
        self, state: PutState, record: CallRecord, action: str, plugin: str | None = None
    ) -> None:
        """Remember a write, for waking workers and for the log, once it is committed.

        Args:
            state: Of this transaction.
            record: What was written.
            action: What was done, for the log.
            plugin: Its plugin, where the record has just been erased.
        """
        plugin = record.plugin if plugin is None else plugin
        note = Written(record._p_oid, record.seed, record.place, plugin, record.owner, action)
        if state.signal is None:
            state.signal = signal_for(self.store.connection.db())
        state.written.append(note)

    def now(self) -> int:
        """The time in microseconds since 1970 UTC."""
        return self.deployment.clock.micros()


def is_there(record: CallRecord, seed: bytes) -> bool:
    """Whether a record is of the call with this seed still; if not, its put was taken back."""
    try:
        return record._p_jar is not None and record.seed == seed
    except POSKeyError:
        # ZODB keeps the ghosts of what was made since a savepoint that is gone back to twice.
        return False


def _is_left_behind(record: CallRecord) -> bool:
    """Whether its connection was closed: there was nothing in it to commit any more."""
    jar = record._p_jar
    return jar is not None and jar.opened is None


class Written(NamedTuple):
    """One change of a call. A copy: after a commit nothing may be loaded to tell of it."""

    oid: bytes
    seed: bytes
    place: tuple[int, int, int]
    plugin: str
    owner: tuple[str, str]
    action: str

    @property
    def id(self) -> str:
        """The call's; computed only if somebody wants to read it."""
        return call_id(self.seed, self.place)


#: How many objects a connection has changed, and the oids of those that it counts on.
Changes = tuple[int, frozenset[bytes]]


def changes_of(connection: Any) -> Changes:
    """What was changed through the connection up to now."""
    return len(connection._registered_objects), frozenset(connection._readCurrent)


class PutState:
    """What a deployment keeps on one transaction."""

    #: The owner as the application set it; None may be what it said, too.
    principal: Principal | None = None
    is_principal_set = False
    #: The lane that this transaction puts into.
    lane: int | None = None
    #: Where it goes back to.
    pool: LanePool | None = None
    signal: Signal | None = None

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        #: The puts, in order: each call's record, and its seed. What a savepoint takes back is
        #: empty again, or another call's: ``forget_what_was_taken_back``.
        self._puts: list[tuple[CallRecord, bytes]] = []
        #: What is to be told of once it is committed; ``signal`` tells it.
        self.written: list[Written] = []
        #: By id, the objects that puts have changed, and the oids of those that they count on
        #: to stay as they are (BTrees do that): the rest of a transaction is the application's.
        self.changed_by_puts: dict[int, Any] = {}
        self.counted_on_by_puts: set[bytes] = set()

    def note_changes(self, connection: Any, before: Changes) -> None:
        """Note what was changed through the connection since, as changed by a put."""
        changed, counted_on = before
        for each in connection._registered_objects[changed:]:
            self.changed_by_puts[id(each)] = each
        if connection._readCurrent:
            self.counted_on_by_puts |= connection._readCurrent.keys() - counted_on

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
        try:
            found: PutState = txn.data(deployment)
        except KeyError:
            found = cls(deployment)
            txn.set_data(deployment, found)
            txn.addBeforeCommitHook(found.forget_what_was_taken_back)
            txn.addAfterCommitHook(found._ended)
            txn.addAfterAbortHook(found._ended, (False,))
        return found

    @property
    def hooks(self) -> frozenset[Any]:
        """What this has asked the transaction to call at its end."""
        return frozenset({self._ended, self.forget_what_was_taken_back})

    def has_put(self, record: CallRecord) -> bool:
        """Whether this transaction puts the call that this record is of."""
        return any(record is each for each, _ in self._puts)

    def is_last(self, record: CallRecord) -> bool:
        """Whether it is that of the last put."""
        return bool(self._puts) and self._puts[-1][0] is record

    def add(self, record: CallRecord) -> None:
        """Remember a put."""
        self._puts.append((record, record.seed))

    def puts(self) -> list[CallRecord]:
        """The records of the puts, in order, for a replay after a conflict."""
        self.forget_what_was_taken_back()
        return [record for record, _ in self._puts]

    def forget_what_was_taken_back(self) -> None:
        """Forget puts that a savepoint took back; before a commit, while records can be read."""
        for record, seed in self._puts:
            # What is changed in memory was not taken back since.
            if not record._p_changed or record._p_jar is None or record.seed != seed:
                break
        else:
            return
        left = [
            (record, seed)
            for record, seed in self._puts
            if not _is_left_behind(record) and is_there(record, seed)
        ]
        if len(left) < len(self._puts):
            gone = {seed for _, seed in self._puts}.difference(seed for _, seed in left)
            self._puts = left
            self.written = [note for note in self.written if note.seed not in gone]

    def _ended(self, committed: bool) -> None:
        """The transaction is over; runs in the thread that ended it."""
        lane, self.lane = self.lane, None
        if lane is not None and self.pool is not None:
            serials = [record._p_serial for record, _ in self._puts] if committed else ()
            self.pool.give_back(lane, max(serials, default=b""))
        told, self.written = self.written, []
        is_logged = logger.isEnabledFor(logging.INFO)
        if not committed or self.signal is None or not (is_logged or self.signal.is_heard):
            return
        # What puts changed beside their records tells those who wait for a call more.
        oids = {changed._p_oid for changed in self.changed_by_puts.values()}
        self.signal.announce(oids.union(note.oid for note in told))
        for note in told if is_logged else ():
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
