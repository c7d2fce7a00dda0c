"""Commands, buttons and announcements against literal JSON; fuzzed for "nothing else comes out"."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import (
    AnnounceEvent,
    CauseView,
    CommandRefused,
    Receipt,
    ResetRequested,
    TripRequested,
    TripView,
)
from killswitch.domain.scope import EVERY, ID_MAX, Scope
from killswitch.wire import announce
from killswitch.wire.commands import (
    CommandError,
    decode_reset,
    decode_trip,
    encode_reset_command,
    encode_trip_command,
    match_button,
    scope_fields,
)

TRIP = {
    "id": "a1",
    "scope": {"oms": "prime", "account": 14},
    "by": "alice",
    "reason": "fat finger",
    "issued_at": "2026-11-22T10:00:00.250Z",
}
RESET = {
    "id": "r1",
    "trip": "t-7",
    "by": "bob",
    "reason": "all clear",
    "issued_at": "2026-11-22T10:00:00Z",
}
ISSUED = 1795341600.0  # 2026-11-22T10:00:00Z


def trip(payload, *, retained=False):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return decode_trip(raw, via="mqtt", wall=5.0, token="tok", retained=retained)


def reset(payload):
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return decode_reset(raw, via="mqtt", wall=5.0, token="tok")


def but(command, **changes):
    return {name: value for name, value in (command | changes).items() if value is not ...}


def scoped(**parts):
    return but(TRIP, scope={"oms": "prime", **parts})


def test_a_trip_command_is_read_as_it_says():
    event = trip(TRIP)
    assert event == TripRequested(
        wall=5.0,
        id="a1",
        scope=Scope(oms="prime", account=14, user=EVERY, instrument=EVERY),
        by="alice",
        reason="fat finger",
        issued_at=ISSUED + 0.25,
        digest=event.digest,
        via="mqtt",
        token="tok",
    )
    assert len(event.digest) == 64


@pytest.mark.parametrize(
    ("parts", "account", "user", "instrument"),
    [
        ({"account": 14}, 14, EVERY, EVERY),
        ({"user": 37}, EVERY, 37, EVERY),
        ({"account": 14, "user": 37, "instrument": 25}, 14, 37, 25),
        ({"account": 14, "user": "every", "instrument": "every"}, 14, EVERY, EVERY),
        ({"account": "every", "user": 37}, EVERY, 37, EVERY),
        ({"account": "every"}, EVERY, EVERY, EVERY),
        ({"account": "every", "instrument": 25}, EVERY, EVERY, 25),
        ({"account": ID_MAX}, ID_MAX, EVERY, EVERY),
    ],
)
def test_a_part_is_an_id_or_every_and_every_may_be_said(parts, account, user, instrument):
    event = trip(scoped(**parts))
    assert event.scope == Scope(oms="prime", account=account, user=user, instrument=instrument)


@pytest.mark.parametrize("part", [0, -1, True, "14", 14.0, 1e3, None, "", [], {}, "Every", "all", ID_MAX + 1])
@pytest.mark.parametrize("name", ["account", "user", "instrument"])
def test_a_part_that_is_no_id_is_refused_and_never_every(name, part):
    event = trip(scoped(**{"account": 14, name: part}))
    assert isinstance(event, CommandRefused)
    assert event.id == "a1"
    assert name in event.reason


@pytest.mark.parametrize("parts", [{}, {"user": "every"}, {"instrument": 25}, {"user": "every", "instrument": 25}])
def test_a_scope_that_names_neither_account_nor_user_must_say_every_account(parts):
    event = trip(scoped(**parts))
    assert isinstance(event, CommandRefused)
    assert '"account": "every"' in event.reason


def test_acount_is_refused():
    event = trip(scoped(user=37, acount=14))
    assert isinstance(event, CommandRefused)
    assert event.reason == 'the scope has an unknown key "acount"'


@pytest.mark.parametrize(
    "payload",
    [
        b'{"id":"a1","id":"a2","scope":{"oms":"prime","account":14},"by":"a","reason":"r"}',
        b'{"id":"a1","scope":{"oms":"prime","account":14,"account":15},"by":"a","reason":"r"}',
        b'{"id":"a1","scope":{"oms":"prime","account":14},"scope":{"oms":"prime","account":14},"by":"a","reason":"r"}',
    ],
)
def test_a_repeated_key_is_refused(payload):
    event = trip(payload)
    assert isinstance(event, CommandRefused)
    assert "more than once" in event.reason
    assert event.id == (None if b"a2" in payload else "a1")  # an id said twice is no id


@pytest.mark.parametrize(
    "changes",
    [
        {"by": ...},
        {"by": ""},
        {"by": "  "},
        {"by": None},
        {"by": 7},
        {"by": "x" * 201},
        {"by": "a\nb"},
        {"by": "a\u202eb"},
        {"reason": ...},
        {"reason": ""},
        {"reason": "x" * 1001},
        {"reason": "nul\x00"},
        {"reason": "half \ud800"},
        {"scope": ...},
        {"scope": None},
        {"scope": "prime"},
        {"scope": {"account": 14}},
        {"scope": {"oms": "", "account": 14}},
        {"scope": {"oms": "a/b", "account": 14}},
        {"scope": {"oms": None, "account": 14}},
        {"issued_at": None},
        {"issued_at": "2026-11-22T10:00:00"},
        {"issued_at": "2026-11-22"},
        {"issued_at": "2026-W47-7T10:00:00Z"},
        {"issued_at": "2026-13-22T10:00:00Z"},
        {"issued_at": "yesterday"},
        {"issued_at": True},
        {"issued_at": 1e300},
        {"override": True},
        {"trip": "t-7"},
        {"nonce": 1},
    ],
)
def test_a_trip_with_a_mistake_is_refused_under_its_id(changes):
    event = trip(but(TRIP, **changes))
    assert isinstance(event, CommandRefused)
    assert (event.id, event.command, event.via, event.token) == ("a1", "trip", "mqtt", "tok")
    assert event.reason
    assert event.reason.isprintable()


@pytest.mark.parametrize("bad", [..., None, "", "a/b", "+", "#", "x" * 65, 7, "a b", "é", "a\n"])
def test_without_a_valid_id_there_is_none_to_answer(bad):
    event = trip(but(TRIP, id=bad))
    assert isinstance(event, CommandRefused)
    assert event.id is None


def test_a_retained_trip_needs_an_id_and_counts_with_one():
    assert trip(but(TRIP, id=...), retained=True).reason == "a retained command needs an id"
    assert isinstance(trip(TRIP, retained=True), TripRequested)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-11-22T10:00:00Z", ISSUED),
        ("2026-11-22T11:00:00+01:00", ISSUED),
        ("2026-11-22t10:00:00.123456789z", ISSUED + 0.123456789),
        (ISSUED * 1000, ISSUED),
        (int(ISSUED * 1000) + 250, ISSUED + 0.25),
        ("1970-01-01T00:00:00+01:00", -3600.0),
    ],
)
def test_issued_at_is_rfc_3339_with_a_zone_or_milliseconds(said, meant):
    assert trip(but(TRIP, issued_at=said)).issued_at == pytest.approx(meant, abs=1e-6)


def test_a_trip_may_leave_its_time_out_and_a_reset_may_not():
    assert trip(but(TRIP, issued_at=...)).issued_at is None
    refused = reset(but(RESET, issued_at=...))
    assert isinstance(refused, CommandRefused)
    assert "issued_at" in refused.reason


def test_a_reset_command_is_read_as_it_says():
    event = reset(RESET)
    assert event == ResetRequested(
        wall=5.0,
        id="r1",
        trip="t-7",
        by="bob",
        reason="all clear",
        issued_at=ISSUED,
        override=False,
        digest=event.digest,
        via="mqtt",
        token="tok",
    )
    assert reset(but(RESET, override=True)).override is True


@pytest.mark.parametrize(
    "changes",
    [
        {"override": 1},
        {"override": "true"},
        {"override": None},
        {"trip": ...},
        {"trip": ""},
        {"trip": 7},
        {"trip": "a/b"},
        {"trip": "+"},
        {"scope": {"oms": "prime", "account": 14}},
        {"by": None},
        {"reason": " "},
    ],
)
def test_a_reset_with_a_mistake_is_refused_under_its_id(changes):
    event = reset(but(RESET, **changes))
    assert isinstance(event, CommandRefused)
    assert (event.id, event.command) == ("r1", "reset")


def test_a_signed_envelope_is_refused_with_the_reason():
    for read in (trip, reset):
        event = read({"signed": json.dumps(TRIP), "sigs": [{"key": "alice", "sig": "AA=="}]})
        assert isinstance(event, CommandRefused)
        assert event.id is None
        assert "signatures are not built into this version" in event.reason


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"panic"',
        b"\xff\xfe",
        b"{",
        b'{"id":"a1"',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"id":NaN}',
        b"9" * 60_000,
        json.dumps(TRIP).encode("utf-16"),
        json.dumps(TRIP).encode() + b" " * 70_000,
        json.dumps(TRIP).encode() + b"{}",
    ],
)
def test_what_is_no_json_object_is_refused(payload):
    for read in (trip, reset):
        event = read(payload)
        assert isinstance(event, CommandRefused)
        assert event.id is None


def test_a_refusal_repeats_no_more_of_a_payload_than_a_keys_name():
    event = trip(but(TRIP, reason="hunter2\x00", by="hunter2"))
    assert "hunter2" not in event.reason
    event = trip(but(TRIP, **{"k\n\x1b[31m" + "y" * 500: "hunter2"}))
    assert "hunter2" not in event.reason
    assert event.reason.isprintable()
    assert len(event.reason) < 120


def test_the_digest_is_of_the_content_however_it_is_written():
    first = trip(TRIP).digest
    turned = dict(reversed(TRIP.items()))
    turned["scope"] = {"account": 14, "user": "every", "oms": "prime"}
    turned["issued_at"] = "2026-11-22T11:00:00.250+01:00"
    assert trip(turned).digest == first
    others = [
        but(TRIP, id="a2"),
        but(TRIP, by="bob"),
        but(TRIP, reason="other"),
        but(TRIP, issued_at=...),
        scoped(account=15),
        scoped(account=14, instrument=25),
    ]
    assert len({first} | {trip(other).digest for other in others}) == 1 + len(others)
    assert reset(RESET).digest != reset(but(RESET, override=True)).digest


# --- fuzz --------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=300))
def test_whatever_the_bytes_only_the_two_values_come_out(payload):
    assert isinstance(trip(payload), TripRequested | CommandRefused)
    assert isinstance(reset(payload), ResetRequested | CommandRefused)


@given(st.sampled_from([*sorted({*TRIP, *RESET, "override", "signed"})]), json_values)
def test_whatever_a_field_says_only_the_two_values_come_out(name, value):
    for read, command, meant in ((trip, TRIP, TripRequested), (reset, RESET, ResetRequested)):
        event = read(command | {name: value})
        assert isinstance(event, meant | CommandRefused)


@given(st.sampled_from(["oms", "account", "user", "instrument", "other"]), json_values)
def test_whatever_a_part_says_a_scope_that_comes_out_is_what_was_said(name, value):
    event = trip(scoped(**{"account": 14, "user": 37, name: value}))
    if isinstance(event, TripRequested):
        said = {"oms": "prime", "account": 14, "user": 37, name: value}
        for part in ("account", "user", "instrument"):
            got = getattr(event.scope, part)
            assert (got is EVERY) == (said.get(part, "every") == "every")
            assert got is EVERY or (type(said[part]) is int and got == said[part])


# --- encoding ----------------------------------------------------------------------------------------------

parts = st.just(EVERY) | st.integers(1, ID_MAX)
scopes = st.builds(Scope, oms=st.just("prime"), account=parts, user=parts, instrument=parts)


@given(scopes, st.none() | st.integers(0, 4_000_000_000))
def test_an_encoded_trip_command_is_read_back_as_the_same_scope(scope, issued_at):
    event = trip(encode_trip_command(id="x", scope=scope, by="a", reason="b", issued_at=issued_at))
    assert event.scope == scope
    assert event.issued_at == issued_at


def test_encoded_commands_are_the_contracts_json():
    scope = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
    sent = encode_trip_command(id="a1", scope=scope, by="alice", reason="fat finger", issued_at=ISSUED + 0.25)
    assert json.loads(sent) == TRIP
    sent = encode_reset_command(id="r1", trip="t-7", by="bob", reason="all clear", issued_at=ISSUED)
    assert json.loads(sent) == but(RESET, issued_at="2026-11-22T10:00:00.000Z")
    sent = encode_reset_command(id="r1", trip="t", by="b", reason="c", issued_at=ISSUED, override=True)
    assert json.loads(sent)["override"] is True


def test_a_command_that_would_be_refused_is_not_encoded():
    scope = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
    with pytest.raises(CommandError, match="by"):
        encode_trip_command(id="a1", scope=scope, by="", reason="r")
    with pytest.raises(CommandError, match="trip"):
        encode_reset_command(id="a1", trip="#", by="b", reason="r", issued_at=ISSUED)
    with pytest.raises(CommandError, match="issued_at"):
        encode_reset_command(id="a1", trip="t", by="b", reason="r", issued_at=float("nan"))


@pytest.mark.parametrize(
    ("account", "user", "instrument", "said"),
    [
        (14, 37, 25, {"oms": "prime", "account": 14, "user": 37, "instrument": 25}),
        (EVERY, 37, EVERY, {"oms": "prime", "user": 37}),
        (EVERY, EVERY, 25, {"oms": "prime", "account": "every", "instrument": 25}),
        (EVERY, EVERY, EVERY, {"oms": "prime", "account": "every"}),
    ],
)
def test_every_is_left_out_but_where_neither_account_nor_user_is_named(account, user, instrument, said):
    scope = Scope(oms="prime", account=account, user=user, instrument=instrument)
    assert scope_fields(scope) == said == announce.scope_json(scope)


# --- buttons -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("match", [None, "press", {"action": "emergency"}, {}])
def test_an_empty_or_retained_payload_never_presses(match):
    for payload in (b"press", b'{"action":"emergency"}', b"", b"{}"):
        assert not match_button(payload, True, match)
    assert not match_button(b"", False, match)


@pytest.mark.parametrize(
    ("payload", "match", "presses"),
    [
        (b"anything", None, True),
        (b"\xff\x00", None, True),
        (b"x" * 100_000, None, True),
        (b"press", "press", True),
        (b"press ", "press", False),
        (b"PRESS", "press", False),
        (b'"press"', "press", False),
        (b'{"action":"emergency","battery":97}', {"action": "emergency"}, True),
        (b'{"action":"single"}', {"action": "emergency"}, False),
        (b'{"battery":97}', {"action": "emergency"}, False),
        (b"emergency", {"action": "emergency"}, False),
        (b'["action"]', {"action": "emergency"}, False),
        (b"\xff", {"action": "emergency"}, False),
        (b'{"on":true}', {"on": True}, True),
        (b'{"on":1}', {"on": True}, False),
        (b'{"on":true}', {"on": 1}, False),
        (b'{"on":1.0}', {"on": 1}, True),
        (b'{"on":null}', {"on": "x"}, False),
        (b'{"a":{"b":[1,true]}}', {"a": {"b": [1, True]}}, True),
        (b'{"a":{"b":[1,1]}}', {"a": {"b": [1, True]}}, False),
        (b'{"a":"x","b":"y"}', {"a": "x", "b": "z"}, False),
    ],
)
def test_a_button_presses_only_where_its_match_is_met(payload, match, presses):
    assert match_button(payload, False, match) is presses


@given(st.binary(max_size=100), st.booleans())
def test_no_payload_breaks_a_button(payload, retained):
    for match in (None, "x", {"action": "emergency"}):
        assert isinstance(match_button(payload, retained, match), bool)


# --- announcements -----------------------------------------------------------------------------------------

CAUSE = CauseView(
    text="position of account 14 is 51",
    rule="btc",
    kind="limit",
    labels=(("account", "14"),),
    first_wall=ISSUED,
    last_wall=ISSUED + 1,
    count=2,
    last="51",
    worst="52",
)
VIEW = TripView(
    trip="t-7",
    state="confirmed",
    scope=Scope(oms="prime", account=14, user=EVERY, instrument=EVERY),
    causes=(CAUSE,),
    by="rule btc",
    tripped_wall=ISSUED,
    calls=3,
    orders_left=0,
    outcome="VERIFIED",
    covers="orders",
    verified_wall=ISSUED + 0.5,
    accounts_looked_at=(14,),
    accounts_unseen=(),
)


def test_a_receipt_says_durable_only_while_it_is_not():
    receipt = Receipt(id="a1", via="mqtt", token=None, accepted=True, reason="tripped", trip="t-7")
    said = json.loads(announce.encode_receipt(receipt, "ks-a"))
    assert said == {"id": "a1", "accepted": True, "reason": "tripped", "trip": "t-7", "daemon": "ks-a"}
    said = json.loads(announce.encode_receipt(replace(receipt, durable=False), "ks-a"))
    assert said["durable"] is False


def test_a_trip_is_published_with_exactly_the_contracts_keys():
    said = json.loads(announce.encode_trip(VIEW, "ks-a"))
    assert said == {
        "trip": "t-7",
        "state": "confirmed",
        "scope": {"oms": "prime", "account": 14},
        "causes": [
            {
                "text": "position of account 14 is 51",
                "rule": "btc",
                "kind": "limit",
                "labels": {"account": "14"},
                "first_at": "2026-11-22T10:00:00.000Z",
                "last_at": "2026-11-22T10:00:01.000Z",
                "count": 2,
                "last": "51",
                "worst": "52",
            }
        ],
        "by": "rule btc",
        "drill": False,
        "tripped_at": "2026-11-22T10:00:00.000Z",
        "calls": 3,
        "orders_left": 0,
        "outcome": "VERIFIED",
        "covers": "orders",
        "verified_at": "2026-11-22T10:00:00.500Z",
        "daemon": "ks-a",
        "shadow": False,
    }
    before = replace(VIEW, orders_left=None, outcome=None, verified_wall=None)
    said = announce.trip_json(before, "ks-a")
    assert (said["orders_left"], said["outcome"], said["verified_at"]) == (None, None, None)


def test_state_replica_and_events_are_published_as_json():
    assert json.loads(announce.encode_state("sweeping", 2)) == {"state": "sweeping", "trips": 2}
    assert json.loads(announce.UNKNOWN_STATE) == {"state": "unknown"}
    said = json.loads(announce.encode_replica("confirmed", [VIEW], "ks-a", "7f"))
    views = [announce.trip_json(VIEW, "ks-a")]
    assert said == {"daemon": "ks-a", "instance": "7f", "state": "confirmed", "trips": views}
    assert announce.decode_instance(json.dumps(said).encode()) == "7f"
    event = AnnounceEvent("late", "an order came late", ISSUED, "t-7", {"orders": [5], "size": Decimal("1.5")})
    assert json.loads(announce.encode_event(event, "ks-a")) == {
        "kind": "late",
        "text": "an order came late",
        "at": "2026-11-22T10:00:00.000Z",
        "daemon": "ks-a",
        "trip": "t-7",
        "detail": {"orders": [5], "size": "1.5"},
    }
    assert "trip" not in json.loads(announce.encode_event(AnnounceEvent("x", "y", ISSUED), "ks-a"))


@given(scopes)
def test_a_published_trip_is_read_back(scope):
    seen = announce.decode_trip_view(announce.encode_trip(replace(VIEW, scope=scope), "ks-a"))
    assert seen.scope == scope
    assert (seen.trip, seen.state, seen.calls, seen.orders_left) == ("t-7", "confirmed", 3, 0)
    assert (seen.outcome, seen.daemon, seen.by) == ("VERIFIED", "ks-a", "rule btc")
    assert seen.causes == ("position of account 14 is 51",)


@pytest.mark.parametrize(
    "scope",
    [
        None,
        {},
        {"oms": "prime"},
        {"oms": "prime", "acount": 1},
        {"oms": "prime", "account": "14"},
        {"oms": "", "account": 1},
    ],
)
def test_a_published_scope_that_can_not_be_read_is_none_and_never_every(scope):
    seen = announce.decode_trip_view(json.dumps(announce.trip_json(VIEW, "a") | {"scope": scope}).encode())
    assert seen.scope is None
    assert seen.trip == "t-7"


def test_a_receipt_is_read_back_and_a_newer_daemons_too():
    payload = b'{"id":"a1","accepted":false,"reason":"no","trip":null,"daemon":"ks-a","durable":false,"new":1}'
    assert announce.decode_receipt(payload) == {
        "id": "a1",
        "accepted": False,
        "reason": "no",
        "trip": None,
        "daemon": "ks-a",
        "durable": False,
        "shadow": False,
    }


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_payload_breaks_a_reader(payload):
    announce.decode_receipt(payload)
    announce.decode_instance(payload)
    announce.decode_trip_view(payload)


@given(st.sampled_from(sorted(announce.trip_json(VIEW, "a"))), json_values)
def test_no_field_of_a_published_trip_breaks_its_reader(name, value):
    announce.decode_trip_view(json.dumps(announce.trip_json(VIEW, "a") | {name: value}).encode())


def test_a_reset_can_name_a_trip_that_a_rule_made():
    made = "btc-position~20261122T234018~1"
    sent = encode_reset_command(id="r-1", trip=made, by="bob", reason="calm", issued_at=1_795_000_000.0)
    read = decode_reset(sent, via="mqtt", wall=0.0)
    assert isinstance(read, ResetRequested)
    assert read.trip == made
