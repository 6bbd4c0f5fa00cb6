# SPDX-License-Identifier: ZPL-2.1
"""One paster-style file: the sections that the web side and the workers share.

``[plugins]``, ``[plugin:NAME]``, ``[roles]``, ``[permissions]`` and ``[schedule]`` are read
here, with PasteDeploy's own ``%(here)s``. Unlike in PasteDeploy's sections only ``=`` ends a
key in them, so that ``members:alice = editor`` names the user ``alice`` of source ``members``.
"""

from __future__ import annotations

import configparser
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from .convert import words

#: What ends a key in the sections that are read here.
DELIMITERS = ("=",)

#: The sections that are read here, beside ``[plugin:NAME]``.
SHARED_SECTIONS = ("plugins", "roles", "permissions", "schedule")

#: What ``use =`` says in ``[worker:…]``.
WORKER_USE = "egg:wsgi_zasync#worker"

#: What PasteDeploy knows; other names near ours are spelling mistakes.
_OTHERS = ("app", "application", "composite", "pipeline", "filter", "filter-app", "server")

_PLUGIN = "plugin:"
_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,-]{1,64}")


@dataclass(frozen=True, slots=True)
class ScheduleEntry:
    """One line of ``[schedule]``: when, in the five fields of cron, which plugin is called."""

    name: str
    fields: tuple[str, str, str, str, str]
    plugin: str


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """The shared sections of one file, checked as far as text alone can be."""

    path: Path
    plugins: Mapping[str, str] = field(default_factory=dict)
    #: Plugin name to the options of ``[plugin:NAME]``.
    plugin_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    permissions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    schedule: tuple[ScheduleEntry, ...] = ()
    #: Every section's name with the keys written in it.
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> ConfigFile:
        """Read a file.

        Raises:
            ConfigurationError: It is not there, is no such file, or a line of a shared section
                cannot be understood; the text names file, section and key.
        """
        path = Path(path).absolute()
        parser = _parsed(path)
        _refuse_misspelt(path, parser)
        keys = written_keys(path, DELIMITERS)

        def section(name: str) -> dict[str, str]:
            return {key: _value(path, parser, name, key) for key in keys.get(name, ())}

        return cls(
            path=path,
            plugins=section("plugins"),
            plugin_options={
                name.removeprefix(_PLUGIN): section(name)
                for name in keys
                if name.startswith(_PLUGIN)
            },
            roles=_words(section("roles")),
            permissions=_words(section("permissions")),
            schedule=tuple(
                _schedule_entry(path, name, text) for name, text in section("schedule").items()
            ),
            keys=keys,
        )

    def sections_with(self, key: str, *kinds: str) -> list[str]:
        """The sections of these kinds (``filter``, ``worker``) in which a key is written."""
        return [
            name
            for name, keys in self.keys.items()
            if name.split(":", 1)[0] in kinds and any(k.split(":", 1)[0] == key for k in keys)
        ]


def _parsed(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        defaults={"here": str(path.parent), "__file__": str(path)},
        delimiters=DELIMITERS,
        # Other people's sections may have "key: value".
        allow_no_value=True,
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        with path.open(encoding="utf-8") as file:
            parser.read_file(file)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return parser


def written_keys(path: Path, delimiters: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The keys that are written in each section itself, whether ``[DEFAULT]`` has them or not.

    A parser mixes the two, but for one that takes ``[DEFAULT]`` for a section like any other.
    """
    parser = configparser.RawConfigParser(
        default_section="", delimiters=delimiters, allow_no_value=True
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path, encoding="utf-8")
    return {name: tuple(parser.options(name)) for name in parser.sections() if name != "DEFAULT"}


def _value(path: Path, parser: configparser.ConfigParser, section: str, key: str) -> str:
    try:
        value: str | None = parser.get(section, key)
    except configparser.InterpolationError as error:
        raise wrong(path, section, key, f"{error}; write %% for a percent sign") from error
    if value is None:
        raise wrong(path, section, key, "write key = value")
    return value.strip()


def wrong(path: Path, section: str, key: str, why: str) -> ConfigurationError:
    """The error for a line that makes no sense."""
    return ConfigurationError(f"{path} [{section}] {key}: {why}")


def _words(section: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: words(text) for name, text in section.items()}


def _schedule_entry(path: Path, name: str, text: str) -> ScheduleEntry:
    parts = text.split()
    if len(parts) != 6 or not all(_CRON_FIELD.fullmatch(part) for part in parts[:5]):
        raise wrong(
            path,
            "schedule",
            name,
            "write minute, hour, day, month, weekday and a plugin, such as 0 3 * * * report.render",
        )
    minute, hour, day, month, weekday, plugin = parts
    return ScheduleEntry(name, (minute, hour, day, month, weekday), plugin)


def _refuse_misspelt(path: Path, parser: configparser.ConfigParser) -> None:
    ours = (*SHARED_SECTIONS, "plugin", "worker")
    for section in parser.sections():
        kind, colon, _ = section.partition(":")
        if kind in (*ours, *_OTHERS) and (colon or kind in SHARED_SECTIONS):
            continue
        near: Any = difflib.get_close_matches(kind.lower(), ours, n=1, cutoff=0.75)
        if near and kind not in _OTHERS:
            wanted = near[0] if near[0] in SHARED_SECTIONS else f"{near[0]}:NAME"
            raise ConfigurationError(f"{path} [{section}]: did you mean [{wanted}]?")
