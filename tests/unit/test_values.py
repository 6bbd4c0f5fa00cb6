# SPDX-License-Identifier: ZPL-2.1
"""What may be stored, by exact type; how it is counted, refused, restored and shown."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, defaultdict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from uuid import UUID

import pytest
import transaction
import ZODB
from hypothesis import given
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping
from ZODB.MappingStorage import MappingStorage
from zope.proxy import ProxyBase

from wsgi_zasync.errors import ConfigurationError, InvalidArguments, InvalidResult, ObjectGone
from wsgi_zasync.sealing import Keys, Sealed, Sealer, Secret
from wsgi_zasync.values import (
    MAX_DEPTH,
    Storing,
    WeakReference,
    masked,
    persistent_objects,
    restored,
    stored_size,
    to_json,
)

HOUR = timedelta(hours=1)


class Text(str):
    pass


class Number(int):
    pass


class When(datetime):
    pass


class Table(dict):
    pass


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    ONE = 1


class NoOffset(tzinfo):
    def utcoffset(self, when):
        return None

    def dst(self, when):
        return None

    def tzname(self, when):
        return "?"


class Raising(NoOffset):
    def utcoffset(self, when):
        raise ValueError("no idea")


Pair = namedtuple("Pair", "a b")

PLAIN = [
    None,
    True,
    0,
    -(2**70),
    1.5,
    float("inf"),
    "",
    "Größe 漢字",
    b"\0\xff",
    datetime(2026, 1, 2, 3, 4, 5),
    date(2026, 1, 2),
    HOUR,
    Decimal("1.10"),
    UUID(int=5),
    [],
    (),
    {},
    set(),
    [1, [2, (3, {"a": {4}})]],
    {1: "a", (1, 2): "b", None: "c", b"k": date.min},
]

REFUSED = {
    "a subclass of str": Text("x"),
    "a subclass of int": Number(1),
    "a subclass of datetime": When(2026, 1, 1),
    "a subclass of dict": Table(),
    "an OrderedDict": OrderedDict(),
    "a defaultdict": defaultdict(list),
    "a UserDict": UserDict(),
    "a named tuple": Pair(1, 2),
    "a text enum": Colour.RED,
    "a number enum": Level.ONE,
    "a function": lambda: None,
    "a class": dict,
    "a generator": (n for n in ()),
    "an object": object(),
    "a time of day": time(1),
    "a timezone": UTC,
    "a frozenset": frozenset({1}),
    "a bytearray": bytearray(b"x"),
    "a memoryview": memoryview(b"x"),
    "a range": range(3),
    "a fraction": Fraction(1, 2),
    "a complex number": 1j,
    "an exception": ValueError("x"),
    "a module": json,
    "a lone surrogate": "\udcff",
    "an unreadable timezone": datetime(2026, 1, 1, tzinfo=Raising()),
    "a timezone without an offset": datetime(2026, 1, 1, tzinfo=NoOffset()),
    "a moment before the year 1 in UTC": datetime.min.replace(tzinfo=timezone(HOUR)),
    "an object that is in no database": PersistentMapping(),
    "a secret without a key to seal it": Secret("x"),
}


def store(value, **more):
    return Storing(**{"max_bytes": 100_000, **more}).stored(value, "args[0]")


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_data_is_stored_as_it_is_and_restored_the_same(value):
    stored = store(value)

    assert stored == value
    assert type(stored) is type(value)
    assert restored(stored, None, masked) == value


@pytest.mark.parametrize("what", REFUSED)
def test_nothing_else_is_stored_wherever_it_stands(what):
    value = REFUSED[what]

    for place, whole in {
        "args[0]": value,
        "args[0][1]": [0, value],
        "args[0]['k'][0]": {"k": (value,)},
    }.items():
        with pytest.raises(InvalidArguments) as caught:
            store(whole)
        assert caught.value.path == place
        assert str(caught.value).startswith(place)


def test_a_key_that_cannot_be_stored_is_named():
    with pytest.raises(InvalidArguments) as caught:
        store({"a": {Text("x"): 1}})

    assert caught.value.path == "args[0]['a'] key …"


def test_a_result_is_refused_with_an_error_of_its_own():
    with pytest.raises(InvalidResult):
        store(object(), error=InvalidResult)


def test_what_is_stored_is_a_copy():
    value = {"a": [1]}
    stored = store(value)
    value["a"].append(2)

    again = restored(stored, None, masked)
    again["a"].append(3)

    assert stored == {"a": [1]}


def test_aware_moments_become_utc_with_the_standard_timezone():
    stored = store(datetime(2026, 1, 1, 12, tzinfo=timezone(2 * HOUR)))

    assert stored == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert stored.tzinfo is UTC


def test_nesting_ends_at_the_limit():
    def nested(depth):
        value = "x"
        for _ in range(depth):
            value = [value]
        return value

    assert store(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(InvalidArguments, match="deeper than 50"):
        store(nested(MAX_DEPTH + 1))


def test_a_list_that_holds_itself_is_too_deep():
    ring: list = []
    ring.append(ring)
    table: dict = {}
    table["self"] = [table]

    for value in (ring, table):
        with pytest.raises(InvalidArguments, match="deeper"):
            store(value)


def test_what_shares_its_parts_is_counted_as_often_as_it_is_stored():
    """Forty lists of the list before, twice each, would be 2 ** 40 when copied."""
    value: list = []
    for _ in range(40):
        value = [value, value]

    with pytest.raises(InvalidArguments, match="too much"):
        store(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("ä", 2),
        (b"abc", 3),
        (7, 8),
        (None, 8),
        (2**8000, 1000),
        (Decimal("1" * 500), 508),
        ([1, "ab"], 18),
        ({"ab": b"c"}, 11),
    ],
)
def test_sizes_are_counted_and_capped_to_the_byte(value, size):
    storing = Storing(max_bytes=size)
    stored = storing.stored(value, "x")

    assert storing.size == size
    assert stored_size(stored) == size
    with pytest.raises(InvalidArguments, match=f"{size - 1} bytes together"):
        Storing(max_bytes=size - 1).stored(value, "x")


# -- references -----------------------------------------------------------------------------------


@pytest.fixture
def connection():
    """A connection to ``main`` of a multi-database whose calls are in ``zasync``."""
    databases: dict = {}
    main = ZODB.DB(MappingStorage(), databases=databases, database_name="main")
    ZODB.DB(MappingStorage(), databases=databases, database_name="zasync")
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = main.open(transaction_manager=manager)
    connection.root()["here"] = PersistentMapping({"name": "here"})
    connection.get_connection("zasync").root()["there"] = PersistentMapping()
    manager.commit()
    manager.begin()
    yield connection
    manager.abort()
    connection.close()
    for db in databases.values():
        db.close()


def test_an_object_of_the_same_database_is_kept_as_itself(connection):
    here = connection.root()["here"]

    stored = store([here], connection=connection)

    assert stored[0] is here
    assert restored(stored, connection, masked)[0] is here
    assert persistent_objects(stored) == [here]
    assert to_json(stored) == [{"$ref": "persistent.mapping.PersistentMapping"}]


def test_an_object_in_a_wrapper_is_kept_without_it(connection):
    # Given what stands for an object elsewhere, as Zope's acquisition wrappers do
    here, calls = connection.root()["here"], connection.get_connection("zasync")
    wrapped = ProxyBase(here)

    assert type(store([wrapped], connection=connection)[0]) is PersistentMapping
    assert store(wrapped, connection=calls) == WeakReference(
        "main", here._p_oid, "persistent.mapping.PersistentMapping"
    )


def test_an_object_of_another_database_is_kept_as_a_weak_reference(connection):
    here, calls = connection.root()["here"], connection.get_connection("zasync")

    stored = store({"x": here}, connection=calls)

    assert stored == {
        "x": WeakReference("main", here._p_oid, "persistent.mapping.PersistentMapping")
    }
    assert restored(stored, calls, masked)["x"] is here
    assert to_json(stored) == {"x": {"$ref": "persistent.mapping.PersistentMapping"}}


def test_an_object_of_another_connection_is_refused(connection):
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    other = connection.db().open(transaction_manager=manager)
    try:
        with pytest.raises(InvalidArguments, match="another ZODB connection"):
            store(other.root()["here"], connection=connection)
    finally:
        manager.abort()
        other.close()


@pytest.fixture
def other(connection):
    """Another connection to ``main``."""
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    other = connection.db().open(transaction_manager=manager)
    yield other
    manager.abort()
    other.close()


def store_result(value, connection):
    return Storing(connection, max_bytes=1_000, other_connections=True).stored(value, "result")


def test_an_object_of_another_connection_is_a_result_by_its_oid(connection, other):
    here = connection.root()["here"]
    calls = connection.get_connection("zasync")

    assert store_result([other.root()["here"]], connection)[0] is here
    assert store_result(other.root()["here"], calls) == WeakReference(
        "main", here._p_oid, "persistent.mapping.PersistentMapping"
    )


def test_an_object_of_another_connection_that_is_not_committed_is_no_result(connection, other):
    other.root()["new"] = new = PersistentMapping()
    other.add(new)

    with pytest.raises(InvalidArguments, match=r"^result\[1\] .* is not in the database"):
        store_result([1, new], connection)


@pytest.mark.parametrize("name", ["main", "elsewhere"])
def test_an_object_of_a_database_that_is_not_ours_is_no_result(connection, name):
    database = ZODB.DB(MappingStorage(), database_name=name)
    try:
        foreign = database.open().root()
        with pytest.raises(InvalidArguments, match="is not in the database"):
            store_result(foreign, connection)
    finally:
        database.close()


def test_an_object_that_was_added_by_now_is_accepted(connection):
    thing = PersistentMapping()
    with pytest.raises(InvalidArguments, match="not in the database yet"):
        store(thing, connection=connection)
    connection.add(thing)
    assert store(thing, connection=connection) is thing


def test_a_reference_into_a_database_that_is_not_open_here_says_so(connection):
    with pytest.raises(ConfigurationError, match="'elsewhere'"):
        restored([WeakReference("elsewhere", b"\0" * 8, "x.Y")], connection, masked)


def test_a_reference_to_what_was_packed_away_says_so(connection):
    calls = connection.get_connection("zasync")
    stored = store([connection.root()["here"]], connection=calls)
    del connection.root()["here"]
    connection.transaction_manager.commit()
    connection.db().pack()
    connection.cacheMinimize()
    connection.transaction_manager.begin()

    with pytest.raises(ObjectGone, match="PersistentMapping .* in the database 'main' no more"):
        restored(stored, calls, masked)


# -- secrets, and what is shown -------------------------------------------------------------------


def test_a_secret_is_stored_sealed_and_shown_masked():
    sealer = Sealer(Keys([b"s" * 32]))

    stored = store({"password": Secret("hunter2")}, seal=lambda s: sealer.seal(s, b"place"))

    assert type(stored["password"]) is Sealed
    assert b"hunter2" not in stored["password"].content
    assert restored(stored, None, masked) == {"password": "***"}
    assert to_json(stored) == {"password": "***"}
    opened = restored(stored, None, lambda sealed: sealer.open(sealed, b"place"))
    assert opened["password"].reveal() == "hunter2"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"\0a", {"$bytes": "AGE="}),
        ({"$bytes": "x"}, {"$$bytes": "x"}),
        ({"$$ref": 1}, {"$$$ref": 1}),
        ({"$dict": [["a", 1]]}, {"$$dict": [["a", 1]]}),
        ({1: "a", "1": "b"}, {"$dict": [[1, "a"], ["1", "b"]]}),
        ({None: "a", "null": "b"}, {"$dict": [[None, "a"], ["null", "b"]]}),
        ({1: "a", None: "b", 2.5: "c"}, {"1": "a", "null": "b", "2.5": "c"}),
        ({True: "a", "True": "b"}, {"true": "a", "True": "b"}),
        ({(1, "a"): [{2: 3, "2": 4}]}, {'[1, "a"]': [{"$dict": [[2, 3], ["2", 4]]}]}),
        ({b"\0a": 1, date(2026, 1, 1): 2}, {'{"$bytes": "AGE="}': 1, "2026-01-01": 2}),
        ({}, {}),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        (date(2026, 1, 1), "2026-01-01"),
        (HOUR, 3600.0),
        (Decimal("1.10"), "1.10"),
        (UUID(int=0), "00000000-0000-0000-0000-000000000000"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ((1, [2]), [1, [2]]),
        ({5}, [5]),
    ],
    ids=repr,
)
def test_values_are_shown_as_json(value, shown):
    assert to_json(value) == shown
    json.dumps(to_json(value), allow_nan=False)


_keys = st.text(alphabet="$ab", max_size=4)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=10,
)


@given(_json)
def test_no_data_can_pass_for_one_of_our_own_forms(value):
    """What a remote server sends may hold "$ref": it comes out as another key."""

    def keys(shown):
        if isinstance(shown, dict):
            yield from shown
            for item in shown.values():
                yield from keys(item)
        if isinstance(shown, list):
            for item in shown:
                yield from keys(item)

    shown = to_json(value)

    assert not {"$ref", "$bytes", "$dict"} & set(keys(shown))
    assert unescaped(shown) == value


def unescaped(shown):
    if isinstance(shown, dict):
        return {k[1:] if k.startswith("$") else k: unescaped(v) for k, v in shown.items()}
    if isinstance(shown, list):
        return [unescaped(item) for item in shown]
    return shown
