# SPDX-License-Identifier: ZPL-2.1
"""What people write to configure us, and how it is read: files, tables of keys, single values."""

from __future__ import annotations
