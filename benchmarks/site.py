# SPDX-License-Identifier: ZPL-2.1
"""A process that puts: connection, transaction and call manager, as a request has them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

from transaction import TransactionManager

from wsgi_zasync import CallManager, Principal, plugin
from wsgi_zasync.deployment import Deployment
from wsgi_zasync.plugins import Registry
from wsgi_zasync.settings import Quotas
from wsgi_zasync.store import Store, open_store
from wsgi_zasync.web.transactions import claim_lane

#: What an application passes typically: 200 bytes.
ARGUMENT = "x" * 200

#: No quota is to be met here.
QUOTAS = Quotas(max_open_calls=10**9, max_stored_calls=10**9, max_owner_bytes=10**9)


@plugin("bench.noop", runs="reactor")
def noop(attempt: Any, argument: str) -> int:
    """Do nothing."""
    return len(argument)


@plugin("bench.effect", runs="transaction")
def effect(attempt: Any, argument: str) -> int:
    """Write an object of the application's."""
    effects = attempt.root["bench_effects"]
    effects[attempt.call_id] = effects.get(attempt.call_id, 0) + 1
    return len(argument)


#: The callbacks of ``bench.hostile`` fail on purpose; by its name the log can leave them out.
PLUGINS = {"bench.noop": noop, "bench.hostile": noop, "bench.effect": effect}


class Site:
    """One process of a site; its ``access`` is its own single-threaded one."""

    base_path = "/_zasync"

    def __init__(self, db: Any, owners: int = 1) -> None:
        self._db = db
        self._manager = TransactionManager(explicit=True)
        self._connection = db.open(self._manager)
        self.owners = [Principal(f"owner{n}") for n in range(owners)]
        self._turns = itertools.cycle(self.owners)
        self._owner = self.owners[0]
        self.deployment = Deployment(registry=Registry(PLUGINS, installed=False), quotas=QUOTAS)
        self.calls = CallManager(self, self.deployment)

    @contextlib.contextmanager
    def request(self) -> Iterator[CallManager]:
        """A transaction, as a request would have it."""
        self._owner = next(self._turns)
        self._manager.begin()
        try:
            yield self.calls
            self._manager.commit()
        except BaseException:
            self._manager.abort()
            raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[Store]:
        """The store, in a transaction that is aborted."""
        self._manager.begin()
        try:
            yield open_store(self._connection)
        finally:
            self._manager.abort()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # what a call manager asks of its request

    is_over = False

    def transaction(self) -> Any:
        """The current transaction."""
        return self._manager.get()

    def application_connection(self) -> Any:
        """The one connection."""
        return self._connection

    store_connection = application_connection

    def authenticated(self, environ: Any = None) -> Principal:
        """The owner whose turn it is."""
        return self._owner

    def beside(self) -> None:
        """There is one transaction."""

    def author(self) -> None:
        """The application asks, and no code of a user's."""

    def bind(self, connection: Any) -> None:
        """Nothing else can be bound here."""
        raise NotImplementedError

    def claim_lane(self, store: Any) -> int:
        """As the middleware does."""
        return claim_lane(self._db, store.site.name, "bench")
