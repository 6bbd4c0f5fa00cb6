# SPDX-License-Identifier: ZPL-2.1
"""What an owner does to a call that is there: cancel it, forget it, and so on.

It goes to the record of a call that waits or has ended, and to the mailbox of one that runs: no
request's write may make hours of work run again. Everything that can be wrong is found before
anything is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..call import CallRecord
from ..errors import CallIsFinal, CallNotFinal, CallNotFound, QuotaExceeded
from ..states import CallbackState
from ..values import Storing
from .context import CallContext, PutState


def cancel(context: CallContext, state: PutState, record: CallRecord) -> None:
    """Cancel a call: at once while it waits, else ask its worker; final ones are left alone."""
    if record.is_final:
        return
    if context.store.running(record) is not None:
        mail = context.store.mail(record)
        if not mail.cancel_requested:
            context.store.write_mail(record, replace(mail, cancel_requested=True))
            context.written(state, record, "asked to cancel")
        return
    record.cancel(context.now())
    lane = context.lane(state)
    context.store.count_end(context.store.site.lanes[lane].tallies, record)
    # Also without callbacks: what its worker may have begun a moment ago is to stop.
    context.store.post_note(record, lane)
    context.written(state, record, "cancelled")


def forget(context: CallContext, state: PutState, record: CallRecord) -> None:
    """Erase a final call; see ``Call.forget`` for what it raises."""
    if record.forgotten:
        raise CallNotFound(f"call {record.id} was forgotten already")
    if not record.is_final:
        raise CallNotFinal(f"call {record.id} is {context.store.state_of(record)}: cancel it first")
    plugin = record.plugin
    context.store.forget(record, context.store.site.lanes[context.lane(state)].tallies)
    context.written(state, record, "forgotten", plugin)


def retry_callbacks(context: CallContext, state: PutState, record: CallRecord) -> int:
    """Have failed callbacks evaluated again; see ``Call.retry_callbacks`` for what it raises."""
    if not record.is_final:
        raise CallNotFinal(
            f"call {record.id} is {context.store.state_of(record)}: no callback has failed yet"
        )
    callbacks = record.all_callbacks()
    failed = sum(c.state is CallbackState.FAILED for c in callbacks)
    if not failed:
        return 0
    limit = context.deployment.quotas.max_owner_retries
    if record.callback_retries >= limit:
        raise QuotaExceeded(
            f"the callbacks of call {record.id} were retried {limit} times", "max_owner_retries"
        )
    record.callback_retries += 1
    record.set_callbacks(
        [
            replace(c, state=CallbackState.PENDING, error=None)
            if c.state is CallbackState.FAILED
            else c
            for c in callbacks
        ]
    )
    context.store.post_note(record, context.lane(state))
    context.written(state, record, "asked for its callbacks again")
    return failed


def send(context: CallContext, state: PutState, record: CallRecord, message: Any) -> None:
    """Leave a message for a session call; see ``Call.send`` for what it raises."""
    store = context.store
    if record.is_final:
        raise CallIsFinal(f"call {record.id} is {record.state}: nobody reads messages any more")
    mail = store.mail(record)
    quotas = context.deployment.quotas
    stored = Storing(None, max_bytes=quotas.max_message_bytes).stored(message, "message")
    if len(mail.messages) >= quotas.max_unsent_messages:
        raise QuotaExceeded(
            f"{quotas.max_unsent_messages} messages wait already", "max_unsent_messages"
        )
    messages = (*mail.messages, stored)
    store.write_mail(record, replace(mail, messages=messages))
    context.written(state, record, "sent a message")
