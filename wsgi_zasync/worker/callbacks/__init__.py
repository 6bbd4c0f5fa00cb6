# SPDX-License-Identifier: ZPL-2.1
"""Evaluating callback expressions, as the owners of their calls."""

from __future__ import annotations
