# SPDX-License-Identifier: ZPL-2.1
"""The call manager: what application code asks for calls.

A manager belongs to one request (or to one completing transaction of a worker), is used in its
thread, and keeps nothing itself from one attempt of the host to the next: what belongs to a
transaction is kept on that transaction (``context.PutState``). It never commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Unpack

from ..call import CallRecord, not_found
from ..deployment import Deployment
from ..errors import (
    CallNotFound,
    ConfigurationError,
    InvalidArguments,
    NotAuthenticated,
    TransactionOver,
)
from ..ports import Access
from ..restricted import shown_to_restricted
from ..security import ANONYMOUS_SPELLINGS, SESSION_SOURCE, Principal
from ..states import CallState
from ..store import open_store
from .context import CallContext, PutState
from .options import NO_OPTIONS, Options, PutOptions
from .putting import NO_LINEAGE, Lineage, put_call
from .too_late import OfOneTransaction
from .view import Call

#: Where the middleware puts the manager in the WSGI environ.
ENVIRON_KEY = "wsgi_zasync.manager"

#: How many calls ``mine`` gives at most at a time.
MAX_LIMIT = 1_000

#: ``calls.serve``: a WSGI application for the manager given.
Serve = Callable[["CallManager", dict[str, Any], Any], Iterable[bytes]]


def get_manager(environ: Mapping[str, Any]) -> CallManager:
    """The call manager of this request.

    Raises:
        ConfigurationError: There is none: the middleware does not wrap this application.
    """
    if not isinstance(environ, Mapping):
        raise ConfigurationError(
            f"get_manager takes the WSGI environ, not a {type(environ).__qualname__}: a "
            "framework's request has it as request.environ or request.META"
        )
    manager = environ.get(ENVIRON_KEY)
    if type(manager) is not CallManager:
        raise ConfigurationError(
            "there is no call manager in this WSGI environ: wrap the application with "
            "wsgi_zasync.CallManagerMiddleware, or add egg:wsgi_zasync to its pipeline"
        )
    # A host that copies the environ says in its copy that it owns the transaction, and who it is.
    return manager._evolved(environ=environ) if manager._access.seen_in(environ) else manager


@shown_to_restricted("put", "options", "get", "mine", "count", "cancel", "forget")
class CallManager(OfOneTransaction):
    """Puts, finds and ends the calls of one owner."""

    def __init__(
        self,
        access: Access,
        deployment: Deployment,
        *,
        options: PutOptions | None = None,
        serve: Serve | None = None,
        lineage: Lineage = NO_LINEAGE,
        environ: Mapping[str, Any] | None = None,
    ) -> None:
        """Made by the middleware and by workers.

        Args:
            access: How to reach database, transaction and user.
            deployment: What the process knows.
            options: For the puts made through this manager.
            serve: What answers ``calls.serve``.
            lineage: Depth and first ancestor's id for the calls put.
            environ: The host's copy of the request's in which it was found, if it was.
        """
        self._access = access
        self._deployment = deployment
        self._options = options or NO_OPTIONS
        self._serve = serve
        self._lineage = lineage
        self._environ = environ

    # -- who and where ------------------------------------------------------------------

    @property
    def principal(self) -> Principal | None:
        """The owner of new puts: as set, else as the request is authenticated, else None.

        What is set belongs to the current transaction and is gone with it. Set to None, or to
        what hosts call a user who is not logged in, it means nobody, whatever the request says.

        Raises:
            ConfigurationError: It was set before the host's transaction was begun or bound.
            InvalidArguments: What it is set to is neither a Principal nor a text that can be the
                id of one, or of the source kept for visitors.
        """
        try:
            state = self._peek()
        except TransactionOver:
            # A host asks who it is at the beginning of another attempt, before it binds.
            return self._access.authenticated(self._environ)
        return self._principal(state)

    @principal.setter
    def principal(self, principal: Principal | str | None) -> None:
        if isinstance(principal, str):
            principal = None if principal in ANONYMOUS_SPELLINGS else Principal(principal)
        if principal is not None and type(principal) is not Principal:
            raise InvalidArguments(
                f"principal must be a Principal or a str, not {type(principal).__name__}",
                path="principal",
            )
        if principal is not None and principal.id in ANONYMOUS_SPELLINGS:
            # Strangers would all be one owner.
            principal = None
        if principal is not None and principal.source == SESSION_SOURCE:
            raise InvalidArguments(
                f"the source {SESSION_SOURCE!r} is kept for visitors who are not logged in: use "
                "another one",
                path="principal",
            )
        state = PutState.of(self._access.transaction(), self._deployment)
        state.principal, state.is_principal_set = principal, True

    @property
    def connection(self) -> Any:
        """This request's ZODB connection: the host's, or ours, opened at first need.

        Raises:
            ConfigurationError: No connection can be used; the text says what to configure.
            TransactionOver: The request's transaction has been committed already.
        """
        return self._access.application_connection()

    @property
    def root(self) -> Any:
        """The root of the application's database; what is written there commits with the calls.

        Raises:
            ConfigurationError: As ``connection``.
            TransactionOver: As ``connection``.
        """
        return self.connection.root()

    def bind(self, connection: Any) -> None:
        """Use this ZODB connection and its transaction, until that transaction ends.

        Raises:
            ConfigurationError: It is no open connection, or this manager is a worker's.
            TransactionOver: Its explicit manager has begun no transaction.
        """
        self._access.bind(connection)

    def serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request under the prefix, as a WSGI application (for hosts that mount it).

        Raises:
            ConfigurationError: This manager is a worker's, which serves nobody.
        """
        if self._serve is None:
            raise ConfigurationError("this call manager serves no requests: use the middleware's")
        return self._serve(self, environ, start_response)

    # -- asking for calls -----------------------------------------------------------------

    def options(self, **options: Unpack[Options]) -> CallManager:
        """The same manager with options for the puts made through it.

        Durations are seconds or a timedelta; moments are durations from now or aware datetimes.

        Args:
            options: ``timeout`` (for one attempt) and ``keep`` (for how long it is kept once
                final) are durations; ``begin_after`` and ``expires`` moments; ``priority`` is
                "high", "normal" or "low"; ``unique`` a text, and ``on_duplicate`` "return",
                "raise" or "replace"; ``queue`` a word; ``retry`` a RetryPolicy; ``title`` a text;
                ``author`` the Principal who wrote the expressions.

        Raises:
            InvalidArguments: An unknown option, or a value that does not fit.
        """
        return self._evolved(options=self._options.evolve(**options))

    def put(self, plugin_name: str, /, *args: Any, **kwargs: Any) -> Call:
        """Ask for a call, in the current transaction.

        Args:
            plugin_name: What the plugin is named by.
            args: What it is given after the attempt: plain data, a ``Secret``, and persistent
                objects that are in a database already.
            kwargs: The same by keyword.

        Raises:
            NotAuthenticated: Nobody would own it.
            UnknownPlugin: Neither this process nor a worker has the plugin.
            InvalidArguments: They do not fit the plugin, or cannot be stored.
            Unauthorized: The owner lacks the plugin's permission on an argument; or restricted
                code asks, and the plugin is not open to that, or its author lacks a permission.
            DuplicateCall: The ``unique`` key is taken, and ``on_duplicate`` is ``"raise"``.
            QuotaExceeded: The owner has too many calls, or too large ones.
            TransactionOver: The request's transaction has been committed already.
            ConfigurationError: No connection can be used; the text says what to configure.
        """
        state = PutState.of(self._access.transaction(), self._deployment)
        owner = self._owner(state)
        context = self._context(owner)
        record = put_call(
            context, state, owner, plugin_name, args, kwargs, self._options, lineage=self._lineage
        )
        return Call(record, context, self._options.author)

    # -- an owner's calls -----------------------------------------------------------------

    def get(self, id: str, /) -> Call:
        """The call with this id.

        Raises:
            CallNotFound: There is none, or it is somebody else's.
        """
        context = self._looking()
        if context is None:
            raise not_found(id)
        record = context.store.find(context.owner.owner, id)
        return Call(record, context, self._options.author)

    def __contains__(self, id: object) -> bool:
        try:
            self.get(id)  # type: ignore[arg-type]
        except CallNotFound:
            return False
        return True

    def mine(
        self,
        state: CallState | str | None = None,
        plugin: str | None = None,
        newest_first: bool = True,
        limit: int = 50,
        after: str | None = None,
    ) -> list[Call]:
        """The owner's calls.

        Args:
            state: Only those in this state.
            plugin: Only those of this plugin.
            newest_first: Or the oldest first.
            limit: At most so many, up to 1,000.
            after: The id of the last call of the part before.

        Raises:
            InvalidArguments: ``state`` or ``limit`` is none that there can be.
            CallNotFound: There is no call ``after``.
        """
        wanted = None if state is None else _state(state)
        if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
            raise InvalidArguments(f"limit must be 1 to {MAX_LIMIT}", path="limit")
        context = self._looking()
        if context is None:
            if after is not None:
                raise not_found(after)
            return []
        author = self._options.author
        calls = (Call(record, context, author) for record in _ordered(context, newest_first, after))
        found = (
            call
            for call in calls
            if (plugin is None or call.plugin == plugin)
            and (wanted is None or call.state is wanted)
        )
        return list(islice(found, limit))

    def count(self, state: CallState | str | None = None) -> int:
        """How many calls the owner has, in all or in one state.

        Raises:
            InvalidArguments: There is no such state.
        """
        wanted = None if state is None else _state(state)
        context = self._looking()
        if context is None:
            return 0
        store, owner = context.store, context.owner.owner
        if store.gone_since(owner) is not None:
            # The tallies count what an earlier owner of that name had, too.
            return sum(wanted in (None, store.state_of(record)) for record in store.newest(owner))
        tally = store.tally(owner)
        if wanted is not None and not wanted.is_final:
            # What runs is on the workers' boards only, so these few are looked at: mostly they
            # are the newest, and behind the last of them nobody has to look.
            records = (record for record in store.newest(owner) if not record.is_final)
            return sum(store.state_of(r) is wanted for r in islice(records, max(0, tally.open)))
        return tally.stored if wanted is None else tally.by_state[wanted]

    def cancel(self, id: str, /) -> Call:
        """Cancel a call: at once if it waits, else by asking the worker to stop it.

        Raises:
            CallNotFound: There is none, or it is somebody else's.
        """
        call = self.get(id)
        call.cancel()
        return call

    def forget(self, id: str, /) -> None:
        """Erase a final call.

        Raises:
            CallNotFound: There is none, or it is somebody else's.
            CallNotFinal: Cancel it first.
        """
        self.get(id).forget()

    # -- inside ---------------------------------------------------------------------------

    def _evolved(self, **changes: Any) -> CallManager:
        same = {
            "options": self._options,
            "serve": self._serve,
            "lineage": self._lineage,
            "environ": self._environ,
        }
        return CallManager(self._access, self._deployment, **same | changes)

    def _peek(self) -> PutState | None:
        return PutState.peek(self._access.transaction(), self._deployment)

    def _principal(self, state: PutState | None) -> Principal | None:
        if state is not None and state.is_principal_set:
            return state.principal
        beside = self._access.beside()
        if beside is not None:
            set_there = PutState.peek(beside, self._deployment)
            if set_there is not None and set_there.is_principal_set:
                # Whoever else the request is of, it is not who the application has said.
                raise ConfigurationError(
                    "calls.principal was set before the host's transaction was begun, or its "
                    "connection bound, and belongs to another one: set it again after that"
                )
        return self._access.authenticated(self._environ)

    def _owner(self, state: PutState | None) -> Principal:
        principal = self._principal(state)
        if principal is None:
            raise NotAuthenticated(
                "a call needs an owner and nobody is logged in: log in, set calls.principal, or "
                "configure identity"
            )
        return principal

    def _looking(self) -> CallContext | None:
        """What the user's calls are looked at with; None if nobody is logged in: who has none."""
        principal = self._principal(self._peek())
        return None if principal is None else self._context(principal)

    def _context(self, owner: Principal) -> CallContext:
        deployment, connection = self._deployment, self._access.store_connection()
        store = open_store(
            connection,
            deployment.site,
            # A page that only looks writes nothing, not even the first one.
            write=False,
            own_lanes=lambda: deployment.lanes.of(connection.db()).claimed(),
        )
        return CallContext(self._access, deployment, store, owner)


def _state(state: CallState | str) -> CallState:
    try:
        return CallState(state)
    except ValueError:
        known = ", ".join(CallState)
        raise InvalidArguments(
            f"there is no state {state!r}: say one of {known}", path="state"
        ) from None


def _ordered(context: CallContext, newest_first: bool, after: str | None) -> Iterable[CallRecord]:
    """The owner's records in order, from behind the call ``after`` on."""
    store, owner = context.store, context.owner.owner
    if after is None:
        return store.newest(owner) if newest_first else store.oldest(owner)
    last = store.find(owner, after)
    mark = (last.created, last.id)
    if newest_first:
        return (r for r in store.newest(owner, last.created) if (r.created, r.id) < mark)
    return (r for r in store.oldest(owner, last.created) if (r.created, r.id) > mark)
