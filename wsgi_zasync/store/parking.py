# SPDX-License-Identifier: ZPL-2.1
"""What a worker came across and cannot run now, as it lacks the plugin or cannot read the record.

Or because it runs as many of that plugin's calls as it may, and others come after them. Or the
place of a call that it had accepted, and whose put was undone meanwhile.

Kept at one place of the site, by plugin, queue, priority and when they were put, until a worker
that has the plugin and serves the queue accepts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice

from ..call import PRIORITIES, CallRecord
from .mailbox import is_over
from .reading import send_together, why_unreadable
from .root import Site

#: plugin, queue, priority, created, id; of what cannot be read, and of places, an empty plugin and
#: the oid.
Key = tuple[str, str, int, int, str] | tuple[str, str]

#: Before the first call that has a plugin, and after all records that cannot be read.
FIRST: Key = ("", "\x7f")

#: Before the oids of places: these come after all records that cannot be read.
_PLACE = "place "


def _key(record: CallRecord) -> Key:
    return (record.plugin, record.queue, record.priority, record.created, record.id)


def park(site: Site, record: CallRecord) -> None:
    """Put aside a call whose plugin this worker does not know, until one does."""
    record.wait(f"no worker here has the plugin {record.plugin!r}")
    leave(site, record)


def leave(site: Site, record: CallRecord) -> None:
    """Leave a call to who can begin it sooner. Nothing is written of the call itself."""
    site.parked[_key(record)] = record


def is_parked(site: Site, record: CallRecord) -> bool:
    """Whether the call is put aside here."""
    return bool(site.parked) and _key(record) in site.parked


def put_aside(site: Site, record: CallRecord) -> None:
    """Put aside a record that cannot be read: it stays unread, and stops nobody.

    No plugin has an empty name, so that only ``take_up`` finds it there.
    """
    site.parked[("", record._p_oid.hex())] = record


def hand_on(site: Site, record: CallRecord) -> None:
    """Let go of what was held as a call whose put was undone, by Zope's Undo tab say.

    That call had been accepted, so that nobody else looks at its place. Who was put there since is
    left to be accepted, unless somebody has it all the same: in a segment that is not open any more
    a put is told of by an entry of its own. A place that is empty is kept until somebody is.
    """
    if not record.seed:
        site.parked[("", _PLACE + record._p_oid.hex())] = record
    elif not (
        is_over(record)
        or is_parked(site, record)
        or any(area.holds(record) for area in site.workers.values())
    ):
        leave(site, record)


def forget_parked(site: Site, record: CallRecord) -> None:
    """Let go of a call that is to be erased: its plugin may never come back."""
    if is_parked(site, record):
        del site.parked[_key(record)]


def has_places(site: Site) -> bool:
    """Whether there is a place of a call whose put was undone after it had been accepted."""
    return bool(site.parked) and bool(site.parked.keys(min=("", _PLACE), max=FIRST))


def unreadable(site: Site) -> list[CallRecord]:
    """The records that were put aside because they cannot be read."""
    return list(site.parked.values(min=("", ""), max=("", _PLACE)))


def count_without(site: Site, has_plugin: Callable[[str, str], bool]) -> int:
    """How many calls were put aside whose plugin nobody has who serves their queue.

    Args:
        site: Whose calls they are.
        has_plugin: Whether somebody has a plugin and serves a queue.
    """
    return sum(
        len(site.parked.keys(min=group, max=(*group, len(PRIORITIES))))
        for group in _groups(site)
        if not has_plugin(*group)
    )


def take_up(site: Site, in_vain: set[bytes]) -> None:
    """Let what could not be read, and can be now, be accepted with what its plugin has parked.

    An older worker cannot read what a newer version has put; what was damaged may be mended. And
    what was put at a place that was empty.

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
        if why_unreadable(record) is not None:
            in_vain.add(record._p_oid)
        elif record.seed:
            del site.parked[key]
            hand_on(site, record)


def take_overdue(site: Site, now: int, after: Key, limit: int) -> tuple[list[CallRecord], Key]:
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


def unpark(
    site: Site,
    plugins: Collection[str],
    queues: Collection[str],
    priority: int,
    limit: int,
) -> list[CallRecord]:
    """Take up calls that were put aside, of plugins that are known now, the oldest first."""
    if not site.parked:
        return []
    keys: list[Key] = []
    for plugin, queue in _groups(site):
        if plugin in plugins and queue in queues:
            first, last = (plugin, queue, priority), (plugin, queue, priority + 1)
            keys += islice(site.parked.keys(min=first, max=last), limit)
    keys = sorted(keys, key=lambda key: key[3:])[:limit]
    taken = [site.parked[key] for key in keys]
    for key in keys:
        del site.parked[key]
    return taken


def _groups(site: Site) -> Iterator[tuple[str, str]]:
    """The plugins and queues of what is put aside, without going through all of that."""
    group = ("", "\x7f")
    while True:
        try:
            plugin, queue, *_ = site.parked.minKey((*group, len(PRIORITIES)))
        except ValueError:
            return
        group = (plugin, queue)
        yield group
