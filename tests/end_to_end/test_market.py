"""What an OMS tells of its markets trips: a price, and orders that it refuses one after the other."""

from __future__ import annotations

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
FEED = """
[[feed]]
name = "market"
kind = "oms"
oms = "prime"
stale_after_s = 30
"""
PRICE = (
    FEED
    + """
[[rule]]
name = "btc-crash"
reading = "price"
where = { instrument = "25" }
kind = "limit"
below = 40000
scope = { oms = "prime", account = "every", instrument = 25 }
"""
)
REJECTS = (
    FEED
    + """
[[rule]]
name = "refused"
reading = "reject"
kind = "rate"
above = 3
per_s = 60
scope = { oms = "prime", account = "{account}" }
"""
)


async def test_a_price_past_its_limit_trips_on_a_link_that_was_lost_and_made_anew_too(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=PRICE) as house:
        house.sim.set_price(25, bid=40000, ask=40001)
        await house.start()
        await house.metric("killswitch_calls_total{answer=ok,call=SubscribeLevel1,oms=prime}", 1)
        assert [r.body for r in house.sim.exchange.log.of("SubscribeLevel1")] == [
            {"OMSId": 1, "InstrumentId": 25}
        ]  # no rule reads the other one
        house.sim.drop_sessions()
        await house.metric("killswitch_calls_total{answer=ok,call=SubscribeLevel1,oms=prime}", 2)
        house.sim.set_price(26, bid=1, ask=2)
        house.sim.set_price(25, bid=0, ask=0, last=41000)  # nobody bids or offers: 0 is no price
        house.sim.set_price(25, bid=39999, ask=40000)
        name = await house.any_trip()
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["last"], cause["worst"]) == ("btc-crash", "39999.5", "39999.5")
        assert not house.open(instrument=25)
        assert len(house.open(instrument=26)) == 12
        await house.metric("killswitch_calls_total{answer=ok,call=GetInstruments,oms=prime}", 2)


async def test_orders_that_are_refused_one_after_the_other_trip_their_account(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=REJECTS) as house:
        await house.start()
        for n in range(1, 4):
            house.sim.reject_order(14, client_order_id=n)
            house.sim.reject_order(15, client_order_id=n)
        house.sim.reject_order(14, client_order_id=4)
        name = await house.any_trip()
        assert house.trip_of(name)["causes"][0]["rule"] == "refused"
        assert not house.open(account=14)
        assert len(house.open(account=15)) == 8
