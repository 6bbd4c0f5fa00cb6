# SPDX-License-Identifier: ZPL-2.1
"""Which database the calls are in, where an application has several.

The one that has the name for it, or else the application's own. And several are opened, and
closed, together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

#: The name that a database has in a multi-database when it is there for calls.
CALLS_DATABASE = "zasync"


def calls_database(database: Any) -> Any:
    """The ``ZODB.DB`` that holds the calls, found from an application's."""
    return database.databases.get(CALLS_DATABASE, database)


def calls_connection(connection: Any) -> Any:
    """The connection to the database that holds the calls, found from an application's.

    It is of the same transaction, and opened at first need.
    """
    database = calls_database(connection.db())
    if database is connection.db():
        return connection
    return connection.get_connection(CALLS_DATABASE)


def open_together(sections: Iterable[Any]) -> Any:
    """Open the databases that ``<zodb>`` sections describe; returns the application's.

    That is the first one, but for one that is there for calls.
    """
    databases: dict[str, Any] = {}
    try:
        opened = [section.open(databases) for section in sections]
    except BaseException:
        _close(databases)
        raise
    return next((db for db in opened if db.database_name != CALLS_DATABASE), opened[0])


def close_together(database: Any) -> None:
    """Close a database, and all that were opened together with it."""
    _close(database.databases)


def _close(databases: dict[str, Any]) -> None:
    # Who is closed knows the others no more.
    for each in list(databases.values()):
        each.close()
