# SPDX-License-Identifier: ZPL-2.1
"""Whose transaction a request runs in, when it is not ours, and through which connection.

A host that owns a transaction says so in the environ; its connection is then the one that calls
are written through. Two connections to one storage that commit in one transaction wait for each
other for ever in ZODB, so what is found twice is refused, and what is found late is refused
before the commit begins.

Everything here runs in the request's thread, and what is kept is kept on its transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transaction
from transaction.interfaces import ITransactionManager, NoTransaction
from ZODB.Connection import Connection
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from ..errors import ConfigurationError, TransactionOver
from ..store.databases import CALLS_DATABASE

_WATCHED = object()


@dataclass(slots=True)
class Found:
    """The connections that one middleware has found in a host's transaction; kept on that.

    Another middleware around the same application may have found others.
    """

    #: Kept, since a transaction knows by the address only whose this is.
    finder: object
    #: The one that the host writes through, and the one to the calls.
    application: Any = None
    store: Any = None

    @classmethod
    def of(cls, txn: Any, finder: object) -> Found:
        """What was found in the transaction, made at first need."""
        try:
            found: Found = txn.data(finder)
        except KeyError:
            found = cls(finder)
            txn.set_data(finder, found)
        return found


def is_open(connection: Any) -> bool:
    """Whether there is a connection, and nobody has closed it since."""
    return connection is not None and connection.opened is not None


def manager_of(environ: Mapping[str, Any]) -> Any | None:
    """The transaction manager of the host that owns this request's transaction, or None.

    ``tm.active`` and ``repoze.tm.active`` are what pyramid_tm and repoze.tm2 leave while their
    transaction runs. Without a ``tm.manager`` beside it, it is the thread's.

    Raises:
        ConfigurationError: ``tm.manager`` is no transaction manager.
    """
    if not (environ.get("tm.active") or environ.get("repoze.tm.active")):
        return None
    manager = environ.get("tm.manager")
    if manager is None:
        return transaction.manager
    if not ITransactionManager.providedBy(manager):
        raise ConfigurationError(
            f"environ['tm.manager'] is a {type(manager).__qualname__} and no transaction manager"
        )
    return manager


def current(manager: Any) -> Any:
    """The transaction that a manager is in.

    Raises:
        TransactionOver: It is in none; an explicit manager has ended it or not begun.
    """
    try:
        return manager.get()
    except NoTransaction as exc:
        raise TransactionOver(
            "the host's transaction has ended or was not begun, so nothing can be written in it"
        ) from exc


def is_current(manager: Any, txn: Any) -> bool:
    """Whether the manager is still in this transaction."""
    try:
        return manager.get() is txn
    except NoTransaction:
        return False


def threads_transaction() -> Any | None:
    """The transaction that this thread's ``transaction.manager`` is in, or None."""
    # Unlike get(), this makes no transaction where there is none.
    return transaction.manager.manager._txn


def open_connections(txn: Any) -> list[Connection]:
    """The connections that are open on the transaction's manager, in the order of opening.

    ``transaction`` has no public list of them: each connection registers as a synchronizer of
    its manager while it is open, written to or not.
    """
    found = (reference() for reference in txn._synchronizers.as_weakref_list())
    return [each for each in found if isinstance(each, Connection) and each.before is None]


def joined_connections(txn: Any) -> list[Connection]:
    """The connections that have something to commit in the transaction."""
    return [resource for resource in txn._resources if isinstance(resource, Connection)]


def is_same_storage(one: Any, other: Any) -> bool | None:
    """Whether two databases keep their data in one place; None when that cannot be told."""
    one, other = one.storage, other.storage
    if one is other:
        return True
    # Its lock makes a file belong to one FileStorage; what is in memory belongs to itself.
    local = (FileStorage, MappingStorage, DemoStorage)
    if isinstance(one, local) or isinstance(other, local):
        return False
    if type(one) is not type(other):
        return None
    return True if one.sortKey() == other.sortKey() else None


def find_connection(txn: Any, database: Any, first: Connection | None = None) -> Any | None:
    """The host's connection to a database, or None if it has none.

    Args:
        txn: The host's transaction.
        database: The database that is wanted.
        first: What the host itself calls its connection, if it told.

    Raises:
        ConfigurationError: Two connections to the database have something to commit, or it
            cannot be told whether a connection leads to it.
    """
    connections = open_connections(txn)
    if first is not None:
        connections = [first, *(c for c in connections if c is not first)]
    same = [c for c in connections if is_same_storage(c.db(), database)]
    if same:
        return _one_of(txn, same)
    for connection in connections:
        if connection.db().databases is database.databases:
            return connection.get_connection(database.database_name)
    for connection in connections:
        if is_same_storage(connection.db(), database) is None:
            raise ConfigurationError(
                "the host's connection and zodb_uri may lead to one storage, and two connections "
                "to it in one transaction would wait for each other for ever: leave zodb_uri out, "
                f"or name the database {CALLS_DATABASE!r} in the host's own configuration"
            )
    return None


def only_connection(txn: Any) -> Connection | None:
    """The connection to the one database that the host's transaction uses, or None.

    Raises:
        ConfigurationError: It uses several, and none of them is named for calls.
    """
    connections = open_connections(txn)
    if not connections:
        return None
    names = {id(c.db().storage): c.db().database_name for c in connections}
    if len(names) > 1 and CALLS_DATABASE not in connections[0].db().databases:
        raise ConfigurationError(
            f"the transaction has connections to {len(names)} databases "
            f"({', '.join(sorted(map(repr, names.values())))}): say by zodb_uri or db which one "
            f"holds the calls, or name that one {CALLS_DATABASE!r}"
        )
    return _one_of(txn, [c for c in connections if c.db().storage is connections[0].db().storage])


def _one_of(txn: Any, connections: list[Connection]) -> Connection:
    """One of several connections to one storage: that with something to commit, else the first."""
    joined = joined_connections(txn)
    writing = [c for c in connections if any(c is other for other in joined)]
    if len(writing) > 1:
        raise _two_connections(writing[0])
    return writing[0] if writing else connections[0]


def refuse_two_connections(txn: Any) -> None:
    """Raise if the transaction would commit two connections to one storage.

    Raises:
        ConfigurationError: It would, and so would never end.
    """
    seen: list[Connection] = []
    for connection in joined_connections(txn):
        for other in seen:
            if is_same_storage(other.db(), connection.db()):
                raise _two_connections(connection)
        seen.append(connection)


def watch(txn: Any) -> None:
    """See to it that the transaction fails, rather than hangs, if a second connection joins."""
    try:
        txn.data(_WATCHED)
    except KeyError:
        txn.set_data(_WATCHED, True)
        txn.addBeforeCommitHook(look_last, (txn,))


def look_last(txn: Any) -> None:
    """Have it looked at after all other hooks, which may make a connection join.

    A hook that is added while hooks run is run behind those that were there.
    """
    txn.addBeforeCommitHook(refuse_two_connections, (txn,))


def _two_connections(connection: Connection) -> ConfigurationError:
    return ConfigurationError(
        "two connections to one storage "
        f"({connection.db().storage.getName()!r}) have something to commit in one transaction, "
        "which ZODB cannot end: use one connection in it, and tell us by calls.bind(connection) "
        "which one"
    )


def close_with(txn: Any, connection: Connection) -> None:
    """Close a connection of ours when a transaction of the host's has ended."""

    def close(*status: bool) -> None:
        # The hooks are followed by an abort of all resources; by then this connection may serve
        # another thread, so that it has to leave first.
        txn._unjoin(connection)
        connection.close()

    txn.addAfterCommitHook(close)
    txn.addAfterAbortHook(close)
