# SPDX-License-Identifier: ZPL-2.1
"""The application owns a transaction that no environ tells of, and binds its connection."""

from __future__ import annotations

import pytest
import transaction
from ZODB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ConflictError

from wsgi_zasync import ConfigurationError, TransactionOver, get_manager

pytestmark = pytest.mark.timeout(60)

TEXT = [("Content-Type", "text/plain")]


@pytest.fixture(params=["thread-local", "explicit"])
def manager(request):
    """The application's own transaction manager."""
    if request.param == "explicit":
        yield transaction.TransactionManager(explicit=True)
        return
    yield transaction.manager
    transaction.abort()


@pytest.fixture
def site(wrap, db, manager):
    """An application that runs ``work`` in a transaction of its own, with its own connection."""

    def build(work, attempts=1, **settings):
        def app(environ, start_response):
            for attempt in range(attempts):
                manager.begin()
                connection = db.open(transaction_manager=manager)
                calls = get_manager(environ)
                calls.bind(connection)
                try:
                    text = work(calls, connection) or "fine"
                    manager.commit()
                    break
                except BaseException as error:
                    manager.abort()
                    if not isinstance(error, ConflictError) or attempt + 1 == attempts:
                        raise
                finally:
                    connection.close()
            start_response("200 OK", TEXT)
            return [text.encode()]

        return wrap(app, **settings)

    return build


def test_the_call_commits_with_the_bound_connection(site, ask, db, stored_ids, root_of):
    def work(calls, connection):
        assert calls.connection is connection
        connection.root()["note"] = "written"
        return calls.put("echo").id

    response = ask(site(work))

    assert stored_ids(db) == [response.text]
    assert root_of(db, lambda root: root["note"]) == "written"


def test_the_middleware_needs_no_database_of_its_own(site, ask, db, stored_ids):
    response = ask(site(lambda calls, connection: calls.put("echo").id, database=None))

    assert stored_ids(db) == [response.text]


@pytest.mark.parametrize(
    ("use", "put_before"),
    [
        (lambda calls: calls.principal, 0),
        (lambda calls: calls.count(), 0),
        (lambda calls: calls.put("echo", "before"), 1),
    ],
    ids=["principal", "count", "put"],
)
def test_what_was_asked_before_the_bind_fails_nothing_after_it(
    wrap, ask, db, manager, stored_ids, use, put_before
):
    # Given an application that uses its manager, and begins its own transaction only then
    def app(environ, start_response):
        calls = get_manager(environ)
        use(calls)
        manager.begin()
        connection = db.open(transaction_manager=manager)
        calls.bind(connection)
        text = calls.put("echo").id
        manager.commit()
        connection.close()
        start_response("200 OK", TEXT)
        return [text.encode()]

    # When
    response = ask(wrap(app))

    # Then both transactions have committed
    assert response.status_int == 200
    assert response.text in stored_ids(db)
    assert len(stored_ids(db)) == 1 + put_before


def test_who_only_looks_writes_nothing_not_even_in_a_database_without_calls(site, ask, db, root_of):
    def work(calls, connection):
        assert (calls.count(), calls.count("running")) == (0, 0)
        assert calls.mine() == []
        assert "x" not in calls
        assert connection._registered_objects == []

    ask(site(work))
    assert root_of(db, lambda root: "wsgi_zasync" in root) is False


def test_a_put_after_a_look_into_a_database_without_calls_is_found(site, ask, db, stored_ids):
    def work(calls, connection):
        assert calls.mine() == []
        call = calls.put("echo")
        assert calls.mine() == [call]
        return call.id

    assert ask(site(work)).text in stored_ids(db)


def test_an_exception_aborts(site, ask, db, stored_ids):
    def work(calls, connection):
        calls.put("echo")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(site(work))

    assert stored_ids(db) == []


def test_a_doomed_transaction_has_no_call(site, ask, db, stored_ids):
    def work(calls, connection):
        calls.put("echo")
        connection.transaction_manager.doom()

    with pytest.raises(transaction.interfaces.DoomedTransaction):
        ask(site(work))

    assert stored_ids(db) == []


def test_a_failed_commit_is_the_applications_to_tell_and_has_no_call(site, ask, db, stored_ids):
    def work(calls, connection):
        calls.put("echo")
        connection.root()["bad"] = lambda: None

    with pytest.raises(Exception, match="pickle|lambda"):
        ask(site(work))

    assert stored_ids(db) == []


def test_a_stream_that_fails_before_the_commit_has_no_call(wrap, ask, db, manager, stored_ids):
    def app(environ, start_response):
        manager.begin()
        connection = db.open(transaction_manager=manager)
        get_manager(environ).bind(connection)
        try:
            get_manager(environ).put("echo")
            start_response("200 OK", TEXT)
            yield b"first"
            raise ZeroDivisionError
        finally:
            manager.abort()
            connection.close()

    with pytest.raises(ZeroDivisionError):
        assert ask(wrap(app)).body

    assert stored_ids(db) == []


def test_an_abort_of_the_application_has_no_call(site, ask, db, manager, stored_ids):
    def work(calls, connection):
        calls.put("echo")
        manager.abort()
        manager.begin()

    assert ask(site(work)).status_int == 200
    assert stored_ids(db) == []


def test_a_connection_can_be_closed_before_the_commit_once_all_was_taken_back(
    wrap, ask, db, manager, stored_ids
):
    def app(environ, start_response):
        manager.begin()
        connection = db.open(transaction_manager=manager)
        calls = get_manager(environ)
        calls.bind(connection)
        calls.principal = "ann"
        savepoint = manager.savepoint()
        calls.put("echo")
        if environ["PATH_INFO"] == "/not":
            savepoint.rollback()
            connection.close()
            manager.commit()
        else:
            manager.commit()
            connection.close()
        start_response("200 OK", TEXT)
        return [b"fine"]

    application = wrap(app)
    for path in (*"////", "/not"):
        assert ask(application, path).status_int == 200

    assert len(stored_ids(db)) == 4


def test_a_status_of_an_error_changes_nothing_after_the_applications_commit(
    wrap, ask, db, manager, stored_ids
):
    def app(environ, start_response):
        manager.begin()
        connection = db.open(transaction_manager=manager)
        calls = get_manager(environ)
        calls.bind(connection)
        calls.put("echo")
        manager.commit()
        connection.close()
        start_response("500 Oh", TEXT)
        return [b"sorry"]

    ask(wrap(app))

    assert len(stored_ids(db)) == 1


@pytest.mark.parametrize("status", ["200 OK", "409 Conflict"])
@pytest.mark.parametrize("shape", [list, iter])
def test_the_veto_is_whose_transaction_it_is_also_around_us(
    wrap, ask, db, manager, stored_ids, status, shape
):
    """A host outside of the middleware, which ends its transaction when the body was closed."""

    def app(environ, start_response):
        get_manager(environ).bind(environ["my.connection"])
        get_manager(environ).put("echo")
        start_response(status, TEXT)
        return shape([b"fine"])

    inner = wrap(app)

    def host(environ, start_response):
        said = []
        manager.begin()
        connection = environ["my.connection"] = db.open(transaction_manager=manager)
        try:
            body = inner(environ, lambda *response: said.append(response))
            parts = list(body)
            getattr(body, "close", bool)()
            assert stored_ids(db) == []
        finally:
            manager.abort() if said[0][0].startswith("4") else manager.commit()
            connection.close()
        start_response(*said[0])
        return parts

    assert ask(host).body == b"fine"
    assert len(stored_ids(db)) == (1 if status == "200 OK" else 0)


def test_conflicts_until_no_attempt_is_left_leave_no_call(site, ask, db, stored_ids):
    told = []

    def work(calls, connection):
        told.append(calls.put("echo").id)
        connection.root()["count"] = len(told)
        with db.transaction() as other:
            other.root()["count"] = 10

    with pytest.raises(ConflictError):
        ask(site(work, attempts=3))

    assert len(told) == 3
    assert stored_ids(db) == []


def test_a_conflict_that_is_retried_leaves_one_call(site, ask, db, stored_ids):
    told = []

    def work(calls, connection):
        told.append(calls.put("echo").id)
        connection.root()["count"] = len(told)
        if len(told) < 3:
            with db.transaction() as other:
                other.root()["count"] = 10
        return told[-1]

    response = ask(site(work, attempts=3))

    assert len(told) == 3
    assert stored_ids(db) == [response.text]


def test_a_stream_that_fails_after_the_commit_keeps_its_call(wrap, ask, db, manager, stored_ids):
    def app(environ, start_response):
        manager.begin()
        connection = db.open(transaction_manager=manager)
        get_manager(environ).bind(connection)
        get_manager(environ).put("echo")
        manager.commit()
        connection.close()
        start_response("200 OK", TEXT)
        yield b"first"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        assert ask(wrap(app)).body

    assert len(stored_ids(db)) == 1


def test_a_put_in_the_next_transaction_needs_a_new_bind(site, ask, db, manager, stored_ids):
    def work(calls, connection):
        calls.put("echo")
        manager.commit()
        manager.begin()
        with pytest.raises(TransactionOver, match=r"calls\.bind\(connection\)"):
            calls.put("echo")
        calls.bind(connection)
        calls.put("echo")

    ask(site(work))

    assert len(stored_ids(db)) == 2


def test_a_principal_that_was_set_is_gone_with_the_transaction(site, ask, db, stored_ids):
    seen = []

    def work(calls, connection):
        seen.append(calls.principal.id)
        calls.principal = "bob"
        calls.put("echo")
        if len(seen) < 2:
            raise ConflictError

    ask(site(work, attempts=2))

    assert seen == ["ann", "ann"]
    assert len(stored_ids(db, "bob")) == 1


def test_a_principal_that_was_set_before_the_bind_is_not_taken_for_the_requests(
    wrap, ask, db, manager, stored_ids
):
    def app(environ, start_response):
        calls = get_manager(environ)
        calls.principal = "carol"
        manager.begin()
        connection = db.open(transaction_manager=manager)
        calls.bind(connection)
        for use in (lambda: calls.principal, lambda: calls.put("echo"), calls.mine):
            with pytest.raises(ConfigurationError, match="set it again"):
                use()
        calls.principal = "carol"
        calls.put("echo")
        manager.commit()
        connection.close()
        start_response("200 OK", TEXT)
        return []

    assert ask(wrap(app)).status_int == 200
    assert (len(stored_ids(db, "carol")), stored_ids(db, "ann")) == (1, [])


def test_an_attempt_can_ask_who_it_is_before_it_binds(wrap, ask, db, manager, stored_ids):
    seen = []

    def app(environ, start_response):
        calls = get_manager(environ)
        for _ in range(2):
            seen.append(calls.principal.id)
            manager.begin()
            connection = db.open(transaction_manager=manager)
            calls.bind(connection)
            calls.principal = "carol"
            calls.put("echo")
            manager.abort()
            connection.close()
        start_response("200 OK", TEXT)
        return []

    assert ask(wrap(app)).status_int == 200
    assert seen == ["ann", "ann"]
    assert stored_ids(db, "carol") == []


def test_what_is_no_open_connection_cannot_be_bound(wrap, ask, db):
    def app(environ, start_response):
        calls = get_manager(environ)
        closed = db.open(transaction_manager=transaction.TransactionManager())
        closed.close()
        with pytest.raises(ConfigurationError, match="open"):
            calls.bind(closed)
        with pytest.raises(ConfigurationError, match="ZODB connection"):
            calls.bind(db)
        start_response("200 OK", TEXT)
        return []

    assert ask(wrap(app)).status_int == 200


def test_a_connection_without_a_transaction_cannot_be_bound(wrap, ask, db):
    def app(environ, start_response):
        connection = db.open(transaction_manager=transaction.TransactionManager(explicit=True))
        with pytest.raises(TransactionOver):
            get_manager(environ).bind(connection)
        connection.close()
        start_response("200 OK", TEXT)
        return []

    assert ask(wrap(app)).status_int == 200


@pytest.mark.parametrize("settings", [{}, {"database": None}], ids=["configured", "found"])
def test_the_bound_connection_is_used_although_another_was_opened_before(
    wrap, ask, db, manager, stored_ids, root_of, settings
):
    def app(environ, start_response):
        manager.begin()
        other, bound = [db.open(transaction_manager=manager) for _ in range(2)]
        calls = get_manager(environ)
        calls.bind(bound)
        calls.put("echo")
        assert calls.connection is bound
        bound.root()["note"] = "written"
        manager.commit()
        bound.close()
        other.close()
        start_response("200 OK", TEXT)
        return []

    ask(wrap(app, **settings))

    assert len(stored_ids(db)) == 1
    assert root_of(db, lambda root: root["note"]) == "written"


@pytest.mark.parametrize("order", ["before", "after", "in a hook"])
def test_a_second_connection_to_the_storage_fails_and_never_hangs(site, ask, db, stored_ids, order):
    def work(calls, connection):
        second = db.open(transaction_manager=connection.transaction_manager)
        try:
            connection.root()["first"] = True
            if order == "before":
                second.root()["second"] = True
            calls.put("echo")
            if order == "in a hook":
                txn = connection.transaction_manager.get()
                txn.addBeforeCommitHook(second.root().update, ({"second": True},))
            else:
                second.root()["second"] = True
            connection.transaction_manager.commit()
        finally:
            connection.transaction_manager.abort()
            second.close()
            connection.transaction_manager.begin()

    with pytest.raises(ConfigurationError, match="two connections"):
        ask(site(work))

    assert stored_ids(db) == []


def test_a_put_says_so_where_a_second_connection_has_written_since_the_last_one(
    site, ask, db, stored_ids
):
    def work(calls, connection):
        calls.put("echo")
        second = db.open(transaction_manager=connection.transaction_manager)
        second.root()["second"] = True
        try:
            with pytest.raises(ConfigurationError, match="two connections"):
                calls.put("echo")
        finally:
            connection.transaction_manager.abort()
            second.close()
            connection.transaction_manager.begin()

    ask(site(work))

    assert stored_ids(db) == []


def test_the_database_named_zasync_of_a_multi_database_holds_the_calls(
    wrap, ask, manager, stored_ids, root_of
):
    # Given
    databases = {}
    main = DB(MappingStorage(), database_name="main", databases=databases)
    calls_database = DB(MappingStorage(), database_name="zasync", databases=databases)

    def app(environ, start_response):
        manager.begin()
        connection = main.open(transaction_manager=manager)
        calls = get_manager(environ)
        calls.bind(connection)
        calls.root["note"] = "written"
        calls.put("echo")
        manager.commit()
        connection.close()
        start_response("200 OK", TEXT)
        return []

    # When
    ask(wrap(app, database=None))

    # Then
    assert len(stored_ids(calls_database)) == 1
    assert root_of(main, lambda root: sorted(root)) == ["note"]
    main.close()
    calls_database.close()


def test_two_middlewares_of_two_databases_are_in_one_transaction(
    wrap, ask, db, manager, stored_ids
):
    # Given two sites, one around the other, each with a database of its own for calls
    others = DB(MappingStorage())

    def inner(environ, start_response):
        told.append(get_manager(environ).put("echo").id)
        start_response("200 OK", TEXT)
        return []

    def outer(environ, start_response):
        told.append(get_manager(environ).put("echo").id)
        return around(environ, start_response)

    def host(environ, start_response):
        environ |= {"tm.active": True, "tm.manager": manager}
        manager.begin()
        body = list(wrap(outer)(environ, start_response))
        manager.commit()
        return body

    told = []
    around = wrap(inner, database=others)

    # When
    ask(host)

    # Then each has its own
    assert [stored_ids(db), stored_ids(others)] == [[told[0]], [told[1]]]
    others.close()


def test_a_connection_can_be_named_by_its_environ_key(wrap, ask, db, manager, stored_ids):
    def app(environ, start_response):
        connection = db.open(transaction_manager=manager)
        environ |= {"tm.active": True, "tm.manager": manager, "my.connection": connection}
        manager.begin()
        assert get_manager(environ).connection is connection
        get_manager(environ).put("echo")
        manager.commit()
        connection.close()
        start_response("200 OK", TEXT)
        return []

    ask(wrap(app, database=None, connection="my.connection"))

    assert len(stored_ids(db)) == 1


# -- a connection that the host hands over in the environ -------------------------------------


@pytest.fixture
def handing_over(wrap, db, manager):
    """A host that opens a connection for the request, and says no more than where it is."""

    def build(work, end="commit", connection="my.connection"):
        def host(environ, start_response):
            manager.begin()
            opened = environ["my.connection"] = db.open(transaction_manager=manager)
            try:
                text = work(get_manager(environ), opened) or "fine"
                getattr(manager, end)()
            except BaseException:
                manager.abort()
                raise
            finally:
                opened.close()
            start_response("200 OK", TEXT)
            return [text.encode()]

        return wrap(host, database=None, connection=connection)

    return build


@pytest.mark.parametrize("connection", ["my.connection", lambda environ: environ["my.connection"]])
def test_a_call_commits_with_the_connection_that_was_handed_over(
    handing_over, ask, stored_ids, db, root_of, connection
):
    def work(calls, opened):
        assert calls.connection is opened
        calls.root["note"] = "written"
        return calls.put("echo").id

    response = ask(handing_over(work, connection=connection))

    assert stored_ids(db) == [response.text]
    assert root_of(db, lambda root: root["note"]) == "written"


def test_a_call_is_aborted_with_the_connection_that_was_handed_over(
    handing_over, ask, stored_ids, db
):
    response = ask(handing_over(lambda calls, opened: calls.put("echo").id, end="abort"))

    assert response.status_int == 200
    assert stored_ids(db) == []


def test_a_doomed_transaction_of_a_connection_that_was_handed_over_has_no_call(
    handing_over, ask, stored_ids, db, manager
):
    def work(calls, opened):
        calls.put("echo")
        manager.doom()

    with pytest.raises(transaction.interfaces.DoomedTransaction):
        ask(handing_over(work))
    assert stored_ids(db) == []


def test_a_put_through_a_connection_that_was_closed_is_refused(wrap, ask, db, stored_ids):
    def app(environ, start_response):
        manager = transaction.TransactionManager(explicit=True)
        manager.begin()
        environ["my.connection"] = connection = db.open(transaction_manager=manager)
        manager.abort()
        connection.close()
        with pytest.raises(TransactionOver, match="closed"):
            get_manager(environ).put("echo")
        start_response("200 OK", TEXT)
        return []

    assert ask(wrap(app, connection="my.connection")).status_int == 200
    assert stored_ids(db) == []


def test_a_connection_of_another_transaction_than_the_hosts_is_refused(wrap, ask, db, stored_ids):
    def app(environ, start_response):
        hosts, others = (transaction.TransactionManager(explicit=True) for _ in range(2))
        hosts.begin()
        others.begin()
        connection = db.open(transaction_manager=others)
        environ |= {"tm.active": True, "tm.manager": hosts, "my.connection": connection}
        with pytest.raises(ConfigurationError, match="another transaction"):
            get_manager(environ).put("echo")
        others.abort()
        connection.close()
        start_response("200 OK", TEXT)
        return []

    assert ask(wrap(app, connection="my.connection")).status_int == 200
    assert stored_ids(db) == []


@pytest.mark.parametrize("use", [lambda calls: calls.put("echo"), lambda calls: calls.root])
def test_a_connection_that_is_missing_where_it_should_be_is_no_reason_to_take_another(
    wrap, ask, stored_ids, db, use
):
    def app(environ, start_response):
        with pytest.raises(ConfigurationError, match="my.connection, .* no such key"):
            use(get_manager(environ))
        start_response("200 OK", TEXT)
        return []

    assert ask(wrap(app, connection="my.connection")).status_int == 200
    assert stored_ids(db) == []


def test_a_function_may_say_that_a_request_has_no_connection(wrap, ask, stored_ids, db):
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        return [get_manager(environ).put("echo").id.encode()]

    response = ask(wrap(app, connection=lambda environ: environ.get("my.connection")))

    assert stored_ids(db) == [response.text]


# -- a host that has a transaction, and no connection in it --------------------------------------


@pytest.mark.parametrize("first", ["root", "put"])
def test_a_connection_of_ours_in_a_hosts_transaction_is_to_the_applications_database(
    wrap, ask, stored_ids, root_of, first
):
    databases = {}
    main = DB(MappingStorage(), database_name="main", databases=databases)
    calls_database = DB(MappingStorage(), database_name="zasync", databases=databases)

    def app(environ, start_response):
        hosts = transaction.TransactionManager(explicit=True)
        hosts.begin()
        environ |= {"tm.active": True, "tm.manager": hosts}
        calls = get_manager(environ)
        if first == "put":
            calls.put("echo")
        calls.root["note"] = "written"
        if first == "root":
            calls.put("echo")
        hosts.commit()
        start_response("200 OK", TEXT)
        return []

    ask(wrap(app, database=main))

    assert root_of(main, lambda root: sorted(root)) == ["note"]
    assert len(stored_ids(calls_database)) == 1
    for database in (main, calls_database):
        assert [c for c in database.connectionDebugInfo() if c["opened"]] == []
        database.close()
