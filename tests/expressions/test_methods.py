# SPDX-License-Identifier: ZPL-2.1
"""The methods of data, and the functions that need no import."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from tests.expressions.world import evaluate
from wsgi_zasync.errors import ExpressionError, ResourceLimit, Unauthorized, UndefinedName
from wsgi_zasync.expressions import Limits

SAME_AS_PYTHON = """
    'stra\\u00dfe'.upper()
    'ABC'.lower()
    'abc'.title()
    'abc'.capitalize()
    'aBc'.swapcase()
    'Stra\\u00dfe'.casefold()
    'a1'.isalnum()
    'abc'.isalpha()
    'abc'.isascii()
    '12'.isdigit()
    '12'.isdecimal()
    '12'.isnumeric()
    'a b'.isidentifier()
    'a'.isprintable()
    'abc'.islower()
    ' '.isspace()
    'Abc'.istitle()
    'ABC'.isupper()
    'abcabc'.find('c')
    'abcabc'.find('c', 3)
    'abcabc'.find('c', 3, 4)
    'abcabc'.rfind('ab')
    'abcabc'.index('b')
    'abcabc'.rindex('b')
    'abcabc'.count('b')
    'abc'.startswith('a')
    'abc'.startswith(('x', 'a'))
    'abc'.startswith('b', 1)
    'abc'.endswith('c')
    'abc'.removeprefix('a')
    'abc'.removesuffix('c')
    ' abc '.strip()
    'xabcx'.strip('x')
    ' abc '.lstrip()
    ' abc '.rstrip()
    'abc'.center(9)
    'abc'.center(9, '*')
    'abc'.ljust(5, '.')
    'abc'.rjust(5)
    '12'.zfill(5)
    'a b c'.split()
    'a,b,c'.split(',')
    'a,b,c'.split(',', 1)
    'a,b,c'.split(sep=',', maxsplit=1)
    'a,b,c'.rsplit(',', 1)
    'a b c'.rsplit()
    'a\\nb\\r\\nc'.splitlines()
    'a\\nb'.splitlines(True)
    'a=b'.partition('=')
    'a=b=c'.rpartition('=')
    'aaa'.replace('a', 'bb')
    'aaa'.replace('a', 'b', 2)
    'aaa'.replace('', '-')
    ','.join(['a', 'b'])
    ','.join(('a', 'b'))
    ','.join('abc')
    ''.join([])
    'a\\tb'.expandtabs()
    'a\\tb'.expandtabs(4)
    '\\u00e4'.encode()
    '\\u00e4'.encode('latin-1')
    '\\u00e4'.encode('ascii', 'xmlcharrefreplace')
    'abc'.encode('utf-16-le')
    b'abc'.decode()
    b'\\xe4'.decode('latin-1')
    b'\\xe4'.decode('utf-8', 'replace')
    b'abc'.hex()
    b'abc'.upper()
    b'a,b'.split(b',')
    b','.join([b'a', b'b'])
    b'a b'.split()
    b'abc'.startswith(b'a')
    b'a\\tb'.expandtabs(2)
    b'abc'.find(b'c')
    [1, 2, 1].count(1)
    [1, 2, 1].index(2)
    (1, 2).index(2)
    [1, 2].copy()
    range(5).index(2)
    {'a': 1}.get('a')
    {'a': 1}.get('b')
    {'a': 1}.get('b', 2)
    {'a': 1}.copy()
    {1, 2}.union({3})
    {1, 2}.union([3], (4,))
    {1, 2}.intersection([2])
    {1, 2}.difference([2])
    {1, 2}.symmetric_difference([2, 3])
    {1, 2}.isdisjoint([3])
    {1, 2}.issubset([1, 2, 3])
    {1, 2}.issuperset([1])
    {1, 2}.copy()
    (3).bit_length()
    (1.0).is_integer()
    True.bit_length()
    abs(-3)
    abs(-2.5)
    all([1, 0])
    all([])
    any([0, 1])
    chr(233)
    divmod(7, 3)
    float('1.5')
    float(2)
    float()
    int('12')
    int('ff', 16)
    int(2.9)
    int()
    int(True)
    isinstance('a', str)
    isinstance(True, int)
    isinstance(1, (str, float))
    isinstance([], list)
    len('abc')
    len(range(10))
    list('ab')
    list(range(3))
    list({'a': 1})
    max(1, 2)
    max([1, 3, 2])
    max('abc')
    max([], default=0)
    min(3, 2)
    min(['b', 'a'])
    ord('a')
    ord(b'a')
    round(2.567, 2)
    round(2.5)
    round(1234, -2)
    set('aab')
    set()
    sorted([3, 1, 2])
    sorted('cab', reverse=True)
    sorted({'b': 1, 'a': 2})
    str(1)
    str()
    str([1, 'a', None, 2.5, (1,), {'a': {1}}])
    str(b'ab')
    str(range(3))
    str(True)
    sum([1, 2, 3])
    sum([1.5, 2], 10)
    sum([[1], [2]], [])
    tuple([1, 2])
    tuple()
    bool([])
    bool('a')
    dict([('a', 1)])
    dict({'a': 1}, b=2)
    dict(a=1)
    '%s-%05d' % ('a', 3)
    '%s' % 'a'
    '%s' % [1, 2]
    '%5.2f|%-6s|%x' % (1.234, 'ab', 255)
    '%(a)s %(b)03d' % {'a': 'x', 'b': 7}
    '100%% %s' % 1
    '%s' % ()[:0] if False else 'x'
    '%c%c' % (97, 'b')
    '%e' % 12345.678
    '%g' % 0.0001
    '%i %u' % (1, 2)
    '%.3s' % 'abcdef'
    '%+d % d %#x' % (1, 2, 255)
    '%.f' % 1.5
    'no format' % {}
    f'{1}{"a"}{None}{2.5}'
    f'{3:>4}|{"ab":<4}|{2.345:.2f}|{5:05d}|{1234567:,}|{255:#x}|{0.25:.0%}'
    f'{"a":s}'
    f'{{}}'
    f'{1!s:>3}|{1!s:3}|{True!s:>6}|{None!s:<6}|{[1]!s:^7}|{2.5!s:.1}|{"a"!s}'
    f'{True}'
    f''
    f'{233:c}' + '%c' % 0x65e5
    dict(values=1, run=2)
    round(2.567, ndigits=1)
    hex(255) + bin(5) + oct(-8)
    pow(2, 10)
    pow(2, -1)
    set('abc').isdisjoint('x')
    {1, 97} & set(b'a')
    sorted(['b', 'A'], key=str.lower)
    max([[1], [2, 3]], key=list.copy)
    str.join('-', ['a', 'b'])
    list(map(str.strip, [' a ', 'b ']))
    list(map(lambda x: x * 2, [1, 2]))
    list(filter(lambda x: x > 1, [1, 2]))
    [list(map(lambda x: x + y, [1])) for y in [1, 2]]
""".strip().splitlines()


@pytest.mark.parametrize("source", [source.strip() for source in SAME_AS_PYTHON])
def test_methods_and_functions_give_what_pythons_give(source):
    value = evaluate(f"python: {source}")
    expected = eval(source)

    assert value == expected
    assert type(value) is type(expected)


GIVES_A_LIST = [
    ("{'a': 1}.keys()", ["a"]), ("{'a': 1}.values()", [1]), ("{'a': 1}.items()", [("a", 1)]),
    ("enumerate('ab')", [(0, "a"), (1, "b")]), ("enumerate('a', 5)", [(5, "a")]),
    ("filter(None, [0, 1])", [1]), ("filter(str, ['', 'a'])", ["a"]), ("map(str, [1, 2])", ["1", "2"]),
    ("map(max, [1, 5], [3, 2])", [3, 5]), ("reversed([1, 2])", [2, 1]), ("zip([1, 2], 'ab')", [(1, "a"), (2, "b")]),
    ("zip()", []), ("zip([1], [2], strict=True)", [(1, 2)]), ("range(3)", [0, 1, 2]),
    ("range(0, 10, 4)", [0, 4, 8]), ("frozenset([1])", frozenset({1})),
    ("max(['a', 'bb'], key=len)", "bb"), ("sorted(['bb', 'a'], key=len)", ["a", "bb"]),
    ("max({'a': 1, 'b': 2}, key={'a': 1, 'b': 2}.get)", "b"), ("[x for x in map(len, ['a'])]", [1]),
    ("sorted(['a', 'B'], key=user.greet)", ["B", "a"]), ("isinstance(book, (dict, list))", False),
    ("Decimal('1.10') + 1", Decimal("2.10")), ("Decimal(5)", Decimal(5)), ("Decimal(price)", Decimal("12.50")),
    ("Decimal()", Decimal(0)),
    ("str(Decimal('Infinity')) + f'{Decimal(\"-Infinity\")}'", "Infinity-Infinity"), ("abs(Decimal('-1'))", Decimal(1)), ("abs(-span)", datetime.timedelta(2, 10800)),
    ("int(price)", 12), ("float(price)", 12.5), ("round(price)", 12), ("round(price, 1)", Decimal("12.5")),
    ("timedelta(days=1, hours=2)", datetime.timedelta(1, 7200)), ("timedelta(1)", datetime.timedelta(1)),
    ("price.is_zero()", False), ("price.normalize()", Decimal("12.5")), ("price.is_nan()", False),
    ("isinstance(price, Decimal)", True), ("isinstance(span, timedelta)", True),
    ("moment.isoformat()", "2026-11-24T09:30:05.000007+00:00"), ("moment.isoformat(' ', 'minutes')", "2026-11-24 09:30+00:00"),
    ("day.isoformat()", "2026-11-24"), ("clock.isoformat(timespec='hours')", "09"),
    ("moment.strftime('%d.%m.%Y %H:%M %%')", "24.11.2026 09:30 %"), ("day.strftime('%j')", "328"), ("clock.strftime('%H')", "09"),
    ("moment.date()", datetime.date(2026, 11, 24)), ("moment.time()", datetime.time(9, 30, 5, 7)),
    ("day.weekday()", 1), ("day.isoweekday()", 2), ("day.toordinal()", 739944), ("day.ctime()", "Tue Nov 24 00:00:00 2026"),
    ("moment.timestamp()", 1795512605.000007), ("span.total_seconds()", 183600.0), ("clock.hour", 9),
    ("day.replace(year=2027)", datetime.date(2027, 11, 24)), ("moment.replace(hour=0).hour", 0), ("moment.microsecond", 7),
    ("day.isocalendar()", (2026, 48, 2)), ("moment.utcoffset()", datetime.timedelta(0)),
    ("price.quantize(Decimal('0.1'))", Decimal("12.5")), ("(price / 3).quantize(Decimal('0.01'))", Decimal("4.17")),
    ("uuid.hex", "12345678123456781234567812345678"), ("f'{moment:%Y-%m-%d}'", "2026-11-24"),
    ("f'{day:%d.%m.}'", "24.11."), ("f'{price:.1f} {price:>8}'", "12.5    12.50"), ("'%.1f' % price", "12.5"),
    ("f'{data}'", "b'bytes'"), ("str(moment)", "2026-11-24 09:30:05.000007+00:00"), ("str(uuid)", "12345678-1234-5678-1234-567812345678"),
    ("{1, 2} == numbers - {3}", True), ("'%s' % moment", "2026-11-24 09:30:05.000007+00:00"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"), GIVES_A_LIST, ids=[source for source, _ in GIVES_A_LIST]
)
def test_what_is_lazy_in_python_is_a_list_here_and_dates_have_their_methods(source, expected):
    value = evaluate(f"python: {source}")

    assert value == expected
    assert type(value) is type(expected)


WRONG = """
    'a'.find(1)
    'a'.find('a', 'b')
    'a'.index('b')
    'a'.rindex('b')
    'a'.startswith(1)
    'a'.startswith(('a', 1))
    'a'.startswith(b'a')
    'a'.removeprefix(1)
    'a'.strip(1)
    'a'.center('a')
    'a'.center(5, 'ab')
    'a'.center(5, 1)
    'a'.zfill('a')
    'a'.split('')
    'a'.split(1)
    'a'.split(',', 'a')
    'a'.partition('')
    'a'.partition(1)
    'a'.replace('a', 1)
    'a'.replace('a', 'b', 'c')
    ','.join([1])
    ','.join(5)
    ','.join([b'a'])
    b','.join('ab')
    'a'.expandtabs('a')
    'a'.encode('idna')
    'a'.encode('punycode')
    'a'.encode('rot13')
    'a'.encode(1)
    'a'.encode('utf-8', 'surrogatepass')
    '\\u00e4'.encode('ascii')
    b'\\xff'.decode('utf-8')
    b'a'.decode('utf-8', 'xmlcharrefreplace') + b'\\xff'.decode('ascii', 'xmlcharrefreplace')
    b'a'.decode('base64')
    {1}.union(1)
    {1}.union([[]])
    {1}.union(1)
    {}.get([])
    moment.strftime(1)
    moment.strftime('%-d')
    beginning.timestamp()
    moment.strftime('%1000000Y')
    moment.isoformat('ab')
    moment.isoformat('T', 'eons')
    moment.isoformat(1)
    day.replace(tzinfo=1)
    day.replace(hour=1)
    day.replace(month=13)
    day.replace(year='a')
    price.normalize(1)
    abs('a')
    all(1)
    chr(-1)
    chr(0xd800)
    chr('a')
    chr(0x110000)
    Decimal('a')
    Decimal([])
    Decimal(1.5)
    dict([1])
    dict([(1, 2, 3)])
    dict([([], 1)])
    enumerate('a', 'b')
    float('a')
    float([])
    int('a')
    int('1', 'a')
    int(1, 10)
    int([])
    int('1', 99)
    int(float('inf'))
    int(float('nan'))
    isinstance(1, 1)
    isinstance(1, len)
    isinstance(1, (str, 1))
    len(None)
    map(str)
    map(1, [1])
    max([])
    max([1, 'a'])
    max()
    min([None, 1])
    ord('ab')
    ord(1)
    range()
    range(1, 2, 3, 4)
    range('a')
    range(1, 2, 0)
    reversed(1)
    round('a')
    round(1, 'a')
    round(1.5, 1000)
    round(float('inf'))
    set([[]])
    sorted([1, 'a'])
    sorted([1], key=1)
    sorted()
    sum(['a'])
    sum([{}])
    timedelta('a')
    timedelta(days=10**10)
    timedelta(eons=1)
    tuple(1)
    zip([1], [], strict=True)
    zip(1)
    '%s %s' % (1,)
    '%s' % (1, 2)
    '%d' % 'a'
    '%d' % None
    '%r' % 1
    '%a' % 1
    '%*d' % (1, 2)
    '%.*f' % (1, 2)
    '%(a)s' % {}
    '%(a)s' % 1
    '%q' % 1
    '%' % ()
    'a %' % 1
    '%c' % 'ab'
    '%c' % -1
    '%d' % float('inf')
    '%x' % 1.5
    f'{"a":d}'
    f'{1:s}'
    f'{[1]:>3}'
    f'{None:>3}'
    f'{moment:>30}'
    f'{1:%Y}'
    f'{"a":%Y}'
    f'{day:Y}'
    f'{moment:%}'
    '%c' % 55296
    f'{57343:c}'
    Decimal('sNaN') == 1
    {Decimal('sNaN'): 1}
    {(1, Decimal('sNaN'))}
    [Decimal('sNaN')].index(1)
    hex(1.5)
    pow(1, 2, 3)
    price.quantize(0.1)
    price.quantize(Decimal('1e-100'))
    set('abc').union(1)
    str.lower(1)
    map(str.lower, [1])
    list.copy('a')
    sorted([1], key=str.lower)
""".strip().splitlines()


@pytest.mark.parametrize("source", [source.strip() for source in WRONG])
def test_wrong_arguments_are_expression_errors(source):
    with pytest.raises(ExpressionError):
        evaluate(f"python: {source}", beginning=datetime.datetime.min)


def test_an_index_that_is_not_there_counts_as_missing():
    with pytest.raises(UndefinedName):
        evaluate("python: [1].index(2)")


TOO_MUCH = """
    10 ** 10 ** 8
    (-2) ** 99999
    2 ** 4096
    1 << 10 ** 10
    1 << 4096
    2 ** 4000 * 2 ** 4000
    2 ** 4095 + 2 ** 4095
    9 ** 1290 * 9 ** 10
    int('9' * 1300)
    Decimal('1e999999')
    Decimal('1e9999999') + 1
    Decimal('9' * 1200)
    str([Decimal('9' * 1000)] * 15000)
    '%s' % [[Decimal('9' * 1000)] * 15000]
    str({'a': chr(0x10fffe) * 150000})
    round(Decimal('1e2000'))
    int(Decimal('1e2000'))
    'a' * 10 ** 7
    b'a' * 10 ** 7
    [0] * 10 ** 6
    (0,) * 10 ** 6
    'a'.ljust(10 ** 7)
    'a'.center(10 ** 7, 'b')
    'a'.zfill(10 ** 7)
    ('\\t' * 1000).expandtabs(10 ** 6)
    ('a' * 50000).replace('a', 'b' * 50000)
    ('a' * 1000000).join(['a'] * 5)
    ''.join(['a' * 10000] * 10000)
    '%1000000d' % 1
    '%.1000000f' % 1
    '%1001s' % 'a'
    '%5000s' % 'a'
    list(range(10 ** 9))
    sum(range(10 ** 9))
    sorted(range(10 ** 9))
    [x for x in range(10 ** 9)]
    all(x >= 0 for x in range(10 ** 9))
    {x for x in range(10 ** 9)}
    {x: x for x in range(10 ** 9)}
    set(range(50000))
    len(range(10 ** 30))
    reversed(range(10 ** 9))
    enumerate(range(10 ** 9))
    [[0] * 100000 for x in range(1000)]
    ['a' * 100000 for x in range(1000)]
    [1 for a in range(1000) for b in range(1000)]
    str([['a' * 1000] * 1000] * 1000)
    [[[[[[0] * 10] * 10] * 10] * 10] * 10] * 10
    [[[[[[0] * 10] * 10] * 10] * 10] * 10] * 10 == [[[[[[0] * 10] * 10] * 10] * 10] * 10] * 10
    'a' * 600000 + 'a' * 600000
    [0] * 60000 + [0] * 60000
    range(10 ** 5000)
    [x * 10 ** 1000 for x in [10 ** 300]]
    str(2 ** 4095 * 2)
    ('a' * 1000000).split('a')
    ('a' * 1000000).replace('', 'b')
    ' '.join('a' * 1000000)
    [('a' * 100000).rfind('b' * 50000) for x in range(10)]
    huge + 1
    huge % 7
    7 // huge
    str(huge)
    '%d' % huge
    f'{huge:d}'
    str([huge])
    str({'a': (giant,)})
    giant + 1
    -giant
    f'{giant:f}'
    '%f' % giant
    str(giant)
    deep == deeper
    str(deep)
    deep
    [x.upper() for x in ['a' * 900000] * 100]
    f'{"a" * 999999}{"a" * 999999}'
    string('${long}${long}')
""".strip().splitlines()


def _deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("source", [source.strip() for source in TOO_MUCH])
def test_what_is_too_much_ends_soon(source):
    with pytest.raises(ResourceLimit):
        evaluate(
            f"python: {source}",
            huge=1 << 100_000,
            giant=Decimal("1e99999"),
            deep=_deep(60),
            deeper=_deep(60),
            long="x" * 600_000,
        )


def test_colliding_numbers_cost_what_they_take():
    chosen = [index * (2**61 - 1) for index in range(2, 8_000)]

    assert len(evaluate("python: set(numbers)", {"numbers": chosen[:100]})) == 100
    for source in ("set(numbers)", "{n for n in numbers}", "{n: n for n in numbers}",
                   "set(numbers[:1]).union(numbers)", "dict(zip(numbers, numbers))"):  # fmt: skip
        with pytest.raises(ResourceLimit):
            evaluate(f"python: {source}", {"numbers": chosen})


def test_texts_as_keys_cost_no_more_than_their_number():
    assert len(evaluate("python: {str(n) for n in range(9000)}")) == 9000


def test_a_lower_budget_holds():
    with pytest.raises(ResourceLimit, match="steps"):
        evaluate("python: [x for x in range(100)]", limits=Limits(steps=50))
    with pytest.raises(ResourceLimit, match="too big"):
        evaluate("python: 'a' * 100 + 'b'", limits=Limits(size=150))
    with pytest.raises(Unauthorized):
        evaluate("python: user.card", limits=Limits(steps=50))
