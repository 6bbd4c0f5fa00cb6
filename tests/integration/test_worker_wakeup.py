# SPDX-License-Identifier: ZPL-2.1
"""A commit of another process: when its news are told, and what a worker has sent by then."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.zeo_server import Server
from wsgi_zasync.opening import deployment_for
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.store import open_store, zeo_client
from wsgi_zasync.store.wakeup import FEW_OIDS, signal_for
from wsgi_zasync.worker.service import Service

PLUGINS = {"echo": lambda attempt, value=None: value}


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def client(server) -> Iterator[Callable[[], Any]]:
    """Open databases, each a client of its own."""
    made: list[Any] = []

    def connect() -> Any:
        made.append(server.open())
        return made[-1]

    yield connect
    for database in made:
        database.close()


@pytest.fixture
def service(client) -> Iterator[Service]:
    """A worker that has looked around, and makes its turns when it is told to."""
    db = client()
    settings = WorkerSettings.from_kwargs(db=db, plugins=PLUGINS)
    service = Service(db, deployment_for(settings, None), settings, name="idle")
    service.open()
    while service.seconds_to_wait() == 0:
        service.turn()
    yield service
    service.dispatcher.stop(1.0)
    service.close()


@pytest.fixture
def fetched(service, monkeypatch) -> list[set[bytes]]:
    """What the worker has the server send ahead."""
    found: list[set[bytes]] = []
    inner = zeo_client.ask_for

    def ask_for(storage: Any, oids: frozenset[bytes], tid: bytes) -> None:
        inner(storage, oids, tid)
        found.append(set(oids))

    monkeypatch.setattr(zeo_client, "ask_for", ask_for)
    return found


def write(db: Any, oids: set[bytes]) -> set[bytes]:
    """Write these objects once more, as a put does; returns them."""
    with db.transaction() as connection:
        for oid in oids:
            found = connection.get(oid)
            found._p_activate()
            found._p_changed = True
    return oids


def told(service: Service) -> Callable[[set[bytes]], None]:
    """Returns what waits until the worker has been told of the commit of these."""
    commits: queue.Queue[frozenset[bytes]] = queue.Queue()
    service.listener.signal.subscribe(lambda tid, oids: commits.put(oids))

    def wait(oids: set[bytes]) -> None:
        while not oids <= commits.get(timeout=20):
            pass

    return wait


def test_who_is_told_of_a_commit_can_see_it_at_once(client):
    here, there = client(), client()
    seen: list[bool] = []
    heard = threading.Event()

    def subscriber(tid: bytes | None, oids: frozenset[bytes]) -> None:
        assert tid is not None
        seen.append(here.lastTransaction() >= tid)
        heard.set()

    signal_for(here).subscribe(subscriber)
    for n in range(5):
        heard.clear()
        with there.transaction() as connection:
            connection.root()["n"] = n
        assert heard.wait(20)

    assert seen == [True] * 5


def test_what_was_written_is_on_its_way_before_an_idle_worker_looks(client, service, fetched):
    web, wait_until_told = client(), told(service)
    with web.transaction() as connection:
        site = open_store(connection).site
        watched = {site.parked._p_oid}
        lanes = {lane._p_oid for lane in site.lanes[:FEW_OIDS]}

    # When something comes, then what was written is fetched without a turn
    wait_until_told(write(web, watched))
    assert fetched == [watched]

    # But what comes before the worker has looked is not: it may be written again until then
    wait_until_told(write(web, watched))
    assert fetched == [watched]

    # Nor what many calls have written
    service.turn()
    wait_until_told(write(web, watched | lanes))
    assert fetched == [watched]


def test_what_is_told_of_while_there_is_no_connection_is_not_asked_for(server, client, caplog):
    """A client tells of what it has missed before it is connected again."""
    db = client()
    gone = threading.Event()
    inner = db.storage.notify_disconnected
    db.storage.notify_disconnected = lambda: (inner(), gone.set())
    signal, loop = signal_for(db), db.storage._server.loop
    server.kill()
    assert gone.wait(20)
    caplog.clear()

    done = threading.Event()
    loop.call_soon_threadsafe(signal.fetch, {b"\0" * 8}, db.lastTransaction())
    for _ in range(3):
        done.clear()
        loop.call_soon_threadsafe(done.set)
        assert done.wait(20)
    gc.collect()

    assert not [each for each in caplog.records if each.name in ("asyncio", "ZEO.asyncio.client")]
