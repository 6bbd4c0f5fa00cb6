# SPDX-License-Identifier: ZPL-2.1
"""From settings to what a process runs on: its database, its keys, its deployment."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zc.lockfile
import ZConfig
import ZODB.config
from transaction.interfaces import TransientError
from ZConfig import ConfigurationError as ZConfigError
from ZODB.FileStorage.FileStorage import FileStorageError
from ZODB.POSException import ConflictError

from .callbacks import RESERVED
from .clock import Clock, SystemClock
from .configuration.site_secrets import SiteSecrets, secrets_for
from .configuration.zodb_uri import without_password
from .deployment import Deployment
from .errors import ConfigurationError
from .plugins import Registry
from .sealing import Keys, Sealer
from .security import DefaultPolicy
from .settings import SharedSettings
from .store.databases import open_together

#: How often it is tried to open a new database while others make its root.
OPENING_TRIES = 5

#: What the drivers of SQL databases call the errors of a server that cannot be reached.
DRIVERS_AWAY = frozenset({"OperationalError", "InterfaceError"})

#: What RelStorage, which is not imported here, calls a driver that is not installed.
DRIVER_MISSING = "DriverNotAvailableError"


class Unreachable(TransientError):  # type: ignore[misc]
    """The server of an SQL database cannot be reached now; the text is its driver's."""


def open_database(settings: SharedSettings) -> Any:
    """Open the database that ``zodb_uri`` or ``zodb_conf`` names, or that ``db`` opens.

    Raises:
        ConfigurationError: There is none, or another process has it, or it is named wrongly.
        transaction.interfaces.TransientError: Its server cannot be reached now.
    """
    if callable(settings.db):
        return checked(_opened("of db", settings.db))
    if settings.zodb_conf is not None:
        return _opened(str(settings.zodb_conf), lambda: _from_file(str(settings.zodb_conf)))
    if settings.zodb_uri is None:
        raise ConfigurationError("no database is named: write zodb_uri or zodb_conf, or give db")
    uri = settings.zodb_uri
    if ":" not in uri:
        raise ConfigurationError(
            f"zodb_uri = {uri} names no kind of storage: write file://{uri} for a file, or "
            "zeo://HOST:PORT"
        )
    return _opened(without_password(uri), lambda: _from_uri(uri))


def checked(db: Any) -> Any:
    """What was given as ``db``, if it is a ``ZODB.DB``.

    Raises:
        ConfigurationError: It is something else, such as a storage or a file's name.
    """
    if not hasattr(db, "databases"):
        raise ConfigurationError(
            f"db is a {type(db).__qualname__} and no ZODB.DB: give ZODB.DB(storage)"
        )
    if not hasattr(db, "_mvcc_storage"):
        raise ConfigurationError("db is closed already: give one that is open")
    return db


def _from_uri(uri: str) -> Any:
    # Loads ZEO, which a process that is given its database does not need.
    from zodburi import resolve_uri

    make_storage, options = resolve_uri(uri)
    storage = make_storage()
    try:
        return ZODB.DB(storage, **options)
    except BaseException:
        storage.close()
        raise


def _from_file(path: str) -> Any:
    config, _ = ZConfig.loadConfig(ZODB.config.getDbSchema(), path)
    return open_together(config.database)


def _opened(shown: str, opener: Callable[[], Any]) -> Any:
    for _ in range(OPENING_TRIES - 1):
        # Who opens a database makes its root, if nobody has. Of two processes that do so at the
        # same moment one meets a conflict, and finds the root when it connects again.
        with contextlib.suppress(ConflictError):
            return _opened_now(shown, opener)
    return _opened_now(shown, opener)


def _opened_now(shown: str, opener: Callable[[], Any]) -> Any:
    try:
        return opener()
    except TransientError as exc:
        # A ZEO client says of what it waited for in vain only that it did.
        exc.add_note(f"while opening the database {shown}: is its server running?")
        raise
    except zc.lockfile.LockError as exc:
        raise ConfigurationError(
            f"{shown} is open in another process: stop that one, or let both use it by ZEO; if "
            "the application has opened it in this one, give that ZODB.DB as db"
        ) from exc
    except (
        FileStorageError,
        OSError,
        KeyError,
        ValueError,
        TypeError,
        ImportError,
        ZConfigError,
    ) as exc:
        raise _cannot_be_opened(shown, exc) from None
    except Exception as exc:
        # PEP 249 gives them names, and each driver has classes of its own.
        kinds = {kind.__name__ for kind in type(exc).__mro__}
        if DRIVERS_AWAY & kinds:
            raise Unreachable(str(exc).strip()) from exc
        if DRIVER_MISSING in kinds:
            raise _cannot_be_opened(shown, exc) from None
        raise


class SiteKeys(Keys):
    """The keys of a site whose secret is read when a key is first needed."""

    def __init__(self, load: Callable[[], SiteSecrets]) -> None:
        """Read nothing yet."""
        self._load = load
        self._loaded: tuple[bytes, ...] | None = None
        self._derived: dict[str, tuple[bytes, ...]] = {}

    @property
    def _secrets(self) -> tuple[bytes, ...]:  # type: ignore[override]
        if self._loaded is None:
            self._loaded = self._load().values
        return self._loaded

    def __repr__(self) -> str:
        return "<SiteKeys>"


def keys_for(settings: SharedSettings, database: Callable[[], Any]) -> SiteKeys:
    """The keys of a site.

    Args:
        settings: Where its secret is configured.
        database: Asked for, when a key is first needed and none is configured, for the storage
            that may have a secret of its own.
    """
    return SiteKeys(lambda: settings.secret or secrets_for(settings.secret, database().storage))


def policy_for(settings: SharedSettings) -> Any:
    """What decides who may do what: the configured policy, or the default one with its tables.

    Raises:
        ConfigurationError: A grant in ``[permissions]`` cannot be understood.
    """
    return settings.policy or DefaultPolicy(
        settings.roles, settings.permissions, root_path=settings.root
    )


def check_deployment(settings: SharedSettings) -> None:
    """Find out before anything runs what ``deployment_for`` would not take.

    Raises:
        ConfigurationError: Of ``[permissions]``, ``[plugin:NAME]`` or ``exposed``.
    """
    policy_for(settings)
    Registry(settings.plugins, settings.plugin_options)
    for name in settings.exposed:
        if name in RESERVED or name.startswith("_"):
            raise ConfigurationError(f"exposed: expressions cannot see {name!r}: use another name")


def deployment_for(
    settings: SharedSettings, keys: Keys | None, clock: Clock | None = None
) -> Deployment:
    """What all requests or attempts of a process know."""
    check_deployment(settings)
    return Deployment(
        registry=Registry(settings.plugins, settings.plugin_options),
        policy=policy_for(settings),
        clock=clock or SystemClock(),
        quotas=settings.quotas,
        sealer=None if keys is None else Sealer(keys),
        site=settings.site,
        exposed=settings.exposed,
    )


def _cannot_be_opened(shown: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"the database {shown} cannot be opened: {_why(error)}")


def _why(error: Exception) -> str:
    if isinstance(error, FileStorageError):
        # It says no more than the file's name.
        return f"{type(error).__name__}: {error}: is it damaged, or no FileStorage?"
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        # The storage says so of its lock file, which nobody has heard of.
        missing = Path(str(error.filename)).absolute().parent
        if not missing.is_dir():
            return f"there is no directory {missing}: make it, or name another place"
    if isinstance(error, KeyError) and "No resolver" in str(error):
        return (
            "nothing that is installed knows this kind of storage; the package RelStorage knows "
            "postgres, mysql, oracle and sqlite"
        )
    if (driver := getattr(error, "driver_name", None)) is not None:
        # It tells of every driver that was tried, in a thousand characters.
        which = "no driver for it is" if driver == "auto" else f"its driver {driver!r} is not"
        return f"{which} installed; wsgi-zasync[postgres] brings the one for PostgreSQL"
    if isinstance(error, ValueError) and str(error).startswith("Port could not be cast"):
        # What it took for the port may be of a password.
        return "its port is no number; write a / or an @ of a password as %2F or %40"
    # Those who read an address repeat it.
    return without_password(str(error)) or type(error).__name__
