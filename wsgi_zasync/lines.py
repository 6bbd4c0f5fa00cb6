# SPDX-License-Identifier: ZPL-2.1
"""What a line for people is made of: logs and terminals obey controls, and users write them."""

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


def counted(number: int, noun: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
