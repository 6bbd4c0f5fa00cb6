# SPDX-License-Identifier: ZPL-2.1
"""Our TALES engine: zope.tales' own, with nothing in it but our types.

An engine is made for each compilation, because it keeps count of the nesting
and knows where in the text it is. Types are registered once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from zope.tales.tales import ExpressionEngine

from ..errors import ExpressionError, ResourceLimit
from .limits import Limits
from .messages import compile_error
from .operations import Operations
from .paths import Not, Path, String
from .python import PythonCompiler
from .templates import Template

#: Null bytes and halves of characters.
_REFUSED = re.compile("[\0\ud800-\udfff]")

_REFUSAL = "a character that no expression has"

_PREFIX = re.compile(r"([a-zA-Z][a-zA-Z0-9_]*):")


class Python:
    """``python:`` as an expression type of the engine."""

    __slots__ = ("_closure",)

    def __init__(self, name: str, expr: str, engine: Compilation) -> None:
        # Line ends mean nothing inside an expression; offsets stay the same.
        source = expr.replace("\r", " ").replace("\n", " ")
        stripped = source.lstrip()
        offset = engine.offset_of(expr) + len(source) - len(stripped)
        if not stripped:
            raise engine.error("there is no expression", offset)
        self._closure = PythonCompiler(engine.text, stripped, offset, engine).compile()

    def __call__(self, run: Operations) -> Any:
        """The value."""
        return self._closure(run)


#: What a text can begin with.
TYPES: dict[str, Callable[..., Any]] = {
    "exists": Path,
    "nocall": Path,
    "not": Not,
    "path": Path,
    "python": Python,
    "string": String,
    "template": Template,
}


class Compilation(ExpressionEngine):
    """The engine while it compiles one text."""

    def __init__(self, text: str, limits: Limits, *, asks_for_templates: bool = False) -> None:
        super().__init__()
        #: Whether those that the text names must be registered already.
        self.asks_for_templates = asks_for_templates
        self.types = TYPES
        self.text = text
        self.limits = limits
        self._depth = 0
        self._slots = 0
        self._fixed: tuple[str, int] | None = None

    def compile(self, expression: str) -> Callable[[Operations], Any]:
        """The compiled expression for a text, or for a part of one.

        Raises:
            ExpressionError: It does not compile; line and column say where.
        """
        prefix = self.prefix_of(expression)
        rest = expression[len(prefix) + 1 :] if prefix else expression
        compiled: Callable[[Operations], Any] = self._compile_as(prefix or "path", rest)
        return compiled

    def _compile_as(self, kind: str, rest: str) -> Any:
        self._depth += 1
        if self._depth > self.limits.nesting:
            raise self.error(f"nested deeper than {self.limits.nesting}", 0, ResourceLimit)
        compiled = self.types[kind](kind, rest, self)
        self._depth -= 1
        return compiled

    def compile_type(self, kind: str, literal: str, span: tuple[int, int]) -> Any:
        """A literal inside ``python:`` as an expression of one type."""
        place = self.text.find(literal, *span)
        place = place if place >= 0 else span[0]
        if _REFUSED.search(literal):
            raise self.error(_REFUSAL, place)
        with self.at(literal, place):
            return self._compile_as(kind, literal)

    def prefix_of(self, expression: str) -> str:
        """The name of the type that the text begins with, if it is one of ours."""
        found = _PREFIX.match(expression)
        return found[1] if found and found[1] in self.types else ""

    def similar_prefix(self, element: str) -> str:
        """What to add to an error where a prefix was perhaps meant."""
        word = element.partition(":")[0].strip().lower()
        near = difflib.get_close_matches(word, self.types, n=1, cutoff=0.7)
        return f"; did you mean {near[0] + ':'!r}?" if ":" in element and near else ""

    @contextmanager
    def at(self, part: str, offset: int) -> Iterator[None]:
        """While in it, parts are looked for in this part of the text."""
        outer, self._fixed = self._fixed, (part, offset)
        yield
        self._fixed = outer

    def offset_of(self, part: str) -> int:
        """Where a part begins; parts are what is left of the text (or of a part of it)."""
        whole, offset = self._fixed or (self.text, 0)
        return offset + max(0, len(whole) - len(part))

    def next_slot(self) -> int:
        """A number for one more loop variable."""
        self._slots += 1
        return self._slots

    def error(self, reason: str, offset: int, kind: Any = ExpressionError) -> Any:
        """The error for a place in the text."""
        return compile_error(reason, self.text, offset, kind)


def compile_text(
    text: Any, limits: Limits, *, asks_for_templates: bool = False
) -> Callable[[Operations], Any]:
    """Compile one text of exactly the type ``str``.

    Args:
        text: The text.
        limits: What it may have.
        asks_for_templates: Whether those that it names must be registered already.

    Raises:
        ExpressionError: It is none, or does not compile.
        UndefinedName: It names a template that must be there, and is not.
        ResourceLimit: It is too long or too deep.
    """
    if type(text) is not str:
        raise ExpressionError("an expression is a text", 1, 1)
    if len(text) > limits.source:
        raise compile_error(
            f"longer than {limits.source} characters", text[: limits.source],
            limits.source, ResourceLimit,
        )  # fmt: skip
    refused = _REFUSED.search(text)
    if refused:
        raise compile_error(_REFUSAL, text, refused.start())
    if not text.strip():
        raise compile_error("there is no expression", text, 0)
    try:
        engine = Compilation(text, limits, asks_for_templates=asks_for_templates)
        return engine.compile(text)
    except RecursionError:
        raise compile_error("nested too deep", text, 0, ResourceLimit) from None
