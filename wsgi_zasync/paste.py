# SPDX-License-Identifier: ZPL-2.1
"""Factories for PasteDeploy files: the filter, and the worker beside it.

Both read the file that they are written in as well: ``[plugins]``, ``[roles]`` and the other
sections that web side and workers share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .middleware import CallManagerMiddleware
from .settings import MiddlewareSettings, WorkerSettings

if TYPE_CHECKING:
    from .worker import Worker

Application = Callable[..., Iterable[bytes]]


def filter_app_factory(
    app: Application, global_conf: Mapping[str, Any], **local_conf: Any
) -> CallManagerMiddleware:
    """``[filter:…] use = egg:wsgi_zasync``: the application, wrapped.

    Raises:
        ConfigurationError: With the file, the section and the key.
    """
    settings = MiddlewareSettings.from_paste(global_conf, **local_conf)
    return CallManagerMiddleware.from_settings(app, settings)


def filter_factory(
    global_conf: Mapping[str, Any], **local_conf: Any
) -> Callable[[Application], CallManagerMiddleware]:
    """The same for ``paste.filter_factory``: what wraps an application, settings read now.

    Raises:
        ConfigurationError: With the file, the section and the key.
    """
    settings = MiddlewareSettings.from_paste(global_conf, **local_conf)
    return lambda app: CallManagerMiddleware.from_settings(app, settings)


def worker_factory(global_conf: Mapping[str, Any], **local_conf: Any) -> Worker:
    """``[worker:…] use = egg:wsgi_zasync#worker``: a worker, not started.

    Raises:
        ConfigurationError: With the file, the section and the key.
    """
    from .worker import Worker

    return Worker.from_settings(WorkerSettings.from_paste(global_conf, **local_conf))
