# SPDX-License-Identifier: ZPL-2.1
"""The options of a put."""

from __future__ import annotations

from dataclasses import fields

from wsgi_zasync.options import Options, PutOptions


def test_type_checkers_know_the_same_options():
    assert Options.__annotations__.keys() == {field.name for field in fields(PutOptions)}
