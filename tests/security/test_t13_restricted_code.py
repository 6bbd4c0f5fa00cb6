# SPDX-License-Identifier: ZPL-2.1
"""T13: what somebody wrote through Zope's web asks for calls, and others run it.

Scripts and templates are of Zope's own, in a site that runs in a process of its own.
"""

from __future__ import annotations

import pytest

from wsgi_zasync import Call, CallManager, Principal, plugin
from wsgi_zasync.manager import get_manager
from wsgi_zasync.manager.view import CallbackView, Progress
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import memory_db
from wsgi_zasync.web.zope import PERMISSION

MANAGER_SHOWS = {"put", "options", "get", "mine", "count", "cancel", "forget"}
CALL_SHOWS = set(
    "id plugin args kwargs title owner state is_final waiting_reason created due expires started "
    "finished queue priority attempts progress result failure callbacks callbacks_failed "
    "cancel_requested to_dict on_success on_failure on_cancel on_any on_event cancel forget".split()
)

#: How a script begins.
CALLS = "calls = context.REQUEST.environ['wsgi_zasync.manager']\n"

#: What the script of ``seen`` looks at, and what of it there is to see.
LOOKED_AT = {
    "calls": (CallManager, MANAGER_SHOWS),
    "call": (Call, CALL_SHOWS),
    "call.owner": (Principal, {"id", "source", "title", "roles"}),
    "call.progress": (Progress, {"fraction", "message"}),
    "call.callbacks[0]": (CallbackView, {"on", "text", "state", "value", "error"}),
}

PUTS = {
    "script": CALLS + "return calls.put('open').on_success('string:done').id",
    "template": """<p tal:content="python: request.environ['wsgi_zasync.manager'].put('open')
        .on_success('string:done').id"></p>""",
    "dtml": """<dtml-let calls="REQUEST.environ['wsgi_zasync.manager']" call="calls.put('open')">
        <dtml-var "call.on_success('string:done').id"></dtml-let>""",
    # A path hands out the method itself, and Zope's own code calls it.
    "path": """<p tal:define="calls request/environ/wsgi_zasync.manager; put nocall:calls/put;
        call python: put('open')" tal:content="python: call.on_success('string:done').id"></p>""",
}


@pytest.fixture
def ann(zope_site):
    """Who runs what others have written."""
    return zope_site.user("Caller")


@pytest.fixture
def mallory(zope_site):
    """Who writes it."""
    return zope_site.user("Caller")


@pytest.fixture
def run(zope_site, ann):
    """Let ann run something of somebody's; returns what it answers."""

    def published(owner, text, user=ann, **form):
        answer = zope_site.ask(f"/{zope_site.script(owner, text)}", user, **form)
        assert answer.status in (200, 204), zope_site.output()
        return answer.body.decode().strip()

    return published


@pytest.fixture
def stored(zope_site, ann):
    """Each call's plugin, the user who wrote what has it put, and the authors of its callbacks."""

    def look(user=ann):
        calls = zope_site.stored(user)
        return [(call["plugin"], call["author"], call["callbacks"]) for call in calls]

    return look


def author(user):
    return ["acl_users", user]


@pytest.mark.parametrize("text", PUTS.values(), ids=PUTS)
def test_a_script_puts_in_its_authors_name_too(run, mallory, stored, text):
    run(mallory, text)

    assert stored() == [("open", author(mallory), [author(mallory)])]


def test_a_script_cannot_say_that_somebody_else_wrote_it(run, mallory, stored):
    script = """
ann = calls.put('open').owner
calls.options(author=ann).put('open').on_any('string:done')
calls.options(author=ann).mine()[-1].on_any('string:done')
"""
    run(mallory, CALLS + script)

    assert stored() == [("open", author(mallory), [author(mallory)])] * 2


def test_a_script_that_somebody_elses_calls_puts_in_its_own_authors_name(
    zope_site, run, mallory, stored
):
    inner = zope_site.script(mallory, CALLS + "calls.put('open')")

    run(zope_site.user("Caller"), f"context.restrictedTraverse('{inner}')()")

    assert stored() == [("open", author(mallory), [])]


def test_a_call_that_the_application_put_is_given_a_callback_by_a_script(
    zope_site, ann, mallory, stored
):
    script = zope_site.script(mallory, "##parameters=call\ncall.on_any('string:done')")

    zope_site.ask("/@@handing-over", ann, script=script)

    assert stored() == [("closed", None, [author(mallory)])]


# -- what it may not put -------------------------------------------------------------------------


def says(statement):
    """A script that says what the statement is refused with."""
    return f"{CALLS}try:\n  {statement}\nexcept Exception as error:\n  return str(error)"


def test_a_plugin_must_be_open_to_it(run, mallory, stored):
    assert "restricted = yes" in run(mallory, says("calls.put('closed')"))
    assert stored() == []


def test_the_plugins_permission_is_required_of_the_author_too(zope_site, run, mallory, stored):
    # Given somebody who has it
    zope_site.say("user", name="editor", roles=["Caller"])
    refused = f"{mallory!r} needs the permission 'edit'"

    assert refused in run(mallory, says("calls.put('guarded')"), "editor")
    assert stored("editor") == []

    run("editor", CALLS + "calls.put('guarded')", "editor")
    assert stored("editor") == [("guarded", author("editor"), [])]


@pytest.mark.parametrize("lacks_it", ["owner", "runner"])
@pytest.mark.parametrize("statement", ["calls.put('open')", "calls.mine()[0].on_any('string:x')"])
def test_zopes_permission_is_required_of_both(zope_site, run, stored, lacks_it, statement):
    # Given a call that the application has put
    owner, runner = (
        zope_site.user(*([] if who == lacks_it else ["Caller"])) for who in ("owner", "runner")
    )
    zope_site.ask("/@@handing-over", runner, script=zope_site.script(owner, "##parameters=call"))

    assert PERMISSION in run(owner, says(statement), runner)
    assert stored(runner) == [("closed", None, [])]


def test_an_owner_who_is_gone_may_nothing(zope_site, run, mallory, stored):
    script = zope_site.script(mallory, says("calls.put('open')"))
    zope_site.say("user", name=mallory, roles=None)

    answer = zope_site.ask(f"/{script}", zope_site.user("Caller"))

    assert answer.status == 200
    assert PERMISSION in answer.body.decode()


def test_proxy_roles_stand_for_those_of_who_runs_a_script(zope_site, mallory, stored):
    runner = zope_site.user()
    script = zope_site.script(mallory, PUTS["script"], proxy_roles=["Caller"])

    zope_site.ask(f"/{script}", runner)

    assert stored(runner) == [("open", author(mallory), [author(mallory)])]


def test_code_of_the_applications_that_a_script_calls_may_no_more(zope_site, ann, mallory, stored):
    script = zope_site.script(mallory, "return context.restrictedTraverse('@@trusting')()")

    assert zope_site.ask("/@@trusting", ann).status == 200
    assert zope_site.ask(f"/{script}", ann).status == 401

    assert stored() == [("closed", None, [])]


def test_what_a_script_has_a_template_without_owner_call_is_the_scripts(run, mallory, stored):
    script = """
given = lambda: calls.put('open').on_any('string:done').id
return context.restrictedTraverse('@@rendering')(given)
"""
    run(mallory, CALLS + script)

    assert stored() == [("open", author(mallory), [author(mallory)])]


def test_a_template_without_owner_lends_a_script_no_permission(zope_site, run, ann, stored):
    owner = zope_site.user()
    script = "given = lambda: calls.put('open').id\n"

    said = run(owner, CALLS + script + says("context.restrictedTraverse('@@rendering')(given)"))

    assert PERMISSION in said
    assert stored() == []


def test_users_of_one_name_in_two_folders_are_two_authors_and_two_owners(zope_site, mallory):
    # Given somebody who is called as mallory is, in a folder of the site
    folder = f"folder-{mallory}"
    zope_site.say("folder", id=folder)
    zope_site.say("user", name=mallory, roles=["Caller"], folder=folder)
    script = zope_site.script(mallory, CALLS + "return calls.put('open').id", folder=folder)

    answer = zope_site.ask(f"/{folder}/{script}", mallory)

    assert answer.status == 200
    (call,) = zope_site.stored(mallory, source=f"{folder}/acl_users")
    assert call["author"] == [f"{folder}/acl_users", mallory]
    assert zope_site.stored(mallory) == []


# -- what is the application's -------------------------------------------------------------------


def test_a_view_is_the_applications(zope_site, ann, stored):
    zope_site.ask("/@@put", ann)

    assert stored() == [("closed", None, [None])]


def test_what_a_view_does_after_a_script_has_run_is_the_applications(
    zope_site, ann, mallory, stored
):
    script = zope_site.script(mallory, "##parameters=call\ncall.on_any('string:done')")

    zope_site.ask("/@@handing-over", ann, script=script, after="string:after")

    assert stored() == [("closed", None, [author(mallory), None])]


def test_a_script_without_an_owner_is_the_applications(run, stored):
    run("", CALLS + "calls.put('closed').on_any('string:done')")

    assert stored() == [("closed", None, [None])]


def test_an_author_that_is_given_is_that_of_texts_for_each_of_ones_calls():
    def app(environ, start_response):
        calls = get_manager(environ)
        calls.put("open")
        calls.options(author=Principal("mallory", "acl_users")).mine()[0].on_any("string:done")
        start_response("200 OK", [])
        return []

    db = memory_db()
    site = CallManagerMiddleware(app, db, plugins={"open": plugin("open")(lambda attempt: None)})
    site({"PATH_INFO": "/", "REMOTE_USER": "ann"}, lambda *response: None)

    with db.transaction() as connection:
        (record,) = open_store(connection).oldest(("", "ann"))
        assert record.author is None
        assert [each.author for each in record.all_callbacks()] == [("acl_users", "mallory")]
    db.close()


# -- what it sees --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", LOOKED_AT)
def test_a_script_sees_what_is_listed_and_nothing_else(run, mallory, value):
    cls, shown = LOOKED_AT[value]
    script = f"""
call = calls.put('open').on_any('string:done')
looked_at = {value}
seen = []
for name in context.REQUEST.form['names'].split():
    try:
        getattr(looked_at, name)
    except Exception as error:
        if 'not allowed to access' in str(error):
            continue
    seen.append(name)
return ' '.join(seen)
"""
    names = " ".join({*dir(cls), *getattr(cls, "__slots__", ()), "_record", "_access"})

    assert set(run(mallory, CALLS + script, names=names).split()) == shown


def test_a_script_cannot_say_who_asks(run, mallory, ann, stored):
    assert run(mallory, says("calls.principal = 'bob'"))
    assert run(mallory, says("setattr(calls, 'principal', 'bob')"))

    run(mallory, CALLS + "calls.put('open')")
    assert stored() == [("open", author(mallory), [])]


@pytest.mark.parametrize("name", ["root", "connection", "principal", "bind", "serve"])
def test_a_path_does_not_reach_what_is_not_listed(zope_site, ann, mallory, name):
    text = f'<p tal:content="structure nocall:request/environ/wsgi_zasync.manager/{name}"></p>'

    answer = zope_site.ask(f"/{zope_site.script(mallory, text)}", ann)

    assert answer.status == 404


def test_zopes_managers_have_the_permission_and_can_grant_it(zope_site):
    assert PERMISSION in zope_site.say("permissions")
    assert zope_site.say("roles", permission=PERMISSION) == ["Manager"]
