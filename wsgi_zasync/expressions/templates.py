# SPDX-License-Identifier: ZPL-2.1
"""``template:``: a registered template, rendered with the expression's names.

The registry of the process. It knows nothing of Chameleon, which is loaded
only where templates are registered (`wsgi_zasync.expressions.rendering`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, UndefinedName
from .messages import blame, complete, suggest
from .operations import Operations

if TYPE_CHECKING:
    from .engine import Compilation

#: What a name of a template looks like: no paths, no dots that lead upwards.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")

#: Renders a template in an evaluation.
Renderer = Callable[[Operations], str]


class Templates:
    """Renderers by name; filled at start, read by every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._renderers: dict[str, Renderer] = {}

    def add(self, name: str, renderer: Renderer) -> None:
        """Register a renderer; the same name again replaces it.

        Raises:
            ConfigurationError: The name is none for a template.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"{name[:60]!r} is no name of a template: letters, digits, '-', '_' and '.'"
            )
        with self._lock:
            self._renderers[name] = renderer

    def get(self, name: str) -> Renderer:
        """The renderer.

        Raises:
            UndefinedName: No template of that name is registered.
        """
        renderer = self._renderers.get(name)
        if renderer is None:
            raise suggest(UndefinedName("no such template"), name, self._renderers)
        return renderer

    def missing(self, name: str) -> str | None:
        """What to say of a template that is not registered; None if it is."""
        if name in self._renderers:
            return None
        error = UndefinedName(f"no template {name!r} is registered")
        return str(complete(suggest(error, name, self._renderers)))


#: The templates of this process.
TEMPLATES = Templates()


class Template:
    """``template:NAME`` as an expression type of the engine."""

    __slots__ = ("_name", "_span", "_text")

    def __init__(self, name: str, expr: str, engine: Compilation) -> None:
        self._name = expr.strip()
        self._text = engine.text
        start = engine.offset_of(expr)
        self._span = (start - len("template:"), start + len(expr))
        if not _NAME.fullmatch(self._name):
            raise engine.error("no name of a template", start)
        if engine.asks_for_templates and (missing := TEMPLATES.missing(self._name)):
            raise engine.error(missing, engine.offset_of(expr.lstrip()), UndefinedName)

    def __call__(self, run: Operations) -> str:
        """The rendered text."""
        try:
            render = TEMPLATES.get(self._name)
        except UndefinedName as failure:
            raise blame(failure, self._text, *self._span) from None
        return render(run)
