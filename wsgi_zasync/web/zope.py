# SPDX-License-Identifier: ZPL-2.1
"""Who has written the restricted code of Zope's that is running, and whether it may ask for calls.

Somebody who may write a script or a template through the web gets others to run it: what it asks
for needs the authority of both.
"""

from __future__ import annotations

import sys

from ..errors import Unauthorized
from ..security import Principal

#: What Zope calls the permission to ask for calls, or to declare callbacks, through the web.
PERMISSION = "Make asynchronous calls"


def declare_permission() -> None:
    """Let Zope's managers grant the permission, if this process is Zope's."""
    permissions = sys.modules.get("AccessControl.Permission")
    if permissions is not None:
        permissions.addPermission(PERMISSION, ("Manager",))


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
    if not manager.calledByExecutable():
        return None
    executable = manager._context.stack[-1]
    if executable.getOwner() is None:
        # It came with the file system, like a template of a product's, and is trusted.
        return None
    if not manager.checkPermission(PERMISSION, executable):
        raise Unauthorized(
            f"a script or template needs the permission {PERMISSION!r}, of whoever runs it and of "
            "its owner"
        )
    folder, identifier = executable.getOwnerTuple()
    return Principal(identifier, "/".join(folder))
