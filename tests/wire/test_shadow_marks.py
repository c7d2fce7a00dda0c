"""What is in shadow is marked wherever it is published, and what isn't has no such mark; the journal keeps it apart."""

from __future__ import annotations

import json

from killswitch.domain.messages import (
    AnnounceEvent,
    CauseView,
    Receipt,
    Record,
    ShadowCause,
    ShadowEnded,
    ShadowFound,
    ShadowTripped,
    TripView,
    WouldCancel,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.wire import announce
from killswitch.wire.record import decode, encode
from tests.domain.bench import fold_records

SCOPE = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
CAUSE = CauseView("BTC 51 > 50", "tried", "limit", (("account", "14"),), 1.0, 2.0, 3, "51", "52")
WOULD = WouldCancel(3, 1, ((14, 3),), (7, 8, 9), 0, 0, (), complete=True)


def view(**more) -> TripView:
    held = {
        "trip": "s1",
        "state": "shadow",
        "scope": SCOPE,
        "causes": (CAUSE,),
        "by": "rule tried",
        "tripped_wall": 1.0,
        "calls": 0,
        "orders_left": 3,
        "outcome": None,
        "covers": "orders",
        "verified_wall": None,
        "accounts_looked_at": (14,),
        "accounts_unseen": (),
        "shadow": True,
        "would_cancel": WOULD,
    }
    return TripView(**(held | more))


def test_a_shadow_trip_is_read_back_with_what_it_would_have_cancelled():
    seen = announce.decode_trip_view(announce.encode_trip(view(), "ks"))
    assert seen is not None
    assert (seen.shadow, seen.outcome, seen.orders_left) == (True, None, 3)
    assert seen.would_cancel is not None
    assert (seen.would_cancel["orders"], seen.would_cancel["order_ids"]) == (3, [7, 8, 9])
    looking = announce.decode_trip_view(announce.encode_trip(view(would_cancel=None, orders_left=None), "ks"))
    assert looking is not None
    assert (looking.shadow, looking.would_cancel) == (True, None)


def test_receipts_events_and_a_replica_are_marked_only_where_it_is_so():
    for shadow in (True, False):
        receipt = Receipt("a", "mqtt", None, accepted=True, reason="", trip="s1", shadow=shadow)
        said = json.loads(announce.encode_receipt(receipt, "ks"))
        assert said.get("shadow", False) is shadow
        read = announce.decode_receipt(announce.encode_receipt(receipt, "ks"))
        assert read is not None
        assert read["shadow"] is shadow
        event = AnnounceEvent("shadow_tripped", "SHADOW", 1.0, "s1", shadow=shadow)
        assert json.loads(announce.encode_event(event, "ks")).get("shadow", False) is shadow
        replica = json.loads(announce.encode_replica("armed", [view()], "ks", "i", shadow=shadow))
        assert replica.get("shadow", False) is shadow
        assert replica["trips"][0]["shadow"] is True


def test_the_journal_keeps_every_id_of_what_was_found_and_latches_none_of_it():
    ids = tuple(range(1, 20_001))
    bodies = (
        ShadowTripped("s1", SCOPE, CAUSE, "rule tried"),
        ShadowCause("s1", CAUSE),
        ShadowFound("s1", ((14, ids), (15, ())), 0, 1, (16,), complete=False, swept_by=("t1",)),
        ShadowTripped("c1", SCOPE, CAUSE, "ann", "c1", "digest"),
        ShadowEnded("c1", "bob", "seen", "r1", "digest of r1"),
    )
    records = [Record(n, 1.0, body) for n, body in enumerate(bodies, 1)]
    for record in records:
        assert decode(encode(record)) == record
        assert json.loads(encode(record))["body"]["shadow"] is True
    restored = fold_records(records)
    assert restored.trips == ()
    assert restored.ended == {"s1", "c1"}
    assert restored.serial == 2
    assert {c.id for c in restored.commands} == {"c1", "r1"}
    assert restored.warnings == ()
