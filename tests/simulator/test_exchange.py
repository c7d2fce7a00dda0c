"""The simulated OMS against the vendor's pages, over its calls but without a socket."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from killswitch.simulator.answers import RECEIVED
from killswitch.simulator.calls import answer
from killswitch.simulator.cancel_rows import ROWS
from killswitch.simulator.orders import OrderState, Side
from killswitch.simulator.users import READ_ONLY, TRADING, User
from killswitch.simulator.world import SimulatorOptions, WorldError, build

if TYPE_CHECKING:
    from killswitch.simulator.exchange import Exchange

BASE = 5_000_000_000
"""The twelve orders are BASE + 1 to BASE + 12."""

# account      14              15              16
# user      37      40      37      40      37      40
# instr   25  26  25  26  25  26  25  26  25  26  25  26
# order    1   2   3   4   5   6   7   8   9  10  11  12
#
# "Specifying this information": User 37, Acc't 14, Instr 25; which go and which stay, written out by hand from
# the vendor's table.
TABLE = [
    ({"UserId": 37, "AccountId": 14, "InstrumentId": 25}, [1], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ({"UserId": 37, "AccountId": 14}, [1, 2], [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ({"UserId": 37, "InstrumentId": 25}, [1, 5, 9], [2, 3, 4, 6, 7, 8, 10, 11, 12]),
    ({"UserId": 37}, [1, 2, 5, 6, 9, 10], [3, 4, 7, 8, 11, 12]),
    ({"AccountId": 14, "InstrumentId": 25}, [1, 3], [2, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ({"AccountId": 14}, [1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11, 12]),
    ({"InstrumentId": 25}, [1, 3, 5, 7, 9, 11], [2, 4, 6, 8, 10, 12]),
    ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], []),
]


def twelve(**options) -> Exchange:
    """Three accounts x two users x two instruments, one order each."""
    return build(SimulatorOptions(orders=12, first_order_id=BASE + 1, **options))


def ask(exchange: Exchange, user: int, name: str, now: float = 0.0, **body):
    text = answer(exchange, exchange.users[user], name, json.dumps({"OMSId": 1, **body}), now)
    assert text is not None
    return json.loads(text)


def code(reply) -> int:
    assert set(reply) == {"result", "errormsg", "errorcode", "detail"}
    assert reply["result"] is (reply["errorcode"] == 0)
    return reply["errorcode"]


def small(ids) -> list[int]:
    return sorted(i - BASE for i in ids)


@pytest.mark.parametrize(("body", "go", "stay"), TABLE, ids=lambda v: "-".join(v) if isinstance(v, dict) else "")
def test_each_row_of_the_table_cancels_exactly_its_orders(body, go, stay):
    exchange = twelve()
    assert code(ask(exchange, 1, "CancelAllOrders", **body)) == 0
    exchange.advance(0.0)
    assert small(exchange.open_ids()) == stay
    assert small(e.order_id for e in exchange.log.endings) == go
    assert all(e.state is OrderState.Canceled and e.why == "CancelAllOrders" for e in exchange.log.endings)


def test_the_table_has_the_vendors_eight_rows_and_the_first_is_the_narrowest():
    assert len(TABLE) == len(ROWS) == 8
    assert len({frozenset(body) for body, _, _ in TABLE}) == 8


@pytest.mark.parametrize("nothing", [0, None])
def test_a_zero_or_null_id_widens_a_cancel_as_a_missing_one_does(nothing):
    exchange = twelve()
    ask(exchange, 1, "CancelAllOrders", AccountId=nothing, UserId=nothing, InstrumentId=25)
    exchange.advance(0.0)
    assert small(exchange.open_ids()) == [2, 4, 6, 8, 10, 12]


def test_a_misspelt_key_is_ignored_and_widens_a_cancel():
    exchange = twelve()
    ask(exchange, 1, "CancelAllOrders", AcountId=14)
    exchange.advance(0.0)
    assert exchange.open_ids() == set()


@pytest.mark.parametrize("bad", ["14", 14.0, -1, True, [14], 2**63])
def test_what_is_no_id_is_an_invalid_request_and_cancels_nothing(bad):
    exchange = twelve()
    assert code(ask(exchange, 1, "CancelAllOrders", AccountId=bad)) == 100
    exchange.advance(0.0)
    assert len(exchange.open_ids()) == 12


def test_the_answer_says_received_and_the_orders_work_until_they_are_cancelled_one_after_the_other():
    exchange = twelve(cancel_rate=10.0, cancel_latency_s=0.5)
    text = answer(exchange, exchange.users[1], "CancelAllOrders", '{"OMSId":1,"AccountId":14}', 1.0)
    assert text == RECEIVED == '{"result":true,"errormsg":"","errorcode":0,"detail":""}'
    assert len(exchange.open_ids(account=14)) == 4
    exchange.advance(1.49)
    assert len(exchange.open_ids(account=14)) == 4
    left = []
    for now in (1.5, 1.6, 1.7, 1.8):
        assert exchange.due() == pytest.approx(now)
        exchange.advance(now + 0.001)
        left.append(len(exchange.open_ids(account=14)))
    assert left == [3, 2, 1, 0]
    assert exchange.due() is None


def test_a_second_cancel_of_the_same_orders_doesnt_delay_them():
    exchange = twelve(cancel_rate=10.0)
    for _ in range(5):
        ask(exchange, 1, "CancelAllOrders", AccountId=14)
    exchange.advance(0.31)
    assert exchange.open_ids(account=14) == set()


def test_an_order_that_enters_after_the_cancel_came_in_stays():
    exchange = twelve(cancel_latency_s=1.0)
    ask(exchange, 1, "CancelAllOrders", AccountId=14)
    late = exchange.place(account=14, user=37, instrument=25, now=0.5)
    exchange.advance(5.0)
    assert exchange.open_ids(account=14) == {late.order_id}


def test_a_cancel_is_told_order_by_order():
    exchange = twelve()
    ask(exchange, 1, "CancelAllOrders", AccountId=14, InstrumentId=25)
    assert exchange.take_events() == []
    exchange.advance(0.0)
    events = exchange.take_events()
    assert [(e.name, e.account) for e in events] == [("OrderStateEvent", 14)] * 2
    body = json.loads(events[0].payload)
    assert (body["OrderId"], body["Account"], body["Instrument"]) == (BASE + 1, 14, 25)
    assert (body["OrderState"], body["ChangeReason"], body["CancelReason"], body["Quantity"]) == (
        "Canceled", "UserModified", "UserModified", 0,
    )  # fmt: skip


# Permissions: "User and account permissions govern cancellation actions."


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"AccountId": 14}, 0),  # the account is the trader's, and so are all its users
        ({"AccountId": 14, "UserId": 37}, 0),
        ({"AccountId": 14, "UserId": 40}, 0),  # narrower than the row above
        ({"UserId": 37}, 0),
        ({"UserId": 37, "InstrumentId": 25}, 0),
        ({"UserId": 40}, 20),
        ({"UserId": 40, "InstrumentId": 25}, 20),
        ({"AccountId": 16}, 20),  # somebody else's account
        ({"AccountId": 99}, 20),  # and one that isn't there looks just the same
        ({"InstrumentId": 25}, 20),  # "requires special permission"
        ({}, 20),
    ],
)
def test_a_trader_cancels_on_associated_accounts_and_for_nobody_else(body, expected):
    exchange = twelve()
    exchange.users[37].accounts = frozenset({14, 15})
    assert code(ask(exchange, 37, "CancelAllOrders", **body)) == expected
    exchange.advance(0.0)
    assert (len(exchange.open_ids()) == 12) is (expected == 20)


def test_an_operator_without_the_special_permission_may_not_cancel_the_whole_oms():
    exchange = twelve()
    exchange.users[1].permissions -= {"CancelEveryOrder"}
    assert code(ask(exchange, 1, "CancelAllOrders")) == 20
    assert code(ask(exchange, 1, "CancelAllOrders", InstrumentId=25)) == 20
    assert code(ask(exchange, 1, "CancelAllOrders", UserId=40)) == 0


def test_who_may_only_look_may_not_cancel():
    exchange = twelve()
    exchange.add_user(User(user_id=50, name="viewer", accounts=frozenset({14}), permissions=frozenset({READ_ONLY})))
    assert code(ask(exchange, 50, "CancelAllOrders", AccountId=14)) == 20
    assert code(ask(exchange, 50, "CancelOrder", OrderId=BASE + 1)) == 20
    assert len(ask(exchange, 50, "GetOpenOrders", AccountId=14)) == 4


@pytest.mark.parametrize("body", [{"AccountId": 99}, {"UserId": 99}, {"InstrumentId": 99}])
def test_the_operator_is_told_that_a_thing_isnt_there(body):
    assert code(ask(twelve(), 1, "CancelAllOrders", **body)) == 104


@pytest.mark.parametrize("oms", [0, None, 2, "1"])
def test_a_request_without_the_right_oms_is_invalid(oms):
    exchange = twelve()
    assert code(ask(exchange, 1, "CancelAllOrders", OMSId=oms, AccountId=14)) == 100
    assert code(ask(exchange, 1, "GetOpenOrders", OMSId=oms, AccountId=14)) == 100


@pytest.mark.parametrize("text", ["", "[]", "null", "14", "{", '{"OMSId":NaN}', "[" * 100_000])
def test_a_payload_that_is_no_object_is_an_invalid_request(text):
    exchange = twelve()
    assert code(json.loads(answer(exchange, exchange.users[1], "CancelAllOrders", text, 0.0))) == 100


def test_nobody_is_answered_before_signing_in():
    exchange = twelve()
    assert code(json.loads(answer(exchange, None, "CancelAllOrders", '{"OMSId":1}', 0.0))) == 20
    assert len(exchange.open_ids()) == 12


@pytest.mark.parametrize("name", ["GetOMSVersion", "cancelallorders", "CancelAllOrder", ""])
def test_an_unknown_function_has_no_answer_of_ours(name):
    exchange = twelve()
    assert answer(exchange, exchange.users[1], name, "{}", 0.0) is None


# CancelOrder.


def test_cancel_order_takes_an_order_id_and_only_that_order_goes():
    exchange = twelve()
    assert code(ask(exchange, 37, "CancelOrder", OrderId=BASE + 5)) == 0
    assert len(exchange.open_ids()) == 12
    exchange.advance(0.0)
    assert small(exchange.open_ids()) == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12]


def test_cancel_order_takes_an_account_with_a_client_order_id():
    exchange = twelve()
    mine = exchange.place(account=14, user=37, instrument=25, client_order_id=77, now=0.0)
    other = exchange.place(account=15, user=37, instrument=25, client_order_id=77, now=0.0)
    assert code(ask(exchange, 37, "CancelOrder", AccountId=14, ClientOrderId=77)) == 0
    exchange.advance(0.0)
    assert not mine.open
    assert other.open


@pytest.mark.parametrize(
    "body", [{"ClientOrderId": 77}, {"AccountId": 14}, {}, {"OrderId": 0, "AccountId": 14, "ClientOrderId": 0}]
)
def test_cancel_order_with_too_little_to_identify_the_order_is_invalid(body):
    exchange = twelve()
    exchange.place(account=14, user=37, instrument=25, client_order_id=77, now=0.0)
    assert code(ask(exchange, 37, "CancelOrder", **body)) == 100
    assert code(ask(exchange, 1, "CancelOrder", **body)) == 100


def test_only_the_operator_cancels_another_users_order():
    exchange = twelve()
    assert code(ask(exchange, 37, "CancelOrder", OrderId=BASE + 3)) == 20
    exchange.advance(0.0)
    assert exchange.orders[BASE + 3].open
    assert code(ask(exchange, 1, "CancelOrder", OrderId=BASE + 3)) == 0
    exchange.advance(0.0)
    assert not exchange.orders[BASE + 3].open


def test_an_order_that_was_never_there_or_rests_on_another_account_isnt_found():
    exchange = twelve()
    assert code(ask(exchange, 37, "CancelOrder", OrderId=4)) == 104
    assert code(ask(exchange, 37, "CancelOrder", OrderId=BASE + 1, AccountId=15)) == 104
    assert code(ask(exchange, 37, "CancelOrder", AccountId=14, ClientOrderId=5)) == 104


def test_cancelling_an_order_that_has_ended_is_received_and_then_rejected_by_event():
    exchange = twelve()
    exchange.fill(BASE + 1, now=0.0)
    exchange.take_events()
    assert code(ask(exchange, 37, "CancelOrder", OrderId=BASE + 1)) == 0
    exchange.advance(0.0)
    (event,) = exchange.take_events()
    assert event.name == "CancelOrderRejectEvent"
    assert json.loads(event.payload)["OrderId"] == BASE + 1


# Looking.


def test_open_orders_are_those_of_one_account_with_the_vendors_keys():
    exchange = twelve()
    rows = ask(exchange, 40, "GetOpenOrders", AccountId=15)
    assert small(row["OrderId"] for row in rows) == [5, 6, 7, 8]
    assert all(row["OrderId"] > 2**31 for row in rows)
    row = rows[2]
    assert row["Account"] == 15
    assert row["Instrument"] == 25
    assert row["EnteredBy"] == 40
    assert row["UserName"] == "trader40"
    assert (row["Side"], row["OrderType"], row["OrderState"]) == ("Buy", "Limit", "Working")
    assert row["ReceiveTimeTicks"] == (row["ReceiveTime"] + 62135596800000) * 10000
    assert not {"AccountId", "InstrumentId", "UserId"} & set(row)


def test_short_rows_have_integer_enumerations_and_dont_say_who_entered_them():
    exchange = twelve(short_rows=True)
    row = ask(exchange, 1, "GetOpenOrders", AccountId=14)[1]
    assert row == {
        "omsId": 1, "side": 1, "orderId": BASE + 2, "price": 100, "quantity": 1, "displayQuantity": 1,
        "instrument": 26, "account": 14, "orderType": 2, "clientOrderId": 0, "orderState": 1,
    }  # fmt: skip


def test_short_events_have_fourteen_fields_and_dont_say_who_entered_the_order():
    exchange = twelve(short_events=True)
    exchange.place(account=14, user=37, instrument=25, now=0.0)
    body = json.loads(exchange.take_events()[0].payload)
    assert len(body) == 14
    assert "EnteredBy" not in body


def test_lists_need_an_account_of_ones_own_or_the_operator():
    exchange = twelve()
    exchange.users[37].accounts = frozenset({14})
    for call in ("GetOpenOrders", "GetAccountPositions"):
        assert code(ask(exchange, 37, call, AccountId=15)) == 20
        assert code(ask(exchange, 37, call, AccountId=0)) == 100
        assert code(ask(exchange, 37, call)) == 100
        assert code(ask(exchange, 1, call, AccountId=99)) == 104
        assert isinstance(ask(exchange, 1, call, AccountId=15), list)


def test_order_status_is_one_object_and_104_for_another_account():
    exchange = twelve()
    assert ask(exchange, 37, "GetOrderStatus", AccountId=14, OrderId=BASE + 1)["OrderState"] == "Working"
    assert code(ask(exchange, 37, "GetOrderStatus", AccountId=15, OrderId=BASE + 1)) == 104
    assert code(ask(exchange, 37, "GetOrderStatus", AccountId=14, OrderId=3)) == 104
    ask(exchange, 37, "CancelOrder", OrderId=BASE + 1)
    exchange.advance(0.0)
    ended = ask(exchange, 37, "GetOrderStatus", AccountId=14, OrderId=BASE + 1)
    assert (ended["OrderState"], ended["Quantity"]) == ("Canceled", 0)


def test_a_user_sees_its_own_accounts_and_the_operator_everybodys():
    exchange = twelve()
    exchange.users[40].accounts = frozenset({16, 15})
    assert ask(exchange, 40, "GetUserAccounts") == [15, 16]
    assert ask(exchange, 40, "GetUserAccounts", UserId=40) == [15, 16]
    assert code(ask(exchange, 40, "GetUserAccounts", UserId=37)) == 20
    assert ask(exchange, 1, "GetUserAccounts", UserId=37) == [14, 15, 16]
    assert ask(exchange, 1, "GetUserAccounts", UserName="trader40") == [15, 16]
    assert ask(exchange, 1, "GetUserAccounts") == []
    assert code(ask(exchange, 1, "GetUserAccounts", UserId=99)) == 104


# Trading.


def test_fills_move_positions_and_are_told():
    exchange = twelve()
    order = exchange.place(account=14, user=37, instrument=25, quantity=Decimal("0.3"), price=50000, now=0.0)
    exchange.take_events()
    exchange.fill(order.order_id, quantity=Decimal("0.1"), now=1.0)
    assert [e.name for e in exchange.take_events()] == [
        "OrderStateEvent", "OrderTradeEvent", "AccountPositionEvent", "AccountPositionEvent", "Level1UpdateEvent",
    ]  # fmt: skip
    assert order.open
    assert order.remaining == Decimal("0.2")
    exchange.fill(order.order_id, now=2.0)
    assert order.state is OrderState.FullyExecuted
    rows = ask(exchange, 37, "GetAccountPositions", AccountId=14)
    assert [(r["ProductSymbol"], r["ProductId"], r["Amount"]) for r in rows] == [
        ("BTC", 1, 0.3), ("USD", 2, -15000.0),
    ]  # fmt: skip


def test_a_sell_goes_the_other_way():
    exchange = twelve()
    order = exchange.place(account=15, user=40, instrument=26, side=Side.Sell, quantity=2, price=10, now=0.0)
    exchange.fill(order.order_id, now=0.0)
    rows = ask(exchange, 40, "GetAccountPositions", AccountId=15)
    assert [(r["ProductSymbol"], r["Amount"]) for r in rows] == [("ETH", -2), ("USD", 20)]


def test_a_position_is_moved_by_hand_and_told():
    exchange = twelve()
    exchange.move_position(14, 1, to=80, hold=5)
    exchange.move_position(14, 1, by=Decimal("-0.5"))
    first, second = exchange.take_events()
    assert (first.name, first.account, first.instrument) == ("AccountPositionEvent", 14, None)
    assert json.loads(first.payload)["Amount"] == 80
    assert json.loads(second.payload) | {"Amount": 79.5, "Hold": 5} == json.loads(second.payload)


def test_an_order_sent_over_the_wire_rests_under_the_senders_name():
    exchange = twelve()
    sent = {"InstrumentId": 25, "Side": 1, "OrderType": 2, "Quantity": 1.5, "LimitPrice": 60000, "ClientOrderId": 9}
    reply = ask(exchange, 37, "SendOrder", AccountId=14, **sent)
    assert (reply["status"], reply["errormsg"]) == ("Accepted", "")
    order = exchange.orders[reply["OrderId"]]
    assert (order.entered_by, order.side, order.remaining, order.client_order_id) == (
        37, Side.Sell, Decimal("1.5"), 9,
    )  # fmt: skip
    assert ask(exchange, 37, "SendOrder", AccountId=14, **sent | {"Quantity": 0})["status"] == "Rejected"
    exchange.users[37].accounts = frozenset({15})
    assert code(ask(exchange, 37, "SendOrder", AccountId=14, **sent)) == 20


def test_a_market_order_fills_at_once_and_its_first_event_is_the_trade():
    exchange = twelve()
    ask(exchange, 37, "SendOrder", AccountId=14, InstrumentId=25, Side=0, OrderType=1, Quantity=2)
    first, *_ = exchange.take_events()
    body = json.loads(first.payload)
    assert (body["OrderState"], body["ChangeReason"], body["AvgPrice"]) == ("FullyExecuted", "Trade", 50000)


def test_a_fill_may_win_against_a_cancel_that_was_received():
    exchange = twelve(cancel_latency_s=1.0)
    ask(exchange, 1, "CancelAllOrders", AccountId=14)
    exchange.fill(BASE + 1, now=0.5)
    exchange.advance(2.0)
    assert exchange.orders[BASE + 1].state is OrderState.FullyExecuted
    assert exchange.log.ending(BASE + 2).why == "CancelAllOrders"


def test_the_log_says_which_request_ended_an_order():
    exchange = twelve()
    exchange.log.note(0.0, 1, 1, "GetOpenOrders", {})
    noted = exchange.log.note(0.5, 1, 1, "CancelAllOrders", {"OMSId": 1, "AccountId": 14})
    ask(exchange, 1, "CancelAllOrders", AccountId=14, now=0.5)
    exchange.advance(1.0)
    ending = exchange.log.ending(BASE + 1)
    assert (ending.at, ending.request) == (0.5, noted.number)
    assert exchange.log.of("CancelAllOrders") == [noted]


def test_twenty_thousand_orders_of_one_account_are_listed_and_cancelled():
    exchange = build(SimulatorOptions(accounts=(14,), orders=20_000))
    rows = ask(exchange, 1, "GetOpenOrders", AccountId=14)
    assert len({row["OrderId"] for row in rows}) == 20_000
    ask(exchange, 1, "CancelAllOrders", AccountId=14)
    exchange.advance(0.0, at_most=500)
    assert len(exchange.open_ids()) == 19_500
    exchange.advance(0.0)
    assert exchange.open_ids() == set()
    assert len(exchange.take_events()) == 20_000


@pytest.mark.parametrize(
    "options",
    [
        {"accounts": ()}, {"accounts": 0}, {"accounts": (14, 14)}, {"accounts": (0,)}, {"users": (1,)},
        {"instruments": ()}, {"api_user": 99}, {"cancel_rate": 0.0}, {"orders": -1}, {"cancel_latency_s": -1.0},
    ],
)  # fmt: skip
def test_options_that_make_no_world_are_refused_with_a_sentence(options):
    with pytest.raises(WorldError, match=r"\w+ \w+ \w+"):
        build(SimulatorOptions(**options))


def test_accounts_and_users_may_be_counted():
    exchange = build(SimulatorOptions(accounts=5, users=3))
    assert list(exchange.accounts) == [14, 15, 16, 17, 18]
    assert [u.user_id for u in exchange.users.values() if u.permissions == {TRADING}] == [37, 40, 41]


# --- what the server tells of itself and of a credential ----------------------------------------------------


def test_permissions_are_told_to_oneself_and_to_the_operator():
    exchange = build(SimulatorOptions())
    assert ask(exchange, 37, "GetUserPermissions", UserId=37) == ["Trading"]
    assert ask(exchange, 1, "GetUserPermissions", UserId=37) == ["Trading"]
    assert code(ask(exchange, 37, "GetUserPermissions", UserId=1)) == 20
    assert code(ask(exchange, 1, "GetUserPermissions", UserId=99)) == 104
    assert code(ask(exchange, 37, "GetUserPermissions")) == 100


def test_a_call_that_wants_a_second_factor_is_listed_and_refused():
    exchange = build(SimulatorOptions(orders=12, two_factor_calls=("CancelAllOrders",)))
    assert ask(exchange, 37, "GetValidate2FARequiredEndpoints") == ["cancelallorders"]
    refused = ask(exchange, 1, "CancelAllOrders", AccountId=14)
    assert (refused["result"], "2FACode" in refused["errormsg"]) == (False, True)
    assert len(exchange.open_ids()) == 12


def test_the_api_users_permissions_can_be_given():
    exchange = build(SimulatorOptions(orders=12, api_user=37, permissions=("AccountReadOnly",)))
    assert ask(exchange, 37, "GetUserPermissions", UserId=37) == ["AccountReadOnly"]
    assert code(ask(exchange, 37, "CancelAllOrders", AccountId=14)) == 20
    assert ask(exchange, 40, "GetUserPermissions", UserId=40) == ["Trading"]
