# SPDX-License-Identifier: ZPL-2.1
"""Declaring a callback expression on a call that has not ended.

It goes to the record in the transaction that puts the call, and to the call's mailbox later, when
a worker may be at the record. Everything that can be wrong is found before anything is written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..call import CallRecord
from ..callbacks import RESERVED, Callback, Occasion
from ..errors import CallIsFinal, InvalidArguments, QuotaExceeded
from ..expressions.expression import compile_expression
from ..security import Principal
from ..store import Store
from ..values import Storing, stored_size
from .context import CallContext, PutState


def declare(
    context: CallContext,
    state: PutState,
    record: CallRecord,
    author: Principal | None,
    on: Occasion,
    text: str,
    names: dict[str, Any],
) -> None:
    """Declare one; see ``Call.on_success`` for what it raises.

    Args:
        context: Where and for whom.
        state: Of this transaction.
        record: The call's.
        author: Who wrote the text, when that is a user; None: the application.
        on: When to evaluate it.
        text: TALES.
        names: Bound to values, for the text to use.
    """
    if record.is_final:
        raise CallIsFinal(f"call {record.id} is {record.state}: it is too late for a callback")
    quotas = context.deployment.quotas
    if type(text) is not str:
        raise InvalidArguments("the expression must be text", path="text")
    is_last = state.is_last(record)
    # What this transaction puts has no mail yet.
    is_new = is_last or state.has_put(record)
    late = [] if is_new else late_callbacks(context.store, record)
    if len(record.callbacks) + len(late) >= quotas.max_callbacks:
        raise QuotaExceeded(
            f"a call has at most max_callbacks = {quotas.max_callbacks}", "max_callbacks"
        )
    if len(text) > quotas.max_expression_length:
        raise QuotaExceeded(
            f"an expression has at most {quotas.max_expression_length:,} characters",
            "max_expression_length",
        )
    compile_expression(text)
    if author is None:
        context.deployment.texts.note(text)
    stored, size = _stored_names(context, record, late, names) if names else (names, 0)
    callback = Callback.declared(on, text, stored, None if author is None else author.owner)
    if not is_new:
        mail = context.store.mail(record)
        context.store.write_mail(record, replace(mail, callbacks=(*mail.callbacks, callback)))
        return
    size += len(text)
    record.size += size
    record.callbacks = (*record.callbacks, callback)
    if is_last:
        record.bytes_put += size
    else:
        context.store.count_more(record, size)


def late_callbacks(store: Store, record: CallRecord) -> list[Callback]:
    """Those that were declared after the put, and that no worker has read yet."""
    late = store.mail(record).callbacks[record.late_callbacks :]
    return [Callback.from_plain(plain) for plain in late]


def _stored_names(
    context: CallContext, record: CallRecord, late: list[Callback], names: dict[str, Any]
) -> tuple[dict[str, Any], int]:
    """The values of bound names in stored form, and what they count for."""
    for name in names:
        if name.startswith("_"):
            raise InvalidArguments(
                f"no expression can read the name {name!r}, which begins with _: bind another",
                path=name,
            )
        if name in RESERVED or name in context.deployment.exposed:
            raise InvalidArguments(f"the name {name!r} is taken: bind another", path=name)
    used = record.size + sum(len(each.text) + stored_size(each.names) for each in late)
    room = context.deployment.quotas.max_argument_bytes - used
    storing = Storing(context.store.connection, max_bytes=room)
    return {name: storing.stored(value, name) for name, value in names.items()}, storing.size
