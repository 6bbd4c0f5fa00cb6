# SPDX-License-Identifier: ZPL-2.1
"""The worker: what runs calls, in a process of its own or inside a web process.

``Worker(...)`` takes the keys of ``[worker:…]``. ``start`` runs calls in threads until ``stop``;
``run_once`` runs all that is due now and returns, for tests and for scripts.

``waking`` hears of a call, the ``acceptor`` takes it, ``beginning`` decides whether and with what
an attempt is made, ``running`` makes it, ``completion`` writes what became of it and has its
``callbacks`` evaluated; ``service`` has the turns in which that happens, and the ``rescuer`` takes
over from workers that died.

Threads: one that accepts and writes, those that run plugins, and the process's one reactor.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any, Self

from transaction.interfaces import TransientError
from ZEO.Exceptions import ClientDisconnected

from ..clock import Clock
from ..errors import ConfigurationError, Fenced
from ..lines import counted
from ..opening import checked, deployment_for, keys_for, open_database
from ..plugins import check_runnable
from ..settings import WorkerSettings
from ..store.databases import calls_database, close_together
from .desk import AWAY, StorageAway
from .rounds import BATCH
from .service import Service
from .watchdog import Watchdog

__all__ = ["Worker"]

logger = logging.getLogger(__name__)

#: Seconds between tries while the storage is away, at first and at most.
AWAY_SECONDS = 0.1
LONGEST_AWAY_SECONDS = 2.0

#: Seconds that an outcome waits for others that are about to be ready.
GATHER_SECONDS = 0.003

#: Turns in which a worker that stops writes what is ready still.
LAST_TURNS = 20

#: Seconds that a commit may take in ``zasync worker`` before it ends itself.
STUCK_SECONDS = 120.0

#: Connections that a worker uses beside those of its threads: the acceptor's, that of long
#: callbacks, and one for a claim. And as many as ZODB expects of all others in a process.
OTHER_CONNECTIONS = 3 + 7


class Worker:
    """Runs calls."""

    def __init__(self, db: Any = None, *, clock: Clock | None = None, **settings: Any) -> None:
        """Describe a worker; nothing is opened or started.

        Args:
            db: A ``ZODB.DB``, or a function that opens one; else ``zodb_uri`` or ``zodb_conf``
                say where it is.
            clock: Tells the time.
            settings: The keys of ``WorkerSettings``, as of ``[worker:…]``.

        Raises:
            ConfigurationError: A key is unknown, or its value makes no sense.
        """
        self._describe(WorkerSettings.from_kwargs(db=db, **settings), clock)

    @classmethod
    def from_settings(cls, settings: WorkerSettings, clock: Clock | None = None) -> Self:
        """A worker with settings that are read already.

        Raises:
            ConfigurationError: They make no sense together, or a plugin cannot be run.
        """
        worker = cls.__new__(cls)
        worker._describe(settings, clock)
        return worker

    def _describe(self, settings: WorkerSettings, clock: Clock | None) -> None:
        self.settings = settings
        given = settings.db
        self._db: Any = None if given is None or callable(given) else checked(given)
        self._opened_here = False
        keys = keys_for(settings, lambda: self._database())
        self._deployment = deployment_for(settings, keys, clock)
        registry = self._deployment.registry
        for plugin in registry.names():
            check_runnable(registry.declaration(plugin))
        #: What other workers and operators know it by.
        self.name: str = settings.name or _unique_name()
        self._service: Service | None = None
        self._stepping: Service | None = None
        self._thread: threading.Thread | None = None
        self._watchdog: Watchdog | None = None
        self._started = threading.Event()
        self._trouble: BaseException | None = None
        #: Seconds that what runs may go on when it stops.
        self._grace = settings.grace
        #: Why we wait for the storage, which is told once; empty while it is there.
        self._away = ""

    def _database(self) -> Any:
        if self._db is None:
            self._db = open_database(self.settings)
            self._opened_here = True
        return self._db

    def _make_room(self) -> None:
        """Have the pools expect our connections: ZODB warns whoever opens more than that."""
        application = self._database()
        # A thread with a transaction has one, and one without has one for objects.
        ours = OTHER_CONNECTIONS + 2 * self.settings.threads
        for db in (application, calls_database(application)):
            db.setPoolSize(max(db.getPoolSize(), ours))

    # -- in threads -------------------------------------------------------------------------

    def start(self, *, watchdog: bool = False) -> None:
        """Run calls from now on, in threads of this process.

        Args:
            watchdog: Whether this process may be killed when a commit does not come back; only
                for a process that is nothing but a worker.

        Raises:
            ConfigurationError: It runs already, or its database cannot be used.
            transaction.interfaces.TransientError: The storage is away.
        """
        if self._thread is not None:
            raise ConfigurationError(f"worker {self.name!r} runs already")
        if watchdog:
            self._watchdog = Watchdog(self._deployment.clock, STUCK_SECONDS)
            self._watchdog.start()
        self._make_room()
        self._service = Service(
            self._database(),
            self._deployment,
            self.settings,
            name=self.name,
            watchdog=self._watchdog,
        )
        self._started.clear()
        self._thread = threading.Thread(
            target=self._run, args=(self._service,), name=f"{self.name}-acceptor", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._trouble is not None:
            trouble, self._trouble, self._thread = self._trouble, None, None
            self.stop()
            raise trouble

    def stop(self, grace_seconds: float | None = None) -> None:
        """Accept nothing more, let what runs end, give back the rest.

        Args:
            grace_seconds: For how long what runs may go on; None: as configured.
        """
        service, thread = self._service, self._thread
        if service is not None and thread is not None:
            self._grace = self.settings.grace if grace_seconds is None else grace_seconds
            service.bell.stop()
            thread.join()
            service.stop_threads(1.0)
        self._service = self._thread = None
        if self._stepping is not None:
            self._stepping.stop_threads(1.0)
            self._stepping = None
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._opened_here:
            close_together(self._db)
            self._db, self._opened_here = None, False

    def leave(self, within_seconds: float) -> None:
        """Accept nothing more, and give back at once what runs: this process ends.

        Args:
            within_seconds: For how long to wait until that is written. A storage that hangs must
                not keep the process.
        """
        service, thread = self._service, self._thread
        if service is not None and thread is not None:
            self._grace = 0.0
            service.bell.stop()
            thread.join(within_seconds)

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor failed."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self, service: Service) -> None:
        try:
            service.open()
        except BaseException as exc:  # noqa: BLE001 - raised again by start(), in its thread
            self._trouble = exc
            service.close()
            return
        finally:
            self._started.set()
        logger.info("worker %s is ready", self.name)
        try:
            self._loop(service)
            self._drain(service)
        except BaseException:
            # Whoever started it sees by is_running that it ended, and cannot see why.
            logger.critical("worker %s has ended by an error", self.name, exc_info=True)
            return
        finally:
            service.close()
        logger.info("worker %s has stopped; %s ended", self.name, counted(service.ended, "call"))

    def _loop(self, service: Service) -> None:
        away = AWAY_SECONDS
        while not service.bell.stopping:
            service.bell.wait(service.seconds_to_wait())
            self._gather(service)
            if self._turned(service):
                away = AWAY_SECONDS
            else:
                service.bell.wait_for_stop(away)
                away = min(2 * away, LONGEST_AWAY_SECONDS)

    def _gather(self, service: Service) -> None:
        """Let outcomes that are about to be ready come along in the same commit."""
        bell, holdings = service.bell, service.holdings
        if 0 < len(bell) < BATCH and len(bell) < len(holdings.running):
            bell.wait_for_more(
                min(BATCH, len(holdings.running)), GATHER_SECONDS, service.are_more_expected
            )

    def _turned(self, service: Service, *, accept: bool = True) -> bool:
        """One turn; whether the storage was there."""
        try:
            if not service.acceptor.desk.is_connected:
                # A client that is asked would wait for its server, also when we are to stop.
                raise StorageAway("it is disconnected")
            if service.bell.take_fenced():
                raise Fenced("a thread of this worker found its fence taken")
            service.turn(accept=accept)
        except Fenced as exc:
            logger.warning("worker %s begins anew: %s", self.name, exc)
            return self._anew(service)
        except AWAY as exc:
            self._tell_that_it_is_away(exc)
            service.rescuer.forget()
            return False
        except TransientError as exc:
            logger.info("worker %s: tried again: %s", self.name, exc)
            return False
        except Exception:
            # A worker that ends for one error would strand all its calls; it is logged, and
            # what was to be written is kept.
            logger.exception("worker %s: a turn failed and is tried again", self.name)
            return False
        if self._away:
            self._away = ""
            logger.info("worker %s: the storage is back", self.name)
        return True

    def _tell_that_it_is_away(self, error: Exception) -> None:
        # A client that was disconnected says no more than that.
        why = "it is disconnected" if isinstance(error, ClientDisconnected) else str(error)
        level = logging.DEBUG if why == self._away else logging.WARNING
        logger.log(level, "worker %s: the storage is away: %s", self.name, why)
        self._away = why

    def _anew(self, service: Service) -> bool:
        try:
            service.start_anew()
        except (TransientError, StorageAway) as exc:
            logger.info("worker %s: registering is tried again: %s", self.name, exc)
            service.bell.fenced()
            return False
        return True

    def _drain(self, service: Service) -> None:
        """Let what runs end, as long as the grace lasts, and give the rest back.

        A storage that is away is waited for as long.
        """
        monotonic = self._deployment.clock.monotonic
        until = monotonic() + self._grace
        desk = service.acceptor.desk
        while not (service.is_drained() and desk.is_connected) and monotonic() < until:
            service.bell.wait_for_report(min(0.5, max(0.0, until - monotonic())))
            if not self._turned(service, accept=False):
                service.bell.wait_for_report(AWAY_SECONDS)
        for order in list(service.holdings.running.values()):
            service.dispatcher.interrupt(order)
        for report in service.long.give_back():
            report.held.callbacks_later = True
            service.bell.report(report)
        for _ in range(LAST_TURNS):
            if not (len(service.bell) and self._turned(service, accept=False)):
                break
        try:
            if not desk.is_connected:
                raise StorageAway("the storage is away")
            service.release()
        except (TransientError, StorageAway, Fenced) as exc:
            logger.warning("worker %s could not say that it stops: %s", self.name, exc)

    # -- step by step -------------------------------------------------------------------------

    def run_once(self) -> int:
        """Run all that is due now, one call after the other; returns how many ended.

        Works in this thread, but for plugins: those run where they always do, and are waited
        for. What waits for a later time is left.

        Raises:
            ConfigurationError: The worker is running in threads of its own.
            transaction.interfaces.TransientError: The storage is away.
        """
        if self._thread is not None:
            raise ConfigurationError(f"worker {self.name!r} runs by itself: stop it first")
        service = self._stepping
        if service is None:
            service = self._stepping = Service(
                self._database(), self._deployment, self.settings, name=self.name, one_by_one=True
            )
        before = service.ended
        service.open()
        try:
            self._step(service)
        finally:
            service.close()
        return service.ended - before

    def _step(self, service: Service) -> None:
        while True:
            try:
                if service.bell.take_fenced():
                    raise Fenced("a thread of this worker found its fence taken")
                did = service.turn()
            except Fenced:
                service.start_anew()
                continue
            if service.holdings.running and not len(service.bell):
                service.bell.wait(min(0.05, max(0.001, service.seconds_to_wait())))
            elif not did and service.is_idle():
                break
        service.release()


def _unique_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"
