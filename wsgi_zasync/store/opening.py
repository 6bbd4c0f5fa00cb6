# SPDX-License-Identifier: ZPL-2.1
"""From a connection to its store: made at first need, and refused if of another version."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ConfigurationError
from . import root as current
from .classes import guard
from .root import ROOT_KEY, Site, StoreRoot
from .store import Store


def open_store(
    connection: Any,
    site: str = "main",
    *,
    create: bool = True,
    write: bool = True,
    own_lanes: Callable[[], Iterable[int]] = tuple,
) -> Store:
    """The store of the connection's database.

    Its structure is made in this transaction if it is not there. Two transactions that both
    make it conflict, once in the life of a database.

    Args:
        connection: An open ZODB connection.
        site: The part of the store.
        create: Whether to make what is not there.
        write: Whether to store what is made now; else it is an empty one to look at, until
            ``Store.make``.
        own_lanes: Tells the lanes that this process has claimed: this transaction may be older
            than the claim of the lane that it puts into.

    Raises:
        ConfigurationError: It is of another version than this package's; or it is missing and
            ``create`` is false.
    """
    guard(connection)
    root = connection.root()
    found = root.get(ROOT_KEY)
    if found is None:
        if not create:
            raise ConfigurationError(
                "this database has no calls yet: nothing was ever put there; check zodb_uri"
            )
        found = StoreRoot()
    if found.version > current.STORE_VERSION:
        raise ConfigurationError(
            f"the store has version {found.version}, and this wsgi_zasync reads "
            f"{current.STORE_VERSION} at most: upgrade this process"
        )
    if found.version < current.STORE_VERSION:
        raise ConfigurationError(
            f"the store has version {found.version}, and this wsgi_zasync writes "
            f"{current.STORE_VERSION}: start a worker of this version, which brings it up, then "
            "use this process"
        )
    part = found.sites.get(site)
    if part is None:
        if not create:
            raise ConfigurationError(
                f"this database has no calls of the site {site!r} yet: nothing was ever put there"
            )
        part = Site(site)
    store = Store(connection, part, own_lanes)
    if write:
        store.make()
    return store
