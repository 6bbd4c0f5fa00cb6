# SPDX-License-Identifier: ZPL-2.1
"""``zasync cancel``, ``retry``, ``forget`` and ``prune``: what an operator does to calls.

A retried callback is evaluated by a worker as the call's owner, with what the owner may do then.
"""

from __future__ import annotations

from functools import partial

from BTrees.OOBTree import OOBTree

from ..call import CallRecord
from ..errors import CallNotFound, ConfigurationError, ZasyncError
from ..lines import counted
from ..store import pruning
from .operating import Operation, Site, opened, refuse_unknown
from .output import shown, tell

#: Calls that are erased in one transaction.
BATCH = 100


def change(path: str, action: str, ids: list[str]) -> int:
    """Do one thing to several calls; those that it cannot be done to do not stop the others."""
    failed = 0
    with opened(path) as site:
        for call_id in ids:
            try:
                print(f"{shown(call_id)}: {_changed(site, action, call_id)}")
            except ConfigurationError:
                raise
            except ZasyncError as error:
                failed += 1
                tell(error)
    return 1 if failed else 0


def _changed(site: Site, action: str, call_id: str) -> str:
    refuse_unknown(site, call_id)
    work = {"cancel": _cancel, "retry": _retry, "forget": _forget}[action]
    return site.change(f"{action} {call_id[:100]}", lambda operation: work(operation, call_id))


def _cancel(operation: Operation, call_id: str) -> str:
    record = operation.record(call_id)
    call = operation.call(record)
    if call.is_final:
        return f"was {call.state} already"
    call.cancel()
    return "cancelled" if record.is_final else "asked to stop"


def _retry(operation: Operation, call_id: str) -> str:
    call = operation.call(operation.record(call_id))
    again = call.retry_callbacks()
    if not again:
        raise CallNotFound(f"call {call_id[:100]!r} has no failed callback to retry")
    return f"{counted(again, 'callback')} to be evaluated again"


def _forget(operation: Operation, call_id: str) -> str:
    operation.call(operation.record(call_id)).forget()
    return "forgotten"


def prune(path: str, dry_run: bool) -> int:
    """Erase the ended calls of all owners that were kept long enough."""
    with opened(path) as site:
        keep = site.settings.keep
        if not site.has_calls:
            print("no calls")
            return 0
        if dry_run:
            total = site.look(lambda o: sum(1 for _ in pruning.prunable(o.store, _now(o), keep)))
            print(f"{counted(total, 'call')} would be forgotten")
            return 0
        total = 0
        begin: pruning.Position | None = pruning.Position()
        while begin is not None:
            part = site.change("prune", partial(_prune, keep=keep, begin=begin))
            total, begin = total + part.count, part.next
        print(f"{counted(total, 'call')} forgotten; packing the storage frees their space")
    return 0


def _prune(operation: Operation, keep: float, begin: pruning.Position) -> pruning.Pruned:
    store = operation.store

    def tallies(record: CallRecord) -> OOBTree:
        context = operation.context(record)
        return store.site.lanes[context.lane(context.state())].tallies

    return pruning.prune(store, tallies, _now(operation), keep, begin=begin, limit=BATCH)


def _now(operation: Operation) -> int:
    return operation.deployment.clock.micros()
