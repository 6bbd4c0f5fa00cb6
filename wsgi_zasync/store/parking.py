# SPDX-License-Identifier: ZPL-2.1
"""What no worker can run now: calls of plugins that none has, and records that cannot be read.

Kept at one place of the site, by the plugin's name, until a worker that has the plugin accepts.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..call import CallRecord
from .root import Site


def park(site: Site, record: CallRecord) -> None:
    """Put aside a call whose plugin this worker does not know, until one does."""
    record.wait(f"no worker here has the plugin {record.plugin!r}")
    site.parked[(record.plugin, record.id)] = record


def put_aside(site: Site, record: CallRecord) -> None:
    """Put aside a record that cannot be read: it stays unread, and stops nobody.

    No plugin has an empty name, so nobody takes it up from there.
    """
    site.parked[("", record._p_oid.hex())] = record


def forget_parked(site: Site, record: CallRecord) -> None:
    """Let go of a call that is to be erased: its plugin may never come back."""
    key = (record.plugin, record.id)
    if site.parked and key in site.parked:
        del site.parked[key]


def unreadable(site: Site) -> list[CallRecord]:
    """The records that were put aside because they cannot be read."""
    return list(site.parked.values(min=("", ""), max=("", "\x7f")))


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
