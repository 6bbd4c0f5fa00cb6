# SPDX-License-Identifier: ZPL-2.1
"""Asynchronous calls for any WSGI application, in the request's own ZODB transaction.

The path of a call: the ``middleware`` gives each request a call ``manager``. That finds the
request's transaction and connection by ``web``, checks what is asked for, and writes a ``call``
into the ``store``. A ``worker`` accepts it, runs its plugin (``plugins``), and writes its outcome
together with what its callback ``expressions`` do. ``web`` shows its owner what became of it. What
people write to set all this up is read by ``configuration`` and ``settings``; ``cli`` is the
command ``zasync``.
"""

from __future__ import annotations

from .call import Failure
from .errors import (
    CallCancelled,
    CallExpired,
    CallFailed,
    CallIsFinal,
    CallNotFinal,
    CallNotFound,
    ConfigurationError,
    DuplicateCall,
    ExpressionError,
    InvalidArguments,
    NotAuthenticated,
    QuotaExceeded,
    TransactionOver,
    Unauthorized,
    UnknownPlugin,
    ZasyncError,
)
from .exposure import expose
from .manager import CallManager, get_manager
from .manager.view import Call
from .middleware import CallManagerMiddleware
from .plugins import plugin
from .ports import SecurityPolicy
from .retry import Retry, RetryPolicy
from .sealing import Secret
from .security import Principal
from .states import CallState

__all__ = [
    "Call",
    "CallCancelled",
    "CallExpired",
    "CallFailed",
    "CallIsFinal",
    "CallManager",
    "CallManagerMiddleware",
    "CallNotFinal",
    "CallNotFound",
    "CallState",
    "ConfigurationError",
    "DuplicateCall",
    "ExpressionError",
    "Failure",
    "InvalidArguments",
    "NotAuthenticated",
    "Principal",
    "QuotaExceeded",
    "Retry",
    "RetryPolicy",
    "Secret",
    "SecurityPolicy",
    "TransactionOver",
    "Unauthorized",
    "UnknownPlugin",
    "ZasyncError",
    "expose",
    "get_manager",
    "plugin",
]
