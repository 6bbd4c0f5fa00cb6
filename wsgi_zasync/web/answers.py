# SPDX-License-Identifier: ZPL-2.1
"""What is answered under the prefix, and the headers that every answer has.

Errors are problem details (RFC 9457) in our own words: nothing of a request is repeated in them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from webob import Response

#: The types of answers.
JSON = "application/json"
PROBLEM = "application/problem+json"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

#: On every answer: one user's data is for nobody's cache, and for nobody's frame.
HEADERS = {
    "Cache-Control": "private, no-store",
    "Vary": "Cookie, Authorization, Accept",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
}

#: On results, which may come from anywhere: saved, never shown as a page of this site.
DOWNLOAD_HEADERS = {
    "Content-Disposition": 'attachment; filename="result.json"',
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def encoded(data: Mapping[str, Any] | str | None) -> bytes:
    """An object, or a value inside of one, as JSON, in ASCII."""
    return json.dumps(data, separators=(",", ":")).encode("ascii") + b"\n"


def answer(
    body: bytes, status: int = 200, kind: str = JSON, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer with this body."""
    response = Response(body=body, status=status, content_type=kind, charset=None)
    response.headers.update(HEADERS)
    response.headers.update(headers or {})
    return response


def empty(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """An answer without a body."""
    response = Response(status=status)
    for name in ("Content-Type", "Content-Length"):
        response.headers.pop(name, None)
    response.headers.update(HEADERS)
    response.headers.update(headers or {})
    return response


def problem(
    status: int,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """An error; ``more`` are further members of the problem."""
    body = encoded({"title": title, "status": status, "detail": detail, **more})
    return answer(body, status, PROBLEM, headers)


def not_found() -> Response:
    """The one answer for what is not there: unknown, forgotten and somebody else's alike."""
    return problem(
        404,
        "Not found",
        "There is nothing here for you: check the address, and who is logged in.",
    )
