# SPDX-License-Identifier: ZPL-2.1
"""A worker's file in the syntax of zope.conf: the same keys, with dashes, and ``<zodb>`` sections.

``component.xml`` and ``worker_schema.xml`` beside this module are the schema. It knows no key:
the table in ``settings`` does.
"""

from __future__ import annotations

from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from .configuration.key_table import read_values
from .configuration.zodb_uri import refuse_open_servers
from .errors import ConfigurationError
from .plugins import Registry
from .settings import MiddlewareSettings, WorkerSettings
from .store.databases import open_together


def load_worker_conf(path: str | Path) -> WorkerSettings:
    """Read ``<zasync-worker>`` and the databases from a file.

    With ``<zodb>`` sections ``settings.db`` is a function that opens them; nothing is opened here.

    Raises:
        ConfigurationError: With the file, and the line or the key.
    """
    path = Path(path).absolute()
    config = _loaded(path)
    worker = config.worker
    given = {name.replace("-", "_"): value for name, value in worker.values.items()}
    for table in ("plugins", "roles", "permissions"):
        section = getattr(worker, table)
        if section is not None:
            given[table] = section.values
    names = Registry(given.get("plugins")).names()
    given["plugin_options"] = {
        _plugin_name(path, section.getSectionName(), names): section.values
        for section in worker.plugin_options
    }
    if config.databases:
        given["db"] = partial(open_together, config.databases)
    read = read_values(
        WorkerSettings,
        given,
        here=path.parent,
        where=lambda name: f"{path} <zasync-worker> {name.replace('_', '-')}: ",
        others=(MiddlewareSettings,),
    )
    try:
        settings = WorkerSettings(**read)
        if not settings.insecure_zeo:
            refuse_open_servers(path)
        return settings
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _loaded(path: Path) -> Any:
    import ZConfig

    try:
        with as_file(files("wsgi_zasync") / "worker_schema.xml") as schema_path:
            schema = ZConfig.loadSchema(str(schema_path))
        return ZConfig.loadConfig(schema, str(path))[0]
    except (ZConfig.ConfigurationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _plugin_name(path: Path, written: str, names: list[str]) -> str:
    """The plugin that a section is about: ZConfig tells its name in lower case."""
    meant = [name for name in names if name.lower() == written] or [written]
    if len(meant) > 1:
        raise ConfigurationError(
            f"{path} <zasync-plugin {written}> may be {' or '.join(meant)}, which ZConfig does not "
            "tell apart: rename one, or use a PasteDeploy file"
        )
    return meant[0]
