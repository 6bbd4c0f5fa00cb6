# SPDX-License-Identifier: ZPL-2.1
"""The worker at work: one turn writes what is ready, accepts what waits, and has it run.

Thread: the acceptor's own, or that of the caller of ``run_once``. Runners report through the
bell, and commits of others ring it.
"""

from __future__ import annotations

from random import Random
from typing import Any

from ..deployment import Deployment
from ..expressions import Limits
from ..settings import WorkerSettings
from ..store.databases import calls_database
from ..store.wakeup import signal_for
from . import log
from .acceptor import Acceptor
from .beginning import Beginning
from .board import first_shown_at, on_board
from .callbacks.evaluation import Evaluation
from .completion import Completion
from .early import Early
from .held import Entry, Held, Outcome, Report, Settled
from .holdings import Holdings
from .lanes import LaneShare
from .long_callbacks import LongCallbacks
from .mail import MailReader
from .membership import Membership
from .patience import pause_seconds
from .rescuer import Adopted, Rescuer, Watch
from .room import Room
from .rounds import BATCH, Round, RunningOnBoard, Work
from .running.dispatch import Dispatcher
from .waking.bell import Bell
from .waking.listening import Listener
from .waking.timetable import Timetable
from .watchdog import Watchdog

#: Seconds for which what was handed out counts as about to end.
YOUNG_SECONDS = 0.01


class Service:
    """One worker: its acceptor, its runners, and what it holds."""

    def __init__(
        self,
        db: Any,
        deployment: Deployment,
        settings: WorkerSettings,
        *,
        name: str,
        watchdog: Watchdog | None = None,
        one_by_one: bool = False,
    ) -> None:
        """Describe it; nothing is opened or started.

        Args:
            db: The application's database.
            deployment: What this process knows.
            settings: The worker's own.
            name: Of the worker.
            watchdog: Told of every commit.
            one_by_one: Run one call at a time, and read every lane.
        """
        self._clock = deployment.clock
        self._settings = settings
        self._one_by_one = one_by_one
        self.bell = Bell()
        self.holdings = Holdings(self._clock.monotonic)
        give_way = None if one_by_one else lambda: self.long.stand_aside()
        evaluation = Evaluation(deployment, Limits(), give_way)
        completion = Completion(deployment, evaluation, Random())
        beginning = Beginning(deployment, settings.timeout)
        self.membership = Membership(
            db,
            deployment,
            name=name,
            queues=settings.serves,
            plugins=deployment.registry.publication(),
            # Those that run transactions, and the one for long callbacks.
            threads=settings.threads + 1,
            watchdog=watchdog,
        )
        self.acceptor = Acceptor(
            db,
            deployment,
            self.membership,
            completion,
            beginning,
            LaneShare(self._clock),
            brief=not one_by_one,
        )
        self.mail = MailReader(self.acceptor)
        self.long: LongCallbacks = LongCallbacks(
            db, deployment, self.membership, completion, self.bell, settings.threads
        )
        longest_step = float("inf") if one_by_one else settings.dead_after / 2
        watch = Watch(self._clock, settings.dead_after, longest_step)
        self.rescuer = Rescuer(
            self.acceptor, self.membership, deployment.registry, self._clock, watch
        )
        self.dispatcher = Dispatcher(
            db,
            deployment,
            settings,
            self.membership,
            beginning,
            completion,
            self.bell,
            one_by_one=one_by_one,
        )
        self.room = Room(self.dispatcher)
        self.listener = Listener(
            signal_for(calls_database(db)),
            self.bell,
            running=lambda: self.holdings.running,
            is_announcing=self.membership.is_announcing,
        )
        #: Ended calls whose mail is to be looked at once more.
        self._check: list[Entry] = []
        self.timetable = Timetable(self._clock, settings)
        self._board: RunningOnBoard = {}
        #: How many calls this worker has brought to their end.
        self.ended = 0

    # -- opening and closing --------------------------------------------------------

    def open(self) -> None:
        """Connect, and register at first; in the thread that will make the turns."""
        self.acceptor.open()
        if self.membership.area_oid is None:
            self.membership.register(self.acceptor.desk)
        self.listener.open()
        self.timetable.open()

    def close(self) -> None:
        """Listen no more, and give the connection back."""
        self.listener.close()
        self.acceptor.close()

    def stop_threads(self, timeout_seconds: float) -> None:
        """End the threads that run and end calls, but for those that were given up."""
        self.dispatcher.stop(timeout_seconds)
        self.long.stop(timeout_seconds)

    def start_anew(self) -> None:
        """We were taken for dead: drop all that we hold, and register again."""
        for order in list(self.holdings.running.values()):
            self.dispatcher.give_up(order)
        self.bell.drop_reports()
        self.long.drop()
        self.holdings = Holdings(self._clock.monotonic)
        self.timetable = Timetable(self._clock, self._settings)
        self._check, self._board = [], {}
        self.rescuer.forget()
        self.membership.register(self.acceptor.desk)

    # -- a turn --------------------------------------------------------

    def turn(self, *, accept: bool = True) -> bool:
        """Write, accept, begin; whether anything was done.

        Raises:
            Fenced: We were taken for dead: ``start_anew``.
            ClientDisconnected: The storage is away; nothing is lost, try again.
        """
        now = self._clock.monotonic()
        news, mail, tid = self.bell.take_news()
        if tid is not None:
            self.listener.signal.until_visible(tid)
        if mail:
            self._stop_cancelled()
        for owed in self.timetable.owed.take(now):
            self.bell.report(owed)
        self.dispatcher.take_overdue(self.holdings)
        reports = self._ready_reports()
        self.timetable.is_more_there |= news
        work = self._work(reports, accept, now)
        did = False
        if work is not None:
            self.listener.look(accepts=work.limit > 0)
            try:
                done = self.acceptor.round(work)
            except BaseException:
                self.bell.put_back(reports)
                if work.at_once is not None:
                    work.at_once.give_up()
                raise
            if work.at_once is not None and not done.complete:
                work.at_once.give_up()
            self._take_in(work, done, now)
            did = bool(done.entries or done.accepted or done.notes or done.begun)
            if work.board is not None and done.complete:
                self._rescue()
        self._look_at_mail()
        did = self._begin() or did
        self.timetable.is_more_there |= self.room.look(self.holdings, self._clock.monotonic())
        return did

    def _ready_reports(self) -> list[Report]:
        """Reports that are to be written; what was written already is noted."""
        ready: list[Report] = []
        for report in self.bell.take(BATCH):
            if report.order is not None:
                self.holdings.ended(report.order)
            if report.entry is None:
                ready.append(report)
            else:
                self._settled([report.entry])
        return ready

    def _work(self, reports: list[Report], accept: bool, now: float) -> Work | None:
        """What the next commit is about, if there is anything to look at."""
        work = Work(reports=reports, drop=self.holdings.done_chunks)
        self.holdings.done_chunks = []
        everywhere = (
            self._one_by_one
            or self.timetable.is_time_to_poll(now)
            or self.acceptor.lanes.is_time_to_help()
        )
        if accept and (everywhere or self.timetable.is_time_to_look()):
            work.limit = min(BATCH, self.room.count(self.holdings))
            work.held_up, work.everywhere = self.room.held_up, everywhere
            idle = not (reports or self.holdings.running or self.holdings.waiting_to_begin)
            if idle and not (self._one_by_one or self.bell.stopping):
                work.at_once = Early(self.acceptor, self.dispatcher, self.bell, self.holdings)
        work.board = self._new_board(now)
        if not (reports or work.limit or work.board is not None):
            # Dropping alone is worth no commit; it goes with the next one.
            self.holdings.done_chunks = work.drop
            return None
        return work

    def _new_board(self, now: float) -> RunningOnBoard | None:
        """What is to be on the board, if it is to be written."""
        beating = self.timetable.is_time_to_beat(now)
        if not (beating or self.timetable.is_time_for_progress(now)):
            return None
        running = self._now_running(now)
        if beating or running != self._board:
            return running
        self.timetable.saw_progress(now)
        return None

    def _take_in(self, work: Work, done: Round, now: float) -> None:
        """Remember what a commit brought."""
        self._settled(done.entries)
        self.bell.put_back(left for left in done.left if not pause_seconds(left.held))
        for left in done.left:
            if pause := pause_seconds(left.held):
                self.timetable.owed.add(left, now + pause)
        self.timetable.tried(now, complete=done.complete)
        # Before anything that may fail: what is held has to be known.
        self.holdings.keep(done.begun)
        self.holdings.accept(done.accepted, done.notes)
        for held in done.notes:
            # Those that have not ended are here because it is too late for them to begin.
            self.bell.report(Report(held, Outcome(expired=True)))
        for report in done.long:
            self.long.add(report)
        if not done.complete:
            # What was to be dropped is not dropped later: its number may be another chunk's by
            # then. It is found again, and looked at.
            return
        if work.limit:
            self.listener.looked(done.watched)
            self.timetable.looked(
                now, everywhere=work.everywhere, more=done.more, next_due=done.next_due
            )
        if work.board is not None:
            self._board = work.board
            self.timetable.beat(now)
            self.listener.mailboxes = self.mail.mailboxes(work.board)
            if work.board:
                self._stop_cancelled()

    def _settled(self, entries: list[Entry]) -> None:
        now = self._clock.monotonic()
        log.settled(entries, now)
        for entry in entries:
            held = entry.report.held
            self.holdings.settled(held)
            self.ended += entry.ended
            if entry.settled is Settled.OWED:
                self.timetable.owed.add(Report(held), now + entry.delay_seconds)
            elif entry.settled is Settled.WAITS:
                self.holdings.release(held)
                self.timetable.is_more_there = True
            elif not entry.report.held.checked:
                self._check.append(entry)

    def _look_at_mail(self) -> None:
        """Let go of calls that have ended, unless a callback came at the last moment."""
        if not self._check:
            return
        owed = self.mail.still_owed(self._check)
        entries, self._check = self._check, []
        for report in owed:
            self.bell.report(report)
        kept = {report.held.oid for report in owed}
        for entry in entries:
            if entry.report.held.oid not in kept:
                self.holdings.release(entry.report.held)

    # -- beginning --------------------------------------------------------

    def _begin(self) -> bool:
        """Have calls run, as far as there is room; whether any was looked at."""
        self.dispatcher.adapt(self.holdings)
        chosen = self._chosen()
        if not chosen:
            return False
        with self.holdings.taken(chosen):
            orders, reports = self.acceptor.begin(chosen)
        self.dispatcher.hand_out(orders, self.holdings)
        for report in reports:
            self.bell.report(report)
        return True

    def _chosen(self) -> list[Held]:
        room = self.dispatcher.room(self.holdings)
        if not room or self.bell.stopping:
            return []
        alone = self.holdings.next_alone()
        if alone is not None:
            # Should it kill us, this says which one it was.
            with self.holdings.taken([alone]):
                marked = self.acceptor.round(Work(mark=alone)).complete
            if not marked:
                self.holdings.again(alone)
            return [alone] if marked else []
        if not self.holdings.others_may_begin():
            return []
        counts: dict[str, int] = {}
        return self.holdings.backlog.take(
            min(room, BATCH),
            lambda held: self.dispatcher.may_begin(self.holdings, counts, held),
        )

    # -- what runs --------------------------------------------------------

    def _stop_cancelled(self) -> None:
        for oid in self.mail.cancelled(self.holdings.running):
            order = self.holdings.running.get(oid)
            if order is not None and not order.attempt.is_cancelled:
                self.dispatcher.ask_to_stop(order)

    def _now_running(self, now: float) -> RunningOnBoard:
        ending = [report.order for report in self.long.reports() if report.order is not None]
        return on_board((*self.holdings.running.values(), *ending), now)

    def _rescue(self) -> None:
        for adopted in self.rescuer.look():
            self._adopt(adopted)
        # Only now: what was just taken over is known, and must not be found once more.
        if (lost := self.rescuer.find(self.holdings.knows())) is not None:
            self._adopt(lost)

    def _adopt(self, adopted: Adopted) -> None:
        for report in self.holdings.adopt(adopted):
            self.bell.report(report)
        self.timetable.is_more_there = True

    # -- waiting --------------------------------------------------------

    def seconds_to_wait(self) -> float:
        """How long nothing is to be done, unless the bell rings."""
        others = [self.dispatcher.next_overdue(self.holdings), self.room.full_at(self.holdings)]
        # Without room nothing comes of being awake; an end makes some, and rings.
        accepting = self.room.count(self.holdings) > 0 and not self.bell.stopping
        if accepting:
            others.append(self.acceptor.lanes.help_at)
        running = self.holdings.running.values()
        progress_from = 0.0 if self._board else first_shown_at(running)
        return self.timetable.seconds_to_wait(
            others, progress_from=progress_from, accepting=accepting
        )

    def is_idle(self) -> bool:
        """Whether nothing runs, is to be accepted, waits to begin or is to be written."""
        more = self.timetable.is_more_there or self.holdings.waiting_to_begin
        return not more and self.is_drained()

    def is_drained(self) -> bool:
        """Whether nothing runs or is to be written any more."""
        if self.holdings.running or len(self.long) or len(self.bell) or self._check:
            return False
        return not self.timetable.owed.is_due(self._clock.monotonic())

    def are_more_expected(self) -> bool:
        """Whether calls that were handed out a moment ago are likely to end within another."""
        out = len(self.holdings.running) - len(self.bell)
        return out > 0 and self._clock.monotonic() - self.dispatcher.handed_out_at < YOUNG_SECONDS

    def release(self) -> None:
        """Write what is ready, and let the others take over what is left at once."""
        reports = self._ready_reports()
        work = Work(reports=reports, drop=self.holdings.done_chunks, board={}, released=True)
        self.holdings.done_chunks = []
        self._take_in(work, self.acceptor.round(work), self._clock.monotonic())
