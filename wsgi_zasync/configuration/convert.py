# SPDX-License-Identifier: ZPL-2.1
"""Reading one configured value, given as text in a file or as a Python value.

Every function here takes either form, returns the value, and raises ``ValueError`` with a
sentence that says what to write. Who called adds the file, the section and the key.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

from ..clock import seconds

Convert = Callable[..., Any]

_YES = frozenset({"yes", "true", "on", "1"})
_NO = frozenset({"no", "false", "off", "0"})

#: Seconds of the units that a duration may be written in.
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

#: Bytes of the units that a size may be written in.
_SIZES = {"": 1, "b": 1, "kb": 1000, "kib": 1024, "mb": 1000**2, "mib": 1024**2, "gib": 1024**3}

YEAR_SECONDS = 365 * 86400.0


def text(value: Any) -> str:
    """One non-empty line of text."""
    if type(value) is not str or not value.strip() or not value.strip().isprintable():
        raise ValueError(f"write one line of text, not {value!r}")
    return value.strip()


def flag(value: Any) -> bool:
    """Yes or no."""
    if type(value) is bool:
        return value
    word = str(value).strip().lower()
    if word not in _YES | _NO:
        raise ValueError(f"write yes or no, not {value!r}")
    return word in _YES


def whole(lowest: int, highest: int) -> Convert:
    """A converter for a whole number within bounds."""

    def convert(value: Any) -> int:
        number = value
        if type(value) is str and re.fullmatch(r"[+-]?[0-9_]{1,18}", value.strip()):
            number = int(value)
        if type(number) is not int or not lowest <= number <= highest:
            raise ValueError(f"write a whole number from {lowest} to {highest}, not {value!r}")
        return number

    return convert


def duration(lowest: float = 0.0, highest: float = YEAR_SECONDS) -> Convert:
    """A converter for a length of time: seconds, a timedelta, or ``90s 5m 2h 7d 1w``."""

    def convert(value: Any) -> float:
        length = _seconds(value)
        if length is None or not lowest <= length <= highest:
            raise ValueError(
                f"write seconds, or a number with s, m, h, d or w, from {lowest:g} to "
                f"{highest:.0f} seconds, not {value!r}"
            )
        return length

    return convert


def _seconds(value: Any) -> float | None:
    if type(value) in (int, float, timedelta):
        length = seconds(value)
        return length if math.isfinite(length) else None
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([smhdw]?)", str(value).strip())
    return float(found[1]) * _UNITS[found[2] or "s"] if found else None


def size(lowest: int = 0, highest: int = 1024**4) -> Convert:
    """A converter for a number of bytes: ``65536``, ``64 KiB``, ``100 MB``."""

    def convert(value: Any) -> int:
        number = value
        if type(value) is str:
            found = re.fullmatch(r"([0-9]{1,15})\s*([a-z]*)", value.strip().lower())
            number = int(found[1]) * _SIZES.get(found[2], -1) if found else None
        if type(number) is not int or not lowest <= number <= highest:
            raise ValueError(
                f"write bytes, or a number with kB, KiB, MB, MiB or GiB, not {value!r}"
            )
        return number

    return convert


def choice(*words: str) -> Convert:
    """A converter for one of a few words."""

    def convert(value: Any) -> str:
        if value not in words:
            raise ValueError(f"write {' or '.join(words)}, not {value!r}")
        return str(value)

    return convert


def words(value: Any) -> tuple[str, ...]:
    """Several words: text with blanks, commas or lines between them, or a sequence."""
    parts = re.split(r"[\s,]+", value) if type(value) is str else value
    if not isinstance(parts, Iterable) or any(type(part) is not str for part in parts):
        raise ValueError(f"write words with blanks between them, not {value!r}")
    return tuple(part for part in parts if part)


def some_words(value: Any) -> tuple[str, ...]:
    """At least one word."""
    found = words(value)
    if not found:
        raise ValueError("write at least one word")
    return found


def table_of_words(value: Any) -> dict[str, tuple[str, ...]]:
    """Name to words, as of ``[roles]`` and ``[permissions]``."""
    return {name: words(given) for name, given in table(value).items()}


def table(value: Any) -> dict[str, Any]:
    """A mapping by non-empty names."""
    if not isinstance(value, Mapping):
        raise ValueError(
            f"give a mapping from Python, or write a section of its own, not {type(value).__name__}"
        )
    if any(type(name) is not str or not name.strip() for name in value):
        raise ValueError("names are non-empty text")
    return dict(value)


def table_of_tables(value: Any) -> dict[str, dict[str, Any]]:
    """Name to options, as of ``[plugin:NAME]``."""
    return {name: table(given) for name, given in table(value).items()}


def url_prefix(value: Any) -> str:
    """A path on the site, such as ``/_zasync``."""
    if type(value) is not str or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", value.rstrip("/")):
        raise ValueError(f"write a path that begins with a slash, such as /_zasync, not {value!r}")
    path = value.rstrip("/")
    if {".", ".."} & set(path.split("/")):
        raise ValueError(f"write a path without dots as a part of it, not {value!r}")
    return path


def existing_file(value: Any, here: Path) -> Path:
    """A file that is there, by a path from ``here``."""
    path = here / (value if isinstance(value, Path) else text(value))
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def anything(value: Any) -> Any:
    """Whatever Python gives."""
    return value


def named_object(value: Any) -> Any:
    """A Python object: itself, or what ``package.module:name`` leads to, imported now."""
    return resolve(value) if type(value) is str else value


def named_callable(value: Any) -> Any:
    """A callable: itself, or named as ``package.module:name``."""
    found = named_object(value)
    if not callable(found):
        raise ValueError(f"{value!r} leads to {type(found).__name__}, which cannot be called")
    if iscoroutinefunction(found):
        # What it returns would be no answer, and true.
        raise ValueError(f"{found.__qualname__} is async, and nothing is awaited here: write def")
    return found


def key_or_callable(value: Any) -> Any:
    """A key of an environ; or a callable, itself or named as ``package.module:name``."""
    if callable(value):
        return value
    key = text(value)
    return named_callable(key) if ":" in key else key


def imported(module: str) -> Any:
    """Import a module; ValueError says why it cannot be, whatever it raises."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"{module} cannot be imported: {error}") from error
    except SystemExit as error:
        raise ValueError(f"to import {module} ends the process") from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise ValueError(f"{module} cannot be imported: {why}") from error


def resolve(dotted: str) -> Any:
    """Import what ``package.module:name`` (or ``:name.attribute``) leads to."""
    module_name, colon, path = dotted.strip().partition(":")
    if not colon or not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"write package.module:name, not {dotted!r}")
    found: Any = imported(module_name)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{module_name} has no {path}")
        found = getattr(found, part)
    return found
