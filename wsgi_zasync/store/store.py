# SPDX-License-Identifier: ZPL-2.1
"""The store: where calls live in ZODB, as one connection sees it.

Everything here happens in the transaction of the connection that was given, and nothing here
commits. What belongs to an owner is reached through that owner's own index only.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from typing import Any

from BTrees.OOBTree import OOBTree
from persistent import Persistent

from ..call import NEVER_STORED, CallRecord, Place, not_found
from ..errors import CallNotFound
from ..states import CallState
from .accepted import Publication, WorkerArea
from .index import IndexSegment, OwnerIndex, is_readable, owner_key
from .mailbox import Mail, mail_for
from .parking import forget_parked
from .reading import why_unreadable
from .root import ROOT_KEY, Site, StoreRoot
from .tallies import Tally, count_bytes, count_end, count_forgotten, summed


@dataclass(frozen=True, slots=True)
class Running:
    """What a worker's board says of a call that it runs."""

    worker: str
    attempt: int
    #: Microseconds since 1970 UTC.
    started: int
    fraction: float | None
    message: str


class Store:
    """The calls of one site, seen through one connection; never kept over transactions."""

    def __init__(
        self, connection: Any, site: Site, own_lanes: Callable[[], Iterable[int]] = tuple
    ) -> None:
        self.connection = connection
        self.site = site
        #: Tells lanes that may have calls although this transaction does not see their claims.
        self._own_lanes = own_lanes

    # -- putting ------------------------------------------------------------------------

    def make(self) -> None:
        """Store the structure, if it is not there."""
        if self.site._p_jar is not None:
            return
        root = self.connection.root()
        if ROOT_KEY not in root:
            root[ROOT_KEY] = StoreRoot()
        sites = root[ROOT_KEY].sites
        if self.site.name not in sites:
            sites[self.site.name] = self.site

    def add(self, call: CallRecord, lane_number: int) -> CallRecord:
        """Write a new call into the next record of its owner's index; returns that record.

        Args:
            call: Tells what to write; is itself not stored.
            lane_number: The lane of this transaction.
        """
        site = self.site
        lane = site.lanes[lane_number]
        if site.name != call.site:
            call.site = site.name
        key = owner_key(call.owner)
        index = lane.owners.get(key)
        if index is None:
            index = lane.owners[key] = OwnerIndex()
        segment: IndexSegment
        segment, number, position = index.next_place(call)
        inbox = None
        if not segment.is_open:
            inbox = lane.inbox(call.queue, call.priority)
            # A storage that fails must not leave a call of which no worker is told.
            inbox.tail._p_activate()
        record = segment.fill(position, call)
        record.place = (lane_number, number, position)
        # One that is new, as its segment is, has to have an oid.
        if record._p_jar is None:
            self.connection.add(record)
        if inbox is not None:
            full = None if position else index.segments.get(number - 1)
            inbox.tell(record, segment, position, full if is_readable(full) else None)
        if record.ancestor:
            site.descendants[record.ancestor] = self.descendants(record.ancestor) + 1
        return record

    def count_more(self, record: CallRecord, size: int) -> None:
        """Count bytes that a call has got since it was put, in the transaction that puts it."""
        self.site.lanes[record.place[0]].owners[owner_key(record.owner)].count_more(record, size)

    @property
    def is_new(self) -> bool:
        """Whether this very transaction makes the store."""
        # What was not loaded yet has the serial of what was never stored.
        self.site._p_activate()
        return bool(self.site._p_serial == NEVER_STORED)

    def post_note(self, record: CallRecord, lane_number: int) -> None:
        """Ask the workers to look at a *final* call again.

        Never at one that is not final: a second entry of such a call could run it twice at once.
        """
        lane = self.site.lanes[lane_number]
        lane.inbox(record.queue, record.priority).append(record)

    def descendants(self, ancestor: str) -> int:
        """How many calls descend from the call with this id."""
        count: int = self.site.descendants.get(ancestor, 0)
        return count

    # -- unique keys --------------------------------------------------------------------

    def unique_call(self, digest: bytes) -> CallRecord | None:
        """The open call that has this key, or None.

        What is returned is noted as read: the transaction conflicts if the call is accepted or
        ends meanwhile, so that no data of the put is missed.
        """
        record: CallRecord | None = self.site.keys[digest[0]].get(digest)
        if record is None:
            return None
        if why_unreadable(record) is not None or record.is_final or record.forgotten:
            return None
        # What this transaction writes is checked anyhow.
        is_ours = record._p_changed or record._p_serial == NEVER_STORED
        if record._p_jar is not None and not is_ours:
            record._p_jar.readCurrent(record)
        return record

    def set_unique(self, digest: bytes, record: CallRecord) -> None:
        """Give the key to this call."""
        record.unique = digest
        self.site.keys[digest[0]][digest] = record

    def _free(self, digest: bytes, record: CallRecord) -> None:
        """Let go of the key, unless it is a later call's by now."""
        keys = self.site.keys[digest[0]]
        if keys.get(digest) is record:
            del keys[digest]

    # -- an owner's view ----------------------------------------------------------------

    def find(self, owner: tuple[str, str], call_id: str) -> CallRecord:
        """The owner's call with this id.

        Raises:
            CallNotFound: Also for somebody else's, whose data is not touched to find that out.
        """
        if not isinstance(call_id, str):
            raise not_found(call_id)
        try:
            place = Place.decoded(call_id.partition("-")[0])
        except CallNotFound:
            # As much is loaded for what is no id at all as for one that is not there.
            place = Place(0, 0, 0)
        index = self.site.lanes[place.lane].owners.get(owner_key(owner))
        record: CallRecord | None = (
            None if index is None else index.at(place.segment, place.position)
        )
        if record is None or not self._is_there(record):
            raise not_found(call_id)
        if not hmac.compare_digest(record.id.encode(), call_id.encode("utf-8", "replace")):
            raise not_found(call_id)
        return record

    def newest(self, owner: tuple[str, str], before: int | None = None) -> Iterator[CallRecord]:
        """The owner's calls, newest first, those of all lanes merged.

        Args:
            before: Microseconds; older parts of the index are gone straight to.
        """
        return merge(*self._parts(owner, lambda i: i.newest(before)), key=_age, reverse=True)

    def oldest(self, owner: tuple[str, str], after: int | None = None) -> Iterator[CallRecord]:
        """The same, oldest first; ``after`` as ``before`` is there."""
        return merge(*self._parts(owner, lambda i: i.oldest(after)), key=_age)

    def next_written(self, owner: tuple[str, str]) -> Iterator[Persistent]:
        """What is written when the owner gets a call more, as far as it can be foretold."""
        yield self.site.claims
        for number in self._used_lanes():
            yield self.site.lanes[number].owners
        for index in self._indexes(owner):
            yield from index.next_written()

    def _parts(
        self,
        owner: tuple[str, str],
        of: Callable[[OwnerIndex], list[Iterator[CallRecord]]],
    ) -> Iterator[Iterator[CallRecord]]:
        """What is in order by itself, of all the owner's indexes, without what is not shown.

        What was forgotten is nobody's any more.
        """
        return (
            filter(self._is_there, part) for index in self._indexes(owner) for part in of(index)
        )

    def tally(self, owner: tuple[str, str]) -> Tally:
        """How many calls the owner has."""
        key = owner_key(owner)
        indexes = list(self._indexes(owner))
        trees = [self.site.lanes[number].tallies for number in self._used_lanes()]
        for area in self.site.workers.values():
            trees += [area.tallies, *area.thread_tallies]
        return summed(
            sum(index.put_count() for index in indexes),
            sum(index.put_bytes() for index in indexes),
            [tree[key] for tree in trees if key in tree],
        )

    def _indexes(self, owner: tuple[str, str]) -> Iterator[OwnerIndex]:
        key = owner_key(owner)
        for number in self._used_lanes():
            index = self.site.lanes[number].owners.get(key)
            if index is not None:
                yield index

    def _used_lanes(self) -> list[int]:
        return sorted({*self.site.claims, *self._own_lanes()})

    def _is_there(self, record: CallRecord) -> bool:
        return why_unreadable(record) is None and self._is_shown(record)

    def _is_shown(self, record: CallRecord) -> bool:
        if record.forgotten:
            return False
        gone = self.gone_since(record.owner)
        return gone is None or record.created > gone

    def gone_since(self, owner: tuple[str, str]) -> int | None:
        """Until when (microseconds) the owner's earlier calls are hidden; None: nothing is."""
        since: int | None = self.site.gone.get(owner_key(owner)) if self.site.gone else None
        return since

    def running(self, record: CallRecord) -> Running | None:
        """What the workers' boards say of a call: None if it does not run (or not for long)."""
        if record.is_final or record._p_oid is None:
            return None
        for area in self.site.workers.values():
            entry = area.board.running.get(record._p_oid)
            # A board is not rewritten the moment that an attempt ends.
            if entry is not None and entry[0] > record.attempts:
                return Running(area.name, *entry)
        return None

    def state_of(self, record: CallRecord) -> CallState:
        """Where a call stands: ``running`` is not stored with it, but on a board."""
        stored = CallState(record.state)
        if stored is CallState.WAITING and self.running(record) is not None:
            return CallState.RUNNING
        return stored

    # -- mail ---------------------------------------------------------------------------

    def mail(self, record: CallRecord) -> Mail:
        """What the web wants of the call."""
        return mail_for(record)

    def write_mail(self, record: CallRecord, mail: Mail) -> None:
        """Replace what the web wants of the call.

        The call's record is noted as read: if it ends meanwhile, this transaction conflicts, so
        that mail is either there before the end or refused.
        """
        mailbox = record.mailbox
        if mailbox is None:
            raise not_found(record.id)
        record._p_activate()
        if record._p_serial != NEVER_STORED:
            self.connection.readCurrent(record)
        mailbox.write(record.place[2], mail)

    # -- ends and forgetting --------------------------------------------------------------

    def count_end(self, tallies: OOBTree, record: CallRecord, size: int = 0) -> None:
        """Count a call that has just become final, in the tallies of who writes that."""
        count_end(tallies, owner_key(record.owner), record.state, size)

    def count_bytes(self, tallies: OOBTree, record: CallRecord, size: int) -> None:
        """Count what a final call has got since, in the tallies of who writes that."""
        count_bytes(tallies, owner_key(record.owner), size)

    def forget(self, record: CallRecord, tallies: OOBTree) -> None:
        """Erase a final call, and take it out of the index where no put is disturbed by that."""
        lane, segment, position = record.place
        key = owner_key(record.owner)
        count_forgotten(tallies, key, record.state, record.size)
        mailbox = record.mailbox
        if mailbox is not None:
            mailbox.clear(position)
        if not record.ancestor and self.site.descendants:
            self.site.descendants.pop(record.id, None)
        if record.unique is not None:
            self._free(record.unique, record)
        forget_parked(self.site, record)
        record.erase()
        index = self.site.lanes[lane].owners.get(key)
        if index is not None:
            index.remove(segment, position)

    # -- workers ------------------------------------------------------------------------

    def areas(self) -> list[WorkerArea]:
        """The areas of all workers that are registered."""
        return list(self.site.workers.values())

    def published(self) -> dict[str, Any]:
        """Names and parameters of the plugins that workers say they have."""
        plugins: dict[str, Any] = {}
        for area in self.site.workers.values():
            plugins |= area.publication.plugins
        return plugins

    def is_served(self, queue: str) -> bool:
        """Whether a worker says that it works for the queue; True where no worker is known."""
        areas = self.areas()
        return not areas or any(queue in area.publication.queues for area in areas)

    def register_worker(
        self, name: str, plugins: dict[str, Any], queues: tuple[str, ...], threads: int = 0
    ) -> WorkerArea:
        """A fresh area for a worker; an older one of the same name is left to be taken over.

        Args:
            threads: How many of its threads will commit by themselves.
        """
        key = f"{name}#{os.urandom(6).hex()}"
        area = WorkerArea(key, name, Publication(plugins, queues), threads)
        self.site.workers[key] = area
        return area

    def claimed_lanes(self) -> list[int]:
        """The lanes that anything was ever put in."""
        return list(self.site.claims)

    def take_over(self, area: WorkerArea, dead: WorkerArea) -> list[int]:
        """Take over everything of a dead worker; returns the chunks that came with it.

        Run none of it in this transaction: see ``WorkerArea.adopt``.
        """
        numbers = area.adopt(dead)
        del self.site.workers[dead.key]
        return numbers


def _age(record: CallRecord) -> tuple[int, str]:
    return (record.created, record.id)
