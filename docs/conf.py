# SPDX-License-Identifier: ZPL-2.1
"""Sphinx builds docs/ by this; `make docs`."""

from __future__ import annotations

project = "wsgi_zasync"
copyright = "the wsgi_zasync contributors"
extensions: list[str] = []
exclude_patterns: list[str] = []
html_theme = "alabaster"
