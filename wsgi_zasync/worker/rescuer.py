# SPDX-License-Identifier: ZPL-2.1
"""Takes over what a dead worker had accepted.

A worker is dead when its board has not changed for a time in which we ourselves could have seen
it change: our own monotonic time, counted only between looks that each followed a commit of
ours, so that after an outage of the storage nobody is dead. A mistake costs nothing but work
done twice: the fence keeps a worker that was taken for dead from committing anything.

Thread: the acceptor's, with its connection.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from transaction.interfaces import TransientError

from ..call import NORMAL, CallRecord, Failure
from ..clock import Clock
from ..lines import counted, escape_controls
from ..plugins import Registry
from ..retry import RetryDecision, RetryEvent, policy_in_force
from ..store import Store
from ..store.accepted import Chunk, WorkerArea
from ..store.mailbox import owes
from ..store.parking import is_parked
from ..store.reading import send_together, why_unreadable
from .acceptor import Acceptor, hold
from .completion import own_policy
from .held import Held, Outcome, Report
from .membership import Membership

logger = logging.getLogger(__name__)

#: Interruptions of a chunk after which its calls run one at a time.
SUSPICIOUS = 2


@dataclass(slots=True)
class _Seen:
    serial: bytes
    unchanged_seconds: float = 0.0


class Watch:
    """Remembers the boards of the other workers, and how long each has been still."""

    def __init__(self, clock: Clock, dead_after_seconds: float, longest_step: float) -> None:
        """Begin without knowing anybody.

        Args:
            clock: Whose monotonic time counts.
            dead_after_seconds: How long a board may be still.
            longest_step: What one look counts at most, in seconds: if we ourselves were stopped
                for an hour, nobody else is dead for that.
        """
        self._clock = clock
        self._dead_after = dead_after_seconds
        self._longest_step = longest_step
        self._seen: dict[str, _Seen] = {}
        self._last: float | None = None

    def forget(self) -> None:
        """We were cut off: what we know is of no use."""
        self._seen.clear()

    def look(
        self, areas: Iterable[WorkerArea], own_key: str, predecessor: str | None = None
    ) -> dict[str, bytes]:
        """The keys of the areas whose workers are dead, and the boards' serials.

        Args:
            areas: All that are registered.
            own_key: Of our own area.
            predecessor: The name of a worker that is dead because we took its place.
        """
        now = self._clock.monotonic()
        step = 0.0 if self._last is None else min(now - self._last, self._longest_step)
        self._last = now
        dead: dict[str, bytes] = {}
        known, self._seen = self._seen, {}
        for area in areas:
            if area.key == own_key:
                continue
            board = area.board
            board._p_activate()
            seen = known.get(area.key)
            if seen is None or seen.serial != board._p_serial:
                seen = _Seen(board._p_serial)
            else:
                seen.unchanged_seconds += step
            self._seen[area.key] = seen
            still = seen.unchanged_seconds >= self._dead_after
            # Whoever fenced it has not come to taking it over.
            fenced = area.fence.taken_by is not None
            if still or fenced or board.released or area.name == predecessor:
                dead[area.key] = seen.serial
        return dead


@dataclass(slots=True)
class Adopted:
    """What came with an area that was taken over."""

    #: To be run.
    held: list[Held] = field(default_factory=list)
    #: To be written.
    reports: list[Report] = field(default_factory=list)
    #: Our chunks, and the calls of each that are still to end.
    chunks: dict[int, set[bytes]] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """How many calls it is about, for the log."""
        return counted(sum(map(len, self.chunks.values())), "call")


class _Taken(NamedTuple):
    """What was written to be ours: the dead worker's name, whether it had stopped, its chunks."""

    name: str
    released: bool
    numbers: list[int]


class Rescuer:
    """Looks at the other workers, and takes over from the dead."""

    def __init__(
        self,
        acceptor: Acceptor,
        membership: Membership,
        registry: Registry,
        clock: Clock,
        watch: Watch,
    ) -> None:
        """Use the acceptor's connection."""
        self._acceptor, self._membership = acceptor, membership
        self._registry = registry
        self._clock = clock
        self._watch = watch
        self._random = Random()
        #: Only once: two processes that were given one name must not fight for ever.
        self._predecessor: str | None = membership.name

    def look(self) -> list[Adopted]:
        """Take over from all that are dead; call it after a commit of our own.

        Raises:
            Fenced: We were taken for dead ourselves.
        """
        with self._acceptor.desk.transaction() as transaction:
            writing = self._acceptor.writing(transaction)
            areas = writing.store.areas()
            dead = self._watch.look(areas, writing.area.key, self._predecessor)
            self._predecessor = None
        return [
            self._adopted_from(taken)
            for key, serial in dead.items()
            if (taken := self._take_over(key, serial)) is not None
        ]

    def find(self, known: Container[int]) -> Adopted | None:
        """What our own area holds in chunks that are not known to us.

        When the storage goes away in the middle of a commit, nobody knows whether that came
        about. It is taken as if it had not; what it has accepted all the same is found here.
        """
        with self._acceptor.desk.transaction() as transaction:
            area = self._acceptor.writing(transaction).area
            numbers = [number for number in area.chunks if number not in known]
        if not numbers:
            return None
        adopted = self._adopted(numbers)
        logger.info("a broken commit has accepted all the same: %s", adopted.shown)
        return adopted

    def forget(self) -> None:
        """We were cut off from the storage: nobody is dead."""
        self._watch.forget()

    def _take_over(self, key: str, serial: bytes) -> _Taken | None:
        try:
            with self._acceptor.desk.transaction() as transaction:
                writing = self._acceptor.writing(transaction)
                dead = writing.store.site.workers.get(key)
                if dead is None:
                    return None
                dead.board._p_activate()
                if dead.board._p_serial != serial:
                    return None
                # It conflicts if the worker gives a sign of life before we commit.
                writing.store.connection.readCurrent(dead.board)
                # Only the fence, at first: what the other one commits before that is not in this
                # snapshot, and has to be in the one that adopts.
                dead.fence.taken_by = writing.area.key
                self._membership.commit(transaction)
            with self._acceptor.desk.transaction() as transaction:
                writing = self._acceptor.writing(transaction)
                dead = writing.store.site.workers.get(key)
                if dead is None or dead.fence.taken_by != writing.area.key:
                    return None
                name, released = dead.name, dead.board.released
                numbers = writing.store.take_over(writing.area, dead)
                self._membership.commit(transaction)
        except TransientError as exc:
            logger.info("taking over from %s: somebody was faster (%s)", key, type(exc).__name__)
            return None
        return _Taken(name, released, numbers)

    def _adopted_from(self, taken: _Taken) -> Adopted:
        adopted = self._adopted(taken.numbers)
        if taken.released:
            why = "has stopped"
        elif taken.name == self._membership.name:
            why = "had the name of this one"
        else:
            why = "gives no sign of life"
        logger.log(
            logging.INFO if taken.released else logging.WARNING,
            "took over from worker %s, which %s: %s",
            escape_controls(taken.name),
            why,
            adopted.shown,
        )
        return adopted

    def _adopted(self, numbers: Iterable[int]) -> Adopted:
        """Look at each call in a new transaction: the old one may not see the last outcomes."""
        adopted = Adopted()
        with self._acceptor.desk.transaction() as transaction:
            writing = self._acceptor.writing(transaction)
            chunks = {number: writing.area.chunks[number] for number in numbers}
            calls = [call for chunk in chunks.values() for call in chunk.calls]
            if calls:
                send_together(writing.store.connection, calls)
            known: set[bytes] = set()
            # A call that was retried is in two chunks; the later one has it.
            for number in sorted(chunks, reverse=True):
                self._adopt_chunk(
                    writing.store, writing.area, number, chunks[number], adopted, known
                )
        return adopted

    def _adopt_chunk(
        self,
        store: Store,
        area: WorkerArea,
        number: int,
        chunk: Chunk,
        adopted: Adopted,
        known: set[bytes],
    ) -> None:
        alone = chunk.interruptions >= SUSPICIOUS
        open_calls = adopted.chunks[number] = set()
        calls = []
        for record in chunk.calls:
            # Of an empty one the put was undone.
            if why_unreadable(record) is None and record.seed:
                calls.append(record)
            else:
                adopted.reports.append(_unreadable(record, number))
                open_calls.add(record._p_oid)
        for held, record in zip(hold(calls, number, alone=alone), calls, strict=True):
            if held.oid in known:
                continue
            # What was forgotten had ended, and owes nothing.
            if record.is_final:
                if owes(record):
                    adopted.reports.append(Report(held))
                    open_calls.add(held.oid)
                continue
            if _waits_elsewhere(store, area, record):
                continue
            known.add(held.oid)
            open_calls.add(held.oid)
            outcome = self._outcome(chunk, held, record)
            if outcome is None:
                adopted.held.append(held)
            else:
                adopted.reports.append(Report(held, outcome))

    def _outcome(self, chunk: Chunk, held: Held, record: CallRecord) -> Outcome | None:
        """What becomes of a call that may have run when its worker died; None: it runs again."""
        if record.plugin not in self._registry:
            return Outcome(parked=True)
        if not chunk.interruptions:
            return None
        decision = self._decide(chunk, record)
        # Until its calls run one by one nobody knows which of a chunk was at fault.
        guilty = chunk.begun == held.oid and chunk.interruptions > SUSPICIOUS
        bound_is_one = not self._decide(chunk, record, count=1).again
        if decision.again or not (guilty or bound_is_one):
            return None
        failure = Failure(
            "Interrupted", decision.reason, "", record.attempts + 1, self._clock.now()
        )
        return Outcome(failure=failure)

    def _decide(self, chunk: Chunk, record: CallRecord, count: int | None = None) -> RetryDecision:
        declared = self._registry.declaration(record.plugin).retry
        return policy_in_force(own_policy(record), declared).decide(
            RetryEvent.INTERRUPTED,
            count=chunk.interruptions if count is None else count,
            random=self._random,
        )


def _unreadable(record: CallRecord, chunk: int) -> Report:
    """What puts a call aside of which nothing is known but where it is, or was."""
    held = Held(record._p_oid, f"at {record._p_oid.hex()}", ("", ""), "", NORMAL, chunk)
    return Report(held, Outcome(parked=True))


def _waits_elsewhere(store: Store, area: WorkerArea, record: CallRecord) -> bool:
    """Whether a call was put into a waiting tree, or parked, before its chunk was dropped."""
    if area.holds_waiting(record):
        return True
    return is_parked(store.site, record)
