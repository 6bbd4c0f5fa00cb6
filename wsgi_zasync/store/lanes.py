# SPDX-License-Identifier: ZPL-2.1
"""Lanes: the inbox of a store.

A process that puts calls claims a lane (``store.claims``) and is then, by custom, the only one
who appends to it; two who do conflict and one retries.

A put writes one object: the next empty record in the last segment of its owner's index
(``store.index``). There is mostly no other one that says "look at this call", because workers look
at the next records of the index segments themselves: of those that are *open*. An inbox keeps a
log of which segments were opened, and from which position on, and of single calls that were put
into others. A segment is opened for an owner who puts again soon, and closed when so many others
were opened since that reading them all would cost too much.

Why nothing is missed: whoever puts into a segment fills its next record, and whoever closes it
writes that record too, so that the two conflict if they meet. What is in a segment that a worker
sees closed is therefore all that is in it, but for what has entries of its own in the log. Why
nothing is taken twice: a segment knows where it was closed, and the entry of an opening tells of
the calls up to there.

Who writes what: a put writes its record; into a segment that is not open, also the last segment
of the log; one that opens it, the segment and the inbox too. A worker writes nothing but the
inbox's cursor. Log segments are a chain: what the cursor has left behind is reachable from
nowhere, and goes when the database is packed, so nobody has to delete anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping

from ..call import SEGMENT_SIZE, CallRecord
from .index import IndexSegment, is_empty
from .reading import send_together, why_unreadable
from .tallies import Tallies

#: Segments of one inbox that are open at a time; that many owners of a lane cost the least.
MOST_OPEN = 32

#: A call to be looked at, or a segment that was opened and where the calls of that opening begin.
Entry = CallRecord | tuple[IndexSegment, int]


class InboxSegment(Persistent):
    """At most SEGMENT_SIZE entries, and the segment that comes after it once it is full.

    Plain, without conflict resolution: two writers must conflict, since merging their entries
    in any order could put one behind a cursor.
    """

    next: InboxSegment | None = None

    def __init__(self) -> None:
        self.entries: tuple[Entry, ...] = ()


class Cursor(Persistent):
    """How far workers have read an inbox; the only part of a lane that they write.

    It may be a few calls behind: to write that one is over would cost as much as to end it did.
    """

    #: The segments that are read, and how much of each has been.
    reading: tuple[tuple[IndexSegment, int], ...] = ()
    #: The entry that was followed last, unless it is of the segment before.
    last: Entry | None = None
    #: How many calls may be in what this connection has had sent ahead of the log's position.
    _v_asked = 0

    def __init__(self, segment: InboxSegment) -> None:
        #: How far the log has been followed.
        self.segment = segment
        self.position = 0

    def is_behind(self) -> bool:
        """Whether there is a call to be taken."""
        log, position = self._followed()
        if position < len(log.entries) or log.next is not None:
            return True
        return any(
            why_unreadable(segment) is not None or _is_more_in(segment, read)
            for segment, read in self.reading
        )

    def read_ahead(self, count: int) -> int:
        """Have the storage send what about ``count`` more calls are read from.

        It comes while what was taken is run and written. Segments are sent twice as far ahead:
        one has to be here before its calls can be asked for. What was sent ahead once is not again.

        Returns how many calls there may be, ``count`` or more where there is no end in sight.
        """
        sent: list[Persistent] = []
        opened: list[tuple[IndexSegment, int]] = []
        reached = 0
        for entry in self._following():
            if reached >= self._v_asked:
                sent.append(entry if isinstance(entry, CallRecord) else entry[0])
            if reached < count and not isinstance(entry, CallRecord):
                opened.append(entry)
            reached += _most_calls(entry)
            if reached >= 2 * count:
                break
        self._v_asked = max(self._v_asked, reached)
        send_together(self._p_jar, sent)
        for segment, begin in opened:
            if why_unreadable(segment) is None:
                segment.fetch_once(begin)
        return reached

    def _following(self) -> Iterator[Entry]:
        """The entries of the log that were not followed yet, up to what cannot be read of it."""
        log: InboxSegment | None = self.segment
        position = self.position
        while log is not None and why_unreadable(log) is None:
            yield from log.entries[position:]
            log, position = log.next, 0

    def _followed(self) -> tuple[InboxSegment, int]:
        """How far the log has been followed; not so far where its end was undone since.

        What was followed is then not there any more, and what is in its place came later.
        """
        log, position = self.segment, self.position
        if position and log.entries[position - 1 : position] != (self.last,):
            position = min(position, len(log.entries))
            while position and self._came_later(log.entries[position - 1]):
                position -= 1
        return log, position

    def _came_later(self, entry: Entry) -> bool:
        """Whether it was made after the last time that this was written: nobody has followed it.

        Of a call that has been touched since its put nobody could tell.
        """
        record: CallRecord | None
        if isinstance(entry, CallRecord):
            record = entry
        else:
            segment, begin = entry
            record = segment.calls[begin] if why_unreadable(segment) is None else None
        if record is None or why_unreadable(record) is not None or not record.is_untouched:
            return False
        return bool(record._p_serial > self._p_serial)

    def take(self, limit: int) -> list[CallRecord | IndexSegment]:
        """Read on by up to ``limit`` calls; writes only if there is anything to be read.

        A segment's calls come in the order of their puts, segments in the order in which they
        were opened: nobody waits behind more than what is left of the segments before. One that
        cannot be read comes itself, once.
        """
        taken: list[CallRecord | IndexSegment] = []
        reading: list[tuple[IndexSegment, int]] = []
        for segment, read in self.reading:
            _read_on(segment, read, read - 1, limit, taken, reading)
        log, position = self._followed()
        while len(taken) < limit:
            if position == len(log.entries):
                if log.next is None:
                    break
                log, position = log.next, 0
                continue
            entry = log.entries[position]
            position += 1
            self._v_asked = max(0, self._v_asked - _most_calls(entry))
            if isinstance(entry, CallRecord):
                taken.append(entry)
            else:
                segment, begin = entry
                _read_on(segment, begin, begin, limit, taken, reading)
        reached = (log, position, tuple(reading))
        if reached != (self.segment, self.position, self.reading):
            self.segment, self.position, self.reading = reached
            self.last = log.entries[position - 1] if position else None
        return taken


def _most_calls(entry: Entry) -> int:
    """How many calls there are to be read for an entry, at most."""
    return 1 if isinstance(entry, CallRecord) else SEGMENT_SIZE


def _read_on(
    segment: IndexSegment,
    read: int,
    known: int,
    limit: int,
    taken: list[CallRecord | IndexSegment],
    reading: list[tuple[IndexSegment, int]],
) -> None:
    """Take what is new of one opening of a segment, and go on reading unless that is all of it.

    Args:
        segment: To be read.
        read: How much of it has been.
        known: The position of a call that is of this opening.
        limit: How many there may be in ``taken``.
        taken: Gets what is new.
        reading: Gets what is to be read on.
    """
    if why_unreadable(segment) is not None:
        taken.append(segment)
        return
    # What was put later has entries of its own in the log.
    end = segment.end_of_opening(known)
    until = len(segment.calls) if end is None else end
    begin = read
    is_fetched = read < until and segment.fetch_once(read)
    while read < until and len(taken) < limit:
        if read == begin + 2 and not is_fetched:
            # They do not come one by one.
            segment.fetch(read, min(until, read + limit - len(taken) + 1))
        call = segment.calls[read]
        if not is_empty(call):
            # One that was forgotten had ended.
            if call is not None:
                taken.append(call)
        elif end is None:
            break
        # Else its put was undone: all that were put there until the end are there.
        read += 1
    is_sure = segment.is_open or end is not None
    if read < until and (is_sure or _is_more_in(segment, read)):
        reading.append((segment, read))


def _is_more_in(segment: IndexSegment, read: int) -> bool:
    """Whether there is a call at this position."""
    segment.fetch_once(read)
    return read < len(segment.calls) and not is_empty(segment.calls[read])


class Inbox(Persistent):
    """What was put into one lane for one queue and priority."""

    #: The segments that are open, the one that was opened first in front.
    open: tuple[IndexSegment, ...] = ()

    def __init__(self) -> None:
        #: The end of the log.
        self.tail = InboxSegment()
        self.cursor = Cursor(self.tail)

    def reader(self) -> Cursor:
        """The cursor, for who accepts."""
        cursor = self.cursor
        if why_unreadable(cursor.segment) is not None:
            # The put was undone that had begun this part of the log.
            cursor.segment, cursor.position = self.tail, len(self.tail.entries)
            cursor.last = None
        return cursor

    def tell(
        self, call: CallRecord, segment: IndexSegment, position: int, full: IndexSegment | None
    ) -> None:
        """Have workers find a call that was put into a segment that is not open.

        To open a segment writes more than an entry for one call, and so does to close the one
        that has to make room. It is done for who puts again soon: while the log's last part
        still has an entry for the call before.

        Args:
            call: That was just put.
            segment: That it was put into.
            position: Where it is there.
            full: The segment before, if the call is the first of this one.
        """
        if position:
            before = segment.calls[position - 1]
        else:
            before = None if full is None else full.calls[-1]
        others = [each for each in self.open if each is not full]
        if len(others) == len(self.open) and before not in self.tail.entries:
            self.append(call)
            return
        if len(others) >= MOST_OPEN:
            first = others.pop(0)
            # Of one that cannot be read no put is possible either.
            if why_unreadable(first) is None:
                first.close()
        self.open = (*others, segment)
        segment.is_open = True
        self.append((segment, position))

    def next_records(self, is_read_on: bool) -> Iterator[CallRecord]:
        """The records that puts into open segments fill next; they are not loaded.

        Args:
            is_read_on: Whether the cursor is where nobody but us takes it. Else somebody may
                have taken it on by the next put, and that fills none but a later record.
        """
        reached = dict(self.cursor.reading)
        for segment in self.open:
            if why_unreadable(segment) is None:
                for record in segment.calls[reached.get(segment, 0) :]:
                    if record is None:
                        continue
                    yield record
                    if is_read_on and record._p_changed is not None and not record.seed:
                        break

    def append(self, entry: Entry) -> None:
        """Add an entry to the log."""
        tail = self.tail
        if len(tail.entries) >= SEGMENT_SIZE:
            tail.next = self.tail = tail = InboxSegment()
        tail.entries += (entry,)


class Lane(Persistent):
    """One producer's part of the store: inboxes, and the index of the owners it put for."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: (queue, priority) -> Inbox
        self.inboxes: PersistentMapping = PersistentMapping()
        #: owner key -> OwnerIndex
        self.owners: OOBTree = OOBTree()
        #: Of the ends that requests write.
        self.tallies: OOBTree = Tallies()

    def inbox(self, queue: str, priority: int) -> Inbox:
        """The inbox for calls of a queue and priority, made at first need."""
        found: Inbox | None = self.inboxes.get((queue, priority))
        if found is None:
            found = self.inboxes[(queue, priority)] = Inbox()
        return found

    def inboxes_of(self, queues: Collection[str]) -> Iterator[tuple[int, Inbox]]:
        """The inboxes for calls of these queues, each with its priority."""
        # Without the mapping's own, much slower, way to its items.
        for (queue, priority), inbox in self.inboxes.data.items():
            if queue in queues:
                yield priority, inbox

    def last_opened(self) -> bytes:
        """The serial of the newest entry of a log; lanes long unused have the smallest."""
        serials = []
        for inbox in self.inboxes.values():
            # A ghost has no serial of its own yet.
            inbox.tail._p_activate()
            serials.append(inbox.tail._p_serial)
        return max(serials, default=b"")
