# SPDX-License-Identifier: ZPL-2.1
"""What the middleware costs a request that asks for no call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults

import ZODB

from wsgi_zasync import CallManagerMiddleware

from .report import Figure, show

#: Requests a round, and rounds.
REQUESTS, ROUNDS = 2_000, 15


def run() -> None:
    """Measure and print."""
    db = ZODB.DB(None)
    wrapped = CallManagerMiddleware(_application, db)
    bare, with_filter = [], []
    for _ in range(ROUNDS):
        bare.append(_round(_application))
        with_filter.append(_round(wrapped))
    cost = (statistics.median(with_filter) - statistics.median(bare)) * 1e6
    db.close()
    absolutes = f"bare {statistics.median(bare) * 1e6:.2f} µs"
    show("A request that puts nothing", [Figure("added", f"{cost:.1f} µs", "≤ 20 µs", absolutes)])


def _application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def _round(application: Any) -> float:
    environs: list[dict[str, Any]] = []
    for _ in range(REQUESTS):
        environ: dict[str, Any] = {"REMOTE_USER": "ann"}
        setup_testing_defaults(environ)
        environs.append(environ)
    begun = time.perf_counter()
    for environ in environs:
        response = application(environ, _start_response)
        for _chunk in response:
            pass
        close = getattr(response, "close", None)
        if close is not None:
            close()
    return (time.perf_counter() - begun) / REQUESTS


def _start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    return None
