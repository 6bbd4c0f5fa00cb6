# SPDX-License-Identifier: ZPL-2.1
"""Every error that this package raises, in one tree. Imports nothing of ours.

::

    ZasyncError
    ├── CallNotFound            (also LookupError)
    ├── CallNotFinal
    ├── CallIsFinal
    ├── CallFailed              .failure
    ├── CallCancelled
    ├── CallExpired
    ├── NotAuthenticated
    ├── Unauthorized
    │   └── PluginClosed
    ├── UnknownPlugin           (also LookupError) .name .nearest
    ├── InvalidArguments        (also ValueError)  .path
    │   ├── InvalidResult
    │   └── ObjectGone
    ├── ExpressionError         (also ValueError)  .line .column
    │   ├── UndefinedName
    │   └── ResourceLimit
    ├── DuplicateCall           .call_id
    ├── QuotaExceeded           .limit
    ├── TransactionOver
    ├── ConfigurationError      (also ValueError)
    ├── StoreConflict           (also transaction.interfaces.TransientError)
    └── Fenced
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transaction.interfaces import TransientError

if TYPE_CHECKING:
    from .call import Failure


class ZasyncError(Exception):
    """Root of all errors of this package; never raised itself."""


class CallNotFound(ZasyncError, LookupError):
    """There is no such call for this principal.

    Raised alike for an id that never existed, one that was forgotten and one
    of somebody else. Check the id and who is logged in.
    """


class CallNotFinal(ZasyncError):
    """The call has no outcome yet. Poll, wait, or declare a callback."""


class CallIsFinal(ZasyncError):
    """The call has ended, so that what was asked of it comes too late."""


class CallFailed(ZasyncError):
    """The call ended in a failure, which is in ``.failure``."""

    def __init__(self, message: str, failure: Failure | None = None) -> None:
        super().__init__(message)
        self.failure = failure


class CallCancelled(ZasyncError):
    """The call was cancelled and has no result."""


class CallExpired(ZasyncError):
    """The call was not begun before its ``expires`` and has no result."""


class NotAuthenticated(ZasyncError):
    """Nobody is logged in, and a call needs an owner.

    Log in, set ``calls.principal``, or configure ``identity``.
    """


class Unauthorized(ZasyncError):
    """The principal may not do this, now, on this object."""


class PluginClosed(Unauthorized):
    """An expression puts a call of a plugin that is not open to expressions.

    That takes a permission and ``expressions = yes`` in its section.
    """


class UnknownPlugin(ZasyncError, LookupError):
    """No plugin of that name is registered here or published by a worker."""

    def __init__(self, message: str, name: str = "", nearest: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.nearest = nearest


class InvalidArguments(ZasyncError, ValueError):
    """A value cannot be stored, or does not fit; ``.path`` leads to it."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class InvalidResult(InvalidArguments):
    """A plugin returned a value that cannot be stored; ``.path`` leads to it."""


class ObjectGone(InvalidArguments):
    """An object that a call refers to is in its database no more: deleted, and packed away."""


class ExpressionError(ZasyncError, ValueError):
    """A callback expression does not compile, or failed when evaluated.

    ``.line`` and ``.column`` count from 1 and are ``None`` where unknown.
    """

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class UndefinedName(ExpressionError):
    """An expression asked for a name, attribute or item that is not there."""


class ResourceLimit(ExpressionError):
    """An expression used up its budget of steps, sizes or time."""


class DuplicateCall(ZasyncError):
    """A call with this ``unique`` key is not final yet: ``.call_id``."""

    def __init__(self, message: str, call_id: str = "") -> None:
        super().__init__(message)
        self.call_id = call_id


class QuotaExceeded(ZasyncError):
    """The owner has reached a limit, named by ``.limit``; nothing was written."""

    def __init__(self, message: str, limit: str = "") -> None:
        super().__init__(message)
        self.limit = limit


class TransactionOver(ZasyncError):
    """The request's transaction has ended, so nothing can be written in it.

    Once its connection is closed, nothing can be read by a call of it either.
    """


class ConfigurationError(ZasyncError, ValueError):
    """Something is not configured, or not as it can work; the text says what."""


class StoreConflict(ZasyncError, TransientError):
    """Another process was faster; every retry loop of the host knows this."""


class Fenced(ZasyncError):
    """This worker was taken for dead and its calls were taken over; nothing was committed.

    Trying again is of no use: the worker drops what it holds and registers anew.
    """
