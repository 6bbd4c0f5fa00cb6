# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from wsgi_zasync.worker.redaction import MAX_MESSAGE, failure_from, shown

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgres://bob:hunter2@db.example/site",
        "cannot reach http://hunter2@proxy:3128",
        "dsn: host=db password=hunter2 dbname=x",
        "password = 'hunter2'",
        '{"password": "hunter2"}',
        "https://example.org/?api_key=hunter2&page=1",
        "Authorization: Bearer hunter2",
        "client_secret=hunter2",
        "DB_PASSWORD: hunter2",
    ],
)
def test_what_looks_like_a_secret_is_not_shown(text):
    assert "hunter2" not in shown(text)
    assert "***" in shown(text)


def test_the_secrets_of_a_call_are_not_shown_wherever_they_stand():
    # Given an exception whose text and traceback hold a secret argument
    try:
        raise ValueError("bind failed for cn=ann with 'pa\\'ss\nword'")
    except ValueError as exc:
        error = exc

    # When it becomes a failure
    failure = failure_from(error, attempt=2, when=NOW, secrets=["pa\\'ss\nword"])

    # Then neither text shows it
    assert "word" not in failure.message.replace("***", "")
    assert failure.message == "bind failed for cn=ann with '***'"
    assert failure.type == "ValueError"
    assert failure.attempt == 2


def test_controls_are_escaped_and_long_texts_cut():
    assert shown("a\x1b[31mb\nc\u202ed") == "a\\x1b[31mb\\nc\\u202ed"
    assert len(shown("x" * 10_000)) == MAX_MESSAGE


def test_an_exception_without_a_readable_text_is_still_a_failure():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError("no")

    failure = failure_from(Broken(), attempt=1, when=NOW)

    assert failure.type == "Broken"
    assert "RuntimeError" in failure.message


@pytest.mark.parametrize("part", ["a-", "password", "token ", "://a", "secret=' ", "x"])
def test_a_long_text_of_somebody_else_takes_little_time(part):
    # Given a plugin that raises what somebody else wrote, as float() and others do
    error = ValueError(part * (1_000_000 // len(part)))

    # When it becomes a failure
    began = time.process_time()
    failure = failure_from(error, attempt=1, when=NOW)

    # Then its length is paid for once, not squared: that took hours
    assert time.process_time() - began < 2
    assert len(failure.message) <= MAX_MESSAGE


@pytest.mark.parametrize("size", [3_000, 9_000, 30_000])
def test_a_long_secret_is_not_shown_either(size):
    # Given a secret that is longer than a message may be
    secret = "".join(f"k{number:05}" for number in range(size // 6))
    error = ValueError(f"no key: {secret}")

    # When it is in what an exception says
    failure = failure_from(error, attempt=1, when=NOW, secrets=[secret])

    # Then it is not cut in two, of which one is not known any more
    assert failure.message == "no key: ***"
    assert "k00001" not in failure.traceback_text


def test_a_traceback_has_no_values_of_variables():
    def inner(password):
        raise KeyError("x")

    try:
        inner("hunter2")
    except KeyError as exc:
        failure = failure_from(exc, attempt=1, when=NOW)

    assert "inner" in failure.traceback_text
    assert "hunter2" not in failure.traceback_text.replace('inner("hunter2")', "")
