# SPDX-License-Identifier: ZPL-2.1
"""The methods of texts and bytes that expressions may call.

Each takes the guard first and charges before it works. What searches from
the end is quadratic in Python and is charged so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ExpressionError
from .guard import Guard
from .values import INTEGERS, SEQUENCES, kind_name

Text = Any

#: Encodings whose work and result are in proportion to the text.
ENCODINGS = frozenset(
    {"utf-8", "utf8", "ascii", "us-ascii", "latin-1", "latin1", "iso-8859-1", "iso-8859-15",
     "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
)  # fmt: skip

ERROR_MODES = frozenset({"strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace"})


def _like(text: Text, *others: Any) -> None:
    for other in others:
        if type(other) is not type(text):
            raise ExpressionError(f"takes {kind_name(text)}, not {kind_name(other)}")


def _count(value: Any, name: str = "the number") -> int:
    if type(value) not in INTEGERS:
        raise ExpressionError(f"{name} is an integer, not {kind_name(value)}")
    return int(value)


def _bounds(*bounds: Any) -> None:
    for bound in bounds:
        if type(bound) not in INTEGERS and bound is not None:
            raise ExpressionError(f"a position is an integer, not {kind_name(bound)}")


def _changing(name: str, growth: int = 1) -> Callable[..., Any]:
    """A method without arguments that gives a text of about the same length."""

    def change(run: Guard, text: Text) -> Text:
        run.build_text(len(text))
        run.build(len(text) * (growth - 1))
        return getattr(type(text), name)(text)

    return change


def _asking(name: str) -> Callable[..., bool]:
    """A method without arguments that says yes or no."""

    def ask(run: Guard, text: Text) -> bool:
        run.scan(len(text))
        return bool(getattr(type(text), name)(text))

    return ask


def _searching(name: str, backwards: bool = False) -> Callable[..., Any]:
    def search(run: Guard, text: Text, part: Any, start: Any = None, end: Any = None) -> int:
        _like(text, part)
        _bounds(start, end)
        run.scan((len(text) + len(part)) * (len(part) // 4 + 1 if backwards else 1))
        try:
            found: int = getattr(type(text), name)(text, part, start, end)
        except ValueError:
            raise ExpressionError("the part is not in the text") from None
        return found

    return search


def _affix(name: str) -> Callable[..., bool]:
    def test(run: Guard, text: Text, part: Any, start: Any = None, end: Any = None) -> bool:
        parts = part if type(part) is tuple else (part,)
        run.spend(len(parts))
        _like(text, *parts)
        _bounds(start, end)
        run.scan(sum(len(one) for one in parts))
        return bool(getattr(type(text), name)(text, part, start, end))

    return test


def _removing(name: str) -> Callable[..., Any]:
    def remove(run: Guard, text: Text, part: Any) -> Text:
        _like(text, part)
        run.build_text(len(text))
        return getattr(type(text), name)(text, part)

    return remove


def _stripping(name: str) -> Callable[..., Any]:
    def strip(run: Guard, text: Text, characters: Any = None) -> Text:
        if characters is not None:
            _like(text, characters)
            run.scan(len(text) * (len(characters) // 16 + 1))
        run.build_text(len(text))
        return getattr(type(text), name)(text, characters)

    return strip


def _padding(name: str) -> Callable[..., Any]:
    def pad(run: Guard, text: Text, width: Any, fill: Any = None) -> Text:
        run.build_text(max(len(text), _count(width, "the width")))
        if fill is None:
            return getattr(type(text), name)(text, width)
        _like(text, fill)
        if len(fill) != 1:
            raise ExpressionError("the fill is one character")
        return getattr(type(text), name)(text, width, fill)

    return pad


def _zfill(run: Guard, text: Text, width: Any) -> Text:
    run.build_text(max(len(text), _count(width, "the width")))
    return text.zfill(width)


def _splitting(name: str, backwards: bool = False) -> Callable[..., Any]:
    def split(run: Guard, text: Text, sep: Any = None, maxsplit: Any = -1) -> list[Any]:
        limit = _count(maxsplit)
        if sep is None:
            run.scan(len(text))
            pieces = len(text) // 2 + 1
        else:
            _like(text, sep)
            if not sep:
                raise ExpressionError("the separator is empty")
            run.scan((len(text) + len(sep)) * (len(sep) // 4 + 1 if backwards else 1))
            pieces = text.count(sep) + 1
        run.build_items(min(pieces, limit + 1) if limit >= 0 else pieces)
        run.build(len(text))
        found: list[Any] = getattr(type(text), name)(text, sep, limit)
        return found

    return split


def _splitlines(run: Guard, text: Text, keepends: Any = False) -> list[Any]:
    run.build_text(len(text))
    found: list[Any] = text.splitlines(keepends is True)
    run.build_items(len(found))
    return found


def _parting(name: str, backwards: bool = False) -> Callable[..., Any]:
    def part(run: Guard, text: Text, sep: Any) -> tuple[Any, ...]:
        _like(text, sep)
        if not sep:
            raise ExpressionError("the separator is empty")
        run.scan((len(text) + len(sep)) * (len(sep) // 4 + 1 if backwards else 1))
        run.build_text(len(text))
        found: tuple[Any, ...] = getattr(type(text), name)(text, sep)
        return found

    return part


def _replace(run: Guard, text: Text, old: Any, new: Any, count: Any = -1) -> Text:
    _like(text, old, new)
    limit = _count(count)
    run.scan(len(text) + len(old))
    times = text.count(old) if limit < 0 else min(text.count(old), limit)
    run.build_text(len(text) + times * max(0, len(new) - len(old)))
    return text.replace(old, new, limit)


def _join(run: Guard, text: Text, parts: Any) -> Text:
    kind = type(parts)
    if kind is str and type(text) is str:
        run.build_items(len(parts))
        parts = list(parts)
    elif kind not in SEQUENCES and kind not in (set, frozenset, dict):
        raise ExpressionError(f"joins the items of a list, not {kind_name(parts)}")
    length = len(text) * len(parts)
    run.spend(len(parts))
    for part in parts:
        _like(text, part)
        length += len(part)
    run.build_text(length)
    return text.join(parts)


def _expandtabs(run: Guard, text: Text, tabsize: Any = 8) -> Text:
    run.scan(len(text))
    tabs = text.count("\t" if type(text) is str else b"\t")
    run.build_text(len(text) + tabs * max(0, _count(tabsize)))
    return text.expandtabs(tabsize)


def _encode(run: Guard, text: str, encoding: Any = "utf-8", errors: Any = "strict") -> bytes:
    _check_encoding(encoding, errors)
    run.build_text(len(text) * (10 if errors != "strict" else 4) + 4)
    try:
        return text.encode(encoding, errors)
    except UnicodeError:
        raise ExpressionError("the text cannot be encoded") from None


def _decode(run: Guard, data: bytes, encoding: Any = "utf-8", errors: Any = "strict") -> str:
    _check_encoding(encoding, errors)
    run.build_text(len(data) * (4 if errors != "strict" else 1))
    try:
        return data.decode(encoding, errors)
    except (UnicodeError, TypeError):
        raise ExpressionError("the bytes cannot be decoded") from None


def _check_encoding(encoding: Any, errors: Any) -> None:
    if type(encoding) is not str or encoding.lower().replace("_", "-") not in ENCODINGS:
        raise ExpressionError("this encoding is not offered")
    if type(errors) is not str or errors not in ERROR_MODES:
        raise ExpressionError("this way of treating errors is not offered")


def _hex(run: Guard, data: bytes) -> str:
    run.build_text(2 * len(data))
    return data.hex()


_BOTH: dict[str, Callable[..., Any]] = {
    **{name: _changing(name) for name in ("swapcase", "capitalize", "title", "upper", "lower")},
    **{
        name: _asking(name)
        for name in ("isalnum", "isalpha", "isascii", "isdigit", "islower", "isspace",
                     "istitle", "isupper")
    },
    **{name: _searching(name) for name in ("find", "index", "count")},
    **{name: _searching(name, backwards=True) for name in ("rfind", "rindex")},
    **{name: _affix(name) for name in ("startswith", "endswith")},
    **{name: _removing(name) for name in ("removeprefix", "removesuffix")},
    **{name: _stripping(name) for name in ("strip", "lstrip", "rstrip")},
    **{name: _padding(name) for name in ("center", "ljust", "rjust")},
    "zfill": _zfill,
    "split": _splitting("split"),
    "rsplit": _splitting("rsplit", backwards=True),
    "splitlines": _splitlines,
    "partition": _parting("partition"),
    "rpartition": _parting("rpartition", backwards=True),
    "replace": _replace,
    "join": _join,
    "expandtabs": _expandtabs,
}  # fmt: skip

#: Name to function, for texts.  ``format`` and ``format_map`` reach into
#: objects and will never be among them.
STR_METHODS: dict[str, Callable[..., Any]] = {
    **_BOTH,
    **{
        # Upper case of one character can be three.
        name: _changing(name, growth=3)
        for name in ("casefold", "swapcase", "capitalize", "title", "upper", "lower")
    },
    **{name: _asking(name) for name in ("isdecimal", "isidentifier", "isnumeric", "isprintable")},
    "encode": _encode,
}

BYTES_METHODS: dict[str, Callable[..., Any]] = {**_BOTH, "decode": _decode, "hex": _hex}
