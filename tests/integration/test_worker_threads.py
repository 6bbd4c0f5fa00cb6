# SPDX-License-Identifier: ZPL-2.1
"""A started worker: threads, wake-up, stopping, the storage going away."""

from __future__ import annotations

import logging
import threading

import pytest
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected

from tests.zeo_server import Server
from wsgi_zasync import ConfigurationError, Principal, plugin
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.testing import calls_of, deployment_of
from wsgi_zasync.worker import Worker

RELEASE = threading.Event()


@plugin("echo")
def echo(attempt, value=None):
    return value


@plugin("effect", runs="transaction")
def effect(attempt):
    attempt.root["n"] = attempt.root.get("n", 0) + 1
    return attempt.root["n"]


@plugin("hang")
def hang(attempt):
    while not attempt.is_cancelled:
        RELEASE.wait(0.01)
    return "stopped"


@plugin("deferred", runs="reactor")
async def deferred(attempt, seconds=0.01):
    from twisted.internet import reactor, task

    return await task.deferLater(reactor, seconds, lambda: "done")


@plugin("exclusive", max_running=1)
def exclusive(attempt, seen):
    return None


PLUGINS = {f.declaration.name: f for f in (echo, effect, hang, deferred, exclusive)}


def put(db, *args, user="ann"):
    with calls_of(db, user, deployment_of(PLUGINS)) as calls:
        return calls.put(*args)._record


def wait_until(db, record, is_so, seconds=20):
    """Wait, by the push signal, until the record is as wanted; returns what it said."""
    with signal_for(db).watch(record._p_oid) as watch:
        for _ in range(seconds * 4):
            with db.transaction() as connection:
                found = is_so(connection.get(record._p_oid))
            if found:
                return found
            watch.wait(0.25)
    raise AssertionError("it did not come to be")


def end_of(db, record):
    return wait_until(db, record, lambda r: r.is_final and (r.state, r.result))


@pytest.fixture
def started():
    workers = []

    def start(db, **settings):
        worker = Worker(db, **{"plugins": PLUGINS, **settings})
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop(1)


def test_calls_put_in_this_process_wake_its_worker(db, started):
    started(db, safety_poll=600)

    for n in range(5):
        assert end_of(db, put(db, "echo", n)) == ("succeeded", n)
    assert end_of(db, put(db, "deferred")) == ("succeeded", "done")
    assert end_of(db, put(db, "effect")) == ("succeeded", 1)


def test_many_calls_of_all_kinds_end_once_each(db, started):
    started(db, threads=3)
    records = []
    for n in range(60):
        records.append(put(db, ("echo", "effect", "deferred")[n % 3], user=f"u{n % 4}"))

    assert {end_of(db, record)[0] for record in records} == {"succeeded"}
    with db.transaction() as connection:
        assert connection.root()["n"] == 20


def test_all_threads_of_a_worker_at_work_are_nothing_to_warn_of(db, started, caplog):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def wait(attempt):
        begun.release()
        go_on.wait(30)

    plugins = {"wait": plugin("wait", runs="transaction")(wait)}
    started(db, plugins=plugins, threads=8)

    with calls_of(db, "ann", deployment_of(plugins)) as calls:
        for _ in range(8):
            calls.put("wait")
    have_begun = [begun.acquire(timeout=20) for _ in range(8)]
    go_on.set()

    assert all(have_begun)
    assert "open connections" not in caplog.text


def test_a_worker_that_is_stopped_lets_calls_end_and_gives_back_the_rest(db, started):
    worker = started(db, threads=1)
    running = put(db, "hang")
    wait_until(db, running, lambda r: worker._service.holdings.running)
    waiting = put(db, "echo", 1)

    worker.stop(grace_seconds=0.2)

    assert not worker.is_running
    with db.transaction() as connection:
        assert not connection.get(running._p_oid).is_final
    # Another takes over at once
    started(db)
    assert end_of(db, waiting) == ("succeeded", 1)


def test_a_running_call_may_end_within_the_grace(db, started):
    worker = started(db)
    record = put(db, "deferred", 0.3)
    wait_until(db, record, lambda r: r.is_final or worker._service.holdings.running)

    worker.stop(grace_seconds=10)

    with db.transaction() as connection:
        assert connection.get(record._p_oid).result == "done"


def test_a_worker_runs_either_by_itself_or_step_by_step(db, started):
    worker = started(db)

    with pytest.raises(ConfigurationError, match="stop it first"):
        worker.run_once()
    with pytest.raises(ConfigurationError, match="runs already"):
        worker.start()


def test_a_worker_that_cannot_open_its_database_says_so(tmp_path):
    worker = Worker(zodb_uri=f"file://{tmp_path}/no/such/Data.fs")

    with pytest.raises(ConfigurationError):
        worker.start()
    assert not worker.is_running


def test_what_a_request_does_is_told_as_what_a_worker_does(db, caplog):
    caplog.set_level(logging.INFO, logger="wsgi_zasync")
    deployment = deployment_of({"echo\x1b": print})

    with calls_of(db, Principal("ann", "members"), deployment) as calls:
        call = calls.put("echo\x1b", "a secret")
        call.cancel()
        assert not caplog.messages

    assert caplog.messages == [
        f"call {call.id} {what} plugin=echo\\x1b owner=members:ann" for what in ("put", "cancelled")
    ]
    assert [(r.action, r.call, r.plugin, r.owner) for r in caplog.records] == [
        (what, call.id, "echo\x1b", ["members", "ann"]) for what in ("put", "cancelled")
    ]


def test_there_is_one_line_for_each_change_and_no_argument_in_it(db, started, caplog):
    caplog.set_level(logging.INFO, logger="wsgi_zasync")
    worker = started(db)

    record = put(db, "echo", "s3cret-argument")
    end_of(db, record)
    # The end is told after its commit: a worker that has stopped has told all.
    worker.stop()

    # The worker may be the faster one to tell: it is woken before the put is told of.
    said = [r for r in caplog.records if record.id in r.getMessage()]
    said.sort(key=lambda r: r.name)
    lines = [r.getMessage() for r in said]
    assert [line.split()[2] for line in lines] == ["put", "running", "succeeded"]
    assert all("plugin=echo" in line and "owner=ann" in line for line in lines)
    assert "s3cret" not in caplog.text


# -- over ZEO ---------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def web(server):
    db = server.open()
    yield db
    db.close()


def test_calls_put_by_another_process_wake_the_worker(server, web, started):
    here = server.open()
    worker = started(here, safety_poll=600)

    for n in range(5):
        assert end_of(web, put(web, "echo", n)) == ("succeeded", n)

    worker.stop()
    here.close()


def test_two_workers_share_the_calls(server, web, started):
    databases = [server.open(), server.open()]
    workers = [started(db, safety_poll=600) for db in databases]

    records = [put(web, "effect", user=f"u{n % 3}") for n in range(40)]

    assert sorted(end_of(web, record)[1] for record in records) == list(range(1, 41))
    for worker, db in zip(workers, databases, strict=True):
        worker.stop()
        db.close()


@pytest.mark.slow
def test_an_outage_of_the_storage_loses_no_outcome(server, web, started):
    # Given a worker that is at calls of each kind
    here = server.open()
    worker = started(here)
    records = [put(web, "deferred", 1.0) for _ in range(3)]
    wait_until(web, records[0], lambda r: len(worker._service.holdings.running) == 3)

    # When the server is killed, the calls end, and the server is back
    server.kill()
    for _ in range(300):
        if not worker._service.holdings.running or len(worker._service.bell) == 3:
            break
        RELEASE.wait(0.01)
    server.start()

    # Then they are as they ended
    assert {end_of(web, record) for record in records} == {("succeeded", "done")}
    worker.stop()
    here.close()


@pytest.mark.slow
def test_new_objects_do_not_collide_after_the_server_was_killed(server, web):
    # Given two clients, of which one has a stock of oids from before
    other = server.open()
    signal_for(web)
    signal_for(other)
    with other.transaction() as connection:
        connection.root()["first"] = PersistentMapping()

    # When the server is killed, is back, and has given the same oids to the other one
    server.kill()
    server.start()
    for n in range(3):
        wait_for_server(web, lambda root, n=n: root.update({f"web{n}": PersistentMapping()}))

    # Then what both make has oids of its own
    signal_for(other).until_visible(web.lastTransaction())
    for n in range(3):
        wait_for_server(other, lambda root, n=n: root.update({f"other{n}": PersistentMapping()}))
    with other.transaction() as connection:
        objects = [value for key, value in connection.root().items() if key[:3] in ("web", "oth")]
        assert len({value._p_oid for value in objects}) == 6
    other.close()


def wait_for_server(db, write):
    """Write in a transaction; only the server's absence is a reason to try again."""
    for _ in range(300):
        try:
            with db.transaction() as connection:
                write(connection.root())
            return
        except ClientDisconnected:
            RELEASE.wait(0.05)
    raise AssertionError("the server did not come back")
