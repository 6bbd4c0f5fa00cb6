# SPDX-License-Identifier: ZPL-2.1
"""Other engines for expressions, each made as its own users make it.

What they guard differs: zope.tales as it comes and Chameleon guard nothing; RestrictedPython
guards syntax and names that begin with an underscore; Zope asks its security policy about every
object, as we do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from Products.PageTemplates.Expressions import getEngine
from RestrictedPython import compile_restricted, safe_globals
from RestrictedPython.Eval import default_guarded_getitem, default_guarded_getiter
from RestrictedPython.Guards import safer_getattr
from zope.component import provideAdapter
from zope.tales.engine import DefaultEngine
from zope.tales.expressions import DeferExpr, NotExpr, PathExpr, StringExpr
from zope.tales.pythonexpr import PythonExpr
from zope.tales.tales import ExpressionEngine
from zope.traversing.adapters import DefaultTraversable
from zope.traversing.interfaces import ITraversable

#: Compiles a text; what comes of it evaluates with names.
Compile = Callable[[str], Callable[[Mapping[str, Any]], Any]]

_GUARDS = {
    "_getattr_": safer_getattr,
    "_getitem_": default_guarded_getitem,
    "_getiter_": default_guarded_getiter,
}


class RestrictedExpr(PythonExpr):
    """``python:`` compiled by RestrictedPython, with the guards that it comes with."""

    def _compile(self, text: str, filename: str) -> Any:
        return compile_restricted(text, filename, "eval")

    def __call__(self, econtext: Any) -> Any:
        names = self._bind_used_names(econtext, safe_globals["__builtins__"])
        return eval(self._code, names | _GUARDS)


def _with(engine: Any) -> Compile:
    def compiled(text: str) -> Callable[[Mapping[str, Any]], Any]:
        expression = engine.compile(text)
        return lambda names: expression(engine.getContext(names))

    return compiled


def _restricted() -> Any:
    engine = ExpressionEngine()
    for kind in PathExpr._default_type_names:
        engine.registerType(kind, PathExpr)
    for name, kind in {"string": StringExpr, "not": NotExpr, "defer": DeferExpr}.items():
        engine.registerType(name, kind)
    engine.registerType("python", RestrictedExpr)
    return engine


def _zope() -> Any:
    """The engine of Zope's page templates, for templates that users may write."""
    # What a running Zope has from its configuration.
    provideAdapter(DefaultTraversable, (None,), ITraversable)
    return getEngine()


ENGINES: dict[str, Compile] = {
    "zope.tales": _with(DefaultEngine()),
    "zope.tales + RestrictedPython": _with(_restricted()),
    "Zope's page templates": _with(_zope()),
}
