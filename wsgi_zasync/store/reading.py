# SPDX-License-Identifier: ZPL-2.1
"""Records that cannot be read: damaged, overwritten, or of classes that are refused.

One of them must stop nobody else's calls. But a storage that fails at the moment is no fault of
the record's: a record is unreadable only if the storage has it, or says that it does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from persistent import Persistent
from transaction.interfaces import TransientError
from ZODB.POSException import POSKeyError, StorageError

from ..call import CallRecord


def why_unreadable(record: Persistent) -> str | None:
    """Why the record cannot be read; None if it can, and is loaded then.

    Raises:
        Exception: Of the storage, which fails.
    """
    try:
        record._p_activate()
    except Exception as exc:  # noqa: BLE001 - loading a record may raise anything
        _raise_if_storage_fails(record._p_jar, record._p_oid, exc)
        return f"{type(exc).__name__}: {exc}"
    return None


def send_together(connection: Any, objects: Iterable[Persistent | None]) -> None:
    """Have the storage send these at once, where it can: they are on the way as long as one.

    What is in memory is not sent, nor one alone: who loads it waits as long.
    """
    ghosts = [each for each in objects if each is not None and each._p_changed is None]
    if len(ghosts) > 1:
        # Not the connection's own: it cannot while there is a savepoint, and never tries again.
        prefetch = getattr(connection._normal_storage, "prefetch", None)
        if prefetch is not None:
            prefetch([each._p_oid for each in ghosts])


def readable(connection: Any, oid: bytes) -> CallRecord | None:
    """The record with this oid, None if it cannot be read.

    Raises:
        Exception: Of the storage, which fails.
    """
    try:
        record: CallRecord = connection.get(oid)
        record._p_activate()
    except Exception as exc:  # noqa: BLE001 - as above
        _raise_if_storage_fails(connection, oid, exc)
        return None
    return record


def _raise_if_storage_fails(connection: Any, oid: bytes, error: Exception) -> None:
    if isinstance(error, POSKeyError):
        return
    if isinstance(error, TransientError | StorageError):
        raise error
    # An error of a driver looks like any other: is it there?
    connection._storage.load(oid)
