# SPDX-License-Identifier: ZPL-2.1
"""The work: two plugins, named in ``[plugins]`` of paste.ini and run by the worker.

The web process imports this module too, to check what is put against the parameters. It loads
no Twisted for that: what is heavy is imported when an attempt runs.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from threading import Event
from typing import Any

from wsgi_zasync import plugin

from .shelf import Report, Shelf
from .titles import title_of

#: Words of titles that say nothing.
DULL = frozenset("a an and at by for from in is it of on or the to with".split())


@plugin("shelf.fetch", runs="reactor", timeout=45)
async def fetch(attempt: Any, url: str) -> dict[str, Any]:
    """Read a page and find its title. Runs in the reactor's thread, and never blocks it.

    The page is fetched by the function behind plugin ``http.get``, which refuses private
    addresses; ``[plugin:shelf.fetch]`` says which of them are open nevertheless.
    """
    from twisted.internet.threads import deferToThread

    from wsgi_zasync.worker.plugins.http import get

    attempt.progress(None, "reading the page")
    answer = await get(attempt, url, headers={"Accept": "text/html, text/*;q=0.8, */*;q=0.1"})
    title = ""
    if answer["content_type"] in ("text/html", "application/xhtml+xml") and answer["text"]:
        # A hostile page can keep the parser busy for a while: not in the reactor's thread.
        title = await deferToThread(title_of, answer["text"])
    return {
        "title": title or answer["url"],
        "status": answer["status"],
        "size": answer["size"],
        "url": answer["url"],
    }


@plugin("shelf.report", runs="transaction", permission="edit", timeout=120)
def report(attempt: Any, shelf: Shelf) -> dict[str, Any] | None:
    """Count what is on a shelf, and write the report to it.

    What it writes and its outcome are one commit. The permission is asked for on ``shelf`` when
    the call is put and again when it runs. It takes its time (``seconds`` in
    ``[plugin:shelf.report]``), so that one can watch it and cancel it.
    """
    links = shelf.newest()
    pause = float(attempt.settings.get("seconds", "6")) / max(1, len(links))
    sites: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for number, link in enumerate(links or [None]):
        attempt.progress(number / max(1, len(links)), f"{number} of {len(links)} links")
        _pause(attempt, pause)
        if attempt.is_cancelled:
            return None
        if link is not None:
            sites[link.site] += 1
            words.update(w for w in link.title.lower().split() if w.isalpha() and w not in DULL)
    largest = max(links, key=lambda link: link.size, default=None)
    made = Report(
        made=datetime.now(UTC),
        links=len(links),
        total_size=sum(link.size for link in links),
        largest="" if largest is None else largest.title,
        sites=tuple(sites.most_common(5)),
        words=tuple(words.most_common(5)),
    )
    shelf.keep_report(made)
    return {"links": made.links, "total_size": made.total_size}


def _pause(attempt: Any, seconds: float) -> None:
    """Let time pass, and end early when the attempt is cancelled."""
    waited = Event()
    for _ in range(max(1, round(seconds * 10))):
        if attempt.is_cancelled:
            return
        waited.wait(min(0.1, seconds))
