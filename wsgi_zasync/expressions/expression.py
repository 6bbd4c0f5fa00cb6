# SPDX-License-Identifier: ZPL-2.1
"""A compiled callback expression, and evaluating it for somebody.

Compiled expressions are immutable and shared by threads. Evaluating happens
in the caller's thread and transaction, for the principal that is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..clock import Clock
from ..errors import ExpressionError, ResourceLimit, Unauthorized
from ..ports import SecurityPolicy
from .cache import TextCache
from .engine import compile_text
from .limits import DEFAULT_LIMITS, SYSTEM_CLOCK, Limits
from .messages import complete
from .operations import Operations

#: Characters of the texts whose compiled forms are kept.
CACHED_CHARACTERS = 262_144


class Expression:
    """A text that compiled; ``text`` is that text."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str, compiled: Callable[[Operations], Any]) -> None:
        self.text = text
        self._compiled = compiled

    def __repr__(self) -> str:
        return f"<Expression {self.text!r}>"

    def evaluate(
        self,
        names: Mapping[str, Any],
        *,
        principal: Any = None,
        policy: SecurityPolicy | None = None,
        author: Any = None,
        limits: Limits = DEFAULT_LIMITS,
        clock: Clock = SYSTEM_CLOCK,
        give_way: Callable[[], None] | None = None,
    ) -> Any:
        """The value: plain data (a copy) or an exposed object.

        Args:
            names: What is bound, by name.
            principal: With whose rights it is evaluated; the policy is asked about
                ``None``, too.
            policy: What says which rights those are, asked each time; ``None``
                gives nobody any.
            author: Who wrote the text, if not the application: every
                permission is then needed by both.
            limits: What it may use.
            clock: What tells the time.
            give_way: Called now and then by a long evaluation, to let other
                threads go first; its time is not counted.

        Raises:
            UndefinedName: Something it asks for is not there.
            ResourceLimit: It used up what it may use.
            ExpressionError: Anything else that went wrong.
            Unauthorized: It asked for what is not open, or not allowed.
        """
        try:
            run = Operations(names, principal, policy, author, limits, clock, give_way)
            return run.leave(self._compiled(run))
        except (ExpressionError, Unauthorized) as failure:
            complete(failure)
            raise
        except (RecursionError, MemoryError):
            raise ResourceLimit("the expression needs too much memory") from None
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            # Exposed code may raise what is meant to end threads or coroutines, too.
            raise ExpressionError(f"cannot be evaluated ({type(failure).__name__})") from failure


_CACHE: TextCache[Expression] = TextCache(CACHED_CHARACTERS)


def compile_expression(text: str, limits: Limits = DEFAULT_LIMITS) -> Expression:
    """Compile a text; the same text again costs no compilation.

    Raises:
        ExpressionError: It does not compile; ``.line`` and ``.column`` say
            where, and the message shows it.
        ResourceLimit: It is longer or deeper than the limits allow.
    """
    if type(text) is not str:
        return Expression("", compile_text(text, limits))
    key = None if limits is DEFAULT_LIMITS else limits
    return _CACHE.get(text, key, lambda: Expression(text, compile_text(text, limits)))


def check_expressions(table: Mapping[str, str]) -> dict[str, ExpressionError]:
    """Compile every text of a table, and return the errors by their keys.

    A template that a text names is an error as well unless it is registered
    in this process: check when all are. An empty dict means that all of them
    compile. What the names in them are bound to is not known, nor checked.
    """
    found = {}
    for key, text in table.items():
        try:
            compile_text(text, DEFAULT_LIMITS, asks_for_templates=True)
        except ExpressionError as failure:
            found[key] = failure
    return found
