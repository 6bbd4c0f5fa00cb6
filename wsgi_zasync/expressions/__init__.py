# SPDX-License-Identifier: ZPL-2.1
"""Callback expressions: from a text, names and a principal to a value.

Neither HTTP nor a database is known here.
"""

from __future__ import annotations

from ..errors import ExpressionError, ResourceLimit, UndefinedName
from .expression import Expression, check_expressions, compile_expression
from .foreign import CannotDecide
from .limits import Limits

__all__ = [
    "CannotDecide",
    "Expression",
    "ExpressionError",
    "Limits",
    "ResourceLimit",
    "UndefinedName",
    "check_expressions",
    "compile_expression",
]
