# SPDX-License-Identifier: ZPL-2.1
"""Pruning: forgetting final calls whose time to be kept is over.

Goes through the owners' indexes in parts that fit into a transaction each; the caller commits
between them. Only ends of which nobody is owed anything any more are forgotten: a call whose
callbacks are still to be evaluated stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..call import CallRecord
from .root import Store


def over(record: CallRecord, now: int, keep_seconds: float) -> bool:
    """Whether the call's time to be kept is over.

    Args:
        now: Microseconds since 1970 UTC.
        keep_seconds: For calls that were put without a ``keep`` of their own.
    """
    if not record.is_final or record.forgotten or record.finished is None:
        return False
    keep = keep_seconds if record.keep is None else record.keep
    return record.finished + keep * 1_000_000 <= now and not record.pending_callbacks()


def prunable(store: Store, now: int, keep_seconds: float) -> Iterator[CallRecord]:
    """The calls to be forgotten, of all owners; read-only."""
    for number in store.claimed_lanes():
        for index in store.site.lanes[number].owners.values():
            for record in index.oldest():
                if over(record, now, keep_seconds):
                    yield record


def prune(store: Store, tree: Any, now: int, keep_seconds: float, limit: int = 100) -> int:
    """Forget up to ``limit`` calls in this transaction; returns how many.

    Args:
        tree: The tallies of who prunes.
    """
    found = []
    for record in prunable(store, now, keep_seconds):
        found.append(record)
        if len(found) == limit:
            break
    for record in found:
        store.forget(record, tree)
    return len(found)
