# SPDX-License-Identifier: ZPL-2.1
"""One test for each published hole of a sandbox or engine like ours."""

from __future__ import annotations

import pytest

from tests.expressions.test_escapes import attempt
from wsgi_zasync.errors import ExpressionError, Unauthorized

PUBLISHED = {
    # RestrictedPython: a generator's frame leads to the frames that called it.
    "CVE-2023-37271": [
        "python: [g.gi_frame.f_back.f_back for g in [(x for x in [1])]]",
        "python: (x.gi_frame.f_back for x in [user])",
        "python: max((g for g in [1]), key=lambda g: g.gi_frame)",
    ],
    # RestrictedPython and AccessControl: str.format reads attributes of its arguments.
    "CVE-2023-41039": [
        'python: "{0.__class__.__init__.__globals__}".format(user)',
        'python: "{a.card}".format_map({"a": user})',
        "python: str.format_map('{a.card}', {'a': user})",
    ],
    "CVE-2023-41050": ['python: "{0.card}".format(user)', 'python: path("user/name").format(user)'],
    # RestrictedPython: an AttributeError carries the object in ``obj``.
    "CVE-2024-47532": ["python: failure.exc.obj", "path:failure/exc/obj", "python: user.exc.obj.card"],
    # RestrictedPython: type confusion by ``try/except*``.
    "CVE-2025-22153": [
        "python: try: 1\nexcept* Exception: 2",
        "python: (try: 1 except* E as e: e)",
    ],
    # RestrictedPython: positional-only arguments shadow the names of the guards.
    "CVE-2026-55830": [
        "python: (lambda _getattr_=ring, /: user.card)()",
        "python: (lambda _getattr_, /: user.card)(ring)",
        "python: sorted([user], key=lambda _getattr_, /: user.card)",
        "python: [user.card for _getattr_ in [ring]]",
    ],
    # RestrictedPython's utility builtins: string.Formatter.
    "CVE-2026-76825": [
        "python: string.Formatter().format('{0.card}', user)",
        "python: string('x').Formatter().get_field('0.card', [user], {})",
    ],
    # format on subclasses of str, whose method is not the one that was checked.
    "CVE-2026-77401": ["python: text.format(user)", "python: user.name.format(user)"],
    # Zope: traversal through modules to what was never published.
    "CVE-2021-32633": [
        "path:modules/random/_os/system", "modules/os", "python: path('modules/random/_os')",
        "path:root/random/_itertools", "string:${modules/random/_os}",
    ],
    # simpleeval: modules that hang on objects which were passed in.
    "CVE-2026-32640": [
        "python: ring.os.system('true')", "python: math.os", "python: user.module.os", "path:user/module/os/environ",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("identifier", "text"),
    [(identifier, text) for identifier, texts in PUBLISHED.items() for text in texts],
)
def test_a_published_hole_is_none_here(identifier, text):
    assert isinstance(attempt(text), (ExpressionError, Unauthorized))
