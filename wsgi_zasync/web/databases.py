# SPDX-License-Identifier: ZPL-2.1
"""The database of a process: opened when first needed, and again after a fork.

Any thread may ask for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError
from ..fork_lock import ForkLock
from ..store.databases import close_together


class LazyDatabase:
    """A database that is opened by the first who needs it, once a process."""

    def __init__(self, given: Any = None, opener: Callable[[], Any] | None = None) -> None:
        """Serve ``given``, an open ``ZODB.DB``, or what ``opener`` opens."""
        self._lock = ForkLock()
        self._opener = opener
        self._database = given
        self._pid = os.getpid()
        #: Databases of the process that this one was forked from: kept, so that nothing of theirs
        #: is closed here, where it would end the parent's connections.
        self._inherited: list[Any] = []

    @property
    def is_configured(self) -> bool:
        """Whether there is a database, open or to be opened."""
        return self._database is not None or self._opener is not None

    def get(self) -> Any:
        """The database, opened now if it is not open in this process.

        Raises:
            ConfigurationError: None is configured, it cannot be opened, or the one that was
                given was open before this process was forked.
        """
        if self._database is not None and self._pid == os.getpid():
            return self._database
        with self._lock:
            self._leave_the_parents()
            if self._database is None:
                if self._opener is None:
                    raise ConfigurationError(
                        "no database is configured for calls: give CallManagerMiddleware a db or "
                        "a zodb_uri, or bind the application's connection by calls.bind(connection)"
                    )
                self._database = self._opener()
            return self._database

    def _leave_the_parents(self) -> None:
        if self._pid == os.getpid():
            return
        if self._database is not None:
            if self._opener is None:
                raise ConfigurationError(
                    "the database given as db was opened before this process was forked, and "
                    "cannot be used on both sides: give zodb_uri, or a function that opens it"
                )
            self._inherited.append(self._database)
            self._database = None
        self._pid = os.getpid()

    def close(self) -> None:
        """Close the database if it was opened here; one that was given is its giver's."""
        with self._lock:
            if self._opener is not None and self._database is not None:
                if self._pid == os.getpid():
                    close_together(self._database)
                self._database = None
