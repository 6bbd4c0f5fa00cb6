# SPDX-License-Identifier: ZPL-2.1
"""How a table of keys is declared and read: one row for each key, for every way to give it.

The rows are the fields of dataclasses; ``settings`` has them. A class may have a field made by
``nested``, whose class's rows are keys of the same table.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .convert import Convert


def key(read: Convert, doc: str, default: Any = None, **marks: bool) -> Any:
    """A field that is a row of a table.

    Args:
        read: Takes text or a Python value; raises ValueError with what to write.
        doc: The meaning, for people.
        default: The value where nothing is configured.
        marks: ``here=True``: ``read`` takes the directory that relative paths start from as a
            second argument; ``secret=True``: never shown; ``section=True``: a section of its
            own in a file, and a mapping from Python.
    """
    metadata = {"row": (read, doc, frozenset(marks))}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


def nested(cls: type[Any]) -> Any:
    """A field whose class has rows of the same table."""
    return field(default_factory=cls, metadata={"nested": cls})


@dataclass(frozen=True, slots=True)
class Row:
    """One key: what the reference of the documentation and ``zasync check`` show."""

    name: str
    read: Convert
    doc: str
    default: Any
    marks: frozenset[str] = frozenset()


def rows(cls: type[Any]) -> Iterator[Row]:
    """The rows of a class, the nested ones in their place."""
    for each in fields(cls):
        if "nested" in each.metadata:
            yield from rows(each.metadata["nested"])
        elif "row" in each.metadata:
            yield _row(each)


def _row(each: Field[Any]) -> Row:
    read, doc, marks = each.metadata["row"]
    default = {} if each.default is MISSING else each.default
    return Row(each.name, read, doc, default, marks)


def read_values(
    cls: type[Any],
    given: Mapping[str, Any],
    *,
    here: Path,
    where: Callable[[str], str],
    others: tuple[type[Any], ...] = (),
) -> dict[str, Any]:
    """The arguments for ``cls``, read from what was given.

    Args:
        cls: The class with the rows.
        given: Key to text or Python value.
        here: What relative paths start from.
        where: Says for a key where it was written, as the beginning of a message.
        others: Classes whose keys are known, but belong elsewhere.

    Raises:
        ConfigurationError: A key is unknown, or its value makes no sense.
    """
    known = {row.name: row for row in rows(cls)}
    read = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigurationError(where(name) + _unknown(name, known, others))
        read[name] = _value(known[name], value, here, where)
    for each in fields(cls):
        if "nested" in each.metadata:
            inner = each.metadata["nested"]
            mine = {row.name for row in rows(inner)} & set(read)
            read[each.name] = inner(**{name: read.pop(name) for name in mine})
    return read


def _value(row: Row, value: Any, here: Path, where: Callable[[str], str]) -> Any:
    if "section" in row.marks and type(value) is str:
        raise ConfigurationError(f"{where(row.name)}write a section of its own in the file")
    if value is None:
        return row.default
    try:
        return row.read(value, here) if "here" in row.marks else row.read(value)
    except ValueError as error:
        raise ConfigurationError(f"{where(row.name)}{error}") from error


def _unknown(name: str, known: Mapping[str, Row], others: tuple[type[Any], ...]) -> str:
    for other in others:
        if name in {row.name for row in rows(other)}:
            return f"is a key of {other.__name__}, and does nothing here; leave it out"
    near = difflib.get_close_matches(name, sorted(known), n=2, cutoff=0.5)
    if near:
        return f"unknown key; did you mean {' or '.join(near)}?"
    return f"unknown key; the known ones are {', '.join(sorted(known))}"
