# SPDX-License-Identifier: ZPL-2.1
"""Plugins: how the callables that do the work are declared, found and named.

A declaration is light. What is named by a dotted string is imported when it is first needed,
so that a web process can put calls whose plugins only a worker ever imports. Configuration
(``[plugin:NAME]``) has the last word on what a declaration says.

Threads: a registry is filled before it is shared, and only read afterwards.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Literal, TypeVar, cast

from .configuration.convert import Convert, choice, duration, flag, imported, text, whole
from .errors import ConfigurationError, InvalidArguments, UnknownPlugin
from .retry import RetryPolicy

#: Where a plugin runs: in the reactor's thread, in a thread without a database, in a thread
#: with a ZODB connection, or in a process of its own.
Runs = Literal["reactor", "thread", "transaction", "process"]
RUNS: tuple[Runs, ...] = ("reactor", "thread", "transaction", "process")

#: The entry-point group that distributions register their plugins in.
ENTRY_POINTS = "wsgi_zasync.plugins"

#: One parameter as plain data: name, kind (as ``int(Parameter.kind)``), whether it has a default.
PlainParameter = tuple[str, int, bool]

_FIXED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginDeclaration:
    """What is known of a plugin without running it."""

    name: str
    #: The callable, or ``"module:attribute"`` to be imported when it is first run.
    target: Callable[..., Any] | str
    runs: Runs = "thread"
    #: Seconds that one attempt may take; None: the worker's default.
    timeout: float | None = None
    retry: RetryPolicy | None = None
    #: Required of the owner on every persistent argument, at put and at each attempt.
    permission: str | None = None
    #: How many calls of this plugin one worker runs at a time; None: no limit of its own.
    max_running: int | None = None
    #: Whether callback expressions may put calls of it.
    expressions: bool = False
    #: Whether restricted (through-the-web) code may put calls of it.
    restricted: bool = False
    #: Parameters after the attempt; None: not known here.
    parameters: tuple[PlainParameter, ...] | None = None
    #: The ``[plugin:NAME]`` options that are not of the declaration, for ``attempt.settings``.
    settings: Mapping[str, str] = field(default_factory=dict)
    #: What refuses settings that make no sense, or where that is; for plugins of this package.
    check: Callable[[Mapping[str, str]], None] | str | None = None

    def load(self) -> Callable[..., Any]:
        """The callable itself, imported now if it was named by a string.

        Raises:
            ConfigurationError: The string leads to nothing that can be called.
        """
        found = _imported(self.name, self.target) if isinstance(self.target, str) else self.target
        if not callable(found):
            raise ConfigurationError(f"plugin {self.name!r} is {found!r}, which cannot be called")
        return cast("Callable[..., Any]", found)


def plugin(
    name: str,
    *,
    runs: Runs = "thread",
    timeout: float | timedelta | None = None,
    retry: RetryPolicy | None = None,
    permission: str | None = None,
    max_running: int | None = None,
    expressions: bool = False,
    restricted: bool = False,
) -> Callable[[_Function], _Function]:
    """Declare a callable as the plugin ``name``; its first parameter is the attempt.

    Returns the callable itself, which carries its declaration as ``.declaration``.

    Args:
        name: What calls name it by, such as ``"invoice.render"``.
        runs: ``"reactor"``, ``"thread"``, ``"transaction"`` or ``"process"``.
        timeout: Seconds, or a timedelta, for one attempt.
        retry: What to do when it raises; without one a raised failure is final.
        permission: Required of the owner on every persistent argument.
        max_running: How many of its calls one worker runs at a time.
        expressions: Whether callback expressions may put calls of it.
        restricted: Whether restricted (through-the-web) code may put calls of it.

    Raises:
        ConfigurationError: The name is empty, ``runs`` is none of the four, or another value
            makes no sense.
    """
    _check_declared(name, runs, retry)
    read = {"timeout": timeout, "permission": permission, "max_running": max_running}
    read |= {"expressions": expressions, "restricted": restricted}
    options: dict[str, Any] = {
        key: None if value is None else _read(f"plugin {name!r}: ", key, value)
        for key, value in read.items()
    }

    def declare(function: _Function) -> _Function:
        _check_takes_attempt(name, function)
        declaration = PluginDeclaration(
            name=name,
            target=function,
            runs=runs,
            retry=retry,
            **options,
            parameters=parameters_of(function),
        )
        function.declaration = declaration  # type: ignore[attr-defined]
        return function

    return declare


def _check_declared(name: Any, runs: Any, retry: Any) -> None:
    if callable(name):
        raise ConfigurationError('a plugin needs a name: write @plugin("NAME"), such as "a.report"')
    if type(name) is not str or not name or name != name.strip():
        raise ConfigurationError(f"a plugin needs a name without blanks around it, not {name!r}")
    if runs not in RUNS:
        raise ConfigurationError(f"plugin {name!r}: runs={runs!r} is none of {', '.join(RUNS)}")
    if retry is not None and type(retry) is not RetryPolicy:
        raise ConfigurationError(
            f"plugin {name!r}: retry must be a RetryPolicy, not {type(retry).__name__}"
        )


def _check_takes_attempt(name: str, function: Callable[..., Any]) -> None:
    if not callable(function):
        raise ConfigurationError(f"plugin {name!r} is {function!r}, which cannot be called")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise ConfigurationError(
            f"plugin {name!r} takes no positional argument: its first parameter is the attempt"
        )


def parameters_of(function: Callable[..., Any]) -> tuple[PlainParameter, ...] | None:
    """The parameters that a call fills, without the leading attempt; None if unknown."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    parameters = list(signature.parameters.values())
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    if parameters and parameters[0].kind not in variadic:
        parameters = parameters[1:]
    return tuple(
        (p.name, int(p.kind), p.default is not inspect.Parameter.empty) for p in parameters
    )


def check_arguments(
    name: str, parameters: Iterable[PlainParameter], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Refuse arguments that the plugin's parameters do not accept.

    What workers publish is advice, and anybody who writes the store may have written it:
    parameters that make no signature refuse nothing.

    Raises:
        InvalidArguments: With the reason in the words of Python's own binding.
    """
    try:
        signature, least, most = _signature(tuple(parameters))
    except (ValueError, TypeError, IndexError):
        return
    if not kwargs and least <= len(args) <= most:
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise InvalidArguments(f"plugin {name!r} takes {signature}: {exc}", path="args") from exc


class _Untold:
    """Stands for a default in a signature: what is published says that there is one, not which."""

    def __repr__(self) -> str:
        return "…"


_UNTOLD = _Untold()


@lru_cache(maxsize=1_000)
def _signature(parameters: tuple[PlainParameter, ...]) -> tuple[inspect.Signature, int, int]:
    """The signature, and how many positional arguments alone certainly fit it."""
    kinds = list(inspect._ParameterKind)
    signature = inspect.Signature(
        [
            inspect.Parameter(
                parameter, kinds[kind], default=_UNTOLD if default else inspect.Parameter.empty
            )
            for parameter, kind, default in parameters
        ]
    )
    fixed = [d for _, kind, d in parameters if kinds[kind] in _FIXED]
    if any(kinds[kind] is inspect.Parameter.KEYWORD_ONLY and not d for _, kind, d in parameters):
        return signature, 0, -1
    return signature, fixed.count(False), len(fixed)


class Registry:
    """The plugins that this process knows, by name."""

    def __init__(
        self,
        plugins: Mapping[str, Callable[..., Any] | str | PluginDeclaration] | None = None,
        options: Mapping[str, Mapping[str, str]] | None = None,
        *,
        installed: bool = True,
    ) -> None:
        """Collect what is installed, then what is given; what is given wins.

        Args:
            plugins: Name to callable, dotted string or declaration (``[plugins]``).
            options: Name to the options of ``[plugin:NAME]``.
            installed: Whether entry points are looked at.

        Raises:
            ConfigurationError: Options for a plugin that is not there, or unfit ones.
        """
        self._options = {name: dict(given) for name, given in (options or {}).items()}
        self._sources: dict[str, Callable[..., Any] | str | PluginDeclaration] = {}
        if installed:
            self._sources |= {e.name: e.value for e in entry_points(group=ENTRY_POINTS)}
        self._sources |= plugins or {}
        self._declarations: dict[str, PluginDeclaration] = {}
        for name in self._options:
            if name not in self._sources:
                raise ConfigurationError(
                    f"[plugin:{name}] is configured, but there is no such plugin"
                    f"{_did_you_mean(name, self._sources)}"
                )

    def __contains__(self, name: str) -> bool:
        return name in self._sources

    def names(self) -> list[str]:
        """The names of all plugins known here, sorted."""
        return sorted(self._sources)

    def declaration(self, name: str) -> PluginDeclaration:
        """What is known of the plugin ``name``, with the configuration's word applied.

        Raises:
            UnknownPlugin: There is none of that name; the nearest names are named.
            ConfigurationError: It cannot be imported, or its options do not fit.
        """
        if name not in self._declarations:
            if name not in self._sources:
                raise unknown(name, self._sources)
            self._declarations[name] = self._configured(name, self._declared(name))
        return self._declarations[name]

    def _declared(self, name: str) -> PluginDeclaration:
        source = self._sources[name]
        found = _imported(name, source) if isinstance(source, str) else source
        if isinstance(found, PluginDeclaration):
            return replace(found, name=name)
        carried = getattr(found, "declaration", None)
        if isinstance(carried, PluginDeclaration):
            return replace(carried, name=name)
        if not callable(found):
            raise ConfigurationError(f"plugin {name!r} is {found!r}, which cannot be called")
        _check_takes_attempt(name, found)
        return PluginDeclaration(name=name, target=found, parameters=parameters_of(found))

    def _configured(self, name: str, declared: PluginDeclaration) -> PluginDeclaration:
        options = dict(self._options.get(name, {}))
        changes: dict[str, Any] = {}
        for key in _OPTIONS:
            if key in options:
                changes[key] = _read(f"[plugin:{name}] ", key, options.pop(key))
        if "retry" in changes:
            # Which errors are tried again, and how soon, only who wrote the plugin can say.
            policy = declared.retry or RetryPolicy()
            changes["retry"] = replace(policy, attempts=changes["retry"])
        for key in options:
            # Others are the plugin's own, unless they are all but one of these.
            if near := difflib.get_close_matches(key, _OPTIONS, n=1, cutoff=ALL_BUT):
                raise ConfigurationError(
                    f"[plugin:{name}] {key}: unknown key; did you mean {near[0]}?"
                )
        return replace(declared, **changes, settings=options)

    def publication(self) -> dict[str, tuple[PlainParameter, ...] | None]:
        """Names and parameters, as workers publish them in the store."""
        return {name: self.declaration(name).parameters for name in self.names()}


def check_runnable(declaration: PluginDeclaration) -> None:
    """Refuse a plugin that no worker of this version could run.

    Raises:
        ConfigurationError: It is declared with ``runs="process"``, or cannot read its settings.
    """
    check = declaration.check
    if check is not None and declaration.settings:
        if isinstance(check, str):
            check = _imported(declaration.name, check)
        try:
            check(declaration.settings)
        except ConfigurationError as error:
            raise ConfigurationError(f"[plugin:{declaration.name}] {error}") from error
    if declaration.runs == "process":
        raise ConfigurationError(
            f'plugin {declaration.name!r} is declared with runs="process", which this version '
            'does not offer: declare it with runs="thread", or start the process in it yourself'
        )


def unknown(name: str, known: Iterable[str]) -> UnknownPlugin:
    """The error for a name that nobody knows, with the nearest ones that are known."""
    known = sorted(known)
    nearest = tuple(difflib.get_close_matches(name, known, n=3, cutoff=0.5))
    return UnknownPlugin(
        f"there is no plugin {name!r}{_did_you_mean(name, known)}; register it by @plugin and "
        "[plugins], or start a worker that has it",
        name,
        nearest,
    )


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, nearest))}?" if nearest else ""


def _imported(name: str, dotted: str) -> Any:
    module, _, attribute = dotted.partition(":")
    try:
        found = imported(module)
    except ValueError as exc:
        raise ConfigurationError(f"plugin {name!r}: {exc}") from exc
    for part in attribute.split(".") if attribute else ():
        if not hasattr(found, part):
            raise ConfigurationError(f"plugin {name!r}: {module} has no {attribute}")
        found = getattr(found, part)
    return found


def _read(where: str, key: str, value: Any) -> Any:
    try:
        return _OPTIONS[key](value)
    except ValueError as exc:
        raise ConfigurationError(f"{where}{key}: {exc}") from exc


#: How like an option a key is that can only be that option misspelt.
ALL_BUT = 0.85

#: The options of ``[plugin:NAME]`` that the declaration has, and how they are read.
_OPTIONS: dict[str, Convert] = {
    "runs": choice(*RUNS),
    "timeout": duration(0.001),
    "retry": whole(1, 1000),
    "permission": text,
    "max_running": whole(1, 100_000),
    "expressions": flag,
    "restricted": flag,
}
