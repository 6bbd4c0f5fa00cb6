# SPDX-License-Identifier: ZPL-2.1
"""Light declarations of the plugins that come with this package.

Naming one here loads nothing of Twisted: the web process checks a put against the
parameters below, and only a worker imports the module that does the work.
"""

from __future__ import annotations

from inspect import Parameter

from .plugins import PluginDeclaration

_POSITIONAL = int(Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORD = int(Parameter.KEYWORD_ONLY)

http_get = PluginDeclaration(
    name="http.get",
    target="wsgi_zasync.worker.plugins.http:get",
    runs="reactor",
    timeout=60.0,
    check="wsgi_zasync.worker.plugins.http_options:check",
    parameters=(
        ("url", _POSITIONAL, False),
        ("headers", _KEYWORD, True),
        ("as_bytes", _KEYWORD, True),
        ("max_bytes", _KEYWORD, True),
        ("timeout", _KEYWORD, True),
        ("redirects", _KEYWORD, True),
    ),
)
