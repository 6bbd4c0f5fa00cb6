# SPDX-License-Identifier: ZPL-2.1
"""Callback expressions as data: when to evaluate which text with which names.

They are stored as plain tuples inside the call's record, so that a record stays one small
pickle; this is the class that reads and writes those tuples.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .states import CallbackState, CallState

#: What a callback waits for. ``cancel`` is also expiry; ``any`` is every end.
Occasion = Literal["success", "failure", "cancel", "any", "event"]

#: The names that expressions see anyway, so that nothing else can be given to them.
RESERVED = frozenset(
    ("call", "result", "failure", "event", "user", "root", "now", "nothing", "default")
    + ("put", "emit")
)

#: Names, author, state, value and error of a callback of the application's without names.
_UNTOUCHED: tuple[Any, ...] = (None, None, str(CallbackState.PENDING), None, None)

_ENDS: dict[CallState, str] = {
    CallState.SUCCEEDED: "success",
    CallState.FAILED: "failure",
    CallState.CANCELLED: "cancel",
    CallState.EXPIRED: "cancel",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Callback:
    """One declared expression, and what became of it."""

    on: Occasion
    text: str
    #: The names bound at declaration, in stored form.
    names: dict[str, Any] = field(default_factory=dict)
    #: (source, id) of who wrote the text, when that was a user.
    author: tuple[str, str] | None = None
    state: CallbackState = CallbackState.PENDING
    #: What it evaluated to, when small and plain.
    value: Any = None
    #: What went wrong, for its owner to read.
    error: str | None = None

    @staticmethod
    def declared(
        on: Occasion, text: str, names: dict[str, Any], author: tuple[str, str] | None
    ) -> tuple[Any, ...]:
        """The stored form of a callback that nobody has evaluated yet: most need two fields."""
        return (on, text) if author is None and not names else (on, text, names or None, author)

    def is_for(self, state: CallState) -> bool:
        """Whether a call that ended in ``state`` evaluates this callback."""
        return self.on == "any" or self.on == _ENDS.get(state)

    def done(self, value: Any) -> Callback:
        """This callback, evaluated."""
        return replace(self, state=CallbackState.DONE, value=value, error=None)

    def failed(self, error: str) -> Callback:
        """This callback, having raised."""
        return replace(self, state=CallbackState.FAILED, error=error)

    def to_plain(self) -> tuple[Any, ...]:
        """The stored form."""
        plain = (self.names or None, self.author, str(self.state), self.value, self.error)
        if plain[2:] == _UNTOUCHED[2:]:
            return self.declared(self.on, self.text, self.names, self.author)
        return (self.on, self.text, *plain)

    @classmethod
    def from_plain(cls, plain: tuple[Any, ...]) -> Callback:
        """Read the stored form; fields that it does not have are as they were declared."""
        on, text, *more = plain
        rest: tuple[Any, ...] = (*more, *_UNTOUCHED[len(more) :])
        names, author, state, value, error = rest
        return cls(
            on=on,
            text=text,
            names=names or {},
            author=author,
            state=CallbackState(state),
            value=value,
            error=error,
        )
