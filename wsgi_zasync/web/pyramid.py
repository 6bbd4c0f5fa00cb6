# SPDX-License-Identifier: ZPL-2.1
"""What a Pyramid application with pyramid_zodbconn knows: its database, and a request's connection.

Neither package is imported here: where nobody has done that, there is no such application.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from ZODB.Connection import Connection

#: How many layers of a pipeline are looked through for the application.
MAX_WRAPPERS = 20


def connection(environs: Iterable[Mapping[str, Any]]) -> Connection | None:
    """The connection that pyramid_zodbconn gives this request, opened by it if need be.

    Asked before it is looked for: so that the application, when it asks later, gets the same.
    """
    request = _request(environs)
    if request is None:
        return None
    found: Connection = sys.modules["pyramid_zodbconn"].get_connection(request)
    return found


def database(environs: Iterable[Mapping[str, Any]]) -> Any | None:
    """The database that pyramid_zodbconn has for this request, without opening a connection."""
    request = _request(environs)
    return None if request is None else request.registry._zodb_databases[""]


def applications_database(application: Any) -> Any | None:
    """The database that pyramid_zodbconn has for a Pyramid application, if this is one.

    Or if this has one within, and calls it as most of those that wrap an application do.
    """
    if "pyramid_zodbconn" not in sys.modules:
        return None
    for _ in range(MAX_WRAPPERS):
        registry = getattr(application, "registry", None)
        databases = getattr(registry, "_zodb_databases", None) or {}
        if databases:
            return databases.get("")
        application = getattr(application, "app", getattr(application, "application", None))
    return None


def _request(environs: Iterable[Mapping[str, Any]]) -> Any | None:
    """Pyramid's request with one of these environs, if it has databases."""
    threadlocal = sys.modules.get("pyramid.threadlocal")
    if threadlocal is None or "pyramid_zodbconn" not in sys.modules:
        return None
    request = threadlocal.get_current_request()
    if request is None or not any(request.environ is environ for environ in environs):
        return None
    return request if getattr(request.registry, "_zodb_databases", None) else None
