# SPDX-License-Identifier: ZPL-2.1
"""Pruning: forgetting final calls whose time to be kept is over.

One pass goes once through all owners' indexes, in parts that fit into a transaction each; the
caller commits between them and says where the part before stopped. A segment whose calls are all
too young is passed by without reading one of them. Only ends of which nobody is owed anything any
more are forgotten: a call whose callbacks are still to be evaluated stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from BTrees.OOBTree import OOBTree

from ..call import CallRecord
from .index import IndexSegment, OwnerIndex, is_readable
from .mailbox import owes
from .reading import why_unreadable
from .store import Store

#: Segments that one part looks at, at most: a few hundred milliseconds on a cold cache.
SEGMENTS_A_PART = 200


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """The segment that a pass has come to."""

    lane: int = 0
    owner: str = ""
    segment: int = 0


@dataclass(frozen=True, slots=True)
class Pruned:
    """What one part of a pass did."""

    count: int
    #: Where the next part begins; None: the pass is at its end.
    next: Position | None


def over(record: CallRecord, now: int, keep_seconds: float) -> bool:
    """Whether the call's time to be kept is over, and nothing is owed of it.

    Args:
        record: The call's.
        now: Microseconds since 1970 UTC.
        keep_seconds: For calls that were put without a ``keep`` of their own.
    """
    if record.forgotten or not record.is_final or record.finished is None:
        return False
    keep = keep_seconds if record.keep is None else record.keep
    return record.finished + keep * 1_000_000 <= now and not owes(record)


def prunable(store: Store, now: int, keep_seconds: float) -> Iterator[CallRecord]:
    """The calls to be forgotten, of all owners; read-only."""
    for index, position in _segments(store, Position()):
        yield from _over_in(index.segments[position.segment], now, keep_seconds)


def prune(
    store: Store,
    tallies: Callable[[CallRecord], OOBTree],
    now: int,
    keep_seconds: float,
    *,
    begin: Position | None = None,
    limit: int = 100,
) -> Pruned:
    """Forget about ``limit`` calls in this transaction: one part of a pass.

    Args:
        store: Of this transaction.
        tallies: Gives the tallies of who prunes; asked only for a call that is forgotten.
        now: Microseconds since 1970 UTC.
        keep_seconds: For calls that were put without a ``keep`` of their own.
        begin: Where the part before stopped; None begins a pass.
        limit: Calls after which the part ends, at the end of a segment.
    """
    found: list[CallRecord] = []
    used: list[tuple[OwnerIndex, int]] = []
    stopped = None
    for looked, (index, position) in enumerate(_segments(store, begin or Position())):
        if len(found) >= limit or looked >= SEGMENTS_A_PART:
            stopped = position
            break
        segment = index.segments[position.segment]
        if _is_worth_a_look(segment, now, keep_seconds):
            found += _over_in(segment, now, keep_seconds)
            used.append((index, position.segment))
    for index, number in used:
        # Erased while it was the last one, and left there for its producer's sake.
        if not index.is_last(number):
            index.tidy(number)
    for record in found:
        store.forget(record, tallies(record))
    return Pruned(len(found), stopped)


def _segments(store: Store, begin: Position) -> Iterator[tuple[OwnerIndex, Position]]:
    for lane in sorted(store.claimed_lanes()):
        if lane < begin.lane:
            continue
        owners = store.site.lanes[lane].owners
        for owner, index in owners.items(min=begin.owner if lane == begin.lane else None):
            for number, segment in index.segments.items():
                position = Position(lane, owner, number)
                if position >= begin and is_readable(segment):
                    yield index, position


def _is_worth_a_look(segment: IndexSegment, now: int, keep_seconds: float) -> bool:
    keep = keep_seconds
    if segment.shortest_keep is not None:
        keep = min(keep, segment.shortest_keep)
    return segment.first_created + keep * 1_000_000 <= now


def _over_in(segment: IndexSegment, now: int, keep_seconds: float) -> Iterator[CallRecord]:
    if not _is_worth_a_look(segment, now, keep_seconds):
        return
    for record in segment.put_here():
        if why_unreadable(record) is None and over(record, now, keep_seconds):
            yield record
