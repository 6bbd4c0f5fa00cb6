# SPDX-License-Identifier: ZPL-2.1
"""A grammar of nested expressions, honest and hostile, and what must hold for each.

``python -m tests.expressions.fuzz SECONDS`` runs it for that long and says how
many texts ran; the test suite runs a short part of it.
"""

from __future__ import annotations

import resource
import sys
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.expressions.test_escapes import attempt

NAMES = st.sampled_from(
    "result user book root failure options evil ring moment day span price uuid data numbers pair "
    "nothing default x y len max str list sorted getattr type os re __builtins__ _x path".split()
)

ATTRIBUTES = st.sampled_from(
    "name id roles is_a greet card title pages notes lend burn rename shout ids get keys values "
    "items data kind text exc tb upper format format_map join split replace append pop year hex "
    "strftime __class__ __dict__ _password _p_jar gi_frame tb_frame __globals__ count index".split()
)

CONSTANTS = st.sampled_from(
    ["0", "1", "-1", "2", "3.5", "10**6", "10**30", "1e308", "''", "'a'", "'name'", "'rows'", "'_x'", "'novels'",
     "'emma'", "'%s'", "'{0.card}'", "b'x'", "None", "True", "'\\u0390' * 9", "' '", "[]", "{}", "()", "range(9)", "range(10**9)"]
)  # fmt: skip

OPERATORS = st.sampled_from(
    "+ - * / // % ** << >> & | ^ == != < <= > >= in and or is".split() + ["not in", "is not"]
)

FUNCTIONS = st.sampled_from(
    "len str int float sorted sum max min list tuple set dict range map filter zip enumerate reversed abs round all any "
    "isinstance ord chr divmod Decimal timedelta ring user.is_a user.greet book.rename book.burn root.get result.get "
    "'a'.join 'a'.replace 'a'.center 'a'.format options['tags'].index hash getattr eval type hex pow oct str.lower str.format str.join dict.get list.index int.bit_length price.quantize day.isocalendar moment.utcoffset".split()
)

SPECS = st.sampled_from(
    ["", ":>5", ":.2f", ":d", ":x", ":%Y", ":1000", ":99999", "!r", "!s", ":{x}"]
)


def _compound(part):
    two = st.tuples(part, part)
    three = st.tuples(part, part, part)
    return st.one_of(
        st.builds(lambda a, o, b: f"({a} {o} {b})", part, OPERATORS, part),
        st.builds(lambda a, n: f"{a}.{n}", part, ATTRIBUTES),
        st.builds(lambda a, n, b: f"{a}.{n}({b})", part, ATTRIBUTES, part),
        two.map(lambda p: f"{p[0]}[{p[1]}]"),
        three.map(lambda p: f"{p[0]}[{p[1]}:{p[2]}]"),
        st.builds(lambda f, a: f"{f}({a})", FUNCTIONS, part),
        st.builds(lambda f, p: f"{f}({p[0]}, {p[1]})", FUNCTIONS, two),
        st.builds(lambda f, a, b: f"{f}({a}, key={b})", FUNCTIONS, part, part),
        st.builds(lambda f, a, b: f"{f}({a}, key=lambda x: {b})", FUNCTIONS, part, part),
        st.builds(
            lambda f, a, b: f"{f}(lambda x: {a}, {b})",
            st.sampled_from(["map", "filter", "sorted"]),
            part,
            part,
        ),
        three.map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
        two.map(lambda p: f"[{p[0]} for x in {p[1]}]"),
        three.map(lambda p: f"[{p[0]} for x, y in {p[1]} if {p[2]}]"),
        three.map(lambda p: f"{{{p[0]}: {p[1]} for x in {p[2]}}}"),
        three.map(lambda p: f"{{{p[0]} for x in {p[1]} for y in {p[2]}}}"),
        two.map(lambda p: f"[{p[0]}, {p[1]}]"),
        two.map(lambda p: f"{{{p[0]}: {p[1]}}}"),
        two.map(lambda p: f"{{{p[0]}, {p[1]}}}"),
        st.builds(lambda a, s: f'f"{{{a}{s}}}"', part, SPECS),
        part.map(lambda a: f"not {a}"),
        part.map(lambda a: f"-{a}"),
        part.map(lambda a: f"string('${{{a}}}')"),
        part.map(lambda a: f"path('{a}')"),
    )


PYTHON = st.recursive(st.one_of(NAMES, CONSTANTS), _compound, max_leaves=14)

PATHS = st.lists(
    st.one_of(
        NAMES, ATTRIBUTES, st.sampled_from(["0", "-1", "?evil", "?evil_path", "?options", "rows", "novels", "emma", ""])
    ),
    min_size=1,
    max_size=5,
).map("/".join)  # fmt: skip

SIMPLE = st.one_of(
    PATHS,
    PYTHON.map(lambda source: f"python: {source}"),
    st.builds(lambda a, b: f"string:{a}${{{b}}}$${a}", st.text(max_size=5), PATHS),
    PATHS.map(lambda path: f"nocall:{path}"),
)

TEXTS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(lambda a, b: f"{a} | {b}", PATHS, inner),
        inner.map(lambda text: f"not:{text}"),
        inner.map(lambda text: f"exists:{text}"),
        inner.map(lambda text: f"path: {text}"),
    ),
    max_leaves=4,
)


def main(seconds):
    """Run for so many seconds; says how many texts were tried."""
    began = time.monotonic()
    count = 0
    round_number = 0
    while time.monotonic() - began < seconds:

        @settings(
            max_examples=2_000, deadline=None, database=None, derandomize=False,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(TEXTS)
        def try_one(text):
            nonlocal count
            count += 1
            attempt(text)

        try_one()
        round_number += 1
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{count} texts in {round_number} rounds, {time.monotonic() - began:.0f} s, {used} MiB at most"
    )


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 600)
