"""Quotes and block trades on the wire, in the shapes that the vendor's documents print, and in worse ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import Answer, AnswerKind, Order
from killswitch.wire import alphapoint, alphapoint_quotes
from killswitch.wire.frame import Frame

RECEIVED = {"result": True, "errormsg": "", "errorcode": 0, "detail": ""}
REFUSED = {"result": False, "errormsg": "Not Authorized", "errorcode": 20, "detail": None}
GONE = {"result": False, "errormsg": "Resource Not Found", "errorcode": 104, "detail": None}
FAILED = {"result": False, "errormsg": "Operation Failed", "errorcode": 101, "detail": None}


def reply(body: object, m: int = 1) -> Frame:
    return Frame(m=m, i=2, n="GetOpenQuotes", o=body if isinstance(body, str) else json.dumps(body))


def side(order_id: int, **more: object) -> dict[str, object]:
    """As the documents print one: camelCase, integers for enumerations."""
    return {
        "omsId": 1,
        "side": 0,
        "orderId": order_id,
        "price": 99.5,
        "quantity": 2,
        "displayQuantity": 2,
        "instrument": 25,
        "account": 14,
        "orderType": 2,
        "clientOrderId": 0,
        "orderState": 1,
    } | more


SAMPLE = side(0, side=0, price=0.0, quantity=0.0, displayQuantity=0.0, instrument=0, account=0, orderType=0) | {
    "omsId": 0,
    "orderState": 0,
}


def read(body: object, m: int = 1):
    return alphapoint_quotes.read_quotes(reply(body, m), 14, 25)


def ids(body: object) -> tuple[list[int | None], int]:
    found = read(body)
    assert not isinstance(found, Answer), found
    return [order.order_id for order in found.rows], found.unreadable


def test_the_requests_carry_every_id_and_never_a_zero():
    body = json.loads(alphapoint_quotes.get_open_quotes(1, 14, 25).payload)
    assert body == {"OMSId": 1, "AccountId": 14, "InstrumentId": 25}
    assert json.loads(alphapoint_quotes.get_open_trade_reports(1, 14).payload) == {"OMSId": 1, "AccountId": 14}
    request = alphapoint_quotes.cancel_quote(1, 14, 25, 501, 502)
    assert request.name == "CancelQuote"
    assert json.loads(request.payload) == {
        "OMSId": 1,
        "AccountId": 14,
        "InstrumentId": 25,
        "BidQuoteId": 501,
        "AskQuoteId": 502,
    }
    for wrong in ((0, 25, 501, 502), (14, 0, 501, 502), (14, 25, 0, 502), (14, 25, 501, 0), (14, 25, True, 502)):
        with pytest.raises(ValueError, match="must be an id above 0"):
            alphapoint_quotes.cancel_quote(1, *wrong)
    with pytest.raises(ValueError, match="must be an id above 0"):
        alphapoint_quotes.get_open_quotes(1, 14, 0)


def test_instruments_that_are_switched_off_are_asked_for_where_the_server_leaves_them_out():
    def body(**more: object) -> dict[str, object]:
        return json.loads(alphapoint.get_instruments(1, **more).payload)

    assert body(inactive=True, dialect=Dialect.V4) == {"OMSId": 1, "InstrumentState": "both"}
    assert body(inactive=True, dialect=Dialect.V3) == {"OMSId": 1}
    assert body(dialect=Dialect.V4) == {"OMSId": 1}


def test_both_sides_of_a_quote_are_read_bid_first():
    found = read({"ask": side(502, side=1), "bid": side(501)})
    assert not isinstance(found, Answer)
    assert [order.order_id for order in found.rows] == [501, 502]
    first = found.rows[0]
    assert (first.account, first.instrument, first.entered_by) == (14, 25, None)
    assert (str(first.quantity), str(first.price)) == ("2", "99.5")


def test_keys_are_found_in_any_case_and_a_side_without_its_instrument_rests_on_the_one_asked_for():
    bid = {"OrderId": 501, "Account": 14, "OrderState": "Working", "Quantity": 1, "Price": 3}
    found = read({"Bid": bid, "Ask": None})
    assert not isinstance(found, Answer)
    assert found.rows[0].instrument == 25


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"bid": None, "ask": None}, ([], 0)),
        ({"bid": SAMPLE, "ask": SAMPLE}, ([], 0)),  # as it is printed in the documents: never filled in
        ({"bid": side(501), "ask": None}, ([501], 0)),
        ({"bid": side(501, orderState=3), "ask": side(502)}, ([502], 0)),
        ({"bid": side(501, orderState="FullyExecuted"), "ask": None}, ([], 0)),
        ({"bid": side(501, orderState=0), "ask": None}, ([501], 0)),  # Unknown isn't over
        ({"bid": side(501, orderState="odd"), "ask": None}, ([501], 0)),
        ({"bid": side(501, quantity=0), "ask": None}, ([501], 0)),  # it has an id and doesn't say that it ended
        # What can't be read may stand.
        ({"bid": side(0), "ask": None}, ([], 1)),
        ({"bid": {}, "ask": None}, ([], 1)),
        ({"bid": "none", "ask": None}, ([], 1)),
        ({"bid": [], "ask": 0}, ([], 2)),
        ({"bid": side(501) | {"ORDERID": 502}, "ask": None}, ([], 1)),
    ],
)
def test_a_side_stands_unless_the_reply_says_readably_that_it_does_not(body, expected):
    assert ids(body) == expected


@pytest.mark.parametrize(
    "body",
    [[], "{}", {"bid": None}, {"ask": None}, "no json", "null", RECEIVED, {"quotes": []}, REFUSED, GONE, "true"],
)
def test_a_reply_that_does_not_name_both_sides_is_no_list(body):
    assert isinstance(read(body), Answer)


def test_an_error_frame_is_no_list_whatever_it_holds():
    assert isinstance(read({"bid": None, "ask": None}, m=5), Answer)
    found = read(REFUSED)
    assert isinstance(found, Answer)
    assert (found.kind, found.code) == (AnswerKind.REFUSED, 20)
    assert read(GONE) == Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found")


def test_trade_reports_are_read_as_orders_are():
    row = side(601, orderType="BlockTrade", orderState="Working", enteredBy=37)
    found = alphapoint_quotes.read_trade_reports(reply([row, "odd"]), 14)
    assert not isinstance(found, Answer)
    assert (found.unreadable, [(o.order_id, o.entered_by) for o in found.rows]) == (1, [(601, 37)])
    assert isinstance(alphapoint_quotes.read_trade_reports(reply({"bid": None, "ask": None}), 14), Answer)


@pytest.mark.parametrize(
    ("bid", "ask", "kind"),
    [
        (RECEIVED, RECEIVED, AnswerKind.RECEIVED),
        (RECEIVED, GONE, AnswerKind.RECEIVED),
        (GONE, GONE, AnswerKind.ABSENT),
        (RECEIVED, FAILED, AnswerKind.UNCLEAR),
        (REFUSED, RECEIVED, AnswerKind.REFUSED),
        (FAILED, REFUSED, AnswerKind.REFUSED),
        (json.dumps(RECEIVED), json.dumps(RECEIVED), AnswerKind.RECEIVED),  # as text, as older versions print it
        ("", "", AnswerKind.UNCLEAR),
        (None, None, AnswerKind.UNCLEAR),
        (RECEIVED, [], AnswerKind.UNCLEAR),
    ],
)
def test_the_answer_to_a_cancelled_quote_is_the_worse_of_its_sides(bid, ask, kind):
    answer = alphapoint_quotes.read_quote_cancelled(reply({"BidResult": bid, "AskResult": ask}))
    assert answer.kind is kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (REFUSED, AnswerKind.REFUSED),
        (RECEIVED, AnswerKind.RECEIVED),
        (RECEIVED | {"BidResult": RECEIVED}, AnswerKind.UNCLEAR),
        ("Endpoint Not Found", AnswerKind.UNCLEAR),
        ([], AnswerKind.UNCLEAR),
    ],
)
def test_one_answer_for_the_whole_call_is_read_too(body, kind):
    assert alphapoint_quotes.read_quote_cancelled(reply(body)).kind is kind


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["bid", "ask", "BidResult", "AskResult", "orderId", "quantity", "price", "orderState", "result"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(anything, st.sampled_from([1, 5]))
def test_nothing_that_a_server_says_makes_a_reader_raise(body, m):
    frame = reply(json.dumps(body), m)
    found = alphapoint_quotes.read_quotes(frame, 14, 25)
    assert isinstance(found, Answer) or all(isinstance(order, Order) for order in found.rows)
    assert isinstance(alphapoint_quotes.read_quote_cancelled(frame), Answer)
    alphapoint_quotes.read_trade_reports(frame, 14)
