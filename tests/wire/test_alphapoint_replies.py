"""What replies say, however they are spelt; and that nothing that comes from outside can break a reader."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from killswitch.domain.messages import Answer, AnswerKind, Order, PositionRow
from killswitch.wire import alphapoint_events, alphapoint_market, alphapoint_replies
from killswitch.wire.alphapoint_replies import NotSignedIn, OrderStatus, Rows, SignedIn
from killswitch.wire.frame import Frame, FrameType, ProtocolError, decode_frame, encode_frame


def reply(o: object, m: int = 1, n: str = "GetOpenOrders") -> Frame:
    return Frame(m=m, i=2, n=n, o=o if isinstance(o, str) else json.dumps(o))


# --- the generic answer ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        '{"result":true,"errormsg":"","errorcode":0,"detail":""}',
        '{"result":true,"errormsg":null,"errorcode":0,"detail":null}',
        '{"result":"true","errormsg":"","errorcode":0,"detail":""}',
        '{"Result":true,"ErrorMsg":"","ErrorCode":0,"Detail":""}',
        '{"result":true}',
    ],
)
def test_a_true_result_without_an_error_means_received(body):
    answer = alphapoint_replies.read_answer(reply(body))
    assert (answer.kind, answer.label, answer.code) == (AnswerKind.RECEIVED, "ok", 0)


@pytest.mark.parametrize(
    "body",
    [
        "TOO MANY REQUESTS",
        '"Too many requests"',
        '{"result":false,"errormsg":"Rate limit exceeded","errorcode":999,"detail":null}',
        '{"result":false,"errormsg":"","errorcode":429,"detail":null}',
        '{"result":false,"errormsg":"Invalid Request","errorcode":100,"detail":"Too many requests"}',
        '{"message":"Request was throttled"}',
    ],
)
@pytest.mark.parametrize("m", [1, 5])
def test_too_many_calls_is_neither_a_list_nor_a_refusal(body, m):
    for said in (
        alphapoint_replies.read_answer(reply(body, m)),
        alphapoint_replies.read_open_orders(reply(body, m), 14),
        alphapoint_replies.read_user_accounts(reply(body, m)),
        alphapoint_replies.read_positions(reply(body, m), 14),
    ):
        assert isinstance(said, Answer)
        assert (said.kind, said.label) == (AnswerKind.UNCLEAR, "other")
        assert said.limited is ("message" not in body)


def test_a_received_cancel_that_speaks_of_limits_is_received():
    body = {"result": True, "errormsg": "", "errorcode": 0, "detail": "rate limit: 12 left"}
    answer = alphapoint_replies.read_answer(reply(body))
    assert (answer.kind, answer.limited) == (AnswerKind.RECEIVED, False)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (20, "Not Authorized", AnswerKind.REFUSED),
        (100, "Invalid Request", AnswerKind.REFUSED),
        (101, "Operation Failed", AnswerKind.UNCLEAR),
        (102, "Server Error", AnswerKind.UNCLEAR),
        (104, "Resource Not Found", AnswerKind.ABSENT),
        (106, "Operation Not Supported", AnswerKind.REFUSED),
        (107, "Operation In Process", AnswerKind.UNCLEAR),
    ],
)
@pytest.mark.parametrize("result", [False, True])
@pytest.mark.parametrize("m", [1, 5])
def test_each_documented_code_is_known_even_beside_a_true_result(code, text, kind, result, m):
    body = {"result": result, "errormsg": text, "errorcode": code, "detail": None}
    assert alphapoint_replies.read_answer(reply(body, m)) == Answer(kind, str(code), code, text)
    body["errorcode"] = str(code)
    assert alphapoint_replies.read_answer(reply(body, m)) == Answer(kind, str(code), code, text)
    del body["errorcode"]
    assert alphapoint_replies.read_answer(reply(body, m)) == Answer(kind, str(code), code, text)


@pytest.mark.parametrize(
    "body",
    [
        '{"result":false,"errormsg":"Already Subscribed.","errorcode":909}',
        '{"result":false,"errormsg":"Not Authorized by SSO","errorcode":401}',
        '{"result":true,"errormsg":null,"errorcode":103}',
        '{"result":true,"errormsg":null,"errorcode":"many"}',
        '{"result":true,"errormsg":null,"errorcode":1e300}',
        '{"result":true,"errormsg":null,"errorcode":' + "9" * 40 + "}",
        '{"result":true,"RESULT":true,"errorcode":0}',
        '{"result":false,"errormsg":null,"errorcode":0}',
        '{"result":null,"errorcode":0}',
        '{"result":1,"errorcode":0}',
        '{"msg":"PONG"}',
        "{}",
        "[]",
        "null",
        "true",
        "0",
        '"true"',
        "",
        "TOO MANY REQUESTS",
    ],
)
def test_what_is_no_generic_answer_or_has_another_code_is_unclear(body):
    answer = alphapoint_replies.read_answer(reply(body))
    assert (answer.kind, answer.label) == (AnswerKind.UNCLEAR, "other")


def test_bare_text_in_an_error_frame_is_unclear_and_kept_for_people():
    answer = alphapoint_replies.read_answer(reply("Endpoint Not Found", m=5))
    assert answer == Answer(AnswerKind.UNCLEAR, "other", 0, "Endpoint Not Found")


def test_an_error_frame_is_never_a_success():
    answer = alphapoint_replies.read_answer(reply('{"result":true,"errorcode":0}', m=5))
    assert answer.kind is AnswerKind.UNCLEAR


@pytest.mark.parametrize(
    ("body", "label"),
    [
        ("This endpoint requires 2FACode along with the payload", "other"),
        ('"This endpoint requires 2FACode along with the payload"', "other"),
        ('{"result":false,"errormsg":"This endpoint requires 2FACode","errorcode":101}', "101"),
        ('{"result":true,"errormsg":"This endpoint requires 2FACode","errorcode":0}', "other"),
        ('{"result":false,"detail":"this endpoint requires 2fa"}', "other"),
        ('{"Requires2FA":true}', "other"),
    ],
)
def test_a_demand_for_a_second_factor_is_a_refusal(body, label):
    answer = alphapoint_replies.read_answer(reply(body))
    assert (answer.kind, answer.label) == (AnswerKind.REFUSED, label)


def test_a_long_text_from_outside_becomes_one_short_printable_line():
    answer = alphapoint_replies.read_answer(reply("a\n\x1b[31m" + "b" * 100_000, m=5))
    assert answer.text.isprintable()
    assert len(answer.text) <= 201


# --- signing in --------------------------------------------------------------------------------------------

V4_SIGNED_IN = {
    "Authenticated": True,
    "SessionToken": "f6c6e7a1",
    "User": {"UserId": 37, "UserName": "desk", "AccountId": 14, "OMSId": 1, "Use2FA": False},
    "Locked": False,
    "Requires2FA": False,
    "EnforceEnable2FA": False,
    "TwoFAType": None,
    "TwoFAToken": None,
    "errormsg": None,
}


def sign_in(**changes):
    body = {**V4_SIGNED_IN, **changes}
    return alphapoint_replies.read_sign_in(reply({k: v for k, v in body.items() if v != "gone"}))


def test_an_authenticated_user_with_a_session_is_signed_in():
    assert sign_in() == SignedIn(37)
    assert sign_in(User=None) == SignedIn(None)
    assert sign_in(SessionToken="gone") == SignedIn(37)
    camel = '{"authenticated":true,"user":{"userId":37},"locked":false,"requires2FA":false,"errormsg":""}'
    assert alphapoint_replies.read_sign_in(reply(camel)) == SignedIn(37)


@pytest.mark.parametrize("pending", [True, "true", 1, "yes", []])
def test_a_pending_second_factor_is_not_signed_in_although_it_says_authenticated(pending):
    refused = sign_in(Requires2FA=pending)
    assert isinstance(refused, NotSignedIn)
    assert "second factor" in refused.why


def test_a_locked_user_is_told():
    refused = sign_in(Authenticated=False, Locked=True, errormsg="User is locked")
    assert isinstance(refused, NotSignedIn)
    assert "locked" in refused.why
    assert isinstance(sign_in(Locked=True), NotSignedIn)


@pytest.mark.parametrize("authenticated", [False, None, "gone", "false", 0, 1, "yes", {}])
def test_only_a_readable_true_signs_in(authenticated):
    refused = sign_in(Authenticated=authenticated, errormsg="Invalid username or password")
    assert refused == NotSignedIn("Invalid username or password")


def test_authenticated_without_token_and_user_is_not_signed_in():
    assert isinstance(sign_in(SessionToken="gone", User="gone"), NotSignedIn)


@pytest.mark.parametrize("text", ["Endpoint Not Found", "", "[]", "null", "TOO MANY REQUESTS"])
def test_an_answer_that_can_not_be_read_is_a_refusal(text):
    refused = alphapoint_replies.read_sign_in(reply(text, m=5))
    assert isinstance(refused, NotSignedIn)
    assert refused.why
    assert not refused.passing


def test_a_server_that_fails_is_told_from_one_that_says_no():
    failed = alphapoint_replies.read_sign_in(reply('{"result":false,"errormsg":"Server Error","errorcode":102}'))
    assert failed == NotSignedIn("Server Error", passing=True)
    refused = alphapoint_replies.read_sign_in(reply('{"result":false,"errormsg":"Not Authorized","errorcode":20}'))
    assert refused == NotSignedIn("Not Authorized")


@pytest.mark.parametrize("body", ['{"Subscribe":true}', '{"Subscribed":true}', '{"subscribed":"true"}'])
def test_both_spellings_of_subscribed_count(body):
    assert alphapoint_replies.read_subscribed(reply(body)).kind is AnswerKind.RECEIVED


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ('{"Subscribe":false}', AnswerKind.REFUSED),
        ('{"result":false,"errormsg":"Not Authorized","errorcode":20}', AnswerKind.REFUSED),
        ('{"result":true,"errorcode":0}', AnswerKind.UNCLEAR),
        ("{}", AnswerKind.UNCLEAR),
        ("[]", AnswerKind.UNCLEAR),
    ],
)
def test_anything_else_is_not_subscribed(body, kind):
    assert alphapoint_replies.read_subscribed(reply(body)).kind is kind


# --- orders ------------------------------------------------------------------------------------------------

ROW = {
    "Side": "Buy",
    "OrderId": 23092280996,
    "Price": 100.5,
    "Quantity": 1.0,
    "Instrument": 25,
    "Account": 14,
    "OrderType": "Limit",
    "ClientOrderId": 7,
    "OrderState": "Working",
    "EnteredBy": 37,
    "UserName": "trader",
    "InsideAsk": 9223372036.854775807,
    "OrderFlag": "AddedToBook, PostOnly",
}
ORDER = Order(
    account=14,
    order_id=23092280996,
    instrument=25,
    entered_by=37,
    client_order_id=7,
    quantity=Decimal(1),
    price=Decimal("100.5"),
)


def listed(*rows: object) -> Rows[Order] | Answer:
    return alphapoint_replies.read_open_orders(reply(json.dumps(rows)), 14)


def camel(row):
    return {key[0].lower() + key[1:]: value for key, value in row.items()}


def test_an_empty_array_is_an_empty_list():
    assert listed() == Rows(())


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        camel(ROW),
        {key.upper(): value for key, value in ROW.items()},
        {**ROW, "OrderState": 1},
        {**ROW, "OrderState": "1"},
        {**ROW, "OrderState": "Unknown"},
        {**ROW, "OrderState": 0},
        {**ROW, "OrderState": "Pending"},
        {**ROW, "OrderState": None},
        {k: v for k, v in ROW.items() if k != "OrderState"},
        {**ROW, "OrderId": "23092280996", "Account": "14", "ClientOrderId": "7"},
        {**ROW, "OrderId": 23092280996.0},
        {**ROW, "Quantity": "1", "Price": "100.50"},
        {**ROW, "Quantity": 1, "Price": 1005e-1},
        {k: v for k, v in ROW.items() if k != "Account"},
        {**ROW, "Account": 0},
    ],
)
def test_a_working_order_is_read_however_it_is_spelt(row):
    assert listed(row) == Rows((ORDER,))
    assert listed(ROW, row) == Rows((ORDER, ORDER))


@pytest.mark.parametrize(
    "state",
    ["Canceled", "canceled", 3, "3", "FullyExecuted", "Fully Executed", 5, "Rejected", 2, "Expired", 4],
)
def test_an_order_that_says_it_has_ended_is_skipped(state):
    assert listed(ROW, {**ROW, "OrderState": state}) == Rows((ORDER,))
    assert listed(camel({**ROW, "OrderState": state}), ROW) == Rows((ORDER,))


@pytest.mark.parametrize("entered_by", [0, None, -1, "", "nobody", 2**63, 10**30, True, 37.5, [37]])
def test_an_order_that_nobody_is_known_to_have_entered_has_no_user(entered_by):
    rows = listed({**ROW, "EnteredBy": entered_by})
    assert rows == Rows((replace(ORDER, entered_by=None),))


def test_a_short_row_of_the_old_dialect_lacks_only_what_it_lacks():
    assert listed({"OrderId": 5, "Instrument": 25, "Account": 14, "ClientOrderId": 0}) == Rows(
        (Order(14, 5, 25, None),)
    )


def test_ids_that_can_not_be_read_are_none_in_their_row_only():
    rows = listed({**ROW, "OrderId": "x", "Instrument": {}}, ROW)
    assert rows == Rows((replace(ORDER, order_id=None, instrument=None), ORDER))


def test_a_key_that_stands_there_twice_in_different_cases_is_unreadable():
    mixed = listed({"orderId": 5, "account": 14, "OrderState": "Canceled", "orderstate": "Working"})
    assert mixed == Rows((Order(14, 5, None, None),))


def test_the_documented_spelling_counts_where_a_row_has_all_of_it():
    assert listed({**ROW, "orderstate": "Canceled", "enteredBy": 40}) == Rows((ORDER,))


NO_NUMBERS = [
    *("null", '""', '"x"', '"NaN"', '"Infinity"', "true", "[]", "{}", '"1_0"', "-1", "1e41", "1" * 400, "1" * 600),
    *("9223372036.854775807", "9.223372036854776E9", '"9223372036.854775807"'),
    *("79228162514264337593543950335", "7.922816251426434E28", "79228162514264337593543950335.0"),
]


@pytest.mark.parametrize("spelt", [json.dumps(ROW), json.dumps(camel(ROW))], ids=["fast", "tolerant"])
@pytest.mark.parametrize("number", NO_NUMBERS)
def test_what_is_left_of_an_order_and_its_limit_are_none_where_they_can_not_be_read(spelt, number):
    text = spelt.replace(": 100.5", ": " + number).replace(": 1.0", ": " + number)
    found = alphapoint_replies.read_open_orders(reply(f"[{text}]"), 14)
    assert found == Rows((replace(ORDER, quantity=None, price=None),))


@pytest.mark.parametrize("spelt", [json.dumps(ROW), json.dumps(camel(ROW))], ids=["fast", "tolerant"])
def test_a_quantity_and_a_price_keep_every_digit_and_a_price_of_0_is_none(spelt):
    text = spelt.replace(": 1.0", ": 0.1234567890123456789012345678")
    assert alphapoint_replies.read_open_orders(reply(f"[{text}]"), 14) == Rows(
        (replace(ORDER, quantity=Decimal("0.1234567890123456789012345678")),)
    )
    text = spelt.replace(": 1.0", ": 0").replace(": 100.5", ": 0")
    assert alphapoint_replies.read_open_orders(reply(f"[{text}]"), 14) == Rows(
        (replace(ORDER, quantity=Decimal(0), price=None),)
    )


@pytest.mark.parametrize("row", [None, 5, "text", [], [1, 2], {}, {"Side": "Buy"}, {"OrderId": 0}])
def test_a_row_that_can_not_be_read_at_all_is_counted(row):
    assert listed(ROW, row) == Rows((ORDER,), unreadable=1)


def test_a_row_of_another_account_keeps_its_own():
    assert listed({**ROW, "Account": 15}) == Rows((replace(ORDER, account=15),))


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "null",
        "true",
        "5",
        '"[]"',
        "",
        "[",
        "Endpoint Not Found",
        '{"result":true,"errorcode":0}',
        "[NaN]",
        '["\\ud800"]',
        "[" + "9" * 5000 + "]",
        "[" * 100_000,
    ],
)
def test_a_reply_that_is_no_array_is_no_list(body):
    answer = alphapoint_replies.read_open_orders(reply(body), 14)
    assert isinstance(answer, Answer)
    assert (answer.kind, answer.label) == (AnswerKind.UNCLEAR, "other")


def test_a_refused_list_keeps_its_code():
    answer = alphapoint_replies.read_open_orders(
        reply('{"result":false,"errormsg":"Not Authorized","errorcode":20}'), 14
    )
    assert answer == Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")


def test_an_array_in_an_error_frame_is_no_list():
    assert isinstance(alphapoint_replies.read_open_orders(reply("[]", m=5), 14), Answer)
    assert isinstance(alphapoint_replies.read_user_accounts(reply("[]", m=5)), Answer)
    assert isinstance(alphapoint_replies.read_positions(reply("[]", m=5), 14), Answer)


rows_of_orders = st.dictionaries(
    st.sampled_from([*ROW, *camel(ROW)]),
    st.none() | st.booleans() | st.integers(-1, 60) | st.sampled_from(["Working", "Canceled", "7", "", "x"]),
)


@given(st.lists(rows_of_orders | st.just(ROW), max_size=6))
def test_no_row_is_lost_on_the_fast_way_or_the_slow_one(rows):
    """Every row is an order, counted as unreadable, or says somewhere that it has ended."""
    found = listed(*rows)
    assert isinstance(found, Rows)
    ended = sum(
        "Canceled" in (row.get("OrderState"), row.get("orderState"))
        or any(
            row.get(key) in range(2, 6) and not isinstance(row.get(key), bool) for key in ("OrderState", "orderState")
        )
        for row in rows
    )
    assert len(rows) - ended <= len(found.rows) + found.unreadable <= len(rows)


def test_an_order_status_is_an_order_with_its_end():
    for body in (ROW, [ROW], camel(ROW)):
        assert alphapoint_replies.read_order_status(reply(body), 14) == OrderStatus(ORDER, "")
    ended = alphapoint_replies.read_order_status(reply({**ROW, "OrderState": "Fully Executed"}), 14)
    assert ended == OrderStatus(ORDER, "FullyExecuted")


@pytest.mark.parametrize("body", ["[]", "{}", "null", '{"result":true}', "x", '{"OrderId":0,"Account":14}'])
def test_an_order_status_without_an_order_is_an_answer(body):
    answer = alphapoint_replies.read_order_status(reply(body), 14)
    assert isinstance(answer, Answer)
    assert answer.kind is AnswerKind.UNCLEAR


def test_an_unknown_order_is_absent():
    answer = alphapoint_replies.read_order_status(
        reply('{"result":false,"errormsg":"Resource Not Found","errorcode":104}'), 14
    )
    assert answer == Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found")


# --- accounts and positions --------------------------------------------------------------------------------


def test_accounts_are_ids_each_once():
    assert alphapoint_replies.read_user_accounts(reply('[14,"15",14]')) == (14, 15)
    assert alphapoint_replies.read_user_accounts(reply("[]")) == ()


@pytest.mark.parametrize("body", ["[14,0]", "[14,null]", '[14,"x"]', "[14,1.5]", "{}", "14", "x"])
def test_accounts_that_can_not_all_be_read_are_no_list(body):
    assert isinstance(alphapoint_replies.read_user_accounts(reply(body)), Answer)


def test_positions_keep_every_digit():
    body = (
        '[{"OMSId":1,"AccountId":14,"ProductSymbol":"BTC","ProductId":2,'
        '"Amount":1.0000000000000000000000000001,"Hold":"0.5"}]'
    )
    assert alphapoint_replies.read_positions(reply(body), 14) == Rows(
        (PositionRow(14, "BTC", Decimal("1.0000000000000000000000000001"), Decimal("0.5")),)
    )


@pytest.mark.parametrize(
    "amount",
    [
        '"NaN"',
        '"Infinity"',
        "1e400",
        "1e99999999999999999999",
        "true",
        "null",
        '"x"',
        '""',
        "[]",
        "9" * 80,
        '"1_0"',
    ],
)
def test_a_position_whose_amount_is_no_number_is_unreadable(amount):
    body = (
        '[{"AccountId":14,"ProductSymbol":"BTC","Amount":%s,"Hold":0},'
        '{"AccountId":14,"ProductSymbol":"USD","Amount":-5,"Hold":0}]'
    )
    assert alphapoint_replies.read_positions(reply(body % amount), 14) == Rows(
        (PositionRow(14, "USD", Decimal(-5), Decimal(0)),), unreadable=1
    )


# --- events ------------------------------------------------------------------------------------------------


def event(n: str, body: object) -> Frame:
    return reply(body, m=3, n=n)


def read(frame: Frame):
    return alphapoint_events.read_event(frame, "prime", 9, 1.5)


@pytest.mark.parametrize("state", ["Working", 1, "Unknown", None, "Odd"])
def test_an_order_event_without_an_end_is_a_working_order(state):
    (found,) = read(event("OrderStateEvent", {**ROW, "OrderState": state, "ChangeReason": "UserModified"}))
    assert type(found).__name__ == "OrderWorking"
    assert (found.oms, found.session, found.wall, found.order) == ("prime", 9, 1.5, ORDER)


@pytest.mark.parametrize(
    ("state", "name"),
    [("Canceled", "Canceled"), (5, "FullyExecuted"), ("Rejected", "Rejected"), ("Expired", "Expired")],
)
def test_an_order_event_with_an_end_ends_it(state, name):
    (found,) = read(event("OrderStateEvent", camel({**ROW, "OrderState": state})))
    assert type(found).__name__ == "OrderEnded"
    assert (found.order, found.state) == (ORDER, name)


def test_a_position_event_is_a_position():
    (found,) = read(event("AccountPositionEvent", '{"AccountId":14,"ProductSymbol":"BTC","Amount":0.1,"Hold":0}'))
    assert found.row == PositionRow(14, "BTC", Decimal("0.1"), Decimal(0))


def test_refused_cancels_are_told():
    (one,) = read(
        event(
            "CancelOrderRejectEvent",
            {"AccountId": 14, "OrderId": 5, "Status": "Rejected", "RejectReason": "Order Not Found"},
        )
    )
    assert (one.account, one.order_id, one.reason) == (14, 5, "Order Not Found")
    (all_,) = read(
        event(
            "CancelAllOrdersRejectEvent",
            {"AccountId": 14, "InstrumentId": 25, "Status": "Rejected", "RejectReason": "x"},
        )
    )
    assert (all_.account, all_.order_id, all_.session) == (14, None, 9)
    assert read(event("CancelAllOrdersRejectEvent", {"AccountId": 14, "Status": "Accepted"})) == ()


@pytest.mark.parametrize("n", ["LogoutEvent", "TradeDataUpdateEvent", "Level2UpdateEvent", "MarketStateUpdate", ""])
def test_other_events_say_nothing_whatever_they_hold(n):
    assert read(event(n, "not even JSON")) == ()


EVENTS = (
    *("OrderStateEvent", "AccountPositionEvent", "CancelOrderRejectEvent", "CancelAllOrdersRejectEvent"),
    *("Level1UpdateEvent", "Leve1UpdateEvent", "OrderTradeEvent", "NewOrderRejectEvent"),
)


@pytest.mark.parametrize("n", EVENTS)
@pytest.mark.parametrize(
    "body", ["", "x", "[]", "null", "{}", '{"Account":0,"AccountId":0}', '{"AccountId":"x"}', "[" * 100_000]
)
def test_an_event_that_can_not_be_read_is_a_protocol_error(n, body):
    with pytest.raises(ProtocolError):
        read(event(n, body))


# --- whatever the bytes ------------------------------------------------------------------------------------

READERS = (
    alphapoint_replies.read_answer,
    alphapoint_replies.read_sign_in,
    alphapoint_replies.read_subscribed,
    alphapoint_replies.read_user_accounts,
    lambda frame: alphapoint_replies.read_open_orders(frame, 14),
    lambda frame: alphapoint_replies.read_order_status(frame, 14),
    lambda frame: alphapoint_replies.read_positions(frame, 14),
    alphapoint_market.read_instruments,
    lambda frame: alphapoint_market.read_subscribed_prices(frame, 25),
)
KEYS = [
    *ROW,
    *camel(ROW),
    *V4_SIGNED_IN,
    "result",
    "errormsg",
    "errorcode",
    "detail",
    "Amount",
    "Hold",
    "ProductSymbol",
    "AccountId",
    "Subscribed",
    "Status",
    "OrderID",
    "orderid",
    "InstrumentId",
    "BestBid",
    "BestOffer",
    "LastTradedPx",
    "Product1Symbol",
    "Product2Symbol",
    "TradeId",
]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63), 10**400, "true", "Working", "NaN", "1e999999", "9" * 5000])
    | st.floats()
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner, max_size=6),
    max_leaves=25,
)


def try_every_reader(text: str) -> None:
    for m in FrameType:
        for read_reply in READERS:
            read_reply(Frame(m=int(m), i=2, n="GetOpenOrders", o=text))
    for n in EVENTS:
        with contextlib.suppress(ProtocolError):
            read(Frame(m=3, i=2, n=n, o=text))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(anything)
def test_no_json_breaks_a_reader(value):
    try_every_reader(json.dumps(value))


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_no_text_breaks_a_reader(text):
    try_every_reader(text)


VALID = [
    json.dumps([ROW, camel(ROW)]),
    json.dumps(V4_SIGNED_IN),
    '{"result":true,"errormsg":"","errorcode":0}',
    "[14,15]",
    json.dumps(ROW),
]


@settings(max_examples=300)
@given(st.sampled_from(VALID), st.data())
def test_no_mutation_of_a_valid_frame_breaks_anything(text, data):
    frame = bytearray(encode_frame(FrameType.REPLY, 2, "GetOpenOrders", text))
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(["flip", "drop", "double", "cut"])):
            case "flip":
                frame[at] = data.draw(st.integers(0, 255))
            case "drop":
                del frame[at]
            case "double":
                frame[at:at] = frame[at : at + 20]
            case _:
                del frame[at + 1 :]
        frame = frame or bytearray(b"{")
    try:
        found = decode_frame(bytes(frame))
    except ProtocolError:
        return
    try_every_reader(found.o)


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 20_000,
        "[" * 900 + "]" * 900,
        '[{"Account":14,"x":' + "[" * 800 + "]" * 800 + "}]",
        '{"a":' + "[" * 800 + "]" * 800 + ',"A":' + "[" * 800 + "]" * 800 + "}",
        "\ud800",
        '{"errormsg":"\ud800"}',
        '{"result":true,"result":false,"result":[]}',
        "1" * 100_000,
        "-" + "1" * 4000,
        "[" + "1" * 4000 + "]",
        '{"errorcode":' + "1" * 4000 + "}",
        '{"OrderId":1e' + "9" * 30 + "}",
        '{"Amount":' + "1" * 4000 + "." + "1" * 4000 + ',"Hold":-0e-999,"ProductSymbol":"B","AccountId":14}',
        "\x00",
        "\u2028" * 1000,
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_the_known_ways_of_breaking_a_decoder_break_none_of_ours(text):
    try_every_reader(text)
