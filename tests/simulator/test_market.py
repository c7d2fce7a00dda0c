"""The simulated OMS's markets: instruments, Level 1, fills that move it, and orders that are refused."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from killswitch.simulator.faults import KeepPlacing
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.orders import OrderState, OrderType, Side
from killswitch.simulator.users import READ_ONLY
from killswitch.simulator.world import SimulatorOptions, build

from .client import bare

BTC, USD = 1, 2
LEVEL1 = {"OMSId": 1, "InstrumentId": 25}


@pytest.fixture
async def sim():
    async with Simulator(SimulatorOptions()) as simulator:
        yield simulator


def test_the_first_prices_lie_around_the_instruments_own():
    exchange = build(SimulatorOptions())
    for instrument in exchange.instruments.values():
        quote = exchange.market.quotes[instrument.instrument_id]
        assert quote.bid < quote.last == instrument.price < quote.ask
        assert (quote.ask - quote.bid) / instrument.price == Decimal("0.0002")


async def test_instruments_are_listed_without_signing_in(sim):
    async with bare(sim) as client:
        rows = await client.ask("GetInstruments", {"OMSId": 1})
        assert (await client.ask("GetInstruments", {}))["errorcode"] == 100
    assert [(r["InstrumentId"], r["Symbol"], r["Product1Symbol"], r["Product2Symbol"]) for r in rows] == [
        (25, "BTCUSD", "BTC", "USD"),
        (26, "ETHUSD", "ETH", "USD"),
    ]
    assert (rows[0]["Product1"], rows[0]["Product2"], rows[0]["SessionStatus"]) == (BTC, USD, "Running")


async def test_short_rows_list_instruments_in_camel_case_with_integer_enumerations():
    async with Simulator(SimulatorOptions(short_rows=True)) as sim, bare(sim) as client:
        row, *_ = await client.ask("GetInstruments", {"OMSId": 1})
        assert (row["omsId"], row["instrumentId"], row["product1Symbol"], row["sessionStatus"]) == (1, 25, "BTC", 1)


async def test_a_subscription_is_answered_by_the_prices_as_they_are_and_then_told_of_each_change(sim):
    async with bare(sim, 37) as client, bare(sim, 40) as other:
        first = await client.ask("SubscribeLevel1", LEVEL1)
        await other.ask("SubscribeLevel1", {"OMSId": 1, "InstrumentId": 26})
        assert (first["InstrumentId"], first["BestBid"], first["BestOffer"]) == (25, 49995, 50005)
        assert (first["LastTradedPx"], first["LastTradedQty"], first["TimeStamp"]) == (50000, 0, "0")
        sim.set_price(25, bid="49999.5", ask=50001)
        sim.set_price(25, bid=Decimal("49999.50"))  # no change
        sim.set_price(25, ask=0, last=49999)
        one, two = await client.events("Level1UpdateEvent", 2)
        assert (one.o["BestBid"], one.o["BestOffer"], one.o["LastTradedPx"]) == (49999.5, 50001, 50000)
        assert (two.o["BestBid"], two.o["BestOffer"], two.o["LastTradedPx"]) == (49999.5, 0, 49999)
        assert set(one.o) == set(first)
        assert await client.silent()
        assert await other.silent()


async def test_a_price_event_carries_the_number_of_a_request(sim):
    async with bare(sim, 37) as client:
        await client.ask("SubscribeLevel1", LEVEL1)
        sim.set_price(25, last=1)
        (event,) = await client.events("Level1UpdateEvent", 1)
        assert event.i % 2 == 0


async def test_the_second_of_two_equal_subscriptions_is_refused_and_the_first_goes_on(sim):
    async with bare(sim, 37) as client:
        await client.ask("SubscribeLevel1", {"OMSId": 1, "Symbol": "BTCUSD"})
        again = await client.ask("SubscribeLevel1", LEVEL1)
        assert (again["result"], again["errorcode"], again["errormsg"]) == (False, 909, "Already Subscribed.")
        sim.set_price(25, last=1)
        assert len(await client.events("Level1UpdateEvent", 1)) == 1
        assert (await client.ask("UnsubscribeLevel1", LEVEL1))["result"] is True
        assert (await client.ask("UnsubscribeLevel1", LEVEL1))["errorcode"] == 104
        sim.set_price(25, last=2)
        assert await client.silent()
        assert (await client.ask("SubscribeLevel1", LEVEL1))["LastTradedPx"] == 2
        await client.ask("LogOut")
        sim.set_price(25, last=3)
        assert await client.silent()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"OMSId": 1, "InstrumentId": 99}, 104),
        ({"OMSId": 1, "Symbol": "XXXUSD"}, 104),
        ({"OMSId": 1, "InstrumentId": 0}, 100),
        ({"OMSId": 1, "InstrumentId": "25"}, 100),
        ({"InstrumentId": 25}, 100),
    ],
)
async def test_a_subscription_to_what_isnt_there_is_refused(sim, body, code):
    async with bare(sim, 37) as client:
        assert (await client.ask("SubscribeLevel1", body))["errorcode"] == code


async def test_prices_are_for_those_who_may_trade(sim):
    sim.exchange.users[37].permissions = frozenset({READ_ONLY})
    async with bare(sim) as nobody, bare(sim, 37) as reader, bare(sim, 1) as operator:
        assert (await nobody.ask("SubscribeLevel1", LEVEL1))["errorcode"] == 20
        assert (await reader.ask("SubscribeLevel1", LEVEL1))["errorcode"] == 20
        assert (await operator.ask("SubscribeLevel1", LEVEL1))["InstrumentId"] == 25


def test_a_fill_is_the_last_trade_and_a_market_order_fills_at_the_last_price():
    exchange = build(SimulatorOptions())
    order = exchange.place(account=14, user=37, instrument=25, quantity=3, price=51000, now=0.0)
    exchange.fill(order.order_id, now=1.0, quantity=Decimal("0.5"))
    told = json.loads(exchange.take_events()[-1].payload)
    assert (told["LastTradedPx"], told["LastTradedQty"], told["CurrentDayNumTrades"]) == (51000, 0.5, 1)
    assert (told["SessionOpen"], told["SessionHigh"], told["SessionLow"]) == (50000, 51000, 50000)
    assert (told["TimeStamp"], told["LastTradeTime"]) == ("1000", 1000)
    exchange.set_price(25, last=Decimal("49000.25"))
    sold = exchange.place(
        account=14, user=37, instrument=25, side=Side.Sell, quantity=1, order_type=OrderType.Market, now=2.0
    )
    assert sold.gross == Decimal("49000.25")


async def test_a_fill_is_told_as_state_trade_positions_and_price(sim):
    async with bare(sim, 37) as client:
        await client.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        await client.ask("SubscribeLevel1", LEVEL1)
        order = sim.place(14, 37, 25, quantity=2, price=50000)
        await client.events("OrderStateEvent", 1)
        sim.fill(order.order_id)
        frames = [await client.read() for _ in range(5)]
        assert [f.n for f in frames] == [
            "OrderStateEvent",
            "OrderTradeEvent",
            "AccountPositionEvent",
            "AccountPositionEvent",
            "Level1UpdateEvent",
        ]
        state, trade = frames[0].o, frames[1].o
        assert (state["OrderState"], state["ChangeReason"], state["Quantity"]) == ("FullyExecuted", "Trade", 0)
        assert (trade["AccountId"], trade["InstrumentId"], trade["OrderId"]) == (14, 25, order.order_id)
        assert (trade["Quantity"], trade["Price"], trade["Value"]) == (2, 50000, 100000)
        assert trade["TradeTime"] > 6 * 10**17  # ticks, not milliseconds


async def test_a_refused_order_is_answered_and_told_by_event(sim):
    async with bare(sim, 37) as client, bare(sim, 40) as other:
        await other.ask("SubscribeAccountEvents", {"OMSId": 1, "AccountId": 14})
        sent = {"OMSId": 1, "AccountId": 14, "InstrumentId": 25, "Side": 0, "OrderType": 2, "LimitPrice": 1}
        reply = await client.ask("SendOrder", sent | {"Quantity": 0, "ClientOrderId": 9})
        assert (reply["status"], reply["errorcode"]) == ("Rejected", 101)
        sim.reject_order(14, client_order_id=10)
        one, two = await other.events("NewOrderRejectEvent", 2)
        assert one.o == {
            "OMSId": 1,
            "AccountId": 14,
            "ClientOrderId": 9,
            "Status": "Rejected",
            "RejectReason": "Invalid Quantity",
        }
        assert (two.o["ClientOrderId"], two.o["RejectReason"]) == (10, "Not_Enough_Funds")


def test_a_trader_may_keep_filling():
    exchange = build(SimulatorOptions())
    exchange.faults.inject(KeepPlacing(rate=4, account=15, instrument=26, lasting_s=1, fill=True))
    exchange.advance(0.0)
    exchange.advance(2.0)
    trades = [json.loads(e.payload) for e in exchange.take_events() if e.name == "OrderTradeEvent"]
    assert [(t["AccountId"], t["InstrumentId"], t["Price"]) for t in trades] == [(15, 26, 2500)] * 4
    assert not exchange.open_ids()
    assert {o.state for o in exchange.orders.values()} == {OrderState.FullyExecuted}
