# SPDX-License-Identifier: ZPL-2.1
"""Calls as a worker runs them, step by step, on a database in memory."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import transaction
from persistent.mapping import PersistentMapping
from twisted.internet import defer
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError, ReadConflictError

from wsgi_zasync import (
    CallFailed,
    CallState,
    ConfigurationError,
    InvalidArguments,
    Principal,
    Retry,
    RetryPolicy,
    Secret,
    Unauthorized,
    plugin,
)
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import FakeClock, calls_of, deployment_of, memory_db
from wsgi_zasync.worker import Worker


class Site:
    """A database, a clock, and the plugins of a test."""

    def __init__(self, **settings):
        self.db = memory_db()
        self.clock = FakeClock()
        self.plugins = {}
        self.settings = settings
        self.workers = []

    def add(self, name, function=None, **declared):
        if function is None:
            return lambda f: self.add(name, f, **declared)
        self.plugins[name] = plugin(name, **declared)(function)
        return function

    def deployment(self):
        policy = self.settings.get("policy") or DefaultPolicy(
            self.settings.get("roles"), self.settings.get("permissions")
        )
        return deployment_of(self.plugins, clock=self.clock, policy=policy)

    def calls(self, user="ann", **more):
        return calls_of(self.db, user, self.deployment(), **more)

    def put(self, *args, user="ann", options=None, then=lambda call: None, **kwargs):
        with self.calls(user) as calls:
            call = calls.options(**(options or {})).put(*args, **kwargs)
            then(call)
            return call.id

    def worker(self, **more):
        worker = Worker(self.db, plugins=self.plugins, clock=self.clock, **self.settings, **more)
        self.workers.append(worker)
        return worker

    def run(self, worker=None):
        worker = worker or (self.workers[0] if self.workers else self.worker())
        return worker.run_once()

    def of(self, call_id, *names, user="ann"):
        with self.calls(user) as calls:
            call = calls.get(call_id)
            found = tuple(getattr(call, name) for name in names)
        return found[0] if len(names) == 1 else found

    def root(self, look):
        with self.calls() as calls:
            return look(calls.root)

    def close(self):
        for worker in self.workers:
            worker.stop()
        self.db.close()


@pytest.fixture
def site(request):
    site = Site(**getattr(request, "param", {}))
    yield site
    site.close()


# -- the four ways to run ------------------------------------------------------------------


def test_a_plugin_in_a_thread_gives_its_result(site):
    @site.add("add")
    def add(attempt, a, b=0):
        return a + b

    call = site.put("add", 1, b=2)

    assert site.run() == 1
    assert site.of(call, "state", "result", "attempts") == (CallState.SUCCEEDED, 3, 1)


@pytest.mark.parametrize("kind", ["value", "deferred", "later", "coroutine"])
def test_a_plugin_in_the_reactor_gives_a_value_a_deferred_or_a_coroutine(site, kind):
    @site.add("get", runs="reactor")
    def get(attempt):
        from twisted.internet import reactor, task

        async def coroutine():
            await task.deferLater(reactor, 0.01)
            return "done"

        return {
            "value": lambda: "done",
            "deferred": lambda: defer.succeed("done"),
            "later": lambda: task.deferLater(reactor, 0.01, lambda: "done"),
            "coroutine": coroutine,
        }[kind]()

    call = site.put("get")
    site.run()

    assert site.of(call, "result") == "done"


def test_effects_of_a_transaction_and_its_outcome_are_one(site):
    @site.add("count", runs="transaction")
    def count(attempt):
        attempt.root["n"] = attempt.root.get("n", 0) + 1
        return attempt.root["n"]

    calls = [site.put("count") for _ in range(3)]
    site.run()

    assert sorted(site.of(call, "result") for call in calls) == [1, 2, 3]
    assert site.root(lambda root: root["n"]) == 3


def test_a_transaction_that_fails_leaves_no_effects(site):
    @site.add("break", runs="transaction")
    def broken(attempt):
        attempt.root["n"] = 1
        raise ValueError("after writing")

    call = site.put("break")
    site.run()

    assert site.of(call, "failure").type == "ValueError"
    assert site.root(lambda root: "n" not in root)


def test_a_transaction_whose_effects_cannot_be_stored_fails(site):
    ran = []

    @site.add("break", runs="transaction")
    def broken(attempt):
        ran.append(attempt.number)
        attempt.root["n"] = lambda: None

    call = site.put("break", then=lambda call: call.on_any("string:ended"))
    site.run()

    assert site.of(call, "state") == CallState.FAILED
    assert site.root(lambda root: "n" not in root)
    # It is the plugin's fault, and nothing that may be gone at another try or without callbacks.
    assert ran == [1]
    assert [callback.value for callback in site.of(call, "callbacks")] == ["ended"]


def test_a_transaction_whose_result_cannot_be_stored_leaves_no_effects(site):
    @site.add("write", runs="transaction")
    def write(attempt):
        attempt.root["n"] = 1
        return object()

    call = site.put("write")
    site.run()

    assert site.of(call, "state", "attempts") == (CallState.FAILED, 1)
    assert site.of(call, "failure").type == "InvalidResult"
    assert site.root(lambda root: "n" not in root)


def test_a_conflict_runs_a_transaction_again_and_costs_no_attempt(site):
    tries = []

    @site.add("count", runs="transaction")
    def count(attempt):
        tries.append(attempt.number)
        attempt.root["n"] = len(tries)
        if len(tries) < 3:
            raise ConflictError("somebody was faster")
        return len(tries)

    call = site.put("count")
    site.run()

    assert site.of(call, "result", "attempts") == (3, 1)
    assert tries == [1, 1, 1]


def test_conflicts_are_bounded(site):
    @site.add("count", runs="transaction", retry=RetryPolicy(attempts=1, conflicts=2))
    def count(attempt):
        raise ConflictError("always")

    call = site.put("count")
    site.run()

    assert site.of(call, "failure").type == "ConflictError"


def test_a_real_conflict_is_seen_by_the_commit(site):
    tries = []

    @site.add("count", runs="transaction")
    def count(attempt):
        tries.append(attempt.root.get("n", 0))
        attempt.root["n"] = tries[-1] + 1
        if len(tries) == 1:
            with site.calls() as other:
                other.root["n"] = 10

    site.put("count")
    site.run()

    assert tries == [0, 10]
    assert site.root(lambda root: root["n"]) == 11


def test_a_process_plugin_is_refused_when_the_worker_is_made(site):
    @site.add("child", runs="process")
    def child(attempt):
        return 1

    with pytest.raises(ConfigurationError, match="process"):
        site.worker()


def test_options_that_a_plugin_cannot_read_are_refused_when_the_worker_is_made(site):
    with pytest.raises(ConfigurationError, match=r"\[plugin:http\.get\] max_bytes: 'many'"):
        Worker(site.db, plugin_options={"http.get": {"max_bytes": "many"}})
    Worker(site.db, plugin_options={"http.get": {"max_bytes": "1000", "timeout": "5"}})


def test_a_plugin_without_a_transaction_has_no_root(site):
    @site.add("look")
    def look(attempt):
        return attempt.root

    call = site.put("look")
    site.run()

    assert "runs=" in site.of(call, "failure").message


@pytest.mark.parametrize("kind", ["coroutine", "deferred"])
def test_a_plugin_in_a_thread_that_is_to_be_awaited_says_where_it_belongs(site, kind):
    async def coroutine(attempt):
        return 1

    site.add("wrong")(coroutine if kind == "coroutine" else lambda attempt: defer.succeed(1))

    call = site.put("wrong")
    site.run()

    assert 'runs="reactor"' in site.of(call, "failure").message


# -- what a plugin is given --------------------------------------------------------------------


def test_an_attempt_knows_its_call(site):
    seen = []

    @site.add("see")
    def see(attempt):
        seen.append((attempt.call_id, attempt.number, attempt.principal.id, attempt.is_cancelled))
        attempt.log.info("here")
        attempt.progress(0.5, "half\x1b")

    call = site.put("see")
    site.run()

    assert seen == [(call, 1, "ann", False)]


def test_the_idempotency_key_stays_the_same_and_is_not_the_id(site):
    seen = []

    @site.add("see", retry=RetryPolicy(attempts=3, delay_seconds=0))
    def see(attempt):
        seen.append(attempt.idempotency_key)
        raise ValueError

    call = site.put("see")
    worker = site.worker()
    for _ in range(3):
        site.clock.advance(1)
        worker.run_once()

    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert call not in seen[0]


def test_a_plugin_has_the_options_of_its_section(site):
    site.add("see", lambda attempt: dict(attempt.settings))
    site.settings["plugin_options"] = {"see": {"colour": "red", "timeout": "5"}}

    call = site.put("see")
    site.run()

    assert site.of(call, "result") == {"colour": "red"}


def test_objects_are_given_to_a_transaction_and_readable_in_a_thread(site):
    site.add("write", lambda attempt, box: box.update(n=box["n"] + 1), runs="transaction")
    site.add("read", lambda attempt, box: box["n"])

    @site.add("scribble")
    def scribble(attempt, box):
        box["n"] = 99

    @site.add("stumble")
    def stumble(attempt, box):
        box["n"] = 99
        raise ValueError("over itself")

    def put(name):
        with site.calls() as calls:
            if "box" not in calls.root:
                calls.root["box"] = PersistentMapping(n=1)
                calls.connection.add(calls.root["box"])
            return calls.put(name, calls.root["box"]).id

    write = put("write")
    site.run()
    read, wrong, raised = put("read"), put("scribble"), put("stumble")
    site.run()

    assert site.of(write, "state") == CallState.SUCCEEDED
    assert site.of(read, "result") == 2
    assert 'runs="transaction"' in site.of(wrong, "failure").message
    assert site.of(raised, "failure").message == "over itself"
    assert site.root(lambda root: root["box"]["n"]) == 2


def test_a_secret_is_opened_for_the_plugin_only_and_erased_at_the_end(site, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"k" * 40)
    secret.chmod(0o600)
    site.settings["secret"] = f"file:{secret}"
    from wsgi_zasync.opening import deployment_for, keys_for
    from wsgi_zasync.settings import WorkerSettings

    settings = WorkerSettings.from_kwargs(db=site.db, secret=f"file:{secret}")
    seen = []

    @site.add("login")
    def login(attempt, password):
        seen.append(password.reveal())
        raise ValueError(f"wrong password hunter2 for {password.reveal()}")

    settings = settings.evolve(plugins=site.plugins)
    deployment = deployment_for(settings, keys_for(settings, lambda: site.db), site.clock)
    with calls_of(site.db, "ann", deployment) as calls:
        call = calls.put("login", Secret("tr0ub4dor")).id
    site.run()

    failure = site.of(call, "failure")
    assert seen == ["tr0ub4dor"]
    assert "tr0ub4dor" not in failure.message
    with site.calls() as calls:
        assert calls.get(call)._record.args[0].content == b""


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", ["thread", "reactor", "transaction"])
def test_what_a_plugin_raises_is_a_failure(site, runs):
    @site.add("fail", runs=runs)
    def fail(attempt):
        raise KeyError("nothing here")

    call = site.put("fail")
    site.run()

    state, failure, attempts = site.of(call, "state", "failure", "attempts")
    assert (state, failure.type, failure.attempt, attempts) == ("failed", "KeyError", 1, 1)
    with site.calls() as calls, pytest.raises(CallFailed):
        calls.get(call).result


@pytest.mark.parametrize("runs", ["thread", "reactor", "transaction"])
def test_a_plugin_that_exits_ends_its_call_and_not_the_worker(site, runs):
    site.add("exit", lambda attempt: (_ for _ in ()).throw(SystemExit(3)), runs=runs)
    site.add("add", lambda attempt: 1)

    first = site.put("exit")
    second = site.put("add")
    site.run()

    assert site.of(first, "failure").type == "SystemExit"
    assert site.of(second, "result") == 1


@pytest.mark.parametrize("runs", ["thread", "transaction", "reactor"])
def test_a_result_that_cannot_be_stored_is_a_failure(site, runs, caplog):
    site.add("odd", lambda attempt: {"x": [1, object()]}, runs=runs)

    call = site.put("odd")
    site.run()

    (line,) = [record.message for record in caplog.records if " failed " in record.message]
    assert line.endswith(" (InvalidResult)")

    failure = site.of(call, "failure")
    assert failure.type == "InvalidResult"
    assert "result['x'][1]" in failure.message


@pytest.mark.parametrize("runs", ["thread", "transaction"])
def test_an_object_of_the_database_is_a_result_by_reference(site, runs):
    with site.calls() as calls:
        calls.root["shelf"] = PersistentMapping(book=PersistentMapping(title="Ulysses"))
    site.add("book", lambda attempt, shelf: [shelf["book"], shelf], runs=runs)

    with site.calls() as calls:
        call = calls.put("book", calls.root["shelf"]).id
    site.run()

    with site.calls() as calls:
        shelf = calls.root["shelf"]
        assert [id(each) for each in calls.get(call).result] == [id(shelf["book"]), id(shelf)]


def test_calls_are_equal_if_they_are_the_same_call(site):
    site.add("add", lambda attempt: 1)
    with site.calls() as calls:
        one, other = calls.put("add"), calls.put("add")
    with site.calls() as calls:
        found = calls.get(one.id)
        assert found in calls.mine()
        assert (found == one, found == other, found == one.id) == (True, False, False)
        assert {found, one, other} == {one, other}


def test_an_object_that_is_in_no_database_is_no_result(site):
    site.add("new", lambda attempt, shelf: PersistentMapping())

    with site.calls() as calls:
        calls.root["shelf"] = PersistentMapping()
    with site.calls() as calls:
        call = calls.put("new", calls.root["shelf"]).id
    site.run()

    assert "not in the database yet" in site.of(call, "failure").message


@pytest.mark.parametrize("runs", ["thread", "transaction"])
def test_a_plugin_in_a_thread_that_takes_too_long_has_failed(site, runs):
    release = threading.Event()
    site.clock = None  # the real one

    @site.add("hang", runs=runs, timeout=0.05)
    def hang(attempt):
        release.wait(10)
        return 1

    call = site.put("hang")
    site.run()
    release.set()

    assert site.of(call, "failure").type == "TimedOut"


def test_a_plugin_in_the_reactor_that_takes_too_long_is_cancelled(site):
    cancelled = threading.Event()

    @site.add("hang", runs="reactor", timeout=0.05)
    def hang(attempt):
        return defer.Deferred(lambda _: cancelled.set())

    call = site.put("hang")
    site.run()

    assert site.of(call, "failure").type == "TimedOut"
    assert cancelled.wait(5)


def test_the_timeout_of_a_call_goes_before_that_of_its_plugin(site):
    site.add("hang", lambda attempt: defer.Deferred(), runs="reactor", timeout=60)

    call = site.put("hang", options={"timeout": 0.05})
    site.run()

    assert "0.05" in site.of(call, "failure").message


def test_a_policy_for_timeouts_is_one_for_an_attempt_that_takes_too_long(site):
    @site.add("hang", runs="reactor", timeout=0.05)
    def hang(attempt):
        return attempt.number if attempt.number > 1 else defer.Deferred()

    policy = RetryPolicy(attempts=2, delay_seconds=1, on=(TimeoutError,))
    call = site.put("hang", options={"retry": policy})
    site.run()
    site.clock.advance(2)
    site.run()

    assert site.of(call, "result") == 2


# -- waiting ---------------------------------------------------------------------------------------


def test_a_call_waits_until_it_is_due(site):
    site.add("add", lambda attempt: 1)

    call = site.put("add", options={"begin_after": timedelta(minutes=5)})
    worker = site.worker()

    assert worker.run_once() == 0
    site.clock.advance(299)
    assert worker.run_once() == 0
    due, reason = site.of(call, "due", "waiting_reason")
    assert reason == f"not due before {due:%Y-%m-%d %H:%M:%S} UTC"
    site.clock.advance(1)
    assert site.of(call, "state", "waiting_reason") == (CallState.WAITING, None)
    assert worker.run_once() == 1
    assert site.of(call, "state", "waiting_reason") == (CallState.SUCCEEDED, None)


def test_a_call_in_a_queue_that_no_worker_serves_says_so(site):
    site.add("add", lambda attempt: 1)

    call = site.put("add", options={"queue": "night"})
    assert site.of(call, "waiting_reason") is None  # no worker has begun yet
    worker = site.worker()
    assert worker.run_once() == 0
    assert site.of(call, "waiting_reason") == "no worker serves the queue 'night'"

    # And runs with one who does
    assert site.worker(serves=("night",)).run_once() == 1
    assert site.of(call, "state", "waiting_reason") == (CallState.SUCCEEDED, None)


def test_a_call_whose_time_has_come_when_it_is_put_is_due_at_once(site):
    site.add("add", lambda attempt: 1)

    call = site.put("add", options={"begin_after": site.clock.now() - timedelta(days=1)})

    assert site.of(call, "waiting_reason") is None
    assert site.run() == 1


@pytest.mark.parametrize("name", ["expires", "keep", "timeout"])
def test_no_duration_is_endless(site, name):
    with site.calls() as calls, pytest.raises(InvalidArguments, match="finite, not inf"):
        calls.options(**{name: float("inf")})


@pytest.mark.parametrize("name", ["begin_after", "expires", "keep", "timeout"])
def test_no_duration_is_below_0(site, name):
    with site.calls() as calls, pytest.raises(InvalidArguments, match="above 0"):
        calls.options(**{name: -1})


@pytest.mark.parametrize("nothing", [0, 0.0, timedelta()])
def test_a_call_that_has_nothing_to_wait_for_is_due_at_once(site, nothing):
    site.add("add", lambda attempt: 1)

    call = site.put("add", options={"begin_after": nothing})
    site.run()

    assert site.of(call, "state", "due") == (CallState.SUCCEEDED, None)


def test_a_call_that_has_begun_in_time_is_tried_again_later(site):
    @site.add("fetch", retry=RetryPolicy(attempts=2, delay_seconds=60, jitter=0))
    def fetch(attempt):
        raise OSError(f"no answer {attempt.number}")

    call = site.put("fetch", options={"expires": 30})
    site.run()
    site.clock.advance(61)
    site.run()

    assert site.of(call, "state") == CallState.FAILED
    assert site.of(call, "failure").message == "no answer 2"


def test_a_transaction_that_has_begun_in_time_is_done_again_later(site):
    tries = []

    @site.add("count", runs="transaction")
    def count(attempt):
        tries.append(attempt.number)
        attempt.root["n"] = len(tries)
        if len(tries) == 1:
            site.clock.advance(61)
            with site.calls() as other:
                other.root["n"] = 10

    call = site.put("count", options={"expires": 30})
    site.run()

    assert site.of(call, "state", "attempts") == (CallState.SUCCEEDED, 1)
    assert tries == [1, 1]


def test_a_call_that_is_not_begun_in_time_expires(site):
    site.add("add", lambda attempt: 1)

    call = site.put("add", options={"expires": 60})
    site.clock.advance(61)
    site.run()

    assert site.of(call, "state", "attempts") == (CallState.EXPIRED, 0)


class Tardy(DefaultPolicy):
    """A policy that takes a minute to say who somebody is, when it is told to."""

    clock = None

    def principal_now(self, principal, root):
        if self.clock is not None:
            self.clock.advance(61)
        return super().principal_now(principal, root)


@pytest.mark.parametrize("site", [{"policy": Tardy()}], indirect=True)
def test_a_call_that_expires_on_its_way_to_its_thread_has_not_begun(site):
    ran = []
    site.add("count", lambda attempt: ran.append(1), runs="transaction")
    call = site.put("count", options={"expires": 60})

    policy = site.settings["policy"]
    policy.clock = site.clock
    site.run()
    policy.clock = None

    assert site.of(call, "state", "attempts", "started") == (CallState.EXPIRED, 0, None)
    assert not ran


def test_a_cancelled_call_never_runs(site):
    ran = []
    site.add("add", lambda attempt: ran.append(1))

    call = site.put("add", then=lambda call: call.on_cancel("string:gone"))
    with site.calls() as calls:
        calls.cancel(call)
    site.run()

    assert site.of(call, "state") == CallState.CANCELLED
    assert [c.value for c in site.of(call, "callbacks")] == ["gone"]
    assert ran == []


def test_who_cancels_a_call_that_its_worker_keeps_for_later_need_not_wait(site):
    site.add("later", lambda attempt: 1)
    told = {"then": lambda call: call.on_cancel("string:gone")}
    call = site.put("later", options={"begin_after": 3600}, **told)
    site.run()

    with site.calls() as calls:
        calls.cancel(call)
    site.run()

    assert [c.value for c in site.of(call, "callbacks")] == ["gone"]


def test_a_call_that_has_ended_stays_as_it_is_when_it_is_cancelled(site):
    site.add("echo", lambda attempt, value: value)
    call = site.put("echo", 1)
    site.run()

    with site.calls() as calls:
        calls.cancel(call)
    site.run()

    assert site.of(call, "state", "result", "cancel_requested") == (CallState.SUCCEEDED, 1, False)


def test_a_call_that_is_cancelled_counts_as_ended(site):
    site.add("echo", lambda attempt: 1)
    call, other = site.put("echo"), site.put("echo")

    with site.calls() as calls:
        calls.cancel(call)

    with site.calls() as calls:
        assert (calls.count(), calls.count("cancelled"), calls.count("waiting")) == (2, 1, 1)
        assert open_store(calls.connection).tally(("", "ann")).open == 1
        calls.forget(call)
    with site.calls() as calls:
        assert (calls.count(), calls.count("cancelled")) == (1, 0)
        assert [each.id for each in calls.mine()] == [other]


def test_without_a_policy_a_failure_is_final(site):
    ran = []

    @site.add("fail")
    def fail(attempt):
        ran.append(1)
        raise ValueError

    site.put("fail")
    worker = site.worker()
    for _ in range(3):
        site.clock.advance(3600)
        worker.run_once()

    assert ran == [1]


def test_a_retry_policy_runs_a_call_again_with_a_reason_and_in_time(site):
    @site.add("flaky", retry=RetryPolicy(attempts=3, delay_seconds=10, jitter=0))
    def flaky(attempt):
        if attempt.number < 3:
            raise ConnectionError("not yet")
        return attempt.number

    call = site.put("flaky")
    worker = site.worker()
    worker.run_once()
    state, reason, attempts = site.of(call, "state", "waiting_reason", "attempts")
    assert (state, attempts) == (CallState.WAITING, 1)
    assert "ConnectionError" in reason
    site.clock.advance(9)
    worker.run_once()
    assert site.of(call, "attempts") == 1
    site.clock.advance(1)
    worker.run_once()
    site.clock.advance(20)
    worker.run_once()

    assert site.of(call, "result", "attempts") == (3, 3)


def test_a_plugin_can_ask_to_be_run_again(site):
    @site.add("ask")
    def ask(attempt):
        if attempt.number == 1:
            raise Retry("the server is busy", delay=30)
        return "at last"

    call = site.put("ask")
    worker = site.worker()
    worker.run_once()
    assert "busy" in site.of(call, "waiting_reason")
    site.clock.advance(31)
    worker.run_once()

    assert site.of(call, "result") == "at last"


def test_what_waits_survives_its_worker(site):
    @site.add("flaky", retry=RetryPolicy(attempts=2, delay_seconds=10, jitter=0))
    def flaky(attempt):
        if attempt.number == 1:
            raise ConnectionError
        return 1

    call = site.put("flaky")
    site.worker().run_once()
    site.clock.advance(60)
    assert site.worker().run_once() == 1

    assert site.of(call, "result") == 1


def test_a_call_of_an_unknown_plugin_is_parked_and_runs_when_the_plugin_is_back(site):
    site.add("new", lambda attempt: "back")
    call = site.put("new")
    plugins, site.plugins = site.plugins, {}
    site.add("other", lambda attempt: 1)
    other = site.put("other")

    # When a worker without it looks
    site.worker().run_once()

    # Then the call waits with the reason, and stops nobody
    state, reason = site.of(call, "state", "waiting_reason")
    assert state == CallState.WAITING
    assert "new" in reason
    assert site.of(other, "result") == 1

    # And runs with one who knows it
    site.plugins = plugins
    site.worker().run_once()
    assert site.of(call, "result") == "back"


def test_a_call_whose_plugin_does_not_come_back_in_time_expires(site):
    # Given calls that a worker without their plugin has put aside, some of them for a time only
    site.add("old", lambda attempt: 1)
    declare = lambda call: call.on_cancel("string:too late")  # noqa: E731
    calls = [site.put("old", options={"expires": 60}, then=declare) for _ in range(3)]
    patient = site.put("old")
    site.plugins = {}
    worker = site.worker()
    worker.run_once()
    site.clock.advance(59)
    worker.run_once()
    assert {site.of(call, "state") for call in (*calls, patient)} == {CallState.WAITING}

    # When their time is over
    site.clock.advance(1)
    worker.run_once()

    # Then they have ended, and whoever waits for that is told
    assert {site.of(call, "state") for call in calls} == {CallState.EXPIRED}
    assert site.of(calls[0], "callbacks")[0].value == "too late"
    assert site.of(patient, "state") == CallState.WAITING
    # And one that comes too late already is not put aside
    site.add("old", lambda attempt: 1)
    late = site.put("old", options={"expires": 60})
    site.plugins = {}
    site.clock.advance(61)
    site.worker().run_once()
    assert site.of(late, "state") == CallState.EXPIRED
    assert len(site.root(lambda root: list(root["wsgi_zasync"].sites["main"].parked))) == 1


def test_a_parked_call_that_is_forgotten_leaves_nothing_behind(site):
    # Given a call whose plugin never comes back
    site.add("old", lambda attempt: 1)
    call = site.put("old")
    site.plugins = {}
    site.worker().run_once()
    with site.calls() as calls:
        calls.cancel(call)

    with site.calls() as calls:
        calls.forget(call)

    assert not site.root(lambda root: root["wsgi_zasync"].sites["main"].parked)


def test_priorities_are_kept(site):
    order = []
    site.add("note", lambda attempt, text: order.append(text))
    for priority in ("low", "normal", "high"):
        site.put("note", priority, options={"priority": priority})

    site.run()

    assert order == ["high", "normal", "low"]


def test_a_worker_runs_only_the_queues_that_it_serves(site):
    ran = []
    site.add("note", lambda attempt, text: ran.append(text))
    site.put("note", "mail", options={"queue": "mail"})
    site.put("note", "default")

    site.run()
    assert ran == ["default"]
    site.worker(serves=("mail",)).run_once()
    assert ran == ["default", "mail"]


# -- authority -------------------------------------------------------------------------------------


class Directory(DefaultPolicy):
    """A policy whose users come and go."""

    def __init__(self, **tables):
        super().__init__(**tables)
        self.gone = set()
        self.error = None

    def principal_now(self, principal, root):
        if self.error is not None:
            raise self.error
        if principal.id in self.gone:
            raise Unauthorized(f"{principal.id} has left")
        return super().principal_now(principal, root)


def test_a_call_of_somebody_who_has_left_fails_and_does_not_run():
    policy, ran = Directory(), []
    site = Site(policy=policy)
    site.add("add", lambda attempt: ran.append(1))
    call = site.put("add", then=lambda call: call.on_any("string:x"))
    record_of = site.of(call, "_record")

    policy.gone.add("ann")
    site.run()

    with site.db.transaction() as connection:
        record = connection.get(record_of._p_oid)
        assert record.state == "failed"
        assert record.failure[0] == "Unauthorized"
        assert "has left" in record.failure[1]
        assert [c.error for c in record.all_callbacks()] == ["Unauthorized: ann has left"]
    assert ran == []
    site.close()


def test_who_comes_later_under_the_same_name_gets_nothing():
    policy = Directory()
    site = Site(policy=policy)
    site.add("add", lambda attempt: 1)
    site.put("add")
    policy.gone.add("ann")
    site.run()

    policy.gone.clear()
    with site.calls() as calls:
        assert calls.mine() == []
    site.close()


@pytest.mark.parametrize("error", [ConnectionError, SystemExit])
def test_a_directory_that_is_down_delays_and_neither_allows_nor_fails(error):
    policy, ran = Directory(), []
    site = Site(policy=policy)
    site.add("add", lambda attempt: ran.append(1))
    call = site.put("add")

    policy.error = error("directory is down")
    worker = site.worker()
    worker.run_once()
    policy.error = None
    state, reason = site.of(call, "state", "waiting_reason")
    assert (state, ran) == (CallState.WAITING, [])
    assert "directory is down" in reason
    site.clock.advance(10)
    worker.run_once()

    assert site.of(call, "state") == CallState.SUCCEEDED
    site.close()


@pytest.mark.parametrize(
    "site", [{"policy": DefaultPolicy(permissions={"enter": "user:ann user:bob"})}], indirect=True
)
@pytest.mark.parametrize("question", ["principal_now", "root_for", "allows"])
@pytest.mark.parametrize(
    "error",
    [
        ClientDisconnected("of its own"),
        ConflictError("of its own"),
        InvalidArguments("no such user"),
        SystemExit(1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_policy_cannot_tell_of_an_owner_delays_their_call_and_no_other(
    site, question, error, monkeypatch
):
    def fails(principal, *about):
        if principal.id == "ann":
            raise error
        return answer(principal, *about)

    policy, ran = site.settings["policy"], []
    answer = getattr(policy, question)
    site.add("enter", lambda attempt: ran.append(attempt.principal.id), permission="enter")
    hers, his = site.put("enter"), site.put("enter", user="bob")

    monkeypatch.setattr(policy, question, fails)
    site.run()
    monkeypatch.undo()

    assert site.of(hers, "state") == CallState.WAITING
    assert "the security policy failed" in site.of(hers, "waiting_reason")
    assert site.of(his, "state", user="bob") == CallState.SUCCEEDED
    site.clock.advance(10)
    site.run()
    assert ran == ["bob", "ann"]


@pytest.mark.parametrize(
    "site", [{"policy": DefaultPolicy(permissions={"enter": "user:ann"})}], indirect=True
)
@pytest.mark.parametrize("runs", ["thread", "transaction"])
@pytest.mark.parametrize("question", ["principal_now", "root_for", "allows"])
def test_what_a_conflict_keeps_a_policy_from_telling_is_asked_again_at_once(
    site, question, runs, monkeypatch
):
    def fails_once(*about):
        monkeypatch.undo()
        raise ReadConflictError("another has written it")

    ran = []
    site.add("enter", lambda attempt: ran.append(1), permission="enter", runs=runs)
    call = site.put("enter")
    monkeypatch.setattr(site.settings["policy"], question, fails_once)

    site.run()

    assert site.of(call, "state") == CallState.SUCCEEDED
    assert ran == [1]


@pytest.mark.parametrize("mistaken", [Principal("bob"), None])
def test_a_policy_that_mistakes_somebody_for_another_lets_nothing_run_and_hides_nothing(mistaken):
    policy, ran = Directory(), []
    site = Site(policy=policy)
    site.add("add", lambda attempt: ran.append(1))
    call = site.put("add")

    found = policy.principal_now
    policy.principal_now = lambda principal, root: mistaken
    site.run()
    policy.principal_now = found

    assert site.of(call, "state") == CallState.FAILED
    assert site.of(call, "failure").type == "Unauthorized"
    assert ran == []
    site.close()


def test_what_a_policy_says_before_an_attempt_repeats_no_secret(tmp_path):
    class Telling(DefaultPolicy):
        def allows(self, principal, permission, object):
            if ran is not None:
                raise ConnectionError("no answer for tr0ub4dor")
            return True

    ran = None
    secret = tmp_path / "secret"
    secret.write_text("s" * 40)
    secret.chmod(0o600)
    site = Site(policy=Telling(), secret=f"file:{secret}")
    site.add("login", lambda attempt, password: ran.append(1), permission="log in")
    with calls_of(site.db, "ann", site.worker()._deployment) as calls:
        call = calls.put("login", Secret("tr0ub4dor")).id

    ran = []
    site.run()

    assert site.of(call, "state") == CallState.WAITING
    assert "no answer for ***" in site.of(call, "waiting_reason")
    with site.db.transaction() as connection:
        record = open_store(connection).find(("", "ann"), call)
        assert "tr0ub4dor" not in repr((record.failure, record.waiting_reason))
    assert ran == []
    site.close()


def test_the_plugins_permission_is_required_on_every_object_at_each_attempt():
    roles = {"ann": ["editor"]}
    site = Site(roles=roles, permissions={"edit": ["role:editor"]})
    ran = []
    site.add("touch", lambda attempt, *boxes: ran.append(1), permission="edit", runs="transaction")
    policy = site.settings["policy"] = DefaultPolicy(roles, {"edit": "role:editor"})
    site.settings.pop("roles"), site.settings.pop("permissions")
    with site.calls() as calls:
        box = calls.root["box"] = PersistentMapping()
        other = calls.root["other"] = PersistentMapping()
        calls.connection.add(box)
        calls.connection.add(other)
        call = calls.put("touch", box, other).id

    # When the permission is taken away on one of them
    with site.calls() as calls:
        calls.root["other"].__acl__ = [("Deny", "user:ann", "edit")]
    site.run()

    # Then it does not run
    assert policy is site.settings["policy"]
    assert site.of(call, "failure").type == "Unauthorized"
    assert ran == []
    site.close()


def test_a_broken_record_stops_nobody(site):
    site.add("add", lambda attempt: 1)
    bad, good = site.put("add"), site.put("add")
    oid = site.of(bad, "_record")._p_oid
    # Given a record that names a class which is not there
    storage = site.db.storage
    txn = transaction.Transaction()
    storage.tpc_begin(txn)
    data = b"cno_such_module\nThing\nq\x01.}q\x02."
    storage.store(oid, storage.load(oid)[1], data, "", txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    site.db.cacheMinimize()

    site.run()

    assert site.of(good, "result") == 1


@pytest.mark.parametrize(("times", "state"), [(2, "succeeded"), (9, "failed")])
def test_a_commit_that_fails_for_another_reason_is_tried_a_few_times(site, times, state):
    # Given a storage that has an error of its own for what is a conflict
    ran = []

    @site.add("count", runs="transaction")
    def count(attempt):
        ran.append(attempt.number)
        attempt.root["n"] = attempt.root.get("n", 0) + 1
        if len(ran) <= times:
            connection = attempt.root._p_jar
            connection.transaction_manager.get().addBeforeCommitHook({}.__getitem__, (39440,))

    call = site.put("count")
    site.run()

    assert site.of(call, "state", "attempts") == (state, 1)
    assert site.root(lambda root: root.get("n", 0)) == (1 if state == "succeeded" else 0)
