"""What accounts are worth trips: at the price that takes them there and not one before, and where no price is known."""

from __future__ import annotations

from decimal import Decimal

import pytest

from killswitch.config import load_rules
from killswitch.rehearse import Rehearsal, lines_of, recordings
from killswitch.simulator.faults import Deaf
from killswitch.simulator.positions import Instrument
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

BTC, USD, EUR = 1, 2, 77
ORDERS = SimulatorOptions(orders=24)
RECORD = {"daemon": 'record = "day.jsonl"'}
FEED = """
[[feed]]
name = "market"
kind = "oms"
oms = "prime"
stale_after_s = %s
numeraire = "USD"
"""
EQUITY = """
[[rule]]
name = "low"
reading = "equity"
kind = "limit"
below = 1000000
on_stale = "trip"
fallback = { oms = "prime", account = 16 }
scope = { oms = "prime", account = "{account}" }
"""
NOTIONAL = """
[[rule]]
name = "resting"
reading = "open_notional"
where = { instrument = 25 }
kind = "limit"
above = 1000000
scope = { oms = "prime", account = "{account}" }
"""
FALL = """
[[rule]]
name = "fall"
reading = "equity"
kind = "drawdown"
fall = 100000
window_s = 3600
scope = { oms = "prime", account = "{account}" }
"""
PRICE = """
[[rule]]
name = "crash"
reading = "price"
where = { instrument = 25 }
kind = "limit"
below = 1
on_stale = "trip"
fallback = { oms = "prime", account = 16 }
scope = { oms = "prime", account = 14 }
"""
BURST = """
[[rule]]
name = "burst"
reading = "order"
kind = "rate"
above = 5
per_s = 60
scope = { oms = "prime", account = "{account}" }
"""


def symbols(house):
    """(base, quote) product ids of instrument 25."""
    instrument = house.sim.exchange.instruments[25]
    return instrument.base, instrument.quote


def hold(house, account, base_amount, quote_amount):
    base, quote = symbols(house)
    house.sim.move_position(account, base, to=Decimal(base_amount))
    house.sim.move_position(account, quote, to=Decimal(quote_amount))


async def subscribed(house, count=2):
    await house.metric("killswitch_calls_total{answer=ok,call=SubscribeLevel1,oms=prime}", count)


async def headroom(house, rule, met):
    async def so():
        return met((await house.metrics())[f"killswitch_rule_headroom_ratio{{rule={rule}}}"])

    await until(so, f"the headroom of {rule}", shown=house.shown, every_s=0.05)


async def replayed(house):
    """What a replay of the daemon's recording trips; it has ended by then."""
    await house.stop()
    rehearsal = Rehearsal(load_rules(house.config, {}))
    held = [line for file in recordings([house.folder]) for line, _ in lines_of(file)]
    return [trip for line in held for trip in rehearsal.take(line)]


async def test_equity_below_its_limit_trips_at_that_price_and_a_sale_before_it_does_not(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=FEED % 30 + EQUITY, **RECORD) as house:
        others = house.open() - house.open(account=14)
        for account in house.sim.exchange.accounts:
            hold(house, account, 0, 5_000_000)
        hold(house, 14, 20, 0)
        house.sim.set_price(25, bid=60_000, ask=60_000)
        await house.start()
        await subscribed(house)
        await headroom(house, "low", lambda room: abs(room - 0.2) < 1e-9)
        base, quote = symbols(house)
        house.sim.move_position(14, base, by=-10)  # as a sale does: first the one, then the other
        house.sim.move_position(14, quote, by=600_000)
        house.sim.set_price(25, bid=40_000, ask=40_000)  # 1,000,000: at the limit is not past it
        await headroom(house, "low", lambda room: room == 0)
        house.sim.set_price(25, bid="39999.98", ask=40_000)
        name = await house.any_trip()
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["last"], cause["count"]) == ("low", "999999.9", 1)
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
        assert house.open() == others
        assert [(trip.rule, trip.cause) for trip in await replayed(house)] == [("low", cause["text"])]


async def test_a_product_without_a_price_trips_what_on_stale_says_by_its_name(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=FEED % 3 + EQUITY, **RECORD) as house:
        for account in house.sim.exchange.accounts:
            hold(house, account, 0, 5_000_000)
        house.sim.exchange.add_instrument(
            Instrument(
                instrument_id=77,
                symbol="EURUSD",
                base=EUR,
                base_symbol="EUR",
                quote=symbols(house)[1],
                quote_symbol="USD",
                price=Decimal("1.1"),
            )
        )
        house.sim.move_position(15, EUR, to=10)
        await house.start()
        await subscribed(house, 3)
        await headroom(house, "low", lambda room: room > 0)
        house.sim.set_price(77, bid=0, ask=0, last=0)
        name = await house.any_trip()
        cause = house.trip_of(name)["causes"][0]
        assert "EUR has no price: instrument 77 has none" in cause["text"]
        assert house.cancels() == [{"OMSId": 1, "AccountId": 15}]
        assert house.letters.kinds().count("tripped") == 1
        (trip,) = await replayed(house)
        assert (trip.rule, trip.scope.account) == ("low", 15)
        assert "EUR has no price: instrument 77 has none" in trip.cause


async def test_a_fall_of_equity_trips_at_the_price_that_completes_it(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=FEED % 30 + FALL) as house:
        hold(house, 14, 10, 0)
        hold(house, 15, 1, 0)
        house.sim.set_price(25, bid=50_000, ask=50_000)
        await house.start()
        await subscribed(house)
        house.sim.set_price(25, bid=55_000, ask=55_000)  # the highest: 550,000
        await headroom(house, "fall", lambda room: room == 1)
        house.sim.set_price(25, bid="45000.01", ask="45000.01")
        await headroom(house, "fall", lambda room: 0 < room < 0.0001)
        house.sim.set_price(25, bid=45_000, ask=45_000)
        name = await house.any_trip()
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["kind"], cause["last"]) == ("fall", "drawdown", "100000")
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]


async def test_prices_of_which_nothing_is_heard_any_more_trip_the_fallback(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=FEED % 2 + PRICE) as house:
        others = house.open() - house.open(account=16)
        await house.start()
        await subscribed(house, 1)
        house.sim.faults.inject(Deaf())
        await until(house.trips, "a trip is announced", shown=house.shown)
        house.sim.faults.clear(Deaf)
        name = await house.any_trip()
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 16}
        assert "price was not heard for" in house.trip_of(name)["causes"][0]["text"]
        assert list(house.trips()) == [name]
        assert house.open() == others


async def test_open_notional_over_its_limit_trips_at_the_order_that_takes_it_there(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=0), tables=FEED % 30 + NOTIONAL) as house:
        await house.start()
        await subscribed(house)
        house.sim.place(14, 37, 25, quantity=10, price=50_000)
        first = house.sim.place(15, 40, 25, quantity=20, price=50_000)
        house.sim.place(14, 37, 25, quantity=10, price=50_000)
        await headroom(house, "resting", lambda room: room == 0)
        house.sim.place(14, 37, 25, quantity=Decimal("0.00002"), price=50_000)
        name = await house.any_trip()
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["last"]) == ("resting", "1000001")
        assert house.open() == {first.order_id}


async def test_a_burst_of_orders_trips_at_the_one_too_many_and_what_a_list_shows_is_none(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=FEED % 30 + BURST) as house:
        await house.start()
        await house.metric("killswitch_calls_total{answer=ok,call=GetOpenOrders,oms=prime}", 3)
        for _ in range(5):
            house.sim.place(14, 37, 25)
        house.sim.place(14, 37, 26)  # another series
        await headroom(house, "burst", lambda room: room == 0)
        house.sim.place(14, 37, 25)
        name = await house.any_trip()
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["last"]) == ("burst", "6")
        assert not house.open(account=14)
