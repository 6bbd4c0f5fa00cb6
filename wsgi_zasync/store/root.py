# SPDX-License-Identifier: ZPL-2.1
"""What there is of a store in the root of its database: the sites, and what each has.

``store.store`` is what works with it.
"""

from __future__ import annotations

import os

from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping

from ..call import LANES
from .lanes import Lane

#: The key of the store in the root of its database.
ROOT_KEY = "wsgi_zasync"

#: The version that this code writes; ``store.migrate`` brings older ones here.
STORE_VERSION = 1

#: Unique keys are spread over so many trees by hash; with 256, writers do not conflict.
KEY_TREES = 256


class Site(Persistent):
    """One application's part of a store: nothing crosses from one site to another."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Keys the hash of unique keys, so that their users cannot aim at one tree.
        self.hash_key = os.urandom(32)
        self.lanes: tuple[Lane, ...] = tuple(Lane(number) for number in range(LANES))
        #: lane number -> token of the process that claimed it last
        self.claims: IOBTree = IOBTree()
        #: digest -> CallRecord; the calls may be final, until they are forgotten or a put with the
        #: same key takes their place
        self.keys: tuple[OOBTree, ...] = tuple(OOBTree() for _ in range(KEY_TREES))
        #: area key -> WorkerArea
        self.workers: OOBTree = OOBTree()
        #: what a worker could not run when it came across it, see ``store.parking``
        self.parked: OOBTree = OOBTree()
        #: owner key -> microseconds: owners found gone; what they had is not shown to others
        self.gone: OOBTree = OOBTree()
        #: id of a first ancestor -> how many calls descend from it
        self.descendants: OOBTree = OOBTree()


class StoreRoot(Persistent):
    """The one object at ROOT_KEY."""

    def __init__(self) -> None:
        self.version = STORE_VERSION
        self.sites: PersistentMapping = PersistentMapping()
