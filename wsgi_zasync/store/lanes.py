# SPDX-License-Identifier: ZPL-2.1
"""Lanes: the inbox of a store.

A process that puts calls claims a lane (``store.claims``) and is then, by custom, the only one
who appends to it; two who do conflict and one retries. An entry only says "look at this call".

Who writes what: a put writes the last segment of an inbox, and the inbox itself when that
segment is full and a new one begins. A worker writes nothing but the inbox's cursor. Segments
are a chain: what the cursor has left behind is reachable from nowhere, and goes when the
database is packed, so nobody has to delete anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping

from ..call import LANES, SEGMENT_SIZE, CallRecord

__all__ = ["LANES", "Cursor", "Inbox", "InboxSegment", "Lane"]


class InboxSegment(Persistent):
    """At most SEGMENT_SIZE entries, and the segment that comes after it once it is full.

    Plain, without conflict resolution: two writers must conflict, since merging their entries
    in any order could put one behind a cursor.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.entries: tuple[CallRecord, ...] = ()
        self.next: InboxSegment | None = None


class Cursor(Persistent):
    """How far workers have read an inbox; the only part of a lane that they write."""

    def __init__(self, segment: InboxSegment) -> None:
        self.segment = segment
        self.position = 0

    def waiting(self) -> bool:
        """Whether there is an entry to be read."""
        return self.position < len(self.segment.entries) or self.segment.next is not None

    def take(self, limit: int) -> list[CallRecord]:
        """Read on by up to ``limit`` entries; writes only if there are any."""
        taken: list[CallRecord] = []
        segment, position = self.segment, self.position
        while len(taken) < limit:
            found = segment.entries[position : position + limit - len(taken)]
            taken.extend(found)
            position += len(found)
            if position < SEGMENT_SIZE or segment.next is None:
                break
            segment, position = segment.next, 0
        if taken:
            self.segment, self.position = segment, position
        return taken


class Inbox(Persistent):
    """The entries of one queue and priority in one lane, oldest first."""

    def __init__(self) -> None:
        self.tail = InboxSegment(0)
        self.cursor = Cursor(self.tail)

    def append(self, record: CallRecord) -> None:
        """Add an entry at the end."""
        tail = self.tail
        if len(tail.entries) >= SEGMENT_SIZE:
            tail.next = self.tail = tail = InboxSegment(tail.number + 1)
        tail.entries += (record,)

    def depth(self) -> int:
        """How many entries no worker has read yet."""
        written = self.tail.number * SEGMENT_SIZE + len(self.tail.entries)
        return written - (self.cursor.segment.number * SEGMENT_SIZE + self.cursor.position)


class Lane(Persistent):
    """One producer's part of the store: inboxes, and the index of the owners it put for."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: (queue, priority) -> Inbox
        self.inboxes: PersistentMapping = PersistentMapping()
        #: owner key -> OwnerIndex
        self.owners: OOBTree = OOBTree()
        #: owner key -> counts, for the ends that requests write (see ``store.tallies``)
        self.tallies: OOBTree = OOBTree()

    def append(self, record: CallRecord) -> None:
        """Add an entry for the call to the inbox of its queue and priority."""
        key = (record.queue, record.priority)
        inbox = self.inboxes.get(key)
        if inbox is None:
            inbox = self.inboxes[key] = Inbox()
        inbox.append(record)

    def depths(self) -> Iterator[tuple[tuple[str, int], int]]:
        """How much lies in each inbox."""
        for key, inbox in self.inboxes.items():
            yield key, inbox.depth()

    def last_written(self) -> bytes:
        """The serial of the newest entry; lanes long unused have the smallest."""
        serials = []
        for inbox in self.inboxes.values():
            # A ghost has no serial of its own yet.
            inbox.tail._p_activate()
            serials.append(inbox.tail._p_serial)
        return max(serials, default=b"")
