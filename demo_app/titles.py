# SPDX-License-Identifier: ZPL-2.1
"""The title of an HTML page, found without trusting the page."""

from __future__ import annotations

from html.parser import HTMLParser

#: Characters of a page that are looked at: titles are at the beginning.
HEAD = 32_768

#: Characters of a title that are kept.
LONGEST = 300


class _TitleParser(HTMLParser):
    """Keeps the text of the first ``<title>`` that is the page's own."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.is_complete = False
        self._inside = False
        #: Pictures within a page have titles too.
        self._pictures = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "svg":
            self._pictures += 1
        if tag == "title" and not self._pictures and not self.is_complete:
            self._inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "svg":
            self._pictures = max(0, self._pictures - 1)
        if tag == "title" and self._inside:
            self._inside = False
            self.is_complete = True

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.parts.append(data)


def title_of(html: str) -> str:
    """The page's title in one line; empty if it has none that can be seen."""
    parser = _TitleParser()
    parser.feed(html[:HEAD])
    title = " ".join("".join(parser.parts).split())[:LONGEST]
    # Nobody finds a link of zero width.
    return title if any(map(str.isprintable, title.replace(" ", ""))) else ""
