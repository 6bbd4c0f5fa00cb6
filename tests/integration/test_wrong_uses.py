# SPDX-License-Identifier: ZPL-2.1
"""Wrong uses: each gets an error of ours that says what to do, and writes nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
import ZODB
from persistent import Persistent
from persistent.mapping import PersistentMapping
from transaction import TransactionManager
from webob import Request
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import (
    Call,
    CallIsFinal,
    CallManager,
    CallManagerMiddleware,
    CallNotFinal,
    CallNotFound,
    ConfigurationError,
    DuplicateCall,
    ExpressionError,
    InvalidArguments,
    NotAuthenticated,
    Principal,
    QuotaExceeded,
    RetryPolicy,
    Secret,
    TransactionOver,
    Unauthorized,
    UnknownPlugin,
    ZasyncError,
    expose,
    get_manager,
    plugin,
)
from wsgi_zasync.call import CallRecord
from wsgi_zasync.cli import main
from wsgi_zasync.opening import open_database
from wsgi_zasync.settings import Quotas, SharedSettings
from wsgi_zasync.testing import calls_of, deployment_of, memory_db, run_calls
from wsgi_zasync.worker import Worker

Wrong = Callable[[CallManager], Any]


class Colour(StrEnum):
    RED = "red"


class Thing(Persistent):
    pass


@plugin("report.render")
def render(attempt, year=0, *, pages=1):
    return year


@plugin("report.publish", permission="publish")
def publish(attempt, report):
    return None


PLUGINS = {"report.render": render, "report.publish": publish}
QUOTAS = Quotas(max_argument_bytes=1000, max_callbacks=2, max_open_calls=5)


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else []


def opened_elsewhere() -> Any:
    # Nobody closes it: it must be in no transaction of this thread, which is other tests' too.
    return memory_db().open(TransactionManager()).root()


def closed_db() -> Any:
    database = memory_db()
    database.close()
    return database


def endless() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


def declare(calls: CallManager, *texts: str, **names: Any) -> None:
    call = calls.put("report.render")
    for text in texts:
        call.on_success(text, **names)


#: What is done, the error, and words of its text.
AT_PUT: dict[str, tuple[Wrong, type[ZasyncError], str]] = {
    "a naive datetime": (
        lambda calls: calls.options(begin_after=datetime(2027, 1, 1)),
        InvalidArguments, "give one with a timezone",
    ),
    "a lambda as an argument": (
        lambda calls: calls.put("report.render", lambda: 7), InvalidArguments, "args[0]",
    ),
    "a lambda deep inside": (
        lambda calls: calls.put("report.render", pages={"a": [1, print]}),
        InvalidArguments, "kwargs['pages']['a'][1]",
    ),
    "a subclass of a plain type": (
        lambda calls: calls.put("report.render", Colour.RED), InvalidArguments, "exact types",
    ),
    "an argument that is too large": (
        lambda calls: calls.put("report.render", "x" * 1001), InvalidArguments, "1,000 bytes",
    ),
    "an argument that is nested too deep": (
        lambda calls: calls.put("report.render", nested(60)), InvalidArguments, "nested deeper",
    ),
    "a text with a lone surrogate": (
        lambda calls: calls.put("report.render", "\ud800"), InvalidArguments, "surrogate",
    ),
    "an object that is in no database": (
        lambda calls: calls.put("report.render", Thing()), InvalidArguments, "add it first",
    ),
    "an object of another connection": (
        lambda calls: calls.put("report.render", opened_elsewhere()),
        InvalidArguments, "another ZODB connection",
    ),
    "a secret where no secret is configured": (
        lambda calls: calls.put("report.render", Secret("x")), InvalidArguments, "args[0]",
    ),
    "a plugin that nobody has": (
        lambda calls: calls.put("report.rendr"), UnknownPlugin, "did you mean 'report.render'",
    ),
    "a plugin that is no name": (
        lambda calls: calls.put(render), InvalidArguments, "the one that it was declared with",
    ),
    "too many arguments": (
        lambda calls: calls.put("report.render", 1, 2), InvalidArguments, "too many positional",
    ),
    "an argument that there is not": (
        lambda calls: calls.put("report.render", colour=1), InvalidArguments, "colour",
    ),
    "a plugin that the owner may not use": (
        lambda calls: calls.put("report.publish", calls.root["report"]),
        Unauthorized, "permission 'publish'",
    ),
    "an option that there is not": (
        lambda calls: calls.options(prioritiy="high"), InvalidArguments, "did you mean 'priority'",
    ),
    "a priority that there is not": (
        lambda calls: calls.options(priority="urgent"), InvalidArguments, "high, normal, low",
    ),
    "a duration below 0": (
        lambda calls: calls.options(expires=timedelta(seconds=-1)), InvalidArguments, "above 0",
    ),
    "a time too far ahead": (
        lambda calls: calls.options(begin_after=timedelta(days=400)).put("report.render"),
        InvalidArguments, "365 days",
    ),
    "a queue of two words": (
        lambda calls: calls.options(queue="by night"), InvalidArguments, "must be one word",
    ),
    "a number as a title": (
        lambda calls: calls.options(title=7), InvalidArguments, "title must be text",
    ),
    "a number as a retry policy": (
        lambda calls: calls.options(retry=3), InvalidArguments, "RetryPolicy",
    ),
    "a retry policy without an attempt": (
        lambda calls: RetryPolicy(attempts=0), InvalidArguments, "from 1 to 1000",
    ),
    "a number as a principal": (
        lambda calls: setattr(calls, "principal", 7), InvalidArguments, "Principal or a str",
    ),
    "a principal of the strangers' source": (
        lambda calls: setattr(calls, "principal", Principal("ann", "session")),
        InvalidArguments, "use another one",
    ),
    "a principal with a line break": (
        lambda calls: Principal("ann\nbob"), InvalidArguments, "control",
    ),
    "a number as a secret": (lambda calls: Secret(7), InvalidArguments, "text or bytes"),
    "an id that never was": (
        lambda calls: calls.get("zz-aaaaaaaaaaaaaaaa"), CallNotFound, "check the id",
    ),
    "an id that is no id": (lambda calls: calls.get("../etc"), CallNotFound, "check the id"),
    "a state that there is not": (
        lambda calls: calls.mine(state="done"), InvalidArguments, "waiting, running",
    ),
    "a limit that is none": (lambda calls: calls.mine(limit=0), InvalidArguments, "1 to 1000"),
    "a connection that is none": (
        lambda calls: CallManagerMiddleware(print, db="Data.fs"), ConfigurationError, "ZODB.DB",
    ),
    "a key that there is not": (
        lambda calls: CallManagerMiddleware(print, zodb_ury="file://x"),
        ConfigurationError, "did you mean zodb_uri",
    ),
    "two databases": (
        lambda calls: CallManagerMiddleware(print, zodb_uri="file://x", zodb_conf=__file__),
        ConfigurationError, "keep one",
    ),
    "a worker without a database": (lambda calls: Worker(), ConfigurationError, "zodb_uri"),
    "a request in place of its environ": (
        lambda calls: get_manager(object()), ConfigurationError, "request.environ",
    ),
    "an application that cannot be called": (
        lambda calls: CallManagerMiddleware("my_site:app"), ConfigurationError, "WSGI application",
    ),
    "a database that is closed": (
        lambda calls: Worker(closed_db()), ConfigurationError, "closed already",
    ),
    "a grant that is none": (
        lambda calls: CallManagerMiddleware(print, permissions={"edit": ["editor"]}),
        ConfigurationError, "role:NAME",
    ),
    "options of a plugin that is not there": (
        lambda calls: CallManagerMiddleware(print, plugin_options={"report.rendr": {}}),
        ConfigurationError, "no such plugin",
    ),
    "an exposed name that expressions have": (
        lambda calls: CallManagerMiddleware(print, exposed={"result": 1}),
        ConfigurationError, "another name",
    ),
    "a policy without methods": (
        lambda calls: CallManagerMiddleware(print, policy="editor:Policy"),
        ConfigurationError, "cannot be imported",
    ),
    "an identity that cannot be called": (
        lambda calls: CallManagerMiddleware(print, identity=7), ConfigurationError, "called",
    ),
    "a prefix that is no path": (
        lambda calls: CallManagerMiddleware(print, prefix="zasync"),
        ConfigurationError, "such as /_zasync",
    ),
    "anonymous visitors, which there are not yet": (
        lambda calls: CallManagerMiddleware(print, anonymous="session"),
        ConfigurationError, "anonymous = no",
    ),
    "a plugin that takes no attempt": (
        lambda calls: plugin("x")(lambda: 7), ConfigurationError, "first parameter is the attempt",
    ),
    "a plugin that cannot be called": (
        lambda calls: plugin("x")(7), ConfigurationError, "cannot be called",
    ),
    "a retry policy for what is no exception": (
        lambda calls: RetryPolicy(on=7), InvalidArguments, "exception types",
    ),
    "a list that holds itself": (
        lambda calls: calls.put("report.render", endless()), InvalidArguments, "nested deeper",
    ),
    "a frozenset": (
        lambda calls: calls.put("report.render", [frozenset()]), InvalidArguments, "args[0][0]",
    ),
    "a key that is an object": (
        lambda calls: calls.put("report.render", {Thing: 1}), InvalidArguments, "args[0] key",
    ),
    "an id of another type": (lambda calls: calls.cancel(7), CallNotFound, "check the id"),
    "a class that is exposed without a word": (
        lambda calls: expose(Thing), ConfigurationError, '@expose("title")',
    ),
    "a function that is exposed without parentheses": (
        lambda calls: expose(nested), ConfigurationError, "@expose()",
    ),
    "a file in a directory that is not there": (
        lambda calls: open_database(SharedSettings.from_kwargs(zodb_uri="file:///no/such/x.fs")),
        ConfigurationError, "there is no directory /no/such: make it",
    ),
    "plugins for a test that are no mapping": (
        lambda calls: run_calls(memory_db(), [render]), ConfigurationError, "a mapping",
    ),
    "an environ without a manager": (
        lambda calls: get_manager({}), ConfigurationError, "CallManagerMiddleware",
    ),
}  # fmt: skip


@pytest.fixture
def db() -> Iterator[Any]:
    database = memory_db()
    with database.transaction() as connection:
        connection.root()["report"] = PersistentMapping()
    yield database
    database.close()


@pytest.fixture
def deployment() -> Any:
    return deployment_of(PLUGINS, quotas=QUOTAS)


@pytest.mark.parametrize("name", AT_PUT)
def test_a_wrong_use_says_what_to_do_and_writes_nothing(name, db, deployment):
    wrong, error, words = AT_PUT[name]
    with calls_of(db, "ann", deployment) as calls:
        assert calls.count() == 0
    before = db.lastTransaction()

    # When it is done in a transaction that is committed all the same
    with calls_of(db, "ann", deployment) as calls, pytest.raises(error) as raised:
        wrong(calls)

    # Then the error is of this class itself, and speaks
    assert raised.type is error
    assert words in str(raised.value)

    # And nothing was written
    assert db.lastTransaction() == before
    with calls_of(db, "ann", deployment) as calls:
        assert calls.count() == 0


#: With a call that is there already.
OF_A_CALL: dict[str, tuple[Wrong, type[ZasyncError], str]] = {
    "an expression that does not compile": (
        lambda calls: declare(calls, "python: 1 +"), ExpressionError, "line 1",
    ),
    "a name that expressions call": (
        lambda calls: declare(calls, "string:x", put=1), InvalidArguments, "bind another",
    ),
    "a bound secret": (
        lambda calls: declare(calls, "string:x", key=Secret("x")), InvalidArguments, "argument",
    ),
    "Python without its prefix": (
        lambda calls: declare(calls, "feeds.update(name, result)"),
        ExpressionError, "Python begins with python:",
    ),
    "an expression that is no text": (lambda calls: declare(calls, 7), InvalidArguments, "text"),
    "a name that is taken": (
        lambda calls: declare(calls, "string:x", result=1), InvalidArguments, "is taken",
    ),
    "a name with an underscore": (
        lambda calls: declare(calls, "string:x", _x=1), InvalidArguments, "begins with _",
    ),
    "a bound lambda": (
        lambda calls: declare(calls, "string:x", f=print), InvalidArguments, "f is of type",
    ),
    "too many callbacks": (
        lambda calls: declare(calls, "string:1", "string:2", "string:3"),
        QuotaExceeded, "max_callbacks = 2",
    ),
    "forgetting a call that waits": (
        lambda calls: calls.put("report.render").forget(), CallNotFinal, "cancel it first",
    ),
    "the result of a call that waits": (
        lambda calls: calls.put("report.render").result, CallNotFinal, "no result yet",
    ),
    "a second call with one key": (
        lambda calls: [
            calls.options(unique="k", on_duplicate="raise").put("report.render") for _ in "ab"
        ],
        DuplicateCall, "not final",
    ),
    "what to do about a second call, and no key to know it by": (
        lambda calls: calls.options(on_duplicate="replace").put("report.render"),
        InvalidArguments, "does nothing without unique",
    ),
    "more calls than are allowed": (
        lambda calls: [calls.put("report.render") for _ in range(6)],
        QuotaExceeded, "max_open_calls = 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_A_CALL)
def test_a_wrong_use_of_a_call_says_what_to_do(name, db, deployment):
    wrong, error, words = OF_A_CALL[name]

    with suppress(ZasyncError), calls_of(db, "ann", deployment) as calls:
        with pytest.raises(error) as raised:
            wrong(calls)
        assert raised.type is error
        assert words in str(raised.value)
        raise raised.value

    with calls_of(db, "ann", deployment) as calls:
        assert calls.count() == 0


def test_what_comes_too_late_for_a_call_is_refused(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("report.render")
    run_calls(db, PLUGINS)

    with calls_of(db, "ann", deployment) as calls:
        for late in ("on_success", "send"):
            with pytest.raises(CallIsFinal):
                getattr(calls.get(call.id), late)("string:x")


def kept_from_a_request(db, **environ):
    """A call that an application has put, and kept longer than its request."""
    kept = []

    def app(environ, start_response):
        kept.append(get_manager(environ).put("report.render"))
        start_response("200 OK", [])
        return [b""]

    Request.blank("/", environ={"REMOTE_USER": "ann", **environ}).get_response(
        CallManagerMiddleware(app, db, plugins=PLUGINS)
    )
    (call,) = kept
    return call


#: What can be read of a call: everything but its ids.
READ = [
    name
    for name in dir(Call)
    if isinstance(getattr(Call, name), property) and name not in ("id", "oid") and name[0] != "_"
] + ["to_dict"]


def read(call, name):
    found = getattr(call, name)
    return found() if callable(found) else found


@pytest.mark.parametrize("name", READ)
def test_what_was_not_loaded_of_a_kept_call_is_not_read_by_a_closed_connection(db, name):
    kept_from_a_request(db)
    run_calls(db, PLUGINS)
    # Nothing is in the connection's memory but what the put itself needs; no worker's board.
    db.cacheMinimize()
    call = kept_from_a_request(db)

    assert repr(call) == f"<Call {call.id}>"
    if name == "state":
        with pytest.raises(TransactionOver, match=rf"{call.id}.*calls\.get\(id\)"):
            read(call, name)
    with suppress(CallNotFinal, TransactionOver):
        read(call, name)


@pytest.mark.parametrize("what", ["call", "manager"])
def test_neither_a_call_nor_a_manager_can_be_stored(db, deployment, what):
    with calls_of(db, "ann", deployment) as calls:
        first = calls.put("report.render")
    before = db.lastTransaction()

    with (
        pytest.raises(InvalidArguments, match="cannot be stored"),
        calls_of(db, "ann", deployment) as calls,
    ):
        calls.root["kept"] = calls.get(first.id) if what == "call" else calls

    assert db.lastTransaction() == before


def test_a_manager_and_its_calls_are_over_with_the_block_of_a_test(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("report.render")

    for late in (calls.count, call.cancel, lambda: calls.put("report.render")):
        with pytest.raises(TransactionOver, match="find calls by their ids"):
            late()


def test_a_call_that_is_kept_longer_than_its_request_is_not_written_to(db):
    call = kept_from_a_request(db)
    before = db.lastTransaction()

    for late in (
        call.cancel, call.forget, call.retry_callbacks,
        lambda: call.send(1), lambda: call.on_any("string:x"),
    ):  # fmt: skip
        with pytest.raises(TransactionOver, match="ended when its response began"):
            late()

    assert db.lastTransaction() == before


@pytest.mark.parametrize("name", READ)
def test_a_call_that_is_kept_longer_than_its_request_is_not_read_by_anothers_connection(db, name):
    """Its connection may serve another request by now, in another thread."""
    call = kept_from_a_request(db)
    # As long as the connection serves nobody, what was loaded can be seen.
    assert call.plugin == "report.render"
    assert call.state == "waiting"
    others = [db.open() for _ in range(3)]

    with pytest.raises(TransactionOver, match=rf"{call.id}.*calls\.get\(id\)"):
        read(call, name)

    assert repr(call) == f"<Call {call.id}>"
    assert call.oid is not None
    assert call._record._p_jar in others
    for connection in others:
        connection.close()


def test_what_is_not_loaded_of_a_call_is_not_read_after_its_request(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("report.render")
    call._record._p_deactivate()

    with pytest.raises(TransactionOver, match="calls.get"):
        read(call, "state")


@pytest.mark.parametrize("before", range(3))
@pytest.mark.parametrize("by", ["abort", "savepoint"])
def test_a_call_that_was_taken_back_is_not_taken_for_the_one_in_its_place(
    db, deployment, before, by
):
    """In the first of these cases the record goes, in the others it is filled once more."""
    with calls_of(db, "ann", deployment) as calls:
        for _ in range(before):
            calls.put("report.render")
    with calls_of(db, "ann", deployment) as calls:
        manager = calls.connection.transaction_manager
        savepoint = manager.savepoint()
        lost = calls.put("report.render", year=1).on_success("nothing")
        if by == "abort":
            manager.abort()
            manager.begin()
        else:
            savepoint.rollback()
        for _ in range(2):
            for name in READ:
                with pytest.raises(TransactionOver, match=rf"{lost.id} does not exist.*again"):
                    read(lost, name)
            for write in (lost.cancel, lost.forget, lambda: lost.on_any("nothing")):
                with pytest.raises(TransactionOver, match="does not exist"):
                    write()
            assert repr(lost) == f"<Call {lost.id}>"
            calls.put("report.render", year=2)
        mine = calls.mine()
    assert [call.kwargs for call in mine[:2]] == [{"year": 2}] * 2
    assert len(mine) == before + 2


def test_a_call_that_a_test_keeps_longer_than_its_manager_is_not_read(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("report.render")
        assert call.plugin == "report.render"

    other = db.open()
    with pytest.raises(TransactionOver, match="calls.get"):
        read(call, "state")
    other.close()


def test_a_call_is_read_as_long_as_its_response_is_made(db):
    """The last part is made when our transaction has been committed long since."""
    seen = []

    def app(environ, start_response):
        call = get_manager(environ).put("report.render")
        start_response("200 OK", [])
        for _ in range(2):
            seen.append(str(call.state))
            yield call.id.encode()
        for name in READ:
            if name != "result":
                read(call, name)
            seen.append(name)

    Request.blank("/", environ={"REMOTE_USER": "ann"}).get_response(
        CallManagerMiddleware(app, db, plugins=PLUGINS)
    )

    assert seen == ["waiting", "waiting", *READ]


def test_a_call_in_a_hosts_transaction_is_read_as_long_as_the_host_goes_on(db):
    # Given a host outside, whose transaction goes on when we have ended the request
    manager = TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(transaction_manager=manager)
    connection.root()["x"] = 1
    call = kept_from_a_request(db, **{"tm.active": True, "tm.manager": manager})

    # Then it can look at the call before its commit and after it
    assert call.plugin == "report.render"
    manager.commit()
    manager.begin()
    assert call.state == "waiting"
    manager.abort()
    connection.close()


def test_another_users_id_is_an_unknown_one(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("report.render")

    with calls_of(db, "bob", deployment) as calls:
        texts = []
        for wanted in (call.id, call.id[:-1] + ("a" if call.id[-1] != "a" else "b")):
            with pytest.raises(CallNotFound) as raised:
                calls.get(wanted)
            texts.append(str(raised.value).replace(wanted, "ID"))
        assert texts[0] == texts[1]


def test_nobody_puts_nothing(db, deployment):
    with calls_of(db, None, deployment) as calls, pytest.raises(NotAuthenticated, match="log in"):
        calls.put("report.render")


def test_a_storage_of_a_newer_version_is_not_touched(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        calls.put("report.render")
        calls.root["wsgi_zasync"].version = 99

    with (
        pytest.raises(ConfigurationError, match="upgrade this process"),
        calls_of(db, "ann", deployment) as calls,
    ):
        calls.put("report.render")


def test_a_worker_that_runs_is_not_started_again(db):
    worker = Worker(db, plugins=PLUGINS)
    worker.start()
    try:
        for again in (worker.start, worker.run_once):
            with pytest.raises(ConfigurationError, match="runs"):
                again()
    finally:
        worker.stop()


def test_a_file_that_another_has_open_is_named(tmp_path, capsys):
    path = tmp_path / "Data.fs"
    database = ZODB.DB(FileStorage(str(path)))
    config = tmp_path / "site.ini"
    config.write_text(f"[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_uri = file://{path}\n")
    try:
        with pytest.raises(ConfigurationError, match=r"open in another process.* ZODB\.DB as db"):
            Worker(zodb_uri=f"file://{path}").run_once()
        assert main(["list", str(config)]) == 2
        assert "open in another process" in capsys.readouterr().err
    finally:
        database.close()


@pytest.mark.parametrize("given", ["Data.fs", MappingStorage(), 7])
def test_a_database_that_is_none_is_refused(given):
    for wrong in (lambda: Worker(given), lambda: CallManagerMiddleware(print, given)):
        with pytest.raises(ConfigurationError, match=r"give ZODB.DB\(storage\)"):
            wrong()

    # Also one that is opened when it is needed
    with pytest.raises(ConfigurationError, match=r"give ZODB.DB\(storage\)"):
        Worker(lambda: given).run_once()


def test_a_path_is_no_zodb_uri_and_what_is_one_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match=f"write file://{tmp_path}/Data.fs"):
        Worker(zodb_uri=f"{tmp_path}/Data.fs").run_once()

    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("uri", ["nothing://x", "file:///no/such/directory/Data.fs"])
def test_a_storage_that_cannot_be_opened_is_named(uri):
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        Worker(zodb_uri=uri, secret="s" * 40).run_once()


def test_a_server_that_is_not_there_is_no_configuration_error(tmp_path, capsys, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        monkeypatch.setenv("ZASYNC_SECRET", "s" * 40)
        config = tmp_path / "site.ini"
        config.write_text(
            "[worker:main]\nuse = egg:wsgi_zasync#worker\nsecret = env:ZASYNC_SECRET\n"
            f"zodb_uri = zeo://127.0.0.1:{port}?wait_timeout=1\n"
        )
        assert main(["list", str(config)]) == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_the_record_that_is_stored_has_no_way_to_end_twice():
    record = CallRecord()
    record.seed = b"x"
    record.cancel(1)

    with pytest.raises(CallIsFinal, match="cannot become"):
        record.succeed(None, 2)
