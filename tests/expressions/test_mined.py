# SPDX-License-Identifier: ZPL-2.1
"""Every string in the published tests of other sandboxes, tried as an expression.

The tests of RestrictedPython, AccessControl and simpleeval are read where
they are installed, never imported and never copied; a package without tests
is skipped.  ``ZASYNC_MINED`` names further directories or files, such as
unpacked source distributions.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import textwrap
import warnings
from pathlib import Path

import pytest

from tests.expressions.test_escapes import attempt

PACKAGES = ("RestrictedPython", "AccessControl", "simpleeval")


def test_files(package):
    """The Python files that look like tests of an installed package."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return []
    places = [Path(place) for place in found.submodule_search_locations]
    return [
        path
        for place in places
        for path in sorted(place.rglob("*.py"))
        if "test" in str(path).lower()
    ]


test_files.__test__ = False


def further_files():
    places = [
        Path(place) for place in os.environ.get("ZASYNC_MINED", "").split(os.pathsep) if place
    ]
    return [
        path
        for place in places
        for path in sorted(place.rglob("*.py") if place.is_dir() else [place])
    ]


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


def try_all(texts):
    count = 0
    for text in texts:
        for expression in as_expressions(text):
            attempt(expression)
            count += 1
    return count


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.filterwarnings("ignore")
def test_no_string_of_another_sandbox_gets_through(package):
    paths = test_files(package)
    if not paths:
        pytest.skip(f"{package} is not installed, or without its tests")

    assert try_all(strings(paths)) > 100


@pytest.mark.filterwarnings("ignore")
def test_no_string_of_the_directories_that_were_named_gets_through():
    paths = further_files()
    if not paths:
        pytest.skip("ZASYNC_MINED names no directory")

    print(f"{try_all(strings(paths))} expressions out of {len(paths)} files")
