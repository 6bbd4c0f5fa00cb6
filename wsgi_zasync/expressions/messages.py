# SPDX-License-Identifier: ZPL-2.1
"""Errors for people: which part of the text, a caret, a nearby name.

Messages hold parts of the author's own text and names that were declared or
bound; never a value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

from wsgi_zasync.errors import ExpressionError, ZasyncError

#: Longest part of a text that a message repeats.
PART_LENGTH = 60

#: So many names are looked through for a similar one.
MOST_NAMES = 200

E = TypeVar("E", bound=ZasyncError)


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """``; did you mean 'name'?`` if one of the known names is similar."""
    if type(name) is not str or len(name) > PART_LENGTH:
        return ""
    candidates = [one for one, _ in zip(known, range(MOST_NAMES), strict=False)]
    candidates = [one for one in candidates if len(one) <= PART_LENGTH and one[:1] != "_"]
    similar = difflib.get_close_matches(name, candidates, n=1, cutoff=0.7)
    if not similar:
        return ""
    return f"; did you mean {similar[0]!r}?" if similar[0] != name else f"; there is [{name!r}]"


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset into a text."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def compile_error(reason: str, text: str, offset: int, kind: Any = ExpressionError) -> Any:
    """The error for a text that does not compile, with the line and a caret."""
    offset = max(0, min(offset, len(text)))
    line, column = position(text, offset)
    shown = text.splitlines()[line - 1] if text.splitlines()[line - 1 :] else ""
    start = max(0, column - PART_LENGTH)
    excerpt = "".join(one if one.isprintable() else " " for one in shown[start : start + 100])
    caret = " " * (column - 1 - start) + "^"
    error = kind(f"{reason}, line {line}, column {column}\n  {excerpt}\n  {caret}")
    error.line, error.column = line, column
    return error


def blame(error: E, text: str, start: int, end: int) -> E:
    """Name the part of the text that failed, once, in an error of its evaluation."""
    if getattr(error, "column", None) is None:
        part = " ".join(text[start:end].split())
        if len(part) > PART_LENGTH:
            part = part[: PART_LENGTH - 1] + "…"
        error.args = (f"{part}: {error.args[0] if error.args else ''}",)
        error.line, error.column = position(text, start)  # type: ignore[attr-defined]
    return error
