# SPDX-License-Identifier: ZPL-2.1
"""Prints docs/reference/settings.rst from the table in ``wsgi_zasync.settings``.

``python scripts/settings_reference.py > docs/reference/settings.rst``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from wsgi_zasync.configuration.key_table import Row, rows
from wsgi_zasync.settings import MiddlewareSettings, Quotas, WorkerSettings

HEAD = """\
Settings
========

The same keys are lines of ``[filter:…]`` and ``[worker:…]`` in a paster-style file, keyword
arguments of ``CallManagerMiddleware`` and ``Worker``, and (with dashes) lines of
``<zasync-worker>`` in a file in the syntax of zope.conf. An unknown key is an error that names
the nearest known one. Durations are seconds, or a number with ``s``, ``m``, ``h``, ``d`` or
``w``; sizes are bytes, or a number with ``kB``, ``KiB``, ``MB``, ``MiB`` or ``GiB``.

``zodb_uri``, ``zodb_conf``, ``secret``, ``policy``, ``site`` and ``insecure_zeo`` may stand in
``[DEFAULT]`` for both sides. What ``[worker:…]`` says itself comes before that; in ``[filter:…]``
PasteDeploy wants ``set KEY = value`` for it. ``[plugins]``, ``[plugin:NAME]``, ``[roles]``,
``[permissions]`` and ``[schedule]`` are sections that both sides read. An embedded worker reads
what ``[worker:main]`` says of running, too. ``zasync check FILE`` reads a file as both sides
would, and says what is wrong with it.

``use = SECTION`` and ``use = config:FILE#SECTION`` mean what they mean to PasteDeploy, in
``[worker:…]`` as well: what the other section says, and what this one says after it. The shared
sections are read from the file that is started, and not from the ones that it uses.

.. code-block:: ini

    [app:site]
    use = egg:my_site

    [filter:zasync]
    use = egg:wsgi_zasync
    zodb_uri = file://%(here)s/var/Data.fs
    worker = embedded

    [pipeline:main]
    pipeline = zasync site

    [plugins]
    report.render = my_site.reports:render

    [plugin:report.render]
    permission = view reports
    timeout = 5m

    [roles]
    alice = editor
    members:bob = editor

    [permissions]
    view reports = role:editor user:carol

In ``[roles]`` and after ``user:`` a bare id is one of the default source; an id of another one
is written ``source:id``. Three things are read and checked, and not acted upon yet:
``[schedule]``, ``app``, and ``anonymous = session``, which is refused.
"""


def reference() -> str:
    """The whole page."""
    web, worker, quotas = (list(rows(c)) for c in (MiddlewareSettings, WorkerSettings, Quotas))
    limits = {row.name for row in quotas}
    both = {row.name for row in web} & {row.name for row in worker} - limits
    parts = [
        HEAD,
        section("Both sides", (row for row in web if row.name in both)),
        section("The web side", (row for row in web if row.name not in both | limits)),
        section("The worker", (row for row in worker if row.name not in both | limits)),
        section("Limits, on both sides", quotas),
    ]
    return "\n".join(parts)


def section(title: str, of: Iterable[Row]) -> str:
    """One heading and its keys."""
    keys = "".join(f"\n``{row.name}``\n    {row.doc}{default(row.default)}\n" for row in of)
    return f"{title}\n{'-' * len(title)}\n{keys}"


def default(value: Any) -> str:
    """The default as it would be written, if there is one."""
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        value = "yes" if value else "no"
    elif isinstance(value, tuple):
        value = " ".join(value)
    elif isinstance(value, float):
        value = f"{value:g}" if value < 86400 else f"{value / 86400:g}d"
    elif type(value) is int and value >= 1024 and value % 1024 == 0 and value != 4096:
        value = f"{value // 1024} KiB" if value < 1024**2 else f"{value // 1024**2} MiB"
    return f" (default ``{value}``)"


if __name__ == "__main__":
    print(reference(), end="")
