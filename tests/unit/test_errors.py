# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import inspect
import re

import pytest
from transaction.interfaces import TransientError

from wsgi_zasync import errors

TREE = {
    name: thing
    for name, thing in vars(errors).items()
    if inspect.isclass(thing) and thing.__module__ == errors.__name__
}


def test_every_error_has_the_one_root():
    assert all(issubclass(thing, errors.ZasyncError) for thing in TREE.values())


@pytest.mark.parametrize("name", sorted(TREE))
def test_every_error_says_when_it_is_raised(name):
    assert TREE[name].__dict__.get("__doc__")


def test_the_tree_in_the_documentation_is_the_tree_in_the_code():
    drawn = re.findall(r"^[ │├└─]*([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)

    assert set(TREE) <= set(drawn)


@pytest.mark.parametrize(
    ("error", "host"),
    [
        (errors.CallNotFound, LookupError),
        (errors.UnknownPlugin, LookupError),
        (errors.InvalidArguments, ValueError),
        (errors.InvalidResult, errors.InvalidArguments),
        (errors.ObjectGone, errors.InvalidArguments),
        (errors.ExpressionError, ValueError),
        (errors.UndefinedName, errors.ExpressionError),
        (errors.ResourceLimit, errors.ExpressionError),
        (errors.ConfigurationError, ValueError),
        (errors.StoreConflict, TransientError),
    ],
)
def test_errors_speak_the_hosts_language_too(error, host):
    assert issubclass(error, host)


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (errors.CallFailed("no", "failure"), {"failure": "failure"}),
        (errors.UnknownPlugin("no", "a", ("b",)), {"name": "a", "nearest": ("b",)}),
        (errors.InvalidArguments("no", "args[0]"), {"path": "args[0]"}),
        (errors.ExpressionError("no", 2, 3), {"line": 2, "column": 3}),
        (errors.ResourceLimit("no"), {"line": None, "column": None}),
        (errors.DuplicateCall("no", "id"), {"call_id": "id"}),
        (errors.QuotaExceeded("no", "max_open_calls"), {"limit": "max_open_calls"}),
    ],
)
def test_errors_carry_data_and_not_only_text(error, attributes):
    assert str(error) == "no"
    assert {name: getattr(error, name) for name in attributes} == attributes
