# SPDX-License-Identifier: ZPL-2.1
"""A short run of the fuzzer; `tests.expressions.fuzz` runs for as long as you like."""

from __future__ import annotations

import string

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.expressions.fuzz import TEXTS
from tests.expressions.test_escapes import attempt


@settings(max_examples=400)
@given(TEXTS)
def test_a_nested_expression_neither_leaks_nor_changes_nor_crashes(text):
    attempt(text)


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_refused_or_harmless(text):
    for prefix in ("", "python: ", "string:", "path:", "exists:", "not:"):
        attempt(prefix + text)


@settings(max_examples=200)
@given(st.text(alphabet=string.punctuation + "ax1 fi\n", max_size=60))
def test_any_punctuation_is_refused_or_harmless(text):
    for prefix in ("python: ", "string:", ""):
        attempt(prefix + text)
