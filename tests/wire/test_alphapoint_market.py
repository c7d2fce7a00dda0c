"""Instruments, prices, trades and refused orders, as documents and captures print them, and as they must not pass."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import Answer, AnswerKind, InstrumentRow, OrderRejected, PriceSeen, TradeSeen
from killswitch.wire import alphapoint
from killswitch.wire.alphapoint_events import read_event
from killswitch.wire.alphapoint_fields import NO_NUMBER
from killswitch.wire.alphapoint_market import Prices, read_instruments, read_subscribed_prices
from killswitch.wire.alphapoint_replies import Rows
from killswitch.wire.frame import Frame, ProtocolError

# As the vendor's pages print them; the values are ours.
INSTRUMENT = (
    '{"OMSId":1,"InstrumentId":25,"Symbol":"BTCUSD","Product1":1,"Product1Symbol":"BTC","Product2":2,'
    '"Product2Symbol":"USD","InstrumentType":"Standard","VenueInstrumentId":25,"VenueId":1,"SortIndex":0,'
    '"SessionStatus":"Running","PreviousSessionStatus":"Paused","SessionStatusDateTime":"2026-05-01T00:00:00Z",'
    '"SelfTradePrevention":true,"QuantityIncrement":1e-08,"PriceIncrement":0.01,"MinimumQuantity":0.0001,'
    '"MinimumPrice":0.01,"IsDisable":false}'
)
INSTRUMENT_OLD = (
    '{"omsId":1,"instrumentId":25,"symbol":"BTCUSD","product1":1,"product1Symbol":"BTC","product2":2,'
    '"product2Symbol":"USD","instrumentType":1,"sessionStatus":1}'
)
LEVEL1 = (
    '{"OMSId":1,"InstrumentId":25,"BestBid":6423.57,"BestOffer":6436.530,"LastTradedPx":6423.57,'
    '"LastTradedQty":0.96183964,"LastTradeTime":1534862990343,"SessionOpen":6249.64,"SessionHigh":11111,'
    '"SessionLow":4433,"SessionClose":6249.64,"Volume":0.96183964,"CurrentDayVolume":3516.31668185,'
    '"CurrentDayNumTrades":8529,"CurrentDayPxChange":173.93,"CurrentNotional":0.0,"Rolling24HrNotional":0.0,'
    '"Rolling24HrVolume":4319.63870783,"Rolling24NumTrades":10585,"Rolling24HrPxChange":-0.4165607307408487,'
    '"TimeStamp":"1534862990358"}'
)
LEVEL1_AS_TEXT = '{"omsId":"1","instrumentId":"25","bestBid":"6423.57","bestOffer":"6436.530","lastTradedPx":"6423.57"}'
PRICES = Prices(25, Decimal("6423.57"), Decimal("6436.53"), Decimal("6423.57"))
TRADE = (
    '{"OMSId":1,"TradeId":213,"OrderId":23092280996,"AccountId":14,"ClientOrderId":0,"InstrumentId":25,'
    '"Side":"Buy","Quantity":0.01,"Price":95.50,"Value":0.955,"TradeTime":635978008210426109,"ContraAcctId":3,'
    '"OrderTradeRevision":1,"Direction":"NoChange","CounterPartyClientUserId":8,"NotionalProductId":0,'
    '"NotionalRate":0.0,"NotionalValue":0.0}'
)
TRADE_NEW = (
    '{"OMSId":1,"ExecutionId":9,"TradeId":213,"OrderId":23092280996,"AccountId":14,"AccountName":"a","SubAccountId":0,'
    '"ClientOrderId":0,"InstrumentId":25,"Side":"Buy","OrderType":"Limit","Quantity":0.0100000000000000000000000000,'
    '"RemainingQuantity":0,"Price":95.5,"Value":0.955,"CounterParty":"3","OrderTradeRevision":1,"IsBlockTrade":false,'
    '"Fee":0,"FeeProductId":1,"OrderOriginator":37,"UserName":"trader37","TradeTimeMS":1534862990343,'
    '"MakerTaker":"Taker","AdapterTradeId":0,"InsideBid":95.4,"IsQuote":false,"TradeFlag":"0"}'
)
REJECT = '{"OMSId":1,"AccountId":14,"ClientOrderId":1234,"Status":"Rejected","RejectReason":"No More Market"}'


def reply(n: str, o: str, m: int = 1) -> Frame:
    return Frame(m=m, i=2, n=n, o=o)


def events(n: str, o: str) -> tuple[object, ...]:
    return read_event(reply(n, o, m=3), "prime", 9, 1.5)


def price_event(o: str) -> PriceSeen:
    (found,) = events("Level1UpdateEvent", o)
    assert isinstance(found, PriceSeen)
    return found


# --- requests ----------------------------------------------------------------------------------------------


def test_the_two_requests_are_spelt_as_documented() -> None:
    assert alphapoint.get_instruments(1) == alphapoint.Request("GetInstruments", '{"OMSId":1}')
    assert alphapoint.subscribe_level1(1, 25) == alphapoint.Request("SubscribeLevel1", '{"OMSId":1,"InstrumentId":25}')


@pytest.mark.parametrize("wrong", [0, -1, True, "25", None, 2**63])
def test_what_is_no_id_is_never_asked_for(wrong) -> None:
    with pytest.raises(ValueError, match="id above 0"):
        alphapoint.get_instruments(wrong)
    with pytest.raises(ValueError, match="id above 0"):
        alphapoint.subscribe_level1(1, wrong)


# --- instruments -------------------------------------------------------------------------------------------


def instruments(text: str, m: int = 1) -> Rows[InstrumentRow] | Answer:
    return read_instruments(reply("GetInstruments", text, m))


@pytest.mark.parametrize(
    "row", [INSTRUMENT, INSTRUMENT_OLD, INSTRUMENT.upper().replace("TRUE", "1").replace("FALSE", "0")]
)
def test_an_instrument_is_read_however_it_is_spelt(row) -> None:
    assert instruments(f"[{row}]") == Rows((InstrumentRow(25, "BTCUSD", "BTC", "USD"),))


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ('"InstrumentId":25', '"InstrumentId":0'),
        ('"InstrumentId":25', '"InstrumentId":"x"'),
        ('"InstrumentId":25', '"Id":25'),
        ('"Product1Symbol":"BTC"', '"Product1Symbol":""'),
        ('"Product1Symbol":"BTC"', '"Product1Symbol":null'),
        ('"Product2Symbol":"USD"', '"Product2Symbol":2'),
        ('"Product2Symbol":"USD"', '"product2symbol":"EUR","Product2Symbol":"USD"'),
    ],
)
def test_an_instrument_without_an_id_or_a_product_is_counted_as_unreadable(part, instead) -> None:
    odd = INSTRUMENT.replace(part, instead)
    assert odd != INSTRUMENT
    assert instruments(f"[{odd},{INSTRUMENT},7]") == Rows((InstrumentRow(25, "BTCUSD", "BTC", "USD"),), unreadable=2)


def test_an_instrument_without_a_symbol_is_known_by_its_products() -> None:
    row = INSTRUMENT.replace('"Symbol":"BTCUSD"', '"Symbol":null')
    assert instruments(f"[{row}]") == Rows((InstrumentRow(25, "", "BTC", "USD"),))


def test_a_venue_with_many_instruments_is_read_whole() -> None:
    rows = ",".join(INSTRUMENT.replace('"InstrumentId":25', f'"InstrumentId":{n}') for n in range(1, 5001))
    found = instruments(f"[{rows}]")
    assert isinstance(found, Rows)
    assert [row.instrument for row in found.rows] == list(range(1, 5001))


@pytest.mark.parametrize("body", ["{}", "null", '{"result":true}', "x", "", f'{{"a":[{INSTRUMENT}]}}'])
def test_a_reply_that_is_no_array_lists_no_instruments(body) -> None:
    found = instruments(body)
    assert isinstance(found, Answer)
    assert found.kind is AnswerKind.UNCLEAR


def test_an_array_in_an_error_frame_lists_no_instruments() -> None:
    assert isinstance(instruments(f"[{INSTRUMENT}]", m=5), Answer)


# --- prices ------------------------------------------------------------------------------------------------


def subscribed(text: str, m: int = 1) -> Prices | Answer:
    return read_subscribed_prices(reply("SubscribeLevel1", text, m), 25)


@pytest.mark.parametrize("body", [LEVEL1, LEVEL1_AS_TEXT])
def test_the_answer_to_a_subscription_is_the_prices_as_they_are(body) -> None:
    assert subscribed(body) == PRICES


@pytest.mark.parametrize("n", ["Level1UpdateEvent", "Leve1UpdateEvent"])
@pytest.mark.parametrize("body", [LEVEL1, LEVEL1_AS_TEXT])
def test_a_price_event_is_read_in_both_of_its_spellings(n, body) -> None:
    assert events(n, body) == (
        PriceSeen(wall=1.5, oms="prime", session=9, instrument=25, bid=PRICES.bid, ask=PRICES.ask, last=PRICES.last),
    )


NONE_AT_ALL = [
    *("0", "0.0", "0E-28", '"0"', "-1", "-0.0", "null", '""', '"x"', '"NaN"', '"-Infinity"', "true", "[]", "{}"),
    *("9223372036.854775807", "9223372036.854776", '"9223372036.854775807"', "-9223372036.854775807"),
    *("79228162514264337593543950335", "7.9228162514264338E28", "-79228162514264337593543950335"),
    *("1e41", "1e-41", "1" * 400, '"1_0"', '"0x10"', '"\\uff11"'),
]


@pytest.mark.parametrize("number", NONE_AT_ALL)
@pytest.mark.parametrize("key", ["BestBid", "BestOffer", "LastTradedPx"])
def test_a_price_that_is_none_is_none_and_spoils_no_other(key, number) -> None:
    part = {"BestBid": "bid", "BestOffer": "ask", "LastTradedPx": "last"}[key]
    value = {"BestBid": "6423.57", "BestOffer": "6436.530", "LastTradedPx": "6423.57"}[key]
    body = LEVEL1.replace(f'"{key}":{value}', f'"{key}":{number}')
    assert body != LEVEL1
    found = price_event(body)
    for name in ("bid", "ask", "last"):
        assert getattr(found, name) == (None if name == part else getattr(PRICES, name))
    assert subscribed(body) == Prices(25, found.bid, found.ask, found.last)


def test_a_payload_that_is_no_json_gives_no_price_at_all() -> None:
    for number in ("NaN", "Infinity", "1_0", "0x10"):
        body = LEVEL1.replace('"BestBid":6423.57', f'"BestBid":{number}')
        with pytest.raises(ProtocolError):
            events("Level1UpdateEvent", body)
        assert isinstance(subscribed(body), Answer)


def test_a_missing_price_is_none() -> None:
    found = price_event('{"InstrumentId":25,"BestBid":10}')
    assert (found.bid, found.ask, found.last) == (Decimal(10), None, None)
    assert subscribed('{"InstrumentId":25}') == Prices(25, None, None, None)


def test_a_price_that_stands_there_twice_is_none() -> None:
    assert price_event('{"InstrumentId":25,"BestBid":10,"bestBid":11,"BestOffer":12}').bid is None


def test_prices_keep_every_digit() -> None:
    assert price_event('{"InstrumentId":25,"BestBid":0.1234567890123456789012345678}').bid == Decimal(
        "0.1234567890123456789012345678"
    )


def test_prices_without_a_name_in_the_answer_are_those_that_were_asked_for_but_no_event_is() -> None:
    assert subscribed('{"BestBid":10,"BestOffer":11}') == Prices(25, Decimal(10), Decimal(11), None)
    with pytest.raises(ProtocolError):
        events("Level1UpdateEvent", '{"BestBid":10,"BestOffer":11}')


@pytest.mark.parametrize("named", ["26", "0", '"x"', "[]"])
def test_the_prices_of_another_instrument_answer_nothing(named) -> None:
    found = subscribed(f'{{"InstrumentId":{named},"BestBid":10}}')
    assert isinstance(found, Answer)
    assert found.kind is AnswerKind.UNCLEAR


@pytest.mark.parametrize("code", ["909", '"909"'])
def test_the_second_of_two_equal_subscriptions_is_fine(code) -> None:
    body = f'{{"result":false,"errormsg":"Already Subscribed.","errorcode":{code},"detail":null}}'
    assert subscribed(body) == Answer(AnswerKind.RECEIVED, "909", 909, "Already Subscribed.")


@pytest.mark.parametrize(
    ("body", "kind", "label"),
    [
        ('{"result":false,"errormsg":"Not Authorized","errorcode":20,"detail":null}', AnswerKind.REFUSED, "20"),
        ('{"result":false,"errormsg":"Resource Not Found","errorcode":104}', AnswerKind.ABSENT, "104"),
        ('{"result":false,"errormsg":"Server Error","errorcode":102}', AnswerKind.UNCLEAR, "102"),
        ('{"result":true,"errormsg":null,"errorcode":0}', AnswerKind.RECEIVED, "ok"),
        ("Endpoint Not Found", AnswerKind.UNCLEAR, "other"),
        ("[]", AnswerKind.UNCLEAR, "other"),
        ("null", AnswerKind.UNCLEAR, "other"),
    ],
)
def test_any_other_answer_to_a_subscription_is_the_generic_one(body, kind, label) -> None:
    found = subscribed(body)
    assert isinstance(found, Answer)
    assert (found.kind, found.label) == (kind, label)


def test_prices_in_an_error_frame_are_none() -> None:
    assert isinstance(subscribed(LEVEL1, m=5), Answer)


# --- trades and refused orders -----------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "user"), [(TRADE, None), (TRADE_NEW, 37), (TRADE_NEW.lower(), 37)])
def test_a_trade_is_read_from_every_dialect(body, user) -> None:
    assert events("OrderTradeEvent", body) == (
        TradeSeen(
            wall=1.5,
            oms="prime",
            session=9,
            account=14,
            instrument=25,
            user=user,
            trade_id=213,
            order_id=23092280996,
            quantity=Decimal("0.01"),
            price=Decimal("95.5"),
        ),
    )


@pytest.mark.parametrize("number", NONE_AT_ALL)
def test_what_can_not_be_read_of_a_trade_is_none(number) -> None:
    (found,) = events(
        "OrderTradeEvent",
        '{"AccountId":14,"InstrumentId":%s,"TradeId":%s,"OrderId":%s,"Quantity":%s,"Price":%s,"OrderOriginator":0}'
        % (("null",) * 3 + (number,) * 2),
    )
    assert isinstance(found, TradeSeen)
    assert (found.instrument, found.trade_id, found.order_id, found.quantity, found.price, found.user) == (None,) * 6


def test_a_refused_order_is_told_with_its_reason() -> None:
    assert events("NewOrderRejectEvent", REJECT) == (
        OrderRejected(
            wall=1.5,
            oms="prime",
            session=9,
            account=14,
            instrument=None,
            user=None,
            order_id=None,
            client_order_id=1234,
            reason="No More Market",
        ),
    )


def test_a_server_that_tells_more_of_a_refused_order_is_believed() -> None:
    (found,) = events(
        "NewOrderRejectEvent",
        '{"accountId":"14","instrumentId":25,"enteredBy":37,"orderId":5,"clOrderId":7,"status":"rejected"}',
    )
    assert isinstance(found, OrderRejected)
    assert (found.instrument, found.user, found.order_id, found.client_order_id, found.reason) == (25, 37, 5, 7, "")


def test_an_order_that_was_accepted_is_no_refusal() -> None:
    assert events("NewOrderRejectEvent", '{"AccountId":14,"Status":"Accepted"}') == ()


# --- whatever comes ----------------------------------------------------------------------------------------

odd_numbers = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)  # json would write what is no JSON
    | st.decimals().map(str)
    | st.text(max_size=8)
    | st.sampled_from([2**63, 10**400, "NaN", "sNaN", "1e999999", "9" * 5000, str(NO_NUMBER[0]), int(NO_NUMBER[1])])
    | st.lists(st.integers(), max_size=2)
)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("InstrumentId", "BestBid", "BestOffer", "LastTradedPx"), odd_numbers)
    )
)
def test_no_payload_passes_for_a_price_that_is_none(body) -> None:
    text = json.dumps(body)
    found = subscribed(text)
    heard: tuple[object, ...] = ()
    try:
        heard = events("Level1UpdateEvent", text)
    except ProtocolError:
        assert type(body.get("InstrumentId")) is not int or not 0 < body["InstrumentId"] < 2**63
    for one in (found, *heard):
        if isinstance(one, Prices | PriceSeen):
            assert 0 < one.instrument < 2**63
            for part, key in ((one.bid, "BestBid"), (one.ask, "BestOffer"), (one.last, "LastTradedPx")):
                if part is not None:
                    assert part.is_finite()
                    assert part > 0
                    assert not any(abs(part - none) <= none * Decimal("1e-12") for none in NO_NUMBER)
                    assert part == Decimal(str(body[key]))


@given(
    st.fixed_dictionaries(
        {"AccountId": st.just(14)},
        optional=dict.fromkeys(
            ("InstrumentId", "TradeId", "OrderId", "Quantity", "Price", "OrderOriginator", "EnteredBy", "Status"),
            odd_numbers,
        ),
    )
)
def test_no_payload_passes_for_a_number_of_a_trade_or_a_refusal(body) -> None:
    (trade,) = events("OrderTradeEvent", json.dumps(body))
    assert isinstance(trade, TradeSeen)
    for number in (trade.quantity, trade.price):
        assert number is None or (number.is_finite() and number > 0)
    (refusal,) = events("NewOrderRejectEvent", json.dumps(body))
    assert isinstance(refusal, OrderRejected)
    for held in (trade.instrument, trade.user, trade.trade_id, trade.order_id, refusal.instrument, refusal.user):
        assert held is None or 0 < held < 2**63
