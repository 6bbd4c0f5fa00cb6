# SPDX-License-Identifier: ZPL-2.1
"""What a user owns: a shelf with links and reports, persistent in the application's database.

Callback expressions reach it through the declaration below and through nothing else: a method
is there for those who have ``edit`` on this very shelf, and its ``__acl__`` gives that to its
owner alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from BTrees.OOBTree import OOBTree
from persistent import Persistent

from wsgi_zasync import expose

#: Where the shelves are in the root of the database.
SHELVES = "shelves"

#: How many links a shelf keeps, and reports; the oldest make room.
MAX_LINKS = 200
MAX_REPORTS = 5


@dataclass(frozen=True)
class Link:
    """One address on a shelf, and what came of reading it."""

    url: str
    added: datetime
    title: str = ""
    status: int | None = None
    size: int = 0
    #: Why it could not be read; empty if it could.
    problem: str = ""

    @property
    def site(self) -> str:
        return urlsplit(self.url).netloc


@dataclass(frozen=True)
class Report:
    """What a report found."""

    made: datetime
    links: int
    total_size: int
    largest: str
    #: (site, how many links)
    sites: tuple[tuple[str, int], ...]
    #: (word, how often), of the titles
    words: tuple[tuple[str, int], ...]


@expose(add="edit", reject="edit")
class Shelf(Persistent):
    """One user's links. Links and reports are objects of their own, so that writing the one
    never conflicts with writing the other."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        #: url -> Link
        self.links: Any = OOBTree()
        #: when -> Report
        self.reports: Any = OOBTree()

    @property
    def __acl__(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Its owner may edit it; nobody else may anything."""
        return [
            ("Allow", f"user:{self.owner}", ("edit",)),
            ("Deny", "system.Everyone", ("edit",)),
        ]

    def add(self, url: str, page: dict[str, Any], when: datetime) -> str:
        """Put a page that was read on the shelf; returns its title."""
        title = str(page["title"])[:300] or url
        link = Link(url, when, title, int(page["status"]), int(page["size"]))
        self._put(link)
        return title

    def reject(self, url: str, problem: str, when: datetime) -> str:
        """Note that a page could not be read, and why."""
        self._put(Link(url, when, problem=str(problem)[:300]))
        return url

    def _put(self, link: Link) -> None:
        self.links[link.url] = link
        while len(self.links) > MAX_LINKS:
            del self.links[self.newest()[-1].url]

    def remove(self, url: str) -> None:
        """Take a link off the shelf, if it is there."""
        if url in self.links:
            del self.links[url]

    def newest(self) -> list[Link]:
        """The links, newest first."""
        return sorted(self.links.values(), key=lambda link: link.added, reverse=True)

    def keep_report(self, report: Report) -> None:
        """Keep a report; not exposed, since only the plugin makes them."""
        self.reports[report.made] = report
        while len(self.reports) > MAX_REPORTS:
            del self.reports[self.reports.minKey()]

    def newest_reports(self) -> list[Report]:
        """The reports, newest first."""
        return list(reversed(list(self.reports.values())))


def shelf_of(root: Any, user_id: str) -> Shelf:
    """The user's shelf, made in the current transaction if there is none."""
    if SHELVES not in root:
        root[SHELVES] = OOBTree()
    shelves = root[SHELVES]
    if user_id not in shelves:
        shelves[user_id] = Shelf(user_id)
    found: Shelf = shelves[user_id]
    return found
