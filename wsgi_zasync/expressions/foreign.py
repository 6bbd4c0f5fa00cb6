# SPDX-License-Identifier: ZPL-2.1
"""Code of others, which expressions call: waiting for it, and what its errors become.

Hosts and databases are known by the names of their classes: none is imported.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from .. import errors
from ..errors import (
    ExpressionError,
    PluginClosed,
    ResourceLimit,
    Unauthorized,
    ZasyncError,
)


class CannotDecide(ExpressionError):
    """The policy, or the database under exposed code, could not answer now.

    Neither yes nor no: what was asked for is tried again later. The reason
    is in ``__cause__``.
    """


def refused(failure: BaseException, *, ours: bool = False) -> ZasyncError:
    """The error to raise for what exposed code raised, without its text.

    Only what our own functions (`ours`) say with our own errors is passed on.
    """
    kinds = {kind.__name__ for kind in type(failure).__mro__}
    if ours and isinstance(failure, PluginClosed):
        # Not so Unauthorized itself: a policy raises that, in words of its own.
        return Unauthorized(str(failure))
    if kinds & {"Unauthorized", "Forbidden", "ForbiddenAttribute"}:
        return Unauthorized("refused by the application")
    if "TransientError" in kinds or isinstance(failure, CannotDecide):
        return CannotDecide("has to be tried again")
    told = isinstance(failure, ZasyncError) and type(failure).__module__ == errors.__name__
    said = f": {failure}" if ours and told else ""
    if isinstance(failure, ResourceLimit):
        return ResourceLimit(f"exposed code reached a limit{said}")
    return ExpressionError(f"exposed code raised {type(failure).__name__}{said}")


def is_refused_call(failure: BaseException) -> bool:
    """Whether the arguments do not fit: raised where we call, and not by what is called."""
    trace = failure.__traceback__
    return type(failure) is TypeError and trace is not None and trace.tb_next is None


def is_database_error(failure: BaseException) -> bool:
    """Whether ZODB raised it: some of its errors are also KeyErrors."""
    return any(kind.__name__ == "POSError" for kind in type(failure).__mro__)


def is_lazy_tree(kind: type) -> bool:
    """Whether it is what BTrees return for ``keys()`` and the like."""
    name = kind.__name__
    return (kind.__module__ == "builtins" and name.endswith("TreeItems")) or (
        kind.__module__.startswith("BTrees.") and name.endswith("TreeIterator")
    )


def call_within(
    timeout: float, function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]
) -> Any:
    """Call in a thread of its own, and stop waiting when the time (in seconds) is over.

    Raises:
        ResourceLimit: It is; the thread goes on until the function returns.
        BaseException: Whatever the function raises.
    """
    outcome: dict[str, Any] = {}
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome["result"] = context.run(function, *args, **kwargs)
        except BaseException as failure:  # noqa: BLE001 - raised again by the one who waits
            outcome["failure"] = failure

    thread = threading.Thread(target=run, name="exposed function", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise ResourceLimit(f"no answer within {timeout} seconds")
    if "failure" in outcome:
        raise outcome["failure"]
    return outcome["result"]
