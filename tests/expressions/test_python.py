# SPDX-License-Identifier: ZPL-2.1
"""``python:``: operators, displays, conditions, items, scopes, calls."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from tests.expressions.world import build, evaluate
from wsgi_zasync.errors import ExpressionError, ResourceLimit, Unauthorized, UndefinedName
from wsgi_zasync.expressions import Limits, compile_expression

D = Decimal

VALUES = [
    # literals
    ("1", 1), ("-1", -1), ("+1", 1), ("~1", -2), ("1.5", 1.5), ("'a' \"b\"", "ab"), ("b'a'", b"a"),
    ("None", None), ("True", True), ("[1, 'a']", [1, "a"]), ("(1,)", (1,)), ("()", ()),
    ("{1, 1}", {1}), ("{'a': 1}", {"a": 1}), ("{}", {}), ("[]", []), (" 2 \n+\n 2\n", 4),
    (" 2 \r\n+\r\n 2", 4), ("1 # a comment", 1),
    # arithmetic
    ("1 + 2 * 3 - 4", 3), ("7 / 2", 3.5), ("7.5 // 2", 3.0), ("7 / 2.0", 3.5), ("{('a', 1): 2}[('a', 1)]", 2), ("7 // 2", 3), ("7 % 4", 3), ("2 ** 10", 1024),
    ("2 ** -1", 0.5), ("(-1) ** 5001", -1), ("(-1) ** 5002", 1), ("0 ** 9999", 0),
    ("1 ** 999999999999", 1), ("1 << 4", 16), ("0 << 10**30", 0), ("256 >> 4", 16),
    ("6 & 3", 2), ("6 | 3", 7), ("6 ^ 3", 5), ("2.0 ** 3", 8.0), ("1.5 * 2", 3.0),
    ("True + True", 2), ("-True", -1), ("9 ** 0.5", 3.0), ("2**62 + 2**62", 2**63),
    ("-2**62 - 2**62 - 1", -(2**63) - 1),
    # Decimal
    ("price + 1", D("13.50")), ("price - price", D("0.00")), ("2 * price", D("25.00")),
    ("price / 5", D("2.5")), ("price // 5", D(2)), ("price % 5", D("2.50")),
    ("price ** 2", D("156.2500")), ("-price", D("-12.50")), ("+price", D("12.50")),
    ("price > 12", True), ("price == 12.5", True), ("price in [12.5]", True),
    # texts and sequences
    ("'a' + 'b'", "ab"), ("b'a' + b'b'", b"ab"), ("[1] + [2]", [1, 2]), ("(1,) + (2,)", (1, 2)),
    ("'ab' * 2", "abab"), ("2 * [0]", [0, 0]), ("'a' * -1", ""), ("[0] * True", [0]),
    # sets and dicts
    ("{1, 2} - {2}", {1}), ("{1} | {2}", {1, 2}), ("{1, 2} & {2, 3}", {2}), ("{1, 2} ^ {2}", {1}),
    ("{'a': 1} | {'b': 2}", {"a": 1, "b": 2}), ("numbers - frozen", {2, 3}),
    # dates
    ("moment - span", datetime.datetime(2026, 11, 22, 6, 30, 5, 7, tzinfo=datetime.UTC)),
    ("day + span", datetime.date(2026, 11, 26)), ("span * 2", datetime.timedelta(4, 21600)),
    ("2 * span", datetime.timedelta(4, 21600)), ("span / span", 1.0), ("-span < span", True),
    ("span // 2", datetime.timedelta(1, 5400)), ("span % span", datetime.timedelta()),
    ("moment > moment - span", True), ("day == day", True), ("moment.date() == day", True),
    # comparisons
    ("1 < 2 < 3", True), ("1 < 2 > 3", False), ("1 == 1.0", True), ("'a' < 'b'", True),
    ("'a' == b'a'", False), ("'a' != 'b'", True), ("1 != 1", False), ("[1, [2]] == [1, [2]]", True),
    ("[1, 2] == [1]", False), ("(1, 2) == (1, 2)", True), ("[1] == (1,)", False),
    ("{'a': [1]} == {'a': [1]}", True), ("{'a': 1} == {'b': 1}", False), ("[2] > [1]", True),
    ("{1, 2} == {2, 1}", True), ("{1} == frozen", True), ("range(3) == range(3)", True),
    ("None == 1", False), ("None is None", True), ("1 is not None", True), ("pair >= (1, 1)", True),
    ("pair <= (1, 2)", True), ("book == book", True), ("book == 1", False), ("[book] == [book]", True),
    ("book is book", True), ("uuid == uuid", True), ("moment == day", False), ("[None] != [1]", True),
    ("1 in [1, 2]", True), ("'x' not in options['tags']", False), ("'a' in 'cat'", True),
    ("98 in b'abc'", True), ("b'b' in b'abc'", True), ("1 in {1}", True), ("(1, 2) in {(1, 2): 0}", True),
    ("'count' in result", True), ("2 in range(3)", True), ("'a' in range(3)", False),
    ("5 in range(0, 10**9, 5)", True), ("'emma' in root['novels']", True), ("book in [book]", True),
    ("'zzz' not in root['novels']", True),
    # logic
    ("True and None", None), ("1 and 2 and 3", 3), ("0 or '' or 'x'", "x"), ("0 and 1", 0),
    ("1 or 2", 1), ("not []", True), ("not book", False), ("not root", False), ("not ring", False),
    ("not len", False), ("'yes' if result['count'] > 2 else 'no'", "yes"), ("1 if 0 else 2", 2),
    ("bool(root)", True), ("bool()", False),
    # items and slices
    ("result['rows'][0]['name']", "Ann"), ("options['tags'][-1]", "y"), ("'abc'[1]", "b"),
    ("b'abc'[0]", 97), ("(1, 2)[0]", 1), ("range(10)[3]", 3), ("'abc'[::-1]", "cba"),
    ("[1, 2, 3][1:]", [2, 3]), ("'abcd'[1:3]", "bc"), ("range(10)[2:4]", [2, 3]),
    ("(1, 2, 3)[:2]", (1, 2)), ("root['novels']['moby'].title", "Moby-Dick"),
    ("{(1, 2): 'x'}[(1, 2)]", "x"), ("{1.5: 'x'}[1.5]", "x"),
    ("{uuid: 1}[uuid]", 1), ("{day: 1}[day]", 1),
    # attributes and calls
    ("user.name", "Ann"), ("user.is_a('lender')", True), ("user.greet('Hi', mark='?')", "Hi, Ann?"),
    ("ring('x')", "ring: x"), ("ring(message='x')", "ring: x"), ("moment.year", 2026),
    ("book.shout()", "EMMA"), ("[b.title for b in root['novels'].values()]", ["Emma", "Moby-Dick"]),
    ("root['novels'].get('nope', 7)", 7), ("root['novels'].ids()", ["emma", "moby"]),
    ("[k for k, b in root['novels'].items()]", ["emma", "moby"]), ("len(root['novels'])", 2),
    ("sorted(root['novels'])", ["emma", "moby"]), ("uuid.version", None), ("span.days", 2),
    # special forms
    ("path('result/count') + 1", 4), ("path('result/nope | result/count')", 3),
    ("string('${user/id}!')", "ann!"), ("exists('result/count')", 1), ("exists('result/nope')", 0),
    ("nocall('user/name')", "Ann"), ("[path for path in [1]]", [1]),
    # comprehensions
    ("[r['name'] for r in result['rows'] if r['qty']]", ["Ann", "Bob"]),
    ("{r['id']: r['name'] for r in result['rows']}", {1: "Ann", 2: "Bob", 3: "Cyd"}),
    ("{r['qty'] % 2 for r in result['rows']}", {0, 1}),
    ("[x + y for x in [1, 2] for y in [10, 20] if x if y > 10]", [21, 22]),
    ("[[x * y for y in range(3)] for x in range(2)]", [[0, 0, 0], [0, 1, 2]]),
    ("[a + b for a, b in [(1, 2), [3, 4]]]", [3, 7]), ("[a for (a, (b, c)) in [(1, (2, 3))]]", [1]),
    ("[b for [a, b] in [(1, 2)]]", [2]),
    ("sum(x for x in range(4))", 6), ("[user for user in [1]] and user.name", "Ann"),
    ("[x for x in [1] for x in [2]]", [2]), ("[x for x in [[1], [2]] for x in x]", [1, 2]),
    ("[user.name for x in [1]]", ["Ann"]), ("[c for c in 'ab']", ["a", "b"]), ("list(b'a')", [97]),
    ("[k for k in {'a': 1}]", ["a"]), ("[len for len in [1]]", [1]), ("(x for x in [1])", [1]),
    ("[[r['id'], [t for t in options['tags']]] for r in result['rows']][0]", [1, ["x", "y"]]),
    ("[root['novels'][x].title for x in root['novels']]", ["Emma", "Moby-Dick"]),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), VALUES, ids=[source for source, _ in VALUES])
def test_an_expression_gives_what_python_gives(source, expected):
    value = evaluate(f"python: {source}")

    assert value == expected
    assert type(value) is type(expected)


REFUSED_AT_ONCE = [
    "", " ", "1 +", "(1", "1); import os; (1", "import os", "x = 1", "x := 1", "(x := 1)",
    "lambda: 1", "(lambda x: x)(1)", "await x", "(yield)", "(yield from [1])", "raise x", "print 1",
    "f(*x)", "f(**x)", "[*x]", "{**x}", "{*x}", "(*x, 1)", "1j", "...", "x.y = 1", "a; b", "del x",
    "x @ y", "_x", "x._y", "x.__class__", "f(_x=1)", "__import__('os')", "[_ for _ in x]",
    "[x for x.y in z]", "[x for x[0] in z]", "[x for *x, y in z]", "[x async for x in y]",
    "f'{x!r}'", "f'{x!a}'", "f'{x:{y}}'", "f'{x._y}'", "f'{x:9999}'", "f'{x:.9999}'", "f'{x:qq}'",
    "f'{x:%-d}'", "f'{lambda: 1}'", "'\\ud800'", "eval('1')", "exec('1')", "open('x')",
    "getattr(x, 'y')", "vars(x)", "globals()", "memoryview(b'')", "object", "x.gi_frame",
    "x.f_globals", "x.tb_frame", "x.co_code", "x.cr_await", "x.ag_frame", "x.func_globals", "x.mro()",
    "path(x)", "path('a', 'b')", "path()", "path(text='a')", "path('_a')", "path(b'a')",
    "string('${_a}')", "exists('python: 1')", "path('\\0')", "x \uff3f\uff3f", "x.\uff3fy",
    "'%s' % 1 if else 2", "sorted(x, key=lambda: 1)", "sorted(x, key=lambda a, b: 1)",
    "sorted(x, key=lambda *a: 1)", "sorted(x, key=lambda a=1: 1)", "sorted(x, key=lambda _a: 1)",
    "sorted(x, key=lambda a: a._b)", "sorted(x, reverse=lambda a: a)", "1 if 2", "x[1:2, 3]",
    "{1: 2, **x}", "b'\u00e4'", "match x", "9" * 2000, "0x" + "f" * 2000,
]  # fmt: skip


@pytest.mark.parametrize("source", REFUSED_AT_ONCE, ids=[source[:40] for source in REFUSED_AT_ONCE])
def test_what_is_not_in_the_language_does_not_compile(source):
    with pytest.raises(ExpressionError) as refused:
        compile_expression(f"python: {source}")
    assert refused.value.line == 1
    assert refused.value.column >= 8
    assert "\n" in str(refused.value)


WRONG = [
    ("1 + 'a'", "an integer + a text: they do not go together"),
    ("'a' - 'b'", "they do not go together"), ("[1] * [1]", "they do not go together"),
    ("{} / 2", "they do not go together"), ("{} // 2", ""), ("1.5 ** 'a'", ""), ("'a' << 1", ""),
    ("1 >> 'a'", ""), ("1 | 'a'", ""), ("{1} | {'a': 1}", ""), ("{} & {}", ""), ("day * day", ""),
    ("-'a'", ""), ("~1.5", ""), ("~price", ""), ("+span + 1", ""), ("book + 1", "an object + an integer"),
    ("1 / 0", "division by zero"), ("1 % 0", "division by zero"), ("0 ** -1", "division by zero"),
    ("price / 0", "division by zero"), ("1e308 * 10 ** 400", ""), ("(-8.0) ** 0.5", "no such number"),
    ("1 << -1", "no such number"), ("1 >> -1", ""), ("day + 1", ""), ("moment + moment", ""),
    ("day - span * 10**9", ""), ("span % 2", ""), ("(-1.5) ** 10**400", ""), ("price ** price ** 50", ""),
    ("1 < 'a'", "an integer < a text: cannot be compared"), ("None > 1", ""), ("{} < {}", ""),
    ("price < 'a'", ""), ("moment < day", ""), ("1 in 'abc'", "only a text"), ("'a' in b'abc'", "bytes"),
    ("1 in 2", "contains nothing"), ("[] in {}", "cannot be a key"), ("{[]: 1}", "cannot be a key"),
    ("{book}", "cannot be a key"), ("{range(9): 1}", "cannot be a key"), ("{(range(9),)}", "cannot be a key"), ("{}[[]]", "cannot be a key"), ("1[0]", ""), ("None['a']", ""),
    ("'a'['b']", "numbered"), ("[1]['a']", "numbered"), ("[1][1.5]", "numbered"), ("{}[1:2]", "slices"),
    ("[1]['a':]", "integers"), ("[1][::0]", "step"), ("1()", "cannot be called"), ("'a'()", "cannot be called"),
    ("[x for x in 1]", "no items"), ("[x for x in None]", "no items"), ("[a for a, b in [1]]", "takes apart"),
    ("[a for a, b in [(1,)]]", "takes apart"), ("[a for a, b in ['ab']]", "takes apart"),
    ("len()", "wrong arguments"), ("len(1)", "no length"), ("'a'.upper(1)", "wrong arguments"),
    ("book.shout(1)", "TypeError"), ("ring()", "TypeError"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "said"), WRONG, ids=[source for source, _ in WRONG])
def test_what_cannot_be_done_says_so_without_a_raw_exception(source, said):
    with pytest.raises((ExpressionError, Unauthorized), match=".") as refused:
        evaluate(f"python: {source}")
    assert said in str(refused.value)
    assert not isinstance(refused.value, ResourceLimit)


CLOSED = [
    "user.card", "user.missing", "book.notes", "book.burn()", "book.burn", "book.ledger",
    "'a'.format(1)", "'a'.format_map({})", "int.from_bytes", "len.name", "ring.name",
    "[].append(1)", "result.pop('count')", "result.update({})", "{1}.add(2)", "(1).real",
    "user['name']", "user()", "len(user)", "[x for x in user]", "'a' in user", "book['title']",
    "str(user)", "'%s' % user", "f'{user}'", "str([user])", "f'{[user]:>3}'", "'%s' % [user]",
    "sorted([user, user])", "user < book", "[user] < [book]", "{1: user} < {}", "hash(1)", "type(1)",
    "iter([1])", "id(1)", "re.match('a', 'a')", "os.system('true')",
    "ring", "len", "'a'.upper", "user.is_a", "[ring]", "{'a': len}", "ring(ring)", "ring(len)",
    "ring('a'.upper)", "default.x", "default[0]", "ring['a']", "ring.x.y",
    "list(user)", "max([user])", "min(user, user)", "dict(user)",
]  # fmt: skip


@pytest.mark.parametrize("source", CLOSED)
def test_what_is_closed_is_refused(source):
    with pytest.raises(Unauthorized):
        evaluate(f"python: {source}")


def test_effects_happen_only_with_the_permission():
    names = build()

    assert evaluate("python: book.rename('Emma II')", names) == "Emma II"
    assert names["book"].title == "Emma II"
    with pytest.raises(Unauthorized):
        evaluate("python: book.burn()", names)
    assert not names["book"].burnt


def test_data_of_others_is_never_changed():
    names = build()

    value = evaluate("python: result", names)
    value["rows"][0]["name"] = "changed"
    value["new"] = 1

    assert names["result"]["rows"][0]["name"] == "Ann"
    assert "new" not in names["result"]


def test_bound_names_come_before_the_builtin_ones():
    assert evaluate("python: max", {"max": 5}) == 5
    assert evaluate("python: [id, type, filter]", {"id": 1, "type": 2, "filter": 3}) == [1, 2, 3]
    with pytest.raises(ExpressionError, match="cannot be called"):
        evaluate("python: len('a')", {"len": 1})


def test_names_that_are_no_dict_are_copied_into_one():
    class Names(dict):
        pass

    assert evaluate("python: x", Names(x=1)) == 1
    with pytest.raises(ExpressionError, match="cannot be evaluated"):
        compile_expression("python: x").evaluate(7, principal=None, policy=None)


def test_sorting_takes_a_key():
    rows = "result['rows']"
    assert evaluate(f"python: [r['id'] for r in sorted({rows}, key=lambda r: -r['price'])]") == [
        2,
        3,
        1,
    ]
    assert evaluate(f"python: max({rows}, key=lambda r: r['qty'])['name']") == "Ann"
    assert evaluate("python: sorted(['b', 'A'], key=lambda x: x.lower())") == ["A", "b"]
    assert evaluate("python: [sorted([1, 2], key=lambda x: x * y) for y in [1, -1]]") == [
        [1, 2],
        [2, 1],
    ]


def test_a_key_function_goes_nowhere_else():
    with pytest.raises(Unauthorized):
        evaluate("python: ring(key=lambda x: x)")


def test_a_function_of_a_kind_has_the_methods_of_that_kind_only():
    for source in (
        "str.format('{0.card}', user)", "str.format_map('{u.card}', {'u': user})", "str.maketrans('a')",
        "dict.fromkeys('ab')", "int.from_bytes(b'a', 'big')", "list.append(options['tags'], 1)",
        "dict.pop(result, 'status')", "sorted(['{0.card}'], key=str.format)", "str.kind", "len.kind",
    ):  # fmt: skip
        with pytest.raises(Unauthorized):
            evaluate(f"python: {source}")
    with pytest.raises(Unauthorized, match="did you mean 'lower'"):
        evaluate("python: str.lowr('A')")
    for source in ("str.lower(user)", "map(str.upper, [book])", "dict.get(user, 'card')"):
        with pytest.raises(ExpressionError, match="takes a"):
            evaluate(f"python: {source}")


def test_lambda_is_taken_by_map_and_filter_first_and_by_nothing_else():
    for source in (
        "map([1], lambda x: x)", "(lambda x: x)(1)", "sum(lambda x: x)", "ring(lambda x: x)",
        "[lambda x: x]", "map(None, lambda x: x)", "user.greet(lambda x: x)", "map(lambda x, y: x, [1])",
    ):  # fmt: skip
        with pytest.raises(ExpressionError, match="lambda"):
            compile_expression(f"python: {source}")
    with pytest.raises(Unauthorized):
        evaluate("python: map(lambda book: book.notes, [book])")
    with pytest.raises(ResourceLimit):
        evaluate("python: map(lambda x: [y for y in range(10 ** 9)], [1])")
    with pytest.raises(ResourceLimit):
        evaluate("python: dict(key=lambda f: f(f))['key'](dict(key=lambda f: f(f))['key'])")


def test_positions_are_right_after_wide_characters():
    with pytest.raises(UndefinedName) as refused:
        evaluate("python: '\u00e4\u65e5' + nowhere")
    assert refused.value.column == 16
    assert str(refused.value).startswith("nowhere: no such name")


@pytest.mark.parametrize(
    "source",
    ["(" * 45 + ")" * 45, "[" * 45, "-" * 60 + "1", "not " * 60 + "1", "lambda:" * 50 + "1",
     "+".join(["1"] * 700), "1if 1else " * 170 + "1", "2**" * 170 + "2", "x" + ".a" * 100,
     "x" + "[0]" * 100, "[" + "1," * 700 + "]", "~-" * 100 + "1", "f(" * 45 + ")" * 45],
    ids=range(13),
)  # fmt: skip
def test_what_is_too_deep_or_too_long_is_refused_before_it_is_parsed(source):
    with pytest.raises(ExpressionError):
        compile_expression(f"python: {source}")


def test_limits_can_be_given_to_the_compiler():
    limits = Limits(nodes=3, source=30)
    assert evaluate("python: 1 + 1") == 2
    assert compile_expression("python: 1 + 1", limits) is compile_expression(
        "python: 1 + 1", limits
    )
    with pytest.raises(ResourceLimit):
        compile_expression("python: 1 + 1 + 1", limits)
    with pytest.raises(ResourceLimit):
        compile_expression("python: '" + "x" * 40 + "'", limits)
