# SPDX-License-Identifier: ZPL-2.1
"""The functions that every ``python:`` expression has without being given them.

Each takes the evaluation first and does its work through it; none is
Python's own, and none is a type.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from ..errors import ExpressionError, ResourceLimit
from . import arithmetic
from .comparing import check_keys
from .formatting import check_decimal, text_of
from .operations import Operations
from .values import (
    INTEGERS,
    NUMBERS,
    SEQUENCES,
    Builtin,
    kind_name,
)

_NOT_GIVEN = object()

#: Longest text that is read as a number.
NUMBER_TEXT = 1_300


def _absolute(run: Operations, value: Any) -> Any:
    if type(value) not in NUMBERS | {Decimal, datetime.timedelta}:
        raise ExpressionError(f"abs of {kind_name(value)}")
    return abs(arithmetic.decimal_of(run, value) if type(value) is Decimal else value)


def _all(run: Operations, values: Any) -> bool:
    return all(run.truth(value) for value in run.listed(values))


def _any(run: Operations, values: Any) -> bool:
    return any(run.truth(value) for value in run.listed(values))


def _bool(run: Operations, value: Any = False) -> bool:
    return run.truth(value)


def _chr(run: Operations, number: Any) -> str:
    if type(number) is not int or not 0 <= number < 0x110000 or 0xD800 <= number < 0xE000:
        raise ExpressionError("chr takes the number of a character")
    return chr(number)


def _decimal(run: Operations, value: Any = 0) -> Decimal:
    if type(value) is str and len(value) <= NUMBER_TEXT:
        try:
            found = Decimal(value)
        except InvalidOperation:
            raise ExpressionError("the text is no decimal number") from None
    elif type(value) in INTEGERS | {Decimal}:
        found = arithmetic.decimal_of(run, value)
    else:
        raise ExpressionError(f"no decimal number can be made of {kind_name(value)}")
    return arithmetic.decimal_of(run, found)


def _dict(run: Operations, values: Any = (), /, **named: Any) -> dict[Any, Any]:
    if type(values) is dict:
        pairs = [*values.items(), *named.items()]
    else:
        pairs = [*(_pair(pair) for pair in run.listed(values)), *named.items()]
    return make_dict(run, pairs)


def _pair(pair: Any) -> tuple[Any, Any]:
    if type(pair) not in SEQUENCES or len(pair) != 2:
        raise ExpressionError("dict takes pairs of key and value")
    return (pair[0], pair[1])


def make_dict(run: Operations, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of these pairs, charged by what its keys can cost."""
    run.build_items(len(pairs))
    check_keys(run, [key for key, _ in pairs])
    return dict(pairs)


def make_set(run: Operations, items: list[Any]) -> set[Any]:
    """A set of these items, charged by what they can cost as keys."""
    run.build_items(len(items))
    check_keys(run, items)
    return set(items)


def _divmod(run: Operations, one: Any, other: Any) -> tuple[Any, Any]:
    return (arithmetic.floor_divide(run, one, other), arithmetic.modulo(run, one, other))


def _enumerate(run: Operations, values: Any, start: Any = 0) -> list[Any]:
    if type(start) not in INTEGERS:
        raise ExpressionError("enumerate starts at an integer")
    found = run.listed(values)
    run.build_items(3 * len(found))
    return list(enumerate(found, run.integer(start)))


def _base(name: str, form: Callable[[int], str]) -> Callable[..., str]:
    def convert(run: Operations, number: Any) -> str:
        if type(number) not in INTEGERS:
            raise ExpressionError(f"{name} of {kind_name(number)}")
        return form(run.integer(number))

    return convert


def _filter(run: Operations, function: Any, values: Any) -> list[Any]:
    found = run.listed(values)
    if function is None:
        return [value for value in found if run.truth(value)]
    return [value for value in found if run.truth(run.call(function, (value,), {}))]


def _float(run: Operations, value: Any = 0.0) -> float:
    if type(value) in NUMBERS or type(value) is Decimal:
        return float(value)
    if type(value) is str and len(value) <= NUMBER_TEXT:
        try:
            return float(value)
        except ValueError:
            raise ExpressionError("the text is no number") from None
    raise ExpressionError(f"no number can be made of {kind_name(value)}")


def _frozenset(run: Operations, values: Any = ()) -> frozenset[Any]:
    return frozenset(make_set(run, run.listed(values)))


def _int(run: Operations, value: Any = 0, base: Any = None) -> int:
    kind = type(value)
    if base is not None and (type(base) is not int or kind is not str):
        raise ExpressionError("int takes a base, an integer, only for texts")
    if kind is str and len(value) <= NUMBER_TEXT:
        try:
            return run.integer(int(value) if base is None else int(value, base))
        except ValueError as failure:
            if isinstance(failure, ResourceLimit):
                raise
            raise ExpressionError("the text is no integer") from None
    if kind is Decimal:
        check_decimal(value)
    elif kind not in NUMBERS:
        raise ExpressionError(f"no integer can be made of {kind_name(value)}")
    return run.integer(int(value))


def _isinstance(run: Operations, value: Any, kinds: Any) -> bool:
    wanted = kinds if type(kinds) is tuple else (kinds,)
    run.spend(len(wanted))
    if not all(type(one) is Builtin and one.kind for one in wanted):
        raise ExpressionError("isinstance takes str, int, float, bool, list, dict and the like")
    # Exact types decide everything here; only bool is also int, as in Python.
    return any(issubclass(type(value), one.kind) for one in wanted)


def _len(run: Operations, value: Any) -> int:
    return run.length(value)


def _list(run: Operations, values: Any = ()) -> list[Any]:
    return run.listed(values)


def _map(run: Operations, function: Any, first: Any, *others: Any) -> list[Any]:
    rows = zip(*(run.listed(one) for one in (first, *others)), strict=False)
    return [run.call(function, row, {}) for row in rows]


def _extreme(choose: Callable[..., Any]) -> Callable[..., Any]:
    def extreme(run: Operations, *values: Any, key: Any = None, default: Any = _NOT_GIVEN) -> Any:
        found = run.listed(values[0]) if len(values) == 1 else list(values)
        if not found:
            if default is _NOT_GIVEN:
                raise ExpressionError("there is no item to choose from")
            return default
        keys = _sort_keys(run, found, key)
        try:
            return found[choose(range(len(found)), key=keys.__getitem__)]
        except (TypeError, ArithmeticError):
            raise ExpressionError("the items cannot be compared") from None

    return extreme


def _sort_keys(run: Operations, found: list[Any], key: Any) -> list[Any]:
    keys = found if key is None else [run.call(key, (value,), {}) for value in found]
    size = sum(run.plain_size(one) for one in keys)
    run.spend(size * len(keys).bit_length() // 16 + len(keys))
    return keys


def _ord(run: Operations, character: Any) -> int:
    if type(character) not in (str, bytes) or len(character) != 1:
        raise ExpressionError("ord takes one character")
    return ord(character)


def _range(run: Operations, *bounds: Any) -> range:
    if not 1 <= len(bounds) <= 3 or not all(type(one) in INTEGERS for one in bounds):
        raise ExpressionError("range takes one to three integers")
    for bound in bounds:
        run.integer(bound)
    return range(*bounds)


def _reversed(run: Operations, values: Any) -> list[Any]:
    return run.listed(values)[::-1]


def _round(run: Operations, value: Any, ndigits: Any = None) -> Any:
    if ndigits is not None and (type(ndigits) is not int or abs(ndigits) > 400):
        raise ExpressionError("round takes a number of digits up to 400")
    if type(value) is Decimal:
        value = arithmetic.decimal_of(run, value)
        check_decimal(value)
    elif type(value) not in NUMBERS:
        raise ExpressionError(f"round of {kind_name(value)}")
    rounded = round(value) if ndigits is None else round(value, ndigits)
    return run.integer(rounded) if type(rounded) is int else rounded


def _set(run: Operations, values: Any = ()) -> set[Any]:
    return make_set(run, run.listed(values))


def _sorted(run: Operations, values: Any, *, key: Any = None, reverse: Any = False) -> list[Any]:
    found = run.listed(values)
    keys = _sort_keys(run, found, key)
    try:
        order = sorted(range(len(found)), key=keys.__getitem__, reverse=run.truth(reverse))
    except (TypeError, ArithmeticError):
        raise ExpressionError("the items cannot be compared") from None
    return [found[number] for number in order]


def _str(run: Operations, value: Any = "") -> str:
    return text_of(run, value)


def _sum(run: Operations, values: Any, start: Any = 0) -> Any:
    found = run.listed(values)
    run.spend(len(found))
    total = start
    for value in found:
        total = arithmetic.add(run, total, value)
    return total


def _timedelta(run: Operations, *args: Any, **parts: Any) -> datetime.timedelta:
    if not all(type(part) in NUMBERS for part in (*args, *parts.values())):
        raise ExpressionError("timedelta takes numbers of days, hours and the like")
    return datetime.timedelta(*args, **parts)


def _tuple(run: Operations, values: Any = ()) -> tuple[Any, ...]:
    return tuple(run.listed(values))


def _zip(run: Operations, *values: Any, strict: Any = False) -> list[Any]:
    columns = [run.listed(one) for one in values]
    if strict is not False and len({len(column) for column in columns}) > 1:
        raise ExpressionError("zip: not all are of one length")
    rows = list(zip(*columns, strict=False))
    run.build_items(len(rows) * (len(columns) + 1))
    return rows


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": _absolute, "all": _all, "any": _any, "bin": _base("bin", bin), "chr": _chr,
    "divmod": _divmod, "enumerate": _enumerate, "filter": _filter, "hex": _base("hex", hex),
    "isinstance": _isinstance, "len": _len, "map": _map, "max": _extreme(max),
    "min": _extreme(min), "oct": _base("oct", oct), "ord": _ord, "pow": arithmetic.power,
    "range": _range, "reversed": _reversed, "round": _round, "sorted": _sorted, "sum": _sum,
    "zip": _zip,
}  # fmt: skip

#: Those that also name a kind of value for ``isinstance``.
_KINDS: dict[str, tuple[Callable[..., Any], type]] = {
    "Decimal": (_decimal, Decimal), "bool": (_bool, bool), "dict": (_dict, dict),
    "float": (_float, float), "frozenset": (_frozenset, frozenset), "int": (_int, int),
    "list": (_list, list), "set": (_set, set), "str": (_str, str),
    "timedelta": (_timedelta, datetime.timedelta), "tuple": (_tuple, tuple),
}  # fmt: skip

#: Name to function; bound names of the same name come before them.
BUILTINS: dict[str, Builtin] = {
    **{name: Builtin(name, function) for name, function in _FUNCTIONS.items()},
    **{name: Builtin(name, function, kind) for name, (function, kind) in _KINDS.items()},
}
