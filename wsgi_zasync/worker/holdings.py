# SPDX-License-Identifier: ZPL-2.1
"""All that a worker holds: what is to begin, what runs, and which chunks are done.

Thread: the acceptor's; others only look up what runs.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from .backlog import Backlog
from .held import Held, Order, Report
from .rescuer import Adopted

#: Seconds for which a call that is to run alone waits for the others to end, and for which it
#: then keeps others from beginning: it may be innocent, and take hours.
ALONE_SECONDS = 30.0


class Holdings:
    """What one worker has in hand."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Hold nothing."""
        self._monotonic = monotonic
        self.backlog = Backlog()
        #: By the call's oid.
        self.running: dict[bytes, Order] = {}
        #: How many run, by plugin and by the place where they run.
        self.by_plugin: Counter[str] = Counter()
        self.by_place: Counter[str] = Counter()
        #: Chunks whose calls are all done, to be dropped.
        self.done_chunks: list[int] = []
        self._chunks: dict[int, set[bytes]] = {}
        self._alone: deque[Held] = deque()
        self._alone_since: float | None = None
        self._alone_runs: bytes | None = None

    def __len__(self) -> int:
        """How many calls are held that are not done."""
        return sum(len(oids) for oids in self._chunks.values())

    def knows(self) -> set[int]:
        """The numbers of the chunks that are held, or are to be dropped."""
        return {*self._chunks, *self.done_chunks}

    @property
    def waiting_to_begin(self) -> int:
        """How many have not begun."""
        return len(self.backlog) + len(self._alone)

    def keep(self, calls: Iterable[Held]) -> None:
        """Remember what a new chunk holds."""
        for held in calls:
            self._chunks.setdefault(held.chunk, set()).add(held.oid)

    def accept(self, calls: Iterable[Held], notes: Iterable[Held]) -> None:
        """Take calls and notes of a new chunk into hand."""
        calls = list(calls)
        self.keep([*calls, *notes])
        for held in calls:
            self.backlog.add(held)

    def adopt(self, adopted: Adopted) -> list[Report]:
        """Take what was found into hand, of a dead worker or our own; returns what to write.

        A call that was retried may be held already, from a later chunk: that one has it.
        """
        latest = {oid: number for number in sorted(self._chunks) for oid in self._chunks[number]}

        def is_held(oid: bytes, number: int) -> bool:
            return latest.get(oid, -1) > number

        for number, oids in adopted.chunks.items():
            if found := {oid for oid in oids if not is_held(oid, number)}:
                self._chunks[number] = found
            else:
                self.done_chunks.append(number)
        for held in adopted.held:
            if is_held(held.oid, held.chunk):
                continue
            if held.alone:
                self._alone.append(held)
            else:
                self.backlog.add(held)
        return [r for r in adopted.reports if not is_held(r.held.oid, r.held.chunk)]

    def release(self, held: Held) -> None:
        """Let go of a call: it is done, or waits elsewhere."""
        oids = self._chunks.get(held.chunk)
        if oids is None:
            return
        oids.discard(held.oid)
        if not oids:
            del self._chunks[held.chunk]
            self.done_chunks.append(held.chunk)

    def again(self, held: Held) -> None:
        """Put a call back that was to begin."""
        if held.alone:
            self._alone.appendleft(held)
        else:
            self.backlog.add(held)

    @contextmanager
    def taken(self, calls: Iterable[Held]) -> Iterator[None]:
        """Calls that are to begin now: they are put back if that fails."""
        try:
            yield
        except BaseException:
            for held in calls:
                self.again(held)
            raise

    def began(self, order: Order) -> None:
        """An order was handed out."""
        held = order.held
        self.running[held.oid] = order
        self.by_plugin[held.plugin] += 1
        self.by_place[order.declaration.runs] += 1
        if held.alone:
            self._alone_runs, self._alone_since = held.oid, self._monotonic()

    def ended(self, order: Order) -> None:
        """An order has come back."""
        held = order.held
        if self.running.get(held.oid) is not order:
            return
        del self.running[held.oid]
        self.by_plugin[held.plugin] -= 1
        self.by_place[order.declaration.runs] -= 1

    def settled(self, held: Held) -> None:
        """What became of a call is written: until then nothing else that runs alone may begin.

        Its callbacks could be what kills a worker, too.
        """
        if self._alone_runs == held.oid:
            self._alone_runs = self._alone_since = None

    def next_alone(self) -> Held | None:
        """The next call that runs alone, if it may begin now."""
        if not self._alone or self._alone_runs is not None:
            return None
        now = self._monotonic()
        if self._alone_since is None:
            self._alone_since = now
        if self.running and now - self._alone_since < ALONE_SECONDS:
            return None
        self._alone_since = None
        return self._alone.popleft()

    def others_may_begin(self) -> bool:
        """Whether no call that runs alone, or waits to, keeps others from beginning."""
        if self._alone_since is None:
            return True
        return self._monotonic() - self._alone_since >= ALONE_SECONDS
