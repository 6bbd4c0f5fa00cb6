# SPDX-License-Identifier: ZPL-2.1
"""The persistent record of a call.

Who writes it: the request that puts it, once; then only completions (and a cancel or expiry
of a call that waits). What the web wants of a call that may be running goes to the mailbox
(``store.mailbox``) instead, so that a web write never conflicts with an outcome.

Only what differs from the defaults is stored, times as microseconds since 1970 UTC and
enumerations as text: a record is a few hundred bytes. The module path of ``CallRecord`` is a
data format; a change of its attributes is a step in ``RECORD_STEPS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from persistent import Persistent

from .callbacks import Callback
from .errors import CallIsFinal, CallNotFound, ConfigurationError
from .restricted import shown_to_restricted
from .states import FINAL, TRANSITIONS, CallbackState, CallState
from .values import without_secrets

#: The version that records are written in.
RECORD_VERSION = 1

#: version -> what turns the stored attributes of a record of it into those of the next version.
#: Empty while there is but one.
RECORD_STEPS: dict[int, Callable[[dict[str, Any]], None]] = {}

#: Bytes of randomness made at put; id and idempotency key are derived from them one way each.
SEED_BYTES = 16

#: Entries of a segment of an inbox, and records of one of an index, at most.
SEGMENT_SIZE = 32

#: The serial of an object that its own transaction makes.
NEVER_STORED = b"\0" * 8

#: How many lanes a store has: as many transactions can put at once without ever conflicting.
LANES = 64

#: The priorities, best first; their index is what is stored.
PRIORITIES = ("high", "normal", "low")
NORMAL = PRIORITIES.index("normal")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(when: datetime) -> int:
    """An aware datetime as microseconds since 1970 UTC."""
    return (when - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Microseconds since 1970 UTC as an aware datetime."""
    return _EPOCH + timedelta(microseconds=micros)


@shown_to_restricted("type", "message", "attempt", "when")
@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed.

    ``type`` names the error's class; ``message`` is safe to show to the owner; ``traceback_text``
    is for operators, and empty in an owner's view. ``attempt`` is its number, from 1, and ``when``
    an aware datetime.
    """

    type: str
    message: str
    traceback_text: str = ""
    attempt: int = 0
    when: datetime | None = None

    def to_plain(self) -> tuple[Any, ...]:
        """The stored form."""
        when = None if self.when is None else to_micros(self.when)
        return (self.type, self.message, self.traceback_text, self.attempt, when)

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> Failure:
        """Read the stored form."""
        kind, message, traceback_text, attempt, when = plain
        moment = None if when is None else from_micros(when)
        return cls(kind, message, traceback_text, attempt, moment)


@shown_to_restricted("number", "when", "source", "message")
class Event(NamedTuple):
    """Something that a call told its owner: plain data, and what it came from."""

    #: From 1, in the order in which they were told.
    number: int
    when: datetime
    #: ``callback``: one of the call's expressions told it, by ``emit``; ``callback of mallory``
    #: if a user wrote that.
    source: str
    message: Any


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands in its owner's index; its id begins with it."""

    lane: int
    segment: int
    position: int

    def encoded(self) -> str:
        """The place as the beginning of an id."""
        number = (self.segment * LANES + self.lane) * SEGMENT_SIZE + self.position
        digits = ""
        while True:
            number, digit = divmod(number, 32)
            digits = _ALPHABET[digit] + digits
            if not number:
                return digits

    @classmethod
    def decoded(cls, text: str) -> Place:
        """Read the beginning of an id; raises CallNotFound for anything else."""
        # 13 digits are 65 bits: no segment of a real store comes near.
        if not text or len(text) > 13 or not _DIGITS.issuperset(text):
            raise not_found(text)
        rest, position = divmod(int(text.translate(_AS_PYTHON_WRITES), 32), SEGMENT_SIZE)
        segment, lane = divmod(rest, LANES)
        return cls(lane, segment, position)


#: The digits of RFC 4648's base 32, in lower case.
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_DIGITS = frozenset(_ALPHABET)
_AS_PYTHON_WRITES = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")


#: A call's id is asked for when it is put, when it is accepted and whenever somebody looks at it,
#: mostly within a moment; to make it costs as much as all else of a look.
@lru_cache(maxsize=4096)
def call_id(seed: bytes, place: tuple[int, int, int]) -> str:
    """The id of the call that has this seed and this place: the place, and 80 random bits."""
    random = blake2b(seed, digest_size=10, person=b"zasync id").hexdigest()
    return f"{Place(*place).encoded()}-{random}"


def not_found(call_id: object) -> CallNotFound:
    """The one error for unknown, forgotten and foreign calls alike."""
    text = call_id if isinstance(call_id, str) else repr(call_id)
    shown = text[:100].encode("ascii", "backslashreplace").decode()
    return CallNotFound(f"there is no call {shown!r} for you; check the id and who is logged in")


class CallRecord(Persistent):
    """What is stored of one call. Applications hold a ``Call``, which is a view of this.

    An index has empty ones in store; one that a put describes a call with is not stored itself.
    """

    #: Stored by all versions but the first.
    version = 1
    site = "main"
    #: The mailbox of its index segment: a worker goes there without reading the owner's index. None
    #: once it was forgotten.
    mailbox: Any = None
    seed: bytes = b""
    place: tuple[int, int, int] = (0, 0, 0)
    #: (source, id), compared exactly.
    owner: tuple[str, str] = ("", "")
    owner_title: str | None = None
    plugin = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}  # noqa: RUF012 - a default that is replaced, never changed
    title: str | None = None
    queue = "default"
    priority = NORMAL
    #: Seconds for an attempt; None: the plugin's or the worker's.
    timeout: float | None = None
    #: A RetryPolicy as plain data; None: the plugin's.
    retry: Any = None
    #: Seconds for which it is kept once final; None: the configured time.
    keep: float | None = None
    #: The key of a ``unique`` call (a digest), or None.
    unique: bytes | None = None
    #: How many calls led to this one, and the id of the first of them.
    depth = 0
    ancestor = ""
    #: (source, id) of the user whose text put it, who needs the permission too when it runs.
    author: tuple[str, str] | None = None
    created = 0
    due: int | None = None
    expires: int | None = None
    started: int | None = None
    finished: int | None = None
    #: A CallState, as text. ``running`` is never stored: a worker's board says what runs.
    state = "waiting"
    waiting_reason: str | None = None
    #: Attempts that ended, and interruptions of them that do not count as attempts.
    attempts = 0
    interruptions = 0
    result: Any = None
    #: A Failure as plain data.
    failure: tuple[Any, ...] | None = None
    #: Callbacks as plain data.
    callbacks: tuple[tuple[Any, ...], ...] = ()
    #: What it told its owner: (microseconds, source, message in stored form) each.
    events: tuple[tuple[int, str, Any], ...] = ()
    #: How many of the callbacks in its mailbox have been appended to these.
    late_callbacks = 0
    #: How many times its owner asked for failed callbacks again.
    callback_retries = 0
    #: Bytes that the calls of its chain in the owner's index, up to it, counted for at their put.
    bytes_put = 0
    #: Set when the owner forgot it, or its time to be kept was over; nothing else is left then.
    forgotten = False
    #: Bytes of arguments, result and callbacks as they count towards the owner's quota.
    size = 0

    def __init__(self) -> None:
        if self.version != RECORD_VERSION:
            self.version = RECORD_VERSION

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        """Take what was stored, brought up to this version if it is an older one's.

        An empty record is one of any version: who was rolled back puts its next call there.

        Raises:
            ConfigurationError: It is of a newer version than this code knows.
        """
        version = 1 if state is None else state.get("version", 1)
        if state is not None and version != RECORD_VERSION and state.get("seed"):
            if version > RECORD_VERSION:
                raise ConfigurationError(
                    f"this call's record has version {version}, and this wsgi_zasync reads "
                    f"{RECORD_VERSION} at most: upgrade this process"
                )
            for step in range(version, RECORD_VERSION):
                RECORD_STEPS[step](state)
            state["version"] = RECORD_VERSION
        super().__setstate__(state)

    def fill(self, call: CallRecord, mailbox: Any) -> None:
        """Become the call that another record describes, which is not stored itself."""
        if self.seed:
            raise RuntimeError(f"a call is never overwritten, as {self.id} would have been")
        if self.__dict__:
            # Nothing that is said of an empty one is of the call.
            self.__dict__.clear()
        self.__dict__.update(call.__dict__)
        self.mailbox = mailbox

    @property
    def id(self) -> str:
        """The call's id: its place in its owner's index and 80 random bits."""
        return call_id(self.seed, self.place)

    @property
    def idempotency_key(self) -> str:
        """The same over all attempts; tells nothing of the id, and the id nothing of it."""
        return blake2b(self.seed, digest_size=16, person=b"zasync idem").hexdigest()

    @property
    def is_final(self) -> bool:
        """Whether the call has ended."""
        return self.state in FINAL

    # -- changes: each is one legal transition ------------------------------------------

    def succeed(self, result: Any, when: int) -> None:
        """End with a result, which is in stored form."""
        self._end(CallState.SUCCEEDED, when)
        self.result = result

    def fail(self, failure: Failure, when: int) -> None:
        """End with a failure."""
        self._end(CallState.FAILED, when)
        self.failure = failure.to_plain()

    def cancel(self, when: int) -> None:
        """End as cancelled."""
        self._end(CallState.CANCELLED, when)

    def expire(self, when: int) -> None:
        """End as expired: it was not begun in time."""
        self._end(CallState.EXPIRED, when)

    @property
    def is_untouched(self) -> bool:
        """Whether it waits as it was put, for all that its record says."""
        if self.is_final or self.forgotten or self.waiting_reason is not None:
            return False
        return bool(self.seed) and not (self.attempts or self.interruptions)

    def has_expired(self, now: int) -> bool:
        """Whether it is too late to begin. What has begun in time is tried again at any time."""
        has_begun = self.attempts > 0 or self.interruptions > 0
        return self.expires is not None and self.expires <= now and not has_begun

    def wait(self, reason: str | None, due: int | None = None) -> None:
        """Go on waiting, for the reason given, until ``due`` if that is given."""
        if self.is_final:
            raise CallIsFinal(f"call {self.id} is {self.state} and cannot wait again")
        self.waiting_reason = reason
        if due is not None:
            self.due = due

    def attempted(self, started: int | None) -> None:
        """Count an attempt that has ended."""
        self.attempts += 1
        if started is not None:
            self.started = started

    def _end(self, state: CallState, when: int) -> None:
        if state not in TRANSITIONS[self.state]:
            raise CallIsFinal(f"call {self.id} is {self.state} and cannot become {state}")
        self.state = str(state)
        self.finished = when
        if self.waiting_reason is not None:
            self.waiting_reason = None

        # A call that has ended has no use for them.
        args, kwargs = without_secrets((self.args, self.kwargs))
        if args is not self.args:
            self.args = args
        if kwargs is not self.kwargs:
            self.kwargs = kwargs

    # -- callbacks ----------------------------------------------------------------------

    def all_callbacks(self) -> list[Callback]:
        """The callbacks in the order of their declaration."""
        return [Callback.from_plain(plain) for plain in self.callbacks]

    def set_callbacks(self, callbacks: list[Callback]) -> None:
        """Replace the callbacks."""
        self.callbacks = tuple(callback.to_plain() for callback in callbacks)

    def pending_callbacks(self) -> list[int]:
        """Which callbacks the end of this call calls for and nobody has evaluated yet."""
        if not (self.callbacks and self.is_final):
            return []
        state = CallState(self.state)
        return [
            index
            for index, callback in enumerate(self.all_callbacks())
            if callback.state is CallbackState.PENDING and callback.is_for(state)
        ]

    def tell(self, when: int, source: str, message: Any, size: int) -> None:
        """Keep a message in stored form, of ``size`` bytes, for its owner."""
        self.events += ((when, source, message),)
        self.size += size

    def erase(self) -> None:
        """Forget everything but what keeps the id from being found or made again."""
        names = ("seed", "place", "owner", "state", "created", "bytes_put")
        kept = {name: getattr(self, name) for name in names}
        self.__dict__.clear()
        self.__dict__.update(kept)
        self.forgotten = True
