# SPDX-License-Identifier: ZPL-2.1
"""Calls as their owners see them in Zope: the view that docs/howto/host-zope.rst mounts."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def ann(zope_site):
    return zope_site.user()


@pytest.fixture
def id(zope_site, ann):
    """A call of ann's."""
    return zope_site.ask("/@@put", ann).json["id"]


@pytest.fixture
def proof(zope_site):
    """The headers of a request that may change something."""
    return {"Content-Type": "application/json", "X-Zasync": "1", "Origin": zope_site.origin}


def test_an_owner_sees_a_call_from_the_put_to_its_result(zope_site, ann):
    # Given a call with an object of Zope's, and with a callback
    id = zope_site.ask("/@@put-folder", ann).json
    waiting = zope_site.ask(f"/@@my-calls/calls/{id}", ann).json

    # When a worker has run it
    zope_site.say("run")

    # Then it is the owner's to see
    call = zope_site.ask(f"/@@my-calls/calls/{id}", ann).json
    assert waiting["state"] == "waiting"
    assert (call["state"], call["callbacks"][0]["value"]) == ("succeeded", "done")
    result = zope_site.ask(f"/@@my-calls/calls/{id}/result", ann)
    assert "$ref" in result.json["result"]


def test_a_script_sees_the_result_as_an_object_of_zopes(zope_site, ann):
    id = zope_site.ask("/@@put-folder", ann).json
    zope_site.say("run")
    script = "return context.REQUEST.environ['wsgi_zasync.manager'].get(call).result.getId()"

    answer = zope_site.ask(
        f"/{zope_site.script(ann, f'##parameters=call{chr(10)}{script}')}", ann, call=id
    )

    assert (answer.status, answer.body) == (200, b"acl_users")


@pytest.mark.parametrize("mount", ["", "/main", "/VirtualHostBase/http/a.example:80/_vh_sub"])
def test_links_lead_to_where_it_is_mounted(zope_site, ann, id, mount):
    begins = {"/VirtualHostBase/http/a.example:80/_vh_sub": "/sub"}.get(mount, mount)
    path = mount.replace("/_vh", "/VirtualHostRoot/_vh") + f"/@@my-calls/calls/{id}"

    links = zope_site.ask(path, ann).json["links"]

    assert links["self"] == f"{begins}/%40%40my-calls/calls/{id}"
    if begins == mount:
        assert zope_site.ask(links["self"], ann).status == 200


def test_a_client_that_has_it_gets_nothing_again(zope_site, ann, id):
    path = f"/@@my-calls/calls/{id}"
    etag = zope_site.ask(path, ann, "HEAD").headers["ETag"]

    again = zope_site.ask(path, ann, headers={"If-None-Match": etag})

    assert (again.status, again.body) == (304, b"")


def test_the_call_of_somebody_else_is_not_there(zope_site, id):
    assert zope_site.ask(f"/@@my-calls/calls/{id}", zope_site.user()).status == 404
    assert zope_site.ask(f"/@@my-calls/calls/{id}").status == 404
    assert zope_site.ask("/@@my-calls/calls").status == 403


@pytest.mark.parametrize(("method", "what"), [("DELETE", ""), ("POST", "/cancel")])
def test_a_request_that_changes_something_is_zopes_transaction(
    zope_site, ann, id, proof, method, what
):
    path = f"/@@my-calls/calls/{id}"
    assert zope_site.ask(path + what, ann, method).status == 403

    assert zope_site.ask(path + what, ann, method, proof).json["state"] == "cancelled"

    assert zope_site.ask(path, ann).json["state"] == "cancelled"
    assert zope_site.ask(f"{path}/forget", ann, "POST", proof).status == 204
    assert zope_site.stored(ann) == []


def test_an_address_that_is_none_is_not_found(zope_site, ann):
    assert zope_site.ask("/@@my-calls", ann).status == 404
    assert zope_site.ask("/@@my-calls/elsewhere", ann).status == 404
    assert zope_site.ask("/_zasync/calls", ann).status == 404
