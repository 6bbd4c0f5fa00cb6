# SPDX-License-Identifier: ZPL-2.1
"""``zasync worker``: one worker in a process of its own, until it is asked to stop."""

from __future__ import annotations

import logging
from threading import Event

from ..configuration.paste_file import ConfigFile
from ..configuration.site_secrets import kept_secret_of
from ..errors import ConfigurationError
from ..own_file import file_of
from ..settings import WorkerSettings
from .beside import beside_site
from .logs import log_to_stderr
from .operating import has_database, worker_settings
from .signals import on_stop

logger = logging.getLogger(__name__)

#: Seconds between two looks whether the worker is still at work.
LOOK_SECONDS = 1.0


def work(path: str | None, zconfig: str | None, section: str | None, name: str | None) -> int:
    """Run calls until it is asked to stop; those that run may end then (``grace``)."""
    file = None if path is None else ConfigFile.load(path)
    settings = _settings(file, zconfig, section)
    if name is not None:
        settings = settings.evolve(name=name)
    lent = file is not None and not has_database(file, section or "main")
    settings = _beside(settings, lent)
    from ..worker import Worker

    log_to_stderr(settings.log_format)
    if file is not None and file.schedule:
        logger.warning("[schedule] is not acted upon: this version has no schedules yet")

    def stop() -> None:
        # Whatever this thread waits for, such as a server that is away.
        raise SystemExit(0)

    with on_stop(stop):
        worker = Worker.from_settings(settings)
        try:
            worker.start(watchdog=True)
            if settings.secret is not None:
                settings.secret.remove_from_environment()
            logger.info("worker %s is at work", worker.name)
            while worker.is_running:
                Event().wait(LOOK_SECONDS)
        finally:
            if worker.is_running:
                logger.info("worker %s stops: it lets what runs end", worker.name)
            worker.stop()
    # It has said why. One that does nothing and seems to live would be started by nobody again.
    return 1


def _beside(settings: WorkerSettings, lent: bool) -> WorkerSettings:
    """The same settings; beside a running site through it, and with the secret that it keeps.

    Raises:
        ConfigurationError: The file is lent by a site that does not run. It would not start any
            more, if a worker had its file.
    """
    found, file = beside_site(settings), file_of(settings.zodb_uri or "")
    if found is settings and lent and file is not None:
        raise ConfigurationError(
            f"{file} is of the site, which runs calls itself (worker = embedded) and is not "
            "running now: start it first, or write zodb_uri into the [worker:…] section for a "
            "worker that has the file to itself"
        )
    if found is settings or found.secret is not None or file is None:
        return found
    return found.evolve(secret=kept_secret_of(file))


def _settings(file: ConfigFile | None, zconfig: str | None, section: str | None) -> WorkerSettings:
    if zconfig is not None:
        if section is not None:
            raise ConfigurationError(
                "--section names a [worker:…] of a PasteDeploy file, and the file of -C has none: "
                "leave it out"
            )
        from ..zconfig_file import load_worker_conf

        return load_worker_conf(zconfig)
    assert file is not None
    return worker_settings(file, section or "main")
