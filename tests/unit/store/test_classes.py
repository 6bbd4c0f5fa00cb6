# SPDX-License-Identifier: ZPL-2.1
"""A database of calls loads calls, and runs nothing that a record names."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import ZODB
from persistent import Persistent
from persistent.mapping import PersistentMapping
from transaction import Transaction
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import p64

from wsgi_zasync import Principal, RetryPolicy, Secret
from wsgi_zasync.call import CallRecord
from wsgi_zasync.sealing import Keys, Sealer
from wsgi_zasync.store import accepted, classes, index, lanes, mailbox, opening, root
from wsgi_zasync.testing import calls_of, deployment_of, run_calls

SECRET = "s" * 40
PLUGINS = {"echo": lambda attempt, *args, **kwargs: args}
VALUES = (
    None, True, 7, 2**70, 1.5, "ä", b"\xff", datetime(2026, 1, 1, tzinfo=UTC), date(2026, 1, 1),
    timedelta(1), Decimal("1.5"), UUID(int=7), [1], (2,), {"a": 3}, {4},
)  # fmt: skip


def opened(main: Any, calls: Any) -> Any:
    databases: dict[str, Any] = {}
    ZODB.DB(calls, database_name="zasync", databases=databases)
    return ZODB.DB(main, database_name="main", databases=databases)


@pytest.fixture
def db() -> Iterator[Any]:
    """An application's database, with one for calls beside it."""
    main = opened(MappingStorage(), MappingStorage())
    yield main
    for database in main.databases.values():
        database.close()


def emptied(db: Any) -> None:
    """Let nothing be in a cache, so that all is loaded from its record."""
    for database in db.databases.values():
        database.cacheMinimize()


def test_every_class_of_the_store_is_listed():
    modules = (root, lanes, index, mailbox, accepted)
    stored = {
        (module.__name__, name)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Persistent)
        and value.__module__ == module.__name__
    } | {(CallRecord.__module__, "CallRecord")}

    assert all(name in classes.ADMITTED[module] for module, name in stored)


def test_all_that_may_be_stored_is_loaded_again(db):
    # Given a call with one of everything, and an object of the application's
    deployment = deployment_of(PLUGINS, sealer=Sealer(Keys([SECRET.encode()])))
    with db.transaction() as connection:
        connection.root()["report"] = PersistentMapping()
    with calls_of(db, Principal("ann", "members"), deployment) as calls:
        options = calls.options(unique="k", retry=RetryPolicy(attempts=2), title="t")
        call = options.put("echo", *VALUES, secret=Secret("x"), report=calls.root["report"])
        call.on_success("string:${result}", when=VALUES[7])

    # When it is run and read with nothing in the caches
    emptied(db)
    run_calls(db, PLUGINS, secret=SECRET)
    emptied(db)

    # Then all is there
    with calls_of(db, Principal("ann", "members"), deployment) as calls:
        found = calls.get(call.id)
        assert found.result == VALUES
        assert type(found.kwargs["report"]) is PersistentMapping


def forge(storage: Any, oid: int, module: str, name: str, argument: str) -> None:
    """Write a record that calls ``module.name(argument)`` when it is loaded."""
    state = b"c" + f"{module}\n{name}\n".encode() + pickle.dumps((argument,), 2)[2:-1] + b"R."
    transaction = Transaction()
    storage.tpc_begin(transaction)
    record = pickle.dumps(PersistentMapping, 3) + state
    storage.store(p64(oid), storage.load(p64(oid))[1], record, "", transaction)
    storage.tpc_vote(transaction)
    storage.tpc_finish(transaction)


@pytest.mark.parametrize("is_guarded", [True, False])
def test_what_a_record_names_is_not_run(is_guarded, tmp_path, monkeypatch):
    # Given a store, whose root somebody has overwritten
    storages = MappingStorage(), MappingStorage()
    deployment = deployment_of(PLUGINS)
    with calls_of(opened(*storages), "ann", deployment) as calls:
        calls.put("echo")
    canary = tmp_path / "canary"
    forge(storages[1], 0, "posix", "mkdir", str(canary))
    if not is_guarded:
        monkeypatch.setattr(opening, "guard", lambda connection: None)

    # When it is loaded
    error = classes.ClassRefused if is_guarded else Exception
    with pytest.raises(error), calls_of(opened(*storages), "ann", deployment) as calls:
        calls.put("echo")

    # Then nothing was run, as it would be without the guard
    assert canary.exists() is not is_guarded


@pytest.mark.parametrize("name", ["builtins.eval", "os.system", "demo_app.shelf.Shelf"])
def test_other_globals_are_refused(name):
    module, _, attribute = name.rpartition(".")

    with pytest.raises(classes.ClassRefused):
        classes.admitted_only(None, module, attribute)


def test_an_applications_database_is_left_alone(db):
    connection = db.open()
    classes.guard(connection)
    connection.close()

    assert "classFactory" not in vars(db)
