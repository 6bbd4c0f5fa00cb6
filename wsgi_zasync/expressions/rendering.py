# SPDX-License-Identifier: ZPL-2.1
"""Chameleon templates in which every expression is one of ours.

Templates are registered by the deployer, when the process starts, and
rendered inside an evaluation: with its names, its guard and its budget. What
reaches Chameleon is text, numbers, or a `Held` value that answers nothing but
through the guard.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from chameleon import exc as chameleon_errors
from chameleon.astutil import Symbol
from chameleon.codegen import template as generate
from chameleon.loader import MemoryLoader
from chameleon.nodes import (
    Boolean,
    CodeBlock,
    Content,
    OnError,
    Replace,
    Substitution,
    UseExternalMacro,
)
from chameleon.tales import DEFAULT_MARKER
from chameleon.utils import Scope
from chameleon.zpt.template import PageTemplate

from ..errors import (
    ConfigurationError,
    ExpressionError,
    ResourceLimit,
    Unauthorized,
    ZasyncError,
)
from .cache import TextCache
from .comparing import equal
from .engine import TYPES, compile_text
from .formatting import text_of
from .limits import DEFAULT_LIMITS
from .operations import Operations
from .repeats import Repeats
from .templates import TEMPLATES
from .values import DEFAULT, NoneType

#: Where a template keeps the evaluation; no ``tal:define`` can set such a name.
_RUN = "__zasync_run"

#: So many templates may be rendered inside one another.
MOST_NESTED = 8

#: What Chameleon may hold itself.
_BARE = frozenset({str, int, float, bool, NoneType})

#: What ``i18n:name`` leaves in a text for its part.
_NAMED = re.compile(r"\$\{(\w+)\}")

#: What is escaped, and by how much longer it becomes.
_ESCAPED = (("&", 4), ("<", 3), (">", 3), ('"', 5), ("'", 4))

_PARTS: TextCache[Callable[[Operations], Any]] = TextCache(262_144)


class Held:
    """A value inside a template, which Chameleon can only use through the guard."""

    __slots__ = ("_run", "_value")

    def __init__(self, run: Operations, value: Any) -> None:
        self._run = run
        self._value = value

    def __iter__(self) -> Iterator[Any]:
        for item in self._run.listed(self._value):
            self._run.spend(10)
            yield _hold(self._run, item)

    def __len__(self) -> int:
        return self._run.length(self._value)

    def __bool__(self) -> bool:
        return self._run.truth(self._value)

    def __str__(self) -> str:
        return text_of(self._run, self._value)

    def __eq__(self, other: object) -> bool:
        return equal(self._run, self._value, Held.release(other))

    # No key of anything: its hash would be somebody's.
    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def release(value: Any) -> Any:
        """The value as expressions know it."""
        return value._value if type(value) is Held else value


def _hold(run: Operations, value: Any) -> Any:
    if type(value) in _BARE:
        return value
    return DEFAULT_MARKER if value is DEFAULT else Held(run, value)


class TemplateNames:
    """The names inside a template: its own variables, then the expression's."""

    def __init__(self, scope: Any, outer: Any) -> None:
        self._scope = scope
        self._outer = outer

    def get(self, name: str, missing: Any) -> Any:
        """The value of a name."""
        if name == "repeat":
            return self._scope["repeat"].positions()
        value = self._scope.get(name, DEFAULT_MARKER)
        if value is DEFAULT_MARKER or name == "target_language":
            return self._outer.get(name, missing)
        return Held.release(value)

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._scope if not name.startswith("__"))
        yield from self._outer


def evaluate_part(scope: Any, text: str) -> Any:
    """Evaluate one expression of a template; the generated code calls this."""
    run: Operations = scope[_RUN]
    compiled = _PARTS.get(text, None, lambda: compile_text(text, DEFAULT_LIMITS))
    run.spend(10)
    outer = run.names
    run.names = TemplateNames(scope, getattr(outer, "_outer", outer))  # type: ignore[assignment]
    try:
        value = _hold(run, compiled(run))
    finally:
        run.names = outer
    if type(value) is str:
        # Chameleon escapes it, and puts an attribute or what is translated together before
        # that comes to the output.
        run.build(len(value) + sum(more * value.count(mark) for mark, more in _ESCAPED))
    return value


class _Part:
    """One of our expression types, in the shape that Chameleon asks for."""

    def __init__(self, prefix: str, expression: str) -> None:
        self._text = f"{prefix}:{expression}"
        self._token: Any = expression

    def __call__(self, target: Any, engine: Any) -> Any:
        """The syntax tree that assigns the value to the target."""
        try:
            if not _is_balanced(self._text):
                raise ExpressionError("unbalanced braces")
            compile_text(self._text, DEFAULT_LIMITS)
        except ExpressionError as failure:
            # The kind of error that makes Chameleon try a shorter part.
            raise chameleon_errors.ExpressionError(
                str(failure).splitlines()[0], self._token
            ) from None
        return generate(
            "target = evaluate(econtext, text)",
            target=target,
            evaluate=Symbol(evaluate_part),
            text=ast.Constant(self._text),
        )


def _is_balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall(r"[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0


class _Output(list[str]):
    """What a template wrote, within the evaluation's budget."""

    def __init__(self, run: Operations) -> None:
        super().__init__()
        self._run = run
        self._length = 0

    def append(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._run.limits.text:
            raise ResourceLimit(f"a text of more than {self._run.limits.text} characters")
        self._run.build(len(text))
        super().append(text)


class GuardedTemplate(PageTemplate):
    """A Chameleon template that knows only our expressions."""

    expression_types: Any = {name: partial(_Part, name) for name in TYPES}  # noqa: RUF012
    default_expression = "path"
    enable_comment_interpolation = False
    # Never a cache on a disk, whatever the environment says.
    loader = MemoryLoader()
    debug = False

    def parse(self, body: str) -> Any:
        """The program of a template, refused if it contains what is not offered."""
        program = super().parse(body)
        _check_node(list(program.macros), structure=self.mode == "text")
        return program

    def digest(self, body: str, names: Any) -> str:
        """A name for the generated code."""
        text = "\n".join([type(self).__name__, self.mode, str(self.filename), *names, body])
        return hashlib.sha256(text.encode("utf-8", "ignore")).hexdigest()[:32]

    def render_in(self, run: Operations) -> str:
        """The text, rendered with the names and within the budget of an evaluation."""
        names = {
            _RUN: run,
            "__translate": partial(_untranslated, run),
            "__decode": bytes.decode,
            "__on_error_handler": None,
            "repeat": Repeats(),
            "target_language": None,
        }
        if run.rendering >= MOST_NESTED:
            raise ResourceLimit(f"more than {MOST_NESTED} templates inside one another")
        output = _Output(run)
        places: dict[str, Any] = {}
        run.rendering += 1
        try:
            self._render(output, Scope(names), places, target_language=None)
        except (ExpressionError, Unauthorized) as failure:
            raise self._placed(failure, places) from failure.__cause__
        except Exception as failure:
            error = ExpressionError(f"cannot be rendered ({type(failure).__name__})")
            raise self._placed(error, places) from failure
        finally:
            run.rendering -= 1
        return "".join(output)

    def _placed(self, failure: ZasyncError, places: dict[str, Any]) -> ZasyncError:
        """The error with the innermost template's name and line in front of its text."""
        if getattr(failure, "template", None):
            return failure
        failure.template = self.filename  # type: ignore[attr-defined]
        found = places.get("__error__")
        line, column = (found[0][1], found[0][2] + 1) if found else (None, None)
        where = f"template:{self.filename}" + (f", line {line}" if line else "")
        failure.args = (f"{where}: {failure.args[0] if failure.args else ''}",)
        failure.line, failure.column = line, column  # type: ignore[attr-defined]
        return failure


def _untranslated(
    run: Operations,
    msgid: Any,
    default: Any = None,
    mapping: dict[str, str] | None = None,
    **_: Any,
) -> str:
    """The text itself: templates of callbacks are in one language."""
    text = str(msgid if default is None else default)
    known = mapping or {}
    # A value may name the others, too, as often as it is long.
    named = (known.get(found[1], "") for found in _NAMED.finditer(text))
    run.build_text(len(text) + sum(map(len, named)))
    return _NAMED.sub(lambda found: known.get(found[1], found[0]), text)


def _check_node(node: Any, structure: bool) -> None:
    """Refuse what runs code, leaves the registered text, or hides errors."""
    if isinstance(node, (list, tuple)):
        for one in node:
            _check_node(one, structure)
        return
    if isinstance(node, CodeBlock):
        raise ConfigurationError("<?python ?> is not offered")
    if isinstance(node, UseExternalMacro):
        raise ConfigurationError("metal:use-macro is not offered")
    if isinstance(node, OnError):
        raise ConfigurationError("tal:on-error is not offered")
    escaped = structure or getattr(node, "char_escape", True)
    if isinstance(node, Content) and not escaped:
        raise ConfigurationError("structure is not offered")
    if isinstance(node, Substitution) and not escaped:
        # Browsers know no CDATA in HTML: what a value holds there would be markup.
        raise ConfigurationError("an expression within <![CDATA[ ]]> is not offered")
    if getattr(node, "quote", None) == "" and not _stands_bare(node):
        # Chameleon would write what no browser reads.
        raise ConfigurationError(f"{node.name} is computed, and has no quotes in the template")
    for field in getattr(node, "_fields", ()):
        _check_node(getattr(node, field, None), structure)


def _stands_bare(attribute: Any) -> bool:
    """Whether an attribute is right without quotes: one text always, or its own name or nothing."""
    # What is translated is around its text.
    value = getattr(attribute.expression, "node", attribute.expression)
    return isinstance(value, ast.Constant) or (
        bool(attribute.eq) and isinstance(value, (Boolean, Replace))
    )


def register_template(name: str, source: str, mode: str = "html") -> None:
    """Register a template for ``template:NAME``; call it when the process starts.

    Args:
        name: What expressions call it.
        source: Its text, in TAL; expressions are ours, paths by default.
        mode: ``html`` (values are escaped) or ``text`` (no tags, no escaping).

    Raises:
        ConfigurationError: It does not compile, or contains what is not
            offered: Python code, ``structure``, macros of others,
            ``tal:on-error``.
    """
    modes = {"html": "xml", "text": "text"}
    if mode not in modes:
        raise ConfigurationError(f"template {name}: mode is html or text, not {mode[:40]!r}")
    try:
        options: Any = {"filename": name, "mode": modes[mode]}
        compiled = GuardedTemplate(source, **options)
    except ConfigurationError as failure:
        raise ConfigurationError(f"template {name}: {failure}") from None
    except chameleon_errors.TemplateError as failure:
        line, column = failure.token.location if hasattr(failure, "token") else (None, None)
        raise ConfigurationError(
            f"template {name}: {failure.args[0]}, line {line}, column {column}"
        ) from None
    except LookupError as failure:
        raise ConfigurationError(f"template {name}: {failure.args[0]}") from None
    except Exception as failure:
        # Chameleon trips over some texts that are no markup.
        raise ConfigurationError(
            f"template {name}: cannot be read ({type(failure).__name__})"
        ) from failure
    TEMPLATES.add(name, compiled.render_in)
