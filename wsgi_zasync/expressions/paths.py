# SPDX-License-Identifier: ZPL-2.1
"""``path:``, ``exists:``, ``nocall:``, ``not:`` and ``string:``.

The grammar is TALES's; what a path reaches is decided by the evaluation's
`Operations` alone. Only what is not there counts as missing in ``|`` and
``exists:``; what is refused never does.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any

from ..errors import ExpressionError, ResourceLimit, Unauthorized, UndefinedName
from .formatting import text_of
from .messages import blame
from .operations import Operations
from .values import CALLABLE, PLAIN, SEQUENCES

if TYPE_CHECKING:
    from .engine import Compilation

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")

#: Steps that an alternative costs that was not there.
MISS = 20

_FAILURES = (ExpressionError, Unauthorized)


def is_closed(name: str) -> bool:
    """Whether a name begins with an underscore, however it is written."""
    if name.isascii():
        return name.lstrip().startswith("_")
    return unicodedata.normalize("NFKC", name).strip().startswith("_")


class Variable:
    """A step ``?name``: the name, or list of names, that is bound to ``name``."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def steps(self, run: Operations) -> tuple[str, ...]:
        """The names to go on with."""
        value = run.name(self.name)
        names = tuple(value) if type(value) in SEQUENCES else (value,)
        run.spend(len(names))
        for name in names:
            if type(name) is int:
                run.integer(name)
                continue
            if type(name) is not str:
                raise ExpressionError("a step of a path is a text")
            run.scan(len(name))
            if is_closed(name):
                raise Unauthorized("names that begin with _ are closed")
        return tuple(str(name) for name in names)


class SubPath:
    """One alternative of a path: a bound name and the steps from there."""

    __slots__ = ("_base", "_ends", "_start", "_steps", "_text")

    def __init__(self, path: str, offset: int, engine: Compilation) -> None:
        self._text = engine.text
        self._start = offset
        self._ends: list[int] = []
        steps: list[str | Variable] = []
        place = offset
        stripped = path.strip()
        for element in stripped.split("/"):
            steps.append(_step(element, place, engine, first=place == offset))
            place += len(element) + 1
            self._ends.append(place - 1)
        base, *self._steps = steps
        assert isinstance(base, str)
        self._base = base

    def __call__(self, run: Operations) -> Any:
        """What the path reaches, not called."""
        done = 0
        try:
            value = run.name(self._base)
            for step in self._steps:
                done += 1
                if type(step) is str:
                    value = run.traverse(value, step)
                else:
                    for name in step.steps(run):  # type: ignore[union-attr]
                        value = run.traverse(value, name)
        except _FAILURES as failure:
            raise blame(failure, self._text, self._start, self._ends[done]) from failure.__cause__
        return value

    def finish(self, run: Operations, value: Any) -> Any:
        """What the path reached, called if it can be."""
        if type(value) in PLAIN or type(value) not in CALLABLE:
            return value
        try:
            return run.call(value, (), {})
        except _FAILURES as failure:
            raise blame(failure, self._text, self._start, self._ends[-1]) from failure.__cause__


#: What no path has: its prefix was forgotten.
_LIKE_PYTHON = re.compile(r"[.(\[+]")


def _step(element: str, place: int, engine: Compilation, first: bool) -> str | Variable:
    if not element:
        raise engine.error("an element of the path is empty", place)
    if is_closed(element.removeprefix("?")):
        raise engine.error(f"{element[:40]!r}: names that begin with _ are closed", place)
    if element.startswith("?"):
        if first:
            raise engine.error("a path does not begin with a variable", place)
        if not _NAME.fullmatch(element[1:]):
            raise engine.error(f"{element[1:41]!r} is no name of a variable", place)
        return Variable(element[1:])
    if first and not _NAME.fullmatch(element):
        hint = engine.similar_prefix(element)
        if not hint and _LIKE_PYTHON.search(element):
            hint = ": a path is written a/b, and Python begins with python:"
        raise engine.error(f"{element[:40]!r} is no name{hint}", place)
    if ":" in element and re.match(r"\w+:.", element):
        raise engine.error(f"there is no namespace {element.split(':')[0][:40]!r}", place)
    return element


class Path:
    """Alternatives, the first that is there; as ``path``, ``nocall`` or ``exists``."""

    __slots__ = ("_last", "_name", "_parts")

    def __init__(self, name: str, expr: str, engine: Compilation, plain: bool = False) -> None:
        self._name = name
        self._parts: list[SubPath] = []
        self._last: Any = None
        alternatives = expr.split("|")
        if len(alternatives) > engine.limits.nesting:
            raise engine.error(
                f"more than {engine.limits.nesting} alternatives",
                engine.offset_of(expr),
                ResourceLimit,
            )
        for number, alternative in enumerate(alternatives):
            path = alternative.lstrip()
            rest = "|".join(alternatives[number:]).lstrip()
            if not plain and engine.prefix_of(path):
                self._last = self._nested(rest, engine)
                break
            self._parts.append(SubPath(path, engine.offset_of(rest), engine))

    def _nested(self, rest: str, engine: Compilation) -> Any:
        nested = engine.compile(rest)
        if self._name == "exists" and not isinstance(nested, Path):
            raise engine.error("exists: takes paths, and calls nothing", engine.offset_of(rest))
        return nested

    def __call__(self, run: Operations) -> Any:
        """The value, or for ``exists`` 1 or 0."""
        if self._name == "exists":
            return int(self.exists(run))
        last = self._last
        for part in self._parts if last is not None else self._parts[:-1]:
            try:
                value = part(run)
            except UndefinedName:
                run.spend(MISS)
                continue
            return value if self._name == "nocall" else part.finish(run, value)
        if last is not None:
            return last(run)
        part = self._parts[-1]
        value = part(run)
        return value if self._name == "nocall" else part.finish(run, value)

    def exists(self, run: Operations) -> bool:
        """Whether one of the alternatives is there; nothing is called."""
        for part in self._parts:
            try:
                part(run)
            except UndefinedName:
                run.spend(MISS)
                continue
            return True
        return self._last is not None and self._last.exists(run)


class Not:
    """``not:`` of any expression: 1 or 0."""

    __slots__ = ("_expression",)

    def __init__(self, name: str, expr: str, engine: Compilation) -> None:
        self._expression = engine.compile(expr.lstrip())

    def __call__(self, run: Operations) -> int:
        """1 if the expression is false, else 0."""
        return int(not run.truth(self._expression(run)))


class String:
    """``string:`` with ``$name`` and ``${path}`` replaced by their texts."""

    __slots__ = ("_pieces", "_text")

    def __init__(self, name: str, expr: str, engine: Compilation) -> None:
        self._text = engine.text
        self._pieces: list[Any] = []
        offset = engine.offset_of(expr)
        place = 0
        while (dollar := expr.find("$", place)) >= 0:
            self._pieces.append(expr[place:dollar])
            piece, place = self._substitution(expr, dollar, offset, engine)
            self._pieces.append(piece)
        self._pieces.append(expr[place:])
        self._pieces = [piece for piece in self._pieces if piece != ""]

    def _substitution(
        self, expr: str, dollar: int, offset: int, engine: Compilation
    ) -> tuple[Any, int]:
        following = expr[dollar + 1 : dollar + 2]
        if following == "$":
            return "$", dollar + 2
        if following == "{":
            end = expr.find("}", dollar)
            path = expr[dollar + 2 : end] if end > 0 else ""
        else:
            name = _NAME.match(expr, dollar + 1)
            path, end = (name[0], name.end() - 1) if name else ("", 0)
        if not path.strip():
            raise engine.error("$ is doubled or followed by a path", offset + dollar)
        start = offset + dollar + (2 if following == "{" else 1)
        with engine.at(path, start):
            compiled = Path("path", path, engine, plain=True)
        return (compiled, start, start + len(path)), end + 1

    def __call__(self, run: Operations) -> str:
        """The text."""
        found = []
        for piece in self._pieces:
            if type(piece) is str:
                found.append(piece)
            else:
                path, start, end = piece
                value = path(run)
                try:
                    found.append(value if type(value) is str else text_of(run, value))
                except _FAILURES as failure:
                    raise blame(failure, self._text, start, end) from failure.__cause__
        run.build_text(sum(map(len, found)))
        return "".join(found)
