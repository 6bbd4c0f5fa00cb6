# SPDX-License-Identifier: ZPL-2.1
"""What an owner finds in the store: add, find, newest, oldest, tally, forget."""

from __future__ import annotations

from itertools import islice

import pytest
from ZODB.POSException import POSKeyError

from wsgi_zasync.call import SEGMENT_SIZE, Place
from wsgi_zasync.errors import CallNotFound
from wsgi_zasync.states import CallState

ANN = ("", "ann")
BOB = ("", "bob")


def test_a_call_is_found_by_its_owner_in_every_client(one, two, put):
    # Given
    with one.writing() as store:
        (record,) = put(store)
        call_id = record.id
    # Then
    with two.reading() as store:
        assert store.find(ANN, call_id).id == call_id


def test_a_call_is_found_in_the_transaction_that_puts_it(one, put):
    store = one.begin()
    (record,) = put(store)

    assert store.find(ANN, record.id) is record
    assert list(store.newest(ANN)) == [record]
    assert store.tally(ANN).open == 1


@pytest.mark.parametrize("of", ["lanes", "queues"])
def test_what_was_forgotten_disturbs_no_order(one, put, of):
    """A call that is forgotten stays for a while among those that were put after it."""
    # Given calls of two lanes or queues in turn
    records = []
    with one.writing() as store:
        for number in range(10):
            second = number % 2
            more = {"lane": second} if of == "lanes" else {"queue": ("default", "slow")[second]}
            records += put(store, **more)
        # When one in the middle is forgotten
        records[6].cancel(1)
        store.count_end(store.site.lanes[0].tallies, records[6])
        store.forget(records.pop(6), store.site.lanes[0].tallies)
        # Then
        assert list(store.newest(ANN)) == records[::-1]
        assert list(store.oldest(ANN)) == records


def test_somebody_elses_call_is_not_there(one, put):
    with one.writing() as store:
        (record,) = put(store)
        call_id = record.id

    with one.reading() as store, pytest.raises(CallNotFound):
        store.find(BOB, call_id)
    with one.reading() as store:
        assert list(store.newest(BOB)) == []
        assert store.tally(BOB).stored == 0


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "-",
        "a",
        "a-",
        "zz",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaa",
        "a-aaaaaaaaaaaaaaaa",
        "7777777777777-aaaaaaaaaaaaaaaa",
        "ä-aaaaaaaaaaaaaaaa",
        "a-\ud800",
        "A-AAAAAAAAAAAAAAAA",
        5,
        None,
        b"a-aaaaaaaaaaaaaaaa",
    ],
)
def test_an_id_that_is_none_is_not_found(one, put, forged):
    with one.writing() as store:
        put(store)

    with one.reading() as store, pytest.raises(CallNotFound):
        store.find(ANN, forged)


def test_an_id_is_compared_whole(one, put):
    with one.writing() as store:
        (record,) = put(store)
        call_id = record.id

    with one.reading() as store:
        for wrong in (call_id[:-1], call_id + "a", "a" + call_id, call_id.upper(), f" {call_id}"):
            with pytest.raises(CallNotFound):
                store.find(ANN, wrong)


def test_what_was_aborted_is_never_found_although_its_place_is_used_again(one, put):
    # Given a put that was aborted
    store = one.begin()
    (first,) = put(store)
    first_id, first_place = first.id, first.place
    one.abort()
    # When another call takes its place
    with one.writing() as store:
        (second,) = put(store)
        assert second.place == first_place
        second_id = second.id
    # Then the ids differ, and the first stays unknown
    assert first_id != second_id
    with one.reading() as store:
        assert store.find(ANN, second_id)
        with pytest.raises(CallNotFound):
            store.find(ANN, first_id)


def test_calls_of_several_lanes_are_listed_in_order_over_the_borders_of_segments(one, put):
    # Given 150 calls spread over three lanes
    with one.writing() as store:
        ids = [put(store, lane=number % 3)[0].id for number in range(150)]
    # Then
    with one.reading() as store:
        assert [record.id for record in store.oldest(ANN)] == ids
        assert [record.id for record in store.newest(ANN)] == ids[::-1]


def test_newest_can_begin_further_back(one, put):
    with one.writing() as store:
        records = [put(store, lane=number % 2)[0] for number in range(200)]
        ids = [record.id for record in records]
        middle = records[100].created

    with one.reading() as store:
        found = [record.id for record in store.newest(ANN, before=middle)]
    # Whole segments that are newer are skipped, and nothing that is older.
    assert found[-101:] == ids[100::-1]
    assert len(found) < 200


def test_a_list_goes_on_from_any_call_whatever_was_forgotten_before_and_behind(one, put):
    # Given an owner of many calls in two lanes, and three whole segments forgotten
    with one.writing() as store:
        records = [put(store, lane=number % 2)[0] for number in range(400)]
    with one.writing() as store:
        index = store.site.lanes[0].owners["\0ann"]
        gone = [call for number in (0, 3, 4) for call in index.segments[number].calls]
        for record in gone:
            record.cancel(1)
            store.forget(record, store.site.lanes[0].tallies)
        records = [record for record in records if not record.forgotten]
        assert [number for number, segment in index.segments.items() if segment is None] == [
            0,
            3,
            4,
        ]
    # Then, from each moment on, nothing is left out, and no more than a segment a lane is too much
    with one.reading() as store:
        moments = [record.created for record in records]
        for when in (0, *moments[::31], moments[-1] + 1):
            for found, wanted in (
                (store.oldest(ANN, when), [r for r in records if r.created >= when]),
                (store.newest(ANN, when), [r for r in records if r.created <= when][::-1]),
            ):
                listed = list(found)
                assert [record for record in listed if record in wanted] == wanted
                assert len(listed) <= len(wanted) + 2 * SEGMENT_SIZE


@pytest.mark.parametrize("newest_first", [True, False])
def test_to_list_from_a_call_on_reads_little_of_what_is_not_shown(one, put, loads_of, newest_first):
    # Given many calls
    with one.writing() as store:
        records = put(store, 5 + 40 * SEGMENT_SIZE)
        middle = records[len(records) // 2].created

    # When the next few are listed, from the middle on
    def look(store):
        found = store.newest(ANN, middle) if newest_first else store.oldest(ANN, middle)
        assert len(list(islice(found, 20))) == 20

    # Then what is read is two segments with their calls, and a few to find them
    assert len(loads_of(one, look)) < 3 * SEGMENT_SIZE


def test_calls_put_in_one_microsecond_or_while_the_clock_goes_back_keep_their_order(one, put):
    with one.writing() as store:
        ids = [put(store, created=2_000_000_000_000_000 - n // 2)[0].id for n in range(40)]

    with one.reading() as store:
        assert [record.id for record in store.oldest(ANN)] == ids
        created = [record.created for record in store.oldest(ANN)]
        assert sorted(set(created)) == created


def test_two_sites_share_nothing(one, put, new_session):
    other = new_session(site=f"{one.site_name}-other")
    with one.writing() as store:
        (record,) = put(store)
        call_id = record.id

    with other.writing() as store:
        store.site.claims[0] = "test"
        with pytest.raises(CallNotFound):
            store.find(ANN, call_id)
        assert store.tally(ANN).stored == 0
        assert put(store)[0].site == other.site_name


def test_a_forgotten_call_is_gone_and_its_id_stays_unknown(one, put):
    # Given a final call in the last segment, and one in a full segment
    with one.writing() as store:
        records = put(store, 40, args=("a secret of 24 characters",), size=24)
        ids = [record.id for record in records]
        for record in (records[3], records[39]):
            record.succeed("and its result", 5)
            store.count_end(store.site.lanes[1].tallies, record)
    # When
    with one.writing() as store:
        for call_id in (ids[3], ids[39]):
            store.forget(store.find(ANN, call_id), store.site.lanes[1].tallies)
    # Then
    with one.reading() as store:
        for call_id in (ids[3], ids[39]):
            with pytest.raises(CallNotFound):
                store.find(ANN, call_id)
        assert [record.id for record in store.oldest(ANN)] == ids[:3] + ids[4:39]
        tally = store.tally(ANN)
        assert (tally.open, tally.stored, tally.bytes) == (38, 38, 38 * 24)
        assert tally.by_state[CallState.SUCCEEDED] == 0


def test_a_place_is_never_given_twice_even_when_all_calls_were_forgotten(one, put):
    with one.writing() as store:
        # The segments of a chain have 1, 4 and then 32 records.
        for record in put(store, 1 + 4 + 32 + 1):
            record.cancel(1)
            store.count_end(store.site.lanes[0].tallies, record)
            store.forget(record, store.site.lanes[0].tallies)
    with one.writing() as store:
        (record,) = put(store)
        assert Place(*record.place) == Place(0, 3, 1)
        assert store.tally(ANN).stored == 1


def test_looking_for_what_is_not_ours_reads_the_same_objects(one, put, loads_of):
    """That an id exists must not show in what is read: no clock is needed to see that."""
    # Given bob has a call in the first lane only, and ann has some in two lanes
    with one.writing() as store:
        annes = [record.id for record in [*put(store, 3), *put(store, 3, lane=1)]]
        put(store, 1, owner=BOB)

    def reads(call_id):
        def look(store):
            with pytest.raises(CallNotFound):
                store.find(BOB, call_id)

        return loads_of(one, look)

    # When bob asks for ann's, for a forged one in its place, and for one that never was
    for place, random in (annes[2].split("-"), annes[5].split("-")):
        foreign = reads(f"{place}-{random}")
        forged = reads(f"{place}-{random[::-1]}")
        never = reads(f"{place}-aaaaaaaaaaaaaaaa")
        # Then he reads the same objects in the same order, and none of ann's calls
        assert foreign == forged == never
        with one.reading() as store:
            calls = {record._p_oid for record in store.newest(ANN)}
        assert not calls & set(foreign)


def test_a_reference_to_a_call_that_was_never_committed_leads_nowhere(one, put):
    store = one.begin()
    (record,) = put(store)
    oid = record._p_oid
    one.abort()

    with one.reading(), pytest.raises(POSKeyError):
        one.get(oid).plugin
