# SPDX-License-Identifier: ZPL-2.1
"""T19: every limit at n and at n + 1; over it nothing is written, and chains end."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from hashlib import blake2b
from itertools import count, islice

import pytest

from wsgi_zasync import Failure, InvalidArguments, Principal, QuotaExceeded
from wsgi_zasync.manager.putting import Lineage
from wsgi_zasync.settings import Quotas
from wsgi_zasync.store import open_store


def test_open_calls(make_site):
    site = make_site(max_open_calls=5)
    for _ in range(5):
        site.put("echo")

    with pytest.raises(QuotaExceeded, match="max_open_calls"):
        site.put("echo")

    with site.calls() as calls:
        assert calls.count() == 5
    site.put("echo", user="bob")
    site.run()
    site.put("echo")


def test_open_calls_in_one_transaction(make_site):
    site = make_site(max_open_calls=5)
    with site.calls() as calls:
        for _ in range(5):
            calls.put("echo")
        with pytest.raises(QuotaExceeded):
            calls.put("echo")
    with site.calls() as calls:
        assert calls.count() == 5


def test_stored_calls(make_site):
    site = make_site(max_stored_calls=5)
    first = [site.put("echo") for _ in range(5)][0]
    site.run()

    with pytest.raises(QuotaExceeded, match="max_stored_calls"):
        site.put("echo")

    with site.calls() as calls:
        calls.forget(first)
    site.put("echo")


def test_bytes_of_an_owner(make_site):
    site = make_site(max_owner_bytes=1000)
    with site.calls() as calls:
        calls.put("echo", "x" * 900)
    with pytest.raises(QuotaExceeded, match="max_owner_bytes"):
        site.put("echo", "x" * 101)
    with site.calls() as calls:
        assert calls.count() == 1


def test_bytes_of_what_failures_say_are_an_owners_too(make_site):
    site = make_site(max_owner_bytes=1500)
    site.plugins["fail"] = _failing

    def tally():
        with site.calls() as calls:
            return calls._context(calls.principal).store.tally(("", "ann"))

    # Given a call that has failed with much text, which is kept with its traceback
    call = site.put("fail")
    before = tally().bytes
    site.run()
    with site.calls() as calls:
        failure = Failure.from_plain(calls.get(call)._record.failure)
    said = len(failure.message) + len(failure.traceback_text)
    assert said > 1000
    # Then it counts, until it is forgotten
    assert tally().bytes == before + said
    with pytest.raises(QuotaExceeded, match="max_owner_bytes"):
        site.put("echo", "x" * 500)
    with site.calls() as calls:
        calls.forget(call)
    site.put("echo", "x" * 500)


def _failing(attempt):
    raise ValueError("no luck " * 60)


def test_bytes_of_arguments(make_site):
    site = make_site(max_argument_bytes=1000)
    site.put("echo", "x" * 900)
    with pytest.raises(InvalidArguments, match="1,000"):
        site.put("echo", "x" * 1001)


def test_bytes_of_a_result(make_site):
    site = make_site(max_result_bytes=1000)
    site.plugins["much"] = lambda attempt, size: "x" * size
    fits, over = site.put("much", 1000), site.put("much", 1001)

    site.run()

    with site.calls() as calls:
        assert calls.get(fits).result == "x" * 1000
        assert calls.get(over).failure.type == "InvalidResult"


def test_callbacks_of_a_call_and_their_length(make_site):
    site = make_site(max_callbacks=3, max_expression_length=20)
    with site.calls() as calls:
        call = calls.put("echo")
        call.on_success("string:" + "x" * 13)
        with pytest.raises(QuotaExceeded, match="20"):
            call.on_any("string:" + "x" * 14)
        call.on_any("string:x").on_failure("string:x")
        with pytest.raises(QuotaExceeded, match="max_callbacks"):
            call.on_cancel("string:x")
    # Nor later, and beside one another.
    with site.calls() as calls, pytest.raises(QuotaExceeded):
        calls.get(call.id).on_any("string:x")


def test_retries_by_the_owner(make_site):
    site = make_site(max_owner_retries=2)
    call = site.put("echo", on_success="python: nowhere")
    site.run()
    for _ in range(2):
        with site.calls() as calls:
            assert calls.get(call).retry_callbacks() == 1
        site.run()

    with site.calls() as calls, pytest.raises(QuotaExceeded):
        calls.get(call).retry_callbacks()


def test_messages(make_site):
    site = make_site(max_unsent_messages=3, max_message_bytes=100)
    call = site.put("echo")
    for _ in range(3):
        with site.calls() as calls:
            calls.get(call).send("x" * 100)
    with site.calls() as calls, pytest.raises(QuotaExceeded):
        calls.get(call).send("x")
    with site.calls("bob") as calls, pytest.raises(InvalidArguments):
        calls.put("echo").send("x" * 101)


@pytest.mark.parametrize("option", ["begin_after", "expires", "keep"])
def test_how_far_ahead(site, option):
    with site.calls() as calls:
        year = timedelta(days=365)
        calls.options(**{option: year if option == "keep" else site.clock.now() + year}).put("echo")
        over = year + timedelta(seconds=1)
        given = over if option == "keep" else site.clock.now() + over
        with pytest.raises((InvalidArguments, QuotaExceeded)):
            calls.options(**{option: given}).put("echo")
        far = site.clock.now().replace(year=9999)
        if option != "keep":
            with pytest.raises((InvalidArguments, QuotaExceeded)):
                calls.options(**{option: far}).put("echo")
        assert calls.count() == 1


@pytest.mark.parametrize(("depth", "state"), [(7, "done"), (8, "failed")])
def test_what_callbacks_put_goes_eight_deep(site, depth, state):
    first = site.put("echo")
    with site.calls(lineage=Lineage(depth, first)) as calls:
        call = calls.put("echo").on_success("python: put('open').id")

    site.run()

    with site.calls() as calls:
        [callback] = calls.get(call.id).callbacks
        assert callback.state == state
        if state == "done":
            record = calls.get(callback.value)._record
            assert (record.depth, record.ancestor) == (8, first)
        else:
            assert "QuotaExceeded" in callback.error


def test_a_quota_exceeded_in_a_callback_fails_that_callback_only(make_site):
    site = make_site(max_stored_calls=2)
    with site.calls() as calls:
        call = calls.put("echo", 7)
        call.on_success("python: put('open').id").on_success("python: put('open').id")
        call.on_success("string:after")

    site.run()

    with site.calls() as calls:
        found = calls.get(call.id)
        assert str(found.state) == "succeeded"
        assert [str(c.state) for c in found.callbacks] == ["done", "failed", "done"]
        assert found.callbacks[1].error.startswith("QuotaExceeded") or (
            "QuotaExceeded" in found.callbacks[1].error
        )
        assert calls.count() == 2


def test_descendants(make_site):
    site = make_site(max_descendants=3)
    root = site.put("echo")
    for _ in range(3):
        with site.calls(lineage=Lineage(1, root)) as calls:
            calls.put("open")
    with site.calls(lineage=Lineage(1, root)) as calls, pytest.raises(QuotaExceeded) as found:
        calls.put("open")
    assert found.value.limit == "max_descendants"


def test_what_the_callback_of_a_first_call_puts_is_a_descendant_of_that(make_site):
    site = make_site(max_descendants=1)
    first = site.put("echo", on_success="python: put('open').id")
    site.run()
    with site.calls() as calls:
        second = calls.get(calls.get(first).callbacks[0].value)
        assert (second._record.depth, second._record.ancestor) == (1, first)
        assert open_store(calls.connection).descendants(first) == 1
    # So that the bound is for all that comes of it
    with site.calls(lineage=Lineage(2, first)) as calls, pytest.raises(QuotaExceeded):
        calls.put("open")


@pytest.mark.parametrize(("count", "state"), [(2, "done"), (3, "failed")])
def test_calls_that_one_callback_puts(make_site, count, state):
    site = make_site(max_callback_puts=2)
    call = site.put("echo", on_success=f"python: [put('open').id for n in range({count})]")
    site.run()
    with site.calls() as calls:
        assert calls.get(call).callbacks[0].state == state
        assert calls.count() == (1 + count if state == "done" else 1)


def test_keys_that_users_choose_cannot_be_aimed_at_one_tree(site):
    """N4: the hash is keyed, so that nobody can compute where a key goes."""
    with site.calls() as calls:
        with pytest.raises(InvalidArguments):
            calls.options(unique="k" * 201)
        calls.options(unique="k" * 200).put("echo")
        first = calls.mine()[0]._record.unique
        assert len(open_store(calls.connection).site.hash_key) >= 16
    other = type(site)()
    try:
        with other.calls() as calls:
            calls.options(unique="k" * 200).put("echo")
            assert calls.mine()[0]._record.unique != first
    finally:
        other.close()


def test_keys_chosen_for_one_tree_of_an_unkeyed_hash_spread_out(site):
    """N4: somebody knows the hash and all that goes into it but the site's own key."""

    def hashed(key, begun):
        hashing = begun.copy()
        hashing.update(len(key).to_bytes(4, "big") + key.encode())
        return hashing.digest()

    before = b"".join(len(p).to_bytes(4, "big") + p for p in (b"", b"ann", b"echo"))
    unkeyed = blake2b(before, digest_size=16)
    # Given 10,000 keys that all fall into one tree if the hash has no key
    aimed = (key for key in map(str, count()) if hashed(key, unkeyed)[0] == 7)
    chosen = list(islice(aimed, 10_000))
    with site.calls() as calls:
        secret = open_store(calls.connection).site.hash_key
        keyed = blake2b(before, digest_size=16, key=secret)
        call = calls.options(unique=chosen[0]).put("echo")
        assert call._record.unique == hashed(chosen[0], keyed)

    # Then they spread over all 256, none with more than its share by far
    trees = Counter(hashed(key, keyed)[0] for key in chosen)
    assert len(trees) == 256
    assert max(trees.values()) < 3 * 10_000 / 256


def test_asking_again_and_again_to_cancel_does_not_grow_the_mailbox(site):
    """N5: what lies in a mailbox is bounded, whoever asks how often."""
    call_id = site.put("echo")
    with site.calls() as calls:
        store, record = calls._context(Principal("ann")).store, calls.get(call_id)._record
        area = store.register_worker("w", {}, ("default",))
        area.board.running = {record._p_oid: (1, 1, None, "")}

    sizes, commits = set(), set()
    for _ in range(100):
        with site.calls() as calls:
            calls.cancel(call_id)
            record = calls.get(call_id)._record
            sizes.add(len(repr(record.mailbox.mail)))
        commits.add(site.db.lastTransaction())
    assert len(sizes) == 1

    # Nor the file that it is in: only the first of them was written.
    assert len(commits) == 1


def test_the_limits_of_messages_are_the_documented_ones():
    """N5: 100 unsent messages of 64 kB each."""
    assert (Quotas().max_unsent_messages, Quotas().max_message_bytes) == (100, 65_536)


def test_a_unique_key_is_of_its_owner_and_plugin(site):
    """T10: nobody is handed, cancels or learns of somebody else's call by a key."""
    mine = {}
    for user in ("ann", "bob", Principal("ann", "members")):
        for on_duplicate in ("return", "raise", "replace"):
            with site.calls(user) as calls:
                key = f"newsletter-{on_duplicate}"
                options = calls.options(unique=key, on_duplicate=on_duplicate)
                mine[str(user), on_duplicate] = options.put("echo").id
    assert len(set(mine.values())) == 9
    with site.calls("ann") as calls:
        assert calls.count("waiting") == 3
