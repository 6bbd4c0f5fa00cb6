# SPDX-License-Identifier: ZPL-2.1
"""A response's body: collected within a limit, decompressed as it comes, made text or not.

The limit counts decompressed bytes, and each step of decompression is bounded, so that a
small body that unpacks to a large one is given up at the limit and not after it.
"""

from __future__ import annotations

import codecs
import zlib
from email.message import Message
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Protocol

from .failures import ProtocolFailed, TooLarge

#: What a compressed body may be larger than the limit, for its own overhead.
SLACK = 65_536

_TEXT_TYPES = frozenset(
    "application/" + name
    for name in (
        "ecmascript", "graphql", "javascript", "json", "ld+json", "sql", "toml", "x-httpd-php",
        "x-javascript", "x-ndjson", "x-sh", "x-www-form-urlencoded", "x-yaml", "xml", "xml-dtd",
        "yaml",
    )
)  # fmt: skip

#: Codecs that make text of bytes, in linear time. Python has others by the same look-up.
_CHARSETS = frozenset(
    codecs.lookup(name).name
    for name in (
        "ascii", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le",
        "utf-32-be", "big5", "big5hkscs", "gb2312", "gbk", "gb18030", "euc_jp", "euc_kr",
        "shift_jis", "cp932", "cp949", "cp950", "iso2022_jp", "koi8_r", "koi8_u", "mac_roman",
        "cp437", "cp850", "cp852", "cp866", "cp874", "tis_620",
        *(f"cp125{n}" for n in range(9)),
        *(f"iso8859_{n}" for n in range(1, 17) if n != 12),
    )
)  # fmt: skip

#: Their names by that of Python's module, and by every other name. What a server makes up is
#: not looked up with Python, which remembers for ever what it does not find.
_MODULES = {name.replace("-", "_"): name for name in _CHARSETS} | {"latin_1": "iso8859-1"}
_NAMES = _MODULES | {alias: _MODULES[name] for alias, name in aliases.items() if name in _MODULES}

#: A longer header has no charset: to take one apart takes quadratic time.
_MAX_CONTENT_TYPE = 1_000


class _Decompressor(Protocol):
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class Body:
    """Collects one body of at most ``limit`` bytes after decompression.

    Args:
        encoding: The ``Content-Encoding`` header; empty for none.
        limit: Bytes.
        shown: The URL as messages name it.
    """

    def __init__(self, encoding: str, limit: int, shown: str) -> None:
        self._limit = limit
        self._shown = shown
        self._received = 0
        self._content = bytearray()
        self._encoding = encoding.strip().lower().removeprefix("x-")
        self._decompressor: _Decompressor | None = None
        #: Whether the body is given without the compression that it came with.
        self.decoded = self._encoding in ("gzip", "deflate")
        #: Whether the body is given in an encoding that nobody asked for.
        self.unknown = not self.decoded and self._encoding not in ("", "identity")

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the connection.

        Raises:
            TooLarge: The limit is passed.
            ProtocolFailed: The compression is broken.
        """
        self._received += len(data)
        if not self.decoded:
            self._keep(data)
            return
        if self._received > self._limit + SLACK:
            raise self._too_large()
        try:
            self._decompress(data)
        except zlib.error as exc:
            raise ProtocolFailed(
                f"{self._shown}: the response's {self._encoding} compression is broken"
            ) from exc

    def finish(self) -> bytes:
        """The whole body, when the response has ended.

        Raises:
            ProtocolFailed: It ended in the midst of its compression.
        """
        if self._decompressor is not None and not self._decompressor.eof:
            raise ProtocolFailed(
                f"{self._shown}: the response ended in the midst of its {self._encoding} data"
            )
        return bytes(self._content)

    def _decompress(self, data: bytes) -> None:
        while data:
            if self._decompressor is None or self._decompressor.eof:
                if self._decompressor is not None and not self._continues(data):
                    return  # padding after the end, as some servers send
                self._decompressor = self._new_decompressor(data)
            # One byte more than fits is enough to know that it does not fit.
            self._keep(self._decompressor.decompress(data, self._limit - len(self._content) + 1))
            data = (
                self._decompressor.unused_data
                if self._decompressor.eof
                else self._decompressor.unconsumed_tail
            )

    def _continues(self, data: bytes) -> bool:
        """Whether what follows a finished stream is another one (gzip may be several)."""
        return self._encoding == "gzip" and data.startswith(b"\x1f")

    def _new_decompressor(self, data: bytes) -> _Decompressor:
        if self._encoding == "gzip":
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        # "deflate" means zlib's format; some servers send it without zlib's two bytes.
        wrapped = data[0] & 0x0F == 8
        return zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)

    def _keep(self, data: bytes) -> None:
        if len(self._content) + len(data) > self._limit:
            raise self._too_large()
        self._content += data

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"{self._shown}: the response is larger than {self._limit:,} bytes; ask for more by "
            "max_bytes=, up to what the operator allows in this plugin's section"
        )


def content_type(header: str | None) -> tuple[str | None, str | None]:
    """Media type and declared charset of a ``Content-Type`` header, in lower case."""
    if not header or not header.strip():
        return None, None
    if len(header) > _MAX_CONTENT_TYPE:
        header = header.partition(";")[0][:_MAX_CONTENT_TYPE]
    message = Message()
    message["Content-Type"] = header
    charset = message.get_param("charset")
    return message.get_content_type(), charset.lower() if isinstance(charset, str) else None


def as_text(body: bytes, media_type: str | None, charset: str | None) -> tuple[str, str] | None:
    """The body as text and the charset that it was read in; None if it is not text.

    Without any declared type, valid UTF-8 without NUL is text.
    """
    if media_type is None:
        return _undeclared(body)
    if not _is_text(media_type):
        return None
    name = _known_charset(charset)
    if name == "utf-8" and body.startswith(codecs.BOM_UTF8):
        body = body[len(codecs.BOM_UTF8) :]
    return body.decode(name, "replace"), name


def _undeclared(body: bytes) -> tuple[str, str] | None:
    if b"\0" in body:
        return None
    try:
        return body.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return None


def _is_text(media_type: str) -> bool:
    return (
        media_type.startswith("text/")
        or media_type in _TEXT_TYPES
        or media_type.endswith(("+json", "+xml", "+yaml"))
    )


def _known_charset(charset: str | None) -> str:
    """Python's name of a charset, or ``utf-8`` for none and for unknown ones."""
    if charset is None or len(charset) > _MAX_CONTENT_TYPE:
        return "utf-8"
    return _NAMES.get(normalize_encoding(charset).lower(), "utf-8")
