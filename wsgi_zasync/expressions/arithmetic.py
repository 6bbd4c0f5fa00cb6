# SPDX-License-Identifier: ZPL-2.1
"""Operators on data, each charged before it is done.

Objects that were exposed have no operators: nobody's ``__add__`` or
``__radd__`` is called.
"""

from __future__ import annotations

import datetime
import decimal
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NoReturn

from ..errors import ExpressionError
from .comparing import check_keys
from .formatting import DECIMAL_EXPONENT, check_decimal, percent
from .guard import Guard
from .values import (
    INTEGERS,
    NUMBERS,
    SEQUENCES,
    SETS,
    TEXTS,
    kind_name,
)

DECIMALS = decimal.Context(
    prec=28,
    Emax=DECIMAL_EXPONENT,
    Emin=-DECIMAL_EXPONENT,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)

MOMENTS = frozenset({datetime.datetime, datetime.date, datetime.timedelta})

#: Integers within these bounds need no closer look after an addition.
SMALL = 1 << 62


def mismatch(symbol: str, one: Any, other: Any) -> NoReturn:
    """Say that an operator does not go with these two kinds of values."""
    raise ExpressionError(f"{kind_name(one)} {symbol} {kind_name(other)}: they do not go together")


def decimal_of(run: Guard, value: Any) -> Decimal:
    """The number as a decimal number that is safe to compute with."""
    number: Decimal = Decimal(run.integer(int(value))) if type(value) in INTEGERS else value
    run.scan(64)
    check_decimal(number)
    return number


def _decimals(run: Guard, one: Any, other: Any) -> tuple[Decimal, Decimal] | None:
    kinds = {type(one), type(other)}
    if Decimal in kinds and kinds <= INTEGERS | {Decimal}:
        return decimal_of(run, one), decimal_of(run, other)
    return None


def _computed(symbol: str, compute: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    """Compute with exact kinds of Python's own, whose errors show nothing."""
    try:
        return compute(one, other)
    except ZeroDivisionError:
        raise ExpressionError(f"{symbol}: division by zero") from None
    except (ArithmeticError, ValueError):
        raise ExpressionError(f"{symbol}: there is no such number") from None
    except TypeError:
        mismatch(symbol, one, other)


def add(run: Guard, one: Any, other: Any) -> Any:
    """``one + other`` of numbers, texts, lists, tuples, durations and moments."""
    kind, other_kind = type(one), type(other)
    if kind in NUMBERS and other_kind in NUMBERS:
        total = _computed("+", operator.add, one, other)
        return total if type(total) is float or -SMALL < total < SMALL else run.integer(total)
    if kind is other_kind and kind in TEXTS:
        run.build_text(len(one) + len(other))
        return one + other
    if kind is other_kind and kind in SEQUENCES:
        run.build_items(len(one) + len(other))
        return one + other
    numbers = _decimals(run, one, other)
    if numbers:
        return _computed("+", DECIMALS.add, *numbers)
    if kind in MOMENTS and other_kind in MOMENTS:
        return _computed("+", operator.add, one, other)
    mismatch("+", one, other)


def subtract(run: Guard, one: Any, other: Any) -> Any:
    """``one - other`` of numbers, sets, durations and moments."""
    kind, other_kind = type(one), type(other)
    if kind in NUMBERS and other_kind in NUMBERS:
        rest = _computed("-", operator.sub, one, other)
        return rest if type(rest) is float or -SMALL < rest < SMALL else run.integer(rest)
    if kind in SETS and other_kind in SETS:
        return _combine_sets(run, operator.sub, one, other)
    numbers = _decimals(run, one, other)
    if numbers:
        return _computed("-", DECIMALS.subtract, *numbers)
    if kind in MOMENTS and other_kind in MOMENTS:
        return _computed("-", operator.sub, one, other)
    mismatch("-", one, other)


def multiply(run: Guard, one: Any, other: Any) -> Any:
    """``one * other`` of numbers, and repetition."""
    kind, other_kind = type(one), type(other)
    if kind in NUMBERS and other_kind in NUMBERS:
        if kind in INTEGERS and other_kind in INTEGERS:
            if one.bit_length() + other.bit_length() > run.limits.integer_bits + 1:
                run.refuse_integer()
            return run.integer(one * other)
        return _computed("*", operator.mul, one, other)
    if other_kind in INTEGERS and (kind in TEXTS or kind in SEQUENCES):
        return _repeat(run, one, other)
    if kind in INTEGERS and (other_kind in TEXTS or other_kind in SEQUENCES):
        return _repeat(run, other, one)
    numbers = _decimals(run, one, other)
    if numbers:
        return _computed("*", DECIMALS.multiply, *numbers)
    if (kind is datetime.timedelta and other_kind in NUMBERS) or (
        kind in NUMBERS and other_kind is datetime.timedelta
    ):
        return _computed("*", operator.mul, one, other)
    mismatch("*", one, other)


def _repeat(run: Guard, value: Any, times: int) -> Any:
    count = len(value) * max(0, times)
    if type(value) in TEXTS:
        run.build_text(count)
    else:
        run.build_items(count)
    return value * times


def _divider(symbol: str, compute: Callable[[Any, Any], Any], decimals: str) -> Callable[..., Any]:
    def divided(run: Guard, one: Any, other: Any) -> Any:
        kind, other_kind = type(one), type(other)
        if kind in NUMBERS and other_kind in NUMBERS:
            # Dividing takes longer than the other operations: no big ones from outside.
            if kind is int:
                run.integer(one)
            if other_kind is int:
                run.integer(other)
            return _computed(symbol, compute, one, other)
        if symbol == "%" and kind is str:
            return percent(run, one, other)
        numbers = _decimals(run, one, other)
        if numbers:
            return _computed(symbol, getattr(DECIMALS, decimals), *numbers)
        if kind is datetime.timedelta and other_kind in NUMBERS | {datetime.timedelta}:
            return _computed(symbol, compute, one, other)
        mismatch(symbol, one, other)

    return divided


divide = _divider("/", operator.truediv, "divide")
floor_divide = _divider("//", operator.floordiv, "divide_int")
modulo = _divider("%", operator.mod, "remainder")


def power(run: Guard, one: Any, other: Any) -> Any:
    """``one ** other`` of numbers."""
    kind, other_kind = type(one), type(other)
    if kind in INTEGERS and other_kind in INTEGERS:
        if (
            other > 0
            and (one.bit_length() - 1) * other >= run.limits.integer_bits
            and (one not in (0, 1, -1))
        ):
            run.refuse_integer()
        if other > run.limits.integer_bits and one == -1:
            return -1 if other % 2 else 1
        result = _computed("**", operator.pow, one, other)
        return run.integer(result) if type(result) is int else result
    if kind in NUMBERS and other_kind in NUMBERS:
        result = _computed("**", operator.pow, one, other)
        if type(result) is complex:
            raise ExpressionError("**: there is no such number")
        return result
    numbers = _decimals(run, one, other)
    if numbers:
        run.spend(500)
        return _computed("**", DECIMALS.power, *numbers)
    mismatch("**", one, other)


def shift_left(run: Guard, one: Any, other: Any) -> Any:
    """``one << other`` of integers."""
    if type(one) not in INTEGERS or type(other) not in INTEGERS:
        mismatch("<<", one, other)
    if one and other > 0 and one.bit_length() + other > run.limits.integer_bits:
        run.refuse_integer()
    return _computed("<<", operator.lshift, one, other) if one else 0


def shift_right(run: Guard, one: Any, other: Any) -> Any:
    """``one >> other`` of integers."""
    if type(one) not in INTEGERS or type(other) not in INTEGERS:
        mismatch(">>", one, other)
    return _computed(">>", operator.rshift, one, other)


def _bitwise(symbol: str, compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def combined(run: Guard, one: Any, other: Any) -> Any:
        kind, other_kind = type(one), type(other)
        if kind in INTEGERS and other_kind in INTEGERS:
            return compute(one, other)
        if kind in SETS and other_kind in SETS:
            return _combine_sets(run, compute, one, other)
        if symbol == "|" and kind is dict and other_kind is dict:
            return _merge(run, one, other)
        mismatch(symbol, one, other)

    return combined


def _combine_sets(run: Guard, compute: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    run.build_items(len(one) + len(other))
    check_keys(run, one)
    check_keys(run, other)
    return compute(one, other)


def _merge(run: Guard, one: dict[Any, Any], other: dict[Any, Any]) -> dict[Any, Any]:
    run.build_items(len(one) + len(other))
    check_keys(run, one)
    check_keys(run, other)
    return one | other


bit_or = _bitwise("|", operator.or_)
bit_and = _bitwise("&", operator.and_)
bit_xor = _bitwise("^", operator.xor)


def _unary(symbol: str, compute: Callable[[Any], Any]) -> Callable[..., Any]:
    def changed(run: Guard, value: Any) -> Any:
        kind = type(value)
        if kind is Decimal:
            value = decimal_of(run, value)
        elif kind not in NUMBERS and kind is not datetime.timedelta:
            raise ExpressionError(f"{symbol} {kind_name(value)}: they do not go together")
        try:
            return compute(value)
        except (TypeError, ArithmeticError):
            raise ExpressionError(f"{symbol} {kind_name(value)}: they do not go together") from None

    return changed


negative = _unary("-", operator.neg)
positive = _unary("+", operator.pos)
invert = _unary("~", operator.invert)
