# SPDX-License-Identifier: ZPL-2.1
"""What goes wrong between two commits of a worker: it holds on to all of its calls."""

from __future__ import annotations

import threading

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError, POSKeyError

from tests.integration.stepping import Site, accept_only
from wsgi_zasync import CallNotFound, CallState, RetryPolicy
from wsgi_zasync.call import NORMAL
from wsgi_zasync.errors import Fenced
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.store import open_store
from wsgi_zasync.store.parking import unpark
from wsgi_zasync.store.pruning import prune
from wsgi_zasync.testing import calls_of, deployment_of
from wsgi_zasync.worker import Worker, acceptor
from wsgi_zasync.worker.held import Outcome, Report, Settled
from wsgi_zasync.worker.room import AHEAD
from wsgi_zasync.worker.rounds import Work


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


def failing(function, error, times=1):
    """The function, which raises this the first times that it is called."""
    left = [times]

    def fails(*args, **kwargs):
        if left[0]:
            left[0] -= 1
            raise error
        return function(*args, **kwargs)

    return fails


def go_on(site, service, times=8):
    """Let a worker go on whose turns may fail, as its own thread would."""
    for _ in range(times):
        try:
            site.work(service)
        except ClientDisconnected:
            service.rescuer.forget()
        site.clock.advance(5.1)


GONE = ClientDisconnected("gone for a moment")


# -- the storage is away in between ----------------------------------------------------------------


@pytest.mark.parametrize("is_alone", [False, True])
def test_calls_that_were_about_to_begin_begin_later(site, is_alone):
    ran = []
    site.add("note", lambda attempt, n: ran.append(n))
    calls = [site.put("note", n) for n in range(3)]
    if is_alone:
        # Given calls of which one may be what killed their last two workers
        accept_only(site.service("dead"))
        with site.db.transaction() as connection:
            [area] = open_store(connection).areas()
            area.chunks[0].interruptions = 1
    service = site.service("first")
    if is_alone:
        inner = service.acceptor.round
        broken = failing(lambda work: inner(work), GONE)
        marked = []
        service.acceptor.round = lambda work: (
            (marked.append(work), broken(work))[1] if work.mark else inner(work)
        )
    else:
        service.acceptor.begin = failing(service.acceptor.begin, GONE)

    go_on(site, service, 12)

    assert {site.state(call) for call in calls} == {CallState.SUCCEEDED}
    assert sorted(ran) == [0, 1, 2]
    assert not is_alone or len(marked) == 4


def test_what_was_accepted_is_known_although_looking_at_its_mail_fails(site):
    ran = []
    site.add("note", lambda attempt, n: ran.append(n))
    calls = [site.put("note", n) for n in range(3)]
    service = site.service("first")
    service.mail.mailboxes = failing(service.mail.mailboxes, GONE)

    with pytest.raises(ClientDisconnected):
        service.turn()

    assert len(service.holdings) == 3
    site.work(service)
    assert {site.state(call) for call in calls} == {CallState.SUCCEEDED}
    assert sorted(ran) == [0, 1, 2]


def test_a_late_callback_is_seen_although_the_first_look_for_it_fails(site):
    # Given a callback that is declared after the completion has begun
    site.add("echo", lambda attempt: 7)
    call = site.put("echo")
    service = site.service("first")
    accept_only(service)
    del service.dispatcher.room
    inner = service.acceptor._completion.settle

    def declare_then_settle(writing, report, **how):
        service.acceptor._completion.settle = inner
        with site.calls() as calls:
            calls.get(call).on_success("string:${result}")
        return inner(writing, report, **how)

    service.acceptor._completion.settle = declare_then_settle
    service.mail.still_owed = failing(service.mail.still_owed, GONE)

    go_on(site, service, 3)

    with site.calls() as calls:
        assert [c.value for c in calls.get(call).callbacks] == ["7"]
    assert len(service.holdings) == 0


def test_an_outage_takes_none_of_the_time_that_a_call_may_take(site):
    """It waits for the storage and not for its plugin."""
    site.add("count", count, runs="transaction", timeout=10)
    call = site.put("count")
    service = site.service("first")
    runner, membership = service.dispatcher._transaction, service.membership
    inner, here = membership.commit, threading.current_thread()
    broken = failing(inner, GONE, times=2)

    def commit(*given):
        return (inner if threading.current_thread() is here else broken)(*given)

    membership.commit = commit
    waits, go = threading.Semaphore(0), threading.Semaphore(0)

    def wait(seconds):
        waits.release()
        go.acquire(timeout=10)
        return False

    runner._stopping.wait = wait
    service.turn()
    for _ in range(2):
        assert waits.acquire(timeout=5)
        site.clock.advance(60)
        service.dispatcher.take_overdue(service.holdings)
        go.release()
    site.work(service, 200)

    assert site.state(call) == CallState.SUCCEEDED
    with site.calls() as calls:
        assert calls.root["n"] == 1


def count(attempt):
    attempt.root["n"] = attempt.root.get("n", 0) + 1
    return attempt.root["n"]


def test_a_call_whose_objects_cannot_be_read_now_waits(site):
    site.add("look", lambda attempt, box: box["n"])
    with site.calls() as calls:
        box = calls.root["box"] = PersistentMapping(n=3)
        calls.connection.add(box)
        call = calls.put("look", box).id
    service = site.service("first")
    runner = service.dispatcher._thread
    runner._call_with_objects = failing(runner._call_with_objects, GONE)

    go_on(site, service, 3)

    with site.calls() as calls:
        found = calls.get(call)
        assert (found.result, found.attempts) == (3, 1)


def commit_and_begin(connection):
    connection.transaction_manager.commit()
    connection.transaction_manager.begin()


def abort_and_begin(connection):
    connection.transaction_manager.abort()
    connection.transaction_manager.begin()


@pytest.mark.parametrize(
    "end",
    [
        commit_and_begin,
        abort_and_begin,
        lambda connection: connection.transaction_manager.commit(),
        lambda connection: connection.close(),
    ],
    ids=["commit and begin", "abort and begin", "commit", "close"],
)
def test_a_plugin_that_ends_its_transaction_fails_and_spoils_no_other_call(site, end):
    ran = []

    def meddle(attempt):
        ran.append(attempt.call_id)
        end(attempt.root._p_jar)
        return 1

    site.add("meddle", meddle, runs="transaction")
    site.add("count", count, runs="transaction")
    service = site.service("first")

    call = site.put("meddle")
    site.work(service)
    with site.calls() as calls:
        failure = calls.get(call).failure
    assert (failure.type, ran) == ("TransactionOver", [call])

    other = site.put("count")
    site.work(service)
    assert site.state(other) is CallState.SUCCEEDED


def test_a_call_whose_object_was_packed_away_waits_a_moment_for_it_and_fails():
    # Given calls in a database of their own, with an object of the application's
    databases = {}
    ZODB.DB(MappingStorage(), databases=databases, database_name="zasync")
    site = Site(ZODB.DB(MappingStorage(), databases=databases, database_name="main"))
    site.add("look", lambda attempt, box: box["n"], runs="transaction")
    site.add("echo", lambda attempt: 1)
    site.keep(box=PersistentMapping(n=3))
    with site.calls() as calls:
        look = calls.put("look", calls.root["box"]).id
        echo = calls.put("echo").on_success("nocall:box", box=calls.root["box"]).id
    # When it is deleted, and packed away
    with site.db.transaction() as connection:
        del connection.root()["box"]
    site.db.pack()
    site.db.cacheMinimize()
    service = site.service("first")
    site.work(service)

    # Then what needs it is tried once more, since it may only be late, fails, and says why
    with site.calls() as calls:
        assert "no more" in calls.get(look).waiting_reason
    site.clock.advance(5.1)
    site.work(service)
    with site.calls() as calls:
        failure, callback = calls.get(look).failure, calls.get(echo).callbacks[0]
        assert calls.get(echo).state == "succeeded"
    assert (failure.type, callback.state) == ("ObjectGone", "failed")
    for text in (failure.message, callback.error):
        assert "PersistentMapping that was given is in the database 'main' no more" in text
    site.close()
    databases["zasync"].close()


def test_a_claim_that_is_undone_is_made_again_by_who_puts_there(tmp_path):
    site = Site(ZODB.DB(FileStorage(str(tmp_path / "Data.fs"))))
    site.add("echo", lambda attempt: 1)
    deployment = deployment_of(site.plugins, clock=site.clock)

    def put():
        with calls_of(site.db, "ann", deployment) as calls:
            return calls.put("echo").id

    # Given a process that has claimed a lane, and whose claim is undone
    site.put("echo")
    ids = [put()]
    _, claim = site.db.undoLog(0, 2)
    manager = transaction.TransactionManager(explicit=True)
    with manager:
        site.db.undo(claim["id"], manager.get())
    with site.db.transaction() as connection:
        assert len(open_store(connection).claimed_lanes()) == 1

    # When it puts more
    ids += [put(), put()]
    site.work(site.service("first"))

    # Then workers find what is there
    assert [site.state(each) for each in ids] == [CallState.SUCCEEDED] * 3
    site.close()


# -- what is blamed --------------------------------------------------------------------------------


def test_a_callback_is_not_blamed_for_an_accept_that_fails(site):
    # Given an outcome that is to be written together with an accept which fails
    site.add("echo", lambda attempt, value=None: value)
    with site.calls() as calls:
        call = calls.put("echo", 1).on_success("string:${result}").id
    service = site.service("first")
    service.turn()
    service.bell.wait(5)
    site.put("echo")
    service.acceptor._accept = failing(service.acceptor._accept, RuntimeError("a bad lane"), 2)

    site.work(service)

    with site.calls() as calls:
        assert [c.value for c in calls.get(call).callbacks] == ["1"]


def test_a_call_that_cannot_be_ended_keeps_nobody_awake(site):
    # Given a call whose outcome no commit takes, and for no reason that would pass
    may_end = threading.Event()
    site.add("echo", lambda attempt: 1)
    site.add("stay", lambda attempt: may_end.wait(60))
    call = site.put("echo")
    service = site.service("first", one_by_one=False)
    refusing = service.acceptor._completion
    inner = refusing.settle
    refusing.settle = failing(inner, RuntimeError("no way"), times=10**6)

    # When it was tried often enough
    go_on(site, service, 10)
    other = site.put("stay")
    service.turn()

    # Then it waits for its next try, which is not tried in every turn
    assert len(service.bell) == 0
    assert service.timetable.owed.next_at > site.clock.monotonic()
    # And it ends once nothing hinders it any more
    may_end.set()
    refusing.settle = inner
    site.clock.advance(60)
    site.work(service)
    assert {site.state(each) for each in (call, other)} == {CallState.SUCCEEDED}


def test_a_callback_that_makes_the_commit_of_effects_fail_fails_alone(site):
    """T12: the effects and the outcome commit without it."""

    site.add("count", count, runs="transaction")
    with site.calls() as calls:
        call = calls.put("count").on_success("string:${result}").id
    service = site.service("first")
    evaluation = service.acceptor._completion._evaluation
    inner = evaluation.evaluate

    def evaluate(writing, record, **how):
        writing.transaction.addBeforeCommitHook({}.__getitem__, (39440,))
        return inner(writing, record, **how)

    evaluation.evaluate = evaluate
    site.work(service, 100)

    with site.calls() as calls:
        found = calls.get(call)
        assert (found.state, found.result, calls.root["n"]) == (CallState.SUCCEEDED, 1, 1)
        [callback] = found.callbacks
        assert callback.state == "failed"
        assert "KeyError" in callback.error


def test_a_call_that_hangs_after_conflicts_does_not_hold_up_others_that_conflict(site):
    # Given a call that runs alone, because it has conflicted, and then never returns
    tries, release = [], threading.Event()

    def conflict(attempt, name):
        tries.append(name)
        if tries.count(name) < 3:
            raise ConflictError("somebody was faster")
        if name == "hangs":
            release.wait(20)

    site.add("conflict", conflict, runs="transaction", timeout=10)
    hanging = site.put("conflict", "hangs")
    service = site.service("first", one_by_one=False)
    service.turn()
    for _ in range(500):
        if tries.count("hangs") == 3:
            break
        release.wait(0.01)

    # When it is given up while another one waits for its turn
    site.clock.advance(9)
    other = site.put("conflict", "other")
    service.timetable.is_more_there = True
    site.work(service, 10)
    site.clock.advance(1.5)
    site.work(service, 100)

    # Then only the first one has failed
    release.set()
    assert (site.state(hanging), site.state(other)) == (CallState.FAILED, CallState.SUCCEEDED)


# -- waiting is no work ----------------------------------------------------------------------------


def test_a_worker_with_all_that_it_can_hold_sleeps(site):
    # Given calls that take long, and more accepted than can begin
    release = threading.Event()
    site.settings.update(threads=1, max_running=1, safety_poll=10)
    site.add("slow", lambda attempt: release.wait(10))
    for _ in range(50):
        site.put("slow")
    service = site.service("first", one_by_one=False)
    while service.turn():
        pass

    # When it is time to look for more, and there is no room
    site.clock.advance(30)
    service.turn()
    service.turn()

    # Then it does not look again and again
    assert service.seconds_to_wait() > 0.5
    release.set()


def test_a_call_that_is_queued_keeps_nobody_awake(site):
    # Given a call that has waited for a thread for longer than it may take
    release = threading.Event()
    site.settings.update(threads=1)
    site.add("slow", lambda attempt: release.wait(10), timeout=600)
    site.add("quick", lambda attempt: 1, timeout=2)
    site.put("slow")
    service = site.service("first", one_by_one=False)
    service.dispatcher._queue = 10
    service.turn()
    site.put("quick")
    service.turn()
    assert len(service.holdings.running) == 2
    site.clock.advance(3)
    service.turn()
    service.turn()

    assert service.seconds_to_wait() > 0.5
    release.set()


# -- taken over, and what comes then ---------------------------------------------------------------


def test_a_worker_whose_place_was_packed_away_begins_anew(tmp_path):
    # Given a worker that was taken over long ago, and a database that was packed since
    site = Site(ZODB.DB(FileStorage(str(tmp_path / "Data.fs"))))
    site.add("echo", lambda attempt: 1)
    first, second = site.service("first"), site.service("second")
    site.let_die(first)
    site.db.pack()
    site.db.cacheMinimize()

    # When it goes on, Then it learns that it is dead, and is a worker again
    with pytest.raises(Fenced):
        for _ in range(3):
            first.turn()
            site.clock.advance(6)
    first.start_anew()
    call = site.put("echo")
    site.work(first)
    site.work(second)
    assert site.state(call) == CallState.SUCCEEDED
    site.close()


def test_what_was_parked_in_a_commit_of_doubt_is_not_parked_again(site):
    """It may be another worker's by then, which knows its plugin."""
    site.add("new", lambda attempt: 1)
    site.put("new")
    first = site.service("first")
    accept_only(first)
    [chunk] = first.holdings._chunks
    held = next(iter(first.holdings.backlog))
    report = Report(held, Outcome(parked=True))
    for expected in (1, 0):
        with first.acceptor.desk.transaction() as txn:
            writing = first.acceptor.writing(txn)
            first.acceptor._completion.settle(writing, report)
            assert len(writing.store.site.parked) == expected
            unpark(writing.store.site, ["new"], ["default"], NORMAL, 10)
            first.membership.commit(txn)
    assert chunk == held.chunk


@pytest.mark.parametrize("dies", [False, True])
def test_what_is_found_to_be_too_late_expires_although_who_found_it_dies(site, dies):
    site.add("old", lambda attempt: 1)
    with site.calls() as calls:
        call = calls.options(expires=60).put("old").id
    site.plugins = {}
    worker = site.service("first", one_by_one=False)
    worker.turn()
    assert len(parked(site)) == 1
    site.clock.advance(61)
    # When it is accepted, and not ended yet
    worker.turn()
    assert (len(parked(site)), len(worker.holdings)) == (0, 1)
    assert site.state(call) == CallState.WAITING

    if dies:
        worker = site.service("second", one_by_one=False)
    go_on(site, worker, 12)

    assert site.state(call) == CallState.EXPIRED
    assert (len(parked(site)), len(worker.holdings)) == (0, 0)


@pytest.mark.parametrize("runs", ["thread", "transaction"])
def test_what_must_not_run_again_fails_when_its_worker_stops_in_the_middle_of_it(site, runs):
    begun, release = threading.Event(), threading.Event()
    ran = []

    def pay(attempt):
        ran.append(attempt.number)
        begun.set()
        release.wait(10)

    site.add("pay", pay, runs=runs, retry=RetryPolicy(attempts=3, interruptions=1))
    call = site.put("pay")
    worker = Worker(site.db, plugins=site.plugins)
    worker.start()
    assert begun.wait(5)
    worker.stop(grace_seconds=0.0)
    release.set()

    site.work(site.service("next"))
    with site.calls() as calls:
        assert calls.get(call).failure.type == "Interrupted"
    assert ran == [1]


def test_short_calls_of_two_owners_that_begin_at_once_are_let_go_and_see_late_callbacks(site):
    # Given two calls that are known to be short, each with a callback, and a policy that lets
    # no two owners into one transaction
    policy = site.settings["policy"] = DefaultPolicy()
    policy.stateless = False
    site.add("echo", lambda attempt, value: value)
    service = site.service("first", one_by_one=False)
    service.turn()
    service.dispatcher._took["echo"] = (100, 0.0)
    calls = {}
    for user in ("ann", "bob"):
        with site.calls(user) as manager:
            calls[user] = manager.put("echo", user).on_success("string:${result}").id
    # and one that is declared when the first of them is being written
    inner, settled = service.acceptor._completion.settle, []

    def settle(writing, report, **how):
        entry = inner(writing, report, **how)
        if entry.settled is Settled.NOT_NOW:
            user = report.held.owner[1]
            settled.append(user)
            service.acceptor._completion.settle = late
        return entry

    def late(writing, report, **how):
        service.acceptor._completion.settle = inner
        user = report.held.owner[1]
        with site.calls(user) as manager:
            manager.get(calls[user]).on_success("string:late")
        return inner(writing, report, **how)

    service.acceptor._completion.settle = settle
    for _ in range(20):
        service.turn()
        service.bell.wait(0.02)

    # Then all was evaluated, and nothing is held
    assert len(settled) == 1
    with site.calls(settled[0]) as manager:
        values = [callback.value for callback in manager.get(calls[settled[0]]).callbacks]
        assert values == [settled[0], "late"]
    assert len(service.holdings) == 0


def test_a_retried_call_is_not_run_twice_at_once_when_its_old_chunk_is_found_again(site):
    # Given a call that waits for its second attempt
    running, release = threading.Event(), threading.Event()
    ran = []

    def flaky(attempt):
        ran.append(attempt.number)
        if attempt.number == 1:
            raise ConnectionError
        running.set()
        release.wait(10)

    site.add("flaky", flaky, retry=RetryPolicy(attempts=5, delay_seconds=1, jitter=0))
    call = site.put("flaky")
    service = site.service("first", one_by_one=False)
    while not service.holdings.done_chunks:
        service.turn()
        service.bell.wait(0.02)
    # and whose first chunk could not be dropped
    inner = service.acceptor._transact
    dropping = []

    def transact(work):
        if work.drop and not dropping:
            dropping.append(list(work.drop))
            raise ConflictError("somebody was faster")
        return inner(work)

    service.acceptor._transact = transact
    # When that is found again while the second one runs
    site.clock.advance(2)
    for _ in range(5):
        service.turn()
        if running.wait(0.2):
            break
    assert dropping == [[0]]
    site.clock.advance(5.1)
    for _ in range(5):
        service.turn()

    # Then there is one attempt at a time
    assert ran == [1, 2]
    assert len(service.holdings.running) == 1
    assert len(service.holdings.backlog) == 0
    release.set()
    for _ in range(20):
        service.bell.wait(0.02)
        service.turn()
    assert site.state(call) == CallState.SUCCEEDED
    assert ran == [1, 2]
    assert service.holdings.by_plugin["flaky"] == 0
    assert len(service.holdings) == 0


def test_a_retried_call_that_is_found_in_a_later_chunk_is_run_from_there(site):
    """The report of its attempt before is still to be written, and says nothing any more."""
    ran = []
    site.add("note", lambda attempt: ran.append(1))
    call = site.put("note")
    service = site.service("first")
    accept_only(service)
    del service.dispatcher.room
    service.holdings.backlog.take(1, lambda held: True)
    # Given a commit of which nobody knew that it came about: it put the call into a later chunk
    with service.acceptor.desk.transaction() as txn:
        area = service.acceptor.writing(txn).area
        area.keep(area.next_number(), area.chunks[0].calls)
        service.membership.commit(txn)

    site.clock.advance(5.1)
    site.work(service)

    assert site.state(call) == CallState.SUCCEEDED
    assert ran == [1]


def test_an_accept_does_not_need_what_is_read_ahead(site, monkeypatch):
    def fails(*_):
        raised.append(1)
        raise POSKeyError(b"12345678")

    raised = []
    monkeypatch.setattr(acceptor, "read_ahead", fails)
    site.add("note", lambda attempt: None)
    calls = [site.put("note") for _ in range(AHEAD + 5)]
    site.work(site.service("first"), turns=200)
    assert raised
    assert {site.state(call) for call in calls} == {CallState.SUCCEEDED}


def test_a_callback_that_commits_just_before_a_call_at_once_ends_is_evaluated(site):
    """No chunk of the worker's would say that there is anything to look for."""
    site.add("short", lambda attempt: 1)
    service = site.service("first", one_by_one=False)
    service.dispatcher._took["short"] = (100, 0.0)
    call = site.put("short")
    inner, declared, ended_at_once = service.membership.commit, [], []

    def commit(transaction, oids=()):
        if service.acceptor.desk.has_changes() and not declared:
            declared.append(1)
            with site.calls() as calls:
                ended_at_once.append(calls.get(call)._record._p_oid in list(oids))
                calls.get(call).on_success("string:late")
        inner(transaction, oids)

    service.membership.commit = commit
    for _ in range(20):
        service.turn()
        service.bell.wait(0.02)
        if declared and service.is_idle():
            break

    with site.calls() as calls:
        assert [callback.value for callback in calls.get(call).callbacks] == ["late"]
    assert len(service.holdings) == 0


@pytest.mark.parametrize("error", [ConflictError("somebody was faster"), GONE], ids=repr)
def test_what_has_begun_for_an_accept_that_does_not_come_about_counts_for_nothing(site, error):
    # Given a call of a plugin that is known to be short, and takes longer this time
    orders, go_on = [], threading.Event()
    site.add("short", lambda attempt: go_on.wait(10))
    service = site.service("first", one_by_one=False)
    service.dispatcher._took["short"] = (100, 0.0)
    call = site.put("short")
    inner = service.membership.commit

    def commit(transaction, oids=()):
        if not orders:
            orders.extend(service.holdings.running.values())
            raise error
        inner(transaction, oids)

    # When it has begun, and its accept cannot be committed
    service.membership.commit = commit
    try:
        service.turn()
    except ClientDisconnected:
        pass

    # Then nobody waits for it any more, and it begins anew
    assert [order.given_up for order in orders] == [True]
    assert not service.holdings.running
    assert not +service.holdings.by_plugin
    go_on.set()
    for _ in range(20):
        service.turn()
        service.bell.wait(0.02)
        if service.is_idle():
            break
    assert site.state(call) == CallState.SUCCEEDED
    assert len(service.holdings) == 0
    assert service.ended == 1


def test_who_was_taken_for_dead_writes_nothing_of_what_was_ready(site):
    site.add("note", lambda attempt: attempt.number)
    call = site.put("note")
    service = site.service("first")
    service.turn()
    while not len(service.bell):
        service.bell.wait(0.02)
    # Given an end that is ready, and belongs to the place that another worker has by now
    written = []
    inner = service.acceptor._completion.settle
    service.acceptor._completion.settle = lambda *args, **how: (
        written.append(1) or inner(*args, **how)
    )

    service.start_anew()
    service.turn()

    assert written == []
    assert site.state(call) == CallState.WAITING


def test_who_was_taken_for_dead_waits_no_more_for_what_it_runs(site):
    begun, release, attempts = threading.Event(), threading.Event(), []

    def hang(attempt):
        attempts.append(attempt)
        begun.set()
        release.wait(20)

    site.add("hang", hang)
    site.put("hang")
    service = site.service("first")
    service.turn()
    assert begun.wait(20)

    service.start_anew()

    # It is told, and another thread has its place
    assert attempts[0].is_cancelled
    assert service.dispatcher._threads.abandoned == 1
    release.set()


# -- cancelling on the way to a retry --------------------------------------------------------------


def test_a_call_that_waits_for_a_retry_is_cancelled_at_once_whatever_the_board_says(site):
    # Given a call that ran long enough to be on the board, failed, and waits an hour
    fail = threading.Event()

    def flaky(attempt):
        fail.wait(10)
        raise ConnectionError

    site.add("flaky", flaky, retry=RetryPolicy(attempts=3, delay_seconds=3600, jitter=0))
    call = site.put("flaky")
    service = site.service("first")
    service.turn()
    while not any(order.begun for order in service.holdings.running.values()):
        service.bell.wait(0.01)
    site.clock.advance(2.5)
    service.turn()
    assert site.state(call) == CallState.RUNNING
    fail.set()
    while service.holdings.running:
        service.bell.wait(0.05)
        service.turn()
    with site.calls() as calls:
        record = calls.get(call)._record
        areas = open_store(calls.connection).areas()
        assert any(record._p_oid in area.board.running for area in areas)

    # When it is cancelled, Then that is final
    assert site.state(call) == CallState.WAITING
    with site.calls() as calls:
        calls.cancel(call)
    assert site.state(call) == CallState.CANCELLED


def test_a_cancel_that_commits_just_before_the_wait_for_a_retry_is_seen(site):
    # Given a running call whose failure is being written
    begun, fail = threading.Event(), threading.Event()

    def flaky(attempt):
        begun.set()
        fail.wait(10)
        raise ConnectionError

    site.add("flaky", flaky, retry=RetryPolicy(attempts=3, delay_seconds=3600, jitter=0))
    call = site.put("flaky")
    service = site.service("first")
    service.turn()
    assert begun.wait(5)
    site.clock.advance(2.5)
    service.turn()
    inner = service.acceptor._completion.settle

    def cancel_then_settle(writing, report, **how):
        service.acceptor._completion.settle = inner
        with site.calls() as calls:
            calls.cancel(call)
            assert calls.get(call).cancel_requested
        return inner(writing, report, **how)

    service.acceptor._completion.settle = cancel_then_settle
    # When it is asked to stop by a transaction that this one does not see
    fail.set()
    site.work(service)

    # Then it does not wait for an hour
    assert site.state(call) == CallState.CANCELLED


# -- records that cannot be read -------------------------------------------------------------------


def spoil(site, oid):
    """Write bytes in the record's place that nobody can read."""
    storage, txn = site.db.storage, transaction.Transaction()
    storage.tpc_begin(txn)
    storage.store(oid, storage.load(oid)[1], b"no pickle at all", "", txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    site.db.cacheMinimize()


def oid_of(site, call):
    with site.calls() as calls:
        return calls.get(call)._record._p_oid


def parked(site):
    with site.db.transaction() as connection:
        return list(open_store(connection).site.parked)


@pytest.mark.parametrize("runs", ["thread", "transaction", "reactor"])
@pytest.mark.parametrize("when", ["accepted", "running", "taken over"])
def test_a_record_that_is_spoilt_once_it_is_accepted_stops_nobody(site, when, runs):
    ran, go = [], threading.Event()

    def note(attempt, n):
        if when == "running":
            go.wait(10)
        ran.append(n)

    site.add("note", note, runs="thread" if when == "running" else runs)
    calls = [site.put("note", n) for n in range(5)]
    oid = oid_of(site, calls[2])
    service = site.service("first", one_by_one=False)
    if when == "running":
        service.turn()
        spoil(site, oid)
        go.set()
    else:
        accept_only(service)
        spoil(site, oid)
        del service.dispatcher.room
    if when == "taken over":
        other = site.service("second", one_by_one=False)
        for _ in range(5):
            other.turn()
            site.clock.advance(5.1)
        service = other
    for _ in range(30):
        service.turn()
        service.bell.wait(0.02)
        if service.is_idle():
            break

    others = [call for n, call in enumerate(calls) if n != 2]
    assert {site.state(call) for call in others} == {CallState.SUCCEEDED}
    assert parked(site) == [("", oid.hex())]
    assert len(service.holdings) == 0


@pytest.mark.parametrize("why", ["its record is spoilt", "its plugin is gone"])
def test_what_is_put_aside_takes_none_of_its_chunk_with_it(site, why):
    # Given a worker that has put one of its calls aside, and dies before the others have begun
    site.add("note", lambda attempt, n: n)
    calls = [site.put("note", n) for n in range(3)]
    oid = oid_of(site, calls[1])
    service = site.service("first")
    accept_only(service)
    [aside, *_] = [held for held in service.holdings.backlog if held.oid == oid]
    if why == "its record is spoilt":
        spoil(site, oid)
    service.acceptor.round(Work(reports=[Report(aside, Outcome(parked=True))]))
    with site.db.transaction() as connection:
        [area] = open_store(connection).areas()
        [chunk] = area.chunks.values()
        assert len(chunk.calls) == 2

    # When another one takes over
    second = site.service("second")
    site.let_die(service)

    # Then it has the others, and the one that was put aside is nobody's
    assert [site.state(calls[n]) for n in (0, 2)] == [CallState.SUCCEEDED] * 2
    assert second.ended == (3 if why == "its plugin is gone" else 2)
    assert len(second.holdings) == 0


def test_an_owner_sees_the_other_calls_and_pruning_goes_on(site):
    site.add("echo", lambda attempt: 1)
    calls = [site.put("echo") for _ in range(3)]
    oid = oid_of(site, calls[1])
    site.work(site.service("first"))
    spoil(site, oid)

    with site.calls() as found:
        assert {call.id for call in found.mine()} == {calls[0], calls[2]}
        assert {call.id for call in found.mine(newest_first=False)} == {calls[0], calls[2]}
        with pytest.raises(CallNotFound):
            found.get(calls[1])
    with site.db.transaction() as connection:
        store = open_store(connection)
        pruned = prune(store, lambda record: store.site.lanes[0].tallies, 1 << 62, 1.0)
        assert pruned.count == 2


def test_a_segment_that_was_spoilt_while_it_is_open_stops_no_worker(site):
    """What tells an idle worker of news is looked for in the segments that are open."""
    site.add("echo", lambda attempt: 1)
    with site.calls() as calls:
        for _ in range(3):
            calls.put("echo")
    service = site.service("first")
    site.work(service)
    with site.db.transaction() as connection:
        store = open_store(connection)
        [lane] = store.claimed_lanes()
        [inbox] = store.site.lanes[lane].inboxes.values()
        [segment] = inbox.open
        oid = segment._p_oid
    spoil(site, oid)

    with site.calls("bob") as calls:
        call = calls.put("echo").id
    site.work(service)

    with site.calls("bob") as calls:
        assert calls.get(call).result == 1
    assert parked(site) == [("", oid.hex())]


def test_others_of_the_same_process_put_after_a_call_that_was_spoilt(site):
    site.add("echo", lambda attempt: 1)
    site.put("echo")
    deployment = deployment_of(site.plugins, clock=site.clock)
    with calls_of(site.db, "ann", deployment) as calls:
        spoilt = calls.put("echo")
    spoil(site, spoilt.oid)

    with calls_of(site.db, "bob", deployment) as calls:
        call = calls.put("echo").id

    site.work(site.service("first"))
    with calls_of(site.db, "bob", deployment) as calls:
        assert calls.get(call).result == 1


def test_a_storage_that_fails_for_a_moment_spoils_no_record(site):
    """The error of a driver looks like any other: only the storage can tell."""
    site.add("echo", lambda attempt: 1)
    call = site.put("echo")
    oid = oid_of(site, call)
    service = site.service("first")
    storage = service.acceptor.desk.store_connection._storage
    inner, left = storage.load, [4]

    def load(wanted, *rest):
        if wanted == oid and left[0]:
            left[0] -= 1
            raise OSError("the server closed the connection")
        return inner(wanted, *rest)

    storage.load = load
    site.db.cacheMinimize()
    for _ in range(10):
        try:
            site.work(service)
        except OSError:
            pass
    del storage.load

    assert left == [0]
    assert parked(site) == []
    assert site.state(call) == CallState.SUCCEEDED
