# SPDX-License-Identifier: ZPL-2.1
"""A thread's own way to the database: a connection and an explicit transaction manager.

Connections and transaction managers are never shared: a desk is opened, used and closed by one
thread. Nothing here commits.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from BTrees.OOBTree import OOBTree
from transaction import TransactionManager
from transaction.interfaces import NoTransaction, TransientError
from ZEO.Exceptions import ClientDisconnected, ServerException
from ZODB.POSException import ReadOnlyError

from ..call import CallRecord
from ..errors import ConfigurationError, Fenced, ZasyncError
from ..store import Store, open_store
from ..store.accepted import WorkerArea
from ..store.databases import calls_connection, calls_database
from .held import Held

logger = logging.getLogger(__name__)

#: The root of every database.
ROOT_OID = b"\0" * 8


class StorageAway(ZasyncError):
    """The storage cannot be reached, and says so by an error of its own (a driver's, mostly)."""


class StorageFull(StorageAway):
    """Nothing can be written, because a disk is full or broken; what is there can be read."""


class StoreRefused(StorageAway, ConfigurationError):
    """The store is of another version, since an upgrade is under way: one of us is to follow it."""


#: What it means that the storage is away: nothing is lost, and it is tried again.
AWAY = (ClientDisconnected, StorageAway)

#: What the system says of a disk that takes nothing, whoever writes.
_TAKES_NOTHING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


@dataclass(slots=True)
class Writing:
    """One transaction of a worker, and what it writes to."""

    transaction: Any
    #: The application's connection, and its root.
    connection: Any
    store: Store
    area: WorkerArea
    #: Where this thread counts ends.
    tallies: OOBTree
    #: Claims a lane in a transaction of its own, for calls that callbacks put.
    claim: Callable[[], int]
    #: Whose callbacks this transaction has evaluated: one owner's only.
    callback_owner: tuple[str, str] | None = None

    @property
    def root(self) -> Any:
        """The root of the application's database."""
        return self.connection.root()

    def is_current(self) -> bool:
        """Whether the transaction has not ended: code that is not ours may do that.

        It may also close the connection, which may be another's then.
        """
        manager = self.connection.transaction_manager
        with suppress(NoTransaction):
            return manager is not None and manager.get() is self.transaction
        return False

    def record(self, held: Held) -> CallRecord:
        """The record of an accepted call; where that cannot be loaded, the ghost of it."""
        try:
            found: CallRecord = self.store.connection.get(held.oid)
        except TransientError:
            raise
        except Exception:
            chunk = self.area.chunks.get(held.chunk)
            for call in () if chunk is None else chunk.calls:
                if call._p_oid == held.oid:
                    ghost: CallRecord = call
                    return ghost
            raise
        return found


def serialise(writing: Writing) -> None:
    """Have ZODB serialise what was changed so far, as a commit would.

    Asked of the connections and not of the transaction: a savepoint of the transaction that
    fails would end it, and an earlier savepoint could not be gone back to.

    Raises:
        Exception: Whatever an object that cannot be stored raises.
    """
    connections = {id(c): c for c in writing.connection.connections.values()}
    for connection in connections.values():
        if not connection._needs_to_join:
            connection.savepoint()


class Desk:
    """A connection with an explicit transaction manager."""

    def __init__(self, db: Any, site: str) -> None:
        """Open a connection; close it in the same thread."""
        self._db = db
        self._site = site
        self._manager = TransactionManager(explicit=True)
        self.connection = db.open(self._manager)

    @property
    def store_connection(self) -> Any:
        """The connection that the calls are reached by."""
        return calls_connection(self.connection)

    def open_store(self) -> Store:
        """The store, in the current transaction.

        Raises:
            StoreRefused: It is none of this code's version.
        """
        try:
            return open_store(self.store_connection, self._site)
        except ConfigurationError as exc:
            raise StoreRefused(str(exc)) from exc

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        """A transaction that is aborted unless it was committed inside.

        Raises:
            StorageAway: It cannot be begun, or what was done in it failed because the storage
                went away, or cannot be written.
        """
        try:
            try:
                # Where it fails the manager has a transaction all the same, and begins no other.
                yield self._begin()
            finally:
                self._abort()
        except (TransientError, Fenced, StorageAway):
            raise
        except Exception as exc:
            if is_full(exc):
                raise StorageFull(
                    f"it cannot be written ({str(exc) or type(exc).__name__})"
                ) from exc
            if self.is_away():
                raise StorageAway(f"{type(exc).__name__} of the storage") from exc
            raise

    def _begin(self) -> Any:
        if not self._has_connection():
            self.connection = self._db.open(self._manager)
        return self._manager.begin()

    def _has_connection(self) -> bool:
        # One that somebody has closed may be another's by now.
        return self.connection.transaction_manager is self._manager

    def is_away(self) -> bool:
        """Whether a storage of ours is what failed: then it lets nothing be read now either.

        The drivers of SQL databases have errors of their own, which are no disconnection to
        ZODB. What is asked for is in no cache.
        """
        if not self.is_connected:
            # Else a ZEO client would wait for its server, or find what is asked for in its file.
            return True
        try:
            try:
                self._begin()
                for connection in {self.connection, self.store_connection}:
                    connection._storage.load(ROOT_OID)
            finally:
                self._abort()
        except Exception:  # noqa: BLE001 - whatever it says, nothing was read
            return True
        return False

    def catch_up(self) -> None:
        """See what others have committed, while there is nothing else to do.

        ZODB keeps the oid of every object that was written for a connection until that begins
        its next transaction: for one that is idle that is all calls of a worker's life.
        """
        try:
            try:
                self._begin()
            finally:
                self._abort()
        except Exception as exc:  # noqa: BLE001 - whoever has something to do finds out, and says so
            logger.debug("an idle connection cannot catch up: %s", type(exc).__name__)

    @property
    def is_connected(self) -> bool:
        """Whether our storages say so: a ZEO client waits for its server when it is asked."""
        return are_connected(self.connection)

    def has_changes(self) -> bool:
        """Whether the current transaction has written anything to the store."""
        return self.has_savepoint() or bool(self.changed())

    def has_savepoint(self) -> bool:
        """Whether a savepoint was made: what was changed before is not told any more."""
        return bool(self.store_connection._savepoint_storage)

    def changed(self) -> list[Any]:
        """What it has changed in the store, or has added to it, since its last savepoint."""
        connection = self.store_connection
        return [*connection._registered_objects, *connection._added.values()]

    def _abort(self) -> None:
        try:
            # A commit that failed leaves a transaction that only an abort ends.
            self._manager.abort()
        except NoTransaction:
            pass  # it was committed

    def close(self) -> None:
        """Close the connection; there must be no transaction."""
        if self._has_connection():
            self.connection.close()


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk takes nothing: no call is at fault for that."""
    if isinstance(error, ServerException):
        # What a ZEO server met at its disk: the name of the class, and its arguments.
        args = error.args[1] if len(error.args) > 1 else ()
        code = args[0] if isinstance(args, tuple) and args else None
        return error.args[:1] == ("builtins.OSError",) and code in _TAKES_NOTHING
    if isinstance(error, ReadOnlyError):
        # A storage that was opened so, or a ZEO client that fell back to a server that is.
        return True
    return isinstance(error, OSError) and error.errno in _TAKES_NOTHING


def is_foreign(error: BaseException, connection: Any) -> bool:
    """Whether an error of a lost connection is of no storage that a worker cannot do without.

    It comes of something that a plugin, a policy or exposed code uses then, and waiting for our
    own storages would help nothing.

    Args:
        error: What was raised.
        connection: The application's; its database and that of the calls are our own.
    """
    if connection is None or not isinstance(error, ClientDisconnected):
        return False
    return are_connected(connection)


def are_connected(connection: Any) -> bool:
    """Whether the storages say so that a worker cannot do without."""
    db = connection.db()
    return _is_connected(db.storage) and _is_connected(calls_database(db).storage)


def _is_connected(storage: Any) -> bool:
    # Those that are in this process have nothing to lose.
    ask = getattr(storage, "is_connected", None)
    return ask is None or bool(ask())
