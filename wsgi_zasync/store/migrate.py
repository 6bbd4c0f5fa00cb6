# SPDX-License-Identifier: ZPL-2.1
"""Upgrades of what is stored, one step a version.

A store carries a version, and so does each call's record. ``upgrade`` brings the store's own
structure up in one transaction of the caller's; records are brought up one by one, when a
worker or a prune meets them, by ``upgrade_record``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..call import RECORD_VERSION, CallRecord
from ..errors import ConfigurationError
from .root import ROOT_KEY, STORE_VERSION, StoreRoot

#: version -> what brings a store from it to the next one. Empty while there is but one version.
STORE_STEPS: dict[int, Callable[[StoreRoot], None]] = {}

#: version -> what brings a record from it to the next one.
RECORD_STEPS: dict[int, Callable[[CallRecord], None]] = {}


def upgrade(connection: Any) -> bool:
    """Bring the store up to this code's version; whether anything was written.

    Raises:
        ConfigurationError: It was written by a newer version of this package.
    """
    root = connection.root().get(ROOT_KEY)
    if root is None:
        return False
    return _climb(root, STORE_VERSION, STORE_STEPS, "store")


def upgrade_record(record: CallRecord) -> bool:
    """Bring a call's record up to this code's version; whether it was written.

    Raises:
        ConfigurationError: It was written by a newer version of this package.
    """
    return _climb(record, RECORD_VERSION, RECORD_STEPS, "record")


def _climb(stored: Any, target: int, steps: dict[int, Callable[[Any], None]], what: str) -> bool:
    if stored.version > target:
        raise ConfigurationError(
            f"this {what} has version {stored.version}, and this wsgi_zasync reads {target} at "
            "most: upgrade this process"
        )
    changed = False
    while stored.version < target:
        steps[stored.version](stored)
        stored.version += 1
        changed = True
    return changed
