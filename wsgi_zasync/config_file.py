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

from .convert import words
from .errors import ConfigurationError

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
    #: Every section's name with those of its keys that PasteDeploy passes over.
    hidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
        options = {
            name.removeprefix(_PLUGIN): _section(path, parser, name)
            for name in parser.sections()
            if name.startswith(_PLUGIN)
        }
        return cls(
            path=path,
            plugins=_section(path, parser, "plugins"),
            plugin_options=options,
            roles=_words(_section(path, parser, "roles")),
            permissions=_words(_section(path, parser, "permissions")),
            schedule=tuple(
                _schedule_entry(path, name, text)
                for name, text in _section(path, parser, "schedule").items()
            ),
            keys={name: tuple(_own_keys(parser, name)) for name in parser.sections()},
            hidden=_hidden(_parsed(path, default_section="")),
        )

    def sections_with(self, key: str, *kinds: str) -> list[str]:
        """The sections of these kinds (``filter``, ``worker``) in which a key is written."""
        return [
            name
            for name, keys in self.keys.items()
            if name.split(":", 1)[0] in kinds and any(k.split(":", 1)[0] == key for k in keys)
        ]

    def refuse_hidden(self, section: str) -> None:
        """Refuse one of our sections in which PasteDeploy would not use a value.

        Raises:
            ConfigurationError: With what to write instead.
        """
        for key in self.hidden.get(section, ()):
            why = "PasteDeploy would use the value that [DEFAULT] has: take it out of [DEFAULT]"
            raise _wrong(self.path, section, key, why)

    def worker(self, name: str = "main") -> tuple[dict[str, str], dict[str, str]]:
        """``[worker:NAME]`` as PasteDeploy reads it: the global and the local values.

        Raises:
            ConfigurationError: There is no such section, or it is not one of our workers.
        """
        section = f"worker:{name}"
        if section not in self.keys:
            raise ConfigurationError(f"{self.path} has no section [{section}]")
        self.refuse_hidden(section)
        global_conf, local_conf = read_as_paste(self.path, section)
        if local_conf.pop("use", "").replace("-", "_") != WORKER_USE:
            raise _wrong(self.path, section, "use", f"write use = {WORKER_USE}")
        return global_conf, local_conf


def read_as_paste(path: Path, section: str) -> tuple[dict[str, str], dict[str, str]]:
    """A section as PasteDeploy reads it, ``set`` and ``get`` included: global and local values.

    Raises:
        ConfigurationError: It cannot be read so, and a server that loads it would not start.
    """
    from paste.deploy.loadwsgi import ConfigLoader

    local_conf: dict[str, str] = {}
    taken: dict[str, str] = {}
    try:
        parser = ConfigLoader(str(path)).parser
        global_conf = dict(parser.defaults())
        for key in _own_keys(parser, section):
            value = parser.get(section, key)
            kind, _, name = key.partition(" ")
            into = {"set": global_conf, "get": taken}.get(kind) if name else None
            if into is None:
                local_conf[key] = value
            else:
                into[name.strip()] = value
    except configparser.Error as error:
        is_percent = isinstance(error, configparser.InterpolationSyntaxError)
        hint = "; write %% for a percent sign" if is_percent else ""
        raise ConfigurationError(f"{path} [{section}]: {error}{hint}") from error
    for key, name in taken.items():
        if name not in global_conf:
            raise _wrong(path, section, f"get {key}", f"there is no {name} in [DEFAULT]")
        local_conf[key] = global_conf[name]
    return global_conf, local_conf


def _parsed(path: Path, default_section: str = "DEFAULT") -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        default_section=default_section,
        defaults={"here": str(path.parent), "__file__": str(path)},
        delimiters=("=",),
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


def _own_keys(parser: configparser.ConfigParser, section: str) -> list[str]:
    defaults = parser.defaults()
    return [key for key in parser.options(section) if key not in defaults]


def _hidden(parser: configparser.ConfigParser) -> dict[str, tuple[str, ...]]:
    """The keys of each section that ``[DEFAULT]``, a section like others here, says otherwise."""
    if not parser.has_section("DEFAULT"):
        return {}
    wins = dict(parser.items("DEFAULT", raw=True))
    return {
        section: tuple(
            key
            for key, value in parser.items(section, raw=True)
            if key in wins and value != wins[key]
        )
        for section in parser.sections()
    }


def _section(path: Path, parser: configparser.ConfigParser, section: str) -> dict[str, str]:
    if not parser.has_section(section):
        return {}
    values: dict[str, str] = {}
    for key in _own_keys(parser, section):
        try:
            value: str | None = parser.get(section, key)
        except configparser.InterpolationError as error:
            raise _wrong(path, section, key, f"{error}; write %% for a percent sign") from error
        if value is None:
            raise _wrong(path, section, key, "write key = value")
        values[key] = value.strip()
    return values


def _wrong(path: Path, section: str, key: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"{path} [{section}] {key}: {why}")


def _words(section: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: words(text) for name, text in section.items()}


def _schedule_entry(path: Path, name: str, text: str) -> ScheduleEntry:
    parts = text.split()
    if len(parts) != 6 or not all(_CRON_FIELD.fullmatch(part) for part in parts[:5]):
        raise _wrong(
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
