# SPDX-License-Identifier: ZPL-2.1
"""Putting: from a plugin's name and arguments to a record in the request's transaction.

Everything that can be wrong is found before anything is written.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, NamedTuple

from ..call import PRIORITIES, SEED_BYTES, CallRecord, from_micros
from ..errors import (
    ConfigurationError,
    DuplicateCall,
    InvalidArguments,
    QuotaExceeded,
    Unauthorized,
)
from ..plugins import PluginDeclaration, check_arguments, unknown
from ..security import SESSION_SOURCE, Principal, decided, principal_now
from ..values import Storing, persistent_objects
from .changing import cancel
from .context import CallContext, PutState, changes_of
from .options import NO_OPTIONS, PutOptions


class Lineage(NamedTuple):
    """Where a call that another one's callback puts comes from."""

    #: How many calls led to it, and the id of the first of them.
    depth: int
    ancestor: str
    #: The user who wrote the text that puts it, if it was one.
    author: tuple[str, str] | None = None


#: Of what no call has put.
NO_LINEAGE = Lineage(0, "")


def put_call(
    context: CallContext,
    state: PutState,
    owner: Principal,
    plugin: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: PutOptions,
    *,
    lineage: Lineage = NO_LINEAGE,
) -> CallRecord:
    """Write a call in this transaction; see ``CallManager.put`` for what it raises."""
    if type(plugin) is not str:
        raise InvalidArguments(
            f"the plugin's name must be text, not {type(plugin).__name__}: give the one that it "
            "was declared with",
            path="plugin_name",
        )
    deployment, store = context.deployment, context.store
    declaration = _declaration(context, plugin, args, kwargs)
    root = context.access.application_connection().root()
    now = principal_now(deployment.policy, owner, root)
    # Tells what to write: the record that is stored comes last.
    record = CallRecord()
    record.seed = seed = os.urandom(SEED_BYTES)
    sealer = deployment.sealer
    storing = Storing(
        store.connection,
        max_bytes=deployment.quotas.max_argument_bytes,
        seal=None if sealer is None else lambda secret: sealer.seal(secret, seed),
    )
    if args:
        record.args = storing.stored(args, "args")
    if kwargs:
        record.kwargs = storing.stored(kwargs, "kwargs")
    record.plugin = plugin
    record.owner = owner.owner
    record.size = storing.size
    if owner.title is not None:
        record.owner_title = owner.title
    _check_permission(context, now, declaration, (args, kwargs), root)
    author = context.access.author()
    if author is not None:
        _check_restricted(context, author, plugin, declaration, (args, kwargs), root)
        lineage = lineage._replace(author=author.owner)
    record.created = context.now()
    existing = None
    if options is not NO_OPTIONS:
        _set_options(context, record, options)
        existing = _existing(context, record, options)
        if existing is not None and options.on_duplicate != "replace":
            return existing
    _check_quota(context, record, replaced=0 if existing is None else 1)
    if lineage != NO_LINEAGE:
        _set_lineage(context, record, lineage)
    if existing is not None:
        cancel(context, state, existing)
    store.make()
    gone = store.gone_since(record.owner)
    if gone is not None:
        # Else a clock that was put back would hide it with what an earlier owner of the name had.
        record.created = max(record.created, gone + 1)
    lane = context.lane(state)
    changes = changes_of(store.connection)
    record = store.add(record, lane)
    if record.unique is not None:
        store.set_unique(record.unique, record)
    state.note_changes(store.connection, changes)
    state.add(record)
    context.written(state, record, "put")
    return record


def _declaration(
    context: CallContext, plugin: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> PluginDeclaration | None:
    """What is known of the plugin here; None if only workers have it."""
    registry = context.deployment.registry
    declaration, parameters = None, None
    if plugin in registry:
        try:
            declaration = registry.declaration(plugin)
            parameters = declaration.parameters
        except ConfigurationError:
            # It cannot be imported here. If a worker can, that is where it belongs.
            if plugin not in context.store.published():
                raise
    if parameters is None:
        published = context.store.published()
        if declaration is None and plugin not in published:
            raise unknown(plugin, {*registry.names(), *published})
        parameters = published.get(plugin)
    if parameters is not None:
        check_arguments(plugin, parameters, args, kwargs)
    return declaration


def _check_permission(
    context: CallContext,
    owner: Principal,
    declaration: PluginDeclaration | None,
    values: Any,
    root: Any,
) -> None:
    permission = None if declaration is None else declaration.permission
    if permission is None and owner.source == SESSION_SOURCE:
        raise Unauthorized("a plugin without a permission is not for anonymous owners: log in")
    check_permission(context.deployment.policy, owner, permission, values, root)


def _check_restricted(
    context: CallContext,
    author: Principal,
    plugin: str,
    declaration: PluginDeclaration | None,
    values: Any,
    root: Any,
) -> None:
    """Require that restricted code may put this call, and so might its author."""
    if declaration is None or not declaration.restricted:
        raise Unauthorized(
            f"plugin {plugin!r} is not open to restricted code: that takes restricted = yes in "
            f"[plugin:{plugin}]"
        )
    author = principal_now(context.deployment.policy, author, root)
    _check_permission(context, author, declaration, values, root)


def check_permission(
    policy: Any, owner: Principal, permission: str | None, values: Any, root: Any
) -> None:
    """Require the permission, if there is one, on every persistent object in ``values``.

    Where there is none among them, it is required on what the policy gives the owner as root.

    Raises:
        Unauthorized: The owner lacks it on one of them.
    """
    if permission is None:
        return
    objects = persistent_objects(values) or [policy.root_for(owner, root)]
    for found in objects:
        if not decided(policy.allows(owner, permission, found)):
            raise Unauthorized(
                f"{owner.id!r} needs the permission {permission!r} for this call on every object "
                "in its arguments"
            )


def _set_options(context: CallContext, record: CallRecord, options: PutOptions) -> None:
    now = from_micros(record.created)
    options.check_ahead(now, context.deployment.quotas.max_ahead)
    changes = {
        "due": options.micros("begin_after", now),
        "expires": options.micros("expires", now),
        "timeout": options.timeout,
        "keep": options.keep,
        "title": options.title,
        "retry": None if options.retry is None else options.retry.to_plain(),
    }
    for name, value in changes.items():
        if value is not None:
            setattr(record, name, value)
    if options.queue != "default":
        record.queue = options.queue
    if options.priority != "normal":
        record.priority = PRIORITIES.index(options.priority)
    if options.unique is not None:
        record.unique = _digest(context, record, options.unique)
    elif options.on_duplicate != "return":
        # Not when it is said: the key may come with the options of a single put.
        raise InvalidArguments(
            f"on_duplicate = {options.on_duplicate} does nothing without unique: say by what a "
            "call is known again",
            path="on_duplicate",
        )


def _digest(context: CallContext, record: CallRecord, key: str) -> bytes:
    """The unique key of owner, plugin and key; keyed, so that nobody can aim at one tree."""
    parts = [*record.owner, record.plugin, key]
    text = b"".join(len(p.encode()).to_bytes(4, "big") + p.encode() for p in parts)
    return hashlib.blake2b(text, digest_size=16, key=context.store.site.hash_key).digest()


def _existing(context: CallContext, record: CallRecord, options: PutOptions) -> CallRecord | None:
    """The open call with the same key, as ``on_duplicate`` wants it."""
    if record.unique is None:
        return None
    found = context.store.unique_call(record.unique)
    if found is None or found.owner != record.owner:
        return None
    if options.on_duplicate == "raise":
        raise DuplicateCall(f"call {found.id} has this unique key and is not final", found.id)
    return found


def _check_quota(context: CallContext, record: CallRecord, replaced: int = 0) -> None:
    quotas, headroom = context.deployment.quotas, context.deployment.headroom
    if headroom.spend(record.owner, record.size):
        return
    tally = context.store.tally(record.owner)
    rooms = {
        "max_open_calls": quotas.max_open_calls - tally.open + replaced,
        "max_stored_calls": quotas.max_stored_calls - tally.stored,
        "max_owner_bytes": quotas.max_owner_bytes - tally.bytes,
    }
    needed = {"max_open_calls": 1, "max_stored_calls": 1, "max_owner_bytes": record.size}
    for limit, room in rooms.items():
        if room < needed[limit]:
            raise QuotaExceeded(
                f"owner {record.owner[1]!r} has reached {limit} = {getattr(quotas, limit):,}; "
                "nothing was put: wait for calls to end, or forget some",
                limit,
            )
    calls = min(rooms["max_open_calls"], rooms["max_stored_calls"]) - 1
    headroom.grant(record.owner, calls, rooms["max_owner_bytes"] - record.size)


def _set_lineage(context: CallContext, record: CallRecord, lineage: Lineage) -> None:
    depth, ancestor, author = lineage
    quotas = context.deployment.quotas
    if depth > quotas.max_depth:
        raise QuotaExceeded(f"calls put by calls go at most {quotas.max_depth} deep", "max_depth")
    if context.store.descendants(ancestor) >= quotas.max_descendants:
        raise QuotaExceeded(
            f"call {ancestor} has {quotas.max_descendants:,} descendants already", "max_descendants"
        )
    record.depth, record.ancestor = depth, ancestor
    if author is not None:
        record.author = author
