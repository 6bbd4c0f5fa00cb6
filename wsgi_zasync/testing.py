# SPDX-License-Identifier: ZPL-2.1
"""Helpers for tests of applications that put calls: no server, no threads, no waiting.

::

    db = memory_db()
    deployment = deployment_of({"report.render": render})
    with calls_of(db, "ann", deployment) as calls:
        calls.put("report.render", 2026)
    run_calls(db, plugins={"report.render": render})
    with calls_of(db, "ann", deployment) as calls:
        assert_called(calls, "report.render", 2026, state="succeeded")

Everything happens in the thread that asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import transaction
import ZODB
from ZODB.MappingStorage import MappingStorage

from .call import to_micros
from .clock import Clock, seconds
from .deployment import Deployment
from .errors import ConfigurationError
from .manager import CallManager
from .manager.access import ConnectionAccess
from .manager.view import Call
from .plugins import Registry
from .security import Principal
from .states import CallState
from .web.transactions import lane_claimer

__all__ = [
    "FakeClock",
    "PlainAccess",
    "assert_called",
    "calls_of",
    "deployment_of",
    "memory_db",
    "run_calls",
]

#: When a ``FakeClock`` begins if nothing else is said.
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, now: datetime = BEGINNING, monotonic: float = 1_000.0) -> None:
        """Stand at ``now`` (aware) and at ``monotonic`` seconds."""
        self._now = now
        self._monotonic = monotonic

    def now(self) -> datetime:
        """The wall clock as an aware datetime in UTC."""
        return self._now

    def micros(self) -> int:
        """The same in microseconds since 1970 UTC."""
        return to_micros(self._now)

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary beginning."""
        return self._monotonic

    def advance(self, duration: float | timedelta) -> None:
        """Let the time go by, in seconds; both clocks go on."""
        passed = seconds(duration)
        self._now += timedelta(seconds=passed)
        self._monotonic += passed

    def set(self, now: datetime) -> None:
        """Put the wall clock to another moment, as an operator would; monotonic stays."""
        self._now = now


def memory_db(**options: Any) -> Any:
    """A new ``ZODB.DB`` in memory; the options are those of ``ZODB.DB``."""
    return ZODB.DB(MappingStorage(), **options)


class PlainAccess(ConnectionAccess):
    """How a call manager reaches one connection and one user, without WSGI (``ports.Access``)."""

    def __init__(
        self,
        connection: Any,
        principal: Principal | str | None = None,
        *,
        base_path: str = "/_zasync",
    ) -> None:
        """Use this open connection and the transaction that it is in, for this user."""
        user = Principal(principal) if isinstance(principal, str) else principal
        super().__init__(connection, user, lane_claimer("testing"), base_path=base_path)

    def bind(self, connection: Any) -> None:
        """Use this open connection from now on."""
        self._connection, self._opened = connection, connection.opened


def deployment_of(
    plugins: Mapping[str, Callable[..., Any] | str] | None = None,
    *,
    clock: Clock | None = None,
    **more: Any,
) -> Deployment:
    """What a process with these plugins knows; ``more`` is what else ``Deployment`` takes."""
    if clock is not None:
        more["clock"] = clock
    return Deployment(registry=Registry(plugins), **more)


@contextmanager
def calls_of(
    db: Any, principal: Principal | str | None, deployment: Deployment, **more: Any
) -> Iterator[CallManager]:
    """A call manager of this user, in a transaction that ends with the block.

    It is committed at the end of the block, or aborted when the block raises.

    Args:
        db: An open ``ZODB.DB``.
        principal: Who is logged in; None: nobody.
        deployment: From ``deployment_of``; the same one for all blocks of a test.
        more: What else ``CallManager`` takes.
    """
    manager = transaction.TransactionManager(explicit=True)
    connection = None
    try:
        with manager:
            connection = db.open(transaction_manager=manager)
            yield CallManager(PlainAccess(connection, principal), deployment, **more)
    finally:
        if connection is not None:
            connection.close()


def run_calls(
    db: Any,
    plugins: Mapping[str, Callable[..., Any] | str] | None = None,
    *,
    clock: Clock | None = None,
    **settings: Any,
) -> int:
    """Run all calls that are due, as a worker with these plugins does; returns how many ended.

    Args:
        db: An open ``ZODB.DB``.
        plugins: Name to callable, beside those that are installed.
        clock: Tells what is due.
        settings: What else ``wsgi_zasync.worker.Worker`` takes.
    """
    from .worker import Worker

    worker = Worker(db=db, plugins=plugins or {}, clock=clock, **settings)
    try:
        return worker.run_once()
    finally:
        worker.stop()


def assert_called(
    calls: CallManager,
    plugin: str,
    /,
    *args: Any,
    state: CallState | str | None = None,
    **kwargs: Any,
) -> Call:
    """Check that the owner has exactly one call of the plugin with these arguments.

    Returns it. Arguments that are not given are not compared: without any, every call of the
    plugin counts.

    Raises:
        AssertionError: There is none or several, or it is in another state; says what there is.
        ConfigurationError: ``calls`` is no call manager.
    """
    if type(calls) is not CallManager:
        raise ConfigurationError("assert_called takes a call manager and the name of a plugin")
    all_calls = calls.mine(plugin=plugin, limit=1_000)
    found = [
        call
        for call in all_calls
        if (not args or call.args == args)
        and all(name in call.kwargs and call.kwargs[name] == kwargs[name] for name in kwargs)
    ]
    shown = ", ".join(f"{call.args} {call.kwargs} {call.state}" for call in all_calls) or "none"
    if len(found) != 1:
        raise AssertionError(f"{len(found)} calls of {plugin!r} fit; its calls are: {shown}")
    if state is not None and found[0].state != state:
        raise AssertionError(f"{found[0]!r} is not {state}")
    return found[0]
