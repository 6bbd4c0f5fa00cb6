# SPDX-License-Identifier: ZPL-2.1
"""The methods of lists, tuples, dicts and sets that expressions may call.

None of them changes anything: data that a call, its owner or another
expression holds stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ExpressionError, UndefinedName
from .comparing import check_keys, check_look_up, equal
from .guard import Guard
from .values import CONTAINERS, SETS, TEXTS, kind_name


def _get(run: Guard, data: dict[Any, Any], key: Any, default: Any = None) -> Any:
    check_look_up(run, data, key)
    return run.admit(data.get(key, default))


def _keys(run: Guard, data: dict[Any, Any]) -> list[Any]:
    run.build_items(len(data))
    return [run.admit(key) for key in data]


def _values(run: Guard, data: dict[Any, Any]) -> list[Any]:
    run.build_items(len(data))
    return list(data.values())


def _items(run: Guard, data: dict[Any, Any]) -> list[Any]:
    run.build_items(3 * len(data))
    return list(data.items())


def _copy(run: Guard, data: Any) -> Any:
    run.build_items(len(data))
    if type(data) in SETS:
        check_keys(run, data)
    return data.copy()


def _count(run: Guard, data: Any, item: Any) -> int:
    run.spend(len(data) + 1)
    return sum(1 for one in data if equal(run, one, item))


def _index(run: Guard, data: Any, item: Any) -> int:
    run.spend(len(data) + 1)
    for number, one in enumerate(data):
        if equal(run, one, item):
            return number
    raise UndefinedName("the item is not there")


def _combining(name: str) -> Callable[..., Any]:
    def combine(run: Guard, data: Any, *others: Any) -> Any:
        for other in (data, *others):
            if type(other) not in CONTAINERS | TEXTS:
                raise ExpressionError(f"takes a set or a list, not {kind_name(other)}")
            run.build_items(len(other))
            check_keys(run, other)
        return getattr(type(data), name)(data, *others)

    return combine


SEQUENCE_METHODS: dict[str, Callable[..., Any]] = {"count": _count, "index": _index}

LIST_METHODS: dict[str, Callable[..., Any]] = {**SEQUENCE_METHODS, "copy": _copy}

DICT_METHODS: dict[str, Callable[..., Any]] = {
    "copy": _copy,
    "get": _get,
    "items": _items,
    "keys": _keys,
    "values": _values,
}

SET_METHODS: dict[str, Callable[..., Any]] = {
    "copy": _copy,
    **{
        name: _combining(name)
        for name in (
            "difference", "intersection", "isdisjoint", "issubset", "issuperset",
            "symmetric_difference", "union",
        )
    },
}  # fmt: skip
