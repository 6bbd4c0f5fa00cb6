# SPDX-License-Identifier: ZPL-2.1
"""The attack tables, one test a text; and the exhausting ones in a small process."""

from __future__ import annotations

import contextlib
import copy
import os
import subprocess
import sys
import time

import pytest

from tests.expressions import escapes, further_escapes
from tests.expressions.world import CANARY, Book, Reader, Shelf, Trouble, build, evaluate
from wsgi_zasync.errors import ExpressionError, Unauthorized
from wsgi_zasync.expressions.values import SCALARS
from wsgi_zasync.security import Principal

DATA = ("result", "options", "evil", "evil_path", "numbers", "pair")


def texts(name):
    """Every text of the two tables of that name."""
    tables = {**getattr(escapes, name), **getattr(further_escapes, name)}
    return [
        pytest.param(text, id=f"{group}-{number}")
        for group, attacks in tables.items()
        for number, text in enumerate(attacks)
    ]


def check_value(value, depth=0):
    """Plain data by exact type, or an object of the library."""
    assert depth < 60
    if type(value) in (list, tuple, set, frozenset):
        for item in value:
            check_value(item, depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            check_value(key, depth + 1)
            check_value(item, depth + 1)
    else:
        assert type(value) in SCALARS or type(value) in (Reader, Book, Shelf, Trouble, Principal)


def attempt(text):
    """What comes out, after a look at what must not have happened."""
    names = build()
    before = copy.deepcopy({name: names[name] for name in DATA})
    began = time.process_time()
    refused = None
    try:
        outcome = evaluate(text, names)
    except (ExpressionError, Unauthorized) as failure:
        outcome = refused = failure
    if refused is not None:
        assert CANARY not in str(refused)
    else:
        check_value(outcome)
        if type(outcome) not in (Reader, Book, Shelf, Trouble):
            assert CANARY not in repr(outcome)
    if time.process_time() - began >= 1:
        # Something else of the process may have fallen into it, such as a collection of all its
        # garbage. What takes long takes long again.
        began = time.process_time()
        with contextlib.suppress(ExpressionError, Unauthorized):
            evaluate(text, build())
        assert time.process_time() - began < 1
    assert {name: names[name] for name in DATA} == before
    assert not names["root"]["novels"]["emma"].burnt
    assert len(names["root"]["novels"]) == 2
    return outcome


@pytest.mark.parametrize("text", texts("REFUSED"))
def test_an_attack_is_refused(text):
    assert isinstance(attempt(text), (ExpressionError, Unauthorized))


@pytest.mark.parametrize("text", texts("HARMLESS"))
def test_what_looks_like_an_attack_is_refused_or_harmless(text):
    attempt(text)


@pytest.mark.parametrize("recipe", texts("MADE"))
def test_a_hostile_text_or_value_does_not_compile(recipe):
    assert isinstance(attempt(eval(recipe)), (ExpressionError, Unauthorized))


EXHAUSTED = """
import resource, sys, time
from decimal import Decimal
from tests.expressions import escapes, further_escapes
from tests.expressions.world import build, evaluate
from wsgi_zasync.errors import ExpressionError, Unauthorized

deep = []
for _ in range(20_000):
    deep = [deep]
endless = []
endless.append(endless)
endless2 = [endless]
names = build() | {
    "long": "x" * 900_000, "long2": "x" * 899_999 + "y", "big": list(range(50_000)),
    "big2": list(range(49_999)) + [0], "colliding": [n * (2**61 - 1) for n in range(2, 20_000)],
    "huge": 1 << 3_000_000, "giant": Decimal("1e999999"), "deep": deep, "endless": endless,
    "endless2": endless2,
}
evaluate("python: f'{moment:%c}' + str(price)", names)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
tables = {**escapes.EXHAUSTING, **further_escapes.EXHAUSTING}
texts = [text for attacks in tables.values() for text in attacks]
slowest = 0.0
for text in texts:
    began = time.process_time()
    try:
        evaluate("python: " + text, names)
        outcome = "value"
    except (ExpressionError, Unauthorized) as refused:
        outcome = type(refused).__name__
    took = time.process_time() - began
    slowest = max(slowest, took)
    if took > 1:
        print("SLOW", round(took, 2), text)
print(len(texts), "texts", round(slowest, 2), "s at most")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc to see its memory")
def test_an_exhausting_text_takes_neither_a_second_nor_256_mib():
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert "SLOW" not in done.stdout
    assert "texts" in done.stdout
