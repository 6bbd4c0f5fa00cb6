# SPDX-License-Identifier: ZPL-2.1
"""What a store knows by owner: the calls, and where an id is found.

An owner's calls are listed in segments inside each lane that put them, so that a put writes
the last of these and conflicts with nobody. An id names lane, segment and position, and is
valid only together with its 80 random bits. Nothing here reads another owner's data.
"""

from __future__ import annotations

from collections.abc import Iterator

from BTrees.IOBTree import IOBTree
from persistent import Persistent

from ..call import SEGMENT_SIZE, CallRecord
from .mailbox import Mailbox


def owner_key(owner: tuple[str, str]) -> str:
    """An owner as a key: ids and sources have no control characters, so this is unambiguous."""
    source, identifier = owner
    return f"{source}\0{identifier}"


class IndexSegment(Persistent):
    """Up to SEGMENT_SIZE calls of one owner in one lane, and their mailbox."""

    #: The shortest ``keep`` of its calls, of those that have one of their own.
    shortest_keep: float | None = None

    def __init__(self, bytes_before: int, first_created: int) -> None:
        #: None where a call was forgotten after the segment was full.
        self.calls: tuple[CallRecord | None, ...] = ()
        #: Bytes that all calls up to here counted for when they were put.
        self.bytes_put = bytes_before
        #: When the first and the last of its calls were put, in microseconds.
        self.first_created = first_created
        self.last_created = first_created
        self.mailbox = Mailbox()


class OwnerIndex(Persistent):
    """The calls that one owner has in one lane, oldest first."""

    def __init__(self) -> None:
        #: number -> IndexSegment, or None once all of its calls are forgotten: to delete the
        #: first key of a tree conflicts with a put that appends, to overwrite it does not
        self.segments: IOBTree = IOBTree()

    def append(self, record: CallRecord) -> tuple[int, int]:
        """Add a call at the end; returns its segment and position.

        The calls here are in the order of their ``created``, each later than the one before:
        a call put in the same microsecond, or while the clock went back, counts as put one
        microsecond after its predecessor. What lists calls in parts relies on it.
        """
        if self.segments:
            number = self.segments.maxKey()
            tail = self.segments[number]
            if record.created <= tail.last_created:
                record.created = tail.last_created + 1
            if len(tail.calls) >= SEGMENT_SIZE:
                number += 1
                tail = self.segments[number] = IndexSegment(tail.bytes_put, record.created)
        else:
            number, tail = 0, IndexSegment(0, record.created)
            self.segments[number] = tail
        tail.calls += (record,)
        tail.bytes_put += record.size
        tail.last_created = record.created
        if record.keep is not None and record.keep < (tail.shortest_keep or record.keep + 1):
            tail.shortest_keep = record.keep
        record.mailbox = tail.mailbox
        return number, len(tail.calls) - 1

    def count_more(self, size: int) -> None:
        """Count bytes that a call put in this very transaction has got since."""
        self.segments[self.segments.maxKey()].bytes_put += size

    def at(self, segment: int, position: int) -> CallRecord | None:
        """The call at a place, or None."""
        found = self.segments.get(segment)
        if found is None or position >= len(found.calls):
            return None
        call: CallRecord | None = found.calls[position]
        return call

    def put_count(self) -> int:
        """How many calls were ever put here."""
        if not self.segments:
            return 0
        number: int = self.segments.maxKey()
        return number * SEGMENT_SIZE + len(self.segments[number].calls)

    def put_bytes(self) -> int:
        """How many bytes they counted for when they were put."""
        if not self.segments:
            return 0
        count: int = self.segments[self.segments.maxKey()].bytes_put
        return count

    def newest(self, before: int | None = None) -> Iterator[CallRecord]:
        """The calls, newest first; whole segments that are newer than ``before`` are skipped.

        Args:
            before: Microseconds; a call put later may still come, never all of a segment.
        """
        for number in reversed(self.segments.keys()):
            segment = self.segments[number]
            if segment is None or (before is not None and segment.first_created > before):
                continue
            yield from (call for call in reversed(segment.calls) if call is not None)

    def oldest(self) -> Iterator[CallRecord]:
        """The calls, oldest first."""
        for segment in self.segments.values():
            if segment is None:
                continue
            yield from (call for call in segment.calls if call is not None)

    def remove(self, segment: int, position: int) -> None:
        """Drop an erased call from a full segment, and the segment when it was the last one.

        The last segment is left alone, because only the lane's producer writes it: the erased
        record stays there until later calls have filled the segment.
        """
        found = self.segments.get(segment)
        if found is None or segment == self.segments.maxKey():
            return
        calls = list(found.calls)
        calls[position] = None
        found.calls = tuple(calls)
        self.tidy(segment)

    def tidy(self, segment: int) -> None:
        """Drop from a full segment what was erased while it was the last one."""
        found = self.segments[segment]
        if found is None:
            return
        left = tuple(None if call is None or call.forgotten else call for call in found.calls)
        if not any(call is not None for call in left):
            self.segments[segment] = None
        elif left != found.calls:
            found.calls = left
