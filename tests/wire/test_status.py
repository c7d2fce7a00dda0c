from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import CauseView, Order, Preview, TripView, WouldCancel
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.view import BrokerView, FeedView, OmsView, RuleView, SessionView, View
from killswitch.wire.announce import trip_json
from killswitch.wire.status import QueryError, preview_json, ready_json, scope_of_query, view_json

SCOPE = Scope(oms="prime", account=14, user=EVERY, instrument=25)
CAUSE = CauseView("BTC 51 > 50", "btc", "limit", (("account", "14"),), 1.0, 2.0, 3, "51", "52")
TRIP = TripView(
    trip="t1",
    state="sweeping",
    scope=SCOPE,
    causes=(CAUSE,),
    by="rule btc",
    tripped_wall=1_700_000_000.0,
    calls=2,
    orders_left=None,
    outcome=None,
    covers="orders",
    verified_wall=None,
    accounts_looked_at=(14,),
    accounts_unseen=(),
)
VIEW = View(
    daemon="ks-a",
    state="sweeping",
    trips=(TRIP,),
    rules=(
        RuleView("btc", "desk", "limit", "above 50", 1, -0.02, (("account", "14"),), ((("account", "14"),),), (), 2),
    ),
    feeds=(
        FeedView("positions", True, False, 3.5, False, 4, (("not_json", 2),), ("position", "price"), ("price",), ()),
    ),
    omses=(
        OmsView(
            "prime",
            (
                SessionView(
                    "prime", "127.0.0.1:8087", True, 7, 3.0, "", "v4", may_cancel=False, credential="no", watching=True
                ),
            ),
            None,
            None,
            1.0,
            (15,),
            accounts=2,
            accounts_complete=True,
        ),
    ),
    brokers=(BrokerView("127.0.0.1:1883", False, "refused"),),
    journal_error=None,
    commands_waiting=1,
    ready=True,
    missing=(),
    notes=("no rule covers account 15",),
)


def shown(view: View) -> dict:
    return json.loads(json.dumps(view_json(view, trip_json), allow_nan=False))


def test_the_state_shows_a_trip_as_it_is_published_with_the_accounts_that_were_looked_at():
    trip = shown(VIEW)["trips"][0]
    assert trip["scope"] == {"oms": "prime", "account": 14, "instrument": 25}
    assert trip["state"] == "sweeping"
    assert trip["daemon"] == "ks-a"
    assert trip["orders_left"] is None
    assert trip["accounts_looked_at"] == [14]
    assert trip["accounts_unseen"] == []
    assert trip["causes"][0]["text"] == "BTC 51 > 50"


def test_shadow_trips_stand_after_the_others_and_say_what_they_are():
    would = WouldCancel(3, 2, ((14, 2), (15, 1)), (7, 8, 9), 1, 1, (16,), complete=False, swept_by=("t1",))
    dark = replace(TRIP, trip="s1", state="shadow", calls=0, orders_left=3, shadow=True, would_cancel=would)
    state = shown(replace(VIEW, shadows=(dark,), mode="shadow"))
    live, shadow = state["trips"]
    assert (live["trip"], live["shadow"], "would_cancel" in live) == ("t1", False, False)
    assert (shadow["trip"], shadow["shadow"], shadow["outcome"]) == ("s1", True, None)
    assert shadow["would_cancel"] == {
        "orders": 3,
        "accounts": 2,
        "by_account": {"14": 2, "15": 1},
        "order_ids": [7, 8, 9],
        "unreadable": 1,
        "unseen": 1,
        "accounts_unseen": [16],
        "complete": False,
        "swept_by": ["t1"],
    }
    assert state["mode"] == "shadow"
    assert ready_json(replace(VIEW, mode="shadow"))["mode"] == "shadow"


def test_a_whole_oms_is_said_out_loud():
    whole = replace(TRIP, scope=Scope(oms="prime", account=EVERY, user=EVERY, instrument=EVERY))
    assert shown(replace(VIEW, trips=(whole,)))["trips"][0]["scope"] == {"oms": "prime", "account": "every"}


def test_the_state_shows_rules_feeds_sessions_and_brokers():
    state = shown(VIEW)
    assert state["daemon"] == "ks-a"
    assert state["ready"] is True
    assert state["commands_waiting"] == 1
    assert state["notes"] == ["no rule covers account 15"]
    assert state["rules"] == [
        {
            "rule": "btc",
            "owner": "desk",
            "kind": "limit",
            "mode": "live",
            "limit": "above 50",
            "series": 1,
            "headroom": -0.02,
            "worst": {"account": "14"},
            "breaching": [{"account": "14"}],
            "unknown": [],
            "warming": 2,
            "armed": None,
        }
    ]
    assert state["feeds"] == [
        {
            "feed": "positions",
            "up": True,
            "heard": False,
            "age_s": 3.5,
            "stale": False,
            "readings": 4,
            "bad": {"not_json": 2},
            "watched": ["position", "price"],
            "unheard": ["price"],
            "silent": [],
        }
    ]
    assert state["omses"] == [
        {
            "oms": "prime",
            "sessions": [
                {
                    "gateway": "127.0.0.1:8087",
                    "up": True,
                    "session": 7,
                    "since_s": 3.0,
                    "why": "",
                    "dialect": "v4",
                    "may_cancel": False,
                    "credential": "no",
                    "watching": True,
                },
            ],
            "orders_left": None,
            "proof_age_s": None,
            "guard_every_s": 1.0,
            "uncovered_accounts": [15],
            "accounts": 2,
            "accounts_complete": True,
        }
    ]
    assert state["brokers"] == [{"broker": "127.0.0.1:1883", "up": False, "why": "refused"}]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_number_is_null_and_never_0(odd):
    view = replace(
        VIEW,
        rules=(replace(VIEW.rules[0], headroom=odd),),
        omses=(replace(VIEW.omses[0], proof_age_s=odd),),
    )
    state = shown(view)
    assert state["rules"][0]["headroom"] is None
    assert state["omses"][0]["proof_age_s"] is None


def test_readiness_names_what_is_missing_and_the_broker_that_is_away():
    said = ready_json(replace(VIEW, ready=False, missing=("prime: not signed in",)))
    assert said["ready"] is False
    assert said["missing"] == ["prime: not signed in"]
    assert said["brokers"] == [{"broker": "127.0.0.1:1883", "up": False, "why": "refused"}]


def test_a_preview_shows_each_order_and_what_could_not_be_looked_at():
    order = Order(account=14, order_id=2**53 + 1, instrument=25, entered_by=None, client_order_id=9)
    said = preview_json(Preview(object(), (order,), 1, (14,), (15,), complete=False, why="spent"))
    assert json.loads(json.dumps(said)) == {
        "orders": [
            {
                "order_id": 2**53 + 1,
                "client_order_id": 9,
                "account": 14,
                "instrument": 25,
                "user": None,
            }
        ],
        "unreadable": 1,
        "accounts_looked_at": [14],
        "accounts_failed": [15],
        "complete": False,
        "why": "spent",
    }


@pytest.mark.parametrize(
    ("query", "scope"),
    [
        (b"oms=prime&account=14", Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)),
        (b"instrument=25&oms=prime&user=37", Scope(oms="prime", account=EVERY, user=37, instrument=25)),
        (b"oms=prime&account=every", Scope(oms="prime", account=EVERY, user=EVERY, instrument=EVERY)),
        (b"oms=prime&account=every&user=37", Scope(oms="prime", account=EVERY, user=37, instrument=EVERY)),
        (b"oms=prime&account=9223372036854775807", Scope(oms="prime", account=2**63 - 1, user=EVERY, instrument=EVERY)),
    ],
)
def test_a_query_is_a_scope(query, scope):
    assert scope_of_query(query) == scope


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"account=14",  # no OMS
        b"oms=&account=14",
        b"oms=prime",  # neither account nor user: every must be said
        b"oms=prime&user=every",
        b"oms=prime&instrument=25",
        b"oms=prime&account=",
        b"oms=prime&account=0",
        b"oms=prime&account=-1",
        b"oms=prime&account=014",
        b"oms=prime&account=1.0",
        b"oms=prime&account=1e3",
        b"oms=prime&account=1_4",
        b"oms=prime&account=%2014",
        b"oms=prime&account=+14",
        b"oms=prime&account=EVERY",
        b"oms=prime&account=null",
        b"oms=prime&account=%D9%A1",  # an Arabic digit
        b"oms=prime&account=9223372036854775808",
        b"oms=prime&account=14&account=15",
        b"oms=prime&account=14&account=14",
        b"oms=prime&acount=14",
        b"oms=prime&account=14&Account=14",
        b"oms=prime&account=14&",
        b"oms=prime;account=14",
        b"oms",
        b"oms=%ff&account=14",
        b"oms=prime&account=\xff",
        b"&".join([b"oms=prime"] * 40),
        b"oms=" + b"a" * 5000 + b"&account=14",
    ],
)
def test_a_query_that_is_no_scope_is_refused_with_a_sentence(query):
    with pytest.raises(QueryError) as refused:
        scope_of_query(query)
    assert " " in str(refused.value)


@given(st.binary(max_size=200))
def test_no_query_raises_anything_else(query):
    with contextlib.suppress(QueryError):
        scope_of_query(query)
