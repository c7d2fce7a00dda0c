"""Records: bytes and back, the chain, and what a journal's rows say is latched."""

import contextlib
import dataclasses
import itertools
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import (
    CauseAdded,
    CauseView,
    Commanded,
    HeartArmed,
    LatchedTrip,
    Looked,
    Moved,
    Narrowed,
    Noted,
    Record,
    RecordBody,
    Restored,
    Started,
    Tripped,
    UsedCommand,
    WasReset,
)
from killswitch.domain.scope import EVERY, ID_MAX, Scope
from killswitch.wire.record import (
    GENESIS,
    Opaque,
    RecordError,
    Row,
    Unreadable,
    decode,
    encode,
    fold,
    kind_of,
    link,
    renumber,
    verify,
)

SCOPE = Scope(oms="prime", account=14, user=EVERY, instrument=25)


def cause(text="position 60 is above 50", rule="btc", *, labels=(("account", "14"),), count=1, **more):
    return CauseView(text, rule, "limit", labels, 10.0, 10.0 + count, count, **more)


def tripped(trip, scope=SCOPE, **more):
    return Tripped(trip, scope, cause(), "rule btc", **more)


def was_reset(trip, command_id="", digest=""):
    return WasReset(trip, "alice", "calm", command_id, digest)


def journal(*bodies, first=1):
    """Rows as the adapter writes them: numbered, linked."""
    rows, before = [], GENESIS
    for n, body in enumerate(bodies, first):
        record = Record(n, 1000.0 + n, body)
        data = encode(record)
        before = link(before, data)
        rows.append(Row(n, record.wall, kind_of(record), data, before))
    return rows


def spoilt(row, data=b"\x00garbage"):
    return dataclasses.replace(row, data=data)


# --- bytes -------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["1234567890123456789.012345678", "ключ ✂ 鍵 \u2028", 'a"b\\c\n', "every"]),
)
ids = st.integers(1, ID_MAX)
parts = st.one_of(ids, st.just(EVERY))
times = st.floats(0, 2**53, allow_nan=False)


def _strategy(hint):
    if hint is Scope:
        return st.builds(Scope, oms=texts.filter(bool), account=parts, user=parts, instrument=parts)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint, localns={"Scope": Scope})
        return st.builds(hint, **{field.name: _strategy(hints[field.name]) for field in dataclasses.fields(hint)})
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if inner[-1] is Ellipsis:
            return st.lists(_strategy(inner[0]), max_size=4).map(tuple)
        return st.tuples(*map(_strategy, inner))
    if choices := typing.get_args(hint):
        return st.one_of(*map(_strategy, choices))
    return {int: st.integers(-ID_MAX, ID_MAX), str: texts, float: times, bool: st.booleans()}.get(hint, st.none())


@pytest.mark.parametrize("body", typing.get_args(RecordBody))
def test_a_record_of_every_kind_comes_back_as_it_went(body):
    @given(_strategy(body), ids, times)
    def round_trip(value, n, wall):
        record = Record(n, wall, value)
        data = encode(record)
        assert decode(data) == record
        assert encode(decode(data)) == data
        assert b"\n" not in data

    round_trip()


def test_a_trip_is_written_in_these_bytes():
    record = Record(7, 1763800000.5, tripped("t1", command_id="c1", digest="ab"), urgent=True)
    assert encode(record) == (
        b'{"n":7,"wall":1763800000.5,"kind":"tripped","body":{"trip":"t1","scope":{"oms":"prime","account":14,'
        b'"user":"every","instrument":25},"cause":{"text":"position 60 is above 50","rule":"btc","kind":"limit",'
        b'"labels":[["account","14"]],"first_wall":10.0,"last_wall":11.0,"count":1,"last":"","worst":""},'
        b'"by":"rule btc","command_id":"c1","digest":"ab"}}'
    )
    assert decode(encode(record)) == dataclasses.replace(record, urgent=False)
    assert kind_of(Record(1, 0.0, was_reset("t1"))) == "was_reset"


def test_text_that_is_no_unicode_and_a_time_that_is_none_are_written_all_the_same():
    record = decode(encode(Record(1, float("nan"), tripped("t\ud800", command_id="c"))))
    assert record == Record(1, 0.0, tripped("t?", command_id="c"))


@given(st.binary(max_size=60))
def test_no_bytes_make_decode_raise_anything_but_record_error(data):
    for form in (data, b'{"n":1,"wall":1.0,"kind":"tripped","body":' + data + b"}"):
        with contextlib.suppress(RecordError):
            decode(form)


@pytest.mark.parametrize("body", ["[]", "1", "null", '"trip"', "{}", '{"trip":1}', "[" * 100_000])
def test_a_body_of_another_shape_is_no_record(body):
    with pytest.raises(RecordError):
        decode(b'{"n":1,"wall":1.0,"kind":"cause_added","body":' + body.encode() + b"}")


@pytest.mark.parametrize("part", ["0", "-1", "true", '"14"', '"all"', "null", "14.5", str(2**63)])
def test_a_scope_with_a_part_that_cannot_be_is_not_read(part):
    with pytest.raises(RecordError):
        decode(encode(Record(1, 1.0, tripped("t1"))).replace(b'"account":14', b'"account":' + part.encode()))


def _with(data, **more):
    line = json.loads(data)
    line["body"].update(more)
    return json.dumps(line).encode()


def test_a_kind_of_a_newer_version_is_kept_as_it_was_written():
    data = b'{"n":3,"wall":2.0,"kind":"checkpointed","body":{"peaks":[1]}}'
    assert decode(data) == Opaque(3, 2.0, "checkpointed", data, None, ("kind",))


def test_a_field_of_a_newer_version_hides_nothing_that_is_known():
    data = _with(encode(Record(3, 2.0, tripped("t1"))), shard="eu")
    assert decode(data) == Opaque(3, 2.0, "tripped", data, tripped("t1"), ("shard",))


def test_a_scope_with_a_part_that_nobody_knows_is_not_widened_by_leaving_it_out():
    scope = {"oms": "prime", "account": 14, "user": "every", "instrument": 25, "strategy": 3}
    data = _with(encode(Record(3, 2.0, tripped("t1"))), scope=scope)
    kept = decode(data)
    assert isinstance(kept, Opaque)
    assert kept.body is None
    assert kept.unknown == ("scope.strategy",)


def test_a_field_that_an_older_version_did_not_have_takes_its_default():
    data = encode(Record(3, 2.0, was_reset("t1"))).replace(b',"unanswered":[]', b"")
    assert decode(data) == Record(3, 2.0, was_reset("t1"))


def test_renumbering_changes_the_number_only():
    data = _with(encode(Record(3, 2.5, tripped("t1"))), shard="eu").replace(b" ", b"")
    assert renumber(data, 9) == data.replace(b'"n":3', b'"n":9')


# --- the chain ---------------------------------------------------------------------------------------------

RUN = journal(
    Started("ks-a", "0.1.0", "f00"),
    tripped("t1", command_id="c1", digest="d1"),
    Commanded("c1", "trip", "d1", accepted=True, reason="", trip="t1", by="bob"),
    Looked(5, "prime", 1, 14, 2, "aa", (1, 2)),
    Noted("late", "a late order", "t1"),
    was_reset("t1"),
)


def test_a_journal_that_nobody_touched_is_sound():
    verdict = verify(RUN)
    assert (verdict.ok, verdict.rows, verdict.first_bad, verdict.why) == (True, 6, None, "")
    assert verify([]).ok


@pytest.mark.parametrize("at", range(len(RUN)))
def test_the_chain_finds_every_flipped_byte(at):
    for place in range(len(RUN[at].data)):
        data = bytearray(RUN[at].data)
        data[place] ^= 1
        verdict = verify([*RUN[:at], spoilt(RUN[at], bytes(data)), *RUN[at + 1 :]])
        assert (verdict.ok, verdict.first_bad, verdict.rows) == (False, at + 1, at)
        assert f"row {at + 1}" in verdict.why


@pytest.mark.parametrize("at", range(len(RUN) - 1))
def test_the_chain_finds_a_removed_row(at):
    verdict = verify(RUN[:at] + RUN[at + 1 :])
    assert (verdict.ok, verdict.first_bad) == (False, at + 2)


@pytest.mark.parametrize("at", range(len(RUN) - 1))
def test_the_chain_finds_a_swapped_pair(at):
    one, two = RUN[at], RUN[at + 1]
    swapped = [dataclasses.replace(two, n=one.n), dataclasses.replace(one, n=two.n)]
    assert verify([*RUN[:at], *swapped, *RUN[at + 2 :]]).first_bad == one.n
    assert not verify([*RUN[:at], two, one, *RUN[at + 2 :]]).ok


@pytest.mark.parametrize("change", [{"wall": 1.0}, {"kind": "noted"}, {"n": 40}, {"hash": "0" * 64}, {"hash": None}])
def test_the_columns_beside_a_record_are_proven_with_it(change):
    row = dataclasses.replace(RUN[2], **change)
    assert verify([*RUN[:2], row, *RUN[3:]]).first_bad == row.n


def test_a_row_that_somebody_linked_but_that_holds_no_record_is_found():
    row = Row(1, 0.0, "noted", b"{}", link(GENESIS, b"{}"))
    assert verify([row]).why == "row 1 holds no record"


def test_a_record_of_a_newer_version_breaks_no_chain():
    data = b'{"n":1,"wall":2.0,"kind":"checkpointed","body":{}}'
    assert verify([Row(1, 2.0, "checkpointed", data, link(GENESIS, data))]).ok


# --- the fold ----------------------------------------------------------------------------------------------


def test_nothing_is_latched_in_an_empty_journal():
    assert fold([]) == Restored()


def test_a_trip_without_a_reset_is_latched_with_all_that_it_had():
    again = cause("position 70 is above 50", count=4, last="70", worst="81")
    other = cause(labels=(("account", "15"),))
    rows = journal(
        tripped("t1", command_id="c1", digest="d1"), CauseAdded("t1", other), CauseAdded("t1", again), first=5
    )
    restored = fold(rows)
    # The series that tripped it was seen again: its line is replaced in its place, the other one added.
    assert restored.trips == (LatchedTrip("t1", SCOPE, (again, other), "rule btc", 1005.0, "c1"),)
    assert (restored.next_n, restored.serial, restored.ended, restored.fresh) == (8, 1, frozenset(), False)
    assert restored.last_wall == 1007.0
    assert restored.warnings == ()


def test_a_dead_man_that_heard_a_beat_stays_armed_with_its_feed_each_named_once():
    armed = [HeartArmed("d", "heart"), HeartArmed("d", "other"), HeartArmed("d", "heart")]
    assert fold(journal(*armed)).hearts == (("d", "heart"), ("d", "other"))
    rows = journal(*armed[:2])
    assert fold([spoilt(rows[0]), rows[1]]).hearts == (("d", "other"),)


def test_an_oms_that_took_more_than_it_was_asked_to_is_remembered():
    rows = journal(Narrowed("prime", "first"), Narrowed("other", "why"), Narrowed("prime", "again"))
    assert fold(rows).narrowed == (("prime", "again"), ("other", "why"))


def test_every_command_id_stays_used_with_its_first_answer():
    restored = fold(
        journal(
            Commanded("c1", "trip", "d1", accepted=True, reason="ok", trip="t1", by="bob"),
            Commanded("c2", "reset", "d2", accepted=False, reason="sweeping", trip="t1", by="bob"),
            Commanded("c1", "trip", "d9", accepted=False, reason="id already used", trip=None, by="eve"),
        )
    )
    assert restored.commands == (
        UsedCommand("c1", "d1", accepted=True, reason="ok", trip="t1"),
        UsedCommand("c2", "d2", accepted=False, reason="sweeping", trip="t1"),
    )


def test_a_command_whose_trip_or_reset_is_there_is_used_even_if_its_answer_is_not():
    restored = fold(journal(tripped("t1", command_id="c1", digest="d1"), was_reset("t1", "c2", "d2")))
    assert {(used.id, used.digest, used.accepted, used.trip) for used in restored.commands} == {
        ("c1", "d1", True, "t1"),
        ("c2", "d2", True, "t1"),
    }


runs = st.lists(st.tuples(st.sampled_from(["trip", "cause", "reset", "note"]), st.integers(0, 4)), max_size=25)


def _bodies(steps):
    """A run as the core could have made it: a trip once, its causes and its reset only while it is latched."""
    tripped_, over = set(), set()
    for step, k in steps:
        trip = f"t{k}"
        match step:
            case "trip" if trip not in tripped_:
                tripped_.add(trip)
                yield tripped(trip)
            case "cause" if trip in tripped_ - over:
                yield CauseAdded(trip, cause(count=k + 2))
            case "reset" if trip in tripped_ - over:
                over.add(trip)
                yield was_reset(trip)
            case "note":
                yield Noted("warning", "x", trip)


@given(runs)
def test_any_beginning_of_a_run_folds_and_a_reset_ends_exactly_its_trip(steps):
    bodies = list(_bodies(steps))
    rows = journal(*bodies)
    for end in range(len(rows) + 1):
        seen = bodies[:end]
        opened = [body.trip for body in seen if isinstance(body, Tripped)]
        over = {body.trip for body in seen if isinstance(body, WasReset)}
        restored = fold(rows[:end])
        assert [trip.trip for trip in restored.trips] == [trip for trip in opened if trip not in over]
        assert restored.ended == over
        assert (restored.next_n, restored.serial, restored.warnings) == (end + 1, len(opened), ())


@given(runs, st.data())
def test_broken_rows_cost_only_themselves_and_never_end_a_trip(steps, data):
    bodies = [Started("ks-a", "0.1.0", "f00"), *_bodies(steps)]
    rows = journal(*bodies)
    broken = data.draw(st.sets(st.integers(1, len(rows)), max_size=len(rows) - 1))
    restored = fold([spoilt(row) if row.n in broken else row for row in rows])
    left = [body for n, body in enumerate(bodies, 1) if n not in broken]
    over = {body.trip for body in left if isinstance(body, WasReset)}
    opened = {body.trip for body in left if isinstance(body, Tripped)}
    assert restored.ended == over
    assert {trip.trip for trip in restored.trips} == opened - over
    assert restored.next_n == len(rows) + 1
    assert restored.serial >= sum(isinstance(body, Tripped) for body in bodies)
    assert bool(restored.warnings) >= bool(broken)


def test_a_trip_whose_end_cannot_be_read_stays_latched_and_the_warning_says_where():
    rows = journal(tripped("t1"), tripped("t2"), was_reset("t1"), was_reset("t2"), Noted("a", "b"))
    restored = fold([*rows[:2], spoilt(rows[2]), *rows[3:]])
    assert [trip.trip for trip in restored.trips] == ["t1"]
    assert restored.warnings == ("1 row of the journal (3) can't be read",)
    many = fold([spoilt(row) if row.n in (1, 2, 4) else row for row in rows])
    assert "3 rows of the journal (1 to 2, 4) can't be read" in many.warnings


def test_a_reset_that_was_changed_into_another_trips_ends_nothing():
    rows = journal(tripped("t1"), tripped("t2"), was_reset("t1"))
    forged = spoilt(rows[2], rows[2].data.replace(b'"t1"', b'"t2"'))
    restored = fold([*rows[:2], forged])
    assert [trip.trip for trip in restored.trips] == ["t1", "t2"]
    assert restored.ended == frozenset()
    assert "reset of trip t2 (row 3) does not fit the hash chain" in restored.warnings[0]


def test_a_reset_behind_a_row_that_was_lost_whole_counts():
    rows = journal(tripped("t1"), Noted("a", "b"), was_reset("t1"))
    assert fold([rows[0], Row(2, 0.0, "", b"", None), rows[2]]).trips == ()


def test_a_trip_whose_beginning_is_lost_is_named():
    rows = journal(tripped("t1"), CauseAdded("t1", cause()), Moved("t1", "a", "TRIP", "b", "why"))
    restored = fold([spoilt(rows[0]), *rows[1:]])
    assert restored.trips == ()
    assert "trip t1 is named in row 2, but its beginning can't be read: it is not latched" in restored.warnings


def test_when_no_row_can_be_folded_it_says_so_instead_of_all_is_well():
    with pytest.raises(Unreadable, match="none of the 3 rows"):
        fold([spoilt(row) for row in journal(*itertools.repeat(tripped("t1"), 3))])


def test_a_newer_versions_reset_with_a_condition_nobody_knows_ends_nothing():
    rows = journal(tripped("t1"), was_reset("t1"))
    data = _with(rows[1].data, first_of=2)
    restored = fold([rows[0], Row(2, 0.0, "was_reset", data, link(rows[0].hash, data))])
    assert [trip.trip for trip in restored.trips] == ["t1"]
    assert restored.warnings == ("1 row of the journal (2): written by a newer version",)


def test_a_newer_versions_trip_is_latched():
    data = _with(encode(Record(1, 2.0, tripped("t1"))), shard="eu")
    assert [trip.trip for trip in fold([Row(1, 2.0, "tripped", data, link(GENESIS, data))]).trips] == ["t1"]
