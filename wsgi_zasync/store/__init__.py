# SPDX-License-Identifier: ZPL-2.1
"""Where calls live in ZODB. Nothing in this package commits."""

from __future__ import annotations

from .opening import open_store
from .store import Running, Store
from .tallies import Tally

__all__ = ["Running", "Store", "Tally", "open_store"]
