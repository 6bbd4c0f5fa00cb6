# SPDX-License-Identifier: ZPL-2.1
"""Comparing values: data by content, exposed objects only by identity.

Nobody's ``__eq__``, ``__lt__`` or ``__hash__`` but Python's own is called.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from ..errors import ExpressionError, ResourceLimit
from .guard import Guard, length
from .values import (
    CONTAINERS,
    INTEGERS,
    NUMBERS,
    SCALARS,
    SEQUENCES,
    SETS,
    SIMPLE,
    TEXTS,
    kind_name,
)

#: Integers beyond this have hashes that can be chosen at will.
HASH_MODULUS = 2**61 - 1

#: So many keys that are no texts are taken without a surcharge.
FREE_KEYS = 1_000


def equal(run: Guard, one: Any, other: Any) -> bool:
    """Whether two values are equal; exposed objects only if they are the same."""
    kind, other_kind = type(one), type(other)
    if kind in NUMBERS and other_kind in NUMBERS:
        return bool(one == other)
    if kind in TEXTS and other_kind in TEXTS:
        run.scan(min(len(one), len(other)))
        return kind is other_kind and one == other
    if kind in SCALARS and other_kind in SCALARS:
        run.plain_size(one)
        run.plain_size(other)
        try:
            return bool(one == other)
        except ArithmeticError:
            raise ExpressionError("a signalling NaN cannot be compared") from None
    if one is other:
        return True
    if kind is range and other_kind is range:
        return bool(one == other)
    if kind in SETS and other_kind in SETS:
        run.scan(run.plain_size(one) + run.plain_size(other))
        return bool(one == other)
    if kind is not other_kind or kind not in CONTAINERS:
        return False
    return _equal_containers(run, one, other, 0)


def _equal_containers(run: Guard, one: Any, other: Any, depth: int) -> bool:
    if len(one) != len(other):
        return False
    if depth >= run.limits.depth:
        raise ResourceLimit(f"more than {run.limits.depth} containers inside one another")
    run.spend(len(one) + 1)
    if type(one) is dict:
        return all(
            has_key(run, other, key) and _equal_items(run, item, other[key], depth)
            for key, item in one.items()
        )
    return all(_equal_items(run, *pair, depth) for pair in zip(one, other, strict=True))


def _equal_items(run: Guard, one: Any, other: Any, depth: int) -> bool:
    if type(one) is type(other) and type(one) in SEQUENCES | {dict}:
        return one is other or _equal_containers(run, one, other, depth + 1)
    return equal(run, one, other)


def unequal(run: Guard, one: Any, other: Any) -> bool:
    """Whether two values differ."""
    return not equal(run, one, other)


def _ordering(symbol: str, compare: Callable[[Any, Any], Any]) -> Callable[..., bool]:
    def ordered(run: Guard, one: Any, other: Any) -> bool:
        kind, other_kind = type(one), type(other)
        if kind not in NUMBERS or other_kind not in NUMBERS:
            run.scan(run.plain_size(one) + run.plain_size(other))
        try:
            return bool(compare(one, other))
        except (TypeError, ArithmeticError):
            raise ExpressionError(
                f"{kind_name(one)} {symbol} {kind_name(other)}: cannot be compared"
            ) from None

    return ordered


def same(run: Guard, one: Any, other: Any) -> bool:
    """Whether two values are one."""
    return one is other


def not_same(run: Guard, one: Any, other: Any) -> bool:
    """Whether two values are not one."""
    return one is not other


less, less_equal = _ordering("<", operator.lt), _ordering("<=", operator.le)
greater, greater_equal = _ordering(">", operator.gt), _ordering(">=", operator.ge)


def check_keys(run: Guard, keys: Any) -> None:
    """Charge for building a dict or set from these keys, and refuse wrong ones.

    Hashes of texts are random for each process. Those of numbers can be
    chosen so that every look-up visits every key, hence the squares.
    """
    hard = 0
    chosen = False
    for key in keys:
        kind = type(key)
        if kind is str:
            continue
        run.check_key(key)
        hard += 1
        chosen = chosen or not (kind in INTEGERS and -HASH_MODULUS < key < HASH_MODULUS)
    if hard and (chosen and hard > 16 or hard > FREE_KEYS):
        run.spend(hard * hard // 16)


def has_key(run: Guard, container: Any, key: Any) -> bool:
    """Whether a dict or set of data contains the key."""
    check_look_up(run, container, key)
    return key in container


def check_look_up(run: Guard, container: Any, key: Any) -> None:
    """Charge for a look-up, and see to it that no strange key is compared."""
    kind = type(key)
    if kind is str:
        run.scan(len(key))
        return
    run.check_key(key)
    run.spend(len(container) // 16 + 1)
    for known in container:
        if type(known) not in SIMPLE:
            run.check_key(known)


def contains(run: Guard, container: Any, item: Any) -> bool:
    """Whether plain data contains the item."""
    kind = type(container)
    if kind is str:
        if type(item) is not str:
            raise ExpressionError(f"{kind_name(item)} in a text: only a text can be")
        run.scan(len(container) + len(item))
        return item in container
    if kind is bytes:
        if type(item) is not bytes and type(item) is not int:
            raise ExpressionError(f"{kind_name(item)} in bytes: only bytes can be")
        run.scan(len(container))
        return item in container
    if kind is dict or kind in SETS:
        return has_key(run, container, item)
    if kind is range:
        length(container)
        return type(item) in INTEGERS and item in container
    run.spend(len(container) + 1)
    return any(one is item or equal(run, one, item) for one in container)
