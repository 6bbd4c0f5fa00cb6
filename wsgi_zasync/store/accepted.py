# SPDX-License-Identifier: ZPL-2.1
"""What a worker has taken: its area of the store, its fence, its board.

Only the worker itself writes its area, with one exception: the *fence* is written by nobody
but the rescuer that takes the area over. Every commit of the worker reads the fence
(``WorkerArea.hold``), so that a worker that was taken for dead and comes back commits nothing.

Accepted calls are kept in write-once chunks; an accepted call is done when it is final, so
nothing is rewritten as calls end, and a chunk is dropped when all of its calls are done.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from operator import itemgetter
from typing import Any

from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.POSException import POSKeyError

from ..call import PRIORITIES, CallRecord
from ..errors import Fenced
from .reading import send_together, why_unreadable
from .tallies import Tallies, take_over

#: Waiting calls of a dead worker that are moved to the tree of who takes over; more are adopted
#: with their tree. Else a call that waits for long would leave a tree behind at each restart.
FEW_WAITING = 100

#: So many fences of areas that are no more are kept, the latest ones.
KEPT_FENCES = 1_000


class Fence(Persistent):
    """Written once, by the rescuer who takes its worker's area over."""

    def __init__(self) -> None:
        self.taken_by: str | None = None


class Board(Persistent):
    """A worker's notice board, rewritten as a whole at most every few seconds.

    ``running`` maps a call's oid to (attempt number, started in microseconds, fraction or
    None, message).
    """

    def __init__(self) -> None:
        self.beat = 0
        self.host = ""
        self.pid = 0
        self.running: dict[bytes, tuple[int, int, float | None, str]] = {}
        #: Its worker has stopped in good order: what it held may be taken over at once.
        self.released = False


class Publication(Persistent):
    """The plugins that a worker has, as advice for requests that put calls of them.

    Nothing is decided by it: permissions and what is open to expressions are read from the
    configuration of the process that acts.
    """

    def __init__(self, plugins: dict[str, Any], queues: tuple[str, ...]) -> None:
        #: name -> parameters as plain data, or None where unknown
        self.plugins = plugins
        self.queues = queues


class Chunk(Persistent):
    """Calls accepted in one commit."""

    def __init__(self, calls: tuple[CallRecord, ...], interruptions: int = 0) -> None:
        self.calls = calls
        #: How many workers died with this chunk in hand.
        self.interruptions = interruptions
        #: Of a chunk whose calls run one by one: the oid of the one begun last.
        self.begun: bytes | None = None


class WorkerArea(Persistent):
    """All that one incarnation of a worker writes."""

    #: Those of the areas that were taken over, by us or by those whose areas were. They are kept
    #: from being packed away: RelStorage tells nobody that an object was written which is gone,
    #: and checks nothing of it, so that a worker that comes back would find its fence as it was.
    old_fences: tuple[Fence, ...] = ()

    def __init__(self, key: str, name: str, publication: Publication, threads: int = 0) -> None:
        self.key = key
        self.name = name
        self.fence = Fence()
        self.board = Board()
        self.publication = publication
        #: number -> Chunk
        self.chunks: IOBTree = IOBTree()
        #: Trees of calls that wait for a time, by (priority, due, created, id), the times in
        #: microseconds. The first is our own; the others came with areas taken over, and are
        #: dropped when empty.
        self.waiting: tuple[OOBTree, ...] = (OOBTree(),)
        #: Of what the acceptor's thread ends.
        self.tallies: OOBTree = Tallies()
        #: The same of each thread that commits by itself, so that they never conflict.
        self.thread_tallies: tuple[OOBTree, ...] = tuple(Tallies() for _ in range(threads))

    def hold(self) -> None:
        """Make this transaction fail if somebody takes the area over before it commits.

        A fence that was never loaded must be loaded first: ``readCurrent`` does nothing for a
        ghost. The check happens only in a transaction that writes to this database.

        Raises:
            Fenced: It has been taken over already.
        """
        fence = self.fence
        fence._p_activate()
        if fence.taken_by is not None:
            raise Fenced(
                f"worker {self.name!r} was taken for dead and its calls were taken over by "
                f"{fence.taken_by!r}; it registers anew"
            )
        if fence._p_jar is not None:
            fence._p_jar.readCurrent(fence)

    def has(self, record: CallRecord, number: int) -> bool:
        """Whether the call is in our chunk of that number."""
        chunk = self.chunks.get(number)
        return chunk is not None and any(call._p_oid == record._p_oid for call in chunk.calls)

    def holds(self, record: CallRecord) -> bool:
        """Whether the call is anywhere here; goes through all chunks."""
        return self.holds_waiting(record) or any(self.has(record, each) for each in self.chunks)

    def next_number(self) -> int:
        """The number that the next chunk has."""
        number: int = self.chunks.maxKey() + 1 if self.chunks else 0
        return number

    def keep(self, number: int, calls: Iterable[CallRecord]) -> None:
        """Hold calls in a new chunk; no calls make none."""
        held = tuple(calls)
        if held:
            self.chunks[number] = Chunk(held)

    def drop(self, numbers: Iterable[int]) -> None:
        """Let go of chunks whose calls are all final, or wait elsewhere."""
        for number in numbers:
            if number in self.chunks:
                del self.chunks[number]

    def wait(self, record: CallRecord, due: int) -> None:
        """Keep a call until ``due`` (microseconds); it is accepted then."""
        self.waiting[0][_waiting_key(record, due)] = record

    def holds_waiting(self, record: CallRecord) -> bool:
        """Whether the call is in one of the waiting trees."""
        if record.due is None:
            return False
        key = _waiting_key(record, record.due)
        return any(key in tree for tree in self.waiting)

    def next_due(self) -> int | None:
        """When the first waiting call is due, in microseconds, or None."""
        return min(
            (
                key[1]
                for tree in self.waiting
                for priority in range(len(PRIORITIES))
                for key in islice(tree.keys(min=(priority,), max=(priority + 1,)), 1)
            ),
            default=None,
        )

    def take_due(self, priority: int, now: int, limit: int) -> list[CallRecord]:
        """Take out at most ``limit`` calls of a priority that are due; who was put first is first.

        Of each tree, that is: calls that are due at one moment, as at midnight, come in the
        order of their puts.
        """
        taken: list[CallRecord] = []
        if not any(self.waiting):
            return taken
        for tree in self.waiting:
            found = tree.keys(min=(priority,), max=(priority, now + 1))
            keys = list(islice(found, limit - len(taken)))
            taken.extend(tree[key] for key in keys)
            for key in keys:
                del tree[key]
        if any(not tree for tree in self.waiting[1:]):
            self.waiting = (self.waiting[0], *(tree for tree in self.waiting[1:] if tree))
        return taken

    def let_go_undone(
        self, after: tuple[Any, ...], limit: int
    ) -> tuple[list[CallRecord], tuple[Any, ...]]:
        """Take out what waits as a call whose put was undone meanwhile.

        Args:
            after: Where to go on looking: ``()``, or what was returned the last time.
            limit: How many to look at: there may be many, and each has to be loaded.
        """
        begin = after or (0,)
        parts = ([(key, tree) for key in islice(tree.keys(begin), limit)] for tree in self.waiting)
        found = sorted(chain.from_iterable(parts), key=itemgetter(0))[:limit]
        records = [tree[key] for key, tree in found]
        send_together(self._p_jar, records)
        undone = []
        for (key, tree), record in zip(found, records, strict=True):
            if why_unreadable(record) is None and record.id != key[-1]:
                del tree[key]
                undone.append(record)
        return undone, found[-1][0] if len(found) == limit else ()

    def replace_chunk(self, number: int, calls: Iterable[CallRecord]) -> None:
        """Let go of some calls of a chunk: those given are what is still held of it."""
        self.chunks[number].calls = tuple(calls)

    def adopt(self, dead: WorkerArea) -> list[int]:
        """Take over everything of another area; returns the numbers of its chunks here.

        An interruption is counted unless the other one had stopped in good order.

        The fence is written in this transaction. Run nothing of it before the transaction has
        committed and a *new* one has read each call again: this one's snapshot may be older
        than the dead worker's last completion.
        """
        dead.fence._p_activate()
        dead.fence.taken_by = self.key
        fences = (*self.old_fences, *dead.old_fences, dead.fence)
        self.old_fences = fences[-KEPT_FENCES:]
        number = self.next_number()
        numbers = []
        for chunk in dead.chunks.values():
            if not dead.board.released:
                chunk.interruptions += 1
            self.chunks[number] = chunk
            numbers.append(number)
            number += 1
        whole = []
        for tree in dead.waiting:
            few = list(islice(tree.items(), FEW_WAITING + 1))
            if len(few) > FEW_WAITING:
                whole.append(tree)
            else:
                self.waiting[0].update(few)
        if whole:
            self.waiting += tuple(whole)
        for counts in (dead.tallies, *dead.thread_tallies):
            take_over(self.tallies, counts)
        return numbers


def _waiting_key(record: CallRecord, due: int) -> tuple[int, int, int, str]:
    return (record.priority, due, record.created, record.id)


def held_area(connection: Any, oid: bytes) -> WorkerArea:
    """The area of a worker, held by this transaction.

    Raises:
        Fenced: It was taken over; what is left of it may even be packed away by now.
    """
    try:
        area: WorkerArea = connection.get(oid)
        area.hold()
    except POSKeyError as exc:
        raise Fenced(
            "this worker was taken for dead so long ago that its place in the store is gone; "
            "it registers anew"
        ) from exc
    return area
