# SPDX-License-Identifier: ZPL-2.1
"""A site as its operator reaches it: its settings, its database, any owner's call.

Who can run this has the site's configuration and its storage, and no further permission is
asked for. What is changed says in the transaction's metadata who did it. Each change is a small
transaction of its own, tried again after a conflict.
"""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Any, TypeVar

from ..call import CallRecord, Place
from ..configuration.key_table import rows
from ..configuration.paste_file import ConfigFile
from ..configuration.paste_sections import Values, filters, worker
from ..configuration.zodb_uri import without_password
from ..deployment import Deployment
from ..errors import CallNotFound, ConfigurationError
from ..manager.access import ConnectionAccess
from ..manager.context import CallContext
from ..manager.view import Call
from ..opening import deployment_for, open_database
from ..own_file import file_of
from ..security import Principal
from ..settings import FROM_DEFAULT, MiddlewareSettings, SharedSettings, WorkerSettings
from ..store import Store, open_store
from ..store.databases import calls_connection, close_together
from ..store.reading import why_unreadable
from ..store.root import ROOT_KEY
from ..web.transactions import in_transaction, lane_claimer, reading
from .beside import beside_site

_Result = TypeVar("_Result")

#: Seconds to wait for a ZEO server, where the address does not say.
CONNECT_SECONDS = 5


def worker_settings(file: ConfigFile, section: str = "main") -> WorkerSettings:
    """The settings of ``[worker:SECTION]``.

    Where it names no database, and a web process runs calls itself, it is one more worker beside
    that one: on its database, and with all else that both have. No section is needed then.
    """
    global_conf, local_conf = values = _worker_values(file, section)
    if not _name_database(values):
        local_conf = _embedded_values(file) | local_conf
    return WorkerSettings.from_paste(global_conf, **local_conf)


def has_database(file: ConfigFile, section: str = "main") -> bool:
    """Whether ``[worker:SECTION]`` names a database, or ``[DEFAULT]`` does so for it."""
    return _name_database(_worker_values(file, section))


def _name_database(values: Values) -> bool:
    return any(key in conf for conf in values for key in ("zodb_uri", "zodb_conf"))


def _worker_values(file: ConfigFile, section: str) -> Values:
    if section == "main" and "worker:main" not in file.keys and _embedded_values(file):
        return {"__file__": str(file.path)}, {}
    return worker(file, section)


def _embedded_values(file: ConfigFile) -> dict[str, str]:
    """What a filter that runs calls itself says to its worker; nothing where there is none."""
    known = {row.name for row in rows(SharedSettings)}
    for global_conf, local_conf in filters(file).values():
        if local_conf.get("worker", "").strip() == "embedded":
            said = {
                name: global_conf[name] for name in FROM_DEFAULT & set(global_conf)
            } | local_conf
            return {name: value for name, value in said.items() if name in known}
    return {}


def worker_sections(file: ConfigFile) -> list[str]:
    """The X of each ``[worker:X]``."""
    return [name.partition(":")[2] for name in file.keys if name.startswith("worker:")]


def site_settings(path: str | Path) -> SharedSettings:
    """The settings by which a file's database is reached: a worker's, else a filter's.

    Raises:
        ConfigurationError: It says of neither where the database is.
    """
    file = ConfigFile.load(path)
    for name in worker_sections(file):
        return worker_settings(file, name)
    for global_conf, local_conf in filters(file).values():
        settings = MiddlewareSettings.from_paste(global_conf, **local_conf)
        if settings.zodb_uri is not None or settings.zodb_conf is not None:
            return settings
    raise ConfigurationError(
        f"{file.path} does not say where the calls are: write zodb_uri or zodb_conf in "
        "[filter:…] use = egg:wsgi_zasync, or in [worker:main]"
    )


def _impatient(settings: SharedSettings) -> SharedSettings:
    """The same settings, but a ZEO server that is away is waited for only shortly."""
    uri = settings.zodb_uri
    if uri is None or not uri.startswith("zeo:") or "wait_timeout" in uri:
        return settings
    joint = "&" if "?" in uri else "?"
    return settings.evolve(zodb_uri=f"{uri}{joint}wait_timeout={CONNECT_SECONDS}")


@dataclass(frozen=True)
class Operation:
    """One transaction: the store, and calls in it."""

    connection: Any
    store: Store
    deployment: Deployment

    def records(self) -> Iterator[CallRecord]:
        """All calls of all owners, newest first."""
        lanes = [self.store.site.lanes[number] for number in self.store.claimed_lanes()]
        indexes = (index for lane in lanes for index in lane.owners.values())
        parts = (filter(_is_there, part) for index in indexes for part in index.newest())
        return merge(*parts, key=lambda record: -record.created)

    def record(self, call_id: str) -> CallRecord:
        """The call with this id, whoever owns it.

        Raises:
            CallNotFound: There is none in this site of the store.
        """
        try:
            place = Place.decoded(call_id.partition("-")[0])
        except CallNotFound:
            raise self._missing(call_id) from None
        for index in self.store.site.lanes[place.lane].owners.values():
            found: CallRecord | None = index.at(place.segment, place.position)
            if found is not None and _is_there(found) and found.id == call_id:
                return found
        raise self._missing(call_id)

    def _missing(self, call_id: str) -> CallNotFound:
        site = self.store.site.name
        return CallNotFound(f"there is no call {call_id[:100]!r} in site {site!r} of this store")

    def context(self, record: CallRecord) -> CallContext:
        """What is needed to act on a call."""
        source, identifier = record.owner
        owner = Principal(identifier, source)
        claim = lane_claimer(f"operator-{os.getpid()}-{secrets.token_hex(8)}")
        access = ConnectionAccess(self.connection, owner, claim)
        return CallContext(access=access, deployment=self.deployment, store=self.store, owner=owner)

    def call(self, record: CallRecord) -> Call:
        """The call as a view."""
        return Call(record, self.context(record))


def _is_there(record: CallRecord) -> bool:
    """Whether it is of a call that can be shown: one that is damaged must not hide the others."""
    return why_unreadable(record) is None and not record.forgotten


class Site:
    """An open site."""

    def __init__(self, settings: SharedSettings, database: Any) -> None:
        """Work on this database, None where there is none yet; ``opened`` makes one."""
        self.settings = settings
        self._database = database
        self.deployment = deployment_for(settings, None)

    @property
    def database(self) -> Any:
        """The open database.

        Raises:
            ConfigurationError: Its file is not there yet.
        """
        if self._database is None:
            raise ConfigurationError(
                "this database has no calls yet: the file of "
                f"{without_password(self.settings.zodb_uri or '')} is not there, and is made when "
                "the site first uses it; check zodb_uri"
            )
        return self._database

    @property
    def has_database(self) -> bool:
        """Whether there is a database already."""
        return self._database is not None

    @property
    def has_calls(self) -> bool:
        """Whether anything was ever put in this site of the store.

        Raises:
            ConfigurationError: There is no database.
        """
        name = self.settings.site

        def has(connection: Any) -> bool:
            store = calls_connection(connection).root().get(ROOT_KEY)
            return store is not None and name in store.sites

        return reading(self.database, has)

    def look(self, work: Callable[[Operation], _Result]) -> _Result:
        """Read something; what ``work`` returns must be plain data.

        Raises:
            ConfigurationError: Nothing was ever put there.
        """
        return reading(self.database, lambda c: work(self._operation(c)))

    def change(self, what: str, work: Callable[[Operation], _Result]) -> _Result:
        """Change something, and commit it.

        Args:
            what: For the transaction's metadata.
            work: May be called several times, after conflicts.
        """

        def changed(connection: Any) -> _Result:
            transaction = connection.transaction_manager.get()
            transaction.setUser(_user(), "operator")
            transaction.note(f"zasync {what}")
            return work(self._operation(connection))

        return in_transaction(self.database, changed)

    def _operation(self, connection: Any) -> Operation:
        store = open_store(calls_connection(connection), self.settings.site, create=False)
        return Operation(connection, store, self.deployment)


def _user() -> str:
    """Who runs this; in a container that may be a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def refuse_unknown(site: Site, call_id: str) -> None:
    """Refuse to look for a call where nothing was ever put.

    Raises:
        CallNotFound: Nothing was.
        ConfigurationError: There is no database.
    """
    if not site.has_calls:
        raise CallNotFound(f"there is no call {call_id[:100]!r}: nothing was ever put there")


@contextmanager
def opened(path: str | Path, *, create: bool = False) -> Iterator[Site]:
    """The site of a file, its database open.

    Args:
        path: The site's file.
        create: Whether a FileStorage that is not there is made, as the site would. To look at
            one must not make it, perhaps as a user who is not the site's.

    Raises:
        ConfigurationError: The file, or the database that it names, is not as it should be.
    """
    settings = _impatient(beside_site(site_settings(path)))
    file = None if settings.zodb_uri is None else file_of(settings.zodb_uri)
    if not create and file is not None and file.parent.is_dir() and not file.exists():
        yield Site(settings, None)
        return
    database = open_database(settings)
    try:
        yield Site(settings, database)
    finally:
        close_together(database)
