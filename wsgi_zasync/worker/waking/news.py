# SPDX-License-Identifier: ZPL-2.1
"""How a worker knows, of what was written, whether there is something new to accept.

Thread: the acceptor's, in the transaction of an accept.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    watched = {*_written_by_adding(site.parked), *_written_by_adding(site.claims)}
    for number in site.claims:
        lane = site.lanes[number]
        watched.add(lane.inboxes._p_oid)
        for _, inbox in lane.inboxes_of(queues):
            watched |= {inbox._p_oid, inbox.tail._p_oid}
            watched.update(record._p_oid for record in inbox.next_records(number in ours))
    return frozenset(watched - {None})


def _written_by_adding(tree: Any) -> Iterator[Any]:
    """The oids of which at least one is written when something is added to a BTree."""
    yield tree._p_oid
    bucket = tree._firstbucket
    while bucket is not None:
        # That of a small tree is kept inside it.
        yield bucket._p_oid
        bucket = bucket._next
