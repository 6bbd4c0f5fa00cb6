# SPDX-License-Identifier: ZPL-2.1
"""What others implement for us: who somebody is, and what they may do.

These are Protocols, so that an application implements one without importing
anything of ours. Nothing here runs; nothing here imports the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .security import Principal
    from .store import Store


class Identity(Protocol):
    """Tells from a WSGI environ who makes the request.

    Called in the request's thread each time that it is to be known, which may
    be several times in one request: nothing is kept from one attempt of the
    host to the next. A configured identity is final: ``None`` and empty text
    mean anonymous, no other source is asked, and an exception is raised where
    it was to be known, so that the request fails.
    """

    def __call__(self, environ: Mapping[str, Any], /) -> Principal | str | None:
        """The principal, the bare id of one of the default source, or nobody."""


@runtime_checkable
class SecurityPolicy(Protocol):
    """Decides what a principal may do, afresh each time it is asked.

    Called in whatever thread and transaction the decision is for. A policy
    that reads persistent objects calls ``readCurrent`` on them, so that a
    change of rights that commits meanwhile makes the decision's own
    transaction conflict.  ``Unauthorized`` is the only exception that means
    no; any other one means that nobody knows, and what was asked for waits.
    It answers at once: what an ``async def`` returns is no answer, but an error.

    A policy that keeps no current user anywhere may say ``stateless = True``:
    callbacks of several owners are then evaluated in one transaction, which
    is faster. Without it each owner has transactions of their own.
    """

    def principal_now(self, principal: Principal, root: Any, /) -> Principal:
        """The same owner as the application knows it at this moment.

        Raises `Unauthorized` when the owner is gone or disabled.
        """

    def allows(self, principal: Any, permission: str, object: Any, /) -> bool:
        """Whether the principal has the permission on this object, now."""

    def root_for(self, principal: Principal, root: Any, /) -> Any:
        """The object that expressions of this principal see as ``root``.

        ``None`` gives them none.  ``root`` is the root of the database.
        """


@runtime_checkable
class HostExposure(Protocol):
    """A policy that also knows the host's own declarations for attributes.

    Zope's AccessControl is one: it decides about values, not about permission
    names. A `SecurityPolicy` that has this method as well is asked where
    neither ``expose`` nor a ``zope.security`` checker speaks.
    """

    def exposes(self, principal: Any, object: Any, name: str, /) -> bool:
        """Whether the principal may reach (and call) ``name`` of the object.

        ``name`` may be ``__getitem__``, ``__len__``, ``__iter__`` or
        ``__contains__`` for those operations, and never another name that
        begins with an underscore. An empty name asks whether the object may
        be held at all.
        """


class Access(Protocol):
    """How a call manager reaches transaction, database and user.

    One object for a request, or for a worker's completing transaction. Everything is resolved
    anew at each use: a host may run a request several times, and nothing of one attempt may be
    seen in the next. Used in one thread at a time.
    """

    @property
    def base_path(self) -> str:
        """What links to calls begin with, such as ``/app/_zasync``."""

    @property
    def is_over(self) -> bool:
        """Whether a connection of ours is closed, and may be somebody else's by now.

        That a connection of the host's is closed can be seen from it, and need not be told.
        """

    def seen_in(self, environ: Mapping[str, Any]) -> bool:
        """The manager was found in this environ; whether that is a copy of the request's own."""

    def transaction(self) -> Any:
        """The current transaction (``transaction.interfaces.ITransaction``).

        Raises `TransactionOver` when the one that we own has ended, and `ConfigurationError`
        when its owner cannot be told.
        """

    def beside(self) -> Any | None:
        """A transaction of ours that the request has begun beside the current one, if it has."""

    def application_connection(self) -> Any:
        """The ZODB connection that the application uses, or ours, opened at first need."""

    def store_connection(self) -> Any:
        """The connection that holds the calls: database ``zasync`` if there is one.

        Raises `ConfigurationError` when there is no connection, or more than one.
        """

    def authenticated(self, environ: Mapping[str, Any] | None = None) -> Principal | None:
        """Who makes this request; an exception of a configured identity propagates.

        ``environ`` is the copy of the request's own that is asked about, if it is one.
        """

    def author(self) -> Principal | None:
        """The user who wrote the restricted code that asks; None: the application does.

        Raises `Unauthorized` when the host says that such code may not ask for calls.
        """

    def bind(self, connection: Any) -> None:
        """Use this connection, and its transaction, until that transaction ends."""

    def claim_lane(self, store: Store) -> int:
        """Claim a lane for this process, in a small transaction beside the current one."""
