# SPDX-License-Identifier: ZPL-2.1
"""What expressions may see of objects: declarations for classes and functions.

Nothing is visible without a declaration. Declarations are made when modules
are imported, by the deployer's code; they are read by every thread that
evaluates an expression. Whether a principal has the permission that a
declaration asks for is not decided here but by the `SecurityPolicy`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from .errors import ConfigurationError

T = TypeVar("T")

#: Classes, functions and modules, of which nothing is ever shown.
_MACHINERY = (type, FunctionType, BuiltinFunctionType, ModuleType)

#: So many classes are remembered with the rules that hold for them.
MOST_RESOLVED = 4_096

#: The only names with an underscore that can be declared. They grant the
#: operation and are never reachable by name.
OPERATION_NAMES = frozenset({"__getitem__", "__len__", "__iter__", "__contains__"})


@dataclass(frozen=True, slots=True)
class Rule:
    """What one declared name asks for: ``permission``, or ``None`` for nothing.

    ``timeout`` in seconds is how long a call may take; ``None`` does not say.
    """

    permission: str | None = None
    timeout: float | None = None


#: The rule of what anybody may use who holds the object.
OPEN = Rule()


class ExposedCallable:
    """A callable that expressions may call, made for one use.

    The result of `exposed`, and of ``expose()`` of what is no bare function.
    Trusted code may call it like the original.
    """

    __slots__ = ("call", "is_ours", "name", "rule")

    def __init__(
        self, call: Callable[..., Any], rule: Rule, name: str, is_ours: bool = False
    ) -> None:
        self.call = call
        self.rule = rule
        self.name = name
        #: Whether what it raises of this package's errors was written for who calls it.
        self.is_ours = is_ours

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the original, unguarded."""
        return self.call(*args, **kwargs)


class _Declarations:
    """The registry: filled by `expose`, one for the process, thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._own: WeakKeyDictionary[type, dict[str, Rule]] = WeakKeyDictionary()
        #: A plain dict, because it is read for every object that is met.
        self._resolved: dict[type, dict[str, Rule]] = {}
        self._functions: WeakKeyDictionary[Any, Rule] = WeakKeyDictionary()

    def add_class(self, cls: type, rules: dict[str, Rule]) -> None:
        with self._lock:
            self._own[cls] = {**self._own.get(cls, {}), **rules}
            self._resolved = {}

    def add_function(self, function: Any, rule: Rule) -> None:
        with self._lock:
            self._functions[function] = rule

    def of_function(self, function: Any) -> Rule | None:
        return self._functions.get(function)

    def of_class(self, cls: type) -> dict[str, Rule]:
        resolved = self._resolved.get(cls)
        return self._resolve_now(cls) if resolved is None else resolved

    def _resolve_now(self, cls: type) -> dict[str, Rule]:
        with self._lock:
            if len(self._resolved) >= MOST_RESOLVED:
                # Classes that come and go must not stay for ever.
                self._resolved = {}
            resolved = self._resolved[cls] = self._resolve(cls)
        return resolved

    def _resolve(self, cls: type) -> dict[str, Rule]:
        """The rules that hold for instances of exactly this class.

        A declaration of a base holds only while no class before that base in
        the order of resolution defines the name anew: a subclass that
        replaces a harmless property by a telling one has not been declared.
        """
        rules: dict[str, Rule] = {}
        redefined: set[str] = set()
        for base in cls.__mro__:
            own = self._own.get(base, {})
            for name, rule in own.items():
                if name not in redefined:
                    rules.setdefault(name, rule)
            redefined.update(vars(base))
        return rules


_DECLARATIONS = _Declarations()


class _Exposer:
    """What ``expose(...)`` returns: applied to a class or a function."""

    __slots__ = ("_names", "_rules")

    def __init__(self, names: tuple[Any, ...], rules: dict[str, Any]) -> None:
        self._names = names
        self._rules = rules

    def __call__(self, target: T) -> T:
        if isinstance(target, type):
            if issubclass(target, _MACHINERY):
                raise ConfigurationError(f"{target.__name__} is never open to expressions")
            _DECLARATIONS.add_class(target, self._class_rules(target))
            return target
        if type(target) in (FunctionType, BuiltinFunctionType):
            _DECLARATIONS.add_function(target, self._function_rule())
            return target
        if callable(target):
            return ExposedCallable(target, self._function_rule(), _name_of(target))  # type: ignore[return-value]
        raise ConfigurationError("expose() is for classes and callables")

    def _class_rules(self, cls: type) -> dict[str, Rule]:
        declared = dict.fromkeys(self._names) | self._rules
        if not declared:
            raise ConfigurationError(f"expose() of class {cls.__name__} names nothing")
        rules = {}
        for name, permission in declared.items():
            _check_name(name)
            if permission is not None and (not isinstance(permission, str) or not permission):
                raise ConfigurationError(f"expose({name}=…) needs the name of a permission")
            rules[name] = Rule(permission) if permission else OPEN
        return rules

    def _function_rule(self) -> Rule:
        rules = dict(self._rules)
        permission, timeout = rules.pop("call", None), rules.pop("timeout", None)
        if self._names or rules:
            raise ConfigurationError("a function is exposed as expose(call=…, timeout=…)")
        return _function_rule(permission, timeout)


def _function_rule(permission: Any, timeout: Any) -> Rule:
    if permission is not None and (not isinstance(permission, str) or not permission):
        raise ConfigurationError("expose(call=…) needs the name of a permission")
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
        raise ConfigurationError("expose(timeout=…) is a number of seconds above 0")
    return Rule(permission, timeout)


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ConfigurationError(f"expose() takes names of attributes, not {name!r}")
    if name.startswith("_") and name not in OPERATION_NAMES:
        allowed = ", ".join(sorted(OPERATION_NAMES))
        raise ConfigurationError(f"{name} cannot be exposed: of those with _ only {allowed}")


def _name_of(function: Any) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def expose(*names: str, **rules: Any) -> _Exposer:
    """Declare what expressions may see of a class, or that they may call a function.

    ``@expose("title", publish="edit")`` on a class of yours, or
    ``expose("title", publish="edit")(TheirClass)`` on somebody else's, lets
    anybody who holds an instance read ``title``, and those call ``publish``
    who have the permission ``edit`` on that instance at that moment.
    Declared again, the declarations add up. Subclasses inherit them for the
    names that they do not define anew.

    ``@expose()`` makes a function callable, ``@expose(call="edit",
    timeout=5)`` only for those with the permission, and for at most as many
    seconds. Functions without a permission should have no effects. Other
    callables (methods, instances) come back wrapped.

    Raises:
        ConfigurationError: A name that cannot be exposed, a rule that is no
            permission, something that is neither a class nor callable.
    """
    if names and isinstance(names[0], _MACHINERY):
        # Else the class would be replaced by this decorator, and nobody told.
        raise ConfigurationError(
            'expose is written with what it declares: @expose("title") of a class, @expose() of '
            "a function"
        )
    return _Exposer(names, rules)


def exposed(
    function: Callable[..., Any],
    call: str | None = None,
    timeout: float | None = None,
    name: str | None = None,
) -> ExposedCallable:
    """The function as a value that expressions may call, registered nowhere.

    For callables that are made for one evaluation, such as closures. The
    errors of this package that they raise are shown to who calls them.

    Raises:
        ConfigurationError: The permission or the timeout is none.
    """
    return ExposedCallable(
        function, _function_rule(call, timeout), name or _name_of(function), is_ours=True
    )


def function_rule(function: Any) -> Rule | None:
    """The rule under which a bare function is exposed, or ``None``."""
    return _DECLARATIONS.of_function(function)


#: The rules that hold for instances of exactly this class; do not change them.
class_rules = _DECLARATIONS.of_class


def exposed_functions() -> list[tuple[str, Rule]]:
    """Every exposed bare function's dotted name and rule, for ``zasync check``."""
    found = [
        (f"{getattr(function, '__module__', '?')}.{_name_of(function)}", rule)
        for function, rule in list(_DECLARATIONS._functions.items())
    ]
    return sorted(found, key=lambda item: item[0])


def checker_of(value: Any) -> Any:
    """The ``zope.security`` checker of a proxy, or the one defined for an object.

    ``None`` if there is none, or if ``zope.security`` is not even loaded.
    """
    module = sys.modules.get("zope.security.checker")
    if module is None:
        return None
    if is_proxy(value):
        return module.getChecker(value)
    declared = module.getCheckerForInstancesOf(type(value))
    if declared is None or declared is _own_checkers(module).get(type(value)):
        # Nobody declared it: zope.security opens iterators and the like by itself, and for
        # the rest takes one that shows nothing, where the host might know better.
        return None
    return module.selectChecker(value)


def _own_checkers(module: Any) -> dict[type, Any]:
    """The checkers that ``zope.security`` comes with, for Python's own classes."""
    return getattr(module, "_default_checkers", {})


def is_proxy(value: Any) -> bool:
    """Whether the value is a ``zope.security`` proxy."""
    module = sys.modules.get("zope.security.proxy")
    return module is not None and type(value) is module.Proxy


def unproxied(value: Any) -> Any:
    """The object inside a ``zope.security`` proxy."""
    return sys.modules["zope.security.proxy"].removeSecurityProxy(value)


def checker_rule(checker: Any, name: str) -> Rule | None:
    """What a ``zope.security`` checker asks for to get ``name``."""
    permission = checker.permission_id(name)
    if permission is None:
        return None
    public = sys.modules["zope.security.checker"].CheckerPublic
    if unproxied(permission) is unproxied(public):
        return OPEN
    return Rule(str(permission))
