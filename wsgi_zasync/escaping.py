# SPDX-License-Identifier: ZPL-2.1
"""Text in one line that steers neither a terminal nor a log: what users wrote may be in it."""

from __future__ import annotations


def escape_controls(text: str) -> str:
    """The text with everything that a terminal or a log would act on made visible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def owner_text(owner: tuple[str, str]) -> str:
    """An owner as it is written in configuration: ``id``, or ``source:id``."""
    source, identifier = owner
    return f"{source}:{identifier}" if source else identifier
