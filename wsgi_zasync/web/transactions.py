# SPDX-License-Identifier: ZPL-2.1
"""Transactions that are ours: a request's where no host owns one, a claim's, a poll's.

The only module of the HTTP side that commits. Each has an explicit transaction manager of its
own and is used by one thread at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Protocol, TypeVar

from transaction import TransactionManager
from transaction.interfaces import NoTransaction, TransientError
from ZODB.POSException import ConflictError

from ..errors import StoreConflict, TransactionOver
from ..store import Store, open_store
from ..store.claims import claim
from ..store.databases import calls_connection
from .hosts import look_last, watch

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

#: How many times a transaction that holds nothing but puts is tried again after a conflict.
MAX_REPLAYS = 5

#: What says that nothing was written and that a new snapshot may help. A lost connection is not
#: among them: its commit may have happened, and a second one would double it.
CONFLICTS = (ConflictError, StoreConflict)


class Puts(Protocol):
    """What a transaction that holds only puts would write again.

    ``manager`` notes one on its transaction; asked for before each commit, replayed in the next
    transaction if that commit conflicts.
    """

    @property
    def changed(self) -> Mapping[int, Any]:
        """By id, the objects that the puts have changed."""

    @property
    def counted_on(self) -> frozenset[bytes]:
        """The oids of the objects that the puts count on to stay as they are."""

    @property
    def hooks(self) -> frozenset[Any]:
        """What the puts have asked the transaction to call at its end."""

    def replay(self) -> None:
        """Write the same calls, with the same ids, in the current transaction."""


class OwnTransaction:
    """The transaction of one request that no host owns: begun at first need, ended once.

    The connections that it opens stay open until ``close``, so that a response that is streamed
    after the commit can still load what it shows.
    """

    __slots__ = ("_connection", "_database", "_manager", "_over", "is_committing")

    def __init__(self, database: Callable[[], Any]) -> None:
        """Prepare; ``database`` is asked for when the transaction begins."""
        self._database = database
        self._manager: TransactionManager | None = None
        self._connection: Any = None
        self._over = False
        #: Whether it is this transaction that is being committed now, whoever owns another one.
        self.is_committing = False

    @property
    def is_open(self) -> bool:
        """Whether it was begun and nobody has ended it, the application itself included."""
        # Unlike get(), this raises nothing where an explicit manager is in none.
        return not self._over and self._manager is not None and self._manager._txn is not None

    @property
    def has_connection(self) -> bool:
        """Whether a connection is open in it."""
        return self._connection is not None

    def begin(self) -> TransactionManager:
        """Its manager; the transaction begins at the first time, and no snapshot is taken yet.

        Raises:
            TransactionOver: It has ended, or the response has begun to go out.
        """
        if self._over:
            raise TransactionOver(
                "the request's transaction ended when its response began to go out; put calls "
                "before the first part of the response is returned"
            )
        if self._manager is None:
            self._manager = TransactionManager(explicit=True)
            self._manager.begin()
        return self._manager

    def current(self) -> Any:
        """The transaction, begun at first need.

        Raises:
            TransactionOver: As ``begin``; or the application has ended it and begun no other.
        """
        try:
            return self.begin().get()
        except NoTransaction as exc:
            raise TransactionOver(
                "the application has ended the request's transaction itself: leave the commit to "
                "the middleware, or begin the manager's next one before you put calls"
            ) from exc

    def connection(self, before: Callable[[], None] = lambda: None) -> Any:
        """The connection of this transaction, opened at first need.

        Args:
            before: Called before it is opened, and so before the snapshot is taken.
        """
        manager = self.begin()
        if self._connection is None:
            before()
            self._connection = self._database().open(transaction_manager=manager)
        return self._connection

    def commit(self, puts: Callable[[], Puts | None] = lambda: None) -> None:
        """Commit, and try again after a conflict if nothing but puts is in it.

        Args:
            puts: Asked before each commit for what could be replayed.

        Raises:
            TransactionOver: It has ended before.
            Exception: Whatever the commit raised last; the transaction is aborted then.
        """
        manager = self.begin()
        self.is_committing = True
        try:
            if manager.isDoomed():
                manager.abort()
            else:
                self._commit_replaying(manager, puts)
        finally:
            self.is_committing = False
            self._over = True

    def _commit_replaying(
        self, manager: TransactionManager, puts: Callable[[], Puts | None]
    ) -> None:
        for replays_left in reversed(range(MAX_REPLAYS + 1)):
            replayable, txn = puts(), manager.get()
            notes = (txn.user, txn.description, dict(txn.extension))
            if replayable is not None and not self._holds_only(replayable, txn):
                replayable = None
            watch(txn)
            try:
                manager.commit()
                return
            except CONFLICTS:
                manager.abort()
                if replayable is None or not replays_left:
                    raise
                logger.info("a put met a conflict and is tried again")
            except BaseException:
                manager.abort()
                raise
            txn = manager.begin()
            txn.user, txn.description, txn.extension = notes
            try:
                replayable.replay()
            except BaseException:
                manager.abort()
                raise

    def _holds_only(self, puts: Puts, txn: Any) -> bool:
        """Whether nothing is to be committed, or called at the end, but these puts.

        Nor anything that was read on condition that it stays as it is: a decision that rests on
        it, such as a permission, would have to be taken again.
        """
        if not puts.hooks.issuperset(_hooks(txn)):
            # They would be told of the abort, and not of the commit after it.
            return False
        own = () if self._connection is None else tuple(self._connection.connections.values())
        for resource in txn._resources:
            if not any(resource is connection for connection in own):
                return False
            if resource._savepoint_storage is not None:
                return False
            if not puts.counted_on.issuperset(resource._readCurrent):
                return False
            changed = resource._registered_objects
            if any(id(each) not in puts.changed for each in changed):
                return False
        return True

    def abort(self) -> None:
        """Abort it, if it is open; nothing can be written afterwards."""
        if self.is_open:
            self.begin().abort()
        self._over = True

    def go_on_reading(self) -> None:
        """After the end, let what the connection loads come from a new snapshot."""
        if self._connection is not None and self._manager is not None:
            self._manager.begin()

    def close(self) -> None:
        """Abort what is open, and close the connections."""
        manager, connection = self._manager, self._connection
        self._manager = self._connection = None
        self._over = True
        if manager is not None:
            # Explicit managers say no to an abort without a transaction.
            if manager._txn is not None:
                manager.abort()
            if connection is not None:
                connection.close()


def _hooks(txn: Any) -> set[Any]:
    """What is to be called before or after the end of a transaction, but for our own check."""
    entries = chain(
        txn.getBeforeCommitHooks(),
        txn.getAfterCommitHooks(),
        txn.getBeforeAbortHooks(),
        txn.getAfterAbortHooks(),
    )
    return {hook for hook, *_ in entries} - {look_last}


def in_transaction(
    database: Any, work: Callable[[Any], _Result], *, attempts: int = 1 + MAX_REPLAYS
) -> _Result:
    """Do something small in a transaction of its own, and again after a conflict.

    Args:
        database: The ``ZODB.DB`` to open a connection to.
        work: Called with the connection, once an attempt; what it returns is returned. It must
            be plain data: the connection is closed by then.
        attempts: How many times it is tried at most.

    Raises:
        Exception: What ``work`` or the last commit raised; nothing is written then.
    """
    manager = TransactionManager(explicit=True)
    for attempts_left in reversed(range(attempts)):
        manager.begin()
        connection = database.open(transaction_manager=manager)
        try:
            try:
                result = work(connection)
                manager.commit()
                return result
            except BaseException:
                manager.abort()
                raise
        except CONFLICTS:
            if not attempts_left:
                raise
        finally:
            connection.close()
    raise AssertionError("unreachable")  # pragma: no cover


def reading(database: Any, work: Callable[[Any], _Result]) -> _Result:
    """Read something in a transaction of its own, which is aborted whatever happens."""
    manager = TransactionManager(explicit=True)
    manager.begin()
    connection = database.open(transaction_manager=manager)
    try:
        return work(connection)
    finally:
        manager.abort()
        connection.close()


def catch_up(database: Any) -> bool:
    """See to it that the next transaction sees what others have committed by now.

    A ZEO client learns of the commits of others a moment later than these; an answer of the
    server comes after all that it has told before. Other storages are never behind.

    Returns:
        Whether there was anything to catch up with.
    """
    ping = getattr(database.storage, "ping", None)
    if ping is None:
        return False
    ping()
    return True


def claim_lane(database: Any, site: str, token: str) -> int:
    """Claim a lane for this process, beside whatever transaction is open; returns its number.

    Args:
        database: The database that holds the calls.
        site: The site of the store.
        token: Names this process in the store.
    """
    return in_transaction(
        database, lambda connection: claim(open_store(connection, site).site, token)
    )


def lane_claimer(token: str) -> Callable[[Store], int]:
    """What claims lanes of a store for the process that is named by the token."""
    return lambda store: claim_lane(store.connection.db(), store.site.name, token)


def make_store(database: Any, site: str) -> None:
    """Make the store's structure if it is not there, so that no put has to."""
    in_transaction(database, lambda connection: open_store(calls_connection(connection), site))


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later."""
    return isinstance(error, TransientError)
