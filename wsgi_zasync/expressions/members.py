# SPDX-License-Identifier: ZPL-2.1
"""Reading names, items and slices of any value, in paths and in ``python:``.

Of data a fixed list of safe methods; of everything else what was declared,
to those who may.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from ..errors import ExpressionError, Unauthorized, UndefinedName
from ..exposure import Rule, class_rules, is_proxy, unproxied
from . import comparing
from .containers import (
    DICT_METHODS,
    LIST_METHODS,
    SEQUENCE_METHODS,
    SET_METHODS,
)
from .foreign import is_database_error, refused
from .guard import Guard, length
from .messages import suggest
from .moments import (
    DATE_METHODS,
    DATETIME_METHODS,
    DECIMAL_METHODS,
    DURATION_METHODS,
    FLOAT_METHODS,
    INT_METHODS,
    TIME_METHODS,
    VALUES,
)
from .texts import BYTES_METHODS, STR_METHODS
from .values import (
    INTEGERS,
    KIND_NAMES,
    METHODS,
    PLAIN,
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

#: Texts up to this length cost nothing to look up.
SHORT = 256

#: Not there, where ``None`` could be.
MISSING = object()


class Members(Guard):
    """The members of values, as far as they are open."""

    __slots__ = ()

    # -- attributes --------------------------------------------------------

    def attribute(self, value: Any, name: str) -> Any:
        """``value.name``, if it is open to this evaluation.

        Raises:
            UndefinedName: Data has no such name, or an open one has no value.
            Unauthorized: The name is not open, for anybody or for this owner.
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
        keys = value if kind is dict else ()
        return suggest(UndefinedName("no such name"), name, methods, VALUES.get(kind, ()), keys)

    def _exposed_attribute(self, value: Any, name: str) -> Any:
        if type(value) is Builtin and value.kind is not None:
            return _method_of(value.kind, name)
        rule = self.rule_for(value, name)
        if rule is None:
            raise self._closed(value, name)
        self.check(rule, value)
        return self._read(value, name, rule)

    def _closed(self, value: Any, name: str) -> Unauthorized:
        mine = (known for known, rule in class_rules(type(value)).items() if self.may(rule, value))
        return suggest(Unauthorized("no such name is open"), name, mine)

    def _read(self, value: Any, name: str, rule: Rule) -> Any:
        began = self.pause()
        try:
            found = getattr(unproxied(value) if is_proxy(value) else value, name)
        except AttributeError as failure:
            if hasattr(type(value), name):
                raise refused(failure) from failure
            raise UndefinedName("has no value") from None
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            raise refused(failure) from failure
        finally:
            self.resume(began)
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
            UndefinedName: There is no such item.
            Unauthorized: The object does not open its items.
        """
        kind = type(value)
        if kind is dict:
            if type(key) is not str or len(key) > SHORT:
                comparing.check_look_up(self, value, key)
            found = value.get(key, MISSING)
            if found is MISSING:
                raise suggest(UndefinedName("no such item"), key, value)
        elif kind in SEQUENCES or kind in TEXTS or kind is range:
            if type(key) not in INTEGERS:
                raise ExpressionError(f"{kind_name(value)} has numbered items")
            try:
                found = value[key]
            except IndexError:
                raise UndefinedName("no such item") from None
        else:
            return self.operation(value, "__getitem__", key)
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

    def operation(self, value: Any, name: str, *args: Any) -> Any:
        """One of the operations that can be declared, on an exposed object.

        Raises:
            UndefinedName: There is no such item.
            Unauthorized: It is not open, for anybody or for this owner.
        """
        rule = self.rule_for(value, name)
        if rule is None:
            raise Unauthorized(f"{kind_name(value)} does not open {_OPERATIONS[name]}")
        self.check(rule, value)
        sent = [self.leave(arg) for arg in args]
        began = self.pause()
        try:
            found = _OPERATORS[name](unproxied(value) if is_proxy(value) else value, *sent)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            if isinstance(failure, LookupError) and not is_database_error(failure):
                raise UndefinedName("no such item") from None
            raise refused(failure) from failure
        finally:
            self.resume(began)
        return found if name == "__iter__" else self.admit(found)

    # -- paths -------------------------------------------------------------

    def traverse(self, value: Any, name: str) -> Any:
        """One step of a path: of data an item, else a method; else an open name or item."""
        kind = type(value)
        if kind is dict:
            found = value.get(name, MISSING)
            if found is not MISSING:
                return found if type(found) in PLAIN else self.admit(found)
            return self.attribute(value, name)
        if kind in SEQUENCES or kind is range:
            if name.removeprefix("-").isdecimal() and len(name) <= 10:
                return self.item(value, int(name))
            return self.attribute(value, name)
        if kind in DATA_METHODS:
            return self.attribute(value, name)
        if name.isidentifier() and self.rule_for(value, name) is not None:
            return self._exposed_attribute(value, name)
        if self.rule_for(value, "__getitem__") is not None:
            return self.operation(value, "__getitem__", name)
        raise self._closed(value, name)


def _method_of(kind: type, name: str) -> Builtin:
    """``str.lower`` and the like: a method of data as a function, for ``key=`` and ``map``."""
    method = DATA_METHODS[kind].get(name)
    if method is None:
        raise suggest(Unauthorized("no such name is open"), name, DATA_METHODS[kind])

    def call(run: Guard, value: Any, *args: Any, **kwargs: Any) -> Any:
        if type(value) is not kind:
            raise ExpressionError(f"takes {KIND_NAMES[kind]}, not {kind_name(value)}")
        return method(run, value, *args, **kwargs)

    return Builtin(name, call)


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
