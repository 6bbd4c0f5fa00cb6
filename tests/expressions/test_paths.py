# SPDX-License-Identifier: ZPL-2.1
"""``path:``, ``exists:``, ``nocall:``, ``not:`` and alternatives."""

from __future__ import annotations

import itertools

import pytest

from tests.expressions.world import CANARY, build, evaluate, ring
from wsgi_zasync.errors import ExpressionError, ResourceLimit, Unauthorized, UndefinedName
from wsgi_zasync.expressions import compile_expression

VALUES = [
    ("result/count", 3),
    ("path:result/count", 3),
    ("path: result/count ", 3),
    (" path:result/count", 3),
    ("result/rows/0/name", "Ann"),
    ("result/rows/-1/name", "Cyd"),
    ("result/note", None),
    ("result/items", "data wins"),
    ("result/keys", ["rows", "count", "status", "note", "items"]),
    ("options/tags/1", "y"),
    ("pair/0", 1),
    ("user/name", "Ann"),
    ("user/roles/0", "member"),
    ("user/name/upper", "ANN"),
    ("user/greet", "Hello, Ann!"),
    ("root/novels/emma/title", "Emma"),
    ("root/ids", ["novels"]),
    ("root/novels/values/1/title | string:a method is not called on the way", Unauthorized),
    ("root/?where/emma/title", "Emma"),
    ("root/?steps/title", "Moby-Dick"),
    ("result/rows/?second/name", "Bob"),
    ("result/?missing | nothing", None),
    ("moment/year", 2026),
    ("uuid/hex", "12345678123456781234567812345678"),
    ("nothing", None),
    ("default", None),
    ("result/missing | result/count", 3),
    ("result/missing|user/nobody|string:last | not alternatives", Unauthorized),
    ("result/missing | string:none | still text", "none | still text"),
    ("result/missing | nothing", None),
    ("result/missing | python: 1 | 2", 3),
    ("result/missing | path:result/count", 3),
    ("result/missing | not:result/count", 0),
    ("result/missing | nocall:result/missing | result/count", 3),
    ("result/rows/99 | result/rows/x | string:no", "no"),
    ("result/count/x/y | string:no", "no"),
    ("root/nowhere | string:no", "no"),
    ("nowhere/at/all | string:no", "no"),
    ("exists:result/count", 1),
    ("exists:result/note", 1),
    ("exists:result/missing", 0),
    ("exists:result/missing | result/count", 1),
    ("exists:result/missing | path:result/nope", 0),
    ("exists:result/missing | exists:result/count", 1),
    ("exists:nocall:book/burn | nothing", Unauthorized),
    ("not:exists:result/missing", 1),
    ("not:result/count", 0),
    ("not: result/missing | nothing", 1),
    ("not:python: 1 > 2", 1),
    ("not:string:", 1),
    ("nocall:user/name", "Ann"),
    ("a_b1 | string:digits and _ inside names", "digits and _ inside names"),
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_a_path_reaches(text, expected):
    names = build() | {"where": "novels", "steps": ("novels", "moby"), "second": 1}
    if expected is Unauthorized:
        with pytest.raises(Unauthorized):
            evaluate(text, names)
    else:
        assert evaluate(text, names) == expected


REFUSED_AT_ONCE = [
    "", " ", "path:", "/user/name", "user//name", "user/name/", "user/_password", "_x", "user/ _x",
    "user/\u00a0_x", "user/\uff3fx", "user/?", "user/?_x", "user/?1x", "user/?a b", "?user/name",
    "1user", "user name", "user.name", "\u00e4", "user/a:b", "load:os", "structure:user/name",
    "user/name |", "| user/name", "user/name | | x", "python\0: 1", "user/\ud800", "not:",
    "exists:python: 1", "exists:string:x", "exists:a | not:b", "exists:", "nocall:",
    "CON TEXTS", "python:1 +", "defer:x", "lazy:x", "modules:os", "import:os",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED_AT_ONCE)
def test_a_text_outside_of_the_grammar_does_not_compile(text):
    with pytest.raises(ExpressionError) as refused:
        compile_expression(text)
    assert refused.value.line == 1
    assert refused.value.column >= 1


MISSING = [
    "result/missing", "result/?nowhere", "result/rows/3", "root/nowhere", "nowhere", "CONTEXTS",
    "result/rows/0/nam", "options/tags/first", "root/novels/data", "result/?key/x",
    "result/rows/--1", "result/rows/-",
]  # fmt: skip


@pytest.mark.parametrize("text", MISSING)
def test_what_is_not_there_is_undefined(text):
    with pytest.raises(UndefinedName):
        evaluate(text, key="nope")


CLOSED = [
    "user/card", "user/nothing_like_it", "book/notes", "book/ledger", "book/burn", "ring/name",
    "user/?evil", "user/?evil_path", "exists:user/card", "exists:book/notes",
    "user/card | string:never", "book/notes | nothing", "result/clear",
    "options/tags/append", "result/status/format", "result/count/numerator", "result/?evil",
]  # fmt: skip


@pytest.mark.parametrize("text", CLOSED)
def test_what_is_closed_is_never_taken_for_missing(text):
    with pytest.raises(Unauthorized):
        evaluate(text)


def test_exists_calls_nothing():
    calls = []
    names = build()
    names["book"].lend = lambda: calls.append(1)

    assert evaluate("exists:book/lend", names) == 1
    assert calls == []


def test_a_path_calls_what_it_ends_at_and_nocall_does_not():
    names = build()
    names["ring"] = ring
    with pytest.raises(ExpressionError):
        evaluate("ring", names)  # called, without its argument

    assert evaluate("book/lend", names) == "lent"
    assert names["book"].lent

    with pytest.raises(Unauthorized):  # a method does not leave
        evaluate("nocall:book/lend", names)


def test_a_step_must_be_a_text_or_a_number():
    with pytest.raises(ExpressionError):
        evaluate("result/?step", step={"a": 1})
    with pytest.raises(ExpressionError):
        evaluate("result/?step", step=["count", None])


def test_too_many_alternatives_and_prefixes_are_refused():
    with pytest.raises(ResourceLimit):
        compile_expression("a|" * 60 + "a")
    with pytest.raises(ResourceLimit):
        compile_expression("not:" * 60 + "a")
    with pytest.raises(ResourceLimit):
        compile_expression("a" * 5000)


def test_a_number_as_a_step_is_bounded_like_any_other():
    with pytest.raises(ResourceLimit, match=r"^result/\?step: an integer of more than 4096 bits$"):
        evaluate("result/?step", step=10**5000)


@pytest.mark.parametrize(
    "step",
    [
        "_password", " _password", "\u00a0_password", "\uff3fpassword", "\ufe4f_class__", "\u200b_password",
        "card", "c\u0430rd", "\uff43ard", "card ", "__class__", "__dict__/card", "name/__class__", "nocall:card",
        ["name", "_x"], ["__class__"], [["card"]], [None], [b"card"], [True], {"card": 1}, b"card", 1.0, None,
        "", "a" * 2_000_000, ["name"] * 100_000, 10**5000, [10**5000],
    ],
    ids=map(str, itertools.count()),
)  # fmt: skip
def test_no_bound_step_reaches_what_is_closed(step):
    for text in (
        "user/?step",
        "book/?step",
        "root/?step",
        "ring/?step",
        "user/name/?step",
        "string:${user/?step}",
    ):
        with pytest.raises((ExpressionError, Unauthorized)) as refused:
            evaluate(text, step=step)
        assert CANARY not in str(refused.value)
        assert "cannot be evaluated" not in str(refused.value)
