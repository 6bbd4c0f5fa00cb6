# SPDX-License-Identifier: ZPL-2.1
"""Which database the calls are in, where an application has several.

The one that has the name for it, or else the application's own.
"""

from __future__ import annotations

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
