# SPDX-License-Identifier: ZPL-2.1
"""Callback expressions, in the transaction that records the outcome."""

from __future__ import annotations

import pytest
from ZODB.POSException import ConflictError

from tests.integration import stepping
from tests.integration.shelves import Shelf
from wsgi_zasync import (
    CallNotFound,
    CallState,
    ConfigurationError,
    InvalidArguments,
    Principal,
    QuotaExceeded,
    SecurityPolicy,
    Unauthorized,
    expose,
)
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.worker import Worker


class Policy(DefaultPolicy):
    """A policy that notes whom it was asked about, and fails when told to."""

    def __init__(self, *tables):
        super().__init__(*tables)
        self.asked = []
        self.error = None
        self.refuse_after = None

    def allows(self, principal, permission, object):
        if self.error is not None:
            raise self.error
        self.asked.append(principal.id)
        return super().allows(principal, permission, object)


@pytest.fixture
def site():
    found = Site()
    yield found
    found.close()


class Site(stepping.Site):
    """Shelves of ann, bob and cleo, who may edit; dan may not."""

    def __init__(self):
        editors = {name: ["editor"] for name in ("ann", "bob", "cleo")}
        self.policy = Policy(editors, {"edit": "role:editor", "ask": "role:editor"})
        super().__init__(policy=self.policy)
        self.add("echo", lambda attempt, value=None: value)
        self.add("fail", self._fail)
        self.add("write", self._write, runs="transaction")
        self.add("open", lambda attempt, v=0: v, expressions=True, permission="ask")
        self.add("closed", lambda attempt: 1, permission="ask")
        self.add("unguarded", lambda attempt: 1, expressions=True)
        self.keep(shelf=Shelf())

    @staticmethod
    def _fail(attempt):
        raise ValueError("no luck")

    @staticmethod
    def _write(attempt, value):
        attempt.root["written"] = (*attempt.root.get("written", ()), value)
        return value

    def put(self, *args, user="ann", on="on_success", text, **names):
        with self.calls(user) as calls:
            call = calls.put(*args)
            given = {k: calls.root[v] if v == "shelf" else v for k, v in names.items()}
            getattr(call, on)(text, **given)
            return call.id

    def callbacks(self, call, user="ann"):
        with self.calls(user) as calls:
            return calls.get(call).callbacks

    def items(self):
        with self.calls() as calls:
            return calls.root["shelf"].items


def test_a_callback_writes_as_its_owner_in_the_commit_of_the_outcome(site):
    call = site.put("echo", 7, text="python: shelf.add(result)", shelf="shelf")

    site.worker.run_once()

    [callback] = site.callbacks(call)
    assert (callback.state, callback.value, callback.error) == ("done", 1, None)
    assert site.items() == (7,)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("string:${user/id} has ${result} from ${call/plugin}", "ann has 7 from echo"),
        ("call/state", "succeeded"),
        ("call/args", (7,)),
        ("python: now.year", 2026),
        ("result", 7),
        ("name", "news"),
        ("root", None),
        ("not: result", False),
    ],
)
def test_a_callback_sees_its_call(site, text, value):
    call = site.put("echo", 7, text=text, name="news")

    site.worker.run_once()

    [callback] = site.callbacks(call)
    assert (callback.value, callback.error) == (value, None)


@pytest.mark.parametrize("text", ["python: 'x' * 2000", "shelf", "python: [shelf]"])
def test_of_what_a_callback_gives_only_what_is_small_and_plain_is_kept(site, text):
    call = site.put("echo", 7, text=text, shelf="shelf")

    site.worker.run_once()

    [callback] = site.callbacks(call)
    assert (callback.state, callback.value, callback.error) == ("done", None, None)


def test_a_policy_that_mistakes_an_owner_for_another_evaluates_nothing_and_hides_nothing(site):
    # Given a directory that mixes users up by the time that a call has ended
    found = site.policy.principal_now

    def mix_up(attempt):
        site.policy.principal_now = lambda principal, root: Principal("bob")

    site.add("mix up", mix_up)
    call = site.put("mix up", text="python: shelf.add(user.id)", shelf="shelf")

    site.worker.run_once()

    site.policy.principal_now = found
    [callback] = site.callbacks(call)
    assert callback.error.startswith("Unauthorized: the policy gave another principal")
    assert site.items() == ()


def test_a_callback_of_a_failure_sees_the_failure_and_no_traceback(site):
    call = site.put("fail", on="on_failure", text="string:${failure/type}: ${failure/message}")
    other = site.put("fail", on="on_failure", text="failure/traceback_text")

    site.worker.run_once()

    assert site.callbacks(call)[0].value == "ValueError: no luck"
    assert "Unauthorized" in site.callbacks(other)[0].error


def test_only_the_callbacks_of_the_end_are_evaluated(site):
    with site.calls() as calls:
        call = calls.put("fail")
        call.on_success("string:s").on_failure("string:f").on_cancel("string:c").on_any("string:a")

    site.worker.run_once()

    assert [c.value for c in site.callbacks(call.id)] == [None, "f", None, "a"]
    assert [c.state for c in site.callbacks(call.id)] == ["pending", "done", "pending", "done"]


def test_who_may_not_may_not_by_a_callback_either(site):
    call = site.put("echo", 7, user="dan", text="python: shelf.add(result)", shelf="shelf")

    site.worker.run_once()

    [callback] = site.callbacks(call, "dan")
    assert callback.error.startswith("Unauthorized")
    assert site.items() == ()
    with site.calls("dan") as calls:
        assert calls.get(call).state == CallState.SUCCEEDED
        assert calls.get(call).callbacks_failed == 1


def test_a_callback_that_fails_is_rolled_back_alone(site):
    with site.calls() as calls:
        shelf = calls.root["shelf"]
        call = calls.put("write", 1)
        call.on_success("python: shelf.add('first')", shelf=shelf)
        call.on_success("python: [shelf.add('undone'), missing]", shelf=shelf)
        call.on_success("python: shelf.add('last')", shelf=shelf)

    site.worker.run_once()

    assert [c.state for c in site.callbacks(call.id)] == ["done", "failed", "done"]
    assert site.items() == ("first", "last")
    with site.calls() as calls:
        assert calls.root["written"] == (1,)


def test_callbacks_that_fail_are_one_line_of_the_log(site, caplog):
    call = site.put("echo", text="missing")

    site.worker.run_once()

    [line] = [r for r in caplog.records if getattr(r, "action", None) == "callbacks failed"]
    assert line.call == call
    assert line.getMessage().endswith("attempt=1 (1 callback)")


@pytest.mark.parametrize("name", ["echo", "write"])
def test_what_a_callback_leaves_unstorable_fails_inside_its_savepoint(site, name):
    with site.calls() as calls:
        shelf = calls.root["shelf"]
        call = calls.put(name, 1)
        call.on_success("python: shelf.spoil()", shelf=shelf)
        call.on_success("python: shelf.add(2)", shelf=shelf)

    site.worker.run_once()

    assert [c.state for c in site.callbacks(call.id)] == ["failed", "done"]
    assert site.items() == (2,)


def test_one_of_a_hundred_that_cannot_be_stored_spoils_nothing(site):
    # Given a hundred ended calls of one owner, one with an effect that cannot be stored
    with site.calls() as calls:
        shelf = calls.root["shelf"]
        ids = []
        for n in range(100):
            text = "python: shelf.spoil()" if n == 50 else "python: shelf.add(result)"
            ids.append(calls.put("echo", n).on_success(text, shelf=shelf).id)

    site.worker.run_once()

    # Then all the others are whole
    with site.calls() as calls:
        assert calls.count("succeeded") == 100
        assert [calls.get(i).callbacks_failed for i in ids] == [int(n == 50) for n in range(100)]
    assert sorted(site.items()) == [n for n in range(100) if n != 50]


def test_owners_never_share_a_user_or_an_effect(site):
    # Given three owners interleaved, each second callback failing at another depth
    ids = []
    for n in range(12):
        user = ("ann", "bob", "cleo")[n % 3]
        text = "string:${user/id}" if n % 2 else "python: [shelf.add(user.id), nowhere]"
        ids.append((user, n, site.put("echo", n, user=user, text=text, shelf="shelf")))

    site.worker.run_once()

    # Then each is evaluated as its own
    for user, n, call in ids:
        [callback] = site.callbacks(call, user)
        assert callback.value == (user if n % 2 else None)
    assert site.items() == ()


def test_a_policy_that_fails_delays_a_callback_and_keeps_the_outcome(site):
    call = site.put("echo", 7, text="python: shelf.add(result)", shelf="shelf")

    site.policy.error = ConnectionError("directory is down")
    site.worker.run_once()
    with site.calls() as calls:
        assert calls.get(call).state == CallState.SUCCEEDED
    assert [c.state for c in site.callbacks(call)] == ["pending"]
    site.policy.error = None
    site.clock.advance(10)
    site.worker.run_once()

    assert [c.state for c in site.callbacks(call)] == ["done"]
    assert site.items() == (7,)


@pytest.mark.parametrize("error", [ConnectionError, SystemExit])
@pytest.mark.parametrize("question", ["principal_now", "root_for", "allows"])
def test_whatever_the_policy_cannot_tell_delays_a_callback(site, question, error, monkeypatch):
    answer, asked = getattr(site.policy, question), []

    def fails_after_the_attempt_began(*about):
        asked.append(about)
        if question == "principal_now" and len(asked) == 1:
            return answer(*about)
        raise error("directory is down")

    call = site.put("echo", 7, text="python: [shelf.add(result), put('open').id]", shelf="shelf")
    monkeypatch.setattr(site.policy, question, fails_after_the_attempt_began)
    site.worker.run_once()
    assert [c.state for c in site.callbacks(call)] == ["pending"]

    monkeypatch.undo()
    site.clock.advance(10)
    site.worker.run_once()
    assert [c.state for c in site.callbacks(call)] == ["done"]


@pytest.mark.parametrize("error", [InvalidArguments, ConfigurationError, QuotaExceeded])
@pytest.mark.parametrize(
    ("question", "before"), [("principal_now", 2), ("root_for", 1), ("allows", 0)]
)
def test_an_error_of_ours_that_the_policy_raises_in_a_put_delays_the_callback(
    site, question, before, error, monkeypatch
):
    # Given a policy that fails when a callback's put asks it, after the attempt and the callback
    answer, asked = getattr(site.policy, question), []

    def fails_in_the_put(*about):
        asked.append(about)
        if len(asked) <= before:
            return answer(*about)
        raise error("the directory knows no such group")

    call = site.put("echo", 7, text="python: put('open').id")
    monkeypatch.setattr(site.policy, question, fails_in_the_put)
    site.worker.run_once()
    assert len(asked) == before + 1
    assert [c.state for c in site.callbacks(call)] == ["pending"]

    monkeypatch.undo()
    site.clock.advance(10)
    site.worker.run_once()
    assert [c.state for c in site.callbacks(call)] == ["done"]


def test_no_root_is_shown_where_the_policy_says_no_or_knows_another_owner(site, monkeypatch):
    def no(*args):
        raise Unauthorized("not for you")

    monkeypatch.setattr(site.policy, "root_for", no)
    call = site.put("echo", text="string:x")
    site.worker.run_once()
    assert site.callbacks(call)[0].error.startswith("Unauthorized")

    monkeypatch.undo()
    with site.calls() as calls:
        call = calls.put("echo").on_success("user/id")
        record_oid = call._record._p_oid
    asked = []

    def another(principal, root):
        asked.append(principal)
        return principal if len(asked) == 1 else Principal("bob")

    monkeypatch.setattr(site.policy, "principal_now", another)
    site.worker.run_once()
    monkeypatch.undo()
    with site.calls() as calls:
        # Read as it is stored: an owner who was not found has nothing any more.
        record = calls.connection.get(record_oid)
        assert record.state == CallState.SUCCEEDED
        [callback] = record.all_callbacks()
    assert (callback.state, callback.value) == ("failed", None)
    assert callback.error.startswith("Unauthorized")


def test_what_is_owed_survives_its_worker(site):
    call = site.put("echo", 7, text="python: shelf.add(result)", shelf="shelf")
    site.policy.error = ConnectionError("directory is down")
    site.worker.run_once()
    site.policy.error = None

    other = Worker(site.db, plugins=site.plugins, clock=site.clock, policy=site.policy)
    other.run_once()
    other.stop()

    assert site.items() == (7,)
    assert [c.state for c in site.callbacks(call)] == ["done"]


def test_a_demotion_that_commits_meanwhile_is_seen(site):
    # Given a policy that reads an ACL, which somebody else changes during the evaluation
    with site.calls() as calls:
        calls.root["shelf"].__acl__ = [("Allow", "user:ann", "edit")]
    demoted = []
    inner = site.policy.allows

    def allows(principal, permission, object):
        answer = inner(principal, permission, object)
        if not demoted:
            demoted.append(True)
            with site.calls("bob") as calls:
                calls.root["shelf"].__acl__ = [("Deny", "user:ann", "edit")]
        return answer

    site.policy.allows = allows
    call = site.put("echo", 7, text="python: shelf.add(result)", shelf="shelf")

    site.worker.run_once()

    assert demoted
    assert site.items() == ()
    assert site.callbacks(call)[0].error.startswith("Unauthorized")


def test_callbacks_that_always_conflict_do_not_hold_the_outcome_back(site):
    conflicts = []

    def clash():
        conflicts.append(1)
        raise ConflictError("somebody was faster")

    site.worker.stop()
    site.worker = Worker(
        site.db,
        plugins=site.plugins,
        clock=site.clock,
        policy=site.policy,
        exposed={"clash": expose()(clash)},
    )
    call = site.put("echo", 7, text="python: clash()")

    site.worker.run_once()

    with site.calls() as calls:
        assert calls.get(call).state == CallState.SUCCEEDED
    assert site.callbacks(call)[0].state == "failed"
    assert "ConflictError" in site.callbacks(call)[0].error
    assert len(conflicts) > 3


# -- put from a callback ---------------------------------------------------------------------------


def test_a_callback_makes_another_call_as_the_same_owner(site):
    call = site.put("echo", 7, text="python: put('open', result).id")

    site.worker.run_once()

    made = site.callbacks(call)[0].value
    with site.calls() as calls:
        assert calls.get(made).result == 7
        assert calls.get(made).owner == Principal("ann")
        record = calls.get(made)._record
        assert (record.depth, record.ancestor) == (1, call)


@pytest.mark.parametrize(
    ("user", "name"), [("ann", "closed"), ("ann", "unguarded"), ("dan", "open"), ("ann", "nosuch")]
)
def test_a_callback_puts_only_what_is_open_to_it(site, user, name):
    call = site.put("echo", 7, user=user, text=f"python: put('{name}')")

    site.worker.run_once()

    assert site.callbacks(call, user)[0].state == "failed"
    with site.calls(user) as calls:
        assert calls.count() == 1


def test_a_callback_tells_its_owner_what_is_kept_with_the_call(site):
    call = site.put("echo", {"n": 7}, text="python: emit(result) or emit(['done', call.id])")
    with site.calls() as calls:
        before = calls.get(call)._record.size

    site.worker.run_once()

    with site.calls() as calls:
        found = calls.get(call)
        assert [(e.number, e.source, e.message) for e in found.events] == [
            (1, "callback", {"n": 7}),
            (2, "callback", ["done", call]),
        ]
        assert found.events[0].when == site.clock.now()
        assert found._record.size > before + len(call)
        assert "events" not in found.to_dict()
    with site.calls("bob") as calls, pytest.raises(CallNotFound):
        calls.get(call)


def test_what_a_long_callback_tells_is_told_once(site):
    call = site.put("echo", text="python: [emit('x' * 500), len([n for n in range(9000)])][1]")
    with site.calls() as calls:
        size = calls.get(call)._record.size

    while site.worker.run_once():
        pass

    with site.calls() as calls:
        found = calls.get(call)
        assert found.callbacks[0].value == 9000
        assert [event.message for event in found.events] == ["x" * 500]
        assert found._record.size < size + 600
        tally = calls._context(calls.principal).store.tally(calls.principal.owner)
        assert tally.bytes == found._record.size


def test_what_was_told_is_counted_for_its_owner_and_given_back(site):
    call = site.put("echo", text="python: emit('x' * 5000)")
    with site.calls() as calls:
        before = calls._context(calls.principal).store.tally(calls.principal.owner).bytes

    site.worker.run_once()

    with site.calls() as calls:
        assert (
            calls._context(calls.principal).store.tally(calls.principal.owner).bytes
            >= before + 5000
        )
        calls.forget(call)
        assert calls._context(calls.principal).store.tally(calls.principal.owner).bytes == 0


@pytest.mark.parametrize(
    "text",
    [
        "python: emit(shelf)", "python: emit([shelf])", "python: emit('x' * 20000)",
        "python: emit()",
        "python: emit(message='x')", "python: [emit(n) for n in range(101)]", "python: emit(emit)",
        "emit", "python: [emit(1), 1 / 0]",
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_not_and_leaves_nothing(site, text):
    call = site.put("echo", text=text, shelf="shelf")

    site.worker.run_once()

    [callback] = site.callbacks(call)
    assert callback.state == "failed"
    with site.calls() as calls:
        found = calls.get(call)
        assert found.events == []
        assert found.state == "succeeded"


@pytest.mark.parametrize("arguments", ["result", "v=result"])
def test_what_a_callback_puts_is_given_its_arguments(site, arguments):
    call = site.put("echo", 7, text=f"python: put('open', {arguments}).id")

    site.worker.run_once()
    site.worker.run_once()

    [callback] = site.callbacks(call)
    with site.calls() as calls:
        assert calls.get(callback.value).result == 7


def test_a_callback_puts_only_so_many_calls(site):
    call = site.put("echo", text="python: [put('open').id for n in range(101)]")

    site.worker.run_once()

    [callback] = site.callbacks(call)
    assert callback.state == "failed"
    assert "max_callback_puts = 100" in callback.error
    with site.calls() as calls:
        assert calls.count() == 1


@pytest.mark.parametrize("name", ["put", "emit"])
def test_nothing_else_is_bound_to_the_names_of_effects(site, name):
    with site.calls() as calls, pytest.raises(InvalidArguments, match="is taken"):
        calls.put("echo").on_success("string:x", **{name: 1})


def test_a_call_that_was_put_by_a_callback_that_fails_does_not_exist(site):
    call = site.put("echo", 7, text="python: [put('open', 1), nowhere]")

    site.worker.run_once()

    assert site.callbacks(call)[0].state == "failed"
    with site.calls() as calls:
        assert calls.count() == 1


def test_text_of_an_author_may_do_no_more_than_the_author(site):
    with site.calls("ann") as calls:
        by_dan = calls.options(author=Principal("dan")).put("echo", 1)
        by_dan.on_success("python: shelf.add('trojan')", shelf=calls.root["shelf"])
        putting = calls.options(author=Principal("dan")).put("echo", 1)
        putting.on_success("python: put('open', 1)")

    site.worker.run_once()

    assert site.callbacks(by_dan.id)[0].error.startswith("Unauthorized")
    assert site.callbacks(putting.id)[0].state == "failed"
    assert site.items() == ()


# -- late ones -------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", ["thread", "transaction"])
@pytest.mark.parametrize("end", ["commit", "abort"])
def test_exposed_code_that_ends_the_transaction_fails_its_callback_and_spoils_no_other_call(
    end, runs
):
    ran = []

    @expose()
    def meddle(shelf):
        ran.append(end)
        manager = shelf._p_jar.transaction_manager
        getattr(manager, end)()
        manager.begin()

    # Given three calls that end together, and the callback of one of them that does so
    site = stepping.Site(exposed={"meddle": meddle})
    site.add("echo", lambda attempt, value: value, runs=runs)
    site.keep(shelf=Shelf())
    ids = []
    for number in range(3):
        with site.calls() as calls:
            call = calls.put("echo", number)
            if number == 1:
                call.on_success("python: meddle(shelf)", shelf=calls.root["shelf"])
            ids.append(call.id)
    service = site.service("first", one_by_one=False)

    for _ in range(5):
        site.work(service)
        site.clock.advance(31)

    # Then it is given up soon, and all of them have ended
    with site.calls() as calls:
        (callback,) = calls.get(ids[1]).callbacks
    assert callback.state == "failed"
    assert "ended the worker's transaction" in callback.error
    assert len(ran) < 20
    assert {site.state(each) for each in ids} == {CallState.SUCCEEDED}
    site.close()


def test_a_callback_declared_later_is_evaluated(site):
    with site.calls() as calls:
        call = calls.put("echo", 7).id
    with site.calls() as calls:
        calls.get(call).on_success("python: shelf.add(result)", shelf=calls.root["shelf"])

    site.worker.run_once()

    assert [c.state for c in site.callbacks(call)] == ["done"]
    assert site.items() == (7,)


@pytest.mark.parametrize("name", ["echo", "write"])
def test_a_callback_declared_just_before_the_end_commits_is_evaluated_once(site, name):
    # Given a callback that commits after the completing transaction has begun
    with site.calls() as calls:
        call = calls.put(name, 7).id
    late = []

    def declare_late(*_):
        if not late:
            late.append(True)
            with site.calls() as calls:
                calls.get(call).on_success("python: shelf.add(result)", shelf=calls.root["shelf"])

    original = Policy.principal_now

    def principal_now(self, principal, root):
        declare_late()
        return original(self, principal, root)

    site.policy.principal_now = principal_now.__get__(site.policy)
    site.worker.run_once()

    assert late
    assert [c.state for c in site.callbacks(call)] == ["done"]
    assert site.items() == (7,)


def test_failed_callbacks_can_be_asked_for_again(site):
    call = site.put("echo", 7, user="dan", text="python: shelf.add(result)", shelf="shelf")
    site.worker.run_once()
    assert site.callbacks(call, "dan")[0].state == "failed"

    site.policy._roles["dan"] = ["editor"]
    with site.calls("dan") as calls:
        assert calls.get(call).retry_callbacks() == 1
    site.worker.run_once()

    assert site.callbacks(call, "dan")[0].state == "done"
    assert site.items() == (7,)


def test_what_was_done_is_not_done_again_with_what_had_failed(site):
    with site.calls() as calls:
        call = calls.put("echo", 7)
        call.on_success("python: shelf.add(result)", shelf=calls.root["shelf"])
        call.on_success("python: nowhere")
        call.on_failure("python: nowhere")
    site.worker.run_once()

    with site.calls() as calls:
        assert calls.get(call.id).retry_callbacks() == 1
    site.worker.run_once()

    assert [c.state for c in site.callbacks(call.id)] == ["done", "failed", "pending"]
    assert site.items() == (7,)


def test_the_policies_fit_the_protocol(site):
    assert isinstance(site.policy, SecurityPolicy)
    assert issubclass(Unauthorized, Exception)
