# SPDX-License-Identifier: ZPL-2.1
"""Every string in the published tests of other sandboxes, tried as an expression.

``make test`` has `scripts/mine_tests.py` fetch them into the environment; they
are read as text, never imported and never copied.  ``ZASYNC_MINED`` names
another directory that holds them.
"""

from __future__ import annotations

import ast
import os
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from tests.expressions.test_escapes import attempt

#: How many different strings there are at least in the tests of each.
PACKAGES = {"RestrictedPython": 600, "AccessControl": 300, "simpleeval": 500}

PLACE = Path(os.environ.get("ZASYNC_MINED") or Path(sys.prefix, "mined"))


def strings(paths):
    """All literal strings, and the bodies of test functions as they would be written."""
    found = set()
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(textwrap.dedent(node.value).strip())
    return sorted(found)


def as_expressions(text):
    """The ways in which an author could write a mined string."""
    lines = [text, *text.splitlines()]
    for line in dict.fromkeys(line.strip() for line in lines if line.strip()):
        yield f"python: {line}"
        yield line
        yield f"string:${{{line}}}"
        yield f"python: {line.removeprefix('return ').removeprefix('print(').rstrip(')')}"
        if "=" in line:
            yield f"python: {line.split('=', 1)[1]}"


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.filterwarnings("ignore")
def test_no_string_of_another_sandbox_gets_through(package):
    paths = sorted((PLACE / package).rglob("*.py"))
    if not paths:
        pytest.skip(
            f"the tests of {package} are not in {PLACE}: pip could not fetch them "
            "(`make mined` says why), or this is no run of make"
        )

    texts = strings(paths)

    assert len(texts) >= PACKAGES[package]
    for text in texts:
        for expression in as_expressions(text):
            attempt(expression)
