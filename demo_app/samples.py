# SPDX-License-Identifier: ZPL-2.1
"""Pages that this server has itself, so that there is something to read without a network.

The worker fetches them over HTTP like any others, from the address that paste.ini opens to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

from webob import Request, Response

_PAGES = Path(__file__).parent / "samples"

#: Seconds that the slow page takes.
SLOW_SECONDS = 3.0

#: Name to what it is for; the order is that of the page.
SAMPLES = {
    "heron": "A short page",
    "tides": "One with a title in many scripts",
    "markup": "One whose title looks like markup",
    "moved": "One that redirects",
    "slow": "One that takes three seconds",
    "missing": "One that is not there",
}


class Samples:
    """Serves the sample pages."""

    def __init__(self, address: str) -> None:
        """``address`` is this server's, as the worker reaches it."""
        self._address = address

    def addresses(self) -> list[tuple[str, str]]:
        """Each sample's address, and what it is for."""
        return [(f"{self._address}/samples/{name}", text) for name, text in SAMPLES.items()]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        name = Request(environ).path_info.strip("/")
        response: Iterable[bytes] = self._answer(name)(environ, start_response)
        return response

    def _answer(self, name: str) -> Response:
        if name == "moved":
            return Response(status=302, location="heron")
        if name == "slow":
            return Response(app_iter=_slowly(_page("slow")), content_type="text/html")
        if name not in SAMPLES or not (_PAGES / f"{name}.html").is_file():
            return Response("<title>There is no such page</title>", status=404)
        return Response(_page(name), content_type="text/html", charset="utf-8")


def _page(name: str) -> bytes:
    return (_PAGES / f"{name}.html").read_bytes()


def _slowly(page: bytes) -> Iterator[bytes]:
    """The page in parts, with time between them."""
    parts = 8
    length = -(-len(page) // parts)
    for start in range(0, len(page), length):
        yield page[start : start + length]
        Event().wait(SLOW_SECONDS / parts)
