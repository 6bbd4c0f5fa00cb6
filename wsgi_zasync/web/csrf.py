# SPDX-License-Identifier: ZPL-2.1
"""Requests that change something must come from our own pages, or from a program on purpose.

Two proofs are needed, whatever the user is known by: where the request comes from, which the
browser says, and either a token that only our pages hold or a form that no page of another site
can send (JSON with a header of its own).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime, timedelta

from ..sealing import CSRF, Keys
from ..security import Principal

#: The form field, and the header, that carry a token.
TOKEN_FIELD = "zasync_token"
TOKEN_HEADER = "X-Zasync-Token"

#: The header that a program sends with JSON; what it says does not matter.
PROGRAM_HEADER = "X-Zasync"

_HOUR = timedelta(hours=1)


def make_token(keys: Keys, principal: Principal, purpose: str, now: datetime) -> str:
    """A token for forms that ``principal`` sends for this purpose within the hour or the next."""
    return _token(keys.current(CSRF), principal, purpose, now)


def is_token(keys: Keys, principal: Principal, purpose: str, token: str, now: datetime) -> bool:
    """Whether the token was made for this principal and purpose, in this hour or the last."""
    given = token.encode("utf-8", "replace")
    matches = [
        hmac.compare_digest(_token(key, principal, purpose, when).encode(), given)
        for key in keys.all(CSRF)
        for when in (now, now - _HOUR)
    ]
    return any(matches)


def _token(key: bytes, principal: Principal, purpose: str, when: datetime) -> str:
    hour = int(when.timestamp()) // 3600
    digest = hmac.new(key, digestmod=hashlib.sha256)
    # Neither part can hold a NUL, so that no two tuples are the same text.
    digest.update("\0".join((principal.source, principal.id, purpose, str(hour))).encode())
    return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")


def is_same_origin(headers: Mapping[str, str], own_origin: str) -> bool:
    """Whether the browser says that the request comes from a page of ours.

    Args:
        headers: The request's.
        own_origin: Scheme and host that the request was sent to, such as ``https://site.org``.
    """
    site = headers.get("Sec-Fetch-Site")
    origin = headers.get("Origin")
    if site is not None and site != "same-origin":
        return False
    # A browser writes it in small letters, however a proxy is configured to send the host.
    if origin is not None and origin.lower() != own_origin.lower():
        return False
    return site is not None or origin is not None


def is_programs(headers: Mapping[str, str]) -> bool:
    """Whether the request has the form that no page of another site can send unasked."""
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind == "application/json" and PROGRAM_HEADER in headers
