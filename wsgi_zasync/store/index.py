# SPDX-License-Identifier: ZPL-2.1
"""What a store knows by owner: the calls, and where an id is found.

An owner's calls are listed in segments inside each lane that put them. A segment is made with
records that are empty, and a put fills the next one of the last segment: this one object is all
that it writes, and in its own lane it conflicts with nobody. Two that fill the same record
conflict there, so that the calls of a segment are always those in front of its empty records. An
id names lane, segment and position, and is valid only together with its 80 random bits. Nothing
here reads another owner's data.

Workers find new calls in the same segments (``store.lanes``), and a worker reads some queues
only. So there is a *chain* of segments for each queue and priority that the owner has used: the
numbers of a chain's segments follow each other, and the chain is in their higher bits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from BTrees.LOBTree import LOBTree
from persistent import Persistent

from ..call import NORMAL, SEGMENT_SIZE, CallRecord
from .mailbox import Mailbox
from .reading import send_together, why_unreadable


def owner_key(owner: tuple[str, str]) -> str:
    """An owner as a key: ids and sources have no control characters, so this is unambiguous."""
    source, identifier = owner
    return f"{source}\0{identifier}"


def owner_of(key: str) -> tuple[str, str]:
    """The owner whose key this is."""
    source, _, identifier = key.partition("\0")
    return (source, identifier)


#: Bits of a segment's number that count within its chain.
_CHAIN_BITS = 31

#: What a chain is for: a queue and a priority.
ChainKey = tuple[str, int]

#: The chain that most owners have no other than.
_FIRST: ChainKey = ("default", NORMAL)


#: Records in the first segments of a chain: most owners put now and then only. All others have
#: SEGMENT_SIZE.
_FIRST_SIZES = (1, 4)


def _size(ordinal: int) -> int:
    """How many records the segment of a chain has, by its place there."""
    return _FIRST_SIZES[ordinal] if ordinal < len(_FIRST_SIZES) else SEGMENT_SIZE


def _size_of_first(count: int) -> int:
    """How many records the first ``count`` segments of a chain have."""
    small = _FIRST_SIZES[:count]
    return sum(small) + (count - len(small)) * SEGMENT_SIZE


def is_empty(record: CallRecord | None) -> bool:
    """Whether no call was put there yet; None is where one was, and one that cannot be read."""
    # What is in memory could be read.
    if record is None or (record._p_changed is None and why_unreadable(record) is not None):
        return False
    return not record.seed


def is_readable(segment: IndexSegment | None) -> bool:
    """Whether a segment can be read; None is where one was whose calls are all forgotten.

    What was in one that cannot hides no other: it is as good as forgotten to who looks for calls.
    """
    return segment is not None and why_unreadable(segment) is None


class IndexSegment(Persistent):
    """Room for some calls of one owner, queue and priority in one lane, and their mailbox.

    A put does not write it, unless it opens it (``store.lanes``) or brings a ``keep`` that is
    shorter than all before.
    """

    #: The shortest ``keep`` of its calls, of those that have one of their own.
    shortest_keep: float | None = None
    #: Whether workers read what is put here; see ``store.lanes``.
    is_open = False
    #: How many calls there were each time that it was closed.
    closings: tuple[int, ...] = ()
    #: How many calls there were when this connection looked last.
    _v_filled = 0
    #: Up to which record this connection has had the storage send them together.
    _v_fetched = 0

    def __init__(self, size: int, bytes_before: int, created: int) -> None:
        """Make room for ``size`` calls.

        Args:
            size: How many.
            bytes_before: What all calls of the chain before count for.
            created: When the first call is put, in microseconds.
        """
        #: None where a call was forgotten after the segment was full.
        self.calls: tuple[CallRecord | None, ...] = tuple(CallRecord() for _ in range(size))
        self.bytes_before = bytes_before
        self.first_created = created
        self.mailbox = Mailbox()

    def fetch(self, begin: int, end: int) -> None:
        """Have the storage send these records and their mailbox, as far as not in memory."""
        send_together(self._p_jar, (*self.calls[begin:end], self.mailbox))

    def fetch_once(self, begin: int) -> bool:
        """Have it send all from ``begin`` on, at the first look of this connection.

        A record has to be loaded to see that it is empty, and to wait for one takes as long as
        for all. Returns whether it was the first look.
        """
        is_first = begin >= self._v_fetched
        if is_first:
            self._v_fetched = len(self.calls)
            self.fetch(begin, self._v_fetched)
        return is_first

    def filled(self) -> int:
        """How many calls there are: they are those in front."""
        known, calls = self._v_filled, self.calls
        low, high = known, len(calls)
        if known and is_empty(calls[known - 1]):
            # What was put there was taken back.
            low, high = 0, known - 1
        elif known == high or is_empty(calls[known]):
            return known
        self.fetch_once(low)
        self._v_filled = count = bisect_left(calls, True, low, high, key=is_empty)
        return count

    def last(self, count: int) -> CallRecord | None:
        """Of the first ``count`` calls the last one that can be read; None if there is none."""
        for position in range(count - 1, -1, -1):
            record = self.calls[position]
            if record is not None and why_unreadable(record) is None:
                return record
        return None

    def put_here(self, *, newest_first: bool = False) -> Iterator[CallRecord]:
        """The calls, as far as they were not forgotten after the segment was full, nor undone."""
        found = self.calls[: self.filled()]
        return (
            call
            for call in (found[::-1] if newest_first else found)
            if call is not None and not is_empty(call)
        )

    def bytes_up_to(self, last: CallRecord | None) -> int:
        """Bytes that all calls of the chain, up to this one here, counted for at their put."""
        return self.bytes_before if last is None else last.bytes_put

    def fill(self, position: int, call: CallRecord) -> CallRecord:
        """Write a call into the empty record at ``position``, which is returned."""
        record = self.calls[position]
        assert record is not None, "where no call was put, none was forgotten"
        record.fill(call, self.mailbox)
        self._v_filled = position + 1
        if call.keep is not None and call.keep < (self.shortest_keep or call.keep + 1):
            self.shortest_keep = call.keep
        return record

    def close(self) -> None:
        """Have no call put here without a word to the workers.

        A put does not write the segment, so that the next record is written for it to conflict
        with. A full one is left alone: none comes anyway, and its owner may be writing it to
        forget.
        """
        count = self.filled()
        if count < len(self.calls):
            self.is_open = False
            self.closings += (count,)
            following = self.calls[count]
            assert following is not None, "where no call was put, none was forgotten"
            following._p_changed = True

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

    def next_place(self, call: CallRecord) -> tuple[IndexSegment, int, int]:
        """Where the next call of a chain goes; makes the segment, but fills no record.

        The calls of a chain are in the order of their ``created``, each later than the one
        before: a call put in the same microsecond, or while the clock went back, counts as put
        one microsecond after its predecessor. What lists calls in parts relies on it.

        Args:
            call: What will be written there; gets what its place says of it.

        Returns:
            The segment, its number, and the position there.
        """
        chain = self._chain((call.queue, call.priority))
        segment: IndexSegment
        number = self._last(chain)
        if number is None:
            position = bytes_before = 0
            number = chain << _CHAIN_BITS
            segment = self.segments[number] = IndexSegment(_size(0), 0, call.created)
        else:
            segment = self.segments[number]
            bytes_before = 0
            # What nobody can read has no place for a call, and tells nothing of those it had.
            is_full = not is_readable(segment)
            if not is_full:
                position = segment.filled()
                last = segment.last(position)
                bytes_before = segment.bytes_up_to(last)
                if last is not None and call.created <= last.created:
                    call.created = last.created + 1
                is_full = position == len(segment.calls)
            if is_full:
                number, position = number + 1, 0
                size = _size(number - (chain << _CHAIN_BITS))
                segment = IndexSegment(size, bytes_before, call.created)
                self.segments[number] = segment
        call.bytes_put = bytes_before + call.size
        return segment, number, position

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
        """The last segment of each chain that can be read, and how many came before it there."""
        for chain in range(len(self.chains)):
            number = self._last(chain)
            if number is not None and is_readable(self.segments[number]):
                yield number - (chain << _CHAIN_BITS), self.segments[number]

    def is_last(self, number: int) -> bool:
        """Whether calls may still be put into the segment with this number."""
        return number == self._last(number >> _CHAIN_BITS)

    def count_more(self, record: CallRecord, size: int) -> None:
        """Count bytes that a call put in this very transaction has got since."""
        number = self._last(record.place[1] >> _CHAIN_BITS)
        segment = self.segments[number]
        segment.last(segment.filled()).bytes_put += size

    def at(self, segment: int, position: int) -> CallRecord | None:
        """The call at a place, or None."""
        found = self.segments.get(segment)
        if not is_readable(found) or position >= len(found.calls):
            return None
        call: CallRecord | None = found.calls[position]
        return None if is_empty(call) else call

    def next_written(self) -> Iterator[Persistent]:
        """What the next put writes, whichever chain it goes to; one that begins a chain aside."""
        for _, tail in self._tails():
            count = tail.filled()
            record = tail.calls[count] if count < len(tail.calls) else None
            yield self.segments if record is None else record

    def put_count(self) -> int:
        """How many calls were ever put here."""
        return sum(_size_of_first(before) + tail.filled() for before, tail in self._tails())

    def put_bytes(self) -> int:
        """How many bytes they counted for when they were put."""
        return sum(tail.bytes_up_to(tail.last(tail.filled())) for _, tail in self._tails())

    def newest(self, before: int | None = None) -> list[Iterator[CallRecord]]:
        """The calls of each chain, newest first; segments newer than ``before`` are skipped.

        Args:
            before: Microseconds; a call put later may still come, never all of a segment.
        """
        return [self._newest(chain, before) for chain in range(len(self.chains))]

    def _newest(self, chain: int, before: int | None) -> Iterator[CallRecord]:
        last = None if before is None else self._begun(chain, before)
        yield from self._calls(reversed(self._numbers(chain, last=last)), newest_first=True)

    def oldest(self, after: int | None = None) -> list[Iterator[CallRecord]]:
        """The calls of each chain, oldest first; segments older than ``after`` are skipped.

        Args:
            after: Microseconds; a call put before may still come, never all of a segment.
        """
        return [self._oldest(chain, after) for chain in range(len(self.chains))]

    def _oldest(self, chain: int, after: int | None) -> Iterator[CallRecord]:
        first = None if after is None else self._begun(chain, after)
        yield from self._calls(self._numbers(chain, first=first))

    def _calls(self, numbers: Iterable[int], *, newest_first: bool = False) -> Iterator[CallRecord]:
        """The calls of these segments, as far as they can be read."""
        for number in numbers:
            segment = self.segments[number]
            if is_readable(segment):
                yield from segment.put_here(newest_first=newest_first)

    def _numbers(self, chain: int, first: int | None = None, last: int | None = None) -> Any:
        begin = chain << _CHAIN_BITS
        end = begin + (1 << _CHAIN_BITS) - 1
        return self.segments.keys(begin if first is None else first, end if last is None else last)

    def _begun(self, chain: int, when: int) -> int:
        """The last segment of a chain whose first call was put by ``when``, of those that can be
        read; a number before all if there is none. It goes straight there, passing all others by.
        """
        begin = chain << _CHAIN_BITS
        last = self._last(chain)
        numbers = range(begin, begin if last is None else last + 1)

        def created(number: int) -> int:
            found = self._readable_to(number, begin)
            return -1 if found < begin else self.segments[found].first_created

        return self._readable_to(begin + bisect_right(numbers, when, key=created) - 1, begin)

    def _readable_to(self, number: int, begin: int) -> int:
        """The last segment up to ``number`` that can be read; a number before ``begin`` if none."""
        while number >= begin and not is_readable(self.segments.get(number)):
            number -= 1
        return number

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
        left = tuple(None if _is_forgotten(call) else call for call in found.calls)
        if not any(call is not None for call in left):
            self.segments[segment] = None
        elif left != found.calls:
            found.calls = left


def _is_forgotten(call: CallRecord | None) -> bool:
    return call is None or (why_unreadable(call) is None and call.forgotten)
