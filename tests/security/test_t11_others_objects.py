# SPDX-License-Identifier: ZPL-2.1
"""T11: an editor's callback edits no other editor's folder, however it comes by it."""

from __future__ import annotations

import timeit

import pytest
from persistent import Persistent

from wsgi_zasync import ExpressionError, Principal, expose
from wsgi_zasync.security import DefaultPolicy


@expose("neighbour", "everything", put_in="edit")
class Folder(Persistent):
    """A folder of one user, which leads to the other one's."""

    def __init__(self, owner):
        self.items = ()
        self.neighbour = None
        self.__acl__ = [("Allow", f"user:{owner}", "edit"), ("Deny", "system.Everyone", "edit")]

    @property
    def everything(self):
        return [self, self.neighbour]

    def put_in(self, item):
        self.items = (*self.items, item)


@expose("everything")
class Telling(Folder):
    """A subclass that makes an exposed name tell more, and does not declare it anew."""

    @property
    def neighbour(self):
        return "what nobody was to see"

    @neighbour.setter
    def neighbour(self, value):
        pass


@pytest.fixture
def folders(site):
    with site.calls() as calls:
        ann, bob = Folder("ann"), Folder("bob")
        ann.neighbour, bob.neighbour = bob, ann
        for name, folder in (("ann", ann), ("bob", bob)):
            calls.root[name] = folder
            calls.connection.add(folder)
    return site


def put(site, text, **names):
    """A call of ann's with these objects bound; what became of its callback."""
    with site.calls() as calls:
        call = calls.put("echo")
        call.on_success(text, **{name: calls.root[key] for name, key in names.items()})
    site.run()
    with site.calls() as calls:
        return calls.get(call.id).callbacks[0]


@pytest.mark.parametrize(
    "text",
    [
        "python: theirs.put_in(1)",
        "python: mine.neighbour.put_in(1)",
        "python: mine.everything[1].put_in(1)",
        "python: [f.put_in(1) for f in mine.everything]",
        "python: mine.neighbour.neighbour.neighbour.put_in(1)",
        "theirs/put_in",
        "mine/neighbour/put_in",
        "exists:theirs/put_in",
        "string:${theirs/put_in}",
        "python: theirs.items",
        "python: root['bob'].put_in(1)",
        "root/bob/put_in",
    ],
)
def test_the_others_folder_stays_as_it_is(folders, text):
    callback = put(folders, text, mine="ann", theirs="bob")

    assert callback.state == "failed" or callback.value in (0, 1, False, None)
    with folders.calls() as calls:
        assert calls.root["bob"].items == ()
        assert calls.root["ann"].items == ()


@pytest.mark.parametrize(
    "text", ["python: mine.__acl__", "python: theirs._p_jar", "python: mine.__class__"]
)
def test_names_with_an_underscore_do_not_even_compile(folders, text):
    with pytest.raises(ExpressionError):
        put(folders, text, mine="ann", theirs="bob")


def test_the_own_folder_can_be_written(folders):
    assert put(folders, "python: mine.put_in(1)", mine="ann").state == "done"
    with folders.calls() as calls:
        assert calls.root["ann"].items == (1,)


def test_what_a_subclass_defines_anew_is_not_exposed(folders):
    with folders.calls() as calls:
        calls.root["telling"] = Telling("ann")
        calls.connection.add(calls.root["telling"])

    assert put(folders, "python: folder.neighbour", folder="telling").state == "failed"


def test_a_loop_of_parents_is_denied_at_once():
    one, two = Folder("ann"), Folder("bob")
    one.__acl__ = two.__acl__ = None
    one.__parent__, two.__parent__ = two, one
    policy = DefaultPolicy({"ann": "editor"}, {"edit": "role:editor"})
    assert not policy.allows(Principal("ann"), "edit", one)
    took = timeit.repeat(lambda: policy.allows(Principal("ann"), "edit", one), number=1, repeat=5)
    assert min(took) < 0.05
