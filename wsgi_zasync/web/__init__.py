# SPDX-License-Identifier: ZPL-2.1
"""The HTTP side of a request: whose it is, whose transaction it is, and the addresses served."""

from __future__ import annotations
