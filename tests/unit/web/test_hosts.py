# SPDX-License-Identifier: ZPL-2.1
"""Whose transaction, which connection: what can be told, and what is refused."""

from __future__ import annotations

import pytest
import transaction
from ZODB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import ConfigurationError, TransactionOver
from wsgi_zasync.web import hosts


class Remote:
    """A storage whose place is known by a key only."""

    def __init__(self, key):
        self.key = key

    def sortKey(self):
        return self.key


class OtherRemote(Remote):
    """Another kind of it."""


class Database:
    """What has a storage."""

    def __init__(self, storage):
        self.storage = storage
        self.databases = {}


@pytest.fixture
def manager():
    made = transaction.TransactionManager(explicit=True)
    made.begin()
    yield made
    made.abort()


@pytest.fixture
def databases():
    """Make databases, which are closed at the end."""
    made = []

    def make(storage=None, **options):
        made.append(DB(MappingStorage() if storage is None else storage, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def connect(manager):
    """Open connections, which are closed at the end."""
    made = []

    def open_one(database, write=False):
        connection = database.open(transaction_manager=manager)
        made.append(connection)
        if write:
            connection.root()[f"written by {len(made)}"] = True
        return connection

    yield open_one
    manager.abort()
    for each in made:
        each.close()
    manager.begin()


# -- storages -----------------------------------------------------------------------------


def test_one_storage_is_the_same_as_itself(databases):
    database = databases()

    assert hosts.is_same_storage(database, database) is True


def test_storages_in_memory_and_in_files_belong_to_themselves(databases, tmp_path):
    made = [
        databases(),
        databases(),
        databases(DemoStorage()),
        databases(DemoStorage()),
        databases(FileStorage(str(tmp_path / "a.fs"))),
        databases(FileStorage(str(tmp_path / "b.fs"))),
    ]

    for one in made:
        assert [hosts.is_same_storage(one, other) for other in made if other is not one] == [
            False
        ] * 5


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Remote("a"), Remote("a"), True),
        (Remote("a"), Remote("b"), None),
        (Remote("a"), OtherRemote("a"), None),
        (Remote("a"), MappingStorage(), False),
    ],
)
def test_storages_elsewhere_may_be_one(one, other, expected):
    assert hosts.is_same_storage(Database(one), Database(other)) is expected
    assert hosts.is_same_storage(Database(other), Database(one)) is expected


def test_a_connection_is_open_until_somebody_closes_it(databases):
    connection = databases().open()
    assert hosts.is_open(connection)
    connection.close()
    assert not hosts.is_open(connection)
    assert not hosts.is_open(None)


# -- managers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environ", [{}, {"tm.manager": object()}, {"tm.active": False}, {"repoze.tm.active": None}]
)
def test_nobody_owns_a_transaction_unless_it_says_so(environ):
    assert hosts.manager_of(environ) is None


@pytest.mark.parametrize("key", ["tm.active", "repoze.tm.active"])
def test_the_manager_beside_the_mark_is_the_owners(manager, key):
    assert hosts.manager_of({key: True, "tm.manager": manager}) is manager


@pytest.mark.parametrize("key", ["tm.active", "repoze.tm.active"])
def test_without_one_it_is_the_threads(key):
    assert hosts.manager_of({key: True}) is transaction.manager


@pytest.mark.parametrize("forged", ["text", 7, object(), {}])
def test_what_is_no_manager_is_refused(forged):
    with pytest.raises(ConfigurationError, match="no transaction manager"):
        hosts.manager_of({"tm.active": True, "tm.manager": forged})


def test_a_manager_without_a_transaction_has_ended_it():
    idle = transaction.TransactionManager(explicit=True)

    assert not hosts.is_current(idle, object())
    with pytest.raises(TransactionOver):
        hosts.current(idle)


# -- connections ---------------------------------------------------------------------------------


def test_a_connection_is_found_whether_it_has_written_or_not(manager, databases, connect):
    database = databases()
    connection = connect(database)

    assert hosts.find_connection(manager.get(), database) is connection
    assert hosts.only_connection(manager.get()) is connection


def test_a_connection_that_was_closed_is_not_found(manager, databases, connect):
    database = databases()
    connect(database).close()

    assert hosts.find_connection(manager.get(), database) is None


def test_a_connection_to_the_past_is_not_found(manager, databases):
    database = databases()
    past = database.open(transaction_manager=manager, before=b"\0\0\0\0\0\0\1\0")

    assert hosts.find_connection(manager.get(), database) is None
    past.close()


def test_of_several_the_one_that_writes_is_taken(manager, databases, connect):
    database = databases()
    connect(database)
    writing = connect(database, write=True)

    assert hosts.find_connection(manager.get(), database) is writing


def test_two_that_write_are_refused(manager, databases, connect):
    database = databases()
    connect(database, write=True)
    connect(database, write=True)

    with pytest.raises(ConfigurationError, match="two connections"):
        hosts.find_connection(manager.get(), database)
    with pytest.raises(ConfigurationError, match="two connections"):
        hosts.refuse_two_connections(manager.get())


def test_two_that_write_to_two_storages_are_fine(manager, databases, connect):
    connect(databases(), write=True)
    connect(databases(), write=True)

    hosts.refuse_two_connections(manager.get())


def test_a_commit_that_would_hang_fails(manager, databases, connect):
    database = databases()
    connect(database, write=True)
    hosts.watch(manager.get())
    hosts.watch(manager.get())
    connect(database, write=True)

    with pytest.raises(ConfigurationError, match="two connections"):
        manager.commit()


def test_a_connection_that_has_joined_twice_is_refused(manager, databases, connect):
    # ZODB lets it, and its commit waits for itself
    connection = connect(databases(), write=True)
    connection.abort(manager.get())
    connection.root()["again"] = True
    hosts.watch(manager.get())

    with pytest.raises(ConfigurationError, match="two connections"):
        manager.commit()


def test_another_database_of_a_multi_database_is_reached_through_it(manager, databases, connect):
    family: dict = {}
    main = databases(database_name="main", databases=family)
    calls = databases(database_name="zasync", databases=family)
    connection = connect(main)

    found = hosts.find_connection(manager.get(), calls)

    assert found is connection.get_connection("zasync")


def test_among_unrelated_databases_the_right_one_cannot_be_told(manager, databases, connect):
    connect(databases(database_name="one"))
    connect(databases(database_name="two"))

    with pytest.raises(ConfigurationError, match=r"'one', 'two'.*zodb_uri or db"):
        hosts.only_connection(manager.get())


def test_the_database_that_is_named_for_calls_is_not_taken_for_the_hosts(
    manager, databases, connect
):
    family: dict = {}
    main = databases(database_name="main", databases=family)
    databases(database_name="zasync", databases=family)
    connection = connect(main, write=True)
    connection.get_connection("zasync").root()["calls"] = True

    assert hosts.only_connection(manager.get()) is connection


def test_what_may_be_one_storage_is_refused_before_it_hangs(
    manager, databases, connect, monkeypatch
):
    connection = connect(databases())
    monkeypatch.setattr(connection.db(), "storage", Remote("a"))

    with pytest.raises(ConfigurationError, match="leave zodb_uri out"):
        hosts.find_connection(manager.get(), Database(Remote("b")))


def test_nothing_is_found_where_nothing_is(manager, databases):
    assert hosts.only_connection(manager.get()) is None
    assert hosts.find_connection(manager.get(), databases()) is None


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_the_end_of_a_transaction_leaves_alone_whom_our_connection_serves_next(
    manager, databases, connect, end
):
    # Given one of ours that is closed with the transaction, and opened by another before all of
    # what that transaction does at its end
    database, other = databases(), transaction.TransactionManager(explicit=True)
    connection = database.open(transaction_manager=manager)
    connection.root()["ours"] = True
    hosts.close_with(manager.get(), connection)
    other.begin()
    opened = []

    def open_again(*status):
        opened.append(database.open(transaction_manager=other))
        opened[0].root()["theirs"] = True

    getattr(manager.get(), f"addAfter{end.title()}Hook")(open_again)

    getattr(manager, end)()
    other.commit()

    assert opened == [connection]
    opened[0].close()
    manager.begin()
    assert connect(database).root()["theirs"]
