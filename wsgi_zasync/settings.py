# SPDX-License-Identifier: ZPL-2.1
"""Every key that can be configured, in one table: the fields of the classes below.

A row says the key's name, what reads its value, its meaning and its default. Paste strings,
keyword arguments and the command line all go through it. Durations are in seconds, sizes in
bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Self

from .configuration import convert
from .configuration.key_table import Row, key, nested, read_values, rows
from .configuration.paste_file import ConfigFile
from .configuration.site_secrets import SiteSecrets, missing_secret, read_secrets
from .configuration.zodb_uri import (
    may_be_shared,
    refuse_cut_short,
    refuse_open_servers,
    refuse_open_zeo,
    without_password,
)
from .errors import ConfigurationError
from .ports import SecurityPolicy

__all__ = ["MiddlewareSettings", "Quotas", "SharedSettings", "WorkerSettings"]

DAY = 86400.0

#: Keys that ``[DEFAULT]`` may hold for both sides; PasteDeploy keeps them out of the sections.
FROM_DEFAULT = frozenset({"zodb_uri", "zodb_conf", "secret", "policy", "site", "insecure_zeo"})

_count = convert.whole(1, 10**9)


@dataclass(frozen=True, kw_only=True)
class Quotas:
    """What one owner, one call and one chain of calls may take; over it: QuotaExceeded."""

    max_open_calls: int = key(_count, "calls of an owner that are not final", 1000)
    max_stored_calls: int = key(_count, "calls of an owner, final ones included", 10_000)
    max_owner_bytes: int = key(convert.size(1), "bytes stored for an owner", 100 * 1024**2)
    max_argument_bytes: int = key(convert.size(1), "bytes of all arguments of a call", 64 * 1024)
    max_result_bytes: int = key(convert.size(1), "bytes of the result of a call", 1024**2)
    max_callbacks: int = key(_count, "callback expressions of a call", 16)
    max_expression_length: int = key(_count, "characters of a callback expression", 4096)
    max_owner_retries: int = key(_count, "times an owner may retry callbacks of a call", 10)
    max_ahead: float = key(
        convert.duration(1.0), "how far begin_after, expires and keep may reach", 365 * DAY
    )
    max_unsent_messages: int = key(_count, "unsent messages of a session call", 100)
    max_message_bytes: int = key(
        convert.size(1), "bytes of one message to a session call", 64 * 1024
    )
    max_events: int = key(_count, "events that a call keeps", 100)
    max_event_bytes: int = key(convert.size(1), "bytes of one event of a call", 16 * 1024)
    max_callback_puts: int = key(_count, "calls that one evaluation of a callback may put", 100)
    max_depth: int = key(convert.whole(1, 1000), "calls that lead one to the next", 8)
    max_descendants: int = key(_count, "calls that one call can lead to in all", 1000)


@dataclass(frozen=True, kw_only=True, repr=False)
class SharedSettings:
    """The keys that both sides have; those about running hold for an embedded worker too."""

    db: Any = key(convert.anything, "a ZODB.DB that is open already (from Python only)")
    zodb_uri: str | None = key(convert.text, "where the ZODB is, such as zeo://127.0.0.1:8100")
    zodb_conf: Path | None = key(
        convert.existing_file,
        "a file with <zodb> sections: Zope's <zodb_db>, but without mount-point",
        here=True,
    )
    secret: SiteSecrets | None = key(
        read_secrets, "env:NAME or file:PATH; older ones after it", here=True, secret=True
    )
    policy: Any = key(
        convert.named_object,
        "a SecurityPolicy, or a class of one, in place of [roles], [permissions] and root",
    )
    site: str = key(convert.text, "which part of the store the calls are in", "main")
    plugins: Mapping[str, Any] = key(convert.table, "[plugins]: name to callable", {}, section=True)
    plugin_options: Mapping[str, Mapping[str, str]] = key(
        convert.table_of_tables, "[plugin:NAME]: options of a plugin", {}, section=True
    )
    roles: Mapping[str, tuple[str, ...]] = key(
        convert.table_of_words, "[roles]: user to roles", {}, section=True
    )
    permissions: Mapping[str, tuple[str, ...]] = key(
        convert.table_of_words,
        "[permissions]: permission to role:NAME and user:ID",
        {},
        section=True,
    )
    root: str | None = key(
        convert.text, "path to the object that expressions see as root; without it they see none"
    )
    exposed: Mapping[str, Any] = key(
        convert.table, "names that every expression sees (from Python only)", {}, section=True
    )
    keep: float = key(convert.duration(), "how long final calls are kept", 30 * DAY)
    insecure_zeo: bool = key(convert.flag, "allow ZEO on an address that others reach", False)
    quotas: Quotas = nested(Quotas)

    serves: tuple[str, ...] = key(
        convert.some_words, "the queues that a worker works for", ("default",)
    )
    threads: int = key(convert.whole(1, 1000), "threads for plugins", 8)
    max_running: int = key(convert.whole(1, 100_000), "calls that run at a time", 500)
    timeout: float = key(
        convert.duration(0.001),
        "how long an attempt may take where neither call nor plugin says",
        3600.0,
    )
    grace: float = key(
        convert.duration(), "how long running calls may go on when the worker stops", 30.0
    )
    dead_after: float = key(
        convert.duration(1.0),
        "how long a worker may give no sign of life before its calls are taken over",
        15.0,
    )
    safety_poll: float = key(
        convert.duration(0.1), "how often a worker looks at the store when no signal comes", 30.0
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be true together."""
        ways = [name for name in ("db", "zodb_uri", "zodb_conf") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise ConfigurationError(f"{' and '.join(ways)} exclude each other: keep one")
        object.__setattr__(self, "policy", _policy(self.policy))
        if self.secret is None and self.zodb_uri and may_be_shared(self.zodb_uri):
            raise missing_secret(without_password(self.zodb_uri))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.masked().items())
        return f"{type(self).__name__}({shown})"

    def masked(self) -> dict[str, str]:
        """What differs from the defaults, as text without secrets and passwords."""
        shown = {}
        for row in rows(type(self)):
            value = getattr(self.quotas if hasattr(self.quotas, row.name) else self, row.name)
            if value != row.default:
                shown[row.name] = _shown(row, value)
        return shown

    def evolve(self, **changes: Any) -> Self:
        """These settings with others in their place."""
        return replace(self, **changes)

    @classmethod
    def from_kwargs(cls, **given: Any) -> Self:
        """Read keyword arguments.

        Raises:
            ConfigurationError: A key is unknown, or its value makes no sense.
        """
        others = (MiddlewareSettings, WorkerSettings)
        return cls(**read_values(cls, given, here=Path(), where=_argument, others=others))

    @classmethod
    def from_paste(cls, global_conf: Mapping[str, Any] | None = None, **local_conf: Any) -> Self:
        """Read what PasteDeploy gives to a factory, and the shared sections of its file.

        Raises:
            ConfigurationError: With the file, the section and the key.
        """
        conf = global_conf or {}
        file = ConfigFile.load(conf["__file__"]) if "__file__" in conf else None
        here = file.path.parent if file else Path()
        shared = {name: conf[name] for name in FROM_DEFAULT & set(conf)}
        others = (MiddlewareSettings, WorkerSettings)
        where = cls._where(file)
        given = shared | cls._of_worker_section(file, local_conf) | local_conf
        read = read_values(cls, given, here=here, where=where, others=others)
        try:
            refuse_cut_short(read.get("zodb_uri") or "", here)
            return cls(**(_of_sections(file) | read))
        except ConfigurationError as error:
            raise ConfigurationError(f"{where('')}{error}") from error

    @classmethod
    def _of_worker_section(
        cls, file: ConfigFile | None, local_conf: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {}

    @classmethod
    def _where(cls, file: ConfigFile | None) -> Any:
        kinds = ("worker",) if cls is WorkerSettings else ("filter", "filter-app", "worker")

        def where(name: str) -> str:
            if file is None:
                return _argument(name) if name else ""
            sections = file.sections_with(name, *kinds) if name else []
            section = f" [{sections[0]}]" if sections else ""
            return f"{file.path}{section}{f' {name}' if name else ''}: "

        return where


@dataclass(frozen=True, kw_only=True, repr=False)
class MiddlewareSettings(SharedSettings):
    """The keys of ``CallManagerMiddleware`` and of ``[filter:…]``."""

    worker: str = key(
        convert.choice("none", "embedded"), "embedded: this process runs calls itself", "none"
    )
    identity: Any = key(convert.named_callable, "callable(environ) -> Principal | str | None")
    anonymous: str = key(
        convert.choice("no", "session"), "session: a cookie owns the calls of strangers", "no"
    )
    prefix: str = key(convert.url_prefix, "where our own addresses begin", "/_zasync")
    connection: Any = key(
        convert.key_or_callable, "environ key of the host's ZODB connection, or callable(environ)"
    )
    veto: Any = key(convert.named_callable, "callable(environ, status, headers) -> true to abort")
    waiters: int = key(convert.whole(0, 1000), "web threads that may wait for calls", 1)
    wait_limit: float = key(convert.duration(0.0, 300.0), "the longest ?wait=", 20.0)
    trusted_proxies: tuple[str, ...] = key(
        convert.words, "addresses of peers whose identity_header is believed", ()
    )
    identity_header: str | None = key(convert.text, "such as X-Remote-User, from those peers only")

    @classmethod
    def _of_worker_section(
        cls, file: ConfigFile | None, local_conf: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What ``[worker:main]`` says, where that worker runs in this process."""
        embedded = str(local_conf.get("worker", "")).strip() == "embedded"
        if not embedded or file is None or "worker:main" not in file.keys:
            return {}
        mine = {row.name for row in rows(cls)}
        # Loads PasteDeploy.
        from .configuration.paste_sections import worker

        _, worker_conf = worker(file)
        return {name: value for name, value in worker_conf.items() if name in mine - _DATABASE}

    def for_embedded_worker(self, db: Any) -> WorkerSettings:
        """The settings of the worker that runs in this process, on the same database."""
        shared = {each.name: getattr(self, each.name) for each in fields(SharedSettings)}
        return WorkerSettings(**{**shared, **dict.fromkeys(_DATABASE), "db": db})


@dataclass(frozen=True, kw_only=True, repr=False)
class WorkerSettings(SharedSettings):
    """The keys of ``Worker`` and of ``[worker:…]``."""

    name: str | None = key(
        convert.text, "the name of this worker and of no other; without it a unique one"
    )
    app: Any = key(convert.anything, "[app:…] that calls back into the application go through")
    log_format: str = key(convert.choice("text", "json"), "how log lines are written", "text")

    def __post_init__(self) -> None:
        """A worker opens a database of its own, and trusts no open network with it."""
        super().__post_init__()
        if self.db is None and self.zodb_uri is None and self.zodb_conf is None:
            raise ConfigurationError(
                "a worker needs a database: write zodb_uri or zodb_conf, or give db"
            )
        if self.zodb_uri and not self.insecure_zeo:
            refuse_open_zeo(self.zodb_uri)
        if self.zodb_conf and not self.insecure_zeo:
            refuse_open_servers(self.zodb_conf)


#: The ways to name a database.
_DATABASE = frozenset({"db", "zodb_uri", "zodb_conf"})


def _policy(given: Any) -> Any:
    """A policy that can be asked: what is given, or an instance of the class that is."""
    if isinstance(given, type):
        try:
            given = given()
        except TypeError as error:
            raise ConfigurationError(
                f"policy: {given.__qualname__} cannot be made without arguments ({error}): name "
                "an instance of it instead"
            ) from error
    if given is not None and not isinstance(given, SecurityPolicy):
        raise ConfigurationError(
            f"policy: {type(given).__qualname__} lacks a method of SecurityPolicy "
            "(principal_now, allows, root_for)"
        )
    for name in ("principal_now", "allows", "root_for"):
        if iscoroutinefunction(getattr(given, name, None)):
            raise ConfigurationError(f"policy: {name} is async, and nothing is awaited: write def")
    return given


def _argument(name: str) -> str:
    return f"{name}: "


def _of_sections(file: ConfigFile | None) -> dict[str, Any]:
    if file is None:
        return {}
    return {
        "plugins": file.plugins,
        "plugin_options": file.plugin_options,
        "roles": file.roles,
        "permissions": file.permissions,
    }


def _shown(row: Row, value: Any) -> str:
    if "secret" in row.marks:
        return "***"
    if row.name == "zodb_uri":
        return without_password(value)
    if row.name == "plugin_options":
        return f"{{{', '.join(sorted(value))}}}"
    if row.name in ("db", "app") and type(value) is not str:
        return f"<{type(value).__name__}>"
    return str(value)
