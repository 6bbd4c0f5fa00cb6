# SPDX-License-Identifier: ZPL-2.1
"""All that any expression may do to any value: one object per evaluation.

Names, calls, loops and truth are here, on top of the members of values.
Computing, comparing and formatting have modules of their own; all of them
work on this object's budget and pass its guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..clock import Clock
from ..errors import ExpressionError, Unauthorized, UndefinedName
from ..exposure import ExposedCallable, function_rule
from . import comparing
from .guard import length
from .limits import SYSTEM_CLOCK, Limits
from .members import DATA_METHODS, MISSING, Members
from .messages import suggest
from .values import (
    CONTAINERS,
    DEFAULT,
    FUNCTIONS,
    PLAIN,
    SCALARS,
    TEXTS,
    Bound,
    Builtin,
    kind_name,
)

#: Names that every expression has, unless they are bound otherwise.
BASE_NAMES: dict[str, Any] = {"nothing": None, "default": DEFAULT}


class Operations(Members):
    """One evaluation: the names, what is left of the budget, whose rights count."""

    __slots__ = ("local", "names", "rendering")

    def __init__(
        self,
        names: Mapping[str, Any],
        principal: Any,
        policy: Any,
        author: Any,
        limits: Limits,
        clock: Clock = SYSTEM_CLOCK,
        give_way: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(principal, policy, author, limits, clock, give_way)
        self.names = names if type(names) is dict else dict(names)
        #: How many templates are being rendered, inside one another.
        self.rendering = 0
        #: The loop variables of comprehensions, by the number that the compiler gave.
        self.local: dict[int, Any] = {}

    # -- names -------------------------------------------------------------

    def name(self, name: str) -> Any:
        """The value of a bound name.

        Raises:
            UndefinedName: Nothing is bound to it.
        """
        value = self.names.get(name, MISSING)
        if value is MISSING:
            if name in BASE_NAMES:
                return BASE_NAMES[name]
            raise suggest(UndefinedName("no such name"), name, self.names, BASE_NAMES)
        return value if type(value) in PLAIN else self.admit(value)

    # -- calls -------------------------------------------------------------

    def call(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """``function(*args, **kwargs)``, if it is open to this evaluation."""
        self.spend(10)
        kind = type(function)
        if kind is Builtin:
            return self._call_ours(function.function, (self, *args), kwargs)
        if kind is Bound:
            return self._call_bound(function, args, kwargs)
        if kind in FUNCTIONS:
            rule = function_rule(function)
            if rule is not None:
                self.check(rule, function)
                return self.invoke(function, args, kwargs, rule.timeout)
        elif kind is ExposedCallable:
            rule = function.rule
            self.check(rule, function.call)
            return self.invoke(function.call, args, kwargs, rule.timeout, ours=function.is_ours)
        elif kind in SCALARS or kind in CONTAINERS:
            raise ExpressionError(f"{kind_name(function)} cannot be called")
        raise Unauthorized(f"{kind_name(function)} is not open to calls")

    def call_method(
        self, value: Any, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """``value.name(*args, **kwargs)``: what `attribute` and `call` do, in one."""
        methods = DATA_METHODS.get(type(value))
        if methods is not None:
            function = methods.get(name)
            if function is not None:
                return self._call_ours(function, (self, value, *args), kwargs)
        method = self.attribute(value, name)
        if type(method) is Bound and method.rule is not None:
            # Allowed a moment ago, when it was read.
            return self.invoke(method.function, args, kwargs, method.rule.timeout)
        return self.call(method, args, kwargs)

    def _call_bound(self, method: Bound, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if method.rule is None:
            return self._call_ours(method.function, (self, method.of, *args), kwargs)
        # Read and called are two moments: the permission may have gone.
        self.check(method.rule, method.of)
        return self.invoke(method.function, args, kwargs, method.rule.timeout)

    def _call_ours(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            raise ExpressionError("called with wrong arguments") from None
        except (ArithmeticError, ValueError, LookupError) as failure:
            if isinstance(failure, ExpressionError):
                raise
            raise ExpressionError("called with a value that it cannot take") from None

    # -- loops and truth ---------------------------------------------------

    def iterate(self, value: Any) -> Iterable[Any]:
        """What a loop goes over; each item still has to be admitted.

        Raises:
            Unauthorized: The object does not open its iteration.
        """
        kind = type(value)
        if kind in CONTAINERS or kind in TEXTS or kind is range:
            return value  # type: ignore[no-any-return]
        if kind in SCALARS:
            raise ExpressionError(f"{kind_name(value)} has no items to go over")
        return self.read_to_end(self.operation(value, "__iter__"))

    def listed(self, value: Any) -> list[Any]:
        """The items of a value, charged and admitted."""
        found = self.iterate(value)
        self.build_items(length(found))
        return [item if type(item) in PLAIN else self.admit(item) for item in found]

    def length(self, value: Any) -> int:
        """``len(value)``."""
        kind = type(value)
        if kind in CONTAINERS or kind in TEXTS or kind is range:
            return length(value)
        if kind in SCALARS:
            raise ExpressionError(f"{kind_name(value)} has no length")
        found = self.operation(value, "__len__")
        return int(found)

    def truth(self, value: Any) -> bool:
        """Whether a value counts as true; objects do, unless their open length is 0."""
        kind = type(value)
        if kind in PLAIN or kind in SCALARS:
            return bool(value)
        if self.rule_for(value, "__len__") is None:
            return True
        return self.length(value) > 0

    def contains(self, item: Any, container: Any) -> bool:
        """``item in container``."""
        kind = type(container)
        if kind in CONTAINERS or kind in TEXTS or kind is range:
            return comparing.contains(self, container, item)
        if kind in SCALARS:
            raise ExpressionError(f"{kind_name(container)} contains nothing")
        return bool(self.operation(container, "__contains__", item))

    def lacks(self, item: Any, container: Any) -> bool:
        """``item not in container``."""
        return not self.contains(item, container)
