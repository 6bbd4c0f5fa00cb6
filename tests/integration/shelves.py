# SPDX-License-Identifier: ZPL-2.1
"""An object of an application's that callbacks write to, and on which things can go wrong."""

from __future__ import annotations

from persistent import Persistent

from wsgi_zasync import expose


class Shelf(Persistent):
    def __init__(self):
        self.items = ()

    def add(self, item):
        self.items = (*self.items, item)
        return len(self.items)

    def spoil(self):
        """Leave what cannot be pickled."""
        self.bad = lambda: None
        return "spoilt"

    def poison(self):
        """Leave what refuses the whole commit."""
        self.add("poison")
        commit = self._p_jar.transaction_manager.get()
        commit.addBeforeCommitHook({}.__getitem__, ("no such key",))


expose(add="edit", spoil="edit", poison="edit")(Shelf)
