# SPDX-License-Identifier: ZPL-2.1
"""f-strings: values among text, with formats that stand in the text itself."""

from __future__ import annotations

import ast
from typing import Any

from ..errors import ExpressionError
from .formatting import check_spec, formatted, text_of
from .messages import blame
from .nodes import FAILURES, Closure, NodeCompiler
from .operations import Operations

#: A value and its format.
Field = tuple[Closure, str]


class Interpolation(NodeCompiler):
    """The part of the compiler that knows f-strings."""

    def joined(self, node: ast.JoinedStr) -> Closure:
        """``f"…{value:format}…"``."""
        outer, self.inside = self.inside, self.span(node)
        parts = [self._part(part) for part in node.values]
        text, (start, end) = self.text, self.inside
        self.inside = outer

        def join(run: Operations) -> str:
            try:
                found = [
                    part if isinstance(part, str) else formatted(run, part[0](run), part[1])
                    for part in parts
                ]
                run.build_text(sum(map(len, found)))
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__
            return "".join(found)

        return join

    def _part(self, node: ast.expr) -> str | Field:
        if isinstance(node, ast.FormattedValue):
            if node.conversion not in (-1, ord("s")):
                raise self.refuse(node, "!r and !a are not part of the language")
            value = self.expression(node.value)
            as_text = node.conversion == ord("s")
            return (_as_text(value) if as_text else value, self._spec(node))
        literal: Any = self.expression(node)
        text: str = literal(None)
        return text

    def _spec(self, node: ast.FormattedValue) -> str:
        if node.format_spec is None:
            return ""
        parts: list[Any] = getattr(node.format_spec, "values", [])
        if not all(isinstance(part, ast.Constant) for part in parts):
            raise self.refuse(node, "a format that is computed is not part of the language")
        spec = "".join(part.value for part in parts)
        try:
            check_spec(spec, self.engine.limits.width)
        except ExpressionError as failure:
            raise self.refuse(node, failure.args[0], type(failure)) from None
        return spec


def _as_text(value: Closure) -> Closure:
    """``!s``: its format is one for texts, whatever the value is."""
    return lambda run: text_of(run, value(run))
