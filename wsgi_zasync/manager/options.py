# SPDX-License-Identifier: ZPL-2.1
"""The options of a put: how, when and for how long a call is to be run and kept."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict, get_args

from ..call import PRIORITIES, to_micros
from ..clock import seconds
from ..configuration.convert import words
from ..errors import InvalidArguments
from ..retry import RetryPolicy
from ..security import Principal

#: What a put with a ``unique`` key does when such a call is open.
OnDuplicate = Literal["return", "raise", "replace"]

#: Which calls go first.
Priority = Literal["high", "normal", "low"]

#: What a length of time is given as.
_DURATIONS = (int, float, timedelta)

#: Longest unique key, queue name and title, in characters.
MAX_KEY = 200


class Options(TypedDict, total=False):
    """The keywords of ``CallManager.options``, for type checkers."""

    timeout: float | timedelta | None
    begin_after: float | timedelta | datetime | None
    expires: float | timedelta | datetime | None
    priority: Priority
    unique: str | None
    on_duplicate: OnDuplicate
    queue: str
    retry: RetryPolicy | None
    keep: float | timedelta | None
    title: str | None
    author: Principal | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PutOptions:
    """What ``CallManager.options`` takes, checked."""

    #: Seconds for an attempt; None: the plugin's.
    timeout: float | None = None
    #: A duration from now, or a moment; 0 is at once, as None.
    begin_after: float | datetime | None = None
    #: A duration from now, or a moment, before which the call must have begun.
    expires: float | datetime | None = None
    priority: str = "normal"
    unique: str | None = None
    on_duplicate: OnDuplicate = "return"
    queue: str = "default"
    retry: RetryPolicy | None = None
    #: Seconds for which the call is kept once final; None: as configured.
    keep: float | None = None
    title: str | None = None
    author: Principal | None = None

    def __post_init__(self) -> None:
        for name in ("timeout", "keep"):
            self._set(name, _duration(name, getattr(self, name)))
        if type(self.begin_after) in _DURATIONS and not self.begin_after:
            # Such as what is left of a delay that is over.
            self._set("begin_after", None)
        for name in ("begin_after", "expires"):
            self._set(name, _moment(name, getattr(self, name)))
        _one_of("priority", self.priority, PRIORITIES)
        _one_of("on_duplicate", self.on_duplicate, get_args(OnDuplicate))
        for name in ("unique", "queue", "title"):
            _text(name, getattr(self, name), optional=name != "queue")
        if words(self.queue) != (self.queue,):
            # Workers list what they serve with blanks or commas between.
            raise InvalidArguments(
                f"queue is {self.queue!r}: it must be one word, without commas", path="queue"
            )
        if self.retry is not None and type(self.retry) is not RetryPolicy:
            raise _wrong("retry", "a RetryPolicy", self.retry)
        if self.author is not None and type(self.author) is not Principal:
            raise _wrong("author", "a Principal", self.author)

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def evolve(self, **changes: Any) -> PutOptions:
        """These options with others on top.

        Raises:
            InvalidArguments: An unknown option (the nearest known one is named), or a bad value.
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
                raise InvalidArguments(f"there is no option {name!r}{hint}", path=name)
        return replace(self, **changes)

    def micros(self, name: Literal["begin_after", "expires"], now: datetime) -> int | None:
        """The moment of ``begin_after`` or ``expires`` in microseconds, None without one.

        Raises:
            InvalidArguments: It lies after the year 9999.
        """
        given: float | datetime | None = getattr(self, name)
        if given is None:
            return None
        try:
            when = given if isinstance(given, datetime) else now + timedelta(seconds=given)
        except OverflowError as exc:
            raise InvalidArguments(f"{name} is after the year 9999", path=name) from exc
        return to_micros(when)

    def check_ahead(self, now: datetime, max_seconds: float) -> None:
        """Refuse times further ahead than is allowed.

        Raises:
            InvalidArguments: Naming the option.
        """
        for name in ("begin_after", "expires", "keep"):
            given = getattr(self, name)
            ahead = (given - now).total_seconds() if isinstance(given, datetime) else given
            if ahead is not None and ahead > max_seconds:
                days = max_seconds / 86_400
                raise InvalidArguments(f"{name} is more than {days:g} days ahead", path=name)


def _wrong(name: str, wanted: str, given: Any) -> InvalidArguments:
    return InvalidArguments(f"{name} must be {wanted}, not {type(given).__name__}", path=name)


def _one_of(name: str, given: Any, known: tuple[str, ...]) -> None:
    if given not in known:
        shown = repr(given)[:100]
        raise InvalidArguments(f"{name} is {shown}: say one of {', '.join(known)}", path=name)


def _text(name: str, given: Any, *, optional: bool) -> None:
    if given is None and optional:
        return
    if type(given) is not str:
        raise _wrong(name, "text", given)
    if not given or len(given) > MAX_KEY:
        raise InvalidArguments(f"{name} must have 1 to {MAX_KEY} characters", path=name)
    try:
        given.encode()
    except UnicodeEncodeError as exc:
        raise InvalidArguments(f"{name} has a lone surrogate", path=name) from exc


def _duration(name: str, given: Any, wanted: str = "seconds or a timedelta") -> float | None:
    if given is None:
        return None
    if type(given) not in _DURATIONS:
        raise _wrong(name, wanted, given)
    value = seconds(given)
    if not 0 < value < float("inf"):
        raise InvalidArguments(f"{name} must be above 0 and finite, not {value} s", path=name)
    return value


def _moment(name: str, given: Any) -> float | datetime | None:
    """A duration in seconds, or a moment in UTC: one that cannot be told in it is never shown."""
    if not isinstance(given, datetime):
        return _duration(name, given, "seconds, a timedelta or an aware datetime")
    try:
        offset = given.utcoffset()
        moment = None if offset is None else given.astimezone(UTC)
    except (OverflowError, ValueError, TypeError, NotImplementedError) as exc:
        raise InvalidArguments(f"{name} cannot be told in UTC: {exc}", path=name) from exc
    if moment is None:
        raise InvalidArguments(
            f"{name} is a naive datetime: give one with a timezone, "
            "such as datetime.now(timezone.utc)",
            path=name,
        )
    return moment


#: A put without a word more.
NO_OPTIONS = PutOptions()
