# SPDX-License-Identifier: ZPL-2.1
"""Decides, just before an attempt, whether it may be made, and with what.

Transaction: the attempt's own where the plugin has one, else one of the acceptor's that writes
nothing. User: the owner with the authority of now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError

from ..call import CallRecord
from ..deployment import Deployment
from ..errors import ConfigurationError, InvalidArguments, ObjectGone, Unauthorized
from ..expressions import CannotDecide
from ..manager.putting import check_permission
from ..plugins import PluginDeclaration
from ..sealing import Sealed, Secret
from ..security import AnotherPrincipal, Principal
from ..store.reading import why_unreadable
from ..values import persistent_objects, restored
from .attempt import Attempt
from .callbacks.authority import Authority, principal_of
from .completion import UNDECIDED_DELAY, own_policy, unauthorized
from .desk import Writing
from .held import Held, Order, Outcome
from .redaction import failure_from, shown, text_of


@dataclass(frozen=True, slots=True)
class Beginning:
    """Makes orders of held calls."""

    deployment: Deployment
    #: For attempts whose call and plugin say nothing, in seconds.
    timeout_seconds: float

    def order(
        self, writing: Writing, held: Held, *, has_begun: bool = False
    ) -> Order | Outcome | None:
        """The order for the next attempt; or the outcome without one; None if it has ended.

        Args:
            writing: The transaction.
            held: The call.
            has_begun: Whether this very attempt has begun before, in a transaction that could not
                be committed.
        """
        record = writing.record(held)
        if why_unreadable(record) is not None or not held.is_of(record):
            return Outcome(parked=True)
        if record.forgotten or record.is_final:
            return None
        now = self.deployment.clock.micros()
        if writing.store.mail(record).cancel_requested:
            return Outcome(cancelled=True)
        if record.has_expired(now) and not has_begun:
            return Outcome(expired=True)
        authority = Authority(self.deployment.policy, writing.connection)
        try:
            named = principal_of(record.owner, record.owner_title)
            owner = authority.principal_now(named, writing.root)
        except Unauthorized as exc:
            failure = unauthorized(exc, record.attempts, self.deployment)
            return Outcome(failure=failure, owner_gone=not isinstance(exc, AnotherPrincipal))
        except CannotDecide as exc:
            return _undecided(record, str(exc), exc)
        return self._allowed(writing, held, record, authority, owner, now)

    def _allowed(
        self,
        writing: Writing,
        held: Held,
        record: CallRecord,
        authority: Authority,
        owner: Principal,
        now: int,
    ) -> Order | Outcome:
        declaration = self.deployment.registry.declaration(record.plugin)
        permission, root = declaration.permission, writing.root
        secrets: list[str] = []
        try:
            args, kwargs = self.arguments(record, writing.store.connection, secrets)
            _check_references(declaration, (args, kwargs))
            check_permission(authority, owner, permission, (args, kwargs), root)
            if record.author is not None:
                author = authority.principal_now(principal_of(record.author), root)
                check_permission(authority, author, permission, (args, kwargs), root)
        except TransientError:
            raise
        except Unauthorized as exc:
            return Outcome(failure=unauthorized(exc, record.attempts, self.deployment))
        except InvalidArguments as exc:
            reason = shown(text_of(exc), secrets)
            if isinstance(exc, ObjectGone) and record.waiting_reason != reason:
                # It may be new, and the commit to its database come after that of the calls'.
                return Outcome(wait=(reason, UNDECIDED_DELAY))
            failure = failure_from(
                exc, attempt=record.attempts, when=self.deployment.clock.now(), secrets=secrets
            )
            return Outcome(failure=failure)
        except Exception as exc:  # noqa: BLE001 - nobody knows, and so it waits
            reason = f"it cannot be decided whether it may run: {shown(text_of(exc), secrets)}"
            return _undecided(record, reason, exc)
        attempt = Attempt(
            call_id=held.call_id,
            number=record.attempts + 1,
            principal=owner,
            idempotency_key=record.idempotency_key,
            settings=declaration.settings,
            root=root if declaration.runs == "transaction" else None,
        )
        return Order(
            held=held,
            attempt=attempt,
            declaration=declaration,
            started=now,
            handed_out=self.deployment.clock.monotonic(),
            timeout_seconds=record.timeout or declaration.timeout or self.timeout_seconds,
            args=args,
            kwargs=kwargs,
            secrets=tuple(secrets),
            retry=own_policy(record),
            interruptions=record.interruptions,
        )

    def arguments(
        self, record: CallRecord, connection: Any, secrets: list[str]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for the plugin, secrets opened; their texts are added to ``secrets``."""
        sealer = self.deployment.sealer

        def opened(sealed: Sealed) -> Secret:
            if sealer is None:
                raise ConfigurationError("it has a secret argument, and no secret is configured")
            secret = sealer.open(sealed, record.seed)
            value = secret.reveal()
            secrets.append(value if isinstance(value, str) else value.decode("utf-8", "replace"))
            return secret

        args, kwargs = restored((record.args, record.kwargs), connection, opened)
        return args, kwargs


def _undecided(record: CallRecord, reason: str, error: Exception) -> Outcome:
    """What a call does of which nobody can say now whether it may run."""
    # In a new transaction a conflict is over, mostly. But a policy may always say so.
    is_over = isinstance(error.__cause__, ConflictError) and record.waiting_reason is None
    return Outcome(wait=(reason, 0.0 if is_over else UNDECIDED_DELAY))


def _check_references(declaration: PluginDeclaration, values: Any) -> None:
    if declaration.runs == "reactor" and persistent_objects(values):
        raise InvalidArguments(
            f"plugin {declaration.name!r} runs in the reactor, which has no database: objects "
            'cannot be its arguments; declare it with runs="transaction"',
            path="args",
        )
