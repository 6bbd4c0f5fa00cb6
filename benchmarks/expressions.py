# SPDX-License-Identifier: ZPL-2.1
"""Callback expressions: compiling and evaluating, against other engines.

Five typical expressions, all engines in one run.  Evaluating includes making
the context, as every caller has to.  The ratios count; the machine is noisy.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import chameleon
from RestrictedPython import compile_restricted_eval

from benchmarks.engines import ENGINES
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
    #: Zope's way to say that it is open.
    __allow_access_to_unprotected_subobjects__ = 1

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


def measure(text: str, source: str) -> dict[str, tuple[float, float]]:
    """Microseconds to compile and to evaluate, by engine."""
    ours = compile_expression(text)
    code = compile(source, "<plain>", "eval")
    page = "<b>${" + source.replace(chr(34), "&quot;") + "}</b>"
    template = chameleon.PageTemplate(page)
    wanted = eval(code, dict(NAMES))
    found = {
        "ours": (
            _timed(lambda: compile_text(text, DEFAULT_LIMITS)),
            _timed(lambda: ours.evaluate(NAMES, principal=ANN, policy=POLICY)),
        ),
        "ours, cached": (_timed(lambda: compile_expression(text)), 0.0),
        "plain Python": (
            _timed(lambda: compile(source, "<plain>", "eval")),
            _timed(lambda: eval(code, dict(NAMES))),
        ),
        "RestrictedPython": (_timed(lambda: compile_restricted_eval(source)), 0.0),
        "Chameleon": (
            _timed(lambda: chameleon.PageTemplate(page + " ")),
            _timed(lambda: template(**NAMES)),
        ),
    }
    for name, compiled in ENGINES.items():
        evaluate = compiled(text)
        assert evaluate(NAMES) == wanted, name
        found[name] = (
            _timed(lambda compiled=compiled: compiled(text)),  # type: ignore[misc]
            _timed(lambda evaluate=evaluate: evaluate(NAMES)),  # type: ignore[misc]
        )
    return found


def run() -> None:
    """Measure and print."""
    table = {name: measure(text, source) for name, text, source in TYPICAL}
    figures = [
        _worst(
            "evaluating, against zope.tales", table, "≤ 5", lambda f: _ratio(f, "zope.tales", 1)
        ),
        _worst(
            "evaluating, against Zope's page templates",
            table,
            "< 1",
            lambda f: _ratio(f, "Zope's page templates", 1),
        ),
        _worst(
            "compiling, against RestrictedPython",
            table,
            "≤ 0.5",
            lambda f: _ratio(f, "RestrictedPython", 0),
        ),
    ]
    show("Expressions, the worst of five", figures)
    for what, index in (("compile", 0), ("evaluate", 1)):
        rows = [
            Figure(
                engine,
                "  ".join(f"{found[engine][index]:8.1f}" for found in table.values()),
                "",
            )
            for engine in table["path"]
            if table["path"][engine][index]
        ]
        show(f"Microseconds to {what}: {', '.join(table)}", rows)


def _ratio(found: dict[str, tuple[float, float]], engine: str, index: int) -> float:
    return found["ours"][index] / found[engine][index]


def _worst(
    what: str,
    table: dict[str, dict[str, tuple[float, float]]],
    goal: str,
    ratio: Callable[[dict[str, tuple[float, float]]], float],
) -> Figure:
    ratios = {name: ratio(found) for name, found in table.items()}
    each = ", ".join(f"{name} {value:.2f}" for name, value in ratios.items())
    return Figure(what, f"{max(ratios.values()):.2f} ×", goal, each)


if __name__ == "__main__":
    run()
