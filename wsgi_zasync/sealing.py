# SPDX-License-Identifier: ZPL-2.1
"""Secret arguments, and how they rest in the store: sealed, so that a copy of it tells nothing.

Keys are derived from the site's secret (HKDF, SHA-256), one for each purpose, so that what
was made for one purpose is worth nothing for another. Sealing is AES-256-GCM with a random
nonce, bound to the place it was made for. ``cryptography`` is imported at first use only.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn, SupportsIndex

from .errors import ConfigurationError, InvalidArguments

#: The purposes that keys are derived for; no key serves two of them.
SEALING = "seal"
CSRF = "csrf"
ETAG = "etag"

#: Bytes of a derived key, of AES-GCM's nonce, and of what tells keys apart.
KEY_BYTES = 32
NONCE_BYTES = 12
KEY_ID_BYTES = 4

#: The first byte of everything sealed in this way.
_VERSION = b"\x01"
_TEXT, _BYTES = b"s", b"b"


class Secret:
    """A password, token or the like, as an argument of a call.

    Sealed before it is stored, erased when the call is final, ``***`` wherever it is shown.
    Expressions cannot read it; the plugin says ``secret.reveal()``.

    Args:
        value: Text or bytes.

    Raises:
        InvalidArguments: It is neither.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | bytes) -> None:
        if type(value) not in (str, bytes):
            kind = type(value).__name__
            raise InvalidArguments(f"a Secret holds text or bytes, not {kind}", path="value")
        self._value = value

    def __init_subclass__(cls, **more: Any) -> NoReturn:
        raise TypeError("Secret cannot be subclassed: values are told apart by their exact type")

    def reveal(self) -> Any:
        """The text or bytes, for the plugin that needs them."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if type(other) is not Secret:
            return NotImplemented
        return hmac.compare_digest(_encoded(self._value), _encoded(other._value))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret is never pickled: seal() it")


class Keys:
    """The keys of a site, by purpose, derived from its secrets when first asked for.

    Threads: any; at worst a key is derived twice.
    """

    def __init__(self, site_secrets: Iterable[bytes]) -> None:
        """Take the secrets, the newest first; at least one.

        Raises:
            ConfigurationError: There is none.
        """
        self._secrets = tuple(site_secrets)
        if not self._secrets:
            raise ConfigurationError("no secret: write secret = env:NAME or secret = file:PATH")
        self._derived: dict[str, tuple[bytes, ...]] = {}

    def __repr__(self) -> str:
        return f"<Keys of {len(self._secrets)} secrets>"

    def current(self, purpose: str) -> bytes:
        """The key that new things of this purpose are made with, 32 bytes."""
        return self.all(purpose)[0]

    def all(self, purpose: str) -> tuple[bytes, ...]:
        """The keys that things of this purpose are accepted with, the current one first."""
        if purpose not in self._derived:
            self._derived[purpose] = tuple(derive_key(each, purpose) for each in self._secrets)
        return self._derived[purpose]


def derive_key(secret: bytes, purpose: str) -> bytes:
    """32 bytes that depend on the secret and the purpose, and tell of neither."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = f"wsgi_zasync 1 {purpose}".encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A secret in stored form: its place in the record is known, and nothing else of it.

    The path of this class is a data format, as those of the persistent classes are.
    """

    content: bytes = field(repr=False)


class Sealer:
    """Seals secrets and opens them, with the keys of one site. Threads: any."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def seal(self, secret: Secret, place: bytes = b"") -> Sealed:
        """A secret in the form in which it is stored.

        Args:
            secret: What is sealed.
            place: What it belongs to, such as a call's seed: elsewhere it cannot be opened.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key = self._keys.current(SEALING)
        nonce = secrets.token_bytes(NONCE_BYTES)
        value = secret.reveal()
        kind = _TEXT if type(value) is str else _BYTES
        content = AESGCM(key).encrypt(nonce, kind + _encoded(value), place)
        return Sealed(_VERSION + _key_id(key) + nonce + content)

    def open(self, sealed: Sealed, place: bytes = b"") -> Secret:
        """The secret that was sealed for this place.

        Raises:
            ConfigurationError: None of the site's secrets opens it: it was sealed under one
                that is no longer listed, or changed since.
        """
        head, key_id, rest = _parts(sealed.content)
        nonce, content = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
        for key in self._keys.all(SEALING) if head == _VERSION else ():
            if hmac.compare_digest(_key_id(key), key_id):
                return _opened(key, nonce, content, place)
        raise _cannot_open()


def _parts(content: bytes) -> tuple[bytes, bytes, bytes]:
    end = 1 + KEY_ID_BYTES
    return content[:1], content[1:end], content[end:]


def _opened(key: bytes, nonce: bytes, content: bytes, place: bytes) -> Secret:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        opened = AESGCM(key).decrypt(nonce, content, place)
    except (InvalidTag, ValueError) as error:
        raise _cannot_open() from error
    kind, value = opened[:1], opened[1:]
    return Secret(_decoded(value) if kind == _TEXT else value)


def _cannot_open() -> ConfigurationError:
    return ConfigurationError(
        "a Secret argument cannot be opened: if secret was changed, list the earlier one after it"
    )


def _key_id(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=KEY_ID_BYTES, person=b"zasync key").digest()


def _encoded(value: str | bytes) -> bytes:
    # Text may hold lone surrogates, which came out of bytes that are not UTF-8.
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "surrogatepass")
