# SPDX-License-Identifier: ZPL-2.1
"""The acceptor: the one thread of a worker that accepts calls and writes outcomes in batches.

What is ready together is one commit: completions, newly accepted calls, chunks that are done,
the board. A batch that cannot commit is split until what hinders it is alone; that one then
commits without its callbacks, and they follow.

Thread: the acceptor's own (or that of ``run_once``), with one connection.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from ..call import CallRecord
from ..deployment import Deployment
from ..errors import Fenced
from ..store import Store
from ..store.accepted import WorkerArea
from ..store.accepting import Accepted, Wanted, accept, read_ahead
from ..store.mending import mend
from ..store.parking import FIRST, hand_on, take_overdue, take_up
from ..store.zeo_client import save_steps
from .beginning import Beginning
from .completion import Completion
from .desk import AWAY, Desk, Writing
from .held import Held, Order, Report, Settled
from .lanes import LaneShare
from .membership import Membership
from .patience import blame, named
from .redaction import shown
from .rounds import AtOnce, Round, Work
from .waking.news import what_changes_with_news

logger = logging.getLogger(__name__)

#: Objects that our connection keeps at least: segments that are open, and the calls of a few
#: batches. It is some 500 bytes each; a database that nobody configured keeps 400 objects.
CACHED_OBJECTS = 5_000


class Acceptor:
    """One worker's writer."""

    def __init__(
        self,
        db: Any,
        deployment: Deployment,
        membership: Membership,
        completion: Completion,
        beginning: Beginning,
        lanes: LaneShare,
        *,
        brief: bool = True,
    ) -> None:
        """Describe it; ``open`` connects it.

        Args:
            db: The application's database.
            deployment: What the process knows.
            membership: Of this worker.
            completion: Writes ends.
            beginning: Decides what is to be run.
            lanes: Which ones are ours to read.
            brief: Whether long callbacks are left to another thread.
        """
        self._brief = brief
        self._db = db
        self._deployment = deployment
        self._membership = membership
        self._completion = completion
        self._beginning = beginning
        self.lanes = lanes
        self._desk: Desk | None = None
        #: The oids of records that were put aside, and that we could not read either.
        self._unreadable: set[bytes] = set()
        #: The key of the waiting call that was looked at last, as it may be there no more.
        self._waited: tuple[Any, ...] = ()
        #: The parked call that was looked at last.
        self._looked_at = FIRST

    # -- connection -----------------------------------------------------------------------

    @property
    def desk(self) -> Desk:
        """Our connection."""
        assert self._desk is not None, "the acceptor is not open"
        return self._desk

    def open(self) -> None:
        """Connect; in the thread that uses it."""
        if self._desk is None:
            self._desk = Desk(self._db, self._deployment.site)
            for connection in (self._desk.connection, self._desk.store_connection):
                save_steps(connection.db().storage)
            # An accept looks at all segments that are open: it must not load them each time.
            cache = self._desk.store_connection._cache
            cache.cache_size = max(cache.cache_size, CACHED_OBJECTS)

    def close(self) -> None:
        """Give the connection back."""
        if self._desk is not None:
            self._desk.close()
            self._desk = None

    def writing(self, transaction: Any) -> Writing:
        """What a transaction of our connection writes to; see ``Membership.writing``."""
        return self._membership.writing(self.desk, transaction)

    # -- one round ------------------------------------------------------------------------

    def round(self, work: Work) -> Round:
        """Write what is to be written, in one commit if it can be.

        Raises:
            Fenced: We were taken for dead; nothing was written.
            ClientDisconnected: The storage is away; nothing was written.
            StorageAway: The same of other storages.
        """
        try:
            return self._transact(work)
        except (Fenced, *AWAY):
            raise
        except Exception as exc:  # noqa: BLE001 - what it is decides how it goes on
            if not work.reports:
                logger.info("accepting is tried again: %s", shown(named(exc)))
                return Round(complete=False, more=True)
            done = Round(complete=False, more=bool(work.limit))
            self._split(work.reports, done)
            return done

    def _split(self, reports: list[Report], done: Round) -> None:
        """Commit the reports in smaller parts, until what hinders is alone.

        One alone is tried once more before it is blamed: it was together with what was to be
        accepted, and that may be what hinders.
        """
        half = max(1, len(reports) // 2)
        for part in (reports[:half], reports[half:]) if len(reports) > 1 else (reports,):
            try:
                done.take(self._transact(Work(reports=part)))
            except (Fenced, *AWAY):
                raise
            except Exception as exc:  # noqa: BLE001 - as above
                if len(part) > 1:
                    self._split(part, done)
                else:
                    blame(part[0].held, exc)
                    done.left += part

    def _transact(self, work: Work) -> Round:
        done = Round()
        with self.desk.transaction() as transaction:
            writing = self.writing(transaction)
            for report in work.reports:
                done.settled(self._completion.settle(writing, report, brief=self._brief))
            accepted = self._accept(writing, work, done) if work.limit else None
            if accepted is not None:
                run = self._begin_at_once(writing, work, done)
                # While that is on its way to who runs it.
                self._look_ahead(writing, work, done)
                ended = set() if run is None else self._end_at_once(writing, run, done)
            written = self._write_area(writing.area, work)
            needless = False
            if accepted is not None:
                # After all that: what failed at once may wait for its retry.
                done.next_due = writing.area.next_due()
                # A savepoint is that of a callback, whose call has ended here.
                needless = not (work.reports or self.desk.has_savepoint())
                needless = needless and accepted.is_needless(ended, self.desk.changed())
                if needless:
                    # Older than those ends, it knows of nothing that came by mail meanwhile: the
                    # next one reads them again.
                    done.more = bool(ended)
                else:
                    accepted.keep(writing.area, ended)
            if self.desk.has_changes() and not needless:
                written += [entry.report.held.oid for entry in done.entries]
                self._membership.commit(transaction, written)
        if accepted is not None:
            _log_aside(accepted)
        return done

    def _accept(self, writing: Writing, work: Work, done: Round) -> Accepted:
        self.lanes.update(writing.store, writing.area)
        site, now = writing.store.site, self._deployment.clock.micros()
        overdue: list[CallRecord] = []
        if work.everywhere:
            mend(writing.store, writing.tallies, self._wanted(work), now)
            take_up(site, self._unreadable)
            undone, self._waited = writing.area.let_go_undone(self._waited, work.limit)
            for record in undone:
                hand_on(site, record)
            overdue, self._looked_at = take_overdue(site, now, self._looked_at, work.limit)
        accepted = accept(writing.store, writing.area, self._wanted(work), now, overdue)
        # Lanes are read one after the other; what was asked for first begins first.
        calls = sorted(accepted.calls, key=lambda record: record.created)
        done.accepted = hold(calls, accepted.chunk)
        done.notes = hold(accepted.notes, accepted.chunk)
        done.more = accepted.is_full
        return accepted

    def _look_ahead(self, writing: Writing, work: Work, done: Round) -> None:
        """What comes after this accept, and what will tell of it."""
        if done.more:
            self._read_ahead(writing.store, work)
        else:
            self.lanes.news()
        ours = frozenset(self.lanes.to_read(everywhere=False))
        done.watched = what_changes_with_news(writing.store.site, self._membership.queues, ours)

    def _wanted(self, work: Work) -> Wanted:
        lanes = self.lanes.to_read(everywhere=work.everywhere)
        ours = self._membership
        return Wanted(lanes, ours.queues, ours.plugins, work.limit, work.held_up)

    def _read_ahead(self, store: Store, work: Work) -> None:
        """Have the storage send what comes next, if nothing hinders: this accept needs it not."""
        try:
            read_ahead(store, self._wanted(work))
        except Exception as exc:  # noqa: BLE001 - who needs it finds out, and says so
            logger.debug("what comes next is not sent ahead: %s", shown(named(exc)))

    @staticmethod
    def _begin_at_once(writing: Writing, work: Work, done: Round) -> AtOnce | None:
        """Have what was accepted end in the same commit: a short call waits for one, not two."""
        run = work.at_once
        if run is None or not done.accepted or done.notes or not run.begin(writing, done.accepted):
            return None
        done.begun, done.accepted = done.accepted, []
        return run

    def _end_at_once(self, writing: Writing, run: AtOnce, done: Round) -> set[bytes]:
        """Write what has ended by now, unless it is written already.

        Returns the oids of those that need no chunk: they have ended, or wait elsewhere.
        """
        ended: set[bytes] = set()
        for report in run.ended():
            entry = report.entry
            if entry is None:
                entry = self._completion.settle(writing, report, brief=self._brief)
            done.settled(entry)
            if entry.settled in (Settled.DONE, Settled.WAITS):
                self._refuse_late_mail(writing, report.held)
                done.begun.remove(report.held)
                ended.add(report.held.oid)
        return ended

    @staticmethod
    def _refuse_late_mail(writing: Writing, held: Held) -> None:
        """Conflict with mail that commits meanwhile: no chunk says to look for it afterwards."""
        connection = writing.store.connection
        mailbox = connection.get(held.oid).mailbox
        if mailbox is not None:
            mailbox._p_activate()
            connection.readCurrent(mailbox)
        held.checked = True

    def order(self, writing: Writing, held: Held) -> Order | Report:
        """The order for a call, or what is to be written instead."""
        found = self._beginning.order(writing, held)
        return found if isinstance(found, Order) else Report(held, found)

    @staticmethod
    def _write_area(area: WorkerArea, work: Work) -> list[bytes]:
        """Write what changes in our area; the oids of what those who wait for a call watch."""
        if work.drop:
            area.drop(work.drop)
        if work.mark is not None:
            area.chunks[work.mark.chunk].begun = work.mark.oid
        if work.board is not None or work.released:
            board = area.board
            board.beat += 1
            board.running = work.board or {}
            board.released = work.released
            return [board._p_oid]
        return []

    # -- between commits --------------------------------------------------------------------

    def begin(self, held: Iterable[Held]) -> tuple[list[Order], list[Report]]:
        """What of these calls is to be run now, and what is to be written instead.

        Calls of plugins with a transaction of their own are decided once more there.
        """
        orders: list[Order] = []
        reports: list[Report] = []
        with self.desk.transaction() as transaction:
            writing = self.writing(transaction)
            for each in held:
                found = self.order(writing, each)
                if isinstance(found, Order):
                    orders.append(found)
                else:
                    reports.append(found)
        return orders, reports


def hold(records: Iterable[CallRecord], chunk: int, *, alone: bool = False) -> list[Held]:
    """What we remember of the calls of a chunk, in its order."""
    return [
        Held(
            oid=record._p_oid,
            call_id=record.id,
            owner=record.owner,
            plugin=record.plugin,
            priority=record.priority,
            chunk=chunk,
            keyed=record.unique is not None,
            alone=alone,
        )
        for record in records
    ]


def _log_aside(accepted: Accepted) -> None:
    for record in accepted.parked:
        logger.warning("call %s is parked: no plugin %r here", record.id, shown(record.plugin))
    for oid, reason in accepted.broken:
        logger.error("the record %s cannot be read and is left alone: %s", oid.hex(), shown(reason))
