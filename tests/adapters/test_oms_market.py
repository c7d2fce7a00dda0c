"""The link and the simulated OMS together: instruments, prices, trades and refused orders from end to end."""

from __future__ import annotations

from decimal import Decimal

import pytest

from killswitch.adapters.oms import KeyCredentials
from killswitch.domain.messages import (
    Answered,
    AnswerKind,
    InstrumentRow,
    Instruments,
    ListInstruments,
    ListOpenOrders,
    OpenOrders,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    PositionSeen,
    PriceSeen,
    SubscribePrice,
    TradeSeen,
)
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.orders import OrderType
from killswitch.simulator.world import SimulatorOptions
from tests.adapters.test_oms import Desk


@pytest.fixture(params=[False, True], ids=["full", "short"])
async def sim(request):
    options = SimulatorOptions(short_rows=request.param, short_events=request.param)
    async with Simulator(options) as simulator:
        yield simulator


def desk_at(sim) -> Desk:
    user = sim.exchange.users[1]
    return Desk(sim.url, credentials=KeyCredentials(user.user_id, user.api_key, user.api_secret), accounts=(14,))


def prices(desk: Desk) -> list[tuple[object, ...]]:
    return [(e.instrument, e.bid, e.ask, e.last, e.call) for e in desk.of(PriceSeen)]


async def test_the_instruments_of_the_simulated_oms_are_read(sim):
    async with desk_at(sim) as desk:
        desk.link.do(ListInstruments(1, await desk.up(), "prime"))
        await desk.until(lambda: desk.of(Instruments))
        assert desk.of(Instruments)[0].rows == (
            InstrumentRow(25, "BTCUSD", "BTC", "USD"),
            InstrumentRow(26, "ETHUSD", "ETH", "USD"),
        )


async def test_prices_come_with_the_subscription_and_then_as_they_change(sim):
    async with desk_at(sim) as desk:
        session = await desk.up()
        desk.link.do(SubscribePrice(1, session, "prime", 25))
        await desk.until(lambda: desk.of(PriceSeen))
        sim.set_price(25, bid="49999.123456789012345678", ask=0)
        await desk.until(lambda: len(desk.of(PriceSeen)) == 2)
        desk.link.do(SubscribePrice(2, session, "prime", 25))
        desk.link.do(SubscribePrice(3, session, "prime", 99))
        await desk.until(lambda: len(desk.of(Answered)) == 2)
        assert prices(desk) == [
            (25, Decimal(49995), Decimal(50005), Decimal(50000), 1),
            (25, Decimal("49999.123456789012345678"), None, Decimal(50000), None),
        ]
        assert [(e.call, e.answer.kind, e.answer.label) for e in desk.of(Answered)] == [
            (2, AnswerKind.RECEIVED, "909"),
            (3, AnswerKind.ABSENT, "104"),
        ]


async def test_orders_tell_what_is_left_of_them_trades_and_refusals_come_as_facts(sim):
    async with desk_at(sim) as desk:
        session = await desk.up()
        order = sim.place(14, 37, 25, quantity=2, price="50000.5", client_order_id=7)
        sim.fill(order.order_id, quantity=Decimal("0.5"))
        desk.link.do(ListOpenOrders(1, session, "prime", 14))
        await desk.until(lambda: desk.of(OpenOrders))
        (row,) = desk.of(OpenOrders)[0].orders
        assert (row.order_id, row.quantity, row.price) == (order.order_id, Decimal("1.5"), Decimal("50000.5"))
        sim.fill(order.order_id)
        stop = sim.place(14, 37, 25, price=0, stop_price=1, order_type=OrderType.StopMarket)
        sim.reject_order(14, client_order_id=9, reason="Invalid Quantity")
        await desk.until(lambda: desk.of(OrderRejected))
    working = [(e.order.order_id, e.order.quantity, e.order.price) for e in desk.of(OrderWorking)]
    assert working == [
        (order.order_id, 2, Decimal("50000.5")),
        (order.order_id, Decimal("1.5"), Decimal("50000.5")),
        (stop.order_id, 1, None),
    ]
    (ended,) = desk.of(OrderEnded)
    assert (ended.state, ended.order.quantity) == ("FullyExecuted", 0)
    trades = [(t.account, t.instrument, t.user, t.order_id, t.quantity, t.price, t.session) for t in desk.of(TradeSeen)]
    at = Decimal("50000.5")
    assert trades == [
        (14, 25, None, order.order_id, Decimal("0.5"), at, session),
        (14, 25, None, order.order_id, Decimal("1.5"), at, session),
    ]
    assert len({t.trade_id for t in desk.of(TradeSeen)}) == 2
    assert len(desk.of(PositionSeen)) == 4
    (refused,) = desk.of(OrderRejected)
    assert (refused.account, refused.client_order_id, refused.reason) == (14, 9, "Invalid Quantity")
