# SPDX-License-Identifier: ZPL-2.1
"""T5: a text that mallory wrote and the administrator put does what both may do."""

from __future__ import annotations

import pytest
from persistent import Persistent

from tests.integration import stepping
from wsgi_zasync import Principal, Unauthorized, expose
from wsgi_zasync.security import DefaultPolicy

MALLORY = Principal("mallory", "members")


class Document(Persistent):
    """Mallory may view it, the administrator may do everything."""

    title, notes, deleted = "Plan", "for the administrator", False

    def delete(self):
        self.deleted = True
        return "deleted"


expose("__getitem__", title="view", notes="manage", delete="manage")(Document)


@expose(call="manage")
def restart():
    return "restarted"


class Policy(DefaultPolicy):
    """The administrator has the whole tree as root, everybody else a part; users can be gone."""

    gone = demoted = frozenset()

    def principal_now(self, principal, root):
        if principal.owner in self.gone:
            raise Unauthorized("gone")
        return super().principal_now(principal, root)

    def allows(self, principal, permission, obj):
        return principal.owner not in self.demoted and super().allows(principal, permission, obj)

    def root_for(self, principal, root):
        return root["document" if principal.id == "admin" else "public"]


@pytest.fixture
def site():
    found = Site()
    yield found
    found.close()


class Site(stepping.Site):
    def __init__(self):
        self.policy = Policy(
            {"admin": "boss"},
            {"view": "role:boss user:members:mallory", "manage": "role:boss", "ask": "role:boss"},
        )
        super().__init__(policy=self.policy, exposed={"restart": restart})
        self.add("echo", lambda attempt, value=None: value)
        self.add("open", lambda attempt: None, expressions=True, permission="ask")
        self.add(
            "look", lambda attempt, it: None, expressions=True, permission="view", runs="thread"
        )
        self.keep(document=Document(), public=Document())

    def calls(self):
        return super().calls("admin")

    def evaluated(self, text, author, gone=()):
        """What became of the text: the call, its callback, and whether something was deleted."""
        with self.calls() as calls:
            asking = calls if author is None else calls.options(author=author)
            call = asking.put("echo", 1).on_success(text, document=calls.root["document"])
        self.policy.gone = frozenset(gone)
        self.worker.run_once()
        with self.calls() as calls:
            found = calls.get(call.id)
            assert found.state == "succeeded"
            return found, found.callbacks[0], calls.root["document"].deleted


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("read", "document/notes"),
        ("call", "python: document.delete()"),
        ("function", "python: restart()"),
        ("put", "python: put('open').id"),
    ],
)
def test_what_the_author_may_not_the_text_may_not(site, kind, text):
    _, callback, deleted = site.evaluated(text, MALLORY)

    assert (callback.state, callback.value, deleted) == ("failed", None, False)
    assert callback.error.startswith(("Unauthorized", "ExpressionError"))
    assert "Unauthorized" in callback.error
    with site.calls() as calls:
        assert calls.count() == 1


@pytest.mark.parametrize(
    "text",
    [
        "document/notes",
        "python: document.delete()",
        "python: restart()",
        "python: put('open').id",
        "root/notes",
    ],
)
def test_the_same_text_as_a_constant_of_the_application_may(site, text):
    _, callback, _ = site.evaluated(text, None)

    assert (callback.state, callback.error) == ("done", None)
    assert callback.value is not None


def test_the_owners_root_is_no_place_for_the_author(site):
    _, callback, _ = site.evaluated("python: root is None", MALLORY)
    assert callback.value is True

    _, callback, _ = site.evaluated("root/title", MALLORY)
    assert callback.state == "failed"

    # An author who is shown the same keeps it.
    _, callback, _ = site.evaluated("root/title", Principal("admin"))
    assert callback.value == "Plan"


def test_what_both_may_is_done(site):
    _, callback, _ = site.evaluated("document/title", MALLORY)

    assert (callback.state, callback.value) == ("done", "Plan")


def test_what_is_told_names_the_author(site):
    by_mallory, _, _ = site.evaluated("python: emit('give me your password')", MALLORY)
    by_application, _, _ = site.evaluated("python: emit('done')", None)

    with site.calls() as calls:
        sources = [
            [event.source for event in calls.get(call.id).events]
            for call in (by_mallory, by_application)
        ]
    assert sources == [["callback of members:mallory"], ["callback"]]


@pytest.mark.parametrize("text", ["string:harmless", "python: emit(1)", "document/title"])
def test_a_text_whose_author_is_gone_is_not_evaluated(site, text):
    call, callback, _ = site.evaluated(text, MALLORY, gone=[MALLORY.owner])

    assert callback.state == "failed"
    assert callback.error.startswith("Unauthorized")
    with site.calls() as calls:
        assert calls.get(call.id).events == []


@pytest.mark.parametrize(
    ("change", "state"), [("nothing", "succeeded"), ("demoted", "failed"), ("gone", "failed")]
)
def test_what_the_text_has_put_is_run_as_long_as_its_author_may(site, change, state):
    # Given a call that mallory's text has put, and that has not run yet
    with site.calls() as calls:
        call = calls.options(author=MALLORY).put("echo", 1)
        call.on_success("python: put('look', document).id", document=calls.root["document"])
    service = site.service("worker")
    while site.state(call.id) != "succeeded":
        service.turn()
    with site.calls() as calls:
        (put,) = (each.id for each in calls.mine() if each.plugin == "look")
        assert calls.get(put).state == "waiting"
    # When mallory may not any more, though the administrator may
    if change != "nothing":
        setattr(site.policy, change, frozenset([MALLORY.owner]))
    site.work(service)
    # Then
    assert site.state(put) == state
    with site.calls() as calls:
        failure = calls.get(put).failure
        assert (failure and failure.type) == (None if state == "succeeded" else "Unauthorized")
