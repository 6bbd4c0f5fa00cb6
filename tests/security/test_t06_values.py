# SPDX-License-Identifier: ZPL-2.1
"""T6: no value brings a class of its own into the database, on any way in."""

from __future__ import annotations

import os
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, tzinfo
from enum import Enum, IntEnum

import pytest

from wsgi_zasync import InvalidArguments


class Text(str):
    def __reduce__(self):
        return (os.mkdir, ("/nonexistent/canary",))


class Table(dict):
    def __reduce__(self):
        return (os.mkdir, ("/nonexistent/canary",))


class Number(int):
    pass


class Zone(tzinfo):
    def utcoffset(self, moment):
        return timedelta(hours=1)

    def dst(self, moment):
        return timedelta(0)

    def __reduce__(self):
        return (os.mkdir, ("/nonexistent/canary",))


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    ONE = 1


class Anything:
    pass


HOSTILE = {
    "text": Text("x"),
    "table": Table(a=1),
    "ordered": OrderedDict(a=1),
    "number": Number(1),
    "enum": Colour.RED,
    "level": Level.ONE,
    "object": Anything(),
    "class": Anything,
    "function": len,
    "lambda": lambda: None,
    "generator": (x for x in ()),
    "bytearray": bytearray(b"x"),
    "complex": 1j,
    "deep": None,
}
for _ in range(60):
    HOSTILE["deep"] = [HOSTILE["deep"]]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"x": [1, (v,)]}], ids=["bare", "inside"])
def test_a_value_of_another_type_is_refused_as_argument_name_and_message(site, name, wrap):
    value = wrap(HOSTILE[name])
    with site.calls() as calls:
        with pytest.raises(InvalidArguments):
            calls.put("echo", value)
        call = calls.put("echo")
        with pytest.raises(InvalidArguments):
            call.on_success("string:x", value=value)
        with pytest.raises(InvalidArguments):
            call.send(value)
        call_id = call.id
    with site.calls() as calls:
        assert [c.id for c in calls.mine()] == [call_id]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_result_of_another_type_is_a_failure(site, name):
    site.plugins["hostile"] = lambda attempt: [HOSTILE[name]]
    hostile, neighbour = site.put("hostile"), site.put("echo", 7)

    site.run()

    with site.calls() as calls:
        assert calls.get(hostile).failure.type == "InvalidResult"
        assert calls.get(neighbour).result == 7


def test_a_moment_is_kept_without_its_timezones_class(site):
    with site.calls() as calls:
        call = calls.put("echo", datetime(2026, 1, 1, 12, tzinfo=Zone()))
        assert type(call._record.args[0].tzinfo) is type(UTC)
        assert call.args[0] == datetime(2026, 1, 1, 11, tzinfo=UTC)
        assert b"mkdir" not in repr(call._record.args).encode()


def test_forms_with_a_dollar_are_data_on_the_way_in_and_escaped_on_the_way_out(site):
    """N3: nobody names an object by JSON."""
    data = {"$ref": "0x01", "$bytes": "AA==", "plain": {"$ref": 1}}
    with site.calls() as calls:
        call = calls.put("echo", data)
        call.send(data)
        assert call.args == (data,)
        assert calls.get(call.id)._context.store.mail(call._record).messages == (data,)
    site.run()
    with site.calls() as calls:
        shown = calls.get(call.id).to_dict()["result"]
        assert shown == {"$$ref": "0x01", "$$bytes": "AA==", "plain": {"$$ref": 1}}
