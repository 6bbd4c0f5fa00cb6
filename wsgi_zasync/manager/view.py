# SPDX-License-Identifier: ZPL-2.1
"""A call as applications hold it: a view of the record, for its owner, in one transaction.

What it changes is written by ``declaring`` and ``changing``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from ..call import PRIORITIES, Event, Failure, from_micros
from ..callbacks import Callback, Occasion
from ..errors import (
    CallCancelled,
    CallExpired,
    CallFailed,
    CallNotFinal,
    TransactionOver,
)
from ..restricted import shown_to_restricted
from ..security import Principal
from ..states import CallbackState, CallState
from . import changing
from .call_json import as_json
from .declaring import declare, late_callbacks
from .record_view import RecordView
from .too_late import reading


@shown_to_restricted("fraction", "message")
class Progress(NamedTuple):
    """How far a call is."""

    #: From 0 to 1, None while unknown.
    fraction: float | None
    message: str


@shown_to_restricted("on", "text", "state", "value", "error")
@dataclass(frozen=True, slots=True)
class CallbackView:
    """What became of one callback expression."""

    on: str
    text: str
    state: CallbackState
    value: Any
    error: str | None


@shown_to_restricted(
    *"id plugin args kwargs title owner queue priority created due expires state is_final".split(),
    *"waiting_reason started finished attempts progress cancel_requested result failure".split(),
    *"callbacks callbacks_failed to_dict on_success on_failure on_cancel on_any on_event".split(),
    *"cancel forget".split(),
)
class Call(RecordView):
    """A call that you own.

    Once its transaction has ended nothing can be changed by it; once its connection serves another
    request, or when its put was taken back, nothing but its ``id`` can be read. Either raises
    ``TransactionOver``.
    """

    def __repr__(self) -> str:
        try:
            return f"<Call {self.id} {self.plugin!r} {self.state}>"
        except TransactionOver:
            return f"<Call {self.id}>"

    # -- what was asked for ---------------------------------------------------------------

    @property
    def plugin(self) -> str:
        """The name of the plugin that does the work."""
        return self._readable.plugin

    @property
    @reading
    def args(self) -> tuple[Any, ...]:
        """The positional arguments; a copy, secrets shown as ``***``.

        Raises:
            ObjectGone: An object of another database among them is not there any more.
        """
        args: tuple[Any, ...] = self._restored(self._readable.args)
        return args

    @property
    @reading
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments; a copy, secrets shown as ``***``.

        Raises:
            ObjectGone: An object of another database among them is not there any more.
        """
        kwargs: dict[str, Any] = self._restored(self._readable.kwargs)
        return kwargs

    @property
    def title(self) -> str | None:
        """What people may call it."""
        return self._readable.title

    @property
    def owner(self) -> Principal:
        """Who owns it; without the roles, which are never trusted later."""
        record = self._readable
        source, identifier = record.owner
        return Principal(identifier, source, title=record.owner_title)

    @property
    def queue(self) -> str:
        """The queue that it waits in."""
        return self._readable.queue

    @property
    def priority(self) -> str:
        """``high``, ``normal`` or ``low``."""
        return PRIORITIES[self._readable.priority]

    @property
    def created(self) -> datetime:
        """When it was put."""
        return from_micros(self._readable.created)

    @property
    def due(self) -> datetime | None:
        """Not before this moment; None: at once."""
        return _moment(self._readable.due)

    @property
    def expires(self) -> datetime | None:
        """If it has not begun by then, it never will."""
        return _moment(self._readable.expires)

    # -- where it stands ------------------------------------------------------------------

    @property
    @reading
    def state(self) -> CallState:
        """Where the call stands."""
        return self._context.store.state_of(self._readable)

    @property
    def is_final(self) -> bool:
        """Whether the call has ended."""
        return self._readable.is_final

    @property
    def waiting_reason(self) -> str | None:
        """Why it waits, when that is more than being in line."""
        if self.state is not CallState.WAITING:
            return None
        record = self._readable
        reason, due = record.waiting_reason, record.due
        if reason is None and due is not None and due > self._context.now():
            return f"not due before {from_micros(due):%Y-%m-%d %H:%M:%S} UTC"
        if reason is None and not self._context.store.is_served(record.queue):
            return f"no worker serves the queue {record.queue!r}"
        return reason

    @property
    @reading
    def started(self) -> datetime | None:
        """When the last attempt began."""
        record = self._readable
        running = self._context.store.running(record)
        return _moment(record.started if running is None else running.started)

    @property
    def finished(self) -> datetime | None:
        """When it ended."""
        return _moment(self._readable.finished)

    @property
    @reading
    def attempts(self) -> int:
        """How many attempts were begun, as far as is known."""
        record = self._readable
        running = self._context.store.running(record)
        return record.attempts if running is None else running.attempt

    @property
    @reading
    def progress(self) -> Progress:
        """How far it is, as the plugin told."""
        record = self._readable
        running = self._context.store.running(record)
        if running is not None:
            return Progress(running.fraction, running.message)
        done = record.state == CallState.SUCCEEDED
        return Progress(1.0 if done else None, "")

    @property
    @reading
    def cancel_requested(self) -> bool:
        """Whether it was asked to stop."""
        record = self._readable
        if record.state == CallState.CANCELLED:
            return True
        return self._context.store.mail(record).cancel_requested

    # -- its outcome ------------------------------------------------------------------------

    @property
    @reading
    def result(self) -> Any:
        """What the plugin returned; a copy.

        Raises:
            CallNotFinal: It has not ended yet.
            CallFailed: With the failure.
            CallCancelled: It was cancelled.
            CallExpired: It was not begun in time.
            ObjectGone: It refers to an object of another database that is not there any more.
        """
        record = self._readable
        match record.state:
            case CallState.SUCCEEDED:
                return self._restored(record.result)
            case CallState.FAILED:
                failure = self.failure
                text = "it failed" if failure is None else f"{failure.type}: {failure.message}"
                raise CallFailed(f"call {self.id}: {text}", failure)
            case CallState.CANCELLED:
                raise CallCancelled(f"call {self.id} was cancelled and has no result")
            case CallState.EXPIRED:
                raise CallExpired(f"call {self.id} was not begun in time and has no result")
        raise CallNotFinal(f"call {self.id} is {self.state}: it has no result yet")

    @property
    def failure(self) -> Failure | None:
        """Why it failed, without the traceback; None if it did not."""
        plain = self._readable.failure
        return None if plain is None else replace(Failure.from_plain(plain), traceback_text="")

    # -- its callbacks ------------------------------------------------------------------------

    @property
    @reading
    def callbacks(self) -> list[CallbackView]:
        """The callback expressions in the order of their declaration."""
        return [
            CallbackView(each.on, each.text, each.state, self._restored(each.value), each.error)
            for each in self._all_callbacks()
        ]

    @property
    def callbacks_failed(self) -> int:
        """How many callback expressions failed."""
        return sum(c.state is CallbackState.FAILED for c in self._readable.all_callbacks())

    @property
    @reading
    def events(self) -> list[Event]:
        """What the call told its owner, oldest first."""
        return [
            Event(number, from_micros(when), source, self._restored(message))
            for number, (when, source, message) in enumerate(self._readable.events, 1)
        ]

    def on_success(self, text: str, /, **names: Any) -> Call:
        """Evaluate the expression when the call has succeeded; ``result`` is its result.

        Args:
            text: The expression: TALES, a path where it begins with no prefix.
            names: Bound for it to use: plain data, and persistent objects that are in a database
                already.

        Raises:
            ExpressionError: The text does not compile; with line and column.
            InvalidArguments: A name cannot be bound to that value.
            CallIsFinal: The call has ended.
            QuotaExceeded: It has too many callbacks.
            TransactionOver: The transaction in which the call was put or got has ended.
        """
        return self._declare("success", text, names)

    def on_failure(self, text: str, /, **names: Any) -> Call:
        """As ``on_success``, when the call has failed; ``failure`` says why."""
        return self._declare("failure", text, names)

    def on_cancel(self, text: str, /, **names: Any) -> Call:
        """As ``on_success``, when the call was cancelled, or has expired."""
        return self._declare("cancel", text, names)

    def on_any(self, text: str, /, **names: Any) -> Call:
        """As ``on_success``, when the call has ended, however."""
        return self._declare("any", text, names)

    def on_event(self, text: str, /, **names: Any) -> Call:
        """As ``on_success``, for each event that the call emits; kept, and not evaluated yet."""
        return self._declare("event", text, names)

    def _declare(self, on: Occasion, text: str, names: dict[str, Any]) -> Call:
        context, state, record = self._writable()
        author = context.access.author() or self._author
        declare(context, state, record, author, on, text, names)
        return self

    def _all_callbacks(self) -> list[Callback]:
        record = self._readable
        return record.all_callbacks() + late_callbacks(self._context.store, record)

    def retry_callbacks(self) -> int:
        """Have the failed callbacks of this final call evaluated again; returns how many.

        Raises:
            CallNotFinal: Nothing of it can have failed yet.
            QuotaExceeded: It was asked for too often.
        """
        return changing.retry_callbacks(*self._writable())

    # -- what its owner may do ----------------------------------------------------------------

    def cancel(self) -> None:
        """Cancel it: at once if it waits, else ask its worker; an ended call is left as it is."""
        changing.cancel(*self._writable())

    def forget(self) -> None:
        """Erase it.

        Raises:
            CallNotFinal: Cancel it first.
            CallNotFound: It was forgotten already.
        """
        changing.forget(*self._writable())

    def send(self, message: Any) -> None:
        """Send plain data to a session call.

        Raises:
            CallIsFinal: It has ended.
            QuotaExceeded: Too many messages, or bytes of them, wait to be read.
            InvalidArguments: The message cannot be stored.
        """
        changing.send(*self._writable(), message)

    # -- for the page and the JSON API --------------------------------------------------------

    @reading
    def to_dict(self) -> dict[str, Any]:
        """The call as plain JSON data, for its owner."""
        base_path = self._context.access.base_path
        return as_json(self, self._readable, self._all_callbacks(), base_path)


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
