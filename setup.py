# SPDX-License-Identifier: ZPL-2.1
"""For tools that still look for it; everything is declared in pyproject.toml."""

from __future__ import annotations

from setuptools import setup

setup()
