# SPDX-License-Identifier: ZPL-2.1
"""All that any expression may do to any value: one object per evaluation.

Reading names, attributes, items and slices, calling, looping and asking for
truth.  Computing, comparing and formatting have modules of their own; all of
them work on this object's budget and pass its guard.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from wsgi_zasync.clock import Clock
from wsgi_zasync.errors import ExpressionError, Unauthorized, UndefinedName
from wsgi_zasync.exposure import ExposedCallable, Rule, function_rule, is_proxy, unproxied
from wsgi_zasync.expressions import comparing
from wsgi_zasync.expressions.containers import (
    DICT_METHODS,
    LIST_METHODS,
    SEQUENCE_METHODS,
    SET_METHODS,
)
from wsgi_zasync.expressions.guard import Guard, length
from wsgi_zasync.expressions.limits import SYSTEM_CLOCK, Limits
from wsgi_zasync.expressions.messages import did_you_mean
from wsgi_zasync.expressions.moments import (
    DATE_METHODS,
    DATETIME_METHODS,
    DECIMAL_METHODS,
    DURATION_METHODS,
    FLOAT_METHODS,
    INT_METHODS,
    TIME_METHODS,
    VALUES,
)
from wsgi_zasync.expressions.texts import BYTES_METHODS, STR_METHODS
from wsgi_zasync.expressions.values import (
    CONTAINERS,
    DEFAULT,
    FUNCTIONS,
    INTEGERS,
    METHODS,
    PLAIN,
    SCALARS,
    SEQUENCES,
    TEXTS,
    Bound,
    Builtin,
    NoneType,
    kind_name,
)

#: The methods of data, by exact type: the fixed list of what is safe.
DATA_METHODS: dict[type, dict[str, Callable[..., Any]]] = {
    NoneType: {},
    bool: INT_METHODS,
    int: INT_METHODS,
    float: FLOAT_METHODS,
    Decimal: DECIMAL_METHODS,
    str: STR_METHODS,
    bytes: BYTES_METHODS,
    list: LIST_METHODS,
    tuple: SEQUENCE_METHODS,
    range: SEQUENCE_METHODS,
    dict: DICT_METHODS,
    set: SET_METHODS,
    frozenset: SET_METHODS,
    datetime.date: DATE_METHODS,
    datetime.datetime: DATETIME_METHODS,
    datetime.time: TIME_METHODS,
    datetime.timedelta: DURATION_METHODS,
    uuid.UUID: {},
}

#: Names that every expression has, unless they are bound otherwise.
BASE_NAMES: dict[str, Any] = {"nothing": None, "default": DEFAULT}

_MISSING = object()


class Operations(Guard):
    """One evaluation: the names, what is left of the budget, whose rights count."""

    __slots__ = ("local", "names")

    def __init__(
        self,
        names: Mapping[str, Any],
        principal: Any,
        policy: Any,
        author: Any,
        limits: Limits,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(principal, policy, author, limits, clock)
        self.names = names if type(names) is dict else dict(names)
        #: The loop variables of comprehensions, by the number that the compiler gave.
        self.local: dict[int, Any] = {}

    # -- names -------------------------------------------------------------

    def name(self, name: str) -> Any:
        """The value of a bound name.

        Raises:
            UndefinedName: nothing is bound to it.
        """
        value = self.names.get(name, _MISSING)
        if value is _MISSING:
            if name in BASE_NAMES:
                return BASE_NAMES[name]
            known = [known for known in (*self.names, *BASE_NAMES) if type(known) is str]
            raise UndefinedName(f"no such name{did_you_mean(name, known)}")
        return value if type(value) in PLAIN else self.admit(value)

    # -- attributes --------------------------------------------------------

    def attribute(self, value: Any, name: str) -> Any:
        """``value.name``, if it is open to this evaluation.

        Raises:
            UndefinedName: data has no such name, or an open one has no value.
            Unauthorized: the name is not open, for anybody or for this owner.
        """
        methods = DATA_METHODS.get(type(value))
        if methods is None:
            return self._exposed_attribute(value, name)
        function = methods.get(name)
        if function is not None:
            return Bound(value, name, function)
        if name in VALUES.get(type(value), ()):
            return getattr(value, name)
        raise self._no_data_name(value, name, methods)

    def _no_data_name(self, value: Any, name: str, methods: Iterable[str]) -> Exception:
        kind = type(value)
        if hasattr(kind, name):
            return Unauthorized(f"{name!r} of {kind_name(value)} is not open to expressions")
        known = [*methods, *VALUES.get(kind, ())]
        if kind is dict:
            known += [key for key in value if type(key) is str]
        return UndefinedName(f"no such name{did_you_mean(name, known)}")

    def _exposed_attribute(self, value: Any, name: str) -> Any:
        rule = None
        if type(value) not in (Builtin, Bound) and not name.startswith("_"):
            rule = self.rule_for(value, name)
        if rule is None:
            hint = did_you_mean(name, self.names_of(value))
            raise Unauthorized(f"no such name is open{hint}")
        self.check(rule, value)
        return self._read(value, name, rule)

    def _read(self, value: Any, name: str, rule: Rule) -> Any:
        began = self.time()
        try:
            found = getattr(value, name)
        except AttributeError as failure:
            if hasattr(type(value), name):
                raise self.refused(failure, False) from failure
            raise UndefinedName("has no value") from None
        except Exception as failure:  # noqa: BLE001 - a property may raise anything
            raise self.refused(failure, False) from failure
        finally:
            self.elapsed(began)
        if type(found) in PLAIN:
            return found
        inner = unproxied(found) if is_proxy(found) else found
        if type(inner) in METHODS:
            return Bound(value, name, found, rule)
        return self.admit(found)

    # -- items -------------------------------------------------------------

    def item(self, value: Any, key: Any) -> Any:
        """``value[key]``.

        Raises:
            UndefinedName: there is no such item.
            Unauthorized: the object does not open its items.
        """
        kind = type(value)
        if kind is dict:
            comparing.check_look_up(self, value, key)
            found = value.get(key, _MISSING)
            if found is _MISSING:
                known = [known for known in value if type(known) is str]
                raise UndefinedName(f"no such item{did_you_mean(key, known)}")
        elif kind in SEQUENCES or kind in TEXTS or kind is range:
            if type(key) not in INTEGERS:
                raise ExpressionError(f"{kind_name(value)} has numbered items")
            try:
                found = value[key]
            except IndexError:
                raise UndefinedName("no such item") from None
        else:
            return self._operation(value, "__getitem__", key)
        return found if type(found) in PLAIN else self.admit(found)

    def slice(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        """``value[start:stop:step]`` of texts, lists, tuples and ranges."""
        kind = type(value)
        if kind not in SEQUENCES and kind not in TEXTS and kind is not range:
            raise ExpressionError(f"{kind_name(value)} has no slices")
        for bound in (start, stop, step):
            if bound is not None and type(bound) not in INTEGERS:
                raise ExpressionError("the bounds of a slice are integers")
        if step == 0 and step is not None:
            raise ExpressionError("the step of a slice is 0")
        part = slice(start, stop, step)
        count = len(range(*part.indices(length(value))))
        if kind in TEXTS:
            self.build_text(count)
        elif kind is not range:
            self.build_items(count)
        return value[part]

    def _operation(self, value: Any, name: str, *args: Any) -> Any:
        """One of the operations that can be declared, on an exposed object."""
        rule = None
        if type(value) not in SCALARS and not isinstance(value, (Builtin, Bound)):
            rule = self._operation_rule(value, name)
        if rule is None:
            raise Unauthorized(f"{kind_name(value)} does not open {_OPERATIONS[name]}")
        self.check(rule, value)
        sent = [self.leave(arg) for arg in args]
        began = self.time()
        try:
            found = _OPERATORS[name](value, *sent)
        except LookupError:
            raise UndefinedName("no such item") from None
        except Exception as failure:  # noqa: BLE001 - exposed code may raise anything
            raise self.refused(failure, False) from failure
        finally:
            self.elapsed(began)
        return found if name == "__iter__" else self.admit(found)

    def _operation_rule(self, value: Any, name: str) -> Rule | None:
        if type(value) in FUNCTIONS or type(value) is ExposedCallable or value is DEFAULT:
            return None
        return self.rule_for(value, name)

    # -- paths -------------------------------------------------------------

    def traverse(self, value: Any, name: str) -> Any:
        """One step of a path: of data an item, else a method; else an open name or item."""
        kind = type(value)
        if kind is dict:
            found = value.get(name, _MISSING)
            if found is not _MISSING:
                return found if type(found) in PLAIN else self.admit(found)
            return self.attribute(value, name)
        if kind in SEQUENCES or kind is range:
            if name.lstrip("-").isdecimal() and len(name) <= 10:
                return self.item(value, int(name))
            return self.attribute(value, name)
        if kind in DATA_METHODS:
            return self.attribute(value, name)
        if type(value) in (Builtin, Bound):
            raise Unauthorized("no such name is open")
        if name.isidentifier() and self.rule_for(value, name) is not None:
            return self._exposed_attribute(value, name)
        if self._operation_rule(value, "__getitem__") is not None:
            return self._operation(value, "__getitem__", name)
        raise Unauthorized(f"no such name is open{did_you_mean(name, self.names_of(value))}")

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
            self.check(function.rule, function.call)
            return self.invoke(function.call, args, kwargs, function.rule.timeout, ours=True)
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
        return self.call(self.attribute(value, name), args, kwargs)

    def _call_bound(
        self, method: Bound, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
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
            Unauthorized: the object does not open its iteration.
        """
        kind = type(value)
        if kind in CONTAINERS or kind in TEXTS or kind is range:
            return value  # type: ignore[no-any-return]
        if kind in SCALARS:
            raise ExpressionError(f"{kind_name(value)} has no items to go over")
        return self.read_to_end(self._operation(value, "__iter__"))

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
        found = self._operation(value, "__len__")
        return int(found)

    def truth(self, value: Any) -> bool:
        """Whether a value counts as true; objects do, unless their open length is 0."""
        kind = type(value)
        if kind in PLAIN or kind in SCALARS:
            return bool(value)
        if kind is Builtin or kind is Bound or self._operation_rule(value, "__len__") is None:
            return True
        return self.length(value) > 0

    def contains(self, item: Any, container: Any) -> bool:
        """``item in container``."""
        kind = type(container)
        if kind in CONTAINERS or kind in TEXTS or kind is range:
            return comparing.contains(self, container, item)
        if kind in SCALARS:
            raise ExpressionError(f"{kind_name(container)} contains nothing")
        return bool(self._operation(container, "__contains__", item))

    def lacks(self, item: Any, container: Any) -> bool:
        """``item not in container``."""
        return not self.contains(item, container)


_OPERATIONS = {
    "__getitem__": "its items",
    "__len__": "its length",
    "__iter__": "its iteration",
    "__contains__": "what it contains",
}

_OPERATORS: dict[str, Callable[..., Any]] = {
    "__getitem__": lambda value, key: value[key],
    "__len__": len,
    "__iter__": iter,
    "__contains__": lambda value, item: item in value,
}
