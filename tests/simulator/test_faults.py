"""Faults as values and as text, and those that strike inside the exchange."""

from __future__ import annotations

import json

import pytest

from killswitch.simulator.calls import answer
from killswitch.simulator.faults import (
    CloseOn,
    CutPage,
    Deaf,
    Error,
    FaultError,
    Faults,
    KeepPlacing,
    Latency,
    LateOrder,
    Lie,
    NoAnswer,
    RateLimit,
    Reject,
    SlowLists,
    Stragglers,
    TokenExpires,
    UnknownCall,
    parse_fault,
)
from killswitch.simulator.world import SimulatorOptions, build


def world(*faults, **options):
    return build(SimulatorOptions(orders=12, faults=faults, **options))


def cancel_all(exchange, now=0.0, **body):
    text = answer(exchange, exchange.users[1], "CancelAllOrders", json.dumps({"OMSId": 1, **body}), now)
    return json.loads(text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("no_answer=2", NoAnswer(times=2)),
        ("no_answer=always,executed=no", NoAnswer(executed=False)),
        ("no_answer=1,call=GetOpenOrders", NoAnswer(times=1, call="GetOpenOrders")),
        ("lie=3", Lie(times=3)),
        ("lie=1,call=CancelOrder", Lie(times=1, call="CancelOrder")),
        ("reject=1", Reject(times=1)),
        ("error=102", Error(code=102)),
        ("error=107,times=2,executed=yes", Error(code=107, times=2, executed=True)),
        ("error=20,naming=AccountId+InstrumentId", Error(code=20, naming="AccountId+InstrumentId")),
        ("close_on=CancelAllOrders", CloseOn(call="CancelAllOrders")),
        ("close_on=GetOpenOrders, times=1, executed=yes", CloseOn(call="GetOpenOrders", times=1, executed=True)),
        ("unknown_call=GetOMSVersion", UnknownCall(call="GetOMSVersion")),
        ("stragglers=3", Stragglers(orders=3)),
        ("cut_page=2,times=1", CutPage(rows=2, times=1)),
        ("keep_placing=5,account=14,lasting_s=0.5", KeepPlacing(rate=5, account=14, lasting_s=0.5)),
        ("keep_placing=5,fill=yes", KeepPlacing(rate=5, fill=True)),
        ("late_order=0.5", LateOrder(delay_s=0.5)),
        ("late_order=0,times=always,account=15", LateOrder(delay_s=0, times=None, account=15)),
        ("latency=0.25", Latency(delay_s=0.25)),
        ("slow_lists=2", SlowLists(delay_s=2)),
        ("deaf=always", Deaf()),
        ("token_expires_after=5,times=2", TokenExpires(calls=5, times=2)),
        ("token_expires_after=always,after_s=3", TokenExpires(after_s=3)),
        ("rate_limit=20,per_s=2,frame=1", RateLimit(calls=20, per_s=2, frame=1)),
    ],
)
def test_a_fault_is_read_from_text(text, fault):
    assert parse_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "", "nothing=1", "lie", "lie=", "lie=x", "lie=-1", "lie=1.5", "error=always", "latency=nan", "latency=inf",
        "keep_placing=0", "lie=1,color=red", "no_answer=1,executed=maybe", "lie=1,", "close_on=",
    ],
)  # fmt: skip
def test_a_fault_that_cant_be_is_refused_with_a_sentence(text):
    with pytest.raises(FaultError, match=r"\w+ \w+"):
        parse_fault(text)


def test_a_fault_strikes_as_often_as_it_says_and_is_counted():
    faults = Faults()
    faults.inject("lie=2")
    assert [faults.take(Lie, "CancelAllOrders") is not None for _ in range(3)] == [True, True, False]
    assert faults.take(Lie, "CancelOrder") is None
    assert faults.injected == {"Lie": 2}


def test_a_fault_that_is_cleared_strikes_no_more():
    faults = Faults()
    faults.inject("lie=always")
    faults.inject("stragglers=2")
    faults.clear(Lie)
    assert faults.take(Lie, "CancelAllOrders") is None
    assert faults.take(Stragglers) is not None
    faults.clear()
    assert faults.take(Stragglers) is None


def test_an_error_can_be_kept_to_one_form_of_the_call():
    exchange = world("error=20,naming=AccountId,times=always", "error=106,naming=none,times=always")
    assert cancel_all(exchange, AccountId=14)["errorcode"] == 20
    assert cancel_all(exchange)["errorcode"] == 106
    assert cancel_all(exchange, InstrumentId=25)["result"] is True
    assert cancel_all(exchange, InstrumentId=25, AccountId=14)["result"] is True
    assert exchange.faults.injected == {"Error": 2}


def test_a_lie_is_answered_true_and_changes_nothing():
    exchange = world("lie=1")
    assert cancel_all(exchange)["result"] is True
    exchange.advance(100.0)
    assert len(exchange.open_ids()) == 12
    assert exchange.take_events() == []
    cancel_all(exchange)
    exchange.advance(100.0)
    assert exchange.open_ids() == set()


def test_a_reject_is_answered_true_and_then_told_by_event():
    exchange = world("reject=1")
    assert cancel_all(exchange, AccountId=14)["result"] is True
    exchange.advance(1.0)
    (event,) = exchange.take_events()
    assert (event.name, event.account) == ("CancelAllOrdersRejectEvent", 14)
    assert len(exchange.open_ids()) == 12


@pytest.mark.parametrize("number", [20, 100, 101, 102, 104, 106])
def test_an_error_code_is_answered_and_nothing_is_cancelled(number):
    exchange = world(f"error={number},times=1")
    reply = cancel_all(exchange)
    assert (reply["result"], reply["errorcode"]) == (False, number)
    assert reply["errormsg"] == {
        20: "Not Authorized", 100: "Invalid Request", 101: "Operation Failed", 102: "Server Error",
        104: "Resource Not Found", 106: "Operation Not Supported",
    }[number]  # fmt: skip
    exchange.advance(1.0)
    assert len(exchange.open_ids()) == 12
    assert cancel_all(exchange)["errorcode"] == 0


def test_an_error_may_be_answered_although_the_cancel_is_carried_out():
    exchange = world("error=107,executed=yes")
    assert cancel_all(exchange)["errorcode"] == 107
    exchange.advance(1.0)
    assert exchange.open_ids() == set()


def test_stragglers_stay_and_can_be_cancelled_one_by_one():
    exchange = world("stragglers=2")
    for _ in range(3):
        cancel_all(exchange, AccountId=14)
        exchange.advance(1.0)
        assert len(exchange.open_ids(account=14)) == 2
    for order in exchange.open_ids(account=14):
        answer(exchange, exchange.users[1], "CancelOrder", json.dumps({"OMSId": 1, "OrderId": order}), 1.0)
    exchange.advance(1.0)
    assert exchange.open_ids(account=14) == set()


def test_a_trader_keeps_placing_through_the_cancels_and_stops_in_the_end():
    exchange = world()
    exchange.advance(10.0)
    exchange.faults.inject("keep_placing=4,account=15,user=40,instrument=26,lasting_s=2")
    assert exchange.due() == 10.0  # it wants to be started at once
    exchange.advance(10.0)
    exchange.advance(11.01)
    assert len(exchange.open_ids(account=15)) == 4 + 4
    cancel_all(exchange, now=11.01, AccountId=15)
    exchange.advance(30.0)
    assert len(exchange.open_ids(account=15)) == 4
    assert exchange.due() is None


def test_a_trader_that_is_switched_off_places_no_more():
    exchange = world("keep_placing=10,account=14,lasting_s=1000")
    exchange.advance(0.0)
    exchange.advance(1.05)
    exchange.faults.clear(KeepPlacing)
    before = len(exchange.open_ids())
    exchange.advance(50.0)
    assert len(exchange.open_ids()) == before > 12


def test_a_late_order_enters_after_the_last_cancel_was_carried_out_into_the_scope_that_was_cancelled():
    exchange = world("late_order=0.5", cancel_rate=10.0)
    cancel_all(exchange, AccountId=15, UserId=40)
    exchange.advance(0.11)
    assert exchange.open_ids(account=15, user=40) == set()
    exchange.advance(0.59)
    assert exchange.open_ids(account=15, user=40) == set()
    exchange.advance(0.61)
    (late,) = exchange.open_orders(account=15, user=40)
    cancel_all(exchange, now=0.7, AccountId=15)
    exchange.advance(30.0)
    assert not late.open
    assert exchange.open_ids(account=15) == set()


def test_a_late_order_also_follows_a_cancel_that_found_nothing():
    exchange = build(SimulatorOptions(faults=("late_order=1",)))
    cancel_all(exchange, AccountId=16)
    exchange.advance(0.0)
    exchange.advance(2.0)
    assert len(exchange.open_ids(account=16)) == 1


def test_a_trader_who_names_an_account_that_isnt_there_places_nothing():
    exchange = world("keep_placing=10,account=99,lasting_s=1")
    exchange.advance(0.0)
    exchange.advance(5.0)
    assert len(exchange.open_ids()) == 12
