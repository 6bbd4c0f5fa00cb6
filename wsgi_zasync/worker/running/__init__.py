# SPDX-License-Identifier: ZPL-2.1
"""Running plugins: in the reactor, in a thread, or in a transaction."""

from __future__ import annotations
