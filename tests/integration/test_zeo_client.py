# SPDX-License-Identifier: ZPL-2.1
"""What is changed in a worker's ZEO client: fewer steps, and otherwise all as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ClientDisconnected
from ZODB import DB
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import ConflictError, ReadConflictError
from ZODB.tests.hexstorage import HexStorage
from ZODB.utils import maxtid, z64

from tests.zeo_server import Server
from wsgi_zasync.store import zeo_client
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.store.zeo_client import LARGE_BYTES, MOST_MESSAGES, ask_for, save_steps

SECONDS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("zeo")) as server:
        yield server


@pytest.fixture
def client(server, tmp_path) -> Iterator[Callable[[], Any]]:
    """Open databases, each a client of its own."""
    made: list[Any] = []

    def connect() -> Any:
        made.append(server.open(blob_dir=str(tmp_path / f"blobs{len(made)}")))
        return made[-1]

    yield connect
    for database in made:
        database.close()


@pytest.fixture
def db(client) -> Any:
    """The worker's, with a few objects."""
    db = client()
    with db.transaction() as connection:
        for number in range(5):
            connection.root()[f"page{number}"] = PersistentMapping(hits=0)
        connection.root()["tree"] = OOBTree()
    save_steps(db.storage)
    return db


@pytest.fixture
def other(client, db) -> Any:
    """Another one, which is left as it is."""
    return client()


@pytest.fixture
def steps(db, monkeypatch) -> list[Any]:
    """What the client's thread was woken for."""
    made: list[Any] = []
    loop = db.storage._server.loop
    inner = loop.call_soon_threadsafe

    def call(function: Any, *args: Any) -> Any:
        made.append(function)
        return inner(function, *args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", call)
    return made


def catch_up(db: Any, with_other: Any) -> None:
    """ZEO promises no order between what different clients see."""
    signal_for(db).until_visible(with_other.lastTransaction())


def hits(db: Any, after: Any = None) -> list[int]:
    if after is not None:
        catch_up(db, after)
    with db.transaction() as connection:
        return [connection.root()[f"page{number}"]["hits"] for number in range(5)]


def count_hit(connection: Any) -> None:
    for number in range(5):
        connection.root()[f"page{number}"]["hits"] += 1


def test_a_small_transaction_takes_two_steps(db, other, steps):
    # Given all that it needs
    assert hits(db) == [0] * 5
    steps.clear()
    # When
    with db.transaction() as connection:
        count_hit(connection)
        connection.readCurrent(connection.root())
    # Then: the vote with all that goes before it, and the end
    assert len(steps) == 2
    assert hits(other, after=db) == [1] * 5


def test_a_large_one_is_on_its_way_before_the_vote(db, other, steps):
    with db.transaction() as connection:
        tree = connection.root()["tree"]
        for number in range(10 * MOST_MESSAGES):
            tree[str(number)] = PersistentMapping(number=number)
        tree["large"] = PersistentMapping(text="x" * LARGE_BYTES)
        steps.clear()
    sent = [each for each in steps if getattr(each, "__name__", "") == "_send"]
    assert len(sent) > 10
    catch_up(other, db)
    with other.transaction() as connection:
        tree = connection.root()["tree"]
        assert all(tree[str(number)]["number"] == number for number in range(10 * MOST_MESSAGES))
        assert len(tree["large"]["text"]) == LARGE_BYTES


def test_what_is_aborted_before_the_vote_is_nowhere(db, other):
    class Refusing:
        """Refuses to commit after the database has told what it would write."""

        transaction_manager = None

        def sortKey(self) -> str:
            return "~"

        def abort(self, _: Any) -> None:
            pass

        tpc_begin = tpc_finish = tpc_abort = abort

        def commit(self, _: Any) -> None:
            raise RuntimeError("no")

        tpc_vote = commit

    for _ in range(3):
        with pytest.raises(RuntimeError), db.transaction() as connection:
            count_hit(connection)
            connection.transaction_manager.get().join(Refusing())
        with db.transaction() as connection:
            connection.root()["page0"]["hits"] += 1
    assert hits(other, after=db) == [3, 0, 0, 0, 0]


def test_conflicts_are_found_and_resolved_as_ever(db, other):
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(manager)

    def hit_while_other(does: Callable[[Any], None], hit: Callable[[Any], None]) -> None:
        catch_up(db, other)
        manager.begin()
        hit(connection)
        catch_up(other, db)
        with other.transaction() as others:
            does(others)
        try:
            manager.commit()
        except ConflictError:
            manager.abort()
            raise

    def hit_and_read(connection: Any) -> None:
        connection.root()["page1"]["hits"] += 1
        connection.root()["page0"]._p_activate()
        connection.readCurrent(connection.root()["page0"])

    def hit_what_is_read(connection: Any) -> None:
        connection.root()["page0"]["hits"] += 1

    # What is written twice
    with pytest.raises(ConflictError):
        hit_while_other(count_hit, count_hit)
    # What was noted as read
    with pytest.raises(ReadConflictError):
        hit_while_other(hit_what_is_read, hit_and_read)
    # What can be merged
    hit_while_other(
        lambda others: others.root()["tree"].update({"theirs": 1}),
        lambda ours: ours.root()["tree"].update({"ours": 2}),
    )
    connection.close()
    catch_up(other, db)
    with other.transaction() as others:
        assert dict(others.root()["tree"]) == {"theirs": 1, "ours": 2}
    assert hits(other, after=db) == [2, 1, 1, 1, 1]


def test_blobs_and_undo_keep_their_order(db, other):
    with db.transaction() as connection:
        connection.root()["page0"]["file"] = Blob(b"content")
        count_hit(connection)
    catch_up(other, db)
    with other.transaction() as connection, connection.root()["page0"]["file"].open() as file:
        assert file.read() == b"content"
    with db.transaction() as connection:
        count_hit(connection)
    manager = transaction.TransactionManager()
    db.undo(db.undoLog(0, 1)[0]["id"], manager.get())
    manager.commit()
    assert hits(other, after=db) == [1] * 5


def test_threads_that_commit_at_once_lose_nothing(db, other):
    def count(name: str) -> None:
        manager = transaction.TransactionManager(explicit=True)
        connection = db.open(manager)
        for _ in range(40):
            with manager:
                connection.root()[name]["hits"] += 1
                connection.root()[name][str(connection.new_oid())] = PersistentMapping()
        connection.close()

    threads = [threading.Thread(target=count, args=(f"page{number}",)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hits(other, after=db) == [40] * 5


def test_what_waited_for_a_lost_connection_is_sent_on_no_other_one(db, other, server, caplog):
    storage = db.storage
    with db.transaction() as connection:
        page = connection.root()["page0"]
        page._p_activate()
        oid, serial = page._p_oid, page._p_serial
    data, _ = storage.load(oid)
    generation = storage._connection_generation
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    # The first part is sent, the second waits.
    storage.store(storage.new_oid(), z64, bytes(LARGE_BYTES), "", txn)
    sent = threading.Event()
    storage._server.loop.call_soon_threadsafe(sent.set)
    assert sent.wait(SECONDS)
    storage.store(oid, serial, data, "", txn)
    # When the server comes back
    back = threading.Event()
    inner = storage.notify_connected
    storage.notify_connected = lambda *args: (inner(*args), back.set())
    server.kill()
    server.start()
    assert back.wait(SECONDS)
    assert storage._connection_generation > generation
    generation = storage._connection_generation
    # Then the transaction has failed
    with pytest.raises(ClientDisconnected):
        storage.store(oid, serial, data, "", txn)
    with pytest.raises(ClientDisconnected):
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)
    assert storage.load(oid)[1] == serial
    # And the next one goes by the same connection
    with db.transaction() as connection:
        count_hit(connection)
    assert hits(other, after=db) == [1] * 5
    assert storage._connection_generation == generation


def test_without_a_connection_nothing_waits(db, server):
    storage = db.storage
    gone = threading.Event()
    inner = storage.notify_disconnected
    storage.notify_disconnected = lambda: (inner(), gone.set())
    server.kill()
    assert gone.wait(SECONDS)
    with pytest.raises(ClientDisconnected):
        storage.tpc_begin(TransactionMetaData())
    assert not storage._wsgi_zasync_bundle._messages
    server.start()


def test_what_is_asked_for_is_here_when_it_is_read(db, other, monkeypatch):
    # Given objects that have changed meanwhile
    with other.transaction() as connection:
        count_hit(connection)
        oids = [connection.root()[f"page{number}"]._p_oid for number in range(5)]
    catch_up(db, other)
    tid = other.lastTransaction()
    storage = db.storage
    arrived = threading.Event()
    inner = storage._cache.store

    def store(oid: bytes, *args: Any) -> None:
        inner(oid, *args)
        stored.add(oid)
        if stored >= set(oids):
            arrived.set()

    stored: set[bytes] = set()
    monkeypatch.setattr(storage._cache, "store", store)
    # When
    storage._server.loop.call_soon_threadsafe(ask_for, storage, oids, tid)
    assert arrived.wait(SECONDS)
    # Then nothing goes to the server for them
    monkeypatch.setattr(storage._server, "load_before", None)
    assert storage.lastTransaction() >= tid
    for oid in oids:
        data, serial, end = storage.loadBefore(oid, zeo_client.p64(zeo_client.u64(tid) + 1))
        assert (serial, end) == (tid, None)
        assert data
    assert serial != z64


@pytest.mark.filterwarnings("ignore:coroutine '_Bundle:RuntimeWarning")  # as one of ZEO's own
def test_a_transaction_that_outlives_its_client_ends_in_good_order(server):
    # Given one with messages that wait, and an iterator that nobody needs any more
    storage = server.open_storage()
    save_steps(storage)
    iterator = storage.iterator()
    assert iterator is not None
    del iterator
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(storage.new_oid(), z64, b"content", "", txn)
    # When
    storage.close()
    # Then to end it is no error, nor to ask for something
    storage.prefetch([z64], maxtid)
    storage.tpc_abort(txn)
    assert storage._commit_lock.acquire(timeout=SECONDS)


def test_what_cannot_be_sent_is_an_error_of_nobody_elses(db, other):
    storage = db.storage
    txn = TransactionMetaData(extension={"lock": threading.Lock()})
    storage.tpc_begin(txn)
    storage.store(storage.new_oid(), z64, b"content", "", txn)
    # When somebody else asks for something
    assert storage.history(z64)
    # Then it is only the transaction that comes to nothing, and the next one is as any other
    with pytest.raises(ClientDisconnected):
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)
    with db.transaction() as connection:
        count_hit(connection)
    assert hits(other, after=db) == [1] * 5


def test_an_object_may_be_stored_without_content(db):
    """As those that are no more are copied."""
    storage = db.storage
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(z64, z64, None, "", txn)
    storage.tpc_abort(txn)


def test_a_fetch_that_fails_keeps_nobody_from_waking(db, other, monkeypatch, caplog):
    later = threading.Event()
    with signal_for(db).watch(z64) as watch:
        signal_for(db).subscribe(lambda *_: later.set())
        monkeypatch.setattr(db.storage._cache, "loadBefore", lambda *_: 1 / 0)
        with other.transaction() as connection:
            connection.root()["more"] = 1
        assert watch.wait(SECONDS)
        assert later.wait(SECONDS)
    assert "a subscriber to commits failed" in caplog.text


class Transforming(HexStorage):
    """Transforms what it stores, as storages that compress or encrypt do."""

    def invalidate(self, tid: bytes, oids: Any, version: str = "") -> None:
        # Like that of zc.zlibstorage; ZODB's sample hands on a version that nobody takes any more.
        self.db.invalidate(tid, oids)


@pytest.fixture
def transformed(tmp_path) -> Iterator[list[DB]]:
    """Two clients of a server of their own, in which all is stored transformed."""
    with Server(tmp_path) as server:
        made = [DB(Transforming(server.open_storage())) for _ in range(2)]
        yield made
        for database in made:
            database.close()


def test_a_client_within_another_storage_is_found(transformed):
    here, there = transformed
    save_steps(here.storage)
    with signal_for(here).watch(z64) as watch:
        with there.transaction() as connection:
            connection.root()["more"] = 1
        # It tells of what others commit
        assert watch.wait(SECONDS)
    with here.transaction() as connection:
        assert connection.root()["more"] == 1
        connection.root()["more"] = 2
    # And saves steps
    assert zeo_client.client_of(here.storage) is here.storage.base
    assert here.storage.base.prefetch.func is zeo_client._prefetch


def test_a_client_that_looks_different_is_left_as_it_is(client, caplog):
    caplog.set_level("INFO", logger=zeo_client.__name__)
    storage = client().storage
    inner = storage._async
    del storage._async_iter
    save_steps(storage)
    assert storage._async == inner
    assert "of an unknown kind" in caplog.text


def test_it_is_done_once(db):
    asks = db.storage._server.call_sync_co
    save_steps(db.storage)
    assert db.storage._server.call_sync_co is asks
