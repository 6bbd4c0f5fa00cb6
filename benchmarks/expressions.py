# SPDX-License-Identifier: ZPL-2.1
"""Callback expressions: compiling and evaluating, against engines that guard less.

Five typical expressions, all engines in one run.  Evaluating includes making
the context, as every caller has to.  The ratios count; the machine is noisy.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import chameleon
from RestrictedPython import compile_restricted_eval, safe_globals
from RestrictedPython.Eval import default_guarded_getitem, default_guarded_getiter
from RestrictedPython.Guards import safer_getattr
from zope.tales.engine import DefaultEngine

from benchmarks.report import Figure, show
from wsgi_zasync.exposure import expose
from wsgi_zasync.expressions import compile_expression
from wsgi_zasync.expressions.engine import compile_text
from wsgi_zasync.expressions.limits import DEFAULT_LIMITS
from wsgi_zasync.security import DefaultPolicy, Principal


@expose("name", "is_a", secret="Manage")
class Reader:
    """Somebody, with a method."""

    name = "Ann"
    secret = "x"

    def is_a(self, role: str) -> bool:
        """Whether that role is one of theirs."""
        return role == "lender"


NAMES: dict[str, Any] = {
    "result": {
        "rows": [{"id": n, "name": f"Reader {n}", "qty": n % 3} for n in range(5)],
        "count": 5,
        "status": "ok",
    },
    "user": Reader(),
}

_METHOD = "user.name if user.is_a('lender') else '?'"
_LOOP = "[r['name'] for r in result['rows'] if r['qty']]"

#: What it is called, the text for ours and zope.tales, the same in plain Python.
TYPICAL = (
    ("path", "result/status", "result['status']"),
    (
        "string",
        "string:${user/name}: ${result/count} rows",
        "f\"{user.name}: {result['count']} rows\"",
    ),
    ("arithmetic", "python: result['count'] * 2 + 1", "result['count'] * 2 + 1"),
    ("method", f"python: {_METHOD}", _METHOD),
    ("comprehension", f"python: {_LOOP}", _LOOP),
)

ANN, POLICY = Principal("ann"), DefaultPolicy()


def _timed(function: Callable[[], Any], seconds: float = 0.05) -> float:
    """Microseconds a call: the best of five, each of about that many seconds."""
    number, took = timeit.Timer(function).autorange()
    number = max(1, int(number * seconds / max(took, 1e-9)))
    return min(timeit.repeat(function, number=number, repeat=5)) / number * 1e6


def _restricted(source: str) -> Callable[[], Any]:
    scope = {
        **safe_globals,
        "_getattr_": safer_getattr,
        "_getitem_": default_guarded_getitem,
        "_getiter_": default_guarded_getiter,
    }
    code = compile_restricted_eval(source).code
    return lambda: eval(code, {**scope, **NAMES})


def measure(text: str, source: str) -> dict[str, tuple[float, float]]:
    """Microseconds to compile and to evaluate, by engine."""
    engine = DefaultEngine()
    ours, stock = compile_expression(text), engine.compile(text)
    code = compile(source, "<plain>", "eval")
    restricted = _restricted(source)
    page = "<b>${" + source.replace(chr(34), "&quot;") + "}</b>"
    template = chameleon.PageTemplate(page)
    return {
        "ours": (
            _timed(lambda: compile_text(text, DEFAULT_LIMITS)),
            _timed(lambda: ours.evaluate(NAMES, principal=ANN, policy=POLICY)),
        ),
        "ours, cached": (_timed(lambda: compile_expression(text)), 0.0),
        "plain Python": (
            _timed(lambda: compile(source, "<plain>", "eval")),
            _timed(lambda: eval(code, dict(NAMES))),
        ),
        "zope.tales": (
            _timed(lambda: engine.compile(text)),
            _timed(lambda: stock(engine.getContext(NAMES))),
        ),
        "RestrictedPython": (_timed(lambda: compile_restricted_eval(source)), _timed(restricted)),
        "Chameleon": (
            _timed(lambda: chameleon.PageTemplate(page + " ")),
            _timed(lambda: template(**NAMES)),
        ),
    }


def run() -> None:
    """Measure and print."""
    figures = []
    worst_evaluation = 0.0
    worst_compilation = 1e9
    for name, text, source in TYPICAL:
        found = measure(text, source)
        evaluation = found["ours"][1] / found["zope.tales"][1]
        compilation = found["RestrictedPython"][0] / found["ours"][0]
        worst_evaluation = max(worst_evaluation, evaluation)
        worst_compilation = min(worst_compilation, compilation)
        absolutes = ", ".join(f"{who} {c:.1f}/{e:.1f}" for who, (c, e) in found.items())
        figures.append(
            Figure(f"{name}: evaluate / zope.tales", f"{evaluation:.1f}", "at most 5", absolutes)
        )
        figures.append(
            Figure(f"{name}: RestrictedPython / compile", f"{compilation:.1f}", "at least 2")
        )
    figures.append(Figure("worst evaluation", f"{worst_evaluation:.1f}", "at most 5"))
    figures.append(Figure("worst compilation", f"{worst_compilation:.1f}", "at least 2"))
    show("Expressions (absolutes: microseconds to compile/evaluate)", figures)


if __name__ == "__main__":
    run()
