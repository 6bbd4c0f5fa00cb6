# SPDX-License-Identifier: ZPL-2.1
"""Connections that are lost while a plugin runs that uses them: our storage's, or its own."""

from __future__ import annotations

import threading

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from tests.integration.stepping import Site
from wsgi_zasync import CallState, Retry, RetryPolicy
from wsgi_zasync.worker import Worker
from wsgi_zasync.worker.running.transactions import AWAY_SECONDS, LOST_TRIES
from wsgi_zasync.worker.running.without_transaction import AGAIN_SECONDS, LOST


class Flapping(MappingStorage):
    """A storage whose server is killed while a plugin uses it, and is back at once.

    Whoever asks whether it is connected hears that it is, unless ``is_away``. One that
    ``is_broken`` says so as the drivers of SQL databases do: by errors that only they know.
    It is lost and broken for the thread of the plugin alone, so that all others go on.
    """

    def __init__(self, step=None, losses=0):
        super().__init__()
        self.step, self.losses = step, losses
        self.is_away = self.is_broken = False
        self.victim = None

    def is_connected(self):
        return not self.is_away

    def strike_here(self):
        """Let it be this thread that loses the connection, once it comes to the step."""
        self.victim = threading.current_thread()

    def loadBefore(self, oid, tid):
        if self.is_broken and threading.current_thread() is self.victim:
            raise OSError("the server closed the connection")
        self._at("load")
        return super().loadBefore(oid, tid)

    def tpc_vote(self, transaction):
        self._at("vote")
        return super().tpc_vote(transaction)

    def tpc_finish(self, transaction, func=lambda tid: None):
        tid = super().tpc_finish(transaction, func)
        # The server has committed, and only its answer is lost.
        self._at("finish")
        return tid

    def _at(self, step):
        if step == self.step and self.losses and threading.current_thread() is self.victim:
            self.victim = None
            self.losses -= 1
            raise ClientDisconnected(f"lost at the {step}")


class Unplugged(MappingStorage):
    """A storage that is away for everybody while ``is_away``, and notes what it is asked then."""

    def __init__(self):
        super().__init__()
        self.is_away = False
        self.asked = []

    def is_connected(self):
        return not self.is_away

    def loadBefore(self, oid, tid):
        self._answer("load")
        return super().loadBefore(oid, tid)

    def tpc_begin(self, transaction):
        self._answer("commit")
        return super().tpc_begin(transaction)

    def _answer(self, question):
        if self.is_away:
            # A ZEO client would wait here, half a minute each time.
            self.asked.append(question)
            raise ClientDisconnected


class Stage(Site):
    """A site with a box to count effects in, whose worker notes its pauses and makes none."""

    def __init__(self, db):
        super().__init__(db)
        self.pauses = []
        with self.db.transaction() as connection:
            connection.root()["box"] = PersistentMapping(n=0)

    def run(self, function, pause=None):
        """Put a call of this plugin and let a worker do all that it can; returns the call's id."""
        self.add("count", function, runs="transaction")
        call = self.put("count")
        service = self.service("first")
        service.dispatcher._transaction._stopping.wait = pause or self.pauses.append
        self.work(service)
        return call

    def seen(self, call):
        """The call's state, how often it was attempted, and how many effects there are."""
        with self.calls() as calls:
            found = calls.get(call)
            return found.state, found.attempts, calls.root["box"]["n"]


def count(attempt):
    attempt.root["box"]["n"] += 1


@pytest.fixture
def staged():
    """A stage on a database; it is closed after the test."""
    stages = []

    def stage(db):
        stages.append(Stage(db))
        return stages[-1]

    yield stage
    for found in stages:
        found.close()


@pytest.mark.parametrize(
    ("step", "losses", "runs"),
    [("load", 1, 2), ("load", 2, 3), ("vote", 1, 2), ("vote", 2, 3), ("finish", 1, 1)],
)
def test_a_server_that_is_back_before_we_look_fails_no_call(staged, step, losses, runs):
    # Given a server that is killed at a step of the plugin's transaction, and comes back so fast
    # that the lost connection looks like one of the plugin's own
    storage = Flapping(step, losses)
    site = staged(ZODB.DB(storage))
    ran = []

    def count_while_it_is_killed(attempt):
        ran.append(attempt.number)
        storage.strike_here()
        count(attempt)

    # When a worker runs the call
    call = site.run(count_while_it_is_killed)

    # Then it is run again after each loss as the same attempt, and its effect is there once
    assert site.seen(call) == (CallState.SUCCEEDED, 1, 1)
    assert ran == [1] * runs
    assert storage.losses == 0
    assert site.pauses == [AWAY_SECONDS] * losses


def test_a_plugins_own_lost_connection_is_its_failure(staged):
    """The storage of the calls is there: waiting for it would never end."""
    site = staged(ZODB.DB(Flapping()))
    ran = []

    def ask(attempt):
        ran.append(attempt.number)
        count(attempt)
        raise ClientDisconnected("of another database")

    call = site.run(ask)

    assert site.seen(call) == (CallState.FAILED, 1, 0)
    assert ran == [1] * LOST_TRIES
    with site.calls() as calls:
        failure = calls.get(call).failure
        assert (failure.type, failure.message) == ("ClientDisconnected", "of another database")


def test_losses_that_do_not_follow_each_other_are_not_added_up(staged):
    site = staged(ZODB.DB(Flapping()))
    lost, conflict = ClientDisconnected("gone"), ConflictError("others write")
    errors = [lost, lost, conflict, lost, lost]

    def flaky(attempt):
        if errors:
            raise errors.pop()
        count(attempt)

    assert site.seen(site.run(flaky)) == (CallState.SUCCEEDED, 1, 1)


@pytest.mark.parametrize("away", ["zasync", "application"])
def test_a_database_that_is_seen_to_be_away_is_waited_for_however_long_it_takes(staged, away):
    # Given calls in a database of their own, beside the application's
    databases = {}
    ZODB.DB(Flapping(), databases=databases, database_name="zasync")
    site = staged(ZODB.DB(Flapping(), databases=databases, database_name="application"))
    storage = databases[away].storage
    outages = [ClientDisconnected("gone")] * (LOST_TRIES + 2)

    # When one of the two goes away while a plugin runs
    def count_later(attempt):
        storage.is_away = bool(outages)
        if outages:
            raise outages.pop()
        count(attempt)

    # Then its call is waited with
    assert site.seen(site.run(count_later)) == (CallState.SUCCEEDED, 1, 1)


@pytest.mark.parametrize("broken", ["zasync", "application"])
def test_a_driver_that_fails_a_plugin_while_its_server_is_away_is_waited_for(staged, broken):
    # Given a plugin that reads an object when the server of an SQL database is stopped
    databases = {}
    ZODB.DB(Flapping(), databases=databases, database_name="zasync")
    site = staged(ZODB.DB(Flapping(), databases=databases, database_name="application"))
    storage = databases[broken].storage

    def count_in_an_outage(attempt):
        if not site.pauses:
            storage.is_broken = True
            storage.strike_here()
            storage.loadBefore(b"", b"")
        count(attempt)

    # When it is back after some tries
    def pause(seconds):
        site.pauses.append(seconds)
        storage.is_broken = len(site.pauses) < 5

    # Then the call was waited with
    assert site.seen(site.run(count_in_an_outage, pause)) == (CallState.SUCCEEDED, 1, 1)
    assert site.pauses == [AWAY_SECONDS] * 5


# -- in a thread, which reads its arguments only ------------------------------------------


class Reading:
    """A call of a plugin that runs in a thread and is given the box, to read it."""

    def __init__(self, site, function, retry=None, **options):
        self.site, self.ran = site, []

        def read(attempt, box):
            self.ran.append(attempt.number)
            return function(box)

        site.add("read", read, retry=retry)
        with site.calls() as calls:
            self.call = calls.options(**options).put("read", calls.root["box"]).id
        self.service = site.service("first")

    def work(self, times=1):
        """Let the worker do all that it can, so many times, with a pause before each."""
        for _ in range(times):
            self.site.clock.advance(AGAIN_SECONDS)
            self.site.work(self.service)

    @property
    def seen(self):
        """The call's state, how often it was attempted, and why it waits or has failed."""
        with self.site.calls() as calls:
            found = calls.get(self.call)
            failure = found.failure
            why = found.waiting_reason if failure is None else (failure.type, failure.message)
            return found.state, found.attempts, why


def lose(storage, *, is_away=True):
    """Lose the storage in this thread; whoever asks is told so, if it is away."""
    storage.is_away = is_away
    raise ClientDisconnected("lost while it read")


@pytest.mark.parametrize("broken", [False, True], ids=["ClientDisconnected", "an SQL driver"])
def test_a_plugin_in_a_thread_whose_objects_cannot_be_read_any_more_is_waited_with(staged, broken):
    # Given a plugin in a thread that reads an object when the storage is lost
    storage = Flapping("load")
    site = staged(ZODB.DB(storage))

    def read(box):
        if len(reading.ran) == 1:
            storage.strike_here()
            storage.is_away, storage.is_broken = not broken, broken
            storage.losses = int(not broken)
            box._p_deactivate()
        return box["n"]

    reading = Reading(site, read)

    # When the worker goes on for as long as the outage takes
    reading.work(times=7)

    # Then the call has waited, and nothing ran in vain; it runs again when the storage is back
    waits = "its objects cannot be read now: the storage is still away"
    assert reading.seen == (CallState.WAITING, 0, waits)
    assert reading.ran == [1]
    storage.is_away = storage.is_broken = False
    reading.work()
    assert reading.seen == (CallState.SUCCEEDED, 1, None)
    assert reading.ran == [1, 1]


def test_a_plugin_in_a_thread_is_not_interrupted_for_ever(staged):
    """What it did outside the database is done again each time."""
    storage = Flapping()
    reading = Reading(staged(ZODB.DB(storage)), lambda box: lose(storage))

    for _ in range(2):
        reading.work()
        assert reading.seen == (CallState.WAITING, 0, LOST)
        storage.is_away = False
    reading.work(2)

    state, attempts, (kind, message) = reading.seen
    assert (state, attempts, kind) == (CallState.FAILED, 1, "Interrupted")
    assert message == "its storage was lost: interrupted 3 times while it may have run"
    assert reading.ran == [1, 1, 1]


def test_a_plugin_in_a_thread_that_was_interrupted_has_begun_in_time(staged):
    # Given a call that was interrupted before its expires
    storage = Flapping()
    site = staged(ZODB.DB(storage))
    reading = Reading(
        site,
        lambda box: lose(storage) if len(reading.ran) == 1 else box["n"],
        expires=2 * AGAIN_SECONDS,
    )
    reading.work()
    assert reading.seen == (CallState.WAITING, 0, LOST)

    # When the storage is back only after that
    storage.is_away = False
    site.clock.advance(10 * AGAIN_SECONDS)
    reading.work()

    # Then it runs again
    assert reading.seen == (CallState.SUCCEEDED, 1, None)


@pytest.mark.parametrize(
    ("is_away", "failure"),
    [
        (True, ("Interrupted", "its storage was lost: interrupted 1 time while it may have run")),
        (False, ("ClientDisconnected", "lost while it read")),
    ],
)
def test_what_must_not_run_again_fails_when_the_storage_was_lost(staged, is_away, failure):
    storage = Flapping()
    once = RetryPolicy(interruptions=1)
    reading = Reading(staged(ZODB.DB(storage)), lambda box: lose(storage, is_away=is_away), once)

    reading.work()
    storage.is_away = False
    reading.work(2)

    assert reading.seen == (CallState.FAILED, 1, failure)
    assert reading.ran == [1]


def test_a_server_that_is_back_before_we_look_fails_no_plugin_in_a_thread(staged):
    storage = Flapping("load", 1)
    site = staged(ZODB.DB(storage))

    def read(box):
        storage.strike_here()
        box._p_deactivate()
        return box["n"]

    reading = Reading(site, read)
    reading.work(2)

    assert reading.seen == (CallState.SUCCEEDED, 1, None)
    assert reading.ran == [1, 1]


def test_a_lost_connection_that_is_a_plugins_own_is_in_a_thread_its_failure_as_well(staged):
    storage = Flapping()
    policy = RetryPolicy(attempts=2, delay_seconds=1, on=ClientDisconnected)
    reading = Reading(staged(ZODB.DB(storage)), lambda box: lose(storage, is_away=False), policy)

    reading.work(5)

    assert reading.seen == (CallState.FAILED, 2, ("ClientDisconnected", "lost while it read"))
    assert reading.ran == [1, 1, 1, 2]


def test_what_a_plugin_in_a_thread_has_returned_counts_though_the_storage_is_away_by_then(staged):
    storage = Flapping()

    def read_the_last_thing(box):
        storage.is_away = True
        return box["n"]

    reading = Reading(staged(ZODB.DB(storage)), read_the_last_thing)
    reading.work(2)

    assert reading.seen == (CallState.SUCCEEDED, 1, None)
    assert reading.ran == [1]


def test_errors_of_a_plugin_in_a_thread_are_its_own_while_the_storage_is_there(staged):
    storage = Flapping()

    def fail(box):
        raise OSError("the disk is full")

    reading = Reading(staged(ZODB.DB(storage)), fail)
    reading.work(2)

    assert reading.seen == (CallState.FAILED, 1, ("OSError", "the disk is full"))
    assert reading.ran == [1]


def test_a_plugin_in_a_thread_that_says_when_to_come_again_is_heard_in_an_outage_too(staged):
    storage = Flapping()

    def come_again(box):
        storage.is_away = not storage.is_away
        if storage.is_away:
            raise Retry("soon", delay=1)

    reading = Reading(staged(ZODB.DB(storage)), come_again)
    reading.work()
    assert reading.seen == (CallState.WAITING, 1, "soon: Retry")
    reading.work()
    assert reading.seen == (CallState.SUCCEEDED, 2, None)


def test_an_interruption_that_was_written_already_is_counted_once(staged):
    # Given a commit of an interruption of which the worker was told that it had not come about
    storage = Flapping()
    reading = Reading(staged(ZODB.DB(storage)), lambda box: lose(storage))
    service = reading.service
    settled = []
    settle = service.acceptor._completion.settle

    def settle_and_note(writing, report, **more):
        settled.append(report)
        return settle(writing, report, **more)

    service.acceptor._completion.settle = settle_and_note
    reading.work()
    [report] = settled

    # When it writes that again
    with service.acceptor.desk.transaction() as transaction:
        writing = service.acceptor.writing(transaction)
        settle(writing, report)
        service.membership.commit(transaction)
        assert writing.record(report.held).interruptions == 1


# -- a worker in threads ---------------------------------------------------------------------------


@pytest.mark.parametrize("runs", ["thread", "transaction"])
def test_a_worker_that_is_to_stop_asks_nothing_of_a_storage_that_is_away(runs, caplog):
    site = Site(ZODB.DB(Unplugged()))
    begun, go_on = threading.Event(), threading.Event()

    def wait(attempt):
        begun.set()
        go_on.wait(10)

    site.add("wait", wait, runs=runs)
    site.put("wait")
    worker = Worker(site.db, plugins=site.plugins, grace=0.1)
    worker.start()
    assert begun.wait(10)
    worker._service.bell.wait_for_quiet(10)
    site.db.storage.is_away = True

    worker.stop()

    assert site.db.storage.asked == []
    assert any("could not say that it stops" in message for message in caplog.messages)
    go_on.set()
    site.db.storage.is_away = False
    site.close()
