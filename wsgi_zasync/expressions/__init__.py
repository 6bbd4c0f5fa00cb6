# SPDX-License-Identifier: ZPL-2.1
"""Callback expressions: from a text, names and a principal to a value.

Neither HTTP nor a database is known here.
"""

from __future__ import annotations

from wsgi_zasync.errors import ExpressionError, ResourceLimit, UndefinedName
from wsgi_zasync.expressions.expression import Expression, check_expressions, compile_expression
from wsgi_zasync.expressions.foreign import CannotDecide
from wsgi_zasync.expressions.limits import Limits

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
