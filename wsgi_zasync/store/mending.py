# SPDX-License-Identifier: ZPL-2.1
"""What is put right when the transaction of a put was undone, or left out by ``fsrecover``.

Then a record may be empty that others were put behind, which nobody tells workers of: they look
for it now and then. How they go on with a log that was taken back is in ``lanes``, and what becomes
of a call that one of them had already, in ``parking.hand_on``.
"""

from __future__ import annotations

import os

from BTrees.OOBTree import OOBTree

from ..call import SEED_BYTES, CallRecord
from .accepting import Wanted
from .index import IndexSegment, is_empty, is_readable
from .lanes import Inbox
from .parking import has_places
from .reading import why_unreadable
from .store import Store


def mend(store: Store, tallies: OOBTree, wanted: Wanted, now: int) -> None:
    """Look through the inboxes that a worker reads; writes only what is to be put right.

    Args:
        store: Of this transaction.
        tallies: Of who mends.
        wanted: Says which inboxes.
        now: In microseconds since 1970 UTC.
    """
    from_the_first = has_places(store.site)
    for number in wanted.lanes:
        for _, inbox in store.site.lanes[number].inboxes_of(wanted.queues):
            for segment, read in inbox.cursor.reading:
                for hole in _holes(segment, 0 if from_the_first else read, inbox):
                    _bury(store, tallies, segment, hole, now)


def _holes(segment: IndexSegment, begin: int, inbox: Inbox) -> list[int]:
    """The positions of records that are empty although there are later calls of the same owner."""
    if not is_readable(segment):
        return []
    if not is_empty(segment.calls[begin]) and begin:
        return []
    segment.fetch_once(begin)
    empty = [at for at in range(begin, len(segment.calls)) if is_empty(segment.calls[at])]
    if segment.is_open and segment not in inbox.open:
        # There is one after it, so that it was full.
        return empty
    filled = (at for at in range(len(segment.calls) - 1, begin, -1) if at not in empty)
    last = next(filled, begin)
    return [at for at in empty if at < last]


def _bury(store: Store, tallies: OOBTree, segment: IndexSegment, position: int, now: int) -> None:
    """Have an empty record count as that of a call which has ended and was forgotten.

    So nobody puts there any more, and everybody goes on behind it: that calls are in front and
    empty records behind is what all who look for a segment's calls rely on.
    """
    record, before = segment.calls[position], segment.last(position)
    behind = next((each for each in segment.calls[position:] if _tells(each)), None)
    other = behind or before
    if record is None or other is None:
        return
    lane, number, _ = other.place
    call = CallRecord()
    call.seed, call.owner, call.site = os.urandom(SEED_BYTES), other.owner, other.site
    call.place = (lane, number, position)
    call.created = segment.first_created if before is None else before.created + 1
    call.bytes_put = segment.bytes_up_to(before)
    if behind is not None and behind.is_untouched:
        # What the undone one counted for. Of one that has ended nobody knows any more what it
        # counted for itself.
        call.size = behind.bytes_put - behind.size - call.bytes_put
        call.bytes_put += call.size
    segment.fill(position, call)
    record.cancel(now)
    store.count_end(tallies, record)
    store.forget(record, tallies)


def _tells(record: CallRecord | None) -> bool:
    return record is not None and why_unreadable(record) is None and bool(record.seed)
