# SPDX-License-Identifier: ZPL-2.1
"""What expressions may read of dates, moments, durations, UUIDs and numbers."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from ..errors import ExpressionError
from .arithmetic import DECIMALS
from .formatting import check_decimal, check_time_format
from .guard import Guard
from .values import INTEGERS, kind_name


def _simple(name: str) -> Callable[..., Any]:
    """A method without arguments whose result is small."""

    def call(run: Guard, value: Any) -> Any:
        run.plain_size(value)
        try:
            return getattr(type(value), name)(value)
        except (ValueError, ArithmeticError, OSError):
            raise ExpressionError(f"{kind_name(value)} has no {name} here") from None

    return call


def _strftime(run: Guard, value: Any, form: Any) -> str:
    if type(form) is not str:
        raise ExpressionError(f"a format is a text, not {kind_name(form)}")
    run.build_text(32 * len(form))
    check_time_format(form)
    text: str = value.strftime(form)
    return text


def _isoformat(run: Guard, value: Any, sep: Any = "T", timespec: Any = "auto") -> str:
    run.build_text(64)
    if type(sep) is not str or len(sep) != 1 or type(timespec) is not str:
        raise ExpressionError("isoformat takes one character and one word")
    if type(value) is datetime.date:
        return value.isoformat()
    try:
        text: str = (
            value.isoformat(sep, timespec)
            if type(value) is datetime.datetime
            else value.isoformat(timespec)
        )
    except ValueError:
        raise ExpressionError("isoformat knows no such precision") from None
    return text


def _replace(run: Guard, value: Any, **parts: Any) -> Any:
    run.spend(1)
    known = DATE_VALUES | (frozenset() if type(value) is datetime.date else TIME_VALUES)
    for name, part in parts.items():
        if name not in known or type(part) not in INTEGERS:
            raise ExpressionError("replaces year, month, day and the like by integers")
    try:
        return value.replace(**parts)
    except (ValueError, OverflowError):
        raise ExpressionError("there is no such date") from None


def _isocalendar(run: Guard, value: Any) -> tuple[int, int, int]:
    run.spend(1)
    year, week, weekday = value.isocalendar()
    return (year, week, weekday)


def _quantize(run: Guard, value: Any, exp: Any) -> Any:
    if type(exp) is not Decimal:
        raise ExpressionError("quantize takes a decimal number")
    for number in (value, exp):
        run.build_text(8_000)
        check_decimal(number)
    try:
        return DECIMALS.quantize(value, exp)
    except ArithmeticError:
        raise ExpressionError("quantize: there is no such number") from None


def _decimal(name: str) -> Callable[..., Any]:
    def call(run: Guard, value: Any) -> Any:
        run.build_text(8_000)
        check_decimal(value)
        return getattr(type(value), name)(value)

    return call


DATE_VALUES = frozenset({"year", "month", "day"})
TIME_VALUES = frozenset({"hour", "minute", "second", "microsecond"})

#: What is read, not called, by exact type.
VALUES: dict[type, frozenset[str]] = {
    datetime.date: DATE_VALUES,
    datetime.time: TIME_VALUES,
    datetime.datetime: DATE_VALUES | TIME_VALUES,
    datetime.timedelta: frozenset({"days", "seconds", "microseconds"}),
    uuid.UUID: frozenset({"hex", "urn", "version"}),
}

_DATE: dict[str, Callable[..., Any]] = {
    **{name: _simple(name) for name in ("ctime", "isoweekday", "weekday", "toordinal")},
    "isocalendar": _isocalendar,
    "isoformat": _isoformat,
    "replace": _replace,
    "strftime": _strftime,
}

DATE_METHODS = _DATE

DATETIME_METHODS: dict[str, Callable[..., Any]] = {
    **_DATE,
    **{name: _simple(name) for name in ("date", "time", "timestamp", "utcoffset")},
}

TIME_METHODS: dict[str, Callable[..., Any]] = {"isoformat": _isoformat, "strftime": _strftime}

DURATION_METHODS: dict[str, Callable[..., Any]] = {"total_seconds": _simple("total_seconds")}

FLOAT_METHODS: dict[str, Callable[..., Any]] = {"is_integer": _simple("is_integer")}

INT_METHODS: dict[str, Callable[..., Any]] = {"bit_length": _simple("bit_length")}

DECIMAL_METHODS: dict[str, Callable[..., Any]] = {
    **{
        name: _decimal(name)
        for name in ("is_nan", "is_infinite", "is_signed", "is_zero", "normalize")
    },
    "quantize": _quantize,
}
