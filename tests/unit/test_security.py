# SPDX-License-Identifier: ZPL-2.1
"""Principals, and what the default policy lets them do."""

from __future__ import annotations

import timeit

import persistent
import pytest
import transaction
import ZODB
from persistent.list import PersistentList
from ZODB.POSException import ReadConflictError

from wsgi_zasync.errors import ConfigurationError, InvalidArguments
from wsgi_zasync.ports import HostExposure, SecurityPolicy
from wsgi_zasync.security import SESSION_SOURCE, DefaultPolicy, Principal

ALICE = Principal("alice")
ALLOW_ALL = ("Allow", "system.Everyone", ("view", "edit"))


class Place:
    """Something in a tree of objects, with or without an access list."""

    def __init__(self, parent=None, acl=None):
        self.__parent__ = parent
        if acl is not None:
            self.__acl__ = acl


class Slotted:
    __slots__ = ("__acl__", "__parent__")


class Unreadable:
    """Its list denies, but cannot be read."""

    @property
    def __acl__(self):
        return self.directory.denials


class StoredPlace(persistent.Persistent):
    def __init__(self, acl=None):
        self.__parent__ = None
        self.__acl__ = acl


class TestPrincipal:
    def test_is_built_from_positions_and_from_names(self):
        principal = Principal("bob", "members", ("editor",), title="Bob B.")

        assert principal == Principal(id="bob", source="members", roles=("editor",), title="Bob B.")
        assert principal.owner == ("members", "bob")

    def test_is_a_frozen_value(self):
        with pytest.raises(AttributeError):
            ALICE.id = "root"
        assert len({ALICE, Principal("alice")}) == 1

    @pytest.mark.parametrize(
        "identifier",
        ["", " ", " alice", "alice ", "a\nb", "a\x00b", "a\x7f", "a" * 256, "\ud800",
         "a\u2028b", b"alice", None, 7],
    )  # fmt: skip
    def test_refuses_ids_that_are_not_ids(self, identifier):
        with pytest.raises(InvalidArguments) as refused:
            Principal(identifier)
        assert refused.value.path == "id"

    @pytest.mark.parametrize("source", [" members", "a:b", "a\tb", "s" * 256, None])
    def test_refuses_sources_that_are_not_sources(self, source):
        with pytest.raises(InvalidArguments) as refused:
            Principal("alice", source)
        assert refused.value.path == "source"

    @pytest.mark.parametrize("roles", ["editor", b"editor", None, 7, ("editor", 7)])
    def test_refuses_roles_that_are_not_texts(self, roles):
        with pytest.raises(InvalidArguments):
            Principal("alice", roles=roles)

    def test_refuses_a_title_that_is_not_text(self):
        with pytest.raises(InvalidArguments):
            Principal("alice", title=b"Alice")

    def test_keeps_exact_texts_only(self):
        class Text(str):
            def __str__(self):
                return "root"

        principal = Principal(Text("alice"), Text("members"), [Text("editor")], Text("A."))

        texts = (principal.id, principal.source, principal.roles[0], principal.title)
        assert texts == ("alice", "members", "editor", "A.")
        assert {type(text) for text in texts} == {str}

    def test_keeps_the_longest_id_and_never_normalises_it(self):
        assert Principal("a" * 255).id == "a" * 255
        assert Principal("e\u0301").owner != Principal("\u00e9").owner

    def test_evolves_into_a_checked_copy(self):
        assert ALICE.evolve(roles=("editor",)).roles == ("editor",)
        with pytest.raises(InvalidArguments):
            ALICE.evolve(id="")


class TestRoles:
    POLICY = DefaultPolicy(
        roles={
            "alice": "editor, reviewer",
            "members:alice": ["guest"],
            ":odd:id": "odd",
            "session:s1": "editor",
        },
        permissions={"edit": "role:editor", "odd": "role:odd", "view": "role:guest"},
    )

    def test_come_from_the_table_and_not_from_the_principal(self):
        stale = Principal("carol", roles=("editor",))

        assert self.POLICY.principal_now(stale, None).roles == ()
        assert self.POLICY.principal_now(ALICE, None).roles == ("editor", "reviewer")
        assert not self.POLICY.allows(stale, "edit", None)

    def test_of_a_bare_id_belong_to_the_default_source_only(self):
        other = Principal("alice", source="members")

        assert self.POLICY.allows(ALICE, "edit", None)
        assert not self.POLICY.allows(other, "edit", None)
        assert self.POLICY.allows(other, "view", None)

    def test_an_id_with_a_colon_does_not_pose_as_another_source(self):
        assert not self.POLICY.allows(Principal("members:alice"), "view", None)
        assert self.POLICY.allows(Principal("odd:id"), "odd", None)

    def test_are_never_given_to_sessions(self):
        session = Principal("s1", source=SESSION_SOURCE)

        assert self.POLICY.principal_now(session, None).roles == ()
        assert not self.POLICY.allows(session, "edit", None)

    def test_are_read_afresh_at_each_decision(self):
        table = {"alice": "editor"}
        policies = [
            DefaultPolicy(table, {"edit": "role:editor"}),
            DefaultPolicy(lambda: table, {"edit": "role:editor"}),
        ]
        assert all(policy.allows(ALICE, "edit", None) for policy in policies)

        table.clear()

        assert not any(policy.allows(ALICE, "edit", None) for policy in policies)


class TestPermissions:
    def test_are_granted_to_typed_entries_only(self):
        policy = DefaultPolicy(permissions={"edit": "user:alice, user:members:bob role:x"})

        assert policy.allows(ALICE, "edit", None)
        assert policy.allows(Principal("bob", "members"), "edit", None)
        assert not policy.allows(Principal("bob"), "edit", None)
        assert not policy.allows(Principal("alice", "members"), "edit", None)
        assert not policy.allows(ALICE, "delete", None)

    @pytest.mark.parametrize(
        "identifier", ["role:editor", "editor", "user:alice", "role:x", "members:bob"]
    )
    def test_an_id_that_looks_like_an_entry_matches_nothing(self, identifier):
        policy = DefaultPolicy(
            roles={"alice": "editor"},
            permissions={"edit": ["role:editor", "user:alice", "user:members:bob"]},
        )

        assert not policy.allows(Principal(identifier), "edit", None)

    @pytest.mark.parametrize("entry", ["alice", "role:", "user:", "user:members:", "group:x"])
    def test_an_entry_of_unknown_kind_is_refused_at_start(self, entry):
        with pytest.raises(ConfigurationError, match="edit"):
            DefaultPolicy(permissions={"edit": [entry]})

    def test_nobody_and_sessions_match_no_entry(self):
        policy = DefaultPolicy(permissions={"edit": "user:session:s1 user:alice role:x"})

        assert not policy.allows(None, "edit", None)
        assert not policy.allows(Principal("s1", SESSION_SOURCE), "edit", None)


class TestAccessLists:
    POLICY = DefaultPolicy(roles={"bob": "editor"}, permissions={"edit": "role:editor"})

    def test_decide_before_the_table_denial_included(self):
        bob = Principal("bob")

        assert self.POLICY.allows(bob, "edit", Place())
        assert not self.POLICY.allows(bob, "edit", Place(acl=[("Deny", "user:bob", "edit")]))
        assert self.POLICY.allows(ALICE, "edit", Place(acl=[("Allow", "user:alice", "edit")]))

    def test_the_first_entry_that_speaks_wins(self):
        place = Place(
            acl=[("Allow", "role:editor", ("view", "edit")), ("Deny", "user:bob", "edit")]
        )

        assert self.POLICY.allows(Principal("bob"), "edit", place)

    def test_of_parents_are_asked_nearest_first(self):
        top = Place(acl=[ALLOW_ALL])
        closed = Place(parent=top, acl=[("Deny", "system.Everyone", "edit")])

        assert self.POLICY.allows(ALICE, "edit", Place(parent=top))
        assert not self.POLICY.allows(Principal("bob"), "edit", Place(parent=closed))
        assert self.POLICY.allows(ALICE, "view", Place(parent=closed))

    def test_name_a_permission_by_itself_or_several(self):
        place = Place(
            acl=[("Allow", "user:alice", "edit-all"), ("Allow", "user:alice", ("a", "b"))]
        )

        assert self.POLICY.allows(ALICE, "edit-all", place)
        assert self.POLICY.allows(ALICE, "b", place)
        # None that is a part of its name.
        assert not DefaultPolicy().allows(ALICE, "edit", place)

    def test_may_be_made_by_a_method(self):
        assert self.POLICY.allows(ALICE, "view", Place(acl=lambda: [ALLOW_ALL]))

    def test_tell_the_logged_in_from_the_rest(self):
        place = Place(acl=[("Allow", "system.Authenticated", "view")])

        assert self.POLICY.allows(ALICE, "view", place)
        assert not self.POLICY.allows(Principal("s1", SESSION_SOURCE), "view", place)
        assert not self.POLICY.allows(None, "view", place)
        assert self.POLICY.allows(None, "view", Place(acl=[ALLOW_ALL]))

    @pytest.mark.parametrize("who", ["alice", "group:staff", 7])
    def test_an_entry_of_unknown_kind_allows_nobody_and_spares_nobody(self, who):
        assert not self.POLICY.allows(ALICE, "edit", Place(acl=[("Allow", who, "edit")]))
        denied = Place(acl=[("Deny", who, "edit")])
        assert not self.POLICY.allows(Principal("bob"), "edit", denied)

    def test_a_loop_of_parents_denies_quickly(self):
        one, two = Place(), Place()
        one.__parent__, two.__parent__ = two, one

        assert not self.POLICY.allows(Principal("bob"), "edit", one)
        took = timeit.repeat(
            lambda: self.POLICY.allows(Principal("bob"), "edit", one), number=1, repeat=5
        )
        assert min(took) < 0.05

    def test_that_cannot_be_read_are_not_taken_for_none(self):
        policy = DefaultPolicy(permissions={"view": "user:alice"})

        with pytest.raises(AttributeError):
            policy.allows(ALICE, "view", Unreadable())
        with pytest.raises(AttributeError):
            policy.allows(ALICE, "view", Place(parent=Unreadable()))
        assert policy.allows(ALICE, "view", Slotted())
        assert policy.allows(ALICE, "view", object())

    def test_a_hundred_parents_are_asked_and_no_more(self):
        def chain(parents):
            place = Place()
            for _ in range(parents):
                place = Place(parent=place)
            return place

        assert self.POLICY.allows(Principal("bob"), "edit", chain(100))
        assert not self.POLICY.allows(Principal("bob"), "edit", chain(101))


class TestRoot:
    def test_is_none_unless_configured(self):
        assert DefaultPolicy().root_for(ALICE, {"app": 1}) is None

    def test_is_found_by_items(self):
        root = {"app": {"public": "here"}}

        assert DefaultPolicy(root_path="app/public").root_for(ALICE, root) == "here"
        assert DefaultPolicy(root_path="/").root_for(ALICE, root) is root

    @pytest.mark.parametrize("path", ["app/nowhere", "app/public/deeper/x"])
    def test_a_wrong_path_is_an_error_of_the_configuration(self, path):
        with pytest.raises(ConfigurationError, match="root = app"):
            DefaultPolicy(root_path=path).root_for(ALICE, {"app": {"public": {"deeper": 1}}})


class TestReadCurrent:
    """A demotion that commits during an evaluation must not go unnoticed."""

    @pytest.fixture
    def db(self):
        db = ZODB.DB(None)
        with db.transaction() as connection:
            connection.root.place = StoredPlace(PersistentList([("Allow", "user:alice", "edit")]))
            connection.root.effect = StoredPlace()
        yield db
        db.close()

    @pytest.mark.parametrize("change", ["the object", "its list"])
    def test_a_demotion_meanwhile_conflicts_with_the_decision(self, db, change):
        ours, theirs = (transaction.TransactionManager(explicit=True) for _ in "ab")
        deciding, demoting = db.open(ours), db.open(theirs)
        ours.begin(), theirs.begin()
        place, other = deciding.root.place, demoting.root.place

        assert DefaultPolicy().allows(ALICE, "edit", place)
        deciding.root.effect.written = True
        if change == "the object":
            other.__acl__ = PersistentList()
        else:
            del other.__acl__[:]
        theirs.commit()

        with pytest.raises(ReadConflictError):
            ours.commit()
        ours.abort()
        deciding.close(), demoting.close()

    def test_objects_that_are_in_no_database_yet_are_no_trouble(self):
        place = StoredPlace([("Allow", "user:alice", "edit")])

        assert DefaultPolicy().allows(ALICE, "edit", place)


def test_the_default_policy_is_a_security_policy_and_no_host_exposure():
    assert isinstance(DefaultPolicy(), SecurityPolicy)
    assert not isinstance(DefaultPolicy(), HostExposure)
