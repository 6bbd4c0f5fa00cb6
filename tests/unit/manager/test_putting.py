# SPDX-License-Identifier: ZPL-2.1
"""What a put writes and refuses, whoever asks for it."""

from __future__ import annotations

import pytest

from wsgi_zasync import (
    CallState,
    ConfigurationError,
    InvalidArguments,
    Principal,
    QuotaExceeded,
    Unauthorized,
    UnknownPlugin,
    plugin,
)
from wsgi_zasync.plugins import Registry
from wsgi_zasync.security import SESSION_SOURCE, DefaultPolicy
from wsgi_zasync.settings import Quotas
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import PlainAccess, calls_of, deployment_of, run_calls


def render(attempt, year, draft=False):
    return year


PLUGINS = {"render": plugin("render")(render)}


@pytest.fixture
def publish(db):
    """Let a worker say which plugins it has."""

    def published(plugins):
        with db.transaction() as connection:
            publication = Registry(plugins).publication()
            open_store(connection).register_worker("elsewhere", publication, ("default",))

    return published


# -- a unique key that is taken ---------------------------------------------------------------


def test_a_call_that_is_replaced_is_cancelled_and_makes_room_for_the_other(db):
    # Given an owner who may have one open call, and has one
    deployment = deployment_of(PLUGINS, quotas=Quotas(max_open_calls=1))
    with calls_of(db, "ann", deployment) as calls:
        first = calls.options(unique="newsletter").put("render", 1).id
    # When it is replaced
    with calls_of(db, "ann", deployment) as calls:
        asking = calls.options(unique="newsletter", on_duplicate="replace")
        second = asking.put("render", 2).id
    # Then that one alone is run, and has the key
    with calls_of(db, "ann", deployment) as calls:
        assert calls.get(first).state == CallState.CANCELLED
        again = calls.options(unique="newsletter", on_duplicate="return").put("render", 3)
        assert again.id == second
        with pytest.raises(QuotaExceeded):
            calls.put("render", 4)
    run_calls(db, PLUGINS)
    with calls_of(db, "ann", deployment) as calls:
        assert calls.get(second).result == 2
        assert calls.count() == 2


# -- plugins that only workers have --------------------------------------------------------------


def test_a_plugin_that_only_workers_have_is_put_as_they_say(db, publish):
    publish(PLUGINS)
    deployment = deployment_of({})

    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("render", 2026, draft=True).id
        with pytest.raises(InvalidArguments):
            calls.put("render", 2026, colour="red")
        with pytest.raises(UnknownPlugin, match="'render'"):
            calls.put("rendre", 2026)
        assert calls.count() == 1

    run_calls(db, PLUGINS)
    with calls_of(db, "ann", deployment) as calls:
        assert calls.get(call).result == 2026


def test_a_plugin_that_cannot_be_imported_here_belongs_to_the_workers_that_can(db, publish):
    deployment = deployment_of({"render": "nowhere_at_all:render"})
    missing = pytest.raises(ConfigurationError, match="nowhere_at_all")
    with calls_of(db, "ann", deployment) as calls, missing:
        calls.put("render", 2026)

    publish(PLUGINS)
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("render", 2026).id

    run_calls(db, PLUGINS)
    with calls_of(db, "ann", deployment) as calls:
        assert calls.get(call).result == 2026


# -- who asks ------------------------------------------------------------------------------------


def test_who_is_not_logged_in_puts_no_call_of_a_plugin_without_permission(db):
    visitor = Principal("cookie", SESSION_SOURCE)
    with calls_of(db, visitor, deployment_of(PLUGINS)) as calls:
        with pytest.raises(Unauthorized, match="log in"):
            calls.put("render", 2026)
        assert calls.count() == 0


@pytest.mark.parametrize("mistaken", [Principal("bob"), None])
def test_where_the_policy_mistakes_the_owner_for_another_nothing_is_put(db, mistaken):
    class Policy(DefaultPolicy):
        def principal_now(self, principal, root):
            return mistaken

    with calls_of(db, "ann", deployment_of(PLUGINS, policy=Policy())) as calls:
        with pytest.raises(Unauthorized, match="another principal"):
            calls.put("render", 2026)
        assert calls.count() == 0


@pytest.fixture
def mallorys(monkeypatch):
    """Have everything that is asked for be asked by what a user wrote through the web."""
    author = Principal("mallory", "acl_users")
    monkeypatch.setattr(PlainAccess, "author", lambda access: author)


def test_what_was_written_through_the_web_puts_no_call_of_a_plugin_that_is_not_known_here(
    db, publish, mallorys
):
    publish(PLUGINS)

    with calls_of(db, "ann", deployment_of({})) as calls:
        with pytest.raises(Unauthorized, match="restricted = yes"):
            calls.put("render", 2026)
        assert calls.count() == 0


def test_what_somebody_wrote_who_is_gone_puts_no_call(db, mallorys):
    gone = set()

    class Policy(DefaultPolicy):
        def principal_now(self, principal, root):
            if principal.id in gone:
                raise Unauthorized(f"{principal.id} is gone")
            return super().principal_now(principal, root)

    open_to_it = {"render": plugin("render", restricted=True)(lambda attempt, year: year)}
    with calls_of(db, "ann", deployment_of(open_to_it, policy=Policy())) as calls:
        calls.put("render", 2026)
        gone.add("mallory")
        with pytest.raises(Unauthorized, match="mallory is gone"):
            calls.put("render", 2026)
        assert calls.count() == 1
