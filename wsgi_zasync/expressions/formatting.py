# SPDX-License-Identifier: ZPL-2.1
"""Values as text: in ``string:``, in f-strings, by ``%`` and by ``str()``.

Only plain data has a text. Formats are read by us before Python gets them,
so that no width is without bounds and no format reaches into an object.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

from ..errors import ExpressionError, ResourceLimit
from .guard import Guard
from .values import (
    CONTAINERS,
    INTEGERS,
    NUMBERS,
    SCALARS,
    SIMPLE,
    kind_name,
)

_SPEC = re.compile(
    r"(?:.?[<>=^])?[-+ ]?z?#?0?(?P<width>\d*)[_,]?(?:\.(?P<precision>\d+))?"
    r"(?P<kind>[bcdeEfFgGnosxX%]?)\Z",
    re.DOTALL,
)

_PERCENT = re.compile(
    r"%(?:\((?P<name>[^()]*)\))?(?P<flags>[-+ #0]*)(?P<width>\d*|\*)"
    r"(?:\.(?P<precision>\d*|\*))?[hlL]?(?P<kind>.)",
    re.DOTALL,
)

_TIME_DIRECTIVES = re.compile(r"%[aAbBcdHIjmMpSUuVwWxXyYzZfG%]")

#: Largest exponent of a decimal number, either way.
DECIMAL_EXPONENT = 6_144

#: Most digits of a decimal number.
DECIMAL_DIGITS = 1_000


def text_of(run: Guard, value: Any) -> str:
    """What ``str`` gives for plain data.

    Raises:
        Unauthorized: It is not plain data all through.
    """
    kind = type(value)
    if kind is str:
        run.scan(len(value))
        return value  # type: ignore[no-any-return]
    if kind is int:
        run.integer(value)
        return str(value)
    if kind not in SIMPLE or kind is Decimal or kind is bytes:
        # A quoted character may become four; numbers and dates are short.
        run.build_text(16 * _text_size(run, value) + _longer_parts(run, value))
    return str(value)


def _text_size(run: Guard, value: Any) -> int:
    return run.plain_size(value) * (16 if type(value) is bytes else 4)


def _longer_parts(run: Guard, value: Any) -> int:
    """How much longer the text may be than `_text_size` knows, since not all parts are short.

    Raises:
        ResourceLimit: There is an integer or an exponent, however deep, whose text is too long.
    """
    kind = type(value)
    if kind is int:
        run.integer(value)
        return int(value.bit_length()) // 3
    if kind is Decimal:
        check_decimal(value)
        return len(value.as_tuple().digits)
    if kind is str:
        # An unprintable character may even become ten.
        return 0 if value.isascii() else 6 * len(value)
    if kind not in CONTAINERS:
        return 0
    run.plain_size(value)
    found = list(value.values()) + list(value) if kind is dict else value
    return sum(_longer_parts(run, item) for item in found)


def check_decimal(value: Decimal) -> None:
    """Refuse a decimal number whose text could be without bounds."""
    if not value.is_finite():
        return
    digits = value.as_tuple()
    if (
        abs(value.adjusted()) > DECIMAL_EXPONENT
        or abs(int(digits.exponent)) > DECIMAL_EXPONENT
        or len(digits.digits) > DECIMAL_DIGITS
    ):
        raise ResourceLimit(
            f"a decimal number with an exponent above {DECIMAL_EXPONENT} "
            f"or more than {DECIMAL_DIGITS} digits"
        )


def check_spec(spec: str, width_limit: int) -> None:
    """Look at the format of an f-string's field, when it is compiled.

    Raises:
        ExpressionError: It is none, or one of those that are not offered.
        ResourceLimit: It is wider than allowed.
    """
    if "%" in spec[:-1]:
        check_time_format(spec)
        return
    found = _SPEC.match(spec)
    if found is None:
        raise ExpressionError(f"{spec[:40]!r} is no format")
    _check_width(found["width"], width_limit)
    _check_width(found["precision"], width_limit)


def check_time_format(spec: str) -> None:
    """Look at the format of a date or moment."""
    if "%" in _TIME_DIRECTIVES.sub("", spec):
        raise ExpressionError("a format for dates has only directives of one letter, such as %Y")


def whole(text: str) -> str:
    """The text, unless a number in it gave half a character, which no encoding takes."""
    if any("\ud800" <= character < "\ue000" for character in text):
        raise ExpressionError("%c gives whole characters only")
    return text


def _check_width(digits: str | None, limit: int) -> None:
    if digits and (len(digits) > 6 or int(digits) > limit):
        raise ResourceLimit(f"a format wider than {limit}")


def formatted(run: Guard, value: Any, spec: str) -> str:
    """The value in a format that `check_spec` has looked at."""
    if not spec:
        return text_of(run, value)
    kind = type(value)
    run.plain_size(value)
    if kind not in SCALARS:
        raise ExpressionError(f"{kind_name(value)} takes no format")
    if kind is int:
        run.integer(value)
    elif kind is Decimal:
        check_decimal(value)
    is_time = isinstance(value, (datetime.date, datetime.time))
    if is_time != ("%" in spec[:-1]):
        raise ExpressionError(f"{spec[:40]!r} is no format for {kind_name(value)}")
    try:
        text = format(value, spec)
    except (ValueError, TypeError, ArithmeticError):
        raise ExpressionError(f"{spec[:40]!r} is no format for {kind_name(value)}") from None
    # Neither the width nor the value lets it be much longer than allowed.
    run.build_text(len(text))
    return whole(text) if spec[-1] == "c" else text


def percent(run: Guard, template: str, values: Any) -> str:
    """``template % values``, each part of the template looked at before."""
    run.scan(len(template))
    run.spend(10 * template.count("%"))
    run.plain_size(values)
    given = iter(values if type(values) is tuple else (values,))
    pieces: list[str] = []
    end = 0
    for found in _PERCENT.finditer(template):
        pieces.append(_literal(template[end : found.start()]))
        end = found.end()
        pieces.append(_percent_part(run, found, given, values))
    pieces.append(_literal(template[end:]))
    if type(values) is not dict and next(given, None) is not None:
        raise ExpressionError("%: not all values were used")
    run.build_text(sum(map(len, pieces)))
    return "".join(pieces)


def _literal(text: str) -> str:
    if "%" in text:
        raise ExpressionError("%: the format ends too early")
    return text


def _percent_part(run: Guard, found: re.Match[str], given: Any, values: Any) -> str:
    kind, name = found["kind"], found["name"]
    if kind == "%":
        return "%"
    if kind not in "diouxXeEfFgGcs" or "*" in (found["width"], found["precision"]):
        raise ExpressionError(f"%: {found[0][:40]!r} is not offered")
    _check_width(found["width"], run.limits.width)
    _check_width(found["precision"], run.limits.width)
    if name is None:
        try:
            value = next(given)
        except StopIteration:
            raise ExpressionError("%: there are not enough values") from None
    else:
        if type(values) is not dict or name not in values:
            raise ExpressionError(f"%: there is no value {name[:40]!r}")
        value = values[name]
    precision = "" if found["precision"] is None else f".{found['precision']}"
    form = f"%{found['flags']}{found['width']}{precision}{kind}"
    return _percent_value(run, form, value)


def _percent_value(run: Guard, form: str, value: Any) -> str:
    kind = form[-1]
    if kind == "s":
        value = text_of(run, value)
    elif type(value) in NUMBERS | {Decimal}:
        if type(value) in INTEGERS:
            run.integer(value)
        elif type(value) is Decimal:
            check_decimal(value)
    elif kind != "c" or type(value) is not str:
        raise ExpressionError(f"%{kind} takes a number, not {kind_name(value)}")
    try:
        text = form % (value,)
    except (ValueError, TypeError, ArithmeticError):
        raise ExpressionError(f"%{kind} does not go with {kind_name(value)}") from None
    run.build_text(len(text))
    return whole(text) if kind == "c" else text
