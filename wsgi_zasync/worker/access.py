# SPDX-License-Identifier: ZPL-2.1
"""What callbacks may do beside reading: ``put``, ``emit``, and the call that they belong to.

Transaction: the one that evaluates them. User: the call's owner, and where a user wrote the
text, its author too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transaction.interfaces import TransientError

from ..call import CallRecord, Failure
from ..context import CallContext
from ..deployment import Deployment
from ..errors import ConfigurationError, QuotaExceeded, Unauthorized, ZasyncError
from ..exposure import expose, exposed
from ..expressions import CannotDecide
from ..lines import owner_text
from ..manager import CallManager
from ..putting import Lineage, check_permission
from ..security import Principal
from ..states import CallState
from ..store import Store
from ..values import Storing
from ..view import Call, Progress
from .desk import Writing

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


@dataclass(frozen=True, slots=True)
class WorkerAccess:
    """How a call manager reaches the transaction of a worker (``ports.Access``)."""

    writing: Writing
    principal: Principal
    claim: Callable[[], int]
    base_path: str = ""
    #: A worker's connection is its own from its start to its end.
    is_over: bool = False

    def seen_in(self, environ: Mapping[str, Any]) -> bool:
        """False: no environ leads to a worker's manager."""
        return False

    def transaction(self) -> Any:
        """The transaction that records the outcome."""
        return self.writing.transaction

    def beside(self) -> None:
        """None: a worker completes a call in one transaction."""

    def application_connection(self) -> Any:
        """The worker's own connection to the application's database."""
        return self.writing.connection

    def store_connection(self) -> Any:
        """The connection that the outcome is written by."""
        return self.writing.store.connection

    def authenticated(self, environ: Mapping[str, Any] | None = None) -> Principal | None:
        """The owner of the call."""
        return self.principal

    def author(self) -> None:
        """None: no host's code runs here."""

    def bind(self, connection: Any) -> None:
        """Refused: a callback has its transaction.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("a callback's transaction is the worker's: nothing can be bound")

    def claim_lane(self, store: Store) -> int:
        """Claim a lane, in a small transaction of another connection."""
        return self.claim()


def names_to_act(
    deployment: Deployment,
    writing: Writing,
    record: CallRecord,
    owner: Principal,
    author: Principal | None,
) -> dict[str, Any]:
    """``call``, ``failure`` where there is one, ``put`` and ``emit``; for one callback."""
    access = WorkerAccess(writing, owner, writing.claim)
    context = CallContext(access=access, deployment=deployment, store=writing.store, owner=owner)
    names: dict[str, Any] = {"call": ReadableCall(record, context)}
    if record.state == CallState.FAILED and record.failure is not None:
        names["failure"] = Failure.from_plain(record.failure)
    written_by = None if author is None else author.owner
    lineage = Lineage(record.depth + 1, record.ancestor or record.id, written_by)
    manager = CallManager(access, deployment, lineage=lineage)
    quotas = deployment.quotas
    made_here: list[ReadableCall] = []
    source = "callback" if author is None else f"callback of {owner_text(author.owner)}"

    def put(plugin_name: str, /, *args: Any, **kwargs: Any) -> ReadableCall:
        """Make another call as the same owner, in the same transaction."""
        if len(made_here) >= quotas.max_callback_puts:
            raise QuotaExceeded(
                f"a callback puts at most max_callback_puts = {quotas.max_callback_puts} calls",
                "max_callback_puts",
            )
        declaration = deployment.registry.declaration(plugin_name)
        if not declaration.expressions or declaration.permission is None:
            raise Unauthorized(
                f"plugin {plugin_name!r} is not open to expressions: that takes a permission and "
                f"expressions = yes in [plugin:{plugin_name}]"
            )
        try:
            if author is not None:
                check_permission(
                    deployment.policy, author, declaration.permission, (args, kwargs), writing.root
                )
            made = manager.put(plugin_name, *args, **kwargs)
        except (ZasyncError, TransientError):
            raise
        except Exception as exc:
            # The policy: what it cannot tell now is neither allowed nor refused.
            raise CannotDecide("the policy could not decide") from exc
        made_here.append(ReadableCall(made._record, made._context))
        return made_here[-1]

    def emit(message: Any, /) -> None:
        """Tell the owner something: plain data, kept with the call."""
        if len(record.events) >= quotas.max_events:
            raise QuotaExceeded(
                f"a call keeps at most max_events = {quotas.max_events}", "max_events"
            )
        storing = Storing(None, max_bytes=quotas.max_event_bytes)
        stored = storing.stored(message, "message")
        record.tell(deployment.clock.micros(), source, stored, storing.size)
        writing.store.count_bytes(writing.tallies, record, storing.size)

    names["put"] = exposed(put, name="put")
    names["emit"] = exposed(emit, name="emit")
    return names
