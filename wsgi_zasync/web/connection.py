# SPDX-License-Identifier: ZPL-2.1
"""How one request reaches database, transaction and user.

Used by the thread that serves the request. Everything is found anew at each use, so that nothing
is carried from one attempt of the host to the next; what belongs to an attempt is kept on its
transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from transaction import ThreadTransactionManager
from ZODB.Connection import Connection

from ..errors import ConfigurationError, TransactionOver
from ..security import Principal
from ..store.databases import calls_connection, calls_database
from . import hosts, pyramid, zope
from .databases import LazyDatabase
from .identity import identify
from .transactions import OwnTransaction, claim_lane, make_store

#: How many copies of a request's environ are remembered, the latest ones.
MAX_COPIES = 4

_NO_ENVIRON: Mapping[str, Any] = {}


def mounted_at(script_name: str) -> str:
    """Where an application is mounted, as the beginning of a path: empty or ``/app``."""
    script = quote(script_name.encode("latin-1", "replace")).strip("/")
    return f"/{script}" if script else ""


class Surroundings:
    """What the requests of one process have in common, as far as it concerns their access."""

    def __init__(
        self,
        database: LazyDatabase,
        *,
        identify: Callable[[Mapping[str, Any]], Principal | None] = identify,
        prefix: str = "/_zasync",
        site: str = "main",
        token: str = "",
        connection: str | Callable[[Mapping[str, Any]], Any] | None = None,
    ) -> None:
        """Keep what is configured.

        Args:
            database: The database that holds the calls, if one is configured.
            identify: Tells from an environ who makes a request.
            prefix: Where our own addresses begin.
            site: The site of the store.
            token: Names this process in the store.
            connection: The environ key of the host's connection, or what finds it.
        """
        self.database = database
        self.site = site
        self.token = token
        self.identify = identify
        self.prefix = prefix
        self.connection = connection
        #: Where none is configured: what a host's connection led to, for the addresses we serve.
        self.seen_database: Any = None
        self._has_store = False

    def base_path(self, script_name: str) -> str:
        """What links to our addresses begin with: a path, never a host."""
        return mounted_at(script_name) + self.prefix

    def any_database(self) -> Any:
        """The configured database, or else the one that a host's connection led to.

        Raises:
            ConfigurationError: There is neither.
        """
        return self.database.get() if self.seen_database is None else self.seen_database

    def learn_from(self, application: Any) -> None:
        """See whether the application knows its database, before any request has led to it."""
        if not self.database.is_configured and self.seen_database is None:
            self.seen_database = pyramid.applications_database(application)

    def make_store(self) -> None:
        """Make the store's structure before the first transaction of ours, once a process."""
        if not self._has_store:
            make_store(self.database.get(), self.site)
            self._has_store = True


class WSGIAccess:
    """The way of one request to database, transaction and user (``ports.Access``)."""

    __slots__ = (
        "_bound",
        "_environs",
        "_hosted",
        "_opened",
        "_script_name",
        "_surroundings",
        "is_over",
        "own",
    )

    def __init__(self, environ: Mapping[str, Any], surroundings: Surroundings) -> None:
        """Look at nothing yet."""
        self._environs = [environ]
        # As it is here: what dispatches to applications within may well write in the environ.
        self._script_name: str = environ.get("SCRIPT_NAME", "")
        self._surroundings = surroundings
        #: (manager, transaction) that a connection was bound to.
        self._bound: tuple[Any, Any] | None = None
        #: Whether a host was seen to own a transaction of this request.
        self._hosted = False
        #: (transaction, connection) that were opened here for a transaction of the host's.
        self._opened: list[tuple[Any, Any]] = []
        self.own = OwnTransaction(surroundings.database.get)
        #: Whether the connection that was ours is closed.
        self.is_over = False

    def seen_in(self, environ: Mapping[str, Any]) -> bool:
        """Look at this environ as well, if the host copied the one that it was given."""
        if not any(environ is known for known in self._environs):
            self._environs = [self._environs[0], *self._environs[1:][-MAX_COPIES + 1 :], environ]
        return environ is not self._environs[0]

    # -- the user ------------------------------------------------------------------------

    def authenticated(self, environ: Mapping[str, Any] | None = None) -> Principal | None:
        """Who makes the request, as far as its environ tells, or the host's copy of that."""
        return self._surroundings.identify(self._environs[0] if environ is None else environ)

    def author(self) -> Principal | None:
        """The user whose restricted code asks, if the host is Zope and has some running."""
        return zope.author()

    @property
    def base_path(self) -> str:
        """What links to calls begin with."""
        return self._surroundings.base_path(self._script_name)

    # -- the transaction -----------------------------------------------------------------

    def transaction(self) -> Any:
        """The transaction that this request is in now.

        Raises:
            TransactionOver: Ours has ended with the response, or the host's has ended.
            ConfigurationError: What the host left in the environ is no transaction manager.
        """
        host = self._host()
        if host is not None:
            return hosts.current(host)
        return self.own.current()

    def beside(self) -> Any | None:
        """Ours, if it is open, whoever's is the current one by now."""
        return self.own.current() if self.own.is_open else None

    def _host(self) -> Any | None:
        """The manager of whoever owns the transaction, or None if we do."""
        if self.own.is_committing:
            # Used before the host's began, or after it had ended: what is asked for is in ours.
            return None
        if self._bound is not None and hosts.is_current(*self._bound):
            return self._bound[0]
        for environ in self._environs:
            manager = hosts.manager_of(environ)
            if manager is not None:
                self._hosted = True
                return manager
        handed_over = self._configured_connection() or zope.connection(self)
        if handed_over is not None:
            self._hosted = True
            return handed_over.transaction_manager
        if self._bound is not None:
            raise TransactionOver(
                "the transaction of the bound connection has ended; call calls.bind(connection) "
                "again in the new one"
            )
        if self._hosted:
            raise TransactionOver(
                "the host's transaction has ended, so nothing can be written in it"
            )
        return None

    @property
    def holds_anything(self) -> bool:
        """Whether the request holds a connection, or a transaction of a host's, now."""
        try:
            return self._host() is not None or self.own.has_connection
        except TransactionOver:
            return False

    def bind(self, connection: Any) -> None:
        """Let the connection, and its transaction manager, be what the request uses.

        It belongs to the transaction that the manager is in now, and is gone with it.

        Raises:
            ConfigurationError: It is no open connection.
            TransactionOver: Its explicit manager has begun no transaction.
        """
        if not isinstance(connection, Connection):
            raise ConfigurationError(
                f"calls.bind() takes a ZODB connection, not a {type(connection).__qualname__}"
            )
        if connection.opened is None or connection.transaction_manager is None:
            raise ConfigurationError("calls.bind() takes an open connection, and this is closed")
        manager = connection.transaction_manager
        txn = hosts.current(manager)
        self._found(txn).application = connection
        self._bound = (manager, txn)

    # -- the connection ------------------------------------------------------------------

    def application_connection(self) -> Any:
        """The connection of the request's transaction: the host's, or ours.

        Raises:
            ConfigurationError: The host's cannot be found; the message says what to configure.
            TransactionOver: As ``transaction``.
        """
        txn, host = self.transaction(), self._host()
        if host is None:
            return self._own_connection(txn)
        found = self._found(txn)
        if not hosts.is_open(found.application):
            found.application = self._hosts_connection(txn, host)
        return found.application

    def store_connection(self) -> Any:
        """The connection to the database that holds the calls.

        Raises:
            ConfigurationError: Also when two connections to one storage would be committed
                together, which ZODB cannot do.
            TransactionOver: As ``transaction``.
        """
        txn, host = self.transaction(), self._host()
        if host is None:
            connection = calls_connection(self._own_connection(txn))
            hosts.refuse_two_connections(txn)
            return connection
        found = self._found(txn)
        if not hosts.is_open(found.store):
            found.store = self._hosts_store_connection(txn, host)
            hosts.watch(txn)
        hosts.refuse_two_connections(txn)
        return found.store

    def _own_connection(self, txn: Any) -> Any:
        connection = self.own.connection(self._prepare)
        # Whoever commits it: the application may, although it need not.
        hosts.watch(txn)
        return connection

    def _found(self, txn: Any) -> hosts.Found:
        return hosts.Found.of(txn, self._surroundings)

    def _hosts_connection(self, txn: Any, host: Any) -> Any:
        """The connection that the host writes through, or one of ours if it has none."""
        told = self._told_connection(txn)
        if told is not None:
            return told
        database = self._surroundings.database
        found = hosts.find_connection(txn, database.get()) if database.is_configured else None
        found = found or hosts.only_connection(txn)
        if found is None:
            found = self._open_for(txn, host, database.get() if database.is_configured else None)
        return found

    def _hosts_store_connection(self, txn: Any, host: Any) -> Any:
        """The connection to the calls in the host's transaction."""
        told = self._told_connection(txn)
        if not self._surroundings.database.is_configured:
            found = told or hosts.only_connection(txn) or self._open_for(txn, host, None)
            self._surroundings.seen_database = found.db()
            return calls_connection(found)
        database = calls_database(self._surroundings.database.get())
        found = hosts.find_connection(txn, database, told)
        return found or self._open_for(txn, host, database)

    def _told_connection(self, txn: Any) -> Any | None:
        """The connection that application, configuration, Pyramid or Zope says is the host's."""
        known = self._found(txn).application
        if hosts.is_open(known):
            return known
        return self._handed_over(txn) or pyramid.connection(self._environs) or zope.connection(self)

    def _handed_over(self, txn: Any) -> Any | None:
        """The connection that is configured, which must be of the host's transaction."""
        found = self._configured_connection()
        if found is not None and not hosts.is_current(found.transaction_manager, txn):
            raise ConfigurationError(
                f"connection = {self._surroundings.connection} leads to a connection of another "
                "transaction than the host's: open it with environ['tm.manager']"
            )
        return found

    def _open_for(self, txn: Any, host: Any, database: Any | None) -> Any:
        """Open a connection of ours in the host's transaction."""
        if database is None:
            raise ConfigurationError(
                "the host's transaction has no ZODB connection that could be found: bind it by "
                "calls.bind(connection), name its environ key as connection = KEY, or give "
                "CallManagerMiddleware a db or a zodb_uri"
            )
        # The thread's own manager: it may be another thread that closes the connection.
        manager = host.manager if isinstance(host, ThreadTransactionManager) else host
        connection = database.open(transaction_manager=manager)
        self._opened.append((txn, connection))
        return connection

    def _configured_connection(self) -> Any | None:
        wanted = self._surroundings.connection
        if wanted is None:
            return None
        for environ in self._environs:
            found = environ.get(wanted) if isinstance(wanted, str) else wanted(environ)
            if found is not None:
                if not isinstance(found, Connection):
                    raise ConfigurationError(
                        f"connection = {wanted} leads to a {type(found).__qualname__} and to no "
                        "ZODB connection"
                    )
                if found.opened is None:
                    raise TransactionOver(
                        f"connection = {wanted} leads to a connection that is closed, so nothing "
                        "can be written in its transaction"
                    )
                return found
        return None

    def _prepare(self) -> None:
        """Before our connection is opened: see that it is the right one, and find a store."""
        wanted = self._surroundings.connection
        if isinstance(wanted, str):
            raise ConfigurationError(
                f"connection = {wanted}, and the environ has no such key: put the host's "
                "connection there before calls are asked for, or give a function of the environ, "
                "which may return None for requests that have none"
            )
        self._refuse_threads_connection()
        self._surroundings.make_store()

    def _refuse_threads_connection(self) -> None:
        """Raise if the application writes by the thread's transaction and did not say so."""
        txn = hosts.threads_transaction()
        if txn is None:
            return
        database = self._surroundings.database.get()
        if any(hosts.is_same_storage(c.db(), database) for c in hosts.joined_connections(txn)):
            raise ConfigurationError(
                "the thread's transaction (transaction.manager) has a connection to the same "
                "storage with something to commit: call calls.bind(connection), so that the call "
                "lives and dies with it"
            )

    def learn_database(self) -> None:
        """Find out where the host's calls are, if nothing is configured and nobody has put any.

        Raises:
            ConfigurationError: It cannot be found out.
        """
        surroundings = self._surroundings
        if surroundings.database.is_configured or surroundings.seen_database is not None:
            return
        surroundings.seen_database = pyramid.database(self._environs)
        if surroundings.seen_database is None and self._host() is not None:
            self.store_connection()

    # -- lanes ---------------------------------------------------------------------------

    def claim_lane(self, store: Any) -> int:
        """Claim a lane for this process in a small transaction of its own."""
        return claim_lane(store.connection.db(), self._surroundings.site, self._surroundings.token)

    # -- the end of the request ------------------------------------------------------------

    def close(self) -> None:
        """End the request: what is still open of ours is aborted and closed."""
        self.own.close()
        # A host's connection is its own to close, and may be in use until its transaction ends.
        self.is_over = self._bound is None and not self._hosted
        # The environ holds the manager, and the manager this: a request is to be freed at once.
        self._environs = [_NO_ENVIRON]
        while self._opened:
            txn, connection = self._opened.pop()
            if connection.opened is None:
                continue
            if hosts.is_current(connection.transaction_manager, txn):
                # The host commits after us, as repoze.tm2 does when it is outside.
                hosts.close_with(txn, connection)
            else:
                connection.close()
