# SPDX-License-Identifier: ZPL-2.1
"""``string:`` and its substitutions."""

from __future__ import annotations

import pytest

from tests.expressions.world import build, evaluate
from wsgi_zasync.errors import ExpressionError, ResourceLimit, Unauthorized, UndefinedName
from wsgi_zasync.expressions import Limits, compile_expression

VALUES = [
    ("string:", ""),
    ("string:plain", "plain"),
    ("string: spaces stay ", " spaces stay "),
    ("string:${user/name}", "Ann"),
    ("string:$count!", "7!"),
    ("string:a ${user/id} b ${result/count} c", "a ann b 3 c"),
    ("string:$$count", "$count"),
    ("string:$$$count", "$7"),
    ("string:$$", "$"),
    ("string:%s %d %% {} {0}", "%s %d %% {} {0}"),
    ("string:${result/missing | user/name}!", "Ann!"),
    ("string:${result/missing | nothing}", "None"),
    ("string:${user/greet}", "Hello, Ann!"),
    ("string:${result/rows/0/price}", "2.5"),
    ("string:${options/tags}", "['x', 'y']"),
    ("string:caf\u00e9 \u65e5\u672c ${user/name}", "caf\u00e9 \u65e5\u672c Ann"),
    ("string:${user/id}}", "ann}"),
    ("string:{${user/id}}", "{ann}"),
    ("string:python: 1", "python: 1"),
    ("string:a | b", "a | b"),
    ("string:line\nnext", "line\nnext"),
    ("string:${ user/id }", "ann"),
    ("string:${moment}", "2026-11-24 09:30:05.000007+00:00"),
    ("string:${price} ${uuid}", "12.50 12345678-1234-5678-1234-567812345678"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_a_text_is_filled_in(text, expected):
    assert evaluate(text, build() | {"count": 7}) == expected


@pytest.mark.parametrize(
    "text",
    ["string:$", "string:a $ b", "string:${}", "string:${ }", "string:${user/name", "string:$1",
     "string:${python: 1}", "string:${user/_password}", "string:${string:x}", "string:$_x",
     "string:${user//name}", "string:${a|python:1}", "string:${/user}", "string:${a|}"],
)  # fmt: skip
def test_a_wrong_substitution_does_not_compile(text):
    with pytest.raises(ExpressionError) as refused:
        compile_expression(text)
    assert refused.value.column > 7


def test_an_unclosed_substitution_takes_no_time_however_long_it_is():
    with pytest.raises(ExpressionError):
        compile_expression("string:${" + "a/" * 2000 + "b")


@pytest.mark.parametrize("text", ["string:${user}", "string:${book/notes}", "string:${root}"])
def test_an_object_has_no_text(text):
    with pytest.raises(Unauthorized):
        evaluate(text)


def test_what_is_missing_is_undefined_and_named():
    with pytest.raises(UndefinedName, match=r"^result/mising: no such name$"):
        evaluate("string:a ${result/mising} b", {"result": {}})


def test_the_text_that_is_built_is_bounded():
    with pytest.raises(ResourceLimit):
        evaluate("string:${long}${long}", {"long": "x" * 600}, limits=Limits(text=1000))
