# SPDX-License-Identifier: ZPL-2.1
"""The WSGI middleware: a call manager in each request's environ, and our own addresses.

A request that uses no manager costs a few microseconds and passes as it is. One instance serves
all threads of a process, and each process that is forked from it.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

from .clock import Clock, SystemClock
from .configuration.site_secrets import secrets_for
from .deployment import Deployment
from .errors import ConfigurationError
from .fork_lock import ForkLock
from .manager import ENVIRON_KEY, CallManager
from .manager.replaying import replayable
from .opening import check_deployment, checked, deployment_for, keys_for, open_database
from .settings import MiddlewareSettings
from .web.answers import not_found
from .web.connection import Surroundings, WSGIAccess, mounted_at
from .web.databases import LazyDatabase
from .web.identity import TrustedHeader, identify
from .web.poll import PollApplication
from .web.response import Environ, Exchange, StartResponse, default_veto
from .web.waiting import WaitingGate
from .web.zope import prepare

logger = logging.getLogger(__name__)

Application = Callable[..., Iterable[bytes]]

#: Seconds that the end of a process waits at most until its worker has given back what ran.
LEAVING_SECONDS = 3.0


class CallManagerMiddleware:
    """Wraps a WSGI application, so that its requests can put calls.

    The manager is lazy: no database is opened, and no transaction begun, before it is used.
    """

    def __init__(
        self, app: Application, db: Any = None, *, clock: Clock | None = None, **settings: Any
    ) -> None:
        """Wrap an application.

        Args:
            app: The WSGI application.
            db: A ``ZODB.DB``, or a function that opens one; else ``zodb_uri`` or ``zodb_conf``
                say where it is, or the host's connection is used.
            clock: Tells the time.
            settings: The keys of ``MiddlewareSettings``, as of ``[filter:…]``.

        Raises:
            ConfigurationError: A key is unknown, or its value makes no sense.
        """
        self._wrap(app, MiddlewareSettings.from_kwargs(db=db, **settings), clock)

    @classmethod
    def from_settings(
        cls, app: Application, settings: MiddlewareSettings, clock: Clock | None = None
    ) -> Self:
        """Wrap an application with settings that are read already.

        Raises:
            ConfigurationError: They make no sense together.
        """
        middleware = cls.__new__(cls)
        middleware._wrap(app, settings, clock)
        return middleware

    def _wrap(self, app: Application, settings: MiddlewareSettings, clock: Clock | None) -> None:
        if settings.anonymous != "no":
            raise ConfigurationError(
                "anonymous = session is not available yet: write anonymous = no"
            )
        if not callable(app):
            raise ConfigurationError(
                f"app is a {type(app).__qualname__}, which cannot be called: give the WSGI "
                "application"
            )
        check_deployment(settings)
        TrustedHeader.of(settings.identity_header, settings.trusted_proxies)
        self.settings = settings
        self._app = app
        self._clock = clock or SystemClock()
        self._database = _lazy_database(settings)
        if settings.worker == "embedded" and not self._database.is_configured:
            raise ConfigurationError(
                "worker = embedded needs a database of its own: give zodb_uri, zodb_conf or db"
            )
        if settings.db is not None and settings.secret is None and not callable(settings.db):
            # What several processes share needs one secret: better told now than in a request.
            secrets_for(None, settings.db.storage)
        self._lock = ForkLock()
        self._process: _Process | None = None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        process = self._process
        if process is None or process.pid != os.getpid():
            process = self._begin_process()
        return process.answer(self._app, environ, start_response)

    def start(self) -> None:
        """Start the embedded worker now, if one is configured, without waiting for a request.

        For servers that do not fork after this: calls that wait from an earlier run go on.

        Raises:
            ConfigurationError: The database cannot be used, or another process has it.
            transaction.interfaces.TransientError: The storage is away.
        """
        process = self._process
        if process is None or process.pid != os.getpid():
            self._begin_process()

    def stop(self) -> None:
        """Stop the embedded worker, and close the database if it was opened here."""
        process, self._process = self._process, None
        if process is not None and process.pid == os.getpid():
            process.stop()
        self._database.close()

    def _begin_process(self) -> _Process:
        with self._lock:
            if self._process is None or self._process.pid != os.getpid():
                process = _Process(self.settings, self._database, self._clock)
                process.start()
                self._process = process
            return self._process


def _lazy_database(settings: MiddlewareSettings) -> LazyDatabase:
    if settings.db is not None:
        if callable(settings.db):
            return LazyDatabase(opener=settings.db)
        return LazyDatabase(checked(settings.db))
    if settings.zodb_uri is None and settings.zodb_conf is None:
        return LazyDatabase()
    return LazyDatabase(opener=partial(open_database, settings))


def _consumed(body: Iterable[bytes]) -> list[bytes]:
    """All of a body, which is closed then."""
    try:
        return list(body)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


class _Process:
    """What one process has: its lanes, its gate for waiting clients, its embedded worker."""

    def __init__(self, settings: MiddlewareSettings, database: LazyDatabase, clock: Clock) -> None:
        self.pid = os.getpid()
        prepare()
        self._settings = settings
        self._database = database
        self._prefix = settings.prefix
        self._veto = settings.veto or default_veto
        self._header = TrustedHeader.of(settings.identity_header, settings.trusted_proxies)
        self._surroundings = Surroundings(
            database,
            prefix=settings.prefix,
            site=settings.site,
            token=f"{self.pid}-{secrets.token_hex(8)}",
            identify=self._identify,
            connection=settings.connection,
        )
        keys = keys_for(settings, self._surroundings.any_database)
        sealed = settings.secret is not None or database.is_configured
        self.deployment: Deployment = deployment_for(settings, keys if sealed else None, clock)
        gate = WaitingGate(settings.waiters, settings.wait_limit)
        self._poll = PollApplication(self._surroundings, self.deployment, gate, keys)
        self._worker: Any = None
        self._shared: list[Any] = []

    def _identify(self, environ: Any) -> Any:
        return identify(environ, self._settings.identity, self._header)

    # -- the embedded worker ---------------------------------------------------------------

    def start(self) -> None:
        """Start the embedded worker, if one is configured."""
        if self._settings.worker != "embedded":
            return
        # Loaded by name: a web process whose worker is elsewhere never loads Twisted.
        module = importlib.import_module(f"{__package__}.worker")
        database = self._database.get()
        settings = self._settings.for_embedded_worker(database)
        self._worker = module.Worker.from_settings(settings, self.deployment.clock)
        self._shared = importlib.import_module(f"{__package__}.sharing").share(database)
        try:
            self._worker.start()
        except BaseException:
            self.stop()
            raise
        atexit.register(self._leave)

    def stop(self) -> None:
        """Stop the embedded worker, and serving its storage to commands beside it."""
        atexit.unregister(self._leave)
        if self._worker is not None:
            self._worker.stop()
        while self._shared:
            self._shared.pop().close()

    def _leave(self) -> None:
        """This process ends, and nobody has stopped the worker.

        What runs is given back at once, and is no interruption then: the server that ends us
        waits for requests, and would kill us while we waited for calls.
        """
        if self.pid == os.getpid():
            self._worker.leave(LEAVING_SECONDS)

    # -- requests --------------------------------------------------------------------------

    def answer(
        self, app: Application, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request: our own addresses here, all others by the application."""
        path = self._path_under_prefix(environ)
        if path is not None:
            return self._answer_own(app, environ, start_response, path)
        access = WSGIAccess(environ, self._surroundings)
        deployment = self.deployment
        environ[ENVIRON_KEY] = CallManager(access, deployment, serve=partial(self._serve, access))
        puts = partial(replayable, access, deployment)
        return Exchange(environ, start_response, access, puts, self._veto).run(app)

    def _path_under_prefix(self, environ: Environ) -> str | None:
        path: str = environ.get("PATH_INFO", "")
        prefix = self._prefix
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
            return path[len(prefix) :]
        return None

    def _answer_own(
        self, app: Application, environ: Environ, start_response: StartResponse, path: str
    ) -> Iterable[bytes]:
        principal = self._identify(environ)
        if principal is None and self._settings.identity is None:
            return self._offer(app, environ, start_response)
        self._surroundings.learn_from(app)
        return self._poll(
            environ,
            start_response,
            principal=principal,
            base_path=self._surroundings.base_path(environ.get("SCRIPT_NAME", "")),
            path=path,
        )

    def _offer(
        self, app: Application, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Let an application that authenticates inside answer by ``calls.serve``.

        Nothing else that it may say at our addresses is passed on.
        """
        served: list[bool] = []
        begun: list[tuple[Any, ...]] = []
        parts: list[bytes] = []

        def begin(*response: Any) -> Callable[[bytes], None]:
            begun[:] = [response[:2]]
            return parts.append

        def serve(manager: CallManager, inner: Environ, start: StartResponse) -> Iterable[bytes]:
            served.append(True)
            return self._serve(access, manager, inner, start)

        access = WSGIAccess(environ, self._surroundings)
        environ[ENVIRON_KEY] = CallManager(access, self.deployment, serve=serve)
        puts = partial(replayable, access, self.deployment)
        exchange = Exchange(environ, begin, access, puts, lambda *_: not served)
        try:
            parts.extend(_consumed(exchange.run(app)))
        except Exception:
            if served:
                raise
            # It may well not know what to do with an address that is not its own.
            logger.exception("the application failed at an address of ours")
        if not served or not begun:
            answered: Iterable[bytes] = not_found()(environ, start_response)
            return answered
        start_response(*begun[0])
        return parts

    def _serve(
        self,
        access: WSGIAccess,
        manager: CallManager,
        environ: Environ,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        """``calls.serve``: our addresses, for the user that the application has set."""
        # Not who the request is of, where the transaction is over in which somebody was set.
        access.transaction()
        principal = manager.principal
        if principal is not None:
            access.learn_database()
        path, script_name = self._path_under_prefix(environ), environ.get("SCRIPT_NAME", "")
        if path is None:
            path, base_path = environ.get("PATH_INFO", ""), mounted_at(script_name)
        else:
            base_path = self._surroundings.base_path(script_name)
        return self._poll(
            environ,
            start_response,
            principal=principal,
            base_path=base_path,
            path=path,
            may_wait=not access.holds_anything,
        )
