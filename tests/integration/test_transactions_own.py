# SPDX-License-Identifier: ZPL-2.1
"""Nobody owns the request's transaction, so we do: a call exists if and only if it committed."""

from __future__ import annotations

import io
import threading
from wsgiref.handlers import SimpleHandler
from wsgiref.validate import validator

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from webob import Request
from ZEO.Exceptions import ClientDisconnected
from ZODB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from wsgi_zasync import ConfigurationError, TransactionOver, get_manager
from wsgi_zasync.call import LANES, CallRecord
from wsgi_zasync.manager.replaying import Replay
from wsgi_zasync.store import open_store
from wsgi_zasync.store.claims import LanePool
from wsgi_zasync.store.wakeup import signal_for

TEXT = [("Content-Type", "text/plain")]


class Server:
    """A WSGI server that keeps what it sent, in order."""

    def __init__(self, application):
        self.application = application
        self.sent = []

    def request(self, path="/", method="GET", parts=None, user="ann"):
        """Run a request; ``parts`` is how many parts the client stays for."""
        environ = Request.blank(path, method=method).environ
        environ["REMOTE_USER"] = user
        body = self.application(environ, self.start_response)
        try:
            for number, part in enumerate(body):
                self.sent.append(part)
                if number + 1 == parts:
                    break
        finally:
            if hasattr(body, "close"):
                body.close()
        return self.sent

    def start_response(self, status, headers, exc_info=None):
        if exc_info and any(type(each) is bytes and each for each in self.sent):
            raise exc_info[1]
        self.sent.append(status)
        return self.sent.append

    @property
    def status(self):
        return self.sent[0]


def put(environ, *args):
    return get_manager(environ).put("echo", *args)


def failing_commit(error):
    """A resource whose vote raises ``error`` as many times as it is asked."""

    class Resource:
        transaction_manager = None
        asked = 0

        def sortKey(self):
            return "~~"

        def tpc_vote(self, txn):
            Resource.asked += 1
            raise error

        def abort(self, txn):
            pass

        tpc_begin = commit = tpc_finish = tpc_abort = abort

    return Resource()


# -- commit and abort ----------------------------------------------------------------------


def test_a_call_exists_after_the_request(wrap, db, stored_ids):
    told = []

    def app(environ, start_response):
        told.append(put(environ).id)
        start_response("200 OK", TEXT)
        return [b"done"]

    # When
    server = Server(wrap(app))
    server.request()

    # Then
    assert server.sent == ["200 OK", b"done"]
    assert stored_ids(db) == told


def test_what_the_application_writes_commits_with_its_calls(wrap, db, stored_ids, root_of):
    def app(environ, start_response):
        calls = get_manager(environ)
        calls.root["note"] = "written"
        put(environ)
        start_response("200 OK", TEXT)
        return [b"done"]

    Server(wrap(app)).request()

    assert root_of(db, lambda root: root["note"]) == "written"
    assert len(stored_ids(db)) == 1


def test_an_exception_of_the_application_aborts(wrap, db, stored_ids, root_of):
    def app(environ, start_response):
        get_manager(environ).root["note"] = "written"
        put(environ)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Server(wrap(app)).request()

    assert stored_ids(db) == []
    assert root_of(db, lambda root: "note" in root) is False


def test_an_exception_after_start_response_aborts_and_sends_nothing(wrap, db, stored_ids):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        put(environ)
        raise ZeroDivisionError

    server = Server(wrap(app))
    with pytest.raises(ZeroDivisionError):
        server.request()

    assert server.sent == []
    assert stored_ids(db) == []


def test_an_exception_before_the_first_part_aborts(wrap, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        yield b""
        raise ZeroDivisionError

    server = Server(wrap(app))
    with pytest.raises(ZeroDivisionError):
        server.request()

    assert server.sent == []
    assert stored_ids(db) == []


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Oh", "503 No"])
def test_a_status_of_an_error_is_a_veto(wrap, db, stored_ids, status):
    def app(environ, start_response):
        put(environ)
        start_response(status, TEXT)
        return [b"sorry"]

    server = Server(wrap(app))
    server.request()

    assert server.sent == [status, b"sorry"]
    assert stored_ids(db) == []


def test_a_redirection_is_no_veto(wrap, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        start_response("302 Found", [("Location", "/x")])
        return []

    Server(wrap(app)).request()

    assert len(stored_ids(db)) == 1


def test_the_veto_can_be_configured(wrap, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        start_response("404 Not Found", [*TEXT, ("X-Commit", environ["PATH_INFO"])])
        return [b"x"]

    def veto(environ, status, headers):
        return ("X-Commit", "/no") in headers

    Server(wrap(app, veto=veto)).request("/no")
    assert stored_ids(db) == []
    Server(wrap(app, veto=veto)).request("/yes")
    assert len(stored_ids(db)) == 1


def test_a_response_without_a_status_aborts(wrap, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        return [b"no status"]

    Server(wrap(app)).request()

    assert stored_ids(db) == []


@pytest.mark.parametrize("shape", [list, iter])
def test_a_doomed_transaction_aborts_and_its_response_goes_out(wrap, db, stored_ids, shape):
    def app(environ, start_response):
        put(environ)
        get_manager(environ).connection.transaction_manager.doom()
        start_response("200 OK", TEXT)
        return shape([b"fine"])

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"fine"]
    assert stored_ids(db) == []


@pytest.mark.parametrize("shape", [list, iter])
@pytest.mark.parametrize(("end", "kept"), [("abort", 0), ("commit", 1)])
def test_what_the_application_ends_itself_has_ended_and_its_response_goes_out(
    wrap, db, stored_ids, caplog, end, kept, shape
):
    """Not a 500 that says that nothing was done, of a call that is there."""

    def app(environ, start_response):
        calls = get_manager(environ)
        calls.put("echo")
        getattr(calls.connection.transaction_manager, end)()
        for use in (lambda: put(environ), lambda: calls.root, calls.mine):
            with pytest.raises(TransactionOver, match="the application has ended"):
                use()
        start_response("200 OK", TEXT)
        return shape([b"fine"])

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"fine"]
    assert caplog.records == []
    assert len(stored_ids(db)) == kept


def test_what_the_application_committed_itself_can_be_shown_by_its_stream(wrap, db):
    def app(environ, start_response):
        root = get_manager(environ).root
        root["shelf"] = PersistentMapping(note="written")
        get_manager(environ).connection.transaction_manager.commit()
        start_response("200 OK", TEXT)
        yield b"first"
        yield root["shelf"]["note"].encode()

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"first", b"written"]


def test_a_transaction_that_the_application_begins_itself_is_committed_as_the_first(
    wrap, db, stored_ids
):
    told = []

    def app(environ, start_response):
        manager = get_manager(environ).connection.transaction_manager
        for end in (manager.abort, manager.commit):
            told.append(put(environ).id)
            end()
            manager.begin()
        told.append(put(environ).id)
        start_response("200 OK", TEXT)
        return [b"fine"]

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"fine"]
    assert stored_ids(db) == told[1:]


def test_a_savepoint_takes_a_call_back_and_nothing_is_told_of_it(wrap, db, stored_ids, caplog):
    told = []

    def app(environ, start_response):
        calls = get_manager(environ)
        told.append(put(environ).id)
        savepoint = calls.connection.transaction_manager.savepoint()
        lost = put(environ)
        lost.cancel()
        told.append(lost.id)
        savepoint.rollback()
        assert told[1] not in calls
        told.append(put(environ).id)
        start_response("200 OK", TEXT)
        return [b"done"]

    with caplog.at_level("INFO", "wsgi_zasync"):
        Server(wrap(app)).request()

    assert stored_ids(db) == [told[0], told[2]]
    logged = [record.call for record in caplog.records if hasattr(record, "call")]
    assert logged == [told[0], told[2]]


def test_a_savepoint_can_be_gone_back_to_twice(wrap, db, stored_ids, caplog):
    """ZODB leaves what was made before the second time as if it were stored, and cannot load it."""
    told = []

    def app(environ, start_response):
        manager = get_manager(environ).connection.transaction_manager
        told.append(put(environ).id)
        savepoint = manager.savepoint()
        for _ in range(2):
            lost = put(environ)
            manager.savepoint()
            savepoint.rollback()
        with pytest.raises(TransactionOver, match=rf"{lost.id} does not exist"):
            lost.plugin
        told.append(put(environ).id)
        start_response("200 OK", TEXT)
        return [b"done"]

    with caplog.at_level("INFO", "wsgi_zasync"):
        Server(wrap(app)).request()

    assert stored_ids(db) == told
    assert [record.call for record in caplog.records if hasattr(record, "call")] == told


@pytest.mark.parametrize("before", range(3))
def test_what_is_no_longer_in_memory_at_the_commit_is_told_of_all_the_same(
    wrap, db, stored_ids, caplog, before
):
    """A savepoint lets ZODB forget what is in memory, also what was put."""
    told, announced, oids = [], [], set()

    def app(environ, start_response):
        calls = get_manager(environ)
        made = [put(environ) for _ in range(before + 1)]
        told.extend(call.id for call in made)
        oids.clear()
        oids.update(call.oid for call in made)
        calls.connection.transaction_manager.savepoint()
        calls.connection.cacheMinimize()
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()
    signal_for(db).subscribe(lambda tid, written: announced.append(written))
    with caplog.at_level("INFO", "wsgi_zasync"):
        server.request()

    assert stored_ids(db) == told
    logged = [record.call for record in caplog.records if hasattr(record, "call")]
    assert logged == told[before + 1 :]
    assert len(oids) == before + 1
    assert [written >= oids for written in announced] == [True]


# -- when the commit fails --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (ValueError("disk"), "500 Internal Server Error", b"could not be saved"),
        (ConflictError(), "503 Service Unavailable", b"try again"),
        (ClientDisconnected(), "503 Service Unavailable", b"not known"),
    ],
)
@pytest.mark.parametrize("kind", ["list", "generator", "write"])
def test_a_commit_that_fails_becomes_the_response(
    wrap, db, stored_ids, caplog, error, status, says, kind
):
    closed = []

    class Body(list):
        def close(self):
            closed.append(True)

    def app(environ, start_response):
        calls = get_manager(environ)
        calls.connection.transaction_manager.get().join(failing_commit(error))
        put(environ)
        write = start_response("200 OK", TEXT)
        if kind == "write":
            write(b"all is well")
            return []
        return Body([b"all is well"]) if kind == "list" else iter([b"all ", b"is well"])

    server = Server(wrap(app))
    server.request()

    assert server.status == status
    assert says in b"".join(server.sent[1:]).lower()
    assert b"all is well" not in b"".join(server.sent[1:])
    assert stored_ids(db) == []
    assert "could not be committed" in caplog.text
    assert closed == ([True] if kind == "list" else [])


def test_a_failed_commit_of_head_has_no_body(wrap, caplog):
    def app(environ, start_response):
        get_manager(environ).connection.transaction_manager.get().join(failing_commit(OSError()))
        start_response("200 OK", TEXT)
        return []

    server = Server(wrap(app))
    server.request(method="HEAD")

    assert server.status.startswith("500")
    assert b"".join(server.sent[1:]) == b""


def test_an_application_that_ignores_a_failed_write_does_not_get_through(wrap, db, caplog):
    def app(environ, start_response):
        get_manager(environ).connection.transaction_manager.get().join(failing_commit(OSError()))
        write = start_response("200 OK", TEXT)
        try:
            write(b"first")
        except Exception:
            pass
        return [b"second"]

    server = Server(wrap(app))
    server.request()

    assert server.status.startswith("500")
    assert b"second" not in server.sent


# -- conflicts -------------------------------------------------------------------------------


@pytest.fixture
def conflicts(db, monkeypatch):
    """What lets the next commits meet an error after their puts, and counts them."""
    # Connections take the storage's methods when they are made.
    vote = db.storage.tpc_vote
    left, met = [], []

    def tpc_vote(txn):
        if left:
            met.append(left.pop())
            raise met[-1]
        return vote(txn)

    monkeypatch.setattr(db.storage, "tpc_vote", tpc_vote)
    _forget_pooled_connections(db)

    def begin(times, error=ConflictError):
        left.extend(error() for _ in range(times))

    begin.met = met
    return begin


def _forget_pooled_connections(db):
    while db.pool.pop() is not None:
        pass


@pytest.mark.parametrize("times", [1, 3, 5])
def test_a_transaction_that_holds_only_puts_is_replayed(wrap, db, stored_ids, conflicts, times):
    told = []

    def app(environ, start_response):
        told.extend(put(environ, number).id for number in range(3))
        get_manager(environ).get(told[0]).on_success("string:fine")
        conflicts(times)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    assert server.status == "200 OK"
    assert len(conflicts.met) == times
    assert stored_ids(db) == told


@pytest.mark.parametrize("before", range(3))
def test_a_put_that_is_asked_for_twice_is_replayed(wrap, db, stored_ids, conflicts, before):
    """To have read what the transaction itself has put is no decision to be taken again."""
    told = []

    def app(environ, start_response):
        once = get_manager(environ).options(unique="once" if len(told) == before else None)
        told.append(once.put("echo").id)
        if len(told) > before:
            assert once.put("echo").id == told[-1]
            conflicts(1)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    for _ in range(before + 1):
        server.sent.clear()
        server.request()

    assert server.status == "200 OK"
    assert stored_ids(db) == told


@pytest.mark.parametrize("what", ["place", "unique key"])
def test_a_put_whose_place_or_key_is_taken_meanwhile_is_not_replayed(
    wrap, db, stored_ids, what, caplog
):
    """It would have another id than the application was told, or be a second one of its key."""
    told = []

    def app(environ, start_response):
        calls = get_manager(environ)
        told.append(calls.options(unique="once" if what == "unique key" else None).put("echo"))
        # Given another process, which is faster
        record = told[0]._record
        with db.transaction() as connection:
            other = CallRecord()
            other.seed, other.plugin, other.owner = b"s" * 16, "echo", record.owner
            other.unique = record.unique
            store = open_store(connection)
            lane = (record.place[0] + (what == "unique key")) % LANES
            store.site.claims[lane] = "another process"
            other = store.add(other, lane)
            if other.unique:
                store.set_unique(other.unique, other)
            told.append(other.id)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    assert server.status.startswith("503")
    assert "StoreConflict" in caplog.text
    assert stored_ids(db) == told[1:]


def test_a_call_whose_put_was_replayed_is_shown_while_the_response_goes_on(wrap, db, conflicts):
    """Also where the put has made a place for itself, and the replay another one."""
    seen = []

    def app(environ, start_response):
        call = put(environ, 7)
        conflicts(1)
        start_response("200 OK", TEXT)
        yield b"first"
        seen.append((call.state, call.args))
        yield b"second"

    application = wrap(app)
    for _ in range(3):
        Server(application).request()

    assert len(conflicts.met) == 3
    assert seen == [("waiting", (7,))] * 3


def test_a_replayed_put_has_its_unique_key_and_is_told_of(wrap, db, conflicts, root_of):
    told, heard = [], []
    unsubscribe = signal_for(db).subscribe(lambda tid, oids: heard.append(oids))

    def app(environ, start_response):
        call = get_manager(environ).options(unique="once").put("echo")
        told.append(call)
        conflicts(len(told) == 1)
        start_response("200 OK", TEXT)
        return [b"done"]

    application = wrap(app)
    for _ in range(2):
        Server(application).request()
    unsubscribe()

    assert len(conflicts.met) == 1
    assert told[0].id == told[1].id
    oid = root_of(db, lambda root: open_store(root._p_jar).find(("", "ann"), told[0].id)._p_oid)
    assert any(oid in oids for oids in heard)


def test_a_replayed_put_is_not_in_the_way_of_another_of_its_process(
    wrap, db, stored_ids, conflicts, monkeypatch
):
    replay, told = Replay.replay, []

    def replay_while_another_puts(self):
        replay(self)
        Server(application).request()

    def app(environ, start_response):
        told.append(put(environ).id)
        if len(told) == 1:
            monkeypatch.setattr(Replay, "replay", replay_while_another_puts)
            conflicts(1)
        start_response("200 OK", TEXT)
        return [b"done"]

    application = wrap(app)
    server = Server(application)
    server.request()

    assert server.status == "200 OK"
    assert len(conflicts.met) == 1
    assert sorted(stored_ids(db)) == sorted(told)
    assert len(told) == 2


def test_a_replayed_put_keeps_arguments_and_callbacks(wrap, db, conflicts):
    told = []

    def app(environ, start_response):
        calls = get_manager(environ)
        if environ["PATH_INFO"] == "/put":
            call = calls.put("echo", {"a": [1, 2]}).on_success("string:fine")
            told.append(call.id)
            conflicts(1)
            text = b"put"
        else:
            call = calls.get(told[0])
            text = repr((call.args, [c.text for c in call.callbacks])).encode()
        start_response("200 OK", TEXT)
        return [text]

    application = wrap(app)
    Server(application).request("/put")
    server = Server(application)
    server.request("/look")

    assert server.sent[1] == b"(({'a': [1, 2]},), ['string:fine'])"


def test_after_five_replays_the_conflict_is_told(wrap, db, stored_ids, conflicts, caplog):

    def app(environ, start_response):
        put(environ)
        conflicts(6)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    assert server.status.startswith("503")
    assert len(conflicts.met) == 6
    assert stored_ids(db) == []


def test_a_put_that_was_cancelled_again_is_not_replayed(wrap, db, stored_ids, conflicts):
    def app(environ, start_response):
        for _ in range(2):
            put(environ).cancel()
        put(environ)
        conflicts(1)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    assert server.status.startswith("503")
    assert len(conflicts.met) == 1
    assert stored_ids(db) == []


def write(connection):
    connection.root()["note"] = "written"


def write_in_savepoint(connection):
    """What is in one is no longer among what the connection has changed."""
    write(connection)
    connection.transaction_manager.savepoint()


def write_in_tree(connection):
    """In one of the same class as the store's own."""
    connection.root.links["a"] = 1


def rely_on_tree(connection):
    """A decision that rests on it would have to be taken again."""
    connection.root.links._p_activate()
    connection.readCurrent(connection.root.links)


@pytest.mark.parametrize("work", [write, write_in_savepoint, write_in_tree, rely_on_tree])
def test_a_transaction_with_work_of_the_application_is_not_replayed(
    wrap, db, stored_ids, root_of, conflicts, work
):
    with db.transaction() as connection:
        connection.root.links = OOBTree()

    def app(environ, start_response):
        work(get_manager(environ).connection)
        put(environ)
        conflicts(1)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    assert server.status.startswith("503")
    assert len(conflicts.met) == 1
    assert stored_ids(db) == []
    assert root_of(db, lambda root: (len(root["links"]), "note" in root)) == (0, False)


def test_what_was_noted_on_a_transaction_is_noted_on_its_replay(wrap, db, stored_ids, conflicts):
    def app(environ, start_response):
        put(environ)
        txn = get_manager(environ).connection.transaction_manager.get()
        txn.note("ordered a report")
        txn.setUser("ann", "/users")
        txn.setExtendedInfo("request", "7")
        conflicts(2)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    assert server.status == "200 OK"
    assert len(conflicts.met) == 2
    (last,) = db.storage.undoLog(0, 1)
    assert last["user_name"] == b"/users ann"
    assert last["description"] == b"ordered a report"
    assert last["request"] == "7"


@pytest.mark.parametrize("hook", ["BeforeCommit", "AfterCommit", "BeforeAbort", "AfterAbort"])
def test_a_transaction_that_somebody_waits_for_the_end_of_is_not_replayed(
    wrap, db, stored_ids, conflicts, hook, caplog
):
    told = []

    def app(environ, start_response):
        put(environ)
        txn = get_manager(environ).connection.transaction_manager.get()
        getattr(txn, f"add{hook}Hook")(lambda *committed: told.append(committed))
        conflicts(1)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    # Who was told that it was aborted is not belied by a commit after it.
    assert server.status.startswith("503")
    assert len(conflicts.met) == 1
    assert stored_ids(db) == []
    assert len(told) == 1


def test_a_lost_connection_is_not_replayed_since_the_commit_may_have_happened(
    wrap, db, stored_ids, conflicts, caplog
):
    def app(environ, start_response):
        put(environ)
        conflicts(3, ClientDisconnected)
        start_response("200 OK", TEXT)
        return [b"done"]

    server = Server(wrap(app))
    server.request()

    assert server.status.startswith("503")
    assert len(conflicts.met) == 1


# -- streams -----------------------------------------------------------------------------------


def test_the_commit_comes_before_the_first_part(wrap, db, stored_ids):
    seen = []

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b""
        put(environ)
        yield b""
        yield b"first"
        seen.append(len(stored_ids(db)))
        yield b"second"

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"first", b"second"]
    assert seen == [1]


def test_a_stream_that_fails_later_keeps_its_call(wrap, db, stored_ids):
    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        yield b"first"
        raise ZeroDivisionError

    server = Server(wrap(app))
    with pytest.raises(ZeroDivisionError):
        server.request()

    assert server.sent == ["200 OK", b"first"]
    assert len(stored_ids(db)) == 1


@pytest.mark.parametrize("before", [True, False])
def test_a_put_after_the_first_part_is_refused(wrap, db, stored_ids, before):
    def app(environ, start_response):
        if before:
            put(environ)
        start_response("200 OK", TEXT)
        yield b"first"
        with pytest.raises(TransactionOver):
            put(environ)
        yield b"second"

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"first", b"second"]
    assert len(stored_ids(db)) == int(before)


def test_a_put_after_the_response_is_refused(wrap, db, stored_ids):
    kept = []

    def app(environ, start_response):
        kept.append(environ)
        start_response("200 OK", TEXT)
        return [b"done"]

    Server(wrap(app)).request()

    with pytest.raises(TransactionOver):
        put(kept[0])
    assert stored_ids(db) == []


def test_what_a_stream_shows_can_be_loaded_after_the_commit(wrap, db):
    with db.transaction() as connection:
        connection.root.links = OOBTree({"a": "one", "b": "two"})

    def app(environ, start_response):
        calls = get_manager(environ)
        links = calls.root["links"]
        put(environ)
        start_response("200 OK", TEXT)
        yield b"links: "
        calls_connection = links._p_jar
        calls_connection.cacheMinimize()
        yield links["b"].encode()

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"links: ", b"two"]


def test_a_stream_can_load_what_its_own_commit_has_written(wrap, db):
    def app(environ, start_response):
        root = get_manager(environ).root
        root["links"] = OOBTree({"a": "one"})
        put(environ)
        start_response("200 OK", TEXT)
        yield b"links: "
        # It is in no memory any more, and in no snapshot of before the commit
        root._p_jar.cacheMinimize()
        yield root["links"]["a"].encode()

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"links: ", b"one"]


def test_a_stream_after_a_veto_shows_nothing_of_what_was_not_committed(wrap, db, stored_ids):
    def app(environ, start_response):
        root = get_manager(environ).root
        root["links"] = OOBTree({"a": "one"})
        put(environ)
        start_response("409 Conflict", TEXT)
        yield b"links: "
        yield str("links" in root).encode()

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["409 Conflict", b"links: ", b"False"]
    assert stored_ids(db) == []


def test_a_client_that_leaves_keeps_the_call_that_its_first_part_committed(wrap, db, stored_ids):
    closed = []

    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        try:
            yield b"first"
            yield b"second"
        finally:
            closed.append(True)

    server = Server(wrap(app))
    server.request(parts=1)

    assert closed == [True]
    assert len(stored_ids(db)) == 1
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []


def test_a_body_that_is_never_iterated_over_is_committed_and_closed(wrap, db, stored_ids):
    closed = []

    class Body:
        def __iter__(self):
            return iter([b"never asked for"])

        def close(self):
            closed.append(True)

    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        return Body()

    environ = Request.blank("/").environ
    environ["REMOTE_USER"] = "ann"
    body = wrap(app)(environ, lambda status, headers: None)
    body.close()
    body.close()

    assert closed == [True]
    assert len(stored_ids(db)) == 1


def test_write_commits_before_the_first_part_that_is_not_empty(wrap, db, stored_ids):
    seen = []

    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        write(b"")
        put(environ)
        seen.append(len(stored_ids(db)))
        write(b"first")
        seen.append(len(stored_ids(db)))
        write(b"second")
        return [b"third"]

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"first", b"second", b"third"]
    assert seen == [0, 1]


def test_a_put_after_a_write_is_refused(wrap, db, stored_ids):
    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        write(b"first")
        with pytest.raises(TransactionOver):
            put(environ)
        return []

    Server(wrap(app)).request()

    assert stored_ids(db) == []


# -- the rest of PEP 3333 -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)
@pytest.mark.parametrize("body", [list, lambda: iter(())])
def test_a_response_without_a_body_commits(wrap, db, stored_ids, method, status, body):
    def app(environ, start_response):
        put(environ)
        start_response(status, [])
        return body()

    server = Server(wrap(app))
    server.request(method=method)

    assert server.sent == [status]
    assert len(stored_ids(db)) == 1


def test_start_response_may_be_called_again_with_exc_info_before_the_first_part(
    wrap, db, stored_ids
):
    import sys

    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oh", TEXT, sys.exc_info())
        return [b"error page"]

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["500 Oh", b"error page"]
    assert stored_ids(db) == []


def test_start_response_with_exc_info_after_the_first_part_is_the_servers(wrap, db, stored_ids):
    import sys

    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        yield b"first"
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            start_response("500 Oh", TEXT, sys.exc_info())
        yield b"error page"

    server = Server(wrap(app))
    with pytest.raises(ZeroDivisionError):
        server.request()

    assert server.sent == ["200 OK", b"first"]
    assert len(stored_ids(db)) == 1


def test_start_response_twice_without_exc_info_is_an_error(wrap):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        start_response("201 Created", TEXT)
        return []

    with pytest.raises(AssertionError):
        Server(wrap(app)).request()


@pytest.mark.parametrize("kind", ["list", "generator", "write", "late", "unused", "failing"])
def test_both_sides_are_as_wsgiref_wants_them(wrap, db, kind, caplog):
    def app(environ, start_response):
        def late():
            put(environ)
            start_response("200 OK", TEXT)
            yield b"first"
            yield b"second"

        if kind == "late":
            return late()
        if kind != "unused":
            put(environ)
        if kind == "failing":
            manager = get_manager(environ).connection.transaction_manager
            manager.get().join(failing_commit(OSError()))
        write = start_response("200 OK", TEXT)
        if kind == "write":
            write(b"written")
        return (part for part in [b"a", b"b"]) if kind == "generator" else [b"a"]

    application = validator(wrap(validator(app)))
    output = io.BytesIO()
    environ = Request.blank("/").environ
    environ |= {"REMOTE_USER": "ann", "SCRIPT_NAME": ""}
    environ = {key: value for key, value in environ.items() if not key.startswith("wsgi.")}
    handler = SimpleHandler(io.BytesIO(), output, io.StringIO(), environ, multithread=True)
    handler.run(application)

    expected = b"500 Internal" if kind == "failing" else b"200 OK"
    assert expected in output.getvalue().splitlines()[0]


def test_an_application_that_uses_no_manager_is_not_touched(wrap, db):
    body = [b"a", b"b"]

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return body

    environ = Request.blank("/").environ
    assert wrap(app)(environ, lambda status, headers: None) is body
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []


def test_the_servers_own_file_wrapper_reaches_it(wrap, db, stored_ids):
    from wsgiref.util import FileWrapper

    def app(environ, start_response):
        put(environ)
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    environ = Request.blank("/").environ | {"wsgi.file_wrapper": FileWrapper}
    environ["REMOTE_USER"] = "ann"

    assert type(wrap(app)(environ, lambda *_: None)) is FileWrapper
    assert len(stored_ids(db)) == 1


@pytest.mark.parametrize("uses_manager", [True, False])
def test_a_file_reaches_a_server_that_knows_the_very_file(wrap, db, stored_ids, uses_manager):
    # uWSGI's wrapper is a function, which notes the file and gives it back.
    noted = []

    def file_wrapper(file, block_size=8192):
        noted.append(file)
        return file

    def app(environ, start_response):
        if uses_manager:
            put(environ)
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    environ = Request.blank("/").environ | {"wsgi.file_wrapper": file_wrapper}
    environ["REMOTE_USER"] = "ann"
    body = wrap(app)(environ, lambda *_: None)

    assert [file is body for file in noted] == [True]
    assert len(stored_ids(db)) == int(uses_manager)
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []


# -- beside other transactions --------------------------------------------------------------------


def test_a_write_by_the_threads_transaction_that_was_not_bound_is_refused(wrap, db, stored_ids):
    def app(environ, start_response):
        connection = db.open()
        try:
            connection.root()["note"] = "written"
            with pytest.raises(ConfigurationError, match=r"calls\.bind\(connection\)"):
                put(environ)
        finally:
            transaction.abort()
            connection.close()
        start_response("200 OK", TEXT)
        return []

    Server(wrap(app)).request()

    assert stored_ids(db) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("order", ["before", "after", "without a put", "in a hook"])
@pytest.mark.parametrize("kind", ["list", "generator", "write"])
def test_a_second_connection_in_our_transaction_fails_and_never_hangs(
    wrap, db, stored_ids, root_of, caplog, order, kind
):
    seconds = []

    def app(environ, start_response):
        calls = get_manager(environ)
        calls.root["first"] = True
        manager = calls.connection.transaction_manager
        seconds.append(db.open(transaction_manager=manager))
        if order == "in a hook":
            manager.get().addBeforeCommitHook(seconds[0].root().update, ({"second": True},))
            put(environ)
        elif order == "before":
            seconds[0].root()["second"] = True
            with pytest.raises(ConfigurationError, match="two connections"):
                put(environ)
        else:
            if order == "after":
                put(environ)
            seconds[0].root()["second"] = True
        write = start_response("200 OK", TEXT)
        if kind == "write":
            write(b"all is well")
        return (part for part in [b"all is well"]) if kind == "generator" else [b"all is well"]

    server = Server(wrap(app))
    server.request()
    seconds[0].close()

    assert server.status.startswith("500")
    assert b"all is well" not in server.sent
    assert "two connections" in caplog.text
    assert stored_ids(db) == []
    assert root_of(db, lambda root: sorted({"first", "second"} & set(root))) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("order", ["after", "in a hook"])
def test_nor_does_it_hang_where_the_application_commits_itself(wrap, db, stored_ids, order):
    def app(environ, start_response):
        put(environ)
        manager = get_manager(environ).connection.transaction_manager
        second = db.open(transaction_manager=manager)
        if order == "in a hook":
            manager.get().addBeforeCommitHook(second.root().update, ({"second": True},))
        else:
            second.root()["second"] = True
        with pytest.raises(ConfigurationError, match="two connections"):
            manager.commit()
        manager.abort()
        second.close()
        start_response("200 OK", TEXT)
        return [b"fine"]

    server = Server(wrap(app))
    server.request()

    assert server.sent == ["200 OK", b"fine"]
    assert stored_ids(db) == []


def test_no_connection_is_left_open(wrap, db):
    def app(environ, start_response):
        get_manager(environ).mine()
        start_response("200 OK", TEXT)
        return [b"x"] if environ["PATH_INFO"] == "/list" else iter([b"x"])

    application = wrap(app)
    Server(application).request("/list")
    Server(application).request("/generator")

    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []


@pytest.mark.parametrize("other", ["ann", "a newcomer"])
def test_a_put_does_not_meet_what_was_put_since_its_transaction_began(wrap, db, stored_ids, other):
    # Given a request that reads, while others put and give the lane back that they used
    def app(environ, start_response):
        get_manager(environ).mine()
        if environ["PATH_INFO"] == "/slow":
            told.extend(quick(other) for _ in range(3))
        identifier = put(environ).id
        start_response("200 OK", TEXT)
        return [identifier.encode()]

    def quick(user):
        server = Server(application)
        server.request("/quick", user=user)
        return server.sent[1].decode()

    told = []
    application = wrap(app)
    told.append(quick("ann"))

    # When it puts as well
    server = Server(application)
    server.request("/slow")

    # Then it uses a lane of which it sees the end
    assert server.status == "200 OK"
    told.append(server.sent[1].decode())
    assert sorted(told) == sorted({*stored_ids(db), *stored_ids(db, other)})


def test_nor_does_it_when_that_has_happened_often(wrap, db, stored_ids, monkeypatch):
    monkeypatch.setattr(LanePool, "MAX_LANES", 8)

    # Given requests that read first, while their user puts more calls than a process has lanes
    def app(environ, start_response):
        get_manager(environ).mine(limit=1)
        if environ["PATH_INFO"] == "/slow":
            for _ in range(LanePool.MAX_LANES):
                statuses.append(asked("/quick"))
        put(environ)
        start_response("200 OK", TEXT)
        return [b"done"]

    def asked(path):
        server = Server(application)
        server.request(path)
        return server.status

    statuses = []
    application = wrap(app)

    # When they put as well, one after another
    for _ in range(LanePool.MAX_LANES + 1):
        statuses.append(asked("/slow"))

    # Then there was a lane for each in which nobody had put meanwhile
    assert set(statuses) == {"200 OK"}
    assert len(stored_ids(db)) == len(statuses)


def test_many_threads_put_without_losing_a_call(wrap, db, stored_ids):
    told, wrong = [], []

    def app(environ, start_response):
        call = put(environ)
        start_response("200 OK", TEXT)
        return [call.id.encode()]

    application = wrap(app)

    def requests():
        for _ in range(10):
            server = Server(application)
            server.request()
            (told if server.status == "200 OK" else wrong).append(server.sent[1])

    threads = [threading.Thread(target=requests) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert sorted(stored_ids(db)) == sorted(identifier.decode() for identifier in told)
    assert len(set(told)) == 60


def test_threads_that_put_for_the_first_time_together_do_not_conflict(wrap, stored_ids):
    # Given as many threads as a process has lanes, each in a transaction that began before any put
    def app(environ, start_response):
        get_manager(environ).mine()
        together.wait(60)
        identifier = put(environ).id
        start_response("200 OK", TEXT)
        return [identifier.encode()]

    database = DB(MappingStorage())
    together = threading.Barrier(LanePool.MAX_LANES)
    application = wrap(app, database)

    def request():
        server = Server(application)
        server.request()
        statuses.append(server.status)

    # When they put at the same moment, on a storage that resolves no conflict
    statuses = []
    threads = [threading.Thread(target=request) for _ in range(LanePool.MAX_LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == ["200 OK"] * LanePool.MAX_LANES
    assert len(stored_ids(database)) == LanePool.MAX_LANES
    database.close()


# -- the body is closed once, whatever happens ----------------------------------------------------


class Closing:
    """A body that counts how often it is closed."""

    def __init__(self, parts):
        self.parts = iter(parts)
        self.closed = 0

    def __iter__(self):
        return self.parts

    def close(self):
        self.closed += 1


def _raising():
    yield b""
    raise ZeroDivisionError


SHAPES = {
    "whole": lambda: [b"a", b"b"],
    "empty": list,
    "empty parts": lambda: [b"", b""],
    "empty parts first": lambda: [b"", b"", b"a"],
    "fails before the first part": _raising,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("puts", ["nothing", "a call", "what cannot be committed"])
@pytest.mark.parametrize("client", ["stays", "reads one part", "leaves", "cannot be reached"])
def test_the_body_is_closed_exactly_once(wrap, db, stored_ids, shape, puts, client, caplog):
    body = Closing(SHAPES[shape]())

    def app(environ, start_response):
        if puts != "nothing":
            put(environ)
        if puts == "what cannot be committed":
            manager = get_manager(environ).connection.transaction_manager
            manager.get().join(failing_commit(OSError()))
        start_response("200 OK", TEXT)
        return body

    def start_response(status, headers, exc_info=None):
        if client == "cannot be reached":
            raise BrokenPipeError
        return lambda data: None

    environ = Request.blank("/").environ | {"REMOTE_USER": "ann"}
    answered = None
    try:
        answered = wrap(app)(environ, start_response)
        if client != "leaves":
            for _ in answered:
                if client == "reads one part":
                    break
    except (ZeroDivisionError, BrokenPipeError):
        pass
    finally:
        if hasattr(answered, "close"):
            answered.close()

    assert body.closed == 1
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []
    committed = puts == "a call" and shape != "fails before the first part"
    assert len(stored_ids(db)) == int(committed)


def test_a_file_that_was_not_sent_is_closed_exactly_once(wrap, db, caplog):
    closed = []

    class FileWrapper:
        def __init__(self, file):
            pass

        def __iter__(self):
            return iter([b"file"])

        def close(self):
            closed.append(True)

    def app(environ, start_response):
        manager = get_manager(environ).connection.transaction_manager
        manager.get().join(failing_commit(OSError()))
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))

    def start_response(status, headers, exc_info=None):
        raise BrokenPipeError

    environ = Request.blank("/").environ | {"wsgi.file_wrapper": FileWrapper}
    with pytest.raises(BrokenPipeError):
        wrap(app)(environ, start_response)

    assert closed == [True]
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []
