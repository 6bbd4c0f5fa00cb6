# SPDX-License-Identifier: ZPL-2.1
"""A request that Zope publishes: its connection, and who has written the code that is running.

Zope says neither in the environ that it owns the thread's transaction, nor who it is. Somebody who
may write a script or a template through the web gets others to run it: what it asks for needs the
authority of both.
"""

from __future__ import annotations

import sys
from typing import Any

import transaction
from ZODB.Connection import Connection

from ..errors import Unauthorized
from ..manager import ENVIRON_KEY, CallManager
from ..ports import Access
from ..security import Principal
from . import hosts

#: What Zope calls the permission to ask for calls, or to declare callbacks, through the web.
PERMISSION = "Make asynchronous calls"

#: Where the environ of Zope's request has the transaction that it ends with.
_LAST_TRANSACTION = "wsgi_zasync.last_transaction"


def prepare() -> None:
    """Let Zope's managers grant the permission, and see transactions end, if it is Zope's process.

    Called once a process; again does no harm.
    """
    permissions = sys.modules.get("AccessControl.Permission")
    if permissions is not None:
        permissions.addPermission(PERMISSION, ("Manager",))
    events = sys.modules.get("ZPublisher.interfaces")
    if events is not None:
        for event in (events.IPubBeforeCommit, events.IPubBeforeAbort):
            sys.modules["zope.component"].provideHandler(_note_last_transaction, (event,))


def _note_last_transaction(event: Any) -> None:
    """Keep with the request the transaction that Zope is about to end.

    Its subscribers are told afterwards, with the connection still open, and what they write begins
    another one, which nobody commits.
    """
    event.request.environ[_LAST_TRANSACTION] = transaction.get()


def connection(access: Access) -> Connection | None:
    """The connection of the request that Zope publishes in this thread, if this is its access."""
    publisher = sys.modules.get("ZPublisher.BaseRequest")
    thread = sys.modules.get("zope.globalrequest")
    if publisher is None or thread is None:
        return None
    request: Any = thread.getRequest()
    if not isinstance(request, publisher.BaseRequest):
        return None
    manager, parents = request.environ.get(ENVIRON_KEY), request.get("PARENTS")
    if type(manager) is not CallManager or manager._access is not access or not parents:
        return None
    last = request.environ.get(_LAST_TRANSACTION)
    if last is not None and last is not hosts.threads_transaction():
        return None
    found = getattr(parents[-1], "_p_jar", None)
    return found if isinstance(found, Connection) and found.opened is not None else None


def author() -> Principal | None:
    """The owner of the restricted code that is running in this thread; None if none is.

    The source of the principal is the path of the user's folder, such as ``acl_users``.

    Raises:
        Unauthorized: Whoever runs the code, or owns it, lacks the permission.
    """
    management = sys.modules.get("AccessControl.SecurityManagement")
    if management is None:
        return None
    manager = management.getSecurityManager()
    executable = _innermost_owned(manager._context.stack)
    if executable is None:
        return None
    if not _is_permitted(manager, executable):
        raise Unauthorized(
            f"a script or template needs the permission {PERMISSION!r}, of whoever runs it and of "
            "its owner"
        )
    folder, identifier = executable.getOwnerTuple()
    return Principal(identifier, "/".join(folder))


def _innermost_owned(executables: list[Any]) -> Any | None:
    """The one that a user wrote.

    Those without an owner came with the file system, like a template of a product's. They are
    trusted, and what called them is not: it may have given them something of its own to call.
    """
    owned = (each for each in reversed(executables) if each.getOwner() is not None)
    return next(owned, None)


def _is_permitted(manager: Any, executable: Any) -> bool:
    # Zope asks the owner, and the proxy roles, of the innermost one only.
    manager.addContext(executable)
    try:
        return bool(manager.checkPermission(PERMISSION, executable))
    finally:
        manager.removeContext(executable)
