# SPDX-License-Identifier: ZPL-2.1
"""Accepting: what one worker takes in one transaction, from where, and what becomes of each.

Every entry that is taken ends in exactly one place that is written in the same transaction: the
worker's chunk, its waiting calls, or what is put aside. So none is lost, and none is in two. The
chunk is left to who accepts (``Accepted.keep``): a call that ends in that very transaction needs
none. A call that is over, since it has ended and owes nothing, is passed by and has no place: so
an accept that brought nothing else need not be committed (``Accepted.is_needless``), and who
reads the inbox next passes it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..call import PRIORITIES, CallRecord
from .accepted import WorkerArea
from .lanes import Cursor
from .mailbox import is_over
from .parking import hand_on, leave, park, put_aside, unpark
from .reading import send_together, why_unreadable
from .root import Site
from .store import Store

#: Calls that are over may be passed again and again, without a commit that says so, until there
#: are so many of them.
FEW = 8


class Wanted(NamedTuple):
    """What a worker accepts, and how much of it."""

    #: Whose inboxes are read; after what is due and what was put aside.
    lanes: Collection[int]
    queues: Collection[str]
    #: That it has.
    plugins: Collection[str]
    #: How many entries at most.
    limit: int
    #: Plugins of which it wants no more calls now: those are left aside.
    held_up: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """What one accept brought."""

    #: Calls to run now; with the notes after them, they belong in the area's chunk ``chunk``.
    calls: tuple[CallRecord, ...]
    chunk: int
    #: What needs no plugin: final calls that owe something (pending callbacks, late mail), and
    #: calls that have expired and cannot begin here.
    notes: tuple[CallRecord, ...]
    #: Whether as many entries were taken as may be: then there may be more of them, whatever
    #: became of these.
    is_full: bool
    #: Put aside, because no plugin of their name is known here.
    parked: tuple[CallRecord, ...] = ()
    #: What cannot be loaded, with the reason: records, or segments of them that calls are read
    #: from. They are put aside under no plugin.
    broken: tuple[tuple[bytes, str], ...] = ()
    #: How many calls were passed by, because they are over.
    passed: int = 0

    def keep(self, area: WorkerArea, without: Collection[bytes] = ()) -> None:
        """Write the chunk, of all calls and notes but those with these oids."""
        every = (*self.calls, *self.notes)
        area.keep(self.chunk, (record for record in every if record._p_oid not in without))

    def is_needless(self, over: Collection[bytes], changed: Collection[Any]) -> bool:
        """Whether nothing is lost if this transaction is not committed.

        Args:
            over: The oids of those of the calls that another transaction has ended meanwhile.
            changed: What this one would write.
        """
        if self.is_full or self.notes or len(over) < len(self.calls):
            return False
        if self.passed + len(over) > FEW:
            return False
        return all(isinstance(each, Cursor) or each._p_oid in over for each in changed)


def accept(
    store: Store,
    area: WorkerArea,
    wanted: Wanted,
    now: int,
    overdue: Iterable[CallRecord] = (),
) -> Accepted:
    """Take entries, best priority first.

    Writes the cursors that moved, and of the calls only those with a ``unique`` key: a put that
    returns such a call as its own reads it, and must conflict with this. The chunk is to be
    written by ``Accepted.keep`` in the same transaction, else its calls are lost; unless all of it
    is left uncommitted.

    Args:
        store: In the transaction that accepts.
        area: The worker's.
        wanted: By the worker.
        now: In microseconds since 1970 UTC.
        overdue: What was just taken up of parked calls (``parking.take_overdue``); comes first.
    """
    known, held_up = frozenset(wanted.plugins), wanted.held_up
    run: dict[bytes, CallRecord] = {}
    notes: dict[bytes, CallRecord] = {}
    parked: list[CallRecord] = []
    broken: list[tuple[bytes, str]] = []
    passed = 0
    able = known.difference(held_up)
    taken, due = _taken(store, area, wanted._replace(plugins=able), now)
    for record in (*overdue, *taken):
        reason = why_unreadable(record)
        if reason is not None:
            broken.append((record._p_oid, reason))
            put_aside(store.site, record)
        elif not record.seed or (record._p_oid in due and record.due is None):
            # Its put was undone while it waited; one that another call has now waits for nothing.
            hand_on(store.site, record)
        elif is_over(record):
            passed += 1
        elif record.is_final or (record.plugin not in able and record.has_expired(now)):
            notes[record._p_oid] = record
        elif record.due is not None and record.due > now:
            area.wait(record, record.due)
        elif record.plugin not in known:
            park(store.site, record)
            parked.append(record)
        elif record.plugin in held_up and record._p_oid not in due:
            leave(store.site, record)
        else:
            run[record._p_oid] = record
            if record.unique is not None:
                record._p_changed = True
    return Accepted(
        tuple(run.values()),
        area.next_number(),
        tuple(notes.values()),
        len(taken) >= wanted.limit,
        tuple(parked),
        tuple(broken),
        passed,
    )


def read_ahead(store: Store, wanted: Wanted) -> None:
    """Have the storage send what the next accept will read.

    What was read ahead before is here, and the rest is not waited for.
    """
    count = wanted.limit
    for cursors in _cursors(store.site, wanted):
        for cursor in _in_turn(cursors):
            count -= cursor.read_ahead(count)
            if count <= 0:
                return


def _taken(
    store: Store, area: WorkerArea, wanted: Wanted, now: int
) -> tuple[list[CallRecord], frozenset[bytes]]:
    """What comes next: of each priority what is due, what was put aside, then the inboxes.

    And the oids of what is due: an earlier chunk of ours may have that too, so that only we may
    run it as long as we live.
    """
    calls: list[CallRecord] = []
    due: list[CallRecord] = []
    limit = wanted.limit
    for priority, cursors in enumerate(_cursors(store.site, wanted)):
        found = area.take_due(priority, now, limit - len(calls))
        due += found
        calls += found
        calls += unpark(store.site, wanted.plugins, wanted.queues, priority, limit - len(calls))
        if cursors and len(calls) < limit:
            for cursor in _in_turn(each for each in cursors if each.is_behind()):
                calls += cursor.take(limit - len(calls))
                if len(calls) >= limit:
                    break
    if len(calls) > 1:
        send_together(store.connection, calls)
    return calls, frozenset(record._p_oid for record in due)


def _cursors(site: Site, wanted: Wanted) -> tuple[list[Cursor], ...]:
    """Those of the inboxes of each priority, lanes in the order given."""
    found: tuple[list[Cursor], ...] = tuple([] for _ in PRIORITIES)
    for number in wanted.lanes:
        for priority, inbox in site.lanes[number].inboxes_of(wanted.queues):
            found[priority].append(inbox.reader())
    return found


def _in_turn(cursors: Iterable[Cursor]) -> list[Cursor]:
    """First where was taken from the longest ago: an inbox that is never empty hinders no other."""
    return sorted(cursors, key=lambda cursor: (bool(cursor._p_changed), cursor._p_serial))
