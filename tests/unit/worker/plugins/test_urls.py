# SPDX-License-Identifier: ZPL-2.1
"""One strict reading of URLs."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_zasync.worker.plugins.failures import (
    AddressRefused,
    InvalidURL,
    OutgoingError,
    SchemeRefused,
)
from wsgi_zasync.worker.plugins.urls import Target, parse, redacted


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://example.org", "http://example.org/"),
        ("HTTP://Example.ORG:80/a%20b", "http://example.org/a%20b"),
        ("https://example.org:443/?q=1#part", "https://example.org/?q=1"),
        ("https://example.org:8443/x", "https://example.org:8443/x"),
        ("http://example.org./x", "http://example.org/x"),
        ("http://example.org:/x", "http://example.org/x"),
        ("http://example.org?q", "http://example.org/?q"),
        ("http://bücher.example/ß?ü", "http://xn--bcher-kva.example/%C3%9F?%C3%BC"),
        ("http://127.0.0.1/", "http://127.0.0.1/"),
        ("http://[::0:1]:80/", "http://[::1]/"),
        # Python 3.13 began to write these with dots.
        ("http://[::FFFF:127.0.0.1]/", f"http://[{IPv6Address('::ffff:7f00:1')}]/"),
        ("http://１２７.０.０.１/", "http://127.0.0.1/"),
        ("http://①②⑦。⓪。⓪。①/", "http://127.0.0.1/"),
        ('http://a_b.example/|^`{}"<>', "http://a_b.example/%7C%5E%60%7B%7D%22%3C%3E"),
        ("http://example.org//x/@y:z", "http://example.org//x/@y:z"),
        ("ftp://example.org/", "ftp://example.org/"),
    ],
)
def test_a_url_has_one_spelling_after_it_was_read(url: str, expected: str) -> None:
    assert parse(url).url == expected


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "017700000001", "0x7f000001", "0X7F.1", "127.1", "127.0.1", "0177.0.0.1",
        "0x7f.0.0.1", "127.0.0.01", "127.0.0.1.2", "256.0.0.1", "1.2.3", "0", "0x", "127.0.0.0x1",
        "4294967296", "１２７.１", "foo.1", "foo.0x7f",
    ],
)  # fmt: skip
def test_a_number_as_host_is_refused_as_an_address_unless_it_is_four_plain_decimals(
    host: str,
) -> None:
    with pytest.raises(AddressRefused):
        parse(f"http://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "example.org", "//example.org/", "/path", "http:example.org", "http:/example.org/",
        "http:///path", "http://", "http://:80/", "http://./", "http://../", "http://a..b/",
        "http://-a.example/", "http://a-.example/", "http://exa mple.org/", " http://example.org/",
        "http://example.org/\n", "http://example.org/a b", "http://example.org/\x00",
        "http://example.org\t/", "http:\\\\example.org\\", "http://example.org\\@127.0.0.1/",
        "http://user@example.org/", "http://user:secret@example.org/", "http://@example.org/",
        "http://example.org@127.0.0.1/", "http://127.0.0.1%2f@example.org/",
        "http://127%2e0%2e0%2e1/", "http://%6c%6f%63%61%6c%68%6f%73%74/", "http://example.org%00/",
        "http://example.org:99999/", "http://example.org:0/", "http://example.org:-1/",
        "http://example.org:8 0/", "http://example.org:８０/", "http://example.org:80:80/",
        "http://[::1/", "http://::1/", "http://[::1]x/", "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/", "http://[:::]/", "http://[127.0.0.1]/", "http://[v1.a]/",
        "http://exa\u2028mple.org/", "http://\ud800.example/", "http://a\u200d.example\u202e/",
        "http://ex(ample.org/", "http://ex'ample.org/", "http://" + "a" * 64 + ".example/",
        "http://" + ".".join(["abc"] * 70) + "/", "http://x/" + "a" * 9000,
    ],
)  # fmt: skip
def test_what_readers_of_urls_might_disagree_about_is_refused(url: str) -> None:
    with pytest.raises((InvalidURL, AddressRefused)):
        parse(url)


@pytest.mark.parametrize("user", ["user@", "user:S3CRET@", "@", ":S3CRET@"])
def test_a_user_in_a_url_is_told_where_it_belongs(user: str) -> None:
    with pytest.raises(InvalidURL, match="send an Authorization header") as caught:
        parse(f"http://{user}example.org/")
    assert "S3CRET" not in str(caught.value)


def test_a_url_must_be_text() -> None:
    with pytest.raises(InvalidURL, match="bytes"):
        parse(b"http://example.org/")  # type: ignore[arg-type]


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_never_breaks_the_reader(text: str) -> None:
    for url in (text, f"http://{text}", f"http://{text}/", f"https://example.org/{text}"):
        try:
            target = parse(url)
        except OutgoingError:
            continue
        assert target.url.isascii()
        assert parse(target.url) == target


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b", "https://example.org:8443/b"),
        ("c?d", "https://example.org:8443/a/c?d"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example", "http://other.example/"),
        ("?q=2", "https://example.org:8443/a/b?q=2"),
        ("../../../x", "https://example.org:8443/x"),
    ],
)
def test_a_location_is_followed_from_where_it_was_given(location: str, expected: str) -> None:
    assert parse("https://example.org:8443/a/b?q=1").follow(location).url == expected


@pytest.mark.parametrize("location", ["http://[", "http://u:p@x/", "a\x00b"])
def test_a_location_that_is_no_url_is_refused(location: str) -> None:
    with pytest.raises(InvalidURL):
        parse("http://example.org/").follow(location)


def test_a_url_of_no_server_is_known_by_its_scheme() -> None:
    with pytest.raises(SchemeRefused, match="has the scheme 'file', and leads to no server"):
        parse("http://example.org/").follow("file:///etc/passwd")


@pytest.mark.parametrize(
    "url",
    [
        "http://user:S3CRET@example.org/",
        "http://S3CRET@example.org/",
        "http://user:S3C/RET@example.org/",
        "http://user:S3C?RET@example.org/",
        "http://user:S3C#RET@example.org/",
        "http://user:S3C@RET@example.org/",
        "http:\\\\user:S3CRET@example.org\\",
        "//user:S3CRET@example.org",
        "user:S3CRET@example.org",
        "http://user:S3CRET\n@example.org/",
        "http://example.org/?token=S3CRET",
        "http://example.org:x/?token=S3CRET",
        "http://user:S3CRET@[::1]:x/",
    ],
)
def test_no_message_shows_a_password_or_a_query(url: str) -> None:
    shown = redacted(url)
    for part in ("S3C", "RET", "user:"):
        assert part not in shown
    try:
        said = parse(url).shown
    except OutgoingError as exc:
        said = str(exc)
    assert "S3C" not in said
    assert "RET" not in said


def test_messages_are_short_and_have_no_controls() -> None:
    assert redacted("http://x/\x1b[2J\n\u202e") == "http://x/\ufffd[2J\ufffd\ufffd"
    assert len(redacted("http://x/" + "a" * 5000)) < 310


def test_an_origin_is_scheme_host_and_port() -> None:
    assert parse("http://X:80/a").origin == parse("http://x/b").origin
    for other in ("https://x/", "http://x:81/", "http://y/", "http://x.y/"):
        assert parse(other).origin != parse("http://x/").origin


def test_a_target_shows_everything_but_the_query() -> None:
    target = Target(scheme="http", host="::1", port=8080, path="/a", query="?k=v")
    assert target.url == "http://[::1]:8080/a?k=v"
    assert target.shown == "http://[::1]:8080/a?…"
