# SPDX-License-Identifier: ZPL-2.1
"""What kinds of values an expression may hold, told by their exact types.

Plain data, objects that were exposed, and two kinds of callables of our own
that never leave an expression.
"""

from __future__ import annotations

import collections.abc
import datetime
import types
import uuid
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from ..exposure import ExposedCallable, Rule

NoneType = type(None)

#: Single values whose own methods nobody can have replaced.
SIMPLE = frozenset(
    {NoneType, bool, int, float, str, bytes, Decimal, datetime.date, datetime.timedelta}
)

#: Single values that carry another object, which is looked at first.
CARRIERS = frozenset({datetime.datetime, datetime.time, uuid.UUID})

SCALARS = SIMPLE | CARRIERS

SEQUENCES = frozenset({list, tuple})
SETS = frozenset({set, frozenset})
CONTAINERS = SEQUENCES | SETS | {dict}

#: What may be used without a closer look; what containers hold is looked at
#: when it is taken out of them.
PLAIN = SIMPLE | CONTAINERS | {range}

NUMBERS = frozenset({bool, int, float})
INTEGERS = frozenset({bool, int})
TEXTS = frozenset({str, bytes})

#: Time zones that are no code of somebody's.
ZONES = frozenset({NoneType, datetime.timezone, zoneinfo.ZoneInfo})

#: Results of exposed code that are read to their end at once, into a list.
LAZY = frozenset(
    {
        types.GeneratorType, type({}.keys()), type({}.values()), type({}.items()),
        collections.abc.KeysView, collections.abc.ValuesView, collections.abc.ItemsView,
        type(iter(())), type(iter([])), type(iter({})), type(iter({}.values())),
        type(iter({}.items())), type(iter(set())), type(iter(range(0))),
        type(reversed([])), enumerate, filter, map, reversed, zip,
    }
)  # fmt: skip

FUNCTIONS = frozenset({types.FunctionType, types.BuiltinFunctionType})

#: What a declared name may give that makes it a method: called, never read.
METHODS = FUNCTIONS | {types.MethodType, types.MethodWrapperType}

#: The machinery of Python: closed, whatever anybody declares.
MACHINERY = frozenset(
    {
        type, types.ModuleType, types.FrameType, types.CodeType, types.TracebackType,
        types.CoroutineType, types.AsyncGeneratorType, types.MethodType,
        types.MethodWrapperType, types.WrapperDescriptorType, types.MethodDescriptorType,
        types.ClassMethodDescriptorType, types.GetSetDescriptorType,
        types.MemberDescriptorType, types.MappingProxyType, types.CellType,
        types.SimpleNamespace, memoryview, property, staticmethod, classmethod, super, object,
    }
)  # fmt: skip


class Default:
    """The type of ``default``: nothing to say, keep what is there."""

    __slots__ = ()


#: The one value of ``default``.
DEFAULT = Default()


class Builtin:
    """One of the functions that every ``python:`` expression has."""

    __slots__ = ("function", "kind", "name")

    def __init__(self, name: str, function: Callable[..., Any], kind: type | None = None) -> None:
        self.name = name
        self.function = function
        self.kind = kind


class Bound:
    """A method of plain data, or a declared method of an exposed object."""

    __slots__ = ("function", "name", "of", "rule")

    def __init__(
        self, of: Any, name: str, function: Callable[..., Any], rule: Rule | None = None
    ) -> None:
        self.of = of
        self.name = name
        self.function = function
        self.rule = rule


#: Callables that an expression may hold but that never leave it.
OURS = frozenset({Builtin, Bound, Default})

#: What has no members that anybody could declare.
NOT_OBJECTS = OURS | FUNCTIONS | MACHINERY | SCALARS | CONTAINERS | {range, ExposedCallable}

#: What a path calls when it ends there.
CALLABLE = FUNCTIONS | {Builtin, Bound, ExposedCallable}

KIND_NAMES = {
    NoneType: "nothing", bool: "a truth value", int: "an integer", float: "a number",
    str: "a text", bytes: "bytes", Decimal: "a decimal number", list: "a list",
    tuple: "a tuple", dict: "a dict", set: "a set", frozenset: "a set", range: "a range",
    datetime.date: "a date", datetime.datetime: "a moment", datetime.time: "a time of day",
    datetime.timedelta: "a duration", uuid.UUID: "a UUID", Builtin: "a function",
    Bound: "a method", Default: "default", ExposedCallable: "a function",
    types.FunctionType: "a function", types.BuiltinFunctionType: "a function",
}  # fmt: skip


def kind_name(value: Any) -> str:
    """What kind of value it is, for people, showing nothing of the value."""
    return KIND_NAMES.get(type(value), "an object")
