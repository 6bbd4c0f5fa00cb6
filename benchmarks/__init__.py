# SPDX-License-Identifier: ZPL-2.1
"""What the promises cost, measured as ratios in one run, with absolutes beside them."""

from __future__ import annotations
