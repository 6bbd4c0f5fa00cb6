# SPDX-License-Identifier: ZPL-2.1
"""What a ``python:`` text may look like, before any of it is compiled.

Bounds come before Python's own parser sees the text, which crashes on some.
"""

from __future__ import annotations

import ast
import re
import types
from typing import TYPE_CHECKING, Any

from ..errors import ResourceLimit

if TYPE_CHECKING:
    from .engine import Compilation

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

#: Texts shorter than this cannot nest without brackets deeper than the parser likes.
SHORT = 60

_BRACKETS = re.compile(r"[()\[\]{}]")

#: Many prefixes in a row, each of which would be one more level for the parser.
_PREFIX_RUN = re.compile(r"(?:(?:[-+~]|not\b|lambda\b[^:]*:|await\b)\s*){25}")

#: Words and operators that nest to the right.
_RIGHTWARD = re.compile(r"\b(?:else|lambda|not|if)\b|\*\*")


def parse(source: str, offset: int, engine: Compilation) -> ast.expr:
    """The syntax tree of one expression; the compiler counts its parts and depth.

    Args:
        source: The text of the expression, in one line.
        offset: Where it begins in the whole text.
        engine: Whose limits hold, and who makes the errors.

    Raises:
        ExpressionError: It is no expression.
        ResourceLimit: It is too deep for the parser.
    """
    _check_source(source, offset, engine)
    try:
        tree = ast.parse(source, "<expression>", "eval")
    except SyntaxError as failure:
        # At the end of the text Python says 0.
        column = (failure.offset or len(source) + 1) - 1
        place = _start_of_field(failure, source) + column
        raise engine.error(failure.msg, offset + place) from None
    except (MemoryError, RecursionError, ValueError):
        raise too_deep(engine, offset) from None
    return tree.body


def _start_of_field(failure: SyntaxError, source: str) -> int:
    """Where that part of the source begins in which Python tells the place of an error.

    Python 3.11 tells it in a field of an f-string alone, as ``(field)``.
    """
    told = (failure.text or "").removesuffix("\n")
    return 0 if told == source else max(0, source.find("{" + told[1:-1]))


def _check_source(source: str, offset: int, engine: Compilation) -> None:
    limit = engine.limits.nesting
    if source.count("(") + source.count("[") + source.count("{") > limit:
        depth = 0
        for found in _BRACKETS.finditer(source):
            depth += 1 if found[0] in "([{" else -1
            if depth > limit:
                raise too_deep(engine, offset + found.start())
    if len(source) < SHORT:
        return
    found_run = _PREFIX_RUN.search(source)
    if found_run:
        raise too_deep(engine, offset + found_run.start())
    if len(_RIGHTWARD.findall(source)) > 4 * limit:
        raise too_deep(engine, offset)


def too_deep(engine: Compilation, offset: int) -> Any:
    """The error for what nests deeper than the limit."""
    return engine.error(f"nested deeper than {engine.limits.nesting}", offset, ResourceLimit)
