# SPDX-License-Identifier: ZPL-2.1
"""What becomes of calls whose worker dies, is stopped, or comes back from the dead."""

from __future__ import annotations

import threading

import pytest
from ZEO.Exceptions import ClientDisconnected

from tests.integration.stepping import Site, accept_only
from wsgi_zasync import CallState, RetryPolicy
from wsgi_zasync.errors import Fenced
from wsgi_zasync.store import open_store
from wsgi_zasync.store.parking import park


@pytest.fixture
def site():
    site = Site()
    yield site
    site.close()


@pytest.mark.parametrize("runs", ["thread", "transaction", "reactor"])
def test_what_a_dead_worker_had_accepted_is_run_by_another(site, runs):
    ran = []
    site.add("note", lambda attempt, n: ran.append(n), runs=runs)
    calls = [site.put("note", n) for n in range(3)]
    first, second = site.service("first"), site.service("second")
    accept_only(first)
    site.work(second)
    assert ran == []

    site.let_die(first)

    assert sorted(ran) == [0, 1, 2]
    assert {site.state(call) for call in calls} == {CallState.SUCCEEDED}


def test_a_worker_takes_over_at_once_from_the_last_one_of_its_name(site, caplog):
    ran = []
    site.add("note", lambda attempt: ran.append(1))
    call = site.put("note")
    accept_only(site.service("both"))

    # When another one of that name begins, and no time goes by
    site.work(site.service("both"))

    assert (ran, site.state(call)) == ([1], CallState.SUCCEEDED)
    assert "took over from worker both, which had the name of this one: 1 call" in caplog.text


def test_a_worker_that_lives_keeps_its_calls(site):
    ran = []
    site.add("note", lambda attempt: ran.append(1))
    site.put("note")
    first, second = site.service("first"), site.service("second")
    accept_only(first)

    for _ in range(10):
        site.clock.advance(5.1)
        first.turn()
        site.work(second)

    assert ran == []


@pytest.mark.parametrize("when", ["before it is looked at again", "before the fence is written"])
def test_a_worker_that_gives_a_sign_of_life_at_the_last_moment_keeps_its_calls(site, when):
    # Given a worker whose board has been still for so long that another one thinks it dead
    ran = []
    site.add("note", lambda attempt: ran.append(1))
    call = site.put("note")
    first, second = site.service("first"), site.service("second")
    accept_only(first)
    take_over, commit = second.rescuer._take_over, second.membership.commit
    is_taking_over, beaten = [], []

    def beat():
        if not beaten:
            first.turn()
            beaten.append(1)

    def late_take_over(key, serial):
        if when == "before it is looked at again":
            beat()
        is_taking_over.append(1)
        try:
            return take_over(key, serial)
        finally:
            is_taking_over.pop()

    def late_commit(transaction, oids=()):
        if is_taking_over and when == "before the fence is written":
            beat()
        commit(transaction, oids)

    second.rescuer._take_over, second.membership.commit = late_take_over, late_commit

    # When it shows that it lives just before it is taken over
    for _ in range(10):
        if beaten:
            break
        site.work(second)
        site.clock.advance(5.1)

    # Then nobody takes its calls away
    assert beaten == [1]
    with site.db.transaction() as connection:
        assert {area.name for area in open_store(connection).areas()} == {"first", "second"}
    del first.dispatcher.room
    site.work(first)
    assert site.state(call) == CallState.SUCCEEDED
    assert ran == [1]


def test_two_workers_of_one_name_do_not_take_over_from_each_other_for_ever(site):
    ran = []
    site.add("note", lambda attempt, n: ran.append(n))
    # Given a worker whose place was taken by another one of its name, and which begins anew
    first = site.service("both")
    site.work(first)
    second = site.service("both")
    site.work(second)
    with pytest.raises(Fenced):
        site.work(first)
    first.start_anew()

    # When both go on
    for n in range(4):
        site.put("note", n)
        for service in (first, second):
            site.clock.advance(5.1)
            site.work(service)

    # Then each keeps its place
    assert ran == [0, 1, 2, 3]
    with site.db.transaction() as connection:
        assert [area.name for area in open_store(connection).areas()] == ["both", "both"]


def test_what_was_seen_before_an_outage_makes_nobody_dead_after_it(site):
    # Given a worker that has been still for half the time that makes it dead
    ran = []
    site.add("note", lambda attempt: ran.append(1))
    site.put("note")
    first, second = site.service("first"), site.service("second", one_by_one=False)
    accept_only(first)
    half = site.worker.settings.dead_after / 2
    site.work(second)
    site.clock.advance(half)
    site.work(second)

    # When the storage was away, and the other half goes by
    second.rescuer.forget()
    for _ in range(2):
        site.clock.advance(half)
        site.work(second)

    # Then that counts only from the first look after it
    assert ran == []
    site.clock.advance(half)
    site.work(second)
    assert ran == [1]


@pytest.mark.parametrize("when", ["before the fence is written", "after that"])
@pytest.mark.parametrize("how_far", ["all", "the fence"])
def test_two_workers_that_take_over_from_one_at_the_same_moment_run_its_calls_once(
    site, when, how_far
):
    # Given a dead worker, and one that is about to take over from it
    ran = []
    site.add("note", lambda attempt: ran.append(attempt.call_id))
    call = site.put("note")
    first, second, third = (site.service(name) for name in ("first", "second", "third"))
    accept_only(first)
    area_oid = first.membership.area_oid
    with site.db.transaction() as connection:
        connection.get(area_oid).fence.taken_by = "somebody who is no more"
    take_over, commit, met = third.rescuer._take_over, third.membership.commit, []

    def overtake():
        met.append(when)
        if how_far == "all":
            [adopted] = second.rescuer.look()
            second._adopt(adopted)
            return
        with site.db.transaction() as connection:
            connection.get(area_oid).fence.taken_by = "another one"

    def take_over_too_late(key, serial):
        if when == "before the fence is written" and not met:
            overtake()
        third.membership.commit = commit_and_be_overtaken
        try:
            return take_over(key, serial)
        finally:
            third.membership.commit = commit

    def commit_and_be_overtaken(transaction, oids=()):
        commit(transaction, oids)
        if not met:
            overtake()

    third.rescuer._take_over = take_over_too_late

    # When another one is faster
    taken = third.rescuer.look()

    # Then it has nothing of it, unless that one had only begun to when it wrote the fence itself
    assert met == [when]
    is_ours = when == "before the fence is written" and how_far == "the fence"
    assert [list(adopted.held) != [] for adopted in taken] == [True] * is_ours
    third.rescuer._take_over = take_over
    for adopted in taken:
        third._adopt(adopted)
    for service in (second, third, second, third):
        site.work(service)
    assert ran == [call]
    assert site.state(call) is CallState.SUCCEEDED


@pytest.mark.parametrize("runs", ["thread", "transaction"])
def test_a_worker_that_comes_back_commits_nothing(site, runs):
    # Given a worker that is at a call, and stops
    begun, go_on = threading.Event(), threading.Event()
    ran = []

    def slow(attempt):
        ran.append(attempt.call_id)
        if len(ran) == 1:
            begun.set()
            go_on.wait(10)
        if runs == "transaction":
            attempt.root["n"] = attempt.root.get("n", 0) + 1
        return len(ran)

    site.add("slow", slow, runs=runs)
    call = site.put("slow")
    first, second = site.service("first"), site.service("second")
    first.turn()
    assert begun.wait(5)

    # When it is taken over, the call is run by the other, and the first one goes on
    site.let_die(first)
    assert site.state(call) == CallState.SUCCEEDED
    go_on.set()
    # The thread that ran it reports, or finds the fence taken
    for _ in range(200):
        first.bell.wait(0.05)
        if len(first.bell) or first.bell.take_fenced():
            break
    fenced = False
    try:
        first.turn()
    except Exception as exc:
        fenced = type(exc).__name__ in ("Fenced", "ReadConflictError")
    if runs == "thread":
        assert fenced

    # Then nothing of the first one was committed
    with site.calls() as calls:
        assert calls.get(call).result == 2
        assert calls.root.get("n", 1) == 1
    assert second.ended == 1

    # And it begins anew, and works
    first.start_anew()
    other = site.put("slow")
    site.work(first)
    site.work(second)
    assert site.state(other) == CallState.SUCCEEDED


@pytest.mark.parametrize(("calls", "trees"), [(3, 1), (8, 2)])
def test_a_call_that_waits_for_long_leaves_no_tree_behind_at_each_restart(
    site, monkeypatch, calls, trees
):
    monkeypatch.setattr("wsgi_zasync.store.accepted.FEW_WAITING", 5)
    site.add("echo", lambda attempt: 1)
    with site.calls() as manager:
        ids = [manager.options(begin_after=86_400).put("echo").id for _ in range(calls)]

    # When workers come and go
    for n in range(6):
        service = site.service(f"number {n}")
        site.work(service)
        site.clock.advance(5.1)
        service.release()

    # Then all that waits is in few trees, and runs when its time has come
    with site.db.transaction() as connection:
        areas = open_store(connection).areas()
        assert [len(area.waiting) for area in areas] == [trees]
        assert sum(len(tree) for area in areas for tree in area.waiting) == calls
    site.clock.advance(86_400)
    site.work(site.service("last"))
    assert {site.state(each) for each in ids} == {CallState.SUCCEEDED}


def test_what_a_worker_gives_back_is_no_interruption(site):
    ran = []
    site.add("note", lambda attempt, n: ran.append(n))
    for n in range(3):
        site.put("note", n)
    for name in ("a", "b", "c", "d"):
        service = site.service(name)
        accept_only(service)
        service.release()

    last = site.service("last")
    site.work(last)

    assert sorted(ran) == [0, 1, 2]


def test_a_call_that_kills_its_workers_fails_and_its_neighbours_do_not_suffer(site):
    # Given ten calls of which one kills whoever runs it
    ran = []
    site.add("note", lambda attempt, n: ran.append(n))
    calls = [site.put("note", n) for n in range(10)]
    deadly = 4

    class Killed(Exception):
        pass

    def stop_before_deadly(service):
        inner = service.dispatcher.hand_out

        def hand_out(orders, holdings):
            orders = list(orders)
            if any(order.args == (deadly,) for order in orders):
                raise Killed
            inner(orders, holdings)

        service.dispatcher.hand_out = hand_out

    # When worker after worker takes over
    deaths = 0
    for n in range(8):
        service = site.service(f"w{n}")
        stop_before_deadly(service)
        try:
            for _ in range(6):
                site.work(service, 60)
                site.clock.advance(5.1)
        except Killed:
            deaths += 1
            service.turn = lambda **_: False
            site.services.remove(service)
            service.close()
            continue
        break

    # Then it has killed three, has failed, and all the others have ended well
    states = [site.state(call) for call in calls]
    assert deaths == 3
    assert states.count(CallState.SUCCEEDED) == 9
    assert states[deadly] == CallState.FAILED
    with site.calls() as found:
        assert found.get(calls[deadly]).failure.type == "Interrupted"


@pytest.mark.parametrize(
    ("stopped", "bound", "state"),
    [(True, 2, "succeeded"), (False, 2, "failed"), (False, 4, "succeeded")],
)
def test_a_call_that_ran_alone_is_at_fault_for_what_killed_its_worker_and_for_no_stop(
    site, stopped, bound, state
):
    # Given a call that runs alone, after its chunk was interrupted twice
    ran = []
    site.add("note", lambda attempt: ran.append(1), retry=RetryPolicy(interruptions=bound))
    call = site.put("note")
    first = site.service("first")
    accept_only(first)
    with first.acceptor.desk.transaction() as txn:
        chunk = first.acceptor.writing(txn).area.chunks[0]
        chunk.interruptions, chunk.begun = 2, chunk.calls[0]._p_oid
        first.membership.commit(txn)
    # When its worker stops, or dies
    if stopped:
        first.release()
    site.service("second")
    site.let_die(first)
    # Then it fails if that was its fault, and more than it may cause
    with site.calls() as calls:
        found = calls.get(call)
        assert found.state == state
        if state == "failed":
            assert (found.failure.type, found.failure.attempt) == ("Interrupted", 1)
    assert ran == [1] * (state == "succeeded")


def test_callbacks_that_two_dead_workers_have_left_are_evaluated_by_the_third(site):
    # Given a call that has ended without its callback, in a commit of a worker that is dead
    site.add("note", lambda attempt: None)
    with site.calls() as calls:
        call = calls.put("note").on_cancel("string:told").id
    first, second = site.service("first"), site.service("second")
    accept_only(first)
    with first.acceptor.desk.transaction() as txn:
        writing = first.acceptor.writing(txn)
        record = writing.area.chunks[0].calls[0]
        record.cancel(site.clock.micros())
        writing.store.count_end(writing.tallies, record)
        first.membership.commit(txn)
    # When the one that takes over dies as well, after a commit and before it has evaluated that
    inner = second.holdings.adopt
    second.holdings.adopt = lambda adopted: inner(adopted) and []
    site.let_die(first)
    second.release()
    # Then the next one does
    site.work(site.service("third"))
    with site.calls() as calls:
        [callback] = calls.get(call).callbacks
        assert callback.value == "told"


def test_a_call_that_must_not_be_repeated_fails_when_it_is_interrupted(site):
    ran = []
    once = RetryPolicy(attempts=1, interruptions=1)
    site.add("pay", lambda attempt: ran.append(1), retry=once)
    call = site.put("pay")
    first, _second = site.service("first"), site.service("second")
    accept_only(first)

    site.let_die(first)

    assert ran == []
    with site.calls() as calls:
        assert calls.get(call).failure.type == "Interrupted"


def test_a_call_in_two_chunks_of_a_dead_worker_runs_once(site):
    ran, go_on = [], threading.Event()

    def note(attempt, n):
        ran.append(n)
        go_on.wait(10)

    site.add("note", note)
    calls = [site.put("note", n) for n in range(2)]
    first = site.service("first")
    accept_only(first)
    # Given a call that was retried while its neighbour still ran, so that both chunks have it
    with first.acceptor.desk.transaction() as txn:
        area = first.acceptor.writing(txn).area
        retried = area.chunks[0].calls[0]
        area.keep(area.next_number(), [retried])
        first.membership.commit(txn)

    # When another worker takes over, and runs all that it has at a time
    second = site.service("second", one_by_one=False)
    for _ in range(6):
        second.turn()
        site.clock.advance(5.1)
    for _ in range(100):
        if len(ran) == len(calls):
            break
        second.bell.wait(0.02)
        second.turn()

    # Then each runs once, that one from the chunk that came later
    assert sorted(ran) == [0, 1]
    assert len(second.holdings.backlog) == 0
    running = {order.held.oid: order.held.chunk for order in second.holdings.running.values()}
    assert running.pop(retried._p_oid) > max(running.values())
    go_on.set()
    site.work(second)
    assert {site.state(call) for call in calls} == {CallState.SUCCEEDED}
    assert sorted(ran) == [0, 1]


def test_what_waits_elsewhere_is_not_run_from_the_chunk_that_it_left(site):
    # Given calls that were put off and put aside, whose chunk their worker did not drop any more
    ran = []
    site.add("note", lambda attempt, n: ran.append(n))
    later, aside, other = (site.put("note", n) for n in range(3))
    first = site.service("first")
    accept_only(first)
    due = site.clock.micros() + 3_600_000_000
    with first.acceptor.desk.transaction() as txn:
        writing = first.acceptor.writing(txn)
        found = {record.id: record for record in writing.area.chunks[0].calls}
        found[later].wait("later", due)
        writing.area.wait(found[later], due)
        park(writing.store.site, found[aside])
        first.membership.commit(txn)

    # When another worker, which looks at what was put aside no more, takes over
    second = site.service("second")
    second.membership.plugins = {}
    site.let_die(first)

    # Then it runs the other one only, and each of these when its time has come
    assert ran == [2]
    assert site.state(other) == CallState.SUCCEEDED
    second.membership.plugins = {"note": None}
    site.clock.advance(3600)
    site.work(second)
    assert sorted(ran) == [0, 1, 2]
    assert site.state(later) == site.state(aside) == CallState.SUCCEEDED


@pytest.mark.parametrize("stopped", [False, True])
def test_what_is_taken_over_of_a_plugin_that_is_not_known_here_is_put_aside(site, stopped):
    ran = []
    site.add("note", lambda attempt: ran.append("note"))
    site.add("theirs", lambda attempt: ran.append("theirs"))
    note, theirs = site.put("note"), site.put("theirs")
    first = site.service("first")
    accept_only(first)
    if stopped:
        first.release()

    plugins = dict(site.plugins)
    del site.plugins["theirs"]
    second = site.service("second")
    site.let_die(first)

    assert ran == ["note"]
    assert site.state(note) == CallState.SUCCEEDED
    with site.calls() as calls:
        assert "'theirs'" in calls.get(theirs).waiting_reason
    assert len(second.holdings) == 0
    # It runs once a worker comes that has the plugin.
    site.plugins.update(plugins)
    site.work(site.service("third"))
    assert ran == ["note", "theirs"]


def test_progress_and_running_are_on_the_board(site):
    go_on, begun = threading.Event(), threading.Event()

    def slow(attempt):
        attempt.progress(0.25, "a quarter")
        begun.set()
        go_on.wait(10)

    site.add("slow", slow)
    call = site.put("slow")
    service = site.service("first")
    service.turn()
    assert begun.wait(5)
    site.clock.advance(2.5)
    service.turn()

    with site.calls() as calls:
        found = calls.get(call)
        assert (found.state, found.attempts) == (CallState.RUNNING, 1)
        assert tuple(found.progress) == (0.25, "a quarter")
    go_on.set()
    site.work(service)
    assert site.state(call) == CallState.SUCCEEDED


@pytest.mark.parametrize("runs", ["thread", "transaction", "reactor"])
def test_a_running_call_that_is_cancelled_stops_and_is_cancelled(site, runs):
    begun, stopped = threading.Event(), threading.Event()
    wait = threading.Event()

    def slow(attempt):
        if runs == "transaction":
            attempt.root["effect"] = True
        begun.set()
        while not attempt.is_cancelled:
            wait.wait(0.005)
        stopped.set()
        return "too late"

    def slow_deferred(attempt):
        from twisted.internet.defer import Deferred

        begun.set()
        return Deferred(lambda _: stopped.set())

    site.add("slow", slow_deferred if runs == "reactor" else slow, runs=runs)
    call = site.put("slow")
    service = site.service("first")
    service.turn()
    assert begun.wait(5)
    site.clock.advance(2.5)
    service.turn()
    with site.calls() as calls:
        calls.cancel(call)
        assert calls.get(call).cancel_requested
    assert site.state(call) == CallState.RUNNING

    service.turn()
    assert stopped.wait(5)
    site.work(service)

    assert site.state(call) == CallState.CANCELLED
    with site.calls() as calls:
        assert "effect" not in calls.root


@pytest.mark.parametrize("runs", ["thread", "transaction", "reactor"])
@pytest.mark.parametrize("broken", range(4))
def test_a_commit_of_which_nobody_knows_whether_it_came_about_strands_nothing(site, runs, broken):
    # Given a storage that goes away just after the server has committed, once
    done = []
    site.add("note", lambda attempt, n: done.append(n), runs=runs)
    service = site.service("first")
    inner, commits = service.membership.commit, []

    def commit(transaction, oids=()):
        inner(transaction, oids)
        commits.append(1)
        if len(commits) == broken + 1:
            raise ClientDisconnected("gone before it could say so")

    service.membership.commit = commit
    calls = [site.put("note", n) for n in range(3)]

    # When the worker goes on
    for _ in range(12):
        try:
            site.work(service)
        except ClientDisconnected:
            service.rescuer.forget()
        site.clock.advance(5.1)

    # Then all have ended, and nothing is held any more
    assert {site.state(call) for call in calls} == {CallState.SUCCEEDED}
    assert set(done) == {0, 1, 2}
    assert len(service.holdings) == 0
    with site.db.transaction() as connection:
        [area] = open_store(connection).areas()
        service.turn()
        assert len(area.chunks) <= 1


def test_a_call_put_off_in_such_a_commit_waits_once(site):
    ran = []

    def flaky(attempt):
        ran.append(attempt.number)
        if attempt.number == 1:
            raise ConnectionError
        return attempt.number

    site.add("flaky", flaky, retry=RetryPolicy(attempts=3, delay_seconds=1, jitter=0))
    service = site.service("first")
    inner, commits = service.membership.commit, []

    def commit(transaction, oids=()):
        inner(transaction, oids)
        if ran and not commits:
            commits.append(1)
            raise ClientDisconnected("gone before it could say so")

    service.membership.commit = commit
    call = site.put("flaky")
    for _ in range(6):
        try:
            site.work(service)
        except ClientDisconnected:
            service.rescuer.forget()
        site.clock.advance(5.1)

    assert ran == [1, 2]
    assert site.state(call) == CallState.SUCCEEDED
