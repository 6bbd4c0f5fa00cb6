# SPDX-License-Identifier: ZPL-2.1
"""Calls in ``python:`` expressions, and what only stands in a call.

``path('…')``, ``string('…')``, ``exists('…')`` and ``nocall('…')`` take
literals and are compiled with the text around them. A ``lambda`` stands only
behind ``key=`` and first in ``map`` and ``filter``: it is bound to no name, so
that it can neither leave the expression nor call itself.
"""

from __future__ import annotations

import ast
from typing import Any

from .grammar import MACHINERY_NAMES
from .messages import blame
from .nodes import FAILURES, Closure, NodeCompiler
from .operations import Operations
from .values import Builtin

#: Functions whose first argument may be a ``lambda``.
_TAKE_LAMBDA = ("filter", "map")

_SPECIAL = ("path", "string", "exists", "nocall")


class Calls(NodeCompiler):
    """The part of the compiler that knows calls."""

    def call(self, node: ast.Call) -> Closure:
        """A call of a function, a method or one of our special forms."""
        function = node.func
        named = function.id if isinstance(function, ast.Name) else ""
        if named in _SPECIAL and self.slot_of(named) is None:
            return self._special(node, named)
        rest = node.args
        args: list[Closure] = []
        if named in _TAKE_LAMBDA and rest and isinstance(rest[0], ast.Lambda):
            args.append(self._key(rest[0]))
            rest = rest[1:]
        args += [self.expression(arg) for arg in rest]
        kwargs = [self._keyword(node, keyword) for keyword in node.keywords]
        span = self.span(node)
        if isinstance(function, ast.Attribute):
            of, name = self.expression(function.value), self.attribute_name(function)
            return _method_call(of, name, args, kwargs, self.text, span)
        return _function_call(self.expression(function), args, kwargs, self.text, span)

    def attribute_name(self, node: ast.Attribute) -> str:
        """The name of an attribute that may be asked for at all."""
        name = self.check_name(node, node.attr)
        if name in MACHINERY_NAMES:
            raise self.refuse(node, f"{name!r} is closed")
        return name

    def _keyword(self, node: ast.Call, keyword: ast.keyword) -> tuple[str, Closure]:
        if keyword.arg is None:
            raise self.refuse(node, "**arguments are not part of the language")
        name = self.check_name(node, keyword.arg)
        if name == "key" and isinstance(keyword.value, ast.Lambda):
            return name, self._key(keyword.value)
        return name, self.expression(keyword.value)

    def _key(self, node: ast.Lambda) -> Closure:
        """``lambda item: …``, as a function that only our own functions get."""
        wanted = node.args
        if (
            len(wanted.args) != 1
            or wanted.posonlyargs
            or wanted.kwonlyargs
            or (wanted.vararg or wanted.kwarg or wanted.defaults)
        ):
            raise self.refuse(node, "lambda takes one name here")
        self.scopes.append({})
        slot = self.new_slot(node, wanted.args[0].arg)
        body = self.expression(node.body)
        del self.scopes[-1]

        def compute(run: Operations, item: Any) -> Any:
            run.local[slot] = item
            return body(run)

        key = Builtin("lambda", compute)
        return lambda run: key

    def _special(self, node: ast.Call, kind: str) -> Closure:
        argument = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if not isinstance(argument, ast.Constant) or type(argument.value) is not str:
            raise self.refuse(node, f"{kind}() takes one literal text")
        closure: Closure = self.engine.compile_type(kind, argument.value, self.span(node))
        return closure


def _method_call(
    of: Closure,
    name: str,
    args: list[Closure],
    kwargs: list[tuple[str, Closure]],
    text: str,
    span: tuple[int, int],
) -> Closure:
    start, end = span

    def call(run: Operations) -> Any:
        value = of(run)
        given = tuple([arg(run) for arg in args])
        named = {keyword: arg(run) for keyword, arg in kwargs} if kwargs else {}
        try:
            return run.call_method(value, name, given, named)
        except FAILURES as failure:
            raise blame(failure, text, start, end) from failure.__cause__

    return call


def _function_call(
    function: Closure,
    args: list[Closure],
    kwargs: list[tuple[str, Closure]],
    text: str,
    span: tuple[int, int],
) -> Closure:
    start, end = span

    def call(run: Operations) -> Any:
        called = function(run)
        given = tuple([arg(run) for arg in args])
        named = {keyword: arg(run) for keyword, arg in kwargs} if kwargs else {}
        try:
            return run.call(called, given, named)
        except FAILURES as failure:
            raise blame(failure, text, start, end) from failure.__cause__

    return call
