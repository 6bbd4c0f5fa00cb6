# SPDX-License-Identifier: ZPL-2.1
"""The gate: what comes into an expression, what leaves it, who may do what.

A `Guard` belongs to one evaluation, for one owner (and perhaps an author), in
one thread. Every value passes `admit` before an expression holds it and
`leave` before trusted code gets it back; every permission is asked for in
`check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from types import CoroutineType
from typing import Any

from ..clock import Clock
from ..errors import (
    ExpressionError,
    ResourceLimit,
    Unauthorized,
)
from ..exposure import (
    OPERATION_NAMES,
    ExposedCallable,
    Rule,
    checker_of,
    checker_rule,
    class_rules,
    function_rule,
    is_proxy,
    unproxied,
)
from ..security import decided
from .foreign import (
    CannotDecide,
    call_within,
    is_lazy_tree,
    is_refused_call,
    refused,
)
from .limits import Budget, Limits
from .values import (
    CARRIERS,
    CONTAINERS,
    FUNCTIONS,
    LAZY,
    MACHINERY,
    NOT_OBJECTS,
    OURS,
    PLAIN,
    SCALARS,
    SETS,
    SIMPLE,
    ZONES,
    Default,
    kind_name,
)

#: What comes after the last item.
_END = object()


class Guard(Budget):
    """The security side of one evaluation."""

    __slots__ = ("_exposes", "_holders", "_policy")

    def __init__(
        self,
        principal: Any,
        policy: Any,
        author: Any,
        limits: Limits,
        clock: Clock,
        give_way: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(limits, clock, give_way)
        self._holders = (principal,) if author is None else (principal, author)
        self._policy = policy
        self._exposes = getattr(policy, "exposes", None)

    # -- coming in ---------------------------------------------------------

    def admit(self, value: Any) -> Any:
        """The value as an expression may hold it.

        Raises:
            Unauthorized: It is neither plain data nor anything exposed.
        """
        kind = type(value)
        if kind in PLAIN:
            return value
        if class_rules(kind) and kind not in MACHINERY and not issubclass(kind, type):
            return value
        if kind in OURS or kind is ExposedCallable:
            return value
        if kind in CARRIERS:
            return self._admit_carrier(value)
        if kind in FUNCTIONS:
            if function_rule(value) is not None:
                return value
        elif kind in LAZY or is_lazy_tree(kind):
            return self.read_to_end(value)
        elif is_proxy(value):
            inner = unproxied(value)
            return inner if type(inner) in SCALARS | PLAIN else value
        elif kind not in MACHINERY and not issubclass(kind, type) and self._is_open(value):
            return value
        if kind is CoroutineType:
            value.close()
        raise Unauthorized(f"{kind_name(value)} that is not open to expressions")

    def _admit_carrier(self, value: Any) -> Any:
        """A moment only with a known zone, a UUID only around an integer."""
        inside = value.int if hasattr(value, "int") else value.tzinfo
        if type(inside) in ZONES or type(inside) is int:
            return value
        raise Unauthorized(f"{kind_name(value)} that is not open to expressions")

    def _is_open(self, value: Any) -> bool:
        if checker_of(value) is not None:
            return True
        return self._exposes is not None and self._host_exposes(value, "")

    def read_to_end(self, values: Any) -> list[Any]:
        """A list of what exposed code yields, at most as many as allowed."""
        found: list[Any] = []
        limit = self.limits.items
        began = self.pause()
        try:
            source = self._step(iter, values)
            while (value := self._step(next, source, _END)) is not _END:
                if len(found) >= limit:
                    raise ResourceLimit(f"more than {limit} items")
                self.build(8)
                found.append(self.admit(value))
        finally:
            self.resume(began)
        return found

    @staticmethod
    def _step(step: Callable[..., Any], *args: Any) -> Any:
        """One step of what exposed code iterates, which may raise errors of our kinds, too."""
        try:
            return step(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            raise refused(failure) from failure

    # -- permissions -------------------------------------------------------

    def rule_for(self, value: Any, name: str) -> Rule | None:
        """What an exposed object asks for to use one of its names.

        Our declarations come first, then a ``zope.security`` checker, then
        the host's own policy; ``None`` means closed.
        """
        kind = type(value)
        if kind in NOT_OBJECTS or (name.startswith("_") and name not in OPERATION_NAMES):
            return None
        rules = class_rules(kind)
        rule = rules.get(name)
        if rule is not None or rules:
            return rule
        checker = checker_of(value)
        if checker is not None:
            return checker_rule(checker, name)
        if self._exposes is not None and self._host_exposes(value, name):
            return Rule()
        return None

    def check(self, rule: Rule, value: Any) -> None:
        """Ask the policy for what a rule asks for, of the owner and the author.

        Raises:
            Unauthorized: One of them may not.
            CannotDecide: The policy raised something else.
        """
        permission = rule.permission
        if permission is None:
            return
        target = unproxied(value) if is_proxy(value) else value
        for holder in self._holders:
            if self._policy is None or not self._ask(
                self._policy.allows, holder, permission, target
            ):
                raise Unauthorized(f"needs the permission {permission!r}")

    def may(self, rule: Rule, value: Any) -> bool:
        """Whether `check` would let this pass; no answer counts as no."""
        try:
            self.check(rule, value)
        except (Unauthorized, CannotDecide):
            return False
        return True

    def _host_exposes(self, value: Any, name: str) -> bool:
        return all(self._ask(self._exposes, holder, value, name) for holder in self._holders)

    def _ask(self, question: Any, *about: Any) -> bool:
        began = self.pause()
        try:
            return decided(question(*about))
        except Unauthorized as no:
            raise Unauthorized("refused by the policy") from no
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            raise CannotDecide("the policy could not decide") from failure
        finally:
            self.resume(began)

    # -- exposed code ------------------------------------------------------

    def invoke(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None = None,
        ours: bool = False,
    ) -> Any:
        """Call exposed code with what may leave, and admit what it returns."""
        sent = [self.leave(arg) for arg in args]
        named = {name: self.leave(arg) for name, arg in kwargs.items()} if kwargs else {}
        began = self.pause()
        try:
            if timeout is None:
                result = function(*sent, **named)
            else:
                result = call_within(timeout, function, sent, named)
        except KeyboardInterrupt:
            raise
        except BaseException as failure:
            # Nothing that exposed code raises ends the worker.
            if is_refused_call(failure):
                raise ExpressionError("called with wrong arguments (TypeError)") from failure
            raise refused(failure, ours=ours) from failure
        finally:
            self.resume(began)
        if type(result) is str and " at 0x" in result:
            self._check_text_of_objects(sent, named)
        return self.admit(result)

    def _check_text_of_objects(self, sent: list[Any], named: dict[str, Any]) -> None:
        """Refuse what is likely the representation of an object we handed out."""
        if any(type(value) not in SCALARS for value in (*sent, *named.values())):
            raise Unauthorized("a text that shows the inside of an object")

    # -- going out ---------------------------------------------------------

    def leave(self, value: Any, depth: int = 0) -> Any:
        """The value as trusted code gets it: plain data (a copy) or an exposed object.

        Raises:
            Unauthorized: It is something that stays inside.
            ResourceLimit: It is too big or too deep.
        """
        kind = type(value)
        if kind in SIMPLE:
            return value
        if kind in CONTAINERS or kind is range:
            return self._leave_container(value, kind, depth + 1)
        if kind is Default:
            return None
        if kind in OURS or kind in FUNCTIONS or kind is ExposedCallable:
            raise Unauthorized(f"{kind_name(value)} stays inside the expression")
        admitted = self.admit(value)
        if type(admitted) in CONTAINERS:
            return self._leave_container(admitted, type(admitted), depth + 1)
        return admitted

    def _leave_container(self, value: Any, kind: type, depth: int) -> Any:
        if depth > self.limits.depth:
            raise ResourceLimit(f"more than {self.limits.depth} containers inside one another")
        self.build_items(length(value))
        if kind is dict:
            self._check_leaving_keys(value)
            return {
                key: item if type(item) in SIMPLE else self.leave(item, depth)
                for key, item in value.items()
            }
        if kind in SETS:
            self._check_leaving_keys(value)
        items = [item if type(item) in SIMPLE else self.leave(item, depth) for item in value]
        return items if kind is list or kind is range else kind(items)

    def _check_leaving_keys(self, keys: Iterable[Any]) -> None:
        """Keys are hashed again in the copy, which must run nobody's ``__hash__``."""
        for key in keys:
            if type(key) is not str:
                self.check_key(key)

    def check_key(self, key: Any) -> None:
        """Refuse what cannot be a key, or would run somebody's ``__hash__``."""
        kind = type(key)
        if kind is Decimal and key.is_snan():
            raise ExpressionError("a signalling NaN cannot be a key")
        if kind in SIMPLE:
            return
        if kind in CARRIERS:
            self._admit_carrier(key)
        elif kind is tuple or kind is frozenset:
            self.spend(len(key) + 1)
            for item in key:
                self.check_key(item)
        elif kind in NOT_OBJECTS:
            raise ExpressionError(f"{kind_name(key)} cannot be a key")
        else:
            raise Unauthorized(f"{kind_name(key)} cannot be a key")

    def plain_size(self, value: Any, depth: int = 0) -> int:
        """How big plain data is, charged; what is not plain all through is refused.

        Comparing, sorting, hashing and formatting reach into containers
        without asking us, and so is only done with what passes here.
        """
        kind = type(value)
        if kind is str or kind is bytes:
            return len(value) // 16 + 1
        if kind in SIMPLE:
            return 1
        if kind is range:
            return 2
        if kind in CARRIERS:
            self._admit_carrier(value)
            return 1
        if kind not in CONTAINERS:
            raise Unauthorized(f"{kind_name(value)} is not plain data")
        if depth >= self.limits.depth:
            raise ResourceLimit(f"more than {self.limits.depth} containers inside one another")
        self.spend(len(value) + 1)
        size = 1
        for item in value:
            size += self.plain_size(item, depth + 1)
        if kind is dict:
            for item in value.values():
                size += self.plain_size(item, depth + 1)
        return size


def length(value: Any) -> int:
    """The length of a container, also of a range that ``len`` finds too long."""
    if type(value) is not range:
        return len(value)
    try:
        return len(value)
    except OverflowError as failure:
        raise ResourceLimit("a range that is too long") from failure
