# SPDX-License-Identifier: ZPL-2.1
"""When a worker looks: what it hears of commits, and what is due by the clock."""

from __future__ import annotations
