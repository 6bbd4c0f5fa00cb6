# SPDX-License-Identifier: ZPL-2.1
"""Bodies: limits count what comes out of the decompression, and text is text."""

from __future__ import annotations

import encodings
import gzip
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_zasync.worker.plugins.bodies import SLACK, Body, as_text, content_type
from wsgi_zasync.worker.plugins.failures import ProtocolFailed, TooLarge

RAW = zlib.compressobj(wbits=-15)
RAW_DEFLATE = RAW.compress(b"hello") + RAW.flush()


def collected(data: bytes, encoding: str = "", limit: int = 100, step: int = 7) -> bytes:
    body = Body(encoding, limit, "http://x/")
    for start in range(0, len(data), step):
        body.feed(data[start : start + step])
    return body.finish()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("", b"hello"),
        ("identity", b"hello"),
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("GZIP", gzip.compress(b"hello", mtime=0)),
        ("x-gzip", gzip.compress(b"hello", mtime=0)),
        ("gzip", gzip.compress(b"he", mtime=0) + gzip.compress(b"llo", mtime=0)),
        ("gzip", gzip.compress(b"hello", mtime=0) + b"\0" * 30),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", RAW_DEFLATE),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_was_compressed_comes_out_however_it_is_cut(
    encoding: str, data: bytes, step: int
) -> None:
    assert collected(data, encoding, step=step) == b"hello"


def test_an_unknown_encoding_is_left_as_it_is() -> None:
    body = Body("br", 100, "http://x/")
    body.feed(b"\x0b\x02\x80hello\x03")
    assert body.finish() == b"\x0b\x02\x80hello\x03"
    assert not body.decoded
    assert body.unknown


@given(st.binary(max_size=300), st.integers(1, 400), st.sampled_from(["", "gzip", "deflate"]))
def test_the_limit_is_exact_in_decompressed_bytes(
    content: bytes, limit: int, encoding: str
) -> None:
    compress = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
    if len(content) <= limit:
        assert collected(compress(content), encoding, limit) == content
    else:
        with pytest.raises(TooLarge, match=f"{limit:,} bytes"):
            collected(compress(content), encoding, limit)


def test_a_bomb_is_given_up_at_the_limit_with_little_memory() -> None:
    # Given 48 kB that unpack to 50 MB, arriving at once
    bomb = gzip.compress(bytes(50_000_000))
    body = Body("gzip", 1_000_000, "http://x/")
    tracemalloc.start()
    # When it is fed
    with pytest.raises(TooLarge):
        body.feed(bomb)
    # Then never much more than the limit was unpacked
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


def test_compressed_data_that_never_becomes_anything_is_given_up_too() -> None:
    # Given gzip members of nothing, without end
    body = Body("gzip", 1000, "http://x/")
    nothing = gzip.compress(b"") * 1000
    # When more of it comes than the limit and its slack
    with pytest.raises(TooLarge):
        for _ in range(2 + SLACK // len(nothing) + 1):
            body.feed(nothing)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", b"not gzip"),
        ("deflate", b"\x78\x9cnot deflate"),
        ("gzip", gzip.compress(b"hello", mtime=0)[:-9]),
        ("gzip", gzip.compress(b"hello" * 100, mtime=0)[:-1]),
        ("gzip", gzip.compress(b"hello", mtime=0)[:-5] + b"xxxxx"),
    ],
)
def test_broken_or_unfinished_compression_is_a_failure(encoding: str, data: bytes) -> None:
    with pytest.raises(ProtocolFailed, match=encoding):
        collected(data, encoding, 1000)


def test_no_body_at_all_is_empty_whatever_it_is_said_to_be_compressed_with() -> None:
    assert collected(b"", "gzip") == b""


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (None, None)),
        ("  ", (None, None)),
        ("text/html", ("text/html", None)),
        ('Text/HTML; Charset="UTF-8"', ("text/html", "utf-8")),
        ("application/json;charset=latin-1", ("application/json", "latin-1")),
        ("text/html; charset*=utf-8''x", ("text/html", None)),
    ],
)
def test_a_content_type_is_taken_apart(
    header: str | None, expected: tuple[str | None, str | None]
) -> None:
    assert content_type(header) == expected


@pytest.mark.parametrize("part", [";", '\\";', '";"', "a*0=x;"])
def test_a_long_content_type_takes_no_time(part: str) -> None:
    # Given a server that makes the most of what a head may have
    header = 'text/html; a="' + part * (60_000 // len(part))

    # When its type is read, in the reactor's thread
    began = time.process_time()
    found = content_type(header)

    # Then nobody else waits for it
    assert found == ("text/html", None)
    assert time.process_time() - began < 0.2


def test_charsets_that_servers_make_up_are_not_remembered() -> None:
    remembered = len(encodings._cache)  # type: ignore[attr-defined]

    for number in range(20):
        as_text(b"x", "text/plain", f"made-up-{number}")

    assert len(encodings._cache) == remembered  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "media_type", "charset", "expected"),
    [
        ("grün".encode(), "text/html", None, ("grün", "utf-8")),
        ("grün".encode(), "application/json", None, ("grün", "utf-8")),
        ("grün".encode(), "application/atom+xml", "utf-8", ("grün", "utf-8")),
        ("grün".encode("latin-1"), "text/plain", "ISO-8859-1", ("grün", "iso8859-1")),
        ("grün".encode("utf-16"), "text/plain", "utf-16", ("grün", "utf-16")),
        ("грн".encode("koi8-r"), "text/plain", "koi8-r", ("грн", "koi8-r")),
        ("grün".encode("latin-1"), "text/plain", "Latin-1", ("grün", "iso8859-1")),
        ("grün".encode("latin-1"), "text/plain", "windows-1252", ("grün", "cp1252")),
        (b"\xef\xbb\xbfx", "text/plain", None, ("x", "utf-8")),
        (b"\xff\xfe", "text/plain", None, ("\ufffd\ufffd", "utf-8")),
        (b"x", "text/plain", "no-such-charset", ("x", "utf-8")),
        (b"x", "text/plain", "a\0b", ("x", "utf-8")),
        (b"+2AA-", "text/plain", "utf-7", ("+2AA-", "utf-8")),
        (b"\\ud800", "text/plain", "unicode_escape", ("\\ud800", "utf-8")),
        (b"78", "text/plain", "hex", ("78", "utf-8")),
        (b"x", "text/plain", "zlib", ("x", "utf-8")),
        (b"x", "text/plain", "punycode", ("x", "utf-8")),
        (b"\x89PNG", "image/png", None, None),
        (b"text", "application/octet-stream", "utf-8", None),
        (b"text", None, None, ("text", "utf-8")),
        (b"", None, None, ("", "utf-8")),
        (b"te\0xt", None, None, None),
        (b"\xff\xfe", None, None, None),
    ],
)
def test_text_is_what_is_declared_as_text_in_a_charset_that_makes_text(
    body: bytes, media_type: str | None, charset: str | None, expected: tuple[str, str] | None
) -> None:
    assert as_text(body, media_type, charset) == expected
