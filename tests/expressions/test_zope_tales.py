# SPDX-License-Identifier: ZPL-2.1
"""zope.tales' own tests of its expressions, run against our engine.

Only engine and context are exchanged.  What fails is listed here with the
reason; each difference is deliberate and is in ``reference/expressions``.
"""

from __future__ import annotations

import unittest

import pytest
from zope.tales.tales import CompilerError

from wsgi_zasync.errors import ExpressionError
from wsgi_zasync.expressions.engine import Compilation, compile_text
from wsgi_zasync.expressions.limits import DEFAULT_LIMITS
from wsgi_zasync.expressions.operations import Operations

zope_tests = pytest.importorskip("zope.tales.tests.test_expressions")

NO_NAMESPACES = "function namespaces are not offered: they adapt objects by code"
NO_LAZINESS = "defer: and lazy: are not offered: nothing is evaluated after its evaluation"
NO_CLASSES = "classes are no values, and a path calls none"
NO_FUNCTIONS = "functions do not leave an expression"
OWN_CLASSES = "the classes of expressions, their repr and what they are built from are ours"
OWN_ERRORS = "our errors say the same in other words"

DIFFERENT = {
    **dict.fromkeys(
        [
            "testBadFunction", "testBadInitialNamespace", "testBadNamespace",
            "testFunctionOnFunction", "testGetFunctionNamespace", "testInvalidNamespaceName",
            "testNormalFunction", "testPathOnFunction", "testSetEngine",
            "test_bad_initial_namespace_subpath", "test_path_through_non_callable_nampspace",
        ],
        NO_NAMESPACES,
    ),
    "testBadInitalDynamic": OWN_ERRORS,
    "testHybridPathExpressions": NO_FUNCTIONS,
    "testOldStyleClassIsCalled": NO_CLASSES,
    "testPath": OWN_CLASSES,
    "testPythonCallableIsntCalled": NO_FUNCTIONS,
    "testString": OWN_CLASSES,
    "testStringSubComplex": "an object has no text",
    "test_defer_expression_returns_wrapper": NO_LAZINESS,
    "test_dynamic_invalid_variable_name": OWN_ERRORS,
    "test_eval_defer_wrapper": NO_LAZINESS,
    "test_lazy_expression_returns_wrapper": NO_LAZINESS,
    "test_not": OWN_CLASSES,
    "test_path_CONTEXTS": "CONTEXTS is not offered: it holds what a path must not reach",
    "test_path_nocall_call": "only functions and methods are called, not objects with __call__",
}  # fmt: skip


class Evaluable:
    """One of our compiled expressions, callable with zope.tales' test context."""

    def __init__(self, compiled):
        self.compiled = compiled

    def __call__(self, context):
        names = dict(context.vars)

        class Policy:
            def allows(self, principal, permission, object):
                return True

            def exposes(self, principal, object, name):
                return type(object).__module__ == zope_tests.__name__

        run = Operations(names, None, Policy(), None, DEFAULT_LIMITS)
        return run.leave(self.compiled(run))


class Engine(Compilation):
    """Our engine, as those tests use theirs."""

    def __init__(self):
        super().__init__("", DEFAULT_LIMITS)

    def compile(self, expression):
        try:
            return Evaluable(compile_text(expression, DEFAULT_LIMITS))
        except ExpressionError as failure:
            raise CompilerError(*failure.args) from failure


def cases():
    loader = unittest.TestLoader()
    for kind in (zope_tests.TestParsedExpressions, zope_tests.FunctionTests):
        for name in loader.getTestCaseNames(kind):
            yield f"{kind.__name__}.{name}"


def run_one(case):
    kind, name = case.split(".")
    test = getattr(zope_tests, kind)(name)
    set_up = test.setUp

    def with_our_engine():
        set_up()
        test.engine = Engine()

    test.setUp = with_our_engine
    result = unittest.TestResult()
    test.run(result)
    return result


@pytest.mark.parametrize("case", list(cases()))
def test_zope_tales_tests_pass_or_differ_for_a_reason(case):
    result = run_one(case)

    if case.split(".")[1] in DIFFERENT:
        assert not result.wasSuccessful()
    else:
        assert result.wasSuccessful(), (result.failures + result.errors)[0][1]
