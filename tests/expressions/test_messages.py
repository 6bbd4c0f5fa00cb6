# SPDX-License-Identifier: ZPL-2.1
"""Errors for people, and the texts of a whole table."""

from __future__ import annotations

import contextlib
import sys

import pytest

from tests.expressions.world import ANN, CANARY, Policy, build, evaluate
from wsgi_zasync.errors import ExpressionError, ResourceLimit, Unauthorized, UndefinedName
from wsgi_zasync.exposure import exposed
from wsgi_zasync.expressions import check_expressions, compile_expression
from wsgi_zasync.expressions.cache import TextCache
from wsgi_zasync.expressions.rendering import register_template
from wsgi_zasync.security import Principal

COMPILE_ERRORS = [
    ("python: user._x", "'_x': names that begin with _ are closed, line 1, column 9\n"
     "  python: user._x\n"
     "          ^"),
    ("python: 1 +", "invalid syntax, line 1, column 12\n  python: 1 +\n             ^"),
    ("python:\n  lambda: 1", "lambda is not part of the language, line 2, column 3\n    lambda: 1\n    ^"),
    ("user//name", "an element of the path is empty, line 1, column 6\n  user//name\n       ^"),
    ("result/a | user/ b | _x", "'_x': names that begin with _ are closed, line 1, column 22\n"
     "  result/a | user/ b | _x\n"
     "                       ^"),
    ("string:hi ${user/_x}", "'_x': names that begin with _ are closed, line 1, column 18\n"
     "  string:hi ${user/_x}\n"
     "                   ^"),
    ("string:costs 5$", "$ is doubled or followed by a path, line 1, column 15\n  string:costs 5$\n                ^"),
    ("not: exists: python: 1", "exists: takes paths, and calls nothing, line 1, column 14\n"
     "  not: exists: python: 1\n"
     "               ^"),
    ("python: path('user/_x')", "'_x': names that begin with _ are closed, line 1, column 20\n"
     "  python: path('user/_x')\n"
     "                     ^"),
    ("pyton: 1", "'pyton: 1' is no name; did you mean 'python:'?, line 1, column 1\n  pyton: 1\n  ^"),
    ("Python: 1", "'Python: 1' is no name; did you mean 'python:'?, line 1, column 1\n  Python: 1\n  ^"),
    ("result/x | exist:user", "'exist:user' is no name; did you mean 'exists:'?, line 1, column 12\n"
     "  result/x | exist:user\n"
     "             ^"),
    ("string:a\u2028b $", "$ is doubled or followed by a path, line 1, column 12\n"
     "  string:a b $\n"
     "             ^"),
    ("http://x", "'http:' is no name, line 1, column 1\n  http://x\n  ^"),
    ("python: '" + "x" * 80 + "' + y.__z", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), COMPILE_ERRORS)
def test_a_compile_error_shows_the_place(text, message):
    with pytest.raises(ExpressionError) as refused:
        compile_expression(text)
    if message is None:
        caret = str(refused.value).splitlines()[2]
        assert len(caret) <= 64
    else:
        assert str(refused.value) == message


def test_the_place_in_a_field_of_an_f_string_is_that_in_the_whole_text():
    # Which character of the field, and in which words, differs between Pythons.
    with pytest.raises(ExpressionError) as refused:
        compile_expression("python: f'{1}' +\n  f'b {2 *}' + f'{3}'")
    assert refused.value.line == 2
    assert 7 <= refused.value.column <= 11


EVALUATION_ERRORS = [
    ("python: result['rows'][0].nam", UndefinedName, "result['rows'][0].nam: no such name; did you mean 'name'?", 9),
    ("python: result.count + 1", UndefinedName, "result.count: no such name; there is ['count']", 9),
    ("python: 1 + result['cout']", UndefinedName, "result['cout']: no such item; did you mean 'count'?", 13),
    ("result/rows/0/nme/x", UndefinedName, "result/rows/0/nme: no such name; did you mean 'name'?", 1),
    ("python: usr.name", UndefinedName, "usr: no such name; did you mean 'user'?", 9),
    ("python: user.nmae", Unauthorized, "user.nmae: no such name is open; did you mean 'name'?", 9),
    ("user/nmae", Unauthorized, "user/nmae: no such name is open; did you mean 'name'?", 1),
    ("python: 'a'.uper()", UndefinedName, "'a'.uper(): no such name; did you mean 'upper'?", 9),
    ("python: [1,\n   2].x", UndefinedName, "[1, 2].x: no such name", 9),
    ("python: book.burn()", Unauthorized, "book.burn(): needs the permission 'Burn'", 9),
    ("string:a ${user/greet/x}", UndefinedName, None, 12),
    ("python: f'{result[\"x\"]}'", UndefinedName, "f'{result[\"x\"]}': no such item", 9),
    ("python: " + "+".join(["1"] * 40) + "+'a'", ExpressionError, None, 9),
    ("python: result[1]", UndefinedName, "result[1]: no such item", 9),
    ("python: result['" + "x" * 100 + "']", UndefinedName, None, 9),
    ("python: [x for x in result['nope']]", UndefinedName, "result['nope']: no such item; did you mean 'note'?", 21),
    ("result/x | template: nowhere ", UndefinedName, "template: nowhere: no such template", 12),
    ("python: {[]}", ExpressionError, "{[]}: a list cannot be a key", 9),
    ("python: [nope for x in [1]]", UndefinedName, "nope: no such name; did you mean 'note'?", 10),
]  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "message", "column"), EVALUATION_ERRORS)
def test_an_evaluation_error_names_the_part_that_failed(text, kind, message, column):
    names = build() | {"note": 1}
    names["result"]["nope"] = names["result"].pop("nope", None)
    del names["result"]["nope"]
    with pytest.raises((kind, Unauthorized)) as refused:
        evaluate(text, names)
    assert refused.value.line == 1
    assert refused.value.column == column
    if message is None:
        assert len(str(refused.value)) < 140
    else:
        assert str(refused.value) == message


def test_no_value_and_no_closed_name_is_in_a_message():
    for text in ("user/pasword", "python: user.crd", "python: book.note", "book/ledgr", "root/novls", "python: root['x']",
                 "python: book.notes + 1", "python: result['status'] + 1", "python: int(result['status'])"):  # fmt: skip
        with pytest.raises((ExpressionError, Unauthorized)) as refused:
            evaluate(text)
        message = str(refused.value)
        assert CANARY not in message
        for word in ("_password", "'card'", "'ledger'", "'novels'", "'ok'"):
            assert word not in message


def test_a_suggestion_names_only_what_the_owner_may_have():
    def message(text, **more):
        with pytest.raises(Unauthorized) as refused:
            evaluate(text, **more)
        return str(refused.value)

    assert "did you mean 'title'?" in message("book/titl")
    assert "did you mean" not in message("book/note")
    assert "did you mean" not in message("python: book.bur")
    assert "did you mean 'notes'?" in message("book/note", principal=Principal("root"))
    assert "did you mean" not in message("book/note", principal=Principal("root"), author=ANN)


def test_a_policy_that_fails_while_names_are_compared_suggests_none():
    class Broken(Policy):
        def allows(self, principal, permission, object):
            raise OSError("secret")

    with pytest.raises(Unauthorized, match="^book/titl: no such name is open$"):
        evaluate("book/titl", policy=Broken())


@pytest.mark.parametrize(
    "text", ["python: user.greet(1, 2, 3)", "python: user.is_a()", "user/is_a", "python: ring(x=1)"]
)
def test_arguments_that_do_not_fit_are_told_from_errors_inside(text):
    with pytest.raises(ExpressionError, match=r": called with wrong arguments \(TypeError\)$"):
        evaluate(text)

    def broken(message):
        raise TypeError(message)

    with pytest.raises(ExpressionError, match=r": exposed code raised TypeError$"):
        evaluate("python: broken('x')", broken=exposed(broken))


def test_a_table_is_checked_as_a_whole():
    table = {
        "good": "string:${user/id}",
        "bad": "python: 1 +",
        "worse": "user/_x",
    }

    found = check_expressions(table)

    assert list(found) == ["bad", "worse"]
    assert all(isinstance(error, ExpressionError) and error.column for error in found.values())
    assert check_expressions({}) == {}


def test_a_check_asks_for_the_templates_as_well_and_compiling_alone_does_not():
    register_template("mail.welcome", "Dear ${user/title}", "text")
    table = {
        "there": "template: mail.welcome",
        "misspelt": "template:mail.welcom",
        "inside": "not:template:nowhere",
        "or": "result/text | template:nowhere",
    }

    found = check_expressions(table)

    assert {key: (error.line, error.column) for key, error in found.items()} == {
        "misspelt": (1, 10),
        "inside": (1, 14),
        "or": (1, 24),
    }
    assert all(isinstance(error, UndefinedName) for error in found.values())
    assert str(found["misspelt"]).startswith(
        "no template 'mail.welcom' is registered; did you mean 'mail.welcome'?, line 1"
    )
    assert str(found["or"]).startswith("no template 'nowhere' is registered, line 1")
    for text in table.values():
        compile_expression(text)


@pytest.mark.parametrize("text", [None, 12, b"user", ["python: 1"], type("T", (str,), {})("user")])
def test_what_is_not_exactly_a_text_does_not_compile(text):
    with pytest.raises(ExpressionError) as refused:
        compile_expression(text)
    assert (refused.value.line, refused.value.column) == (1, 1)


def test_an_expression_shows_its_text():
    compiled = compile_expression("user/name")
    assert compiled.text == "user/name"
    assert repr(compiled) == "<Expression 'user/name'>"


def test_the_same_text_is_compiled_once():
    assert compile_expression("python: 1 + 2") is compile_expression("python: 1 + 2")


def test_the_cache_holds_only_so_many_characters():
    made = []
    cache = TextCache(10)

    for text in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        cache.get(text, None, lambda text=text: made.append(text) or text)

    assert made == ["aaaa", "bbbb", "cccc", "bbbb"]
    assert len(cache) == 2


def test_two_threads_that_compile_at_once_keep_one():
    cache = TextCache(10)

    def make():
        cache.get("a", None, lambda: "inner")
        return "outer"

    assert cache.get("a", None, make) == "outer"
    assert cache.get("a", None, make) == "inner"
    assert len(cache) == 1


@pytest.mark.parametrize("room", range(20, 160, 7))
def test_a_small_stack_is_a_limit_and_no_raw_exception(room):
    deep = "python: " + "[" * 38 + f"{room}" + "]" * 38

    def at_depth(levels):
        if levels:
            return at_depth(levels - 1)
        return evaluate(deep, {})

    frames = sys._getframe()
    used = 0
    while frames:
        used, frames = used + 1, frames.f_back
    # Where not even our own functions can be called any more, nobody can help.
    allowed = ResourceLimit if room >= 100 else (ResourceLimit, RecursionError)
    with contextlib.suppress(allowed):
        at_depth(sys.getrecursionlimit() - used - room)
