# SPDX-License-Identifier: ZPL-2.1
"""``python:`` expressions: an allow-listed syntax tree, compiled to closures.

There is no bytecode, no global namespace and no name of a guard that a text
could shadow: every node becomes a Python function of ours that works on the
evaluation's `Operations`. Nodes that are not in the table do not compile.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable
from typing import Any

from ..errors import ResourceLimit, Unauthorized
from . import arithmetic, comparing
from .calls import Calls
from .comprehensions import Comprehensions
from .functions import BUILTINS, make_dict, make_set
from .grammar import REFUSED_NAMES, parse, too_deep
from .interpolation import Interpolation
from .members import MISSING
from .messages import blame
from .nodes import FAILURES, Closure
from .operations import Operations
from .values import PLAIN

BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: arithmetic.add, ast.Sub: arithmetic.subtract, ast.Mult: arithmetic.multiply,
    ast.Div: arithmetic.divide, ast.FloorDiv: arithmetic.floor_divide,
    ast.Mod: arithmetic.modulo, ast.Pow: arithmetic.power, ast.LShift: arithmetic.shift_left,
    ast.RShift: arithmetic.shift_right, ast.BitOr: arithmetic.bit_or,
    ast.BitAnd: arithmetic.bit_and, ast.BitXor: arithmetic.bit_xor,
}  # fmt: skip

UNARY: dict[type, Callable[..., Any]] = {
    ast.USub: arithmetic.negative,
    ast.UAdd: arithmetic.positive,
    ast.Invert: arithmetic.invert,
}

COMPARE: dict[type, Callable[..., bool]] = {
    ast.Eq: comparing.equal, ast.NotEq: comparing.unequal, ast.Lt: comparing.less,
    ast.LtE: comparing.less_equal, ast.Gt: comparing.greater, ast.GtE: comparing.greater_equal,
    ast.Is: comparing.same, ast.IsNot: comparing.not_same, ast.In: Operations.contains,
    ast.NotIn: Operations.lacks,
}  # fmt: skip


class PythonCompiler(Calls, Comprehensions, Interpolation):
    """Turns one text into one closure."""

    def compile(self) -> Closure:
        """The closure for the whole text.

        Raises:
            ExpressionError: It is not in the language, or too long or too deep.
        """
        return self.expression(parse(self.source, self.offset, self.engine))

    # -- nodes -------------------------------------------------------------

    def expression(self, node: ast.expr) -> Closure:
        """The closure for one node."""
        compiler = _NODES.get(type(node))
        if compiler is None:
            what = type(node).__name__
            raise self.refuse(node, f"{_SAYINGS.get(what, what)} is not part of the language")
        limits = self.engine.limits
        self.parts += 1
        if self.parts > limits.nodes:
            raise self.refuse(node, f"more than {limits.nodes} parts", ResourceLimit)
        if self.depth > 2 * limits.nesting:
            raise too_deep(self.engine, self.offset)
        self.depth += 1
        closure = compiler(self, node)
        self.depth -= 1
        return closure

    def constant(self, node: ast.Constant) -> Closure:
        """A number, text or the like that stands in the text."""
        value: Any = node.value
        kind = type(value)
        if kind is int and value.bit_length() > self.engine.limits.integer_bits:
            raise self.refuse(node, "the integer is too long", ResourceLimit)
        if kind is str and not value.isascii() and any("\ud800" <= c < "\ue000" for c in value):
            raise self.refuse(node, "the text contains half a character")
        if kind not in PLAIN:
            raise self.refuse(node, f"{kind.__name__} is not part of the language")
        return lambda run: value

    def _name(self, node: ast.Name) -> Closure:
        name = self.check_name(node, node.id)
        slot = self.slot_of(name)
        if slot is not None:
            return lambda run: run.local[slot]
        if name in REFUSED_NAMES:
            raise self.refuse(node, f"{name!r} is not part of the language")
        text, (start, end) = self.text, self.span(node)
        fallback = BUILTINS.get(name)

        def read(run: Operations) -> Any:
            value = run.names.get(name, MISSING)
            if type(value) in PLAIN:
                return value
            if value is MISSING and fallback is not None:
                return fallback
            try:
                return run.name(name)
            except FAILURES as failure:
                shown: Any = failure
                if value is MISSING and (
                    hasattr(builtins, name) or name in sys.stdlib_module_names
                ):
                    shown = Unauthorized("is not open to expressions")
                raise blame(shown, text, start, end) from failure.__cause__

        return read

    def _attribute(self, node: ast.Attribute) -> Closure:
        of, name = self.expression(node.value), self.attribute_name(node)
        text, (start, end) = self.text, self.span(node)

        def read(run: Operations) -> Any:
            value = of(run)
            try:
                return run.attribute(value, name)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return read

    def _subscript(self, node: ast.Subscript) -> Closure:
        of = self.expression(node.value)
        text, (start, end) = self.text, self.span(node)
        if isinstance(node.slice, ast.Slice):
            return self._slice(node.slice, of, (start, end))
        key = self.expression(node.slice)
        if isinstance(node.slice, ast.Constant) and type(node.slice.value) is str:
            return _named_item(of, node.slice.value, text, start, end)

        def read(run: Operations) -> Any:
            value, item = of(run), key(run)
            try:
                return run.item(value, item)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return read

    def _slice(self, node: ast.Slice, of: Closure, span: tuple[int, int]) -> Closure:
        text, (start, end) = self.text, span
        bounds = [
            self.expression(bound) if bound is not None else _nothing
            for bound in (node.lower, node.upper, node.step)
        ]

        def cut(run: Operations) -> Any:
            value = of(run)
            found = [bound(run) for bound in bounds]
            try:
                return run.slice(value, *found)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return cut

    def _binary(self, node: ast.BinOp) -> Closure:
        operation = BINARY.get(type(node.op))
        if operation is None:
            raise self.refuse(node, f"{type(node.op).__name__} is not part of the language")
        left, right = self.expression(node.left), self.expression(node.right)
        text, (start, end) = self.text, self.span(node)

        def compute(run: Operations) -> Any:
            one, other = left(run), right(run)
            try:
                return operation(run, one, other)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return compute

    def _unary(self, node: ast.UnaryOp) -> Closure:
        of = self.expression(node.operand)
        if isinstance(node.op, ast.Not):
            return lambda run: not run.truth(of(run))
        operation = UNARY[type(node.op)]
        text, (start, end) = self.text, self.span(node)

        def compute(run: Operations) -> Any:
            value = of(run)
            try:
                return operation(run, value)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return compute

    def _boolean(self, node: ast.BoolOp) -> Closure:
        parts = [self.expression(value) for value in node.values]
        *first, last = parts
        stop_at = isinstance(node.op, ast.Or)

        def decide(run: Operations) -> Any:
            for part in first:
                value = part(run)
                if run.truth(value) is stop_at:
                    return value
            return last(run)

        return decide

    def _compare(self, node: ast.Compare) -> Closure:
        first = self.expression(node.left)
        others = [
            (COMPARE[type(op)], self.expression(other))
            for op, other in zip(node.ops, node.comparators, strict=True)
        ]
        text, (start, end) = self.text, self.span(node)

        def compare(run: Operations) -> bool:
            one = first(run)
            for operation, right in others:
                other = right(run)
                try:
                    if not operation(run, one, other):
                        return False
                except FAILURES as failure:
                    raise blame(failure, text, start, end) from failure.__cause__
                one = other
            return True

        return compare

    def _conditional(self, node: ast.IfExp) -> Closure:
        test = self.expression(node.test)
        yes, no = self.expression(node.body), self.expression(node.orelse)
        return lambda run: yes(run) if run.truth(test(run)) else no(run)

    # -- displays           ------------------------------------------------

    def _list(self, node: ast.List) -> Closure:
        parts = [self.expression(item) for item in node.elts]
        return lambda run: [part(run) for part in parts]

    def _tuple(self, node: ast.Tuple) -> Closure:
        parts = [self.expression(item) for item in node.elts]
        return lambda run: tuple([part(run) for part in parts])

    def _set(self, node: ast.Set) -> Closure:
        parts = [self.expression(item) for item in node.elts]
        return self.blamed(node, lambda run: make_set(run, [part(run) for part in parts]))

    def _dict(self, node: ast.Dict) -> Closure:
        pairs = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                raise self.refuse(node, "** in a dict is not part of the language")
            pairs.append((self.expression(key), self.expression(value)))
        return self.blamed(
            node, lambda run: make_dict(run, [(key(run), value(run)) for key, value in pairs])
        )


def _named_item(of: Closure, name: str, text: str, start: int, end: int) -> Closure:
    """``of['name']``, which most often is an item of a dict of data."""

    def read(run: Operations) -> Any:
        value = of(run)
        if type(value) is dict:
            found = value.get(name, MISSING)
            if type(found) in PLAIN:
                return found
        try:
            return run.item(value, name)
        except FAILURES as failure:
            raise blame(failure, text, start, end) from failure.__cause__

    return read


def _nothing(run: Operations) -> None:
    return None


_NODES: dict[type, Callable[[PythonCompiler, Any], Closure]] = {
    ast.Attribute: PythonCompiler._attribute, ast.BinOp: PythonCompiler._binary,
    ast.BoolOp: PythonCompiler._boolean, ast.Call: PythonCompiler.call,
    ast.Compare: PythonCompiler._compare, ast.Constant: PythonCompiler.constant,
    ast.Dict: PythonCompiler._dict, ast.DictComp: PythonCompiler.dict_comprehension,
    ast.GeneratorExp: PythonCompiler.list_comprehension, ast.IfExp: PythonCompiler._conditional,
    ast.JoinedStr: PythonCompiler.joined, ast.List: PythonCompiler._list,
    ast.ListComp: PythonCompiler.list_comprehension, ast.Name: PythonCompiler._name,
    ast.Set: PythonCompiler._set, ast.SetComp: PythonCompiler.set_comprehension,
    ast.Subscript: PythonCompiler._subscript, ast.Tuple: PythonCompiler._tuple,
    ast.UnaryOp: PythonCompiler._unary,
}  # fmt: skip

_SAYINGS = {
    "Await": "await", "Lambda": "lambda", "NamedExpr": ":=", "Slice": "a slice here",
    "Starred": "*", "Yield": "yield", "YieldFrom": "yield",
}  # fmt: skip
