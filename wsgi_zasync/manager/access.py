# SPDX-License-Identifier: ZPL-2.1
"""How a call manager reaches one open connection, for one user, without any request.

What a poll, a worker's callback, an operator's command and a test have in common: the connection
is theirs, and so is the transaction that it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigurationError, TransactionOver
from ..security import Principal
from ..store import Store
from ..store.databases import calls_connection


class ConnectionAccess:
    """``ports.Access`` of a connection, in whatever transaction that is."""

    def __init__(
        self,
        connection: Any,
        principal: Principal | None,
        claim: Callable[[Store], int],
        *,
        base_path: str = "",
    ) -> None:
        """Use this open connection.

        Args:
            connection: To the application's database.
            principal: Who is logged in; None: nobody.
            claim: Claims a lane of the store for this process, in a small transaction of another
                connection.
            base_path: What links to calls begin with.
        """
        self.base_path = base_path
        self.principal = principal
        self._connection = connection
        self._opened = connection.opened
        self._claim = claim

    @property
    def is_over(self) -> bool:
        """Whether the connection was closed, or opened again since."""
        return bool(self._connection.opened != self._opened)

    def seen_in(self, environ: Mapping[str, Any]) -> bool:
        """False: no environ leads to this manager."""
        return False

    def transaction(self) -> Any:
        """The transaction that the connection is in.

        Raises:
            TransactionOver: The connection was closed.
        """
        if self._connection.opened is None:
            raise TransactionOver(
                "the connection of this call manager is closed, and its transaction over: make "
                "another one, and find calls by their ids"
            )
        return self._connection.transaction_manager.get()

    def beside(self) -> None:
        """None: there is no other."""

    def application_connection(self) -> Any:
        """The connection itself."""
        return self._connection

    def store_connection(self) -> Any:
        """The connection to the database that holds the calls."""
        return calls_connection(self._connection)

    def authenticated(self, environ: Mapping[str, Any] | None = None) -> Principal | None:
        """The user given."""
        return self.principal

    def author(self) -> None:
        """None: no host's code asks."""

    def bind(self, connection: Any) -> None:
        """Refuse: there is no application here that could bind one.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(
            "this call manager has a connection and a transaction of its own: nothing can be bound"
        )

    def claim_lane(self, store: Store) -> int:
        """Claim a lane for this process, in a small transaction of another connection."""
        return self._claim(store)
