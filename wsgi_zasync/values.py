# SPDX-License-Identifier: ZPL-2.1
"""Values: what arguments, results, bound names and messages may be, stored and shown.

Types are exact: a subclass of ``str`` or a datetime with a foreign timezone brings a class of
its own into the database, and loading that runs code. Whatever is stored is a copy, so that
nothing that the application does to its list later changes the call.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from persistent import Persistent
from ZODB.POSException import POSKeyError

from .errors import ConfigurationError, InvalidArguments, ObjectGone
from .sealing import Sealed, Secret

#: How deep containers may nest; far above what data needs, far below the stack.
MAX_DEPTH = 50

_SCALARS = (type(None), bool, int, float, Decimal, UUID, date, timedelta)
_CONTAINERS = (list, tuple, set, dict)

#: What most values are, and what has nothing in it to look for.
_PLAIN = frozenset({str, bytes, datetime, *_SCALARS})


@dataclass(frozen=True, slots=True)
class WeakReference:
    """An object of another database of the same multi-database."""

    database: str
    oid: bytes
    class_name: str


#: Where a value is: an argument, or where its container is, with how to say what it is there
#: and its key. It is put into words only when something is wrong.
Where = str | tuple[Any, str, Any]


def _told(path: Where) -> str:
    if isinstance(path, str):
        return path
    container, what, key = path
    return f"{_told(container)}{what.format(_shown(key))}"


class Storing:
    """Turns values into what is stored; one for each put or outcome.

    ``size`` counts the bytes so far: of texts, bytes and long numbers their length, of all else
    eight.
    """

    def __init__(
        self,
        connection: Any = None,
        *,
        max_bytes: int,
        seal: Callable[[Secret], Sealed] | None = None,
        error: type[InvalidArguments] = InvalidArguments,
        other_connections: bool = False,
    ) -> None:
        """Prepare to store.

        Args:
            connection: Of the store; references are accepted only with one.
            max_bytes: For all values together.
            seal: What seals a ``Secret``; without one a secret is refused.
            error: What is raised, with the path to the culprit.
            other_connections: Whether objects may be those of another connection to the
                database: they are found again by their oid, and must be committed.
        """
        self._connection = connection
        self._other_connections = other_connections
        self._max_bytes = max_bytes
        self._seal = seal
        self._error = error
        self.size = 0

    def stored(self, value: Any, path: str) -> Any:
        """A copy of the value in stored form.

        Raises:
            InvalidArguments: Or the error class given: it cannot be stored; ``.path`` says which.
        """
        return self._stored(value, path, 0)

    def _stored(self, value: Any, path: Where, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            # Python knows at once whether a text is ASCII.
            size = len(value) if value.isascii() else self._encoded_size(value, path)
        else:
            size = 8 if kind in _CONTAINERS else _size(value)
        self.size += size
        if self.size > self._max_bytes:
            raise self._refused(
                path,
                f"is too much: the values may have {self._max_bytes:,} bytes together; "
                "store large data as an object of your own and pass a reference",
            )
        if kind in _CONTAINERS:
            if depth >= MAX_DEPTH:
                raise self._refused(path, f"is nested deeper than {MAX_DEPTH}")
            return self._container(value, path, depth + 1)
        if kind is str or kind in _SCALARS or kind is bytes:
            return value
        if kind is datetime:
            return self._moment(value, path)
        if kind is Secret and self._seal is not None:
            return self._seal(value)
        if isinstance(value, Persistent):
            return self._reference(value, path)
        if kind is Secret:
            raise self._refused(
                path,
                "is a Secret, which can be an argument of a call, where the site has a "
                "secret to seal it with, and nothing else: give plain data",
            )
        raise self._refused(
            path,
            f"is of type {kind.__module__}.{kind.__qualname__}, which cannot be stored: "
            "give plain data (exact types), a Secret, or a persistent object that is in the "
            "database already",
        )

    def _refused(self, path: Where, why: str) -> InvalidArguments:
        told = _told(path)
        return self._error(f"{told} {why}", told)

    def _encoded_size(self, value: str, path: Where) -> int:
        try:
            return len(value.encode())
        except UnicodeEncodeError as exc:
            raise self._refused(path, f"has a lone surrogate at {exc.start}") from exc

    def _moment(self, value: datetime, path: Where) -> datetime:
        """Without any timezone class but the standard one: aware ones become UTC."""
        if value.tzinfo is None:
            return value
        try:
            offset = value.utcoffset()
            moment = value.astimezone(UTC)
        except (OverflowError, ValueError, TypeError, NotImplementedError) as exc:
            raise self._refused(path, f"cannot be told in UTC: {exc}") from exc
        if offset is None:
            # Python would take it for a time of this machine's own zone.
            raise self._refused(path, "has a timezone that tells no offset from UTC")
        return moment

    def _container(self, value: Any, path: Where, depth: int) -> Any:
        if type(value) is dict:
            return {
                self._stored(key, (path, " key {}", key), depth): self._stored(
                    item, (path, "[{}]", key), depth
                )
                for key, item in value.items()
            }
        items = [self._stored(item, (path, "[{}]", at), depth) for at, item in enumerate(value)]
        return type(value)(items)

    def _reference(self, value: Any, path: Where) -> Any:
        jar = value._p_jar
        if jar is None or value._p_oid is None or self._connection is None:
            raise self._refused(
                path,
                f"is a {type(value).__qualname__} that is not in the database yet: "
                "add it first (and make a savepoint), or pass plain data",
            )
        if jar is self._connection:
            # Itself: Zope's come in wrappers, with the request that they were reached in.
            return jar.get(value._p_oid)
        name = jar.db().database_name
        if self._connection.connections.get(name) is jar:
            kind = type(jar.get(value._p_oid))
            return WeakReference(name, value._p_oid, f"{kind.__module__}.{kind.__qualname__}")
        if self._other_connections:
            return self._found_again(value, name, path)
        raise self._refused(
            path,
            f"is a {type(value).__qualname__} of another ZODB connection: pass the object "
            "as this request's own connection loads it (calls.connection)",
        )

    def _found_again(self, value: Any, name: str, path: Where) -> Any:
        """The object as our connection knows it; nothing of the other one is read or loaded."""
        kind = type(value)
        try:
            own = self._connection.get_connection(name)
            if own.db() is not value._p_jar.db():
                raise KeyError(name)
            found = own.get(value._p_oid)
        except KeyError as exc:
            # As a POSKeyError is.
            raise self._refused(
                path, f"is a {kind.__qualname__} that is not in the database"
            ) from exc
        if own is self._connection:
            return found
        return WeakReference(name, value._p_oid, f"{kind.__module__}.{kind.__qualname__}")


def _size(value: Any) -> int:
    """What counts for a value that is no text: as much as it takes to keep it, about."""
    size = 8
    if type(value) is bytes:
        size = len(value)
    elif type(value) is int:
        size = max(8, value.bit_length() // 8)
    elif type(value) is Decimal:
        size += len(value.as_tuple().digits)
    return size


def stored_size(value: Any) -> int:
    """What a stored value counted for when it was stored."""
    kind = type(value)
    if kind is str:
        return len(value.encode())
    if kind is dict:
        return 8 + sum(stored_size(part) for pair in value.items() for part in pair)
    if kind in _CONTAINERS:
        return 8 + sum(stored_size(item) for item in value)
    return _size(value)


def _shown(key: Any) -> str:
    return repr(key)[:40] if type(key) in (str, int, bytes, bool, float, type(None)) else "…"


def restored(value: Any, connection: Any, open_sealed: Callable[[Sealed], Any]) -> Any:
    """A copy of a stored value, as plugins and applications get it.

    Args:
        connection: Of the store, for references into other databases.
        open_sealed: What becomes of a sealed secret.

    Raises:
        ObjectGone: It is one of another database.
        ConfigurationError: That database is not open here.
    """
    kind = type(value)
    if kind is dict:
        return {
            restored(k, connection, open_sealed): restored(v, connection, open_sealed)
            for k, v in value.items()
        }
    if kind in _CONTAINERS:
        return kind(
            [
                item if type(item) in _PLAIN else restored(item, connection, open_sealed)
                for item in value
            ]
        )
    if kind is Sealed:
        return open_sealed(value)
    if kind is WeakReference:
        return _referred(value, connection)
    return value


def _referred(reference: WeakReference, connection: Any) -> Any:
    if reference.database not in connection.db().databases:
        raise ConfigurationError(
            f"an argument is an object of the database {reference.database!r}, which this process "
            "has not opened: name it in zodb_conf"
        )
    try:
        return connection.get_connection(reference.database).get(reference.oid)
    except POSKeyError as exc:
        # A weak reference keeps nothing from being packed away.
        raise ObjectGone(
            f"a {reference.class_name} that was given is in the database {reference.database!r} "
            "no more"
        ) from exc


def without_secrets(value: Any) -> Any:
    """A stored value with its secrets overwritten; the same object where it has none."""
    return _overwritten(value) if _has_secrets(value) else value


def _has_secrets(value: Any) -> bool:
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        for item in value.values() if kind is dict else value:
            if type(item) not in _PLAIN and _has_secrets(item):
                return True
    return kind is Sealed


def _overwritten(value: Any) -> Any:
    kind = type(value)
    if kind is Sealed:
        return Sealed(b"")
    if kind is dict:
        return {k: _overwritten(item) for k, item in value.items()}
    if kind in (list, tuple):
        return kind(_overwritten(item) for item in value)
    return value


def masked(_sealed: Sealed) -> str:
    """What everybody but the plugin sees of a secret."""
    return "***"


#: Python refuses to write longer integers in decimal, which takes quadratic time.
_DECIMAL_BITS = 14_000


def to_json(value: Any) -> Any:
    """A stored value as the JSON API shows it.

    ``$`` forms are written and never read; data keys that begin with ``$`` get another one.
    Keys become text, as they are written in JSON; a dict in which two would be the same text, as
    ``1`` and ``"1"``, is shown as its pairs. A reference shows its class and no oid.
    """
    kind = type(value)
    if kind in (str, bool, type(None)):
        return value
    if kind is int:
        return value if value.bit_length() <= _DECIMAL_BITS else hex(value)
    if kind is float:
        return value if value - value == 0 else str(value)
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if kind is dict:
        shown = {_json_key(key): to_json(item) for key, item in value.items()}
        if len(shown) == len(value):
            return shown
        return {"$dict": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if kind in _CONTAINERS:
        return [to_json(item) for item in value]
    if kind in (datetime, date, time):
        return value.isoformat()
    if kind is timedelta:
        return value.total_seconds()
    if kind in (Decimal, UUID):
        return str(value)
    if kind is Sealed:
        return masked(value)
    if kind is WeakReference:
        return {"$ref": value.class_name}
    return {"$ref": f"{kind.__module__}.{kind.__qualname__}"}


def _json_key(key: Any) -> str:
    shown = to_json(key)
    text = shown if type(shown) is str else json.dumps(shown)
    return f"${text}" if text.startswith("$") else text


def persistent_objects(value: Any) -> list[Persistent]:
    """The persistent objects inside a restored value, for permission checks."""
    if isinstance(value, Persistent):
        return [value]
    if type(value) is dict:
        return [o for pair in value.items() for part in pair for o in persistent_objects(part)]
    if type(value) in _CONTAINERS:
        return [o for item in value if type(item) not in _PLAIN for o in persistent_objects(item)]
    return []
