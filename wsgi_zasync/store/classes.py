# SPDX-License-Identifier: ZPL-2.1
"""What a record may be made of, where the calls have a database of their own.

ZODB's records are pickles, and loading one calls whatever it names. In a database named
``zasync`` there are calls and nothing else, so that everything but the classes listed here is
refused there, before it is imported. In an application's own database anything may be stored,
and nothing can be refused.
"""

from __future__ import annotations

from typing import Any

from ZODB.broken import find_global
from ZODB.POSException import POSError

from .databases import CALLS_DATABASE

#: Module -> names. Values are plain data, and these are what pickles make it of.
ADMITTED: dict[str, frozenset[str]] = {
    module: frozenset(names.split())
    for module, names in {
        "wsgi_zasync.call": "CallRecord",
        "wsgi_zasync.store.root": "Site StoreRoot",
        "wsgi_zasync.store.lanes": "Cursor Inbox InboxSegment Lane",
        "wsgi_zasync.store.index": "IndexSegment OwnerIndex",
        "wsgi_zasync.store.mailbox": "Mailbox",
        "wsgi_zasync.store.accepted": "Board Chunk Fence Publication WorkerArea",
        "wsgi_zasync.store.tallies": "Tallies",
        "wsgi_zasync.sealing": "Sealed",
        "wsgi_zasync.values": "WeakReference",
        "BTrees.IOBTree": "IOBTree IOBucket",
        "BTrees.LOBTree": "LOBTree LOBucket",
        "BTrees.OOBTree": "OOBTree OOBucket",
        "persistent.mapping": "PersistentMapping",
        "datetime": "date datetime timedelta timezone",
        "decimal": "Decimal",
        "uuid": "UUID SafeUUID",
        "builtins": "set frozenset bytes bytearray",
        "_codecs": "encode",
        "copyreg": "_reconstructor __newobj__",
        "zodbpickle": "binary",
    }.items()
}


class ClassRefused(POSError):
    """A record names what is no part of a call; it was not imported, and nothing was run."""


def admitted_only(_connection: Any, module: str, name: str) -> Any:
    """What ``DB.classFactory`` gives for a global of a record.

    Raises:
        ClassRefused: It is none of those that calls are made of.
    """
    if name not in ADMITTED.get(module, ()):
        raise ClassRefused(f"a record of the calls names {module}.{name}, which is refused")
    return find_global(module, name)


def guard(connection: Any) -> None:
    """Let this connection load nothing but calls, if its database is there for nothing else."""
    database = connection.db()
    if database.database_name != CALLS_DATABASE or len(database.databases) < 2:
        return
    database.classFactory = admitted_only
    # A connection keeps the factory that its database had when it was made.
    connection._reader._factory = admitted_only
