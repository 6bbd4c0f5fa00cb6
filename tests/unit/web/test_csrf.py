# SPDX-License-Identifier: ZPL-2.1
"""Two proofs that a request is meant: where it comes from, and a token or a program's form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from webob.headers import EnvironHeaders

from wsgi_zasync import Principal
from wsgi_zasync.sealing import Keys
from wsgi_zasync.web.csrf import is_programs, is_same_origin, is_token, make_token

KEYS = Keys([b"k" * 32])
NOW = datetime(2026, 11, 23, 12, 59, 59, tzinfo=UTC)
ANN = Principal("ann")


def headers(**given):
    """Headers as of a request."""
    environ = {
        "CONTENT_TYPE" if name == "content_type" else "HTTP_" + name.upper(): value
        for name, value in given.items()
    }
    return EnvironHeaders(environ)


def test_a_token_is_accepted_in_its_hour_and_the_next():
    token = make_token(KEYS, ANN, "change", NOW)

    assert is_token(KEYS, ANN, "change", token, NOW)
    assert is_token(KEYS, ANN, "change", token, NOW + timedelta(hours=1))
    assert not is_token(KEYS, ANN, "change", token, NOW + timedelta(hours=2))
    assert not is_token(KEYS, ANN, "change", token, NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("principal", "purpose", "keys"),
    [
        (Principal("bob"), "change", KEYS),
        (Principal("ann", source="members"), "change", KEYS),
        (ANN, "other", KEYS),
        (ANN, "change", Keys([b"x" * 32])),
    ],
)
def test_a_token_of_another_user_purpose_or_secret_is_none(principal, purpose, keys):
    token = make_token(keys, principal, purpose, NOW)

    assert not is_token(KEYS, ANN, "change", token, NOW)


def test_a_token_of_an_earlier_secret_is_accepted_while_that_is_listed():
    token = make_token(Keys([b"old" * 20]), ANN, "change", NOW)

    assert is_token(Keys([b"new" * 20, b"old" * 20]), ANN, "change", token, NOW)


@pytest.mark.parametrize("token", ["", "x", "é", "\udc80", "A" * 10_000])
def test_odd_tokens_are_none(token):
    assert not is_token(KEYS, ANN, "change", token, NOW)


def test_a_token_tells_sources_and_ids_apart_that_look_alike_together():
    one = make_token(KEYS, Principal("c", source="ab"), "change", NOW)
    other = make_token(KEYS, Principal("bc", source="a"), "change", NOW)

    assert one != other


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"origin": "https://site.org"}, True),
        ({"origin": "http://site.org"}, False),
        ({"origin": "https://site.org:8443"}, False),
        ({"origin": "https://evil.org"}, False),
        ({"origin": "https://site.org.evil.org"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "https://evil.org", "sec_fetch_site": "same-origin"}, False),
        ({"origin": "https://site.org", "sec_fetch_site": "cross-site"}, False),
        ({"referer": "https://site.org/page"}, False),
    ],
)
def test_the_browser_says_where_a_request_comes_from(given, expected):
    assert is_same_origin(headers(**given), "https://site.org") is expected


@pytest.mark.parametrize("own_origin", ["https://Site.Org", "https://site.org"])
@pytest.mark.parametrize("origin", ["https://site.org", "https://SITE.org"])
def test_a_host_is_the_same_in_capitals(origin, own_origin):
    assert is_same_origin(headers(origin=origin), own_origin)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"content_type": "application/json", "x_zasync": "1"}, True),
        ({"content_type": "application/json; charset=utf-8", "x_zasync": ""}, True),
        ({"content_type": "application/json"}, False),
        ({"content_type": "text/plain", "x_zasync": "1"}, False),
        ({"content_type": "application/x-www-form-urlencoded", "x_zasync": "1"}, False),
        ({"x_zasync": "1"}, False),
    ],
)
def test_a_program_sends_json_with_a_header_of_its_own(given, expected):
    assert is_programs(headers(**given)) is expected
