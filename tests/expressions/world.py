# SPDX-License-Identifier: ZPL-2.1
"""A small library with secrets in it, for the tests of expressions.

Whatever contains `CANARY` must never come out of an expression that ann
evaluates.  She holds View and Lend, and neither Manage nor Burn.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from uuid import UUID

import persistent
from persistent.mapping import PersistentMapping

from wsgi_zasync.exposure import expose
from wsgi_zasync.expressions import Limits, compile_expression
from wsgi_zasync.security import Principal

CANARY = "ZASYNC-CANARY"
MODULE_SECRET = CANARY + "-module"

ANN = Principal("ann")
BEN = Principal("ben")

RIGHTS = {"ann": {"View", "Lend"}, "ben": {"View"}, "root": {"View", "Lend", "Manage", "Burn"}}


class Policy:
    """Grants what the table says, on anything."""

    def __init__(self, rights=RIGHTS):
        self.rights = rights
        self.asked = []

    def principal_now(self, principal, root):
        return principal

    def root_for(self, principal, root):
        return root

    def allows(self, principal, permission, object):
        self.asked.append((principal.id, permission, object))
        return permission in self.rights.get(principal.id, ())


@expose("id", "name", "roles", "is_a", "greet")
class Reader:
    def __init__(self, id, name, roles):
        self.id, self.name, self.roles = id, name, tuple(roles)
        self._password = CANARY + "-password"
        self.card = CANARY + "-card"

    def is_a(self, role):
        return role in self.roles

    def greet(self, greeting="Hello", *, mark="!"):
        return f"{greeting}, {self.name}{mark}"


@expose(
    id="View", title="View", pages="View", lent="View", shout="View", lend="Lend",
    rename="Lend", notes="Manage", burn="Burn",
)  # fmt: skip
class Book(persistent.Persistent):
    def __init__(self, id, title, pages):
        self.id, self.title, self.pages = id, title, pages
        self.notes = CANARY + "-notes"
        self.ledger = CANARY + "-ledger"
        self.lent = False
        self.burnt = False

    def shout(self):
        return self.title.upper()

    def lend(self):
        self.lent = True
        return "lent"

    def rename(self, title):
        self.title = title
        return title

    def burn(self):
        self.burnt = True
        return "burnt " + CANARY


@expose(**dict.fromkeys(
    ("__getitem__", "__contains__", "__len__", "__iter__", "get", "keys", "values", "items",
     "ids"), "View",
))  # fmt: skip
class Shelf(PersistentMapping):
    def ids(self):
        return sorted(self.keys())


@expose("kind", "text")
class Trouble:
    def __init__(self, kind, text):
        self.kind, self.text = kind, text
        try:
            local_secret = CANARY + "-local"  # noqa: F841
            raise ValueError(text)
        except ValueError as failure:
            self.exc, self.tb = failure, failure.__traceback__


@expose()
def ring(message):
    """A function whose globals hold secrets."""
    return f"ring: {message}"


def build():
    """Fresh names, with nothing written in them yet."""
    shelf = Shelf()
    shelf["novels"] = Shelf()
    shelf["novels"]["emma"] = Book("emma", "Emma", 474)
    shelf["novels"]["moby"] = Book("moby", "Moby-Dick", 635)
    return {
        "result": {
            "rows": [
                {"id": 1, "name": "Ann", "qty": 3, "price": 2.5},
                {"id": 2, "name": "Bob", "qty": 1, "price": 10.0},
                {"id": 3, "name": "Cyd", "qty": 0, "price": 4.0},
            ],
            "count": 3, "status": "ok", "note": None, "items": "data wins",
        },
        "user": Reader("ann", "Ann", ("member", "lender")),
        "book": shelf["novels"]["emma"],
        "root": shelf,
        "failure": Trouble("ValueError", "bad input"),
        "options": {"key": "status", "path": ["novels", "moby"], "tags": ["x", "y"], "limit": 2},
        "evil": "_password",
        "evil_path": ["__class__", "__init__"],
        "ring": ring,
        "moment": datetime.datetime(2026, 11, 24, 9, 30, 5, 7, tzinfo=datetime.UTC),
        "day": datetime.date(2026, 11, 24),
        "clock": datetime.time(9, 30),
        "span": datetime.timedelta(days=2, hours=3),
        "price": Decimal("12.50"),
        "uuid": UUID("12345678-1234-5678-1234-567812345678"),
        "data": b"bytes",
        "numbers": {3, 1, 2},
        "frozen": frozenset({1}),
        "pair": (1, 2),
        "nothing": None,
    }  # fmt: skip


def evaluate(text, names=None, *, principal=ANN, policy=None, author=None, limits=None, **bound):
    """Compile and evaluate a text for ann, unless somebody else is given."""
    return compile_expression(text).evaluate(
        {**(build() if names is None else names), **bound},
        principal=principal,
        policy=policy or Policy(),
        author=author,
        limits=limits or Limits(),
    )
