# SPDX-License-Identifier: ZPL-2.1
"""Which short calls may begin before their accept has committed, and which may not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from wsgi_zasync import RetryPolicy, plugin
from wsgi_zasync.opening import deployment_for
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.store import accepting, open_store
from wsgi_zasync.store.accepting import FEW
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.testing import FakeClock, calls_of, deployment_of, memory_db
from wsgi_zasync.worker import Worker, early
from wsgi_zasync.worker.held import Held, Outcome, Report
from wsgi_zasync.worker.service import Service
from wsgi_zasync.worker.waking.bell import Bell


class Watched:
    """A short plugin that looks whether its call is accepted."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.was_accepted: list[bool] = []

    def __call__(self, attempt: Any) -> None:
        connection = self._db.open()
        areas = open_store(connection).areas()
        held = {call.id for a in areas for chunk in a.chunks.values() for call in chunk.calls}
        connection.close()
        self.was_accepted.append(attempt.call_id in held)


@pytest.fixture
def db() -> Iterator[Any]:
    database = memory_db()
    yield database
    database.close()


@pytest.fixture
def ask(db) -> Iterator[Any]:
    """Run a call of the plugin, by a worker that is idle."""
    workers = []

    def ask(watched: Watched, *, is_known_short: bool = False, **options: Any) -> None:
        plugins = {"watched": lambda attempt: watched(attempt)}
        deployment = deployment_of(plugins)
        if not workers:
            workers.append(Worker(db, plugins=plugins))
            workers[0].start()
        if is_known_short:
            workers[0]._service.dispatcher._took["watched"] = (100, 0.0)
        wanted = len(watched.was_accepted) + 1
        with calls_of(db, "ann", deployment) as calls:
            call = calls.options(**options).put("watched")
        _wait_for_its_end(db, deployment, call.id)
        assert len(watched.was_accepted) == wanted

    yield ask
    for worker in workers:
        worker.stop()


def _wait_for_its_end(db: Any, deployment: Any, call_id: str) -> None:
    changed = threading.Event()
    unsubscribe = signal_for(db).subscribe(lambda tid, oids: changed.set())
    try:
        for _ in range(200):
            changed.clear()
            with calls_of(db, "ann", deployment) as calls:
                if calls.get(call_id).is_final:
                    return
            changed.wait(0.1)
    finally:
        unsubscribe()
    raise AssertionError("the call does not end")


def test_a_call_of_a_plugin_that_is_not_known_is_accepted_before_it_begins(db, ask):
    watched = Watched(db)

    ask(watched)

    assert watched.was_accepted == [True]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"retry": RetryPolicy(interruptions=1)}, id="not to be repeated"),
        pytest.param({"unique": "key"}, id="others may add to it"),
    ],
)
def test_a_call_that_must_not_begin_before_that_is_accepted_first(db, ask, options):
    # Given a plugin that is known to be short, whose calls may begin before
    watched = Watched(db)
    for _ in range(20):
        ask(watched, is_known_short=True)
        if not watched.was_accepted[-1]:
            break
    assert not watched.was_accepted[-1]

    # When a call of it must not be run again after an interruption, or conflicts with who puts
    # it once more only from its accept on
    ask(watched, is_known_short=True, **options)

    # Then that is written before it begins
    assert watched.was_accepted[-1]


def test_a_call_that_fails_before_its_accept_is_written_runs_again_when_it_is_due(db):
    # Given a plugin that is known to be short, and raises
    def raises(attempt: Any) -> None:
        raise ValueError(attempt.number)

    deployment = deployment_of({"raises": raises})
    worker = Worker(db, plugins={"raises": raises})
    worker.start()
    worker._service.dispatcher._took["raises"] = (100, 0.0)

    # When it is to be run again soon, several times
    retry = RetryPolicy(attempts=6, delay_seconds=0.01, backoff=1.0)
    with calls_of(db, "ann", deployment) as calls:
        call = calls.options(retry=retry).put("raises")

    # Then no attempt waits for the next look everywhere, which is half a minute away
    _wait_for_its_end(db, deployment, call.id)
    with calls_of(db, "ann", deployment) as calls:
        assert calls.get(call.id).attempts == 6
    worker.stop()


def test_who_was_told_of_an_outcome_reads_it_before_the_worker_goes_on(db, monkeypatch):
    # Given a short plugin with a transaction of its own, and much time for readers
    pausing, inner = threading.Event(), Bell.wait_for_news

    def wait_for_news(bell: Bell, timeout_seconds: float) -> None:
        pausing.set()
        inner(bell, 3_600.0)

    monkeypatch.setattr(Bell, "wait_for_news", wait_for_news)
    plugins = {"touch": plugin("touch", runs="transaction")(lambda attempt: attempt.number)}
    deployment = deployment_of(plugins)
    worker = Worker(db, plugins=plugins)
    worker.start()
    worker._service.dispatcher._took["touch"] = (100, 0.0)

    # When a call is begun and ends in a commit of its own
    for _ in range(20):
        pausing.clear()
        with calls_of(db, "ann", deployment) as calls:
            call = calls.put("touch")
        # Then it ends also after such a one: what others have to say ends the pause
        _wait_for_its_end(db, deployment, call.id)
        if pausing.wait(0.2):
            break
    # and whoever reads it goes before what the worker does next
    assert pausing.is_set()
    worker.stop()


@pytest.fixture
def quiet(db, monkeypatch) -> Iterator[Any]:
    """A worker that waits for short calls of its own as long as they take, made anew by a call."""
    monkeypatch.setattr(early, "AT_ONCE_SECONDS", 60.0)
    monkeypatch.setattr(early, "READERS_SECONDS", 0.0)
    services = []

    def quiet(plugins: dict[str, Any], clock: Any = None, **more: Any) -> Service:
        settings = WorkerSettings.from_kwargs(db=db, plugins=plugins, **more)
        deployment = deployment_for(settings, None, clock)
        service = Service(db, deployment, settings, name=f"quiet-{len(services)}")
        services.append(service)
        service.open()
        service.turn()
        for name in plugins:
            service.dispatcher._took[name] = (100, 0.0)
        return service

    yield quiet
    for service in services:
        service.stop_threads(1.0)
        service.close()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("options", "accepted_first"),
    [
        pytest.param({}, False, id="both may"),
        pytest.param({"retry": RetryPolicy(interruptions=1)}, True, id="not to be repeated"),
        pytest.param({"unique": "key"}, True, id="others may add to it"),
    ],
)
def test_one_call_that_must_not_begin_before_its_accept_holds_back_what_comes_with_it(
    db, quiet, place, options, accepted_first
):
    # Given two calls of a short plugin that are accepted together
    watched = Watched(db)
    plugins = {"watched": lambda attempt: watched(attempt)}
    service = quiet(plugins)
    with calls_of(db, "ann", deployment_of(plugins)) as calls:
        for number in range(2):
            calls.options(**(options if number == place else {})).put("watched")
    # When one of them has to be accepted before it begins
    while service.turn() or service.holdings.running:
        if service.holdings.running:
            service.bell.wait_for_report(30)
    # Then both are
    assert watched.was_accepted == [accepted_first, accepted_first]


class Hesitant(DefaultPolicy):
    """A policy that cannot tell at first what somebody's root is."""

    knows = False

    def root_for(self, principal: Any, root: Any, /) -> Any:
        if not self.knows:
            raise RuntimeError("nobody knows")
        return super().root_for(principal, root)


def test_a_short_call_that_is_owed_a_callback_does_not_run_for_ever(db, quiet):
    # Given a short plugin with a transaction of its own, and a callback that nobody can decide yet
    plugins = {"touch": plugin("touch", runs="transaction")(lambda attempt: attempt.number)}
    policy, clock = Hesitant(), FakeClock()
    service, deployment = quiet(plugins, clock, policy=policy), deployment_of(plugins)
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("touch").on_success("path:result").id
    # When it ends in a commit of its own before its accept is committed
    for _ in range(3):
        service.turn()
    # Then it does not run any more
    assert not service.holdings.running
    with calls_of(db, "ann", deployment) as calls:
        found = calls.get(call)
        assert (found.state, found.callbacks[0].state) == ("succeeded", "pending")
    # and what it is owed is done when somebody knows
    policy.knows = True
    clock.advance(5.1)
    for _ in range(3):
        service.turn()
    with calls_of(db, "ann", deployment) as calls:
        assert calls.get(call).callbacks[0].value == 1
    assert len(service.holdings) == 0


def test_what_becomes_of_another_call_meanwhile_is_left_for_the_next_commit(db, quiet):
    # Given a call that has ended, and is owed a look that comes while another one runs
    ran: list[str] = []
    meanwhile: list[Report] = []

    def short(attempt: Any) -> None:
        ran.append(attempt.call_id)
        for report in meanwhile:
            service.bell.report(report)

    service, deployment = quiet({"short": short}), deployment_of({"short": short})
    seen: list[Held] = []
    inner = service.acceptor.order
    service.acceptor.order = lambda writing, held: seen.append(held) or inner(writing, held)
    ids = []
    for _ in range(2):
        meanwhile += [Report(held) for held in seen]
        with calls_of(db, "ann", deployment) as calls:
            ids.append(calls.put("short").id)
        # When that one is begun before its accept is committed
        service.turn()
    # Then they are not mixed up: each has run once, and nothing is left
    assert ran == ids
    while service.turn():
        pass
    assert (ran, service.ended, len(service.holdings)) == (ids, 2, 0)


def test_short_calls_with_a_transaction_take_one_commit_each(db, quiet):
    # Given an idle worker
    plugins = {"touch": plugin("touch", runs="transaction")(lambda attempt: attempt.number)}
    service, deployment = quiet(plugins), deployment_of(plugins)

    def commits_of_a_call() -> int:
        with calls_of(db, "ann", deployment) as calls:
            call = calls.put("touch")
        before = service.membership.commits
        while service.turn():
            pass
        with calls_of(db, "ann", deployment) as calls:
            assert calls.get(call.id).result == 1
        return service.membership.commits - before

    for _ in range(5):  # until a segment of the owner's is open
        commits_of_a_call()
    # When one call comes after the other
    found = [commits_of_a_call() for _ in range(2 * FEW + 2)]
    # Then the effects are a commit, and now and then how far the inbox was read is another
    assert sorted(set(found)) == [1, 2]
    assert found.count(2) == 2
    assert service.ended == 5 + len(found)
    # and nobody runs any of them again
    other = quiet(plugins)
    while other.turn():
        pass
    assert other.ended == 0
    assert not has_chunks(db)


@pytest.mark.parametrize("runs", ["thread", "reactor", "transaction"])
@pytest.mark.parametrize("text", ["string:x", "python: [n for n in range(3000)]"])
def test_a_short_call_with_a_callback_runs_once(db, quiet, runs, text):
    # Given an idle worker
    ran: list[int] = []
    plugins = {"note": plugin("note", runs=runs)(lambda attempt, value: ran.append(value))}
    service, deployment = quiet(plugins), deployment_of(plugins)
    # When calls come one after the other
    for value in range(3):
        with calls_of(db, "ann", deployment) as calls:
            call = calls.put("note", value).on_success(text)
        for _ in range(20):
            if not service.turn() and service.is_idle():
                break
            service.bell.wait(0.05)
        # Then each has ended, and was not run again
        with calls_of(db, "ann", deployment) as calls:
            (callback,) = calls.get(call.id).callbacks
            assert callback.state == "done"
        assert ran == list(range(value + 1))
    assert service.ended == 3


class Ending(DefaultPolicy):
    """A policy that takes the transaction for its own, as long as it is told to."""

    way: Any = None

    def principal_now(self, principal: Any, root: Any) -> Any:
        if self.way is not None:
            self.way(root._p_jar.transaction_manager)
        return super().principal_now(principal, root)


@pytest.mark.parametrize("runs", ["thread", "transaction"])
@pytest.mark.parametrize(
    "way",
    [
        lambda manager: manager.abort(),
        lambda manager: manager.commit(),
        lambda manager: manager.get().abort(),
        lambda manager: manager.get().commit(),
    ],
    ids=["abort", "commit", "its abort", "its commit"],
)
def test_a_policy_cannot_end_the_transaction_that_it_is_asked_in(db, quiet, runs, way):
    # Given an idle worker, in whose accept the policy is asked
    ran: list[int] = []
    policy = Ending()
    plugins = {"note": plugin("note", runs=runs)(lambda attempt, value: ran.append(value))}
    service, deployment = quiet(plugins, policy=policy), deployment_of(plugins)
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("note", 1)
    # When it ends the transaction
    policy.way = way
    service.turn()
    while service.turn():
        pass
    # Then that is a policy which cannot say anything, and the call waits
    with calls_of(db, "ann", deployment) as calls:
        found = calls.get(call.id)
        assert found.state == "waiting"
        assert "must not end the transaction" in found.waiting_reason
    policy.way = None
    with db.transaction() as connection:
        (area,) = open_store(connection).areas()
        assert area.next_due() is not None
    assert ran == []


@pytest.mark.parametrize("worker", ["the same", "another one"])
@pytest.mark.parametrize("few", [FEW, 0])
def test_a_callback_that_comes_while_a_short_call_ends_is_not_forgotten(
    db, quiet, worker, few, monkeypatch
):
    # Given a short call that runs before its accept is committed, and sees no later mail; that
    # accept would be left uncommitted, or is one that says how far the inbox was read
    monkeypatch.setattr(accepting, "FEW", few)
    runs, goes_on = threading.Event(), threading.Event()

    def touch(attempt: Any) -> int:
        runs.set()
        assert goes_on.wait(30)
        return attempt.number

    plugins = {"touch": plugin("touch", runs="transaction")(touch)}
    service, deployment = quiet(plugins), deployment_of(plugins)
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("touch")
    turn = threading.Thread(target=service.turn)
    turn.start()
    assert runs.wait(30)
    # When a callback is declared meanwhile, and the call ends
    with calls_of(db, "ann", deployment) as calls:
        calls.get(call.id).on_success("path:result")
    goes_on.set()
    turn.join()
    # Then the next look evaluates it, whoever looks
    others = [service] if worker == "the same" else [quiet(plugins)]
    for _ in range(5):
        others[0].turn()
    with calls_of(db, "ann", deployment) as calls:
        (callback,) = calls.get(call.id).callbacks
        assert (callback.state, callback.value) == ("done", 1)
    # and the call has ended once
    service.turn()
    assert service.ended == 1


def has_chunks(db: Any) -> bool:
    """Whether any worker holds calls."""
    connection = db.open()
    found = any(area.chunks for area in open_store(connection).areas())
    connection.close()
    return found


def test_the_bound_of_a_plugin_holds_for_short_calls_as_well(db):
    # Given a plugin that is known to be short, and of which one call runs at a time
    declared = plugin("watched", max_running=1)(lambda attempt: None)
    settings = WorkerSettings.from_kwargs(db=db, plugins={"watched": declared})
    service = Service(db, deployment_for(settings, None), settings, name="bounded")
    service.dispatcher._took["watched"] = (100, 0.0)

    def may_run(count: int) -> bool:
        held = [Held(b"%d" % n, str(n), ("", "ann"), "watched", 1, 0) for n in range(count)]
        return service.dispatcher.may_run_at_once(service.holdings, held)

    # Then one may begin before it is accepted, and not two
    assert may_run(1)
    assert not may_run(2)


@pytest.mark.parametrize("which", [0, 1])
def test_a_call_that_has_to_be_put_aside_is_accepted_first(db, monkeypatch, which):
    """Only what is in a chunk of the worker's is its to put aside."""
    # Given an idle worker, and a plugin that is known to be short
    plugins = {"short": lambda attempt: attempt.number}
    settings = WorkerSettings.from_kwargs(db=db, plugins=plugins)
    service = Service(db, deployment_for(settings, None), settings, name="idle")
    service.open()
    service.dispatcher._took["short"] = (100, 0.0)
    deployment = deployment_of(plugins)
    with calls_of(db, "ann", deployment) as calls:
        ids = [calls.put("short").id for _ in range(2)]
    inner, seen = service.acceptor.order, []

    def order(writing: Any, held: Held) -> Any:
        is_accepted = writing.area.has(writing.record(held), held.chunk)
        seen.append(is_accepted)
        if held.call_id == ids[which] and not is_accepted:
            return Report(held, Outcome(parked=True))
        return inner(writing, held)

    monkeypatch.setattr(service.acceptor, "order", order)
    # When one of two calls cannot be run at the first look
    for _ in range(20):
        service.turn()
        if service.holdings.running:
            service.bell.wait_for_report(10)
    # Then it is not lost, and none has begun before
    assert seen == [False, False, True, True]
    with calls_of(db, "ann", deployment) as calls:
        assert [calls.get(call).result for call in ids] == [1, 1]
    service.stop_threads(1.0)
    service.close()
