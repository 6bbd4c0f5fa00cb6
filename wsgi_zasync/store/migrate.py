# SPDX-License-Identifier: ZPL-2.1
"""Upgrades of what is stored, one step a version.

Both the store and each record carry a version. The store's own structure is brought up by the
first worker of a new version that registers, in the transaction in which it does. Records are
brought up as they are loaded, by the steps in ``call.RECORD_STEPS``, and stored so when they are
next written: there may be millions of them, and nobody has to wait for all.

What is newer than this code is refused: a store by an error that says to upgrade, a single record
as one that cannot be read, so that it waits untouched for a process that can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import root as current

#: version -> what brings a store from it to the next one. Empty while there is but one version.
STORE_STEPS: dict[int, Callable[[current.StoreRoot], None]] = {}


def upgrade(connection: Any) -> bool:
    """Bring the store up to this code's version; whether anything was written.

    The caller's transaction; nothing is done to a store that is newer, or not there.
    """
    root: current.StoreRoot | None = connection.root().get(current.ROOT_KEY)
    if root is None or root.version >= current.STORE_VERSION:
        return False
    while root.version < current.STORE_VERSION:
        STORE_STEPS[root.version](root)
        root.version += 1
    return True
