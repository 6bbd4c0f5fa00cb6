# SPDX-License-Identifier: ZPL-2.1
"""How a worker knows, of what was written, whether there is something new to accept.

Thread: the acceptor's, in the transaction of an accept.
"""

from __future__ import annotations

from typing import Any


def what_changes_with_news(
    site: Any, queues: tuple[str, ...], ours: frozenset[int]
) -> frozenset[bytes]:
    """The oids of which at least one is written when there is something new to accept.

    Args:
        site: As an accept has left it.
        queues: That we serve.
        ours: The lanes that nobody else accepts from, as long as nobody helps.
    """
    watched = {site.parked._p_oid, site.claims._p_oid}
    bucket = site.claims._firstbucket
    while bucket is not None:
        watched.add(bucket._p_oid)
        bucket = bucket._next
    for number in site.claims:
        lane = site.lanes[number]
        watched.add(lane.inboxes._p_oid)
        for (queue, _), inbox in lane.inboxes.items():
            if queue in queues:
                watched |= {inbox._p_oid, inbox.tail._p_oid}
                watched.update(record._p_oid for record in inbox.next_records(number in ours))
    # A small tree keeps its bucket inside itself.
    return frozenset(watched - {None})
