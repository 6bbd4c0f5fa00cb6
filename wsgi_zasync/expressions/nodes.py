# SPDX-License-Identifier: ZPL-2.1
"""What compiling any node of a ``python:`` text needs: places, scopes, errors."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ExpressionError, Unauthorized
from .messages import blame
from .operations import Operations

if TYPE_CHECKING:
    from .engine import Compilation

#: What a compiled expression is.
Closure = Callable[[Operations], Any]

#: What an operation raises; everything else would be a mistake of ours.
FAILURES = (ExpressionError, Unauthorized)


class NodeCompiler(ABC):
    """The state of compiling one text, and the errors that show where."""

    def __init__(self, text: str, source: str, offset: int, engine: Compilation) -> None:
        #: The whole text, for errors.
        self.text = text
        #: The part of it that is Python, and where it begins.
        self.source = source
        self.offset = offset
        self.engine = engine
        #: Loop variables by name, to their numbers; the innermost loop last.
        self.scopes: list[dict[str, int]] = []
        #: While inside an f-string: its place, since Python 3.11 gives none inside.
        self.inside: tuple[int, int] | None = None
        self._ascii = source.isascii()
        #: Parts of the text seen so far, and how deep this one is.
        self.parts = 0
        self.depth = 0

    @abstractmethod
    def expression(self, node: ast.expr) -> Closure:
        """The closure for one node."""

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Start and end of a node in the whole text."""
        if self.inside is not None:
            return self.inside
        start, end = node.col_offset, node.end_col_offset or node.col_offset
        if not self._ascii:
            source = self.source.encode()
            start = len(source[:start].decode(errors="ignore"))
            end = len(source[:end].decode(errors="ignore"))
        return (self.offset + start, self.offset + end)

    def refuse(self, node: ast.expr, reason: str, kind: Any = ExpressionError) -> Any:
        """The error for a node that does not compile."""
        return self.engine.error(reason, self.span(node)[0], kind)

    def check_name(self, node: ast.expr, name: str) -> str:
        """A name that may be used; the parser has normalised it."""
        if name.startswith("_"):
            raise self.refuse(node, f"{name!r}: names that begin with _ are closed")
        return name

    def slot_of(self, name: str) -> int | None:
        """The number of a loop variable that is in scope."""
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def new_slot(self, node: ast.expr, name: str) -> int:
        """A number for a loop variable of the innermost scope."""
        scope = self.scopes[-1]
        if self.check_name(node, name) not in scope:
            scope[name] = self.engine.next_slot()
        return scope[name]

    def blamed(self, node: ast.expr, closure: Closure) -> Closure:
        """The closure, its errors naming this node."""
        text, (start, end) = self.text, self.span(node)

        def compute(run: Operations) -> Any:
            try:
                return closure(run)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return compute
