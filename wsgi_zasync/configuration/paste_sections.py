# SPDX-License-Identifier: ZPL-2.1
"""The sections of a PasteDeploy file that are ours, as PasteDeploy itself reads them.

So ``use = SECTION`` and ``use = config:FILE``, ``set`` and ``get``, and what comes before what,
mean here what they mean when the site is started. ``[worker:…]`` is told to PasteDeploy as one
more kind of section; it knows of none.
"""

from __future__ import annotations

import configparser
import re
from typing import Any

from paste.deploy.loadwsgi import APP, FILTER, ConfigLoader

from ..errors import ConfigurationError
from .paste_file import WORKER_USE, ConfigFile, written_keys, wrong

#: The factories of our filter.
FACTORIES = ("wsgi_zasync.paste:filter_app_factory", "wsgi_zasync.paste:filter_factory")

#: What ``use`` says where somebody else's filter is loaded from.
_OTHERS = re.compile(r"(egg|call):(?!wsgi[_-]zasync\b)")

#: What names a factory where nothing is said to be used.
_EXPLICIT = ("paste.filter_app_factory", "paste.filter_factory")

#: What is raised for a section that is not as it should be, or leads nowhere.
_UNREADABLE = (
    AttributeError, ImportError, LookupError, OSError, RecursionError, UnicodeError,
    configparser.Error,
)  # fmt: skip

#: The values of a section that PasteDeploy gives to its factory: the global and the local ones.
Values = tuple[dict[str, str], dict[str, str]]


class _Worker:
    """A kind of section, as PasteDeploy's own are described."""

    name = "worker"
    #: The group of the entry point that ``use`` names.
    egg_protocols = (("wsgi_zasync.worker_factory",),)
    config_prefixes = (("worker",),)


class _Loader(ConfigLoader):  # type: ignore[misc]
    """Loads no application: what a filter is can be known without what it wraps."""

    def __init__(self, file: ConfigFile) -> None:
        """Read the file.

        Raises:
            ConfigurationError: It cannot be read.
        """
        self.file = file
        try:
            super().__init__(str(file.path))
        except (UnicodeError, configparser.Error) as error:
            raise ConfigurationError(f"{file.path}: {error}") from error

    def get_context(self, object_type: Any, name: Any = None, global_conf: Any = None) -> Any:
        if object_type is APP:
            return None
        return super().get_context(object_type, name, global_conf)


def filters(file: ConfigFile) -> dict[str, Values]:
    """The sections that wrap an application with our middleware.

    One that wraps nothing itself, and that another one is made of, need not be whole: it is not
    among them.

    Raises:
        ConfigurationError: PasteDeploy could not read one either.
    """
    loader = _Loader(file)
    parser = loader.parser
    wrapping = {
        name
        for section in parser.sections()
        for key in ("pipeline", "filter-with")
        for name in _said(parser, section, key).split()
    }
    found, parts = {}, set()
    for section in file.keys:
        if section.partition(":")[0] not in ("filter", "filter-app") or _is_others(parser, section):
            continue
        context = _context(loader, section)
        module, name = (getattr(context.object, part, "") for part in ("__module__", "__name__"))
        if f"{module}:{name}" in FACTORIES:
            found[section] = (dict(context.global_conf), dict(context.local_conf))
            parts.add(_said(parser, section, "use"))
    only_parts = {f"filter:{name}" for name in parts - wrapping}
    return {section: values for section, values in found.items() if section not in only_parts}


def _said(parser: Any, section: str, key: str) -> str:
    return str(parser.get(section, key, raw=True, fallback="")).strip()


def _is_others(parser: Any, section: str) -> bool:
    """Whether a filter is somebody else's, as far as the text of this file tells.

    Such a one is not loaded: that may take long, and fail where only calls are run.
    """
    passed = set()
    while section not in passed:
        passed.add(section)
        use = _said(parser, section, "use")
        if parser.has_section(f"filter:{use}"):
            section = f"filter:{use}"
    explicit = {_said(parser, section, key) for key in _EXPLICIT}
    return bool(_OTHERS.match(use) or not (use or explicit & set(FACTORIES)))


def worker(file: ConfigFile, name: str = "main") -> Values:
    """``[worker:NAME]``, in which what it says itself comes before ``[DEFAULT]``.

    Raises:
        ConfigurationError: There is no such section, or it is not one of our workers.
    """
    section = f"worker:{name}"
    if section not in file.keys:
        raise ConfigurationError(f"{file.path} has no section [{section}]")
    context = _context(_Loader(file), section)
    if context.protocol not in _Worker.egg_protocols[0]:
        raise wrong(file.path, section, "use", f"write use = {WORKER_USE}")
    return dict(context.global_conf), {**context.local_conf, **passed_by(file, section)}


def passed_by(file: ConfigFile, section: str) -> dict[str, str]:
    """What a section says itself of keys that ``[DEFAULT]`` has as well.

    PasteDeploy takes that of ``[DEFAULT]``: it wants ``set KEY = value``.

    Raises:
        ConfigurationError: A value cannot be read.
    """
    parser = _Loader(file).parser
    try:
        keys = set(written_keys(file.path, ("=", ":"))[section]) & set(parser.defaults())
        return {key: parser.get(section, key) for key in sorted(keys)}
    except configparser.Error as error:
        raise _unreadable(file, section, error) from error


def _context(loader: _Loader, section: str) -> Any:
    """The section with all that it inherits, and the factory that is given it."""
    file, (kind, _, name) = loader.file, section.partition(":")
    try:
        if kind == "filter-app":
            context = ConfigLoader.get_context(loader, APP, name.strip())
        else:
            context = loader.get_context(_Worker if kind == "worker" else FILTER, name.strip())
    except KeyError as error:
        raise ConfigurationError(
            f"{file.path} [{section}] get: [DEFAULT] has no {error.args[0]}"
        ) from error
    except _UNREADABLE as error:
        raise _unreadable(file, section, error) from error
    while context.object is None:
        # What filter-with wraps; or else the filter of a filter-app, which wraps nothing here.
        context = context.next_context or context.filter_context
    return context


def _unreadable(file: ConfigFile, section: str, error: Exception) -> ConfigurationError:
    hint = ""
    if isinstance(error, configparser.InterpolationSyntaxError):
        hint = "; write %% for a percent sign"
    elif section.startswith("worker:") and isinstance(error, LookupError | ImportError):
        hint = f"; write use = {WORKER_USE}"
    return ConfigurationError(f"{file.path} [{section}]: {error}{hint}")
