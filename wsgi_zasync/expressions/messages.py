# SPDX-License-Identifier: ZPL-2.1
"""Errors for people: which part of the text, a caret, a nearby name.

Messages hold parts of the author's own text and names that were declared or
bound; never a value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import chain, islice
from typing import Any, TypeVar

from ..errors import ExpressionError, ZasyncError

#: Longest part of a text that a message repeats.
PART_LENGTH = 60

#: So many names are looked through for a similar one.
MOST_NAMES = 200

E = TypeVar("E", bound=ZasyncError)


def suggest(error: E, name: Any, *known: Iterable[Any]) -> E:
    """Remember where a similar name could be, for when the error reaches somebody.

    Looking for one takes longer than most expressions, and ``|`` drops errors.
    """
    error.suggestion = (name, known)  # type: ignore[attr-defined]
    return error


def complete(error: E) -> E:
    """Add ``did you mean 'name'?`` to an error, if one of the known names is similar."""
    name, known = error.__dict__.pop("suggestion", (None, ()))
    if type(name) is str and len(name) <= PART_LENGTH:
        candidates = list(islice(filter(_is_candidate, chain(*known)), MOST_NAMES))
        if name in candidates:
            error.args = (f"{error.args[0]}; there is [{name!r}]",)
        else:
            for similar in difflib.get_close_matches(name, candidates, n=1, cutoff=0.7):
                error.args = (f"{error.args[0]}; did you mean {similar!r}?",)
    return error


def _is_candidate(name: Any) -> bool:
    return type(name) is str and len(name) <= PART_LENGTH and name[:1] != "_"


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset into a text."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def compile_error(reason: str, text: str, offset: int, kind: Any = ExpressionError) -> Any:
    """The error for a text that does not compile, with the line and a caret."""
    offset = max(0, min(offset, len(text)))
    line, column = position(text, offset)
    shown = text.split("\n")[line - 1]
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
