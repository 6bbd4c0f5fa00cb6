# SPDX-License-Identifier: ZPL-2.1
"""What a store knows by owner: the calls, and where an id is found.

An owner's calls are listed in segments inside each lane that put them, so that a put writes
the last of these and conflicts with nobody. An id names lane, segment and position, and is
valid only together with its 80 random bits. Nothing here reads another owner's data.

Workers find new calls in the same segments (``store.lanes``), and a worker reads some queues
only. So there is a *chain* of segments for each queue and priority that the owner has used: the
numbers of a chain's segments follow each other, and the chain is in their higher bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from BTrees.LOBTree import LOBTree
from persistent import Persistent

from ..call import NORMAL, SEGMENT_SIZE, CallRecord
from .mailbox import Mailbox


def owner_key(owner: tuple[str, str]) -> str:
    """An owner as a key: ids and sources have no control characters, so this is unambiguous."""
    source, identifier = owner
    return f"{source}\0{identifier}"


#: Bits of a segment's number that count within its chain.
_CHAIN_BITS = 31

#: What a chain is for: a queue and a priority.
ChainKey = tuple[str, int]

#: The chain that most owners have no other than.
_FIRST: ChainKey = ("default", NORMAL)


class IndexSegment(Persistent):
    """Up to SEGMENT_SIZE calls of one owner, queue and priority in one lane, and their mailbox."""

    #: The shortest ``keep`` of its calls, of those that have one of their own.
    shortest_keep: float | None = None
    #: Whether workers read what is put here; see ``store.lanes``.
    is_open = False
    #: How many calls there were each time that it was closed.
    closings: tuple[int, ...] = ()

    def __init__(self, bytes_before: int, first_created: int) -> None:
        #: None where a call was forgotten after the segment was full.
        self.calls: tuple[CallRecord | None, ...] = ()
        #: Bytes that all calls of the chain up to here counted for when they were put.
        self.bytes_put = bytes_before
        #: When the first and the last of its calls were put, in microseconds.
        self.first_created = first_created
        self.last_created = first_created
        self.mailbox = Mailbox()

    @property
    def is_full(self) -> bool:
        """Whether no call is put here any more."""
        return len(self.calls) >= SEGMENT_SIZE

    @property
    def is_growing(self) -> bool:
        """Whether calls may be put here without a word to the workers."""
        return self.is_open and not self.is_full

    def append(self, record: CallRecord) -> int:
        """Add a call at the end; returns its position."""
        self.calls += (record,)
        self.bytes_put += record.size
        self.last_created = record.created
        if record.keep is not None and record.keep < (self.shortest_keep or record.keep + 1):
            self.shortest_keep = record.keep
        record.mailbox = self.mailbox
        return len(self.calls) - 1

    def close(self) -> None:
        """Have no call put here without a word to the workers.

        A full one is left alone: none comes anyway, and its owner may be writing it to forget.
        """
        if not self.is_full:
            self.is_open = False
            self.closings += (len(self.calls),)

    def end_of_opening(self, position: int) -> int | None:
        """Where the opening ended that the call at ``position`` was put in; None: it did not."""
        return next((end for end in self.closings if end > position), None)


class OwnerIndex(Persistent):
    """The calls that one owner has in one lane, oldest first in each chain."""

    #: What the chains are for, in the order of their numbers.
    chains: tuple[ChainKey, ...] = (_FIRST,)

    def __init__(self) -> None:
        #: number -> IndexSegment, or None once all of its calls are forgotten: to delete the
        #: first key of a tree conflicts with a put that appends, to overwrite it does not
        self.segments: LOBTree = LOBTree()

    def append(self, record: CallRecord) -> tuple[IndexSegment, int, int]:
        """Add a call at the end of its chain; returns its segment, with number, and position.

        The calls of a chain are in the order of their ``created``, each later than the one
        before: a call put in the same microsecond, or while the clock went back, counts as put
        one microsecond after its predecessor. What lists calls in parts relies on it.
        """
        chain = self._chain((record.queue, record.priority))
        tail: IndexSegment
        number = self._last(chain)
        if number is None:
            number = chain << _CHAIN_BITS
            tail = self.segments[number] = IndexSegment(0, record.created)
        else:
            tail = self.segments[number]
            if record.created <= tail.last_created:
                record.created = tail.last_created + 1
            if tail.is_full:
                number += 1
                tail = self.segments[number] = IndexSegment(tail.bytes_put, record.created)
        return tail, number, tail.append(record)

    def _chain(self, key: ChainKey) -> int:
        if key == _FIRST:
            return 0
        if key not in self.chains:
            self.chains += (key,)
        return self.chains.index(key)

    def _last(self, chain: int) -> int | None:
        """The number of the chain's last segment, None if it has none."""
        first = chain << _CHAIN_BITS
        try:
            number: int = self.segments.maxKey(first + (1 << _CHAIN_BITS) - 1)
        except ValueError:
            return None
        return number if number >= first else None

    def _tails(self) -> Iterator[tuple[int, IndexSegment]]:
        """The last segment of each chain, and how many came before it there."""
        for chain in range(len(self.chains)):
            number = self._last(chain)
            if number is not None:
                yield number - (chain << _CHAIN_BITS), self.segments[number]

    def is_last(self, number: int) -> bool:
        """Whether calls may still be put into the segment with this number."""
        return number == self._last(number >> _CHAIN_BITS)

    def count_more(self, record: CallRecord, size: int) -> None:
        """Count bytes that a call put in this very transaction has got since."""
        last = self._last(record.place[1] >> _CHAIN_BITS)
        self.segments[last].bytes_put += size

    def at(self, segment: int, position: int) -> CallRecord | None:
        """The call at a place, or None."""
        found = self.segments.get(segment)
        if found is None or position >= len(found.calls):
            return None
        call: CallRecord | None = found.calls[position]
        return call

    def put_count(self) -> int:
        """How many calls were ever put here."""
        return sum(before * SEGMENT_SIZE + len(tail.calls) for before, tail in self._tails())

    def put_bytes(self) -> int:
        """How many bytes they counted for when they were put."""
        return sum(tail.bytes_put for _, tail in self._tails())

    def newest(self, before: int | None = None) -> list[Iterator[CallRecord]]:
        """The calls of each chain, newest first; segments newer than ``before`` are skipped.

        Args:
            before: Microseconds; a call put later may still come, never all of a segment.
        """
        return [self._newest(chain, before) for chain in range(len(self.chains))]

    def _newest(self, chain: int, before: int | None) -> Iterator[CallRecord]:
        for number in reversed(self._numbers(chain)):
            segment = self.segments[number]
            if segment is None or (before is not None and segment.first_created > before):
                continue
            yield from (call for call in reversed(segment.calls) if call is not None)

    def oldest(self) -> list[Iterator[CallRecord]]:
        """The calls of each chain, oldest first."""
        return [self._oldest(chain) for chain in range(len(self.chains))]

    def _oldest(self, chain: int) -> Iterator[CallRecord]:
        for number in self._numbers(chain):
            segment = self.segments[number]
            if segment is not None:
                yield from (call for call in segment.calls if call is not None)

    def _numbers(self, chain: int) -> Any:
        first = chain << _CHAIN_BITS
        return self.segments.keys(first, first + (1 << _CHAIN_BITS) - 1)

    def remove(self, segment: int, position: int) -> None:
        """Drop an erased call from a full segment, and the segment when it was the last one.

        The last segment of a chain is left alone, because only the lane's producer writes it:
        the erased record stays there until later calls have filled the segment.
        """
        found = self.segments.get(segment)
        if found is None or self.is_last(segment):
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
