# SPDX-License-Identifier: ZPL-2.1
"""T6: what is written straight into the storage of the calls runs nothing, and stops nobody."""

from __future__ import annotations

import copyreg
import pickle
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
import transaction
import ZODB
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import CallNotFound, CallState
from wsgi_zasync.call import CallRecord
from wsgi_zasync.store import open_store

#: Where the hostile values leave a trace if they are ever made; set by the fixture.
CANARY = []


def touch(name):
    (CANARY[0] / name).mkdir(exist_ok=True)
    return UTC if name == "zone" else name


class Reduces:
    def __reduce__(self):
        return (touch, ("reduce",))


class Text(str):
    def __reduce__(self):
        return (touch, ("text",))


class Table(dict):
    def __setstate__(self, state):
        touch("table")

    def __reduce__(self):
        return (Table, (), {"x": 1})


class Number(int):
    def __new__(cls, *args):
        if CANARY:
            touch("number")
        return super().__new__(cls, *args)


class Zone(tzinfo):
    def utcoffset(self, moment):
        return timedelta(hours=1)

    def __reduce__(self):
        return (touch, ("zone",))


class Registered:
    """Its pickle is what copyreg says."""


copyreg.pickle(Registered, lambda value: (touch, ("copyreg",)))


class Plain:
    """An object of a class that is none of ours, whose making alone is a trace."""

    def __new__(cls):
        if CANARY:
            touch("plain")
        return super().__new__(cls)


def hostile():
    return {
        "reduce": Reduces(),
        "copyreg": Registered(),
        "text": Text("x"),
        "table": Table(),
        "number": Number(1),
        "zone": datetime(2026, 1, 1, tzinfo=Zone()),
        "plain": Plain(),
        "function": touch,
    }


VALUES = hostile()


@pytest.fixture
def canary(tmp_path):
    CANARY.append(tmp_path)
    yield tmp_path
    CANARY.clear()


@pytest.fixture
def calls_db(site):
    """The site's calls have a database of their own, beside the application's."""
    site.db.close()
    databases = {}
    site.db = ZODB.DB(MappingStorage(), database_name="main", databases=databases)
    yield ZODB.DB(MappingStorage(), database_name="zasync", databases=databases)
    databases["zasync"].close()


def write(db, oid, **changed):
    """Overwrite a call's record in the storage, with values that pickle as they like."""
    state = {"seed": b"s" * 16, "owner": ("", "ann"), "plugin": "echo", **changed}
    data = pickle.dumps(CallRecord, 3) + pickle.dumps(state, 3)
    storage, txn = db.storage, transaction.Transaction()
    storage.tpc_begin(txn)
    storage.store(oid, storage.load(oid)[1], data, "", txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    for each in db.databases.values():
        each.cacheMinimize()


@pytest.mark.parametrize("where", ["args", "kwargs", "result", "callbacks", "retry"])
@pytest.mark.parametrize("name", VALUES)
def test_a_forged_record_runs_nothing_and_stops_no_neighbour(site, calls_db, canary, name, where):
    # Given three calls, of which the one in the middle is overwritten
    first, bad, last = (site.put("echo", n) for n in range(3))
    with site.calls() as calls:
        oid = calls.get(bad)._record._p_oid
    value = VALUES[name]
    shapes = {"args": (value,), "kwargs": {"x": [value]}, "callbacks": ((value,),)}
    write(calls_db, oid, **{where: shapes.get(where, value)})

    site.run()

    # Then nothing was made of it, it is put aside, and the others have ended
    assert list(canary.iterdir()) == []
    with site.calls() as calls:
        assert [calls.get(call).state for call in (first, last)] == [CallState.SUCCEEDED] * 2
        store = open_store(calls._access.store_connection())
        assert list(store.site.parked) == [("", oid.hex())]
        with pytest.raises(CallNotFound):
            calls.get(bad)
    # and the worker goes on
    later = site.put("echo", 4)
    site.run()
    with site.calls() as calls:
        assert calls.get(later).result == 4
    assert list(canary.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in VALUES if name != "function"])
def test_the_values_would_leave_a_trace_if_they_were_loaded(canary, name):
    pickle.loads(pickle.dumps(VALUES[name]))

    assert list(canary.iterdir()) != []


def test_a_moment_in_utc_and_plain_data_are_admitted(site, calls_db):
    call = site.put("echo", [datetime(2026, 1, 1, tzinfo=UTC), {"a": (1, 2.5, b"x", None)}])
    site.run()
    for each in site.db.databases.values():
        each.cacheMinimize()
    with site.calls() as calls:
        assert calls.get(call).state == CallState.SUCCEEDED
