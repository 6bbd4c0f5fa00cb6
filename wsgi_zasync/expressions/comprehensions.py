# SPDX-License-Identifier: ZPL-2.1
"""Comprehensions of ``python:`` expressions, with scopes that cannot leak.

Loop variables are numbered when the text is compiled and kept apart from the
bound names, so that none can shadow a name outside its own loop.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from ..errors import ExpressionError
from .functions import make_dict, make_set
from .messages import blame
from .nodes import FAILURES, Closure, NodeCompiler
from .operations import Operations
from .values import PLAIN, SEQUENCES

#: Binds one item to loop variables.
Binding = Callable[[Operations, Any], None]

#: Appends what one pass of the loops gives.
Pass = Callable[[Operations, list[Any]], None]


class Comprehensions(NodeCompiler):
    """The part of the compiler that knows loops."""

    def list_comprehension(self, node: Any) -> Closure:
        """``[…]``, and a generator expression, which is read at once."""
        loops = self._loops(node, node.elt)

        def collect(run: Operations) -> list[Any]:
            found = loops(run)
            run.build_items(len(found))
            return found

        return self.blamed(node, collect)

    def set_comprehension(self, node: Any) -> Closure:
        """``{…}``."""
        loops = self._loops(node, node.elt)
        return self.blamed(node, lambda run: make_set(run, loops(run)))

    def dict_comprehension(self, node: Any) -> Closure:
        """``{…: …}``."""
        loops = self._loops(node, node.key, node.value)
        return self.blamed(node, lambda run: make_dict(run, loops(run)))

    def _loops(self, node: Any, *elements: ast.expr) -> Callable[[Operations], list[Any]]:
        """What gives the list of all items (or of pairs of key and value)."""
        depth, before = len(self.scopes), self.parts
        levels = []
        for number, generator in enumerate(node.generators):
            if generator.is_async:
                raise self.refuse(node, "async is not part of the language")
            # The first source is outside of the loop; Python sees it so too.
            source = self.expression(generator.iter)
            if number == 0:
                self.scopes.append({})
            bind = self._binding(generator.target)
            conditions = [self.expression(condition) for condition in generator.ifs]
            levels.append((source, bind, conditions, self.span(generator.iter)))
        parts = [self.expression(element) for element in elements]
        weight = self.parts - before
        del self.scopes[depth:]
        inner = _collect_one(parts[0]) if len(parts) == 1 else _collect_pair(*parts)
        for source, bind, conditions, span in reversed(levels):
            inner = _level(source, bind, conditions, inner, weight, self.text, span)
        outermost = inner

        def collect(run: Operations) -> list[Any]:
            found: list[Any] = []
            outermost(run, found)
            return found

        return collect

    def _binding(self, target: ast.expr) -> Binding:
        if isinstance(target, ast.Name):
            slot = self.new_slot(target, target.id)

            def bind(run: Operations, item: Any) -> None:
                run.local[slot] = item

            return bind
        if not isinstance(target, (ast.Tuple, ast.List)):
            raise self.refuse(target, "only names can be loop variables")
        return self._unpacking([self._binding(part) for part in target.elts], target)

    def _unpacking(self, bindings: list[Binding], target: ast.expr) -> Binding:
        count = len(bindings)
        text, (start, end) = self.text, self.span(target)

        def unpack(run: Operations, item: Any) -> None:
            if type(item) not in SEQUENCES or len(item) != count:
                failure = ExpressionError(f"takes apart lists and tuples of {count} only")
                raise blame(failure, text, start, end)
            for bind, part in zip(bindings, item, strict=True):
                bind(run, part if type(part) in PLAIN else run.admit(part))

        return unpack


def _collect_one(element: Closure) -> Pass:
    def collect(run: Operations, found: list[Any]) -> None:
        found.append(element(run))

    return collect


def _collect_pair(key: Closure, value: Closure) -> Pass:
    def collect(run: Operations, found: list[Any]) -> None:
        found.append((key(run), value(run)))

    return collect


def _level(
    source: Closure,
    bind: Binding,
    conditions: list[Closure],
    inner: Pass,
    weight: int,
    text: str,
    span: tuple[int, int],
) -> Pass:
    def loop(run: Operations, found: list[Any]) -> None:
        try:
            items = run.iterate(source(run))
        except FAILURES as failure:
            raise blame(failure, text, *span) from failure.__cause__
        for item in items:
            run.spend(weight)
            bind(run, item if type(item) in PLAIN else run.admit(item))
            for condition in conditions:
                value = condition(run)
                if value is False or (value is not True and not run.truth(value)):
                    break
            else:
                inner(run, found)

    return loop
