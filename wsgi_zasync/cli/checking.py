# SPDX-License-Identifier: ZPL-2.1
"""``zasync check``: everything that can be known to be wrong before anything runs.

All that is found is told at once, and no secret is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from transaction.interfaces import TransientError

from ..configuration.paste_file import ConfigFile
from ..configuration.paste_sections import filters, passed_by
from ..configuration.zodb_uri import refuse_open_servers, refuse_open_zeo
from ..errors import ConfigurationError
from ..exposure import exposed_functions
from ..lines import counted
from ..middleware import CallManagerMiddleware
from ..own_file import file_of
from ..plugins import Registry, check_runnable, unknown
from ..settings import MiddlewareSettings, SharedSettings, WorkerSettings
from ..worker import Worker
from .operating import opened, worker_sections, worker_settings
from .output import shown, tell

#: The sections that PasteDeploy makes an application of.
APPLICATIONS = ("app", "application", "composite", "composit", "pipeline", "filter-app")


@dataclass
class Findings:
    """What was found to be wrong."""

    #: Of the configuration.
    wrong: list[str] = field(default_factory=list)
    #: Of the world: what cannot be reached.
    unreachable: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """2 if the configuration is wrong, 1 if it cannot be tried out, else 0."""
        return 2 if self.wrong else 1 if self.unreachable else 0


def check(path: str) -> int:
    """Check a file, print what it says, and connect."""
    file = ConfigFile.load(path)
    findings = Findings()
    sections = _read_sections(file, findings)
    if not sections and not findings.wrong:
        findings.wrong.append(
            f"{file.path} has neither [filter:…] use = egg:wsgi_zasync nor a [worker:…] section"
        )
    for name, settings in sections.items():
        print(f"[{shown(name)}]")
        for key, value in settings.masked().items():
            print(f"    {key} = {shown(value)}")
        _print_unused(settings)
        _check_that_it_can_be_made(settings, findings)
        _check_servers(name, settings, findings)
        _check_app(name, settings, file, findings)
    _check_that_sides_fit(file, sections, findings)
    if sections:
        _check_plugins(next(iter(sections.values())), file, findings)
        _print_exposed()
    if file.schedule:
        print("[schedule] is understood, and not acted upon: this version has no schedules yet")
    if sections and not findings.wrong:
        _connect(path, findings)
    # What both sides read alike is wrong twice, and told once.
    for text in dict.fromkeys(findings.wrong + findings.unreachable):
        tell(text)
    if not findings.exit_code:
        print("ok")
    return findings.exit_code


def _read_sections(file: ConfigFile, findings: Findings) -> dict[str, SharedSettings]:
    found: dict[str, SharedSettings] = {}
    for name, (global_conf, local_conf) in filters(file).items():
        findings.wrong += [
            f"{file.path} [{name}] {key}: PasteDeploy passes by it and takes that of [DEFAULT]: "
            f"write set {key} = …"
            for key, value in passed_by(file, name).items()
            if key not in local_conf and global_conf[key] != value
        ]
        try:
            found[name] = MiddlewareSettings.from_paste(global_conf, **local_conf)
        except ConfigurationError as error:
            findings.wrong.append(str(error))
    for name in worker_sections(file):
        try:
            found[f"worker:{name}"] = worker_settings(file, name)
        except ConfigurationError as error:
            findings.wrong.append(str(error))
    return found


def _print_unused(settings: SharedSettings) -> None:
    """Tell of what is read by the default policy only, where another one is configured."""
    tables = {
        "[roles]": settings.roles,
        "[permissions]": settings.permissions,
        "root": settings.root,
    }
    unused = [name for name, value in tables.items() if value]
    if settings.policy is not None and unused:
        print(f"    (policy decides here, and reads none of {', '.join(unused)})")


def _check_that_it_can_be_made(settings: SharedSettings, findings: Findings) -> None:
    """Whether the server, or the worker, would start; nothing is opened."""
    try:
        if isinstance(settings, MiddlewareSettings):
            CallManagerMiddleware.from_settings(lambda *_: [], settings)
        elif isinstance(settings, WorkerSettings):
            Worker.from_settings(settings)
    except ConfigurationError as error:
        findings.wrong.append(str(error))


def _check_servers(name: str, settings: SharedSettings, findings: Findings) -> None:
    if settings.insecure_zeo:
        return
    try:
        if settings.zodb_uri is not None:
            refuse_open_zeo(settings.zodb_uri)
        if settings.zodb_conf is not None:
            refuse_open_servers(settings.zodb_conf)
    except ConfigurationError as error:
        findings.wrong.append(f"[{name}] {error}")


def _check_that_sides_fit(
    file: ConfigFile, sections: dict[str, SharedSettings], findings: Findings
) -> None:
    """Whether the workers can run what the web side puts: else it waits, and nobody is told why."""
    webs = {n: s for n, s in sections.items() if isinstance(s, MiddlewareSettings)}
    for name, worker in sections.items():
        if name in webs or not webs:
            continue
        of_site = [n for n, web in webs.items() if web.site == worker.site]
        if not of_site:
            sites = ", ".join(sorted({web.site for web in webs.values()}))
            findings.wrong.append(
                f"{file.path} [{name}] site = {worker.site}: the web side has site = {sites}, so "
                "that none of its calls would be run"
            )
        for web_name in of_site:
            web = webs[web_name]
            if web.secret and worker.secret and web.secret.values[0] not in worker.secret.values:
                findings.wrong.append(
                    f"{file.path} [{name}] secret: the one of [{web_name}] is not among them, so "
                    "that no Secret could be opened: write it into [DEFAULT], for both"
                )
            if (web.policy is None) != (worker.policy is None):
                other = web_name if worker.policy is None else name
                findings.wrong.append(
                    f"{file.path} [{name}] policy: only [{other}] has one, so that another decides "
                    "what an owner may do when a call runs than when it is put: write it into "
                    "[DEFAULT], for both"
                )
            if web.worker == "none" and _file(web) is not None and _file(web) == _file(worker):
                findings.wrong.append(
                    f"{file.path} [{name}] zodb_uri: [{web_name}] has the same file, which only "
                    "one process can have open: write worker = embedded there, or let both use it "
                    "by ZEO"
                )


def _file(settings: SharedSettings) -> Path | None:
    found = None if settings.zodb_uri is None else file_of(settings.zodb_uri)
    return None if found is None else found.absolute()


def _check_app(name: str, settings: SharedSettings, file: ConfigFile, findings: Findings) -> None:
    """Whether the application that a worker names is in the file."""
    app = getattr(settings, "app", None)
    # Others, as egg:NAME and config:FILE, are PasteDeploy's to find.
    if type(app) is not str or ":" in app:
        return
    if not any(f"{kind}:{app}" in file.keys for kind in APPLICATIONS):
        findings.wrong.append(f"{file.path} [{name}] app: there is no [app:{app}]")


def _check_plugins(settings: SharedSettings, file: ConfigFile, findings: Findings) -> None:
    try:
        registry = Registry(settings.plugins, settings.plugin_options)
    except ConfigurationError as error:
        findings.wrong.append(str(error))
        return
    for name in sorted(registry.names()):
        try:
            declaration = registry.declaration(name)
            declaration.load()
            check_runnable(declaration)
        except ConfigurationError as error:
            findings.wrong.append(str(error))
            continue
        if declaration.expressions and declaration.permission is None:
            findings.wrong.append(
                f"[plugin:{name}] expressions = yes needs a permission as well: without one no "
                "expression may put calls of it"
            )
    findings.wrong += [
        f"{file.path} [schedule] {entry.name}: {unknown(entry.plugin, registry.names())}"
        for entry in file.schedule
        if entry.plugin not in registry
    ]
    print(f"plugins: {' '.join(sorted(registry.names()))}")


def _print_exposed() -> None:
    for name, rule in exposed_functions():
        needed = f"needs {rule.permission}" if rule.permission else "open to everybody"
        print(f"exposed function {shown(name)}: {shown(needed)}")


def _connect(path: str, findings: Findings) -> None:
    try:
        with opened(path, create=True) as site:
            if not site.has_calls:
                print("database: connected, nothing was put yet")
            else:
                workers = site.look(lambda operation: len(operation.store.areas()))
                print(f"database: connected, {counted(workers, 'worker')}")
    except TransientError as error:
        findings.unreachable.append(f"the database cannot be reached: {error}")
    except ConfigurationError as error:
        findings.wrong.append(str(error))
