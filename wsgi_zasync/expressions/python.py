# SPDX-License-Identifier: ZPL-2.1
"""``python:`` expressions: an allow-listed syntax tree, compiled to closures.

There is no bytecode, no global namespace and no name of a guard that a text
could shadow: every node becomes a Python function of ours that works on the
evaluation's `Operations`.  Nodes that are not in the table do not compile.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wsgi_zasync.errors import ExpressionError, ResourceLimit, Unauthorized
from wsgi_zasync.expressions import arithmetic, comparing
from wsgi_zasync.expressions.comprehensions import Comprehensions
from wsgi_zasync.expressions.formatting import check_spec, formatted
from wsgi_zasync.expressions.functions import BUILTINS, make_dict, make_set
from wsgi_zasync.expressions.messages import blame
from wsgi_zasync.expressions.operations import Operations
from wsgi_zasync.expressions.values import PLAIN

if TYPE_CHECKING:
    from wsgi_zasync.expressions.engine import Compilation

#: What a compiled expression is.
Closure = Callable[[Operations], Any]

#: What an operation raises; everything else would be a mistake of ours.
FAILURES = (ExpressionError, Unauthorized)

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

#: Names of the machinery: attributes of frames, code, generators, functions.
MACHINERY_NAMES = frozenset(
    name
    for kind in (
        types.FrameType, types.CodeType, types.TracebackType, types.GeneratorType,
        types.CoroutineType, types.AsyncGeneratorType,
    )
    for name in dir(kind)
    if re.match(r"(f|co|tb|gi|cr|ag)_", name)
) | {
    "func_globals", "func_code", "func_closure", "func_defaults", "func_dict", "func_doc",
    "func_name", "im_class", "im_func", "im_self", "gi_yieldfrom", "gi_suspended", "ag_suspended",
    "cr_suspended", "mro", "f_generator",
}  # fmt: skip

#: Functions of Python that look inside or run code: not even a name of yours.
REFUSED_NAMES = frozenset(
    {
        "breakpoint", "classmethod", "compile", "delattr", "dir", "eval", "exec", "execfile",
        "exit", "getattr", "globals", "hasattr", "locals", "memoryview", "object", "open",
        "quit", "setattr", "staticmethod", "super", "vars",
    }
)  # fmt: skip

_SPECIAL = ("path", "string", "exists", "nocall")

_PREFIX_RUN = re.compile(r"(?:(?:[-+~]|not\b|lambda\b[^:]*:|await\b)\s*){25}")


class PythonCompiler(Comprehensions):
    """Turns one text into one closure."""

    def __init__(self, text: str, source: str, offset: int, engine: Compilation) -> None:
        self.text = text
        self.engine = engine
        self._source = source
        self._offset = offset
        self._ascii = source.isascii()
        self._inside: tuple[int, int] | None = None
        self.scopes: list[dict[str, int]] = []

    def compile(self) -> Closure:
        """The closure for the whole text.

        Raises:
            ExpressionError: it is not in the language, or too long or too deep.
        """
        self._check_source()
        try:
            tree = ast.parse(self._source, "<expression>", "eval")
        except SyntaxError as failure:
            column = (failure.offset or 1) - 1 if failure.lineno in (None, 0, 1) else 0
            raise self.engine.error(failure.msg, self._offset + column) from None
        except (ValueError, MemoryError, RecursionError, OverflowError):
            raise self.engine.error("this is no expression", self._offset) from None
        self._check_tree(tree)
        return self.expression(tree.body)

    def _check_source(self) -> None:
        """Stop what would be too much for Python's own parser."""
        limit = self.engine.limits.nesting
        depth = 0
        for found in re.finditer(r"[()\[\]{}]", self._source):
            depth += 1 if found[0] in "([{" else -1
            if depth > limit:
                raise self._too_deep(found.start())
        found_run = _PREFIX_RUN.search(self._source)
        if found_run:
            raise self._too_deep(found_run.start())
        if len(re.findall(r"\b(?:else|lambda|not|if)\b|\*\*", self._source)) > 4 * limit:
            raise self._too_deep(0)

    def _too_deep(self, offset: int) -> ExpressionError:
        limit = self.engine.limits.nesting
        return self.engine.error(
            f"nested deeper than {limit}", self._offset + offset, ResourceLimit
        )

    def _check_tree(self, tree: ast.Expression) -> None:
        """Count nodes and depth without recursion."""
        limits = self.engine.limits
        level: list[ast.AST] = [tree]
        nodes = depth = 0
        while level:
            nodes += len(level)
            depth += 1
            if nodes > limits.nodes:
                raise self.engine.error(
                    f"more than {limits.nodes} parts", self._offset, ResourceLimit
                )
            if depth > 3 * limits.nesting:
                raise self._too_deep(0)
            level = [child for node in level for child in ast.iter_child_nodes(node)]

    # -- places ------------------------------------------------------------

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Start and end of a node in the whole text."""
        if self._inside is not None:
            return self._inside
        end = node.end_col_offset or node.col_offset
        return (self._place(node.col_offset), self._place(end))

    def _place(self, column: int) -> int:
        if not self._ascii:
            column = len(self._source.encode()[:column].decode(errors="ignore"))
        return self._offset + column

    def refuse(self, node: ast.expr, reason: str, kind: Any = ExpressionError) -> ExpressionError:
        """The error for a node that does not compile."""
        error: ExpressionError = self.engine.error(reason, self.span(node)[0], kind)
        return error

    def check_name(self, node: ast.expr, name: str) -> str:
        """A name that may be used; the parser has normalised it."""
        if name.startswith("_"):
            raise self.refuse(node, f"{name!r}: names that begin with _ are closed")
        return name

    # -- nodes -------------------------------------------------------------

    def expression(self, node: ast.expr) -> Closure:
        """The closure for one node."""
        compiler = _NODES.get(type(node))
        if compiler is None:
            what = type(node).__name__
            raise self.refuse(node, f"{_SAYINGS.get(what, what)} is not part of the language")
        return compiler(self, node)

    def _constant(self, node: ast.Constant) -> Closure:
        value = node.value
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
        for scope in reversed(self.scopes):
            if name in scope:
                slot = scope[name]
                return lambda run: run.local[slot]
        if name in REFUSED_NAMES:
            raise self.refuse(node, f"{name!r} is not part of the language")
        text, (start, end) = self.text, self.span(node)
        fallback = BUILTINS.get(name)
        foreign = hasattr(builtins, name) or name in sys.stdlib_module_names

        def read(run: Operations) -> Any:
            try:
                value = run.names[name]
            except KeyError:
                if fallback is not None:
                    return fallback
            else:
                if type(value) in PLAIN:
                    return value
            try:
                return run.name(name)
            except FAILURES as failure:
                if foreign and name not in run.names:
                    failure = Unauthorized("is not open to expressions")
                raise blame(failure, text, start, end) from failure.__cause__

        return read

    def _attribute(self, node: ast.Attribute) -> Closure:
        of, name = self.expression(node.value), self._attribute_name(node)
        text, (start, end) = self.text, self.span(node)

        def read(run: Operations) -> Any:
            value = of(run)
            try:
                return run.attribute(value, name)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return read

    def _attribute_name(self, node: ast.Attribute) -> str:
        name = self.check_name(node, node.attr)
        if name in MACHINERY_NAMES:
            raise self.refuse(node, f"{name!r} is closed")
        return name

    def _subscript(self, node: ast.Subscript) -> Closure:
        of = self.expression(node.value)
        text, (start, end) = self.text, self.span(node)
        if isinstance(node.slice, ast.Slice):
            return self._slice(node.slice, of, (start, end))
        key = self.expression(node.slice)

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

    # -- calls -------------------------------------------------------------

    def _call(self, node: ast.Call) -> Closure:
        function = node.func
        if isinstance(function, ast.Name) and function.id in _SPECIAL and not any(
            function.id in scope for scope in self.scopes
        ):
            return self._special(node, function.id)
        args = [self.expression(arg) for arg in node.args]
        kwargs = [(self._keyword(node, one), self.expression(one.value)) for one in node.keywords]
        span = self.span(node)
        if isinstance(function, ast.Attribute):
            of, name = self.expression(function.value), self._attribute_name(function)
            return _method_call(of, name, args, kwargs, self.text, span)
        return _function_call(self.expression(function), args, kwargs, self.text, span)

    def _keyword(self, node: ast.Call, keyword: ast.keyword) -> str:
        if keyword.arg is None:
            raise self.refuse(node, "**arguments are not part of the language")
        return self.check_name(node, keyword.arg)

    def _special(self, node: ast.Call, kind: str) -> Closure:
        """``path('a/b')`` and the like, compiled with the text around it."""
        (argument,) = node.args if len(node.args) == 1 else (None,)
        if (
            node.keywords
            or not isinstance(argument, ast.Constant)
            or type(argument.value) is not str
        ):
            raise self.refuse(node, f"{kind}() takes one literal text")
        closure: Closure = self.engine.compile_type(kind, argument.value, self.span(node))
        return closure

    # -- displays and texts ------------------------------------------------

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

    def blamed(self, node: ast.expr, closure: Closure) -> Closure:
        """The closure, its errors naming this node."""
        text, (start, end) = self.text, self.span(node)

        def compute(run: Operations) -> Any:
            try:
                return closure(run)
            except FAILURES as failure:
                raise blame(failure, text, start, end) from failure.__cause__

        return compute

    def _joined(self, node: ast.JoinedStr) -> Closure:
        outer, self._inside = self._inside, self.span(node)
        parts = [self._joined_part(part) for part in node.values]
        text, (start, end) = self.text, self.span(node)
        self._inside = outer

        def join(run: Operations) -> str:
            found = [
                part if type(part) is str else _field(run, part, text, start, end)
                for part in parts
            ]
            run.build_text(sum(map(len, found)))
            return "".join(found)

        return join

    def _joined_part(self, node: ast.expr) -> str | tuple[Closure, str]:
        if isinstance(node, ast.Constant):
            text: str = self._constant(node)(None)  # type: ignore[arg-type]
            return text
        assert isinstance(node, ast.FormattedValue)
        if node.conversion not in (-1, ord("s")):
            raise self.refuse(node, "!r and !a are not part of the language")
        return (self.expression(node.value), self._spec(node))

    def _spec(self, node: ast.FormattedValue) -> str:
        if node.format_spec is None:
            return ""
        assert isinstance(node.format_spec, ast.JoinedStr)
        parts = node.format_spec.values
        if not all(isinstance(part, ast.Constant) for part in parts):
            raise self.refuse(node, "a format that is computed is not part of the language")
        spec = "".join(part.value for part in parts)  # type: ignore[attr-defined]
        try:
            check_spec(spec, self.engine.limits.width)
        except ExpressionError as failure:
            raise self.refuse(node, failure.args[0], type(failure)) from None
        return spec


def _field(run: Operations, part: tuple[Closure, str], text: str, start: int, end: int) -> str:
    value = part[0](run)
    try:
        return formatted(run, value, part[1])
    except FAILURES as failure:
        raise blame(failure, text, start, end) from failure.__cause__


def _nothing(run: Operations) -> None:
    return None


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


_NODES: dict[type, Callable[[PythonCompiler, Any], Closure]] = {
    ast.Attribute: PythonCompiler._attribute, ast.BinOp: PythonCompiler._binary,
    ast.BoolOp: PythonCompiler._boolean, ast.Call: PythonCompiler._call,
    ast.Compare: PythonCompiler._compare, ast.Constant: PythonCompiler._constant,
    ast.Dict: PythonCompiler._dict, ast.DictComp: PythonCompiler.dict_comprehension,
    ast.GeneratorExp: PythonCompiler.list_comprehension, ast.IfExp: PythonCompiler._conditional,
    ast.JoinedStr: PythonCompiler._joined, ast.List: PythonCompiler._list,
    ast.ListComp: PythonCompiler.list_comprehension, ast.Name: PythonCompiler._name,
    ast.Set: PythonCompiler._set, ast.SetComp: PythonCompiler.set_comprehension,
    ast.Subscript: PythonCompiler._subscript, ast.Tuple: PythonCompiler._tuple,
    ast.UnaryOp: PythonCompiler._unary,
}  # fmt: skip

_SAYINGS = {
    "Await": "await", "Lambda": "lambda", "NamedExpr": ":=", "Slice": "a slice here",
    "Starred": "*", "Yield": "yield", "YieldFrom": "yield",
}  # fmt: skip
