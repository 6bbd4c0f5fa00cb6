# SPDX-License-Identifier: ZPL-2.1
"""How a call manager reaches the transaction of a worker, for the owner of one call.

Transaction: the one that evaluates that call's callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from ..security import Principal
from ..store import Store
from .desk import Writing


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
