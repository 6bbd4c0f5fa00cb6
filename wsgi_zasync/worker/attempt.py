# SPDX-License-Identifier: ZPL-2.1
"""What a plugin is given as its first argument: one execution of one call.

Threads: used in the plugin's own thread; progress and cancelling are single assignments, which
other threads read and make.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ..errors import ConfigurationError
from ..lines import escape_controls
from ..security import Principal

#: Characters of a progress message that are kept.
MAX_PROGRESS_MESSAGE = 200


class Attempt:
    """One execution of a call, as its plugin sees it."""

    def __init__(
        self,
        *,
        call_id: str,
        number: int,
        principal: Principal,
        idempotency_key: str,
        settings: Mapping[str, str],
        root: Any = None,
    ) -> None:
        """Made by the worker."""
        #: The id of the call.
        self.call_id = call_id
        #: Which attempt this is, from 1.
        self.number = number
        #: Whose call it is, with the authority that the owner has now.
        self.principal = principal
        #: The same in every attempt of this call, for others to recognise a repetition by.
        self.idempotency_key = idempotency_key
        #: The options of ``[plugin:NAME]`` that this package does not know itself.
        self.settings = settings
        self._root = root
        self._cancelled = False
        self._progress: tuple[float | None, str] = (None, "")

    @cached_property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines say which call they are about."""
        return logging.LoggerAdapter(
            logging.getLogger("wsgi_zasync.plugin"),
            {"call": self.call_id, "attempt": self.number},
        )

    @property
    def root(self) -> Any:
        """The root of the database, for a plugin that runs in a transaction.

        Raises:
            ConfigurationError: The plugin was not declared with ``runs="transaction"``.
        """
        if self._root is None:
            raise ConfigurationError(
                'this plugin has no database: declare it with runs="transaction" to write to one'
            )
        return self._root

    @property
    def is_cancelled(self) -> bool:
        """Whether it should stop: its owner cancelled it, its time is over, or its worker's."""
        return self._cancelled

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Say how far it is; shown to its owner, at most every two seconds.

        Args:
            fraction: From 0 to 1, or None if that cannot be said.
            message: A few words.
        """
        if fraction is not None:
            fraction = float(fraction)
            fraction = min(1.0, max(0.0, fraction)) if math.isfinite(fraction) else None
        self._progress = (fraction, escape_controls(str(message)[:MAX_PROGRESS_MESSAGE]))

    def __repr__(self) -> str:
        return f"<attempt {self.number} of call {self.call_id}>"


def cancel(attempt: Attempt) -> None:
    """Let the plugin know that it should stop."""
    attempt._cancelled = True


def progress_of(attempt: Attempt) -> tuple[float | None, str]:
    """What it said last of its progress."""
    return attempt._progress
