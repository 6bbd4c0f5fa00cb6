# SPDX-License-Identifier: ZPL-2.1
"""When a call runs again: a policy, which is data, and the decision that it gives.

Three things end an attempt without an outcome, and each has a bound of its own. The plugin
*raised*: it runs again only if there is a policy for that. Its commit met a *conflict*: it
runs again soon, and no attempt is counted. It was *interrupted*: its worker was killed or
taken over, and the call may be what killed it; or the storage was lost that it read.

Nothing here reads a clock, sleeps, or knows the store; the random source is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import Any

from .clock import seconds
from .errors import InvalidArguments
from .lines import counted

#: Attempts of a call without a policy whose plugin asks for another one by ``Retry``.
ASKED_ATTEMPTS = 10

#: First and longest delay after a conflict: others are writing, and have to get done.
CONFLICT_DELAY_SECONDS = 0.01
LONGEST_CONFLICT_DELAY_SECONDS = 1.0

#: No delay is longer than a year, as no other time in a call is.
LONGEST_DELAY_SECONDS = 365 * 86400.0


class RetryEvent(StrEnum):
    """What ended an attempt without an outcome."""

    #: The plugin raised an exception, or timed out.
    RAISED = "raised"
    #: What it wrote could not be committed because others wrote the same.
    CONFLICT = "conflict"
    #: The worker died, was taken over, or lost the storage, while it may have been running.
    INTERRUPTED = "interrupted"


class Retry(Exception):
    """Raised by a plugin to be run again later; no error, and so not of the error tree.

    It counts as an attempt: the policy's ``attempts`` is the bound, or ten where there is no
    policy that allows more than one. The last one fails the call with this message.

    Args:
        message: Why, for the owner to read as the call's ``waiting_reason``.
        delay: Seconds or a timedelta until then; None: as the policy says.

    Raises:
        InvalidArguments: The delay is none, or longer than a year.
    """

    def __init__(self, message: str = "", *, delay: float | timedelta | None = None) -> None:
        super().__init__(message or "the plugin asked to be run again")
        self.delay_seconds = None if delay is None else _delay("Retry.delay", delay)


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Whether a call runs again, how many seconds from now, and why (not)."""

    again: bool
    delay_seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, init=False, slots=True)
class RetryPolicy:
    """How often, and how soon, a call runs again."""

    attempts: int
    delay_seconds: float
    backoff: float
    max_delay_seconds: float
    jitter: float
    on: tuple[str, ...]
    conflicts: int
    interruptions: int

    def __init__(
        self,
        *,
        attempts: int = 3,
        delay_seconds: float | timedelta = 1.0,
        backoff: float = 2.0,
        max_delay_seconds: float | timedelta = 3600.0,
        jitter: float = 0.1,
        on: str | type[BaseException] | Iterable[str | type[BaseException]] = (),
        conflicts: int = 20,
        interruptions: int = 3,
    ) -> None:
        """Check, and bring values into their stored form.

        Args:
            attempts: In all, the first one included, when the plugin raises.
            delay_seconds: Before the second attempt (seconds, or a timedelta).
            backoff: Each delay is the one before times this.
            max_delay_seconds: The longest delay (seconds, or a timedelta).
            jitter: Each delay is changed at random by up to this part of it, so that crowds
                disperse.
            on: Names of exception types, or the types; empty: every exception.
            conflicts: How many times it runs again after a conflict, within one attempt. Of those
                who write to one busy object each second one conflicts: the bound is where that is
                no bad luck any more.
            interruptions: The interruption that is one too many: with 3 the third one fails the
                call.

        Raises:
            InvalidArguments: A value makes no sense; ``.path`` names it.
        """
        self._set("attempts", _whole("retry.attempts", attempts, 1))
        self._set("delay_seconds", _delay("retry.delay_seconds", delay_seconds))
        self._set("backoff", _number("retry.backoff", backoff, 1.0, 1000.0))
        self._set("max_delay_seconds", _delay("retry.max_delay_seconds", max_delay_seconds))
        self._set("jitter", _number("retry.jitter", jitter, 0.0, 1.0))
        self._set("on", _type_names(on))
        self._set("conflicts", _whole("retry.conflicts", conflicts, 0))
        self._set("interruptions", _whole("retry.interruptions", interruptions, 1))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def decide(
        self,
        event: RetryEvent,
        *,
        count: int,
        random: Random,
        error: BaseException | None = None,
        names: Collection[str] = (),
    ) -> RetryDecision:
        """Whether the call runs again after ``event``.

        Args:
            event: What happened.
            count: How many times it has happened to this call (for a conflict: to this
                attempt), this one included.
            random: Where the jitter comes from.
            error: What was raised, if it is at hand.
            names: The names of its type and base types, where it is not (a child process).
        """
        if event is RetryEvent.CONFLICT:
            return self._after_conflict(count, random)
        if event is RetryEvent.INTERRUPTED:
            return self._after_interruption(count)
        if isinstance(error, Retry):
            return self._as_asked(error, count, random)
        return self._after_raise(count, random, names or _names_of(error))

    def _after_conflict(self, count: int, random: Random) -> RetryDecision:
        if count > self.conflicts:
            return RetryDecision(False, reason=f"{count} conflicts in a row")
        delay = _growing(CONFLICT_DELAY_SECONDS, 2.0, count, LONGEST_CONFLICT_DELAY_SECONDS)
        # The whole delay is random: those who collided must not meet again.
        return RetryDecision(True, delay * random.random(), "others wrote the same data")

    def _after_interruption(self, count: int) -> RetryDecision:
        if count >= self.interruptions:
            times = counted(count, "time")
            return RetryDecision(False, reason=f"interrupted {times} while it may have run")
        return RetryDecision(True, 0.0, "its worker was interrupted")

    def _as_asked(self, asked: Retry, count: int, random: Random) -> RetryDecision:
        bound = self.attempts if self.attempts > 1 else ASKED_ATTEMPTS
        if count >= bound:
            return RetryDecision(False, reason=f"asked for more than {bound} attempts")
        delay = asked.delay_seconds
        return RetryDecision(
            True, self._delay(count, random) if delay is None else delay, str(asked)
        )

    def _after_raise(self, count: int, random: Random, names: Collection[str]) -> RetryDecision:
        if count >= self.attempts:
            return RetryDecision(False, reason=f"failed in attempt {count} of {self.attempts}")
        if self.on and not set(self.on) & set(names):
            return RetryDecision(False, reason="the policy does not retry this type of error")
        reason = f"attempt {count} of {self.attempts} failed"
        return RetryDecision(True, self._delay(count, random), reason)

    def _delay(self, count: int, random: Random) -> float:
        delay = _growing(self.delay_seconds, self.backoff, count, self.max_delay_seconds)
        spread = 1.0 + self.jitter * (2.0 * random.random() - 1.0)
        return min(delay * spread, self.max_delay_seconds)

    def to_plain(self) -> dict[str, Any]:
        """The stored form: plain data, every value written out."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> RetryPolicy:
        """Read the stored form; what a later version may have added is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in plain.items() if name in known})


def _growing(first: float, factor: float, count: int, longest: float) -> float:
    try:
        return min(first * factor ** (count - 1), longest)
    except OverflowError:
        return longest


def _names_of(error: BaseException | None) -> set[str]:
    names = set()
    for kind in () if error is None else type(error).__mro__:
        names |= {kind.__name__, f"{kind.__module__}.{kind.__qualname__}"}
    return names


def _type_names(given: Any) -> tuple[str, ...]:
    if isinstance(given, str | type):
        given = (given,)
    if not isinstance(given, Iterable):
        raise InvalidArguments(
            f"retry.on holds exception types or their names, not {given!r}", path="retry.on"
        )
    names = []
    for item in given:
        if isinstance(item, type) and issubclass(item, BaseException):
            item = f"{item.__module__}.{item.__qualname__}"
        if type(item) is not str or not item:
            raise InvalidArguments(
                f"retry.on holds exception types or their names, not {item!r}", path="retry.on"
            )
        names.append(item)
    return tuple(names)


def _whole(path: str, value: Any, lowest: int) -> int:
    if type(value) is not int or not lowest <= value <= 1000:
        raise InvalidArguments(
            f"{path} is a number from {lowest} to 1000, not {value!r}", path=path
        )
    return value


def _number(path: str, value: Any, lowest: float, highest: float) -> float:
    if type(value) not in (int, float) or not lowest <= value <= highest:
        raise InvalidArguments(
            f"{path} is a number from {lowest:g} to {highest:g}, not {value!r}", path=path
        )
    return float(value)


def _delay(path: str, value: Any) -> float:
    if type(value) not in (int, float, timedelta):
        raise InvalidArguments(f"{path} is seconds or a timedelta, not {value!r}", path=path)
    length = seconds(value)
    if not (math.isfinite(length) and 0.0 <= length <= LONGEST_DELAY_SECONDS):
        raise InvalidArguments(f"{path} is from 0 seconds to a year, not {value!r}", path=path)
    return length


#: What holds where neither the call nor its plugin has a policy: a raised failure is final.
WITHOUT_RETRY = RetryPolicy(attempts=1)


def policy_in_force(own: RetryPolicy | None, declared: RetryPolicy | None) -> RetryPolicy:
    """The policy that holds: the call's own, else its plugin's, else ``WITHOUT_RETRY``."""
    return own or declared or WITHOUT_RETRY
