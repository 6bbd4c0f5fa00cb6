# SPDX-License-Identifier: ZPL-2.1
"""Pages as text. Templates escape every value; what comes from a page elsewhere is only text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from chameleon import PageTemplateLoader

from wsgi_zasync import Call

from .session import Session
from .shelf import Shelf

_TEMPLATES = PageTemplateLoader(str(Path(__file__).parent / "templates"), ".pt")

#: What the page can say after a form was sent, by the name in its address.
MESSAGES = {
    "address": "That is no address: write one that begins with http:// or https://, of 2000 "
    "characters at most.",
    "twice": "That is under way already, so it was not asked for again.",
    "many": "You have asked for too much at a time. Wait a little, or clear your old calls.",
    "open": "It has not ended yet: cancel it first.",
}

_KINDS = {"shelf.fetch": "Reading", "shelf.report": "Making a report"}


@dataclass(frozen=True)
class ShownCall:
    """A call as the page shows it."""

    id: str
    link: str
    kind: str
    title: str
    state: str
    is_final: bool
    percent: int | None
    message: str


def shown_call(call: Call) -> ShownCall:
    """What the page shows of a call."""
    fraction, message = call.progress
    if call.cancel_requested and not call.is_final:
        message = "stopping"
    elif call.failure is not None:
        message = call.failure.message
    elif call.waiting_reason:
        message = call.waiting_reason
    return ShownCall(
        id=call.id,
        link=call.to_dict()["links"]["self"],
        kind=_KINDS.get(call.plugin, call.plugin),
        title=call.title or "",
        state=str(call.state),
        is_final=call.is_final,
        percent=None if fraction is None else round(fraction * 100),
        message=message,
    )


def login(base: str, token: str, users: Mapping[str, str]) -> str:
    """The page for who is not logged in."""
    return _render("login", base=base, token=token, users=users)


def problem(base: str, title: str, detail: str) -> str:
    """The page for what is not there, or not allowed."""
    return _render("problem", base=base, title=title, detail=detail)


def shelf(
    *,
    base: str,
    token: str,
    session: Session,
    shelf: Shelf,
    calls: Iterable[Call],
    samples: Iterable[tuple[str, str]],
    said: str | None,
    typed: str = "",
) -> str:
    """The page of a user's shelf; ``typed`` is an address that was not taken, to be corrected."""
    shown, samples, links = [shown_call(call) for call in calls], list(samples), shelf.newest()
    return _render(
        "shelf",
        base=base,
        token=token,
        session=session,
        links=links,
        reports=shelf.newest_reports(),
        under_way=[call for call in shown if not call.is_final],
        ended=[call for call in shown if call.is_final],
        samples=samples,
        # Who plays with these adds several.
        only_samples={link.url for link in links} <= {address for address, _ in samples},
        message=MESSAGES.get(said or ""),
        typed=typed,
        size=size,
        moment=moment,
    )


def _render(name: str, **values: Any) -> str:
    text: str = _TEMPLATES[name](**values)
    return text


def size(number: int) -> str:
    """Bytes as people say them."""
    if number < 1000:
        return f"{number} bytes"
    if number < 1_000_000:
        return f"{number / 1000:.1f} kB"
    return f"{number / 1_000_000:.1f} MB"


def moment(when: datetime) -> str:
    """A moment as people write it, in UTC."""
    return when.strftime("%d %b %Y, %H:%M:%S UTC").lstrip("0")
