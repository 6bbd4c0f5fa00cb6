# SPDX-License-Identifier: ZPL-2.1
"""What no worker can run now: calls of plugins that none has, and records that cannot be read.

Kept at one place of the site, by the plugin's name, until a worker that has the plugin accepts.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from ..call import CallRecord
from .reading import send_together, why_unreadable
from .root import Site

#: Before the first call that has a plugin, and after all records that cannot be read.
FIRST = ("", "\x7f")


def park(site: Site, record: CallRecord) -> None:
    """Put aside a call whose plugin this worker does not know, until one does."""
    record.wait(f"no worker here has the plugin {record.plugin!r}")
    site.parked[(record.plugin, record.id)] = record


def put_aside(site: Site, record: CallRecord) -> None:
    """Put aside a record that cannot be read: it stays unread, and stops nobody.

    No plugin has an empty name, so that only ``take_up`` finds it there.
    """
    site.parked[("", record._p_oid.hex())] = record


def forget_parked(site: Site, record: CallRecord) -> None:
    """Let go of a call that is to be erased: its plugin may never come back."""
    key = (record.plugin, record.id)
    if site.parked and key in site.parked:
        del site.parked[key]


def unreadable(site: Site) -> list[CallRecord]:
    """The records that were put aside because they cannot be read."""
    return list(site.parked.values(min=("", ""), max=FIRST))


def take_up(site: Site, in_vain: set[bytes]) -> None:
    """Let what could not be read, and can be now, be accepted with what its plugin has parked.

    An older worker cannot read what a newer version has put; what was damaged may be mended.

    Args:
        site: Whose calls they are.
        in_vain: The oids of those that this process has tried to read; gets those that it tries
            now. The storage's client logs each time that one cannot be read.
    """
    if not site.parked:
        return
    for key, record in list(site.parked.items(min=("", ""), max=FIRST)):
        if record._p_oid in in_vain or not isinstance(record, CallRecord):
            continue
        if why_unreadable(record) is None:
            del site.parked[key]
            site.parked[(record.plugin, record.id)] = record
        else:
            in_vain.add(record._p_oid)


def take_overdue(
    site: Site, now: int, after: tuple[str, str], limit: int
) -> tuple[list[CallRecord], tuple[str, str]]:
    """Take up calls that are too late to begin, whoever may have their plugin.

    Args:
        site: Whose calls they are.
        now: In microseconds.
        after: Where to go on looking: ``FIRST``, or what was returned the last time.
        limit: How many to look at: there may be many, and each has to be loaded.
    """
    if not site.parked:
        return [], FIRST
    found = list(islice(site.parked.items(min=after, excludemin=True), limit))
    send_together(site._p_jar, [record for _, record in found])
    taken = []
    for key, record in found:
        if why_unreadable(record) is None and record.has_expired(now):
            del site.parked[key]
            taken.append(record)
    return taken, found[-1][0] if len(found) == limit else FIRST


def unpark(site: Site, plugins: Iterable[str], limit: int) -> list[CallRecord]:
    """Take up calls that were put aside, of plugins that are known now."""
    if not site.parked:
        return []
    keys: list[tuple[str, str]] = []
    for name in plugins:
        for key in site.parked.keys(min=(name, ""), max=(name, "\x7f")):
            if len(keys) >= limit:
                break
            keys.append(key)
    taken = [site.parked[key] for key in keys]
    for key in keys:
        del site.parked[key]
    return taken
