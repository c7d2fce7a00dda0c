"""What an OMS tells of its markets trips: a price, and orders that it refuses one after the other."""

from __future__ import annotations

import json

import pytest

from killswitch.adapters.journal import read_rows
from killswitch.config import load_rules
from killswitch.rehearse import Rehearsal, lines_of, recordings
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

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
SHARE = (
    FEED
    + """
[[rule]]
name = "share"
reading = "reject"
over = "order"
kind = "ratio"
above = 0.5
window_s = 60
at_least = 4
scope = { oms = "prime", account = "{account}" }

[[rule]]
name = "price-drop"
reading = "price"
where = { instrument = "25" }
kind = "drawdown"
fall = 1000
window_s = 60
scope = { oms = "prime", account = 15, instrument = 25 }
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


async def test_the_share_of_refused_orders_and_a_fall_of_the_price_trip_and_so_they_do_in_a_replay(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=SHARE, daemon='record = "day.jsonl"') as house:
        house.sim.set_price(25, bid=40000, ask=40000)
        await house.start()
        await house.metric("killswitch_rule_headroom_ratio{rule=price-drop}", 1)  # its first price is there
        await house.metric(
            "killswitch_calls_total{answer=ok,call=GetOpenOrders,oms=prime}", 3
        )  # what is listed isn't new
        for n in range(4):
            house.sim.place(14, 37, 25 + n % 2)
            house.sim.place(15, 37, 25)
        for n in range(2):  # it names neither instrument nor user, and is of its account's orders all the same
            house.sim.reject_order(14, client_order_id=n)
            house.sim.reject_order(15, client_order_id=n)
        house.sim.set_price(25, bid=41000, ask=41000)
        house.sim.set_price(25, bid="40000.01", ask="40000.01")
        await house.metric("killswitch_rule_headroom_ratio{rule=share}", 0)  # 2 of 4 is not above the half
        await house.metric("killswitch_rule_headroom_ratio{rule=price-drop}", 0.00001)
        assert not house.trips()
        assert not house.cancels()

        house.sim.reject_order(14, client_order_id=2)
        name = await house.any_trip()
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 14}
        assert house.trip_of(name)["causes"][0]["last"] == "0.75"
        house.sim.set_price(25, bid=40000, ask=40000)
        await until(lambda: len(house.trips()) == 2, "a fall of exactly 1000 trips")
        (other,) = set(house.trips()) - {name}
        assert house.trip_of(other)["causes"][0]["last"] == "1000.0"
        await house.confirmed(name, other)
        await house.stop()

        rehearsal = Rehearsal(load_rules(house.config, {}))
        trips = [t for file in recordings([tmp_path]) for line, _ in lines_of(file) for t in rehearsal.take(line)]
        live = [json.loads(row.data)["body"] for row in read_rows(house.journal) if row.kind == "tripped"]
        assert [(t.rule, t.cause) for t in trips] == [(row["cause"]["rule"], row["cause"]["text"]) for row in live]
        assert [t.rule for t in trips] == ["share", "price-drop"]
