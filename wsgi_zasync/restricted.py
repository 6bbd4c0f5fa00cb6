# SPDX-License-Identifier: ZPL-2.1
"""What restricted code sees of ours, such as Zope's through-the-web scripts and templates.

AccessControl shows it nothing of an object whose class does not say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_Class = TypeVar("_Class", bound=type)


def shown_to_restricted(*names: str) -> Callable[[_Class], _Class]:
    """For a class: show restricted code these of its attributes, and no other."""

    def declare(cls: _Class) -> _Class:
        cls.__allow_access_to_unprotected_subobjects__ = dict.fromkeys(names, 1)  # type: ignore[attr-defined]
        return cls

    return declare
