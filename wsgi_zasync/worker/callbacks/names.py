# SPDX-License-Identifier: ZPL-2.1
"""The names that a callback expression sees, and what they let it do: read, ``put``, ``emit``.

Transaction: the one that evaluates it. User: the call's owner, and where a user wrote the text,
its author too.
"""

from __future__ import annotations

from typing import Any

from transaction.interfaces import TransientError

from ...call import CallRecord, Failure
from ...callbacks import Callback
from ...deployment import Deployment
from ...errors import PluginClosed, QuotaExceeded, ZasyncError
from ...exposure import expose, exposed
from ...expressions import CannotDecide
from ...lines import owner_text
from ...manager import CallManager
from ...manager.access import ConnectionAccess
from ...manager.context import CallContext
from ...manager.putting import Lineage, check_permission
from ...manager.view import Call, Progress
from ...security import Principal
from ...states import CallState
from ...values import Storing, masked, restored
from ..desk import Writing

# What expressions read of a call: nothing that changes it, and of a failure no traceback.
expose("type", "message", "attempt", "when")(Failure)
expose("fraction", "message")(Progress)
expose(
    "id",
    "plugin",
    "args",
    "kwargs",
    "title",
    "owner",
    "is_final",
    "created",
    "due",
    "expires",
    "started",
    "finished",
    "queue",
    "priority",
    "attempts",
    "progress",
    "result",
    "failure",
    "cancel_requested",
)(Call)


@expose("state")
class ReadableCall(Call):
    """A call as expressions see it: its values are of exact types."""

    @property
    def state(self) -> str:  # type: ignore[override]
        """Where the call stands, as plain text."""
        return str(super().state)


class CallbackNames:
    """What one callback of a call sees."""

    def __init__(
        self,
        deployment: Deployment,
        writing: Writing,
        record: CallRecord,
        owner: Principal,
        author: Principal | None,
    ) -> None:
        """For the call's owner, and the author of the text if a user wrote it, as they are now."""
        self._deployment = deployment
        self._writing = writing
        self._record = record
        self._owner, self._author = owner, author
        self._access = ConnectionAccess(writing.connection, owner, lambda _: writing.claim())
        lineage = Lineage(
            record.depth + 1,
            record.ancestor or record.id,
            None if author is None else author.owner,
        )
        self._manager = CallManager(self._access, deployment, lineage=lineage)
        self._puts = 0

    def of(self, callback: Callback, root: Any) -> dict[str, Any]:
        """The names by which the callback's text knows what it sees.

        Args:
            callback: Whose bound names are among them.
            root: What it sees as ``root``.
        """
        deployment, record, store = self._deployment, self._record, self._writing.store
        context = CallContext(
            access=self._access, deployment=deployment, store=store, owner=self._owner
        )
        names: dict[str, Any] = {
            **deployment.exposed,
            "call": ReadableCall(record, context),
            "put": exposed(self._put, name="put"),
            "emit": exposed(self._emit, name="emit"),
        }
        if record.state == CallState.FAILED and record.failure is not None:
            names["failure"] = Failure.from_plain(record.failure)
        for name, value in callback.names.items():
            names[name] = restored(value, store.connection, masked)
        if record.state == CallState.SUCCEEDED:
            names["result"] = restored(record.result, store.connection, masked)
        return names | {"user": self._owner, "root": root, "now": deployment.clock.now()}

    def _put(self, plugin_name: str, /, *args: Any, **kwargs: Any) -> ReadableCall:
        """Make another call as the same owner, in the same transaction."""
        deployment, most = self._deployment, self._deployment.quotas.max_callback_puts
        if self._puts >= most:
            raise QuotaExceeded(
                f"a callback puts at most max_callback_puts = {most} calls", "max_callback_puts"
            )
        declaration = deployment.registry.declaration(plugin_name)
        if not declaration.expressions or declaration.permission is None:
            raise PluginClosed(
                f"plugin {plugin_name!r} is not open to expressions: that takes a permission and "
                f"expressions = yes in [plugin:{plugin_name}]"
            )
        try:
            if self._author is not None:
                check_permission(
                    deployment.policy,
                    self._author,
                    declaration.permission,
                    (args, kwargs),
                    self._writing.root,
                )
            made = self._manager.put(plugin_name, *args, **kwargs)
        except (ZasyncError, TransientError):
            raise
        except Exception as exc:
            # The policy: what it cannot tell now is neither allowed nor refused.
            raise CannotDecide("the policy could not decide") from exc
        self._puts += 1
        return ReadableCall(made._record, made._context)

    def _emit(self, message: Any, /) -> None:
        """Tell the owner something: plain data, kept with the call."""
        quotas, record, author = self._deployment.quotas, self._record, self._author
        if len(record.events) >= quotas.max_events:
            raise QuotaExceeded(
                f"a call keeps at most max_events = {quotas.max_events}", "max_events"
            )
        source = "callback" if author is None else f"callback of {owner_text(author.owner)}"
        storing = Storing(None, max_bytes=quotas.max_event_bytes)
        stored = storing.stored(message, "message")
        record.tell(self._deployment.clock.micros(), source, stored, storing.size)
        self._writing.store.count_bytes(self._writing.tallies, record, storing.size)
