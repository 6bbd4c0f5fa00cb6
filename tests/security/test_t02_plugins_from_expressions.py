# SPDX-License-Identifier: ZPL-2.1
"""T2: a callback cannot leave the sandbox by putting a call of a plugin."""

from __future__ import annotations

import pytest
from persistent.mapping import PersistentMapping

from wsgi_zasync import Unauthorized, plugin
from wsgi_zasync.plugins import Registry

#: Every plugin that is installed, found and not listed: a new one is covered as well.
INSTALLED = sorted(Registry(None).names())


def test_there_is_a_plugin_to_try():
    assert "http.get" in INSTALLED


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("arguments", ["", ", 'http://example.org/'", ", call.id, result"])
def test_no_installed_plugin_is_open_to_expressions(site, name, arguments):
    call = site.put("echo", 7, on_success=f"python: put('{name}'{arguments})")

    site.run()

    with site.calls() as calls:
        [callback] = calls.get(call).callbacks
        assert callback.state == "failed"
        assert callback.error.startswith("Unauthorized")
        assert calls.count() == 1


@pytest.mark.parametrize("name", ["__class__", "http.get\x00", "", "echo", "fail", "nosuch"])
def test_nor_is_what_is_not_declared_open(site, name):
    call = site.put("echo", 7, on_success=f"python: put({name!r})")

    site.run()

    with site.calls() as calls:
        assert calls.get(call).callbacks[0].state == "failed"
        assert calls.count() == 1


@pytest.mark.parametrize(
    ("declared", "is_put"),
    [
        ({"expressions": True, "permission": "ask"}, True),
        ({"expressions": True}, False),
        ({"permission": "ask"}, False),
        ({"expressions": True, "permission": "admin"}, False),
    ],
)
def test_it_takes_the_configuration_and_the_permission(site, declared, is_put):
    # Given a plugin with all that it takes, or all but one thing
    site.plugins["touch"] = plugin("touch", **declared)(lambda attempt: None)
    call = site.put("echo", 7, on_success="python: put('touch').id")

    site.run()

    # Then only the former is put
    with site.calls() as calls:
        [callback] = calls.get(call).callbacks
        assert callback.state == ("done" if is_put else "failed")
        assert is_put or callback.error.startswith("Unauthorized")
        if len(declared) == 1:
            # Whoever wrote the text reads what the configuration lacks
            assert "a permission and expressions = yes in [plugin:touch]" in callback.error
        assert calls.count() == 1 + is_put


def test_the_permission_is_required_at_put_on_every_object_wherever_it_stands(site):
    ran = []
    touch = plugin("touch", permission="edit", runs="transaction")(lambda *args: ran.append(1))
    site.plugins["touch"] = touch
    with site.calls() as calls:
        for name in ("mine", "closed"):
            calls.root[name] = PersistentMapping()
            calls.connection.add(calls.root[name])
        calls.root["closed"].__acl__ = [("Deny", "user:ann", "edit")]

    # Given an object that ann may not edit, hidden as deep as data goes
    for hide in (
        lambda o: o,
        lambda o: [o],
        lambda o: {"x": (1, [{"y": o}])},
        lambda o: {"x": [calls.root["mine"], o]},
    ):
        with site.calls() as calls, pytest.raises(Unauthorized):
            calls.put("touch", calls.root["mine"], hide(calls.root["closed"]))
        with site.calls() as calls:
            assert calls.count() == 0
    with site.calls() as calls:
        calls.put("touch", calls.root["mine"])
    site.run()
    assert ran == [1]


def test_a_published_plugin_opens_nothing(site):
    # Given a worker area in the store that claims to have more than there is
    from wsgi_zasync.store import open_store

    with site.calls() as calls:
        store = open_store(calls.connection)
        store.site.workers["forged"] = store.register_worker("forged", {"evil": None}, ("default",))
    call = site.put("echo", 7, on_success="python: put('evil')")

    site.run()

    with site.calls() as calls:
        assert calls.get(call).callbacks[0].state == "failed"
        assert calls.count() == 1
