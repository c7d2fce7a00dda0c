"""Rules trip by themselves: positions, readings from MQTT, what was so before the start, and silence."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from websockets.asyncio.server import serve

from killswitch.simulator.faults import Deaf
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

BTC = 1
POSITIONS = """
[[feed]]
name = "positions"
kind = "oms"
oms = "prime"
stale_after_s = 4.0

[[rule]]
name = "btc-position"
reading = "position"
where = { product = "BTC" }
kind = "limit"
above = 50
absolute = true
on_stale = "trip"
fallback = { oms = "prime", account = 16 }
scope = { oms = "prime", account = "{account}" }
"""
READINGS = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
value = "var.value"
stale_after_s = %s

[[rule]]
name = "var-limit"
reading = "var"
kind = "limit"
above = 250000
on_stale = "%s"
fallback = { oms = "prime", account = 15 }
scope = { oms = "prime", account = "{account}" }
"""
ORDERS = SimulatorOptions(orders=24)


FLOOD = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
value = "var.value"
stale_after_s = 60

[[rule]]
name = "var-flood"
reading = "var"
kind = "rate"
above = 3
per_s = 60
scope = { oms = "prime", account = "{account}" }
"""


def var(value):
    return json.dumps({"var": {"value": value}})


async def test_a_position_over_its_limit_trips_its_own_account(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=POSITIONS) as house:
        others = house.open() - house.open(account=14)
        house.sim.move_position(14, BTC, to=49)
        await house.start()
        house.sim.move_position(15, BTC, to=50)  # at the limit is not past it
        house.sim.move_position(14, BTC, to="-50.000000001")
        name = await house.any_trip()
        assert name.startswith("btc-position~")
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
        assert house.open() == others
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["kind"], cause["last"]) == ("btc-position", "limit", "-50.000000001")
        metrics = await house.metrics()
        assert metrics["killswitch_trips_total{kind=limit,rule=btc-position}"] == 1
        assert metrics["killswitch_rule_headroom_ratio{rule=btc-position}"] < 0

        # While it lasts no person can reset it; when it is over they can.
        await house.reset("r-1", name)
        assert (await house.receipt("r-1"))["accepted"] is False
        house.sim.move_position(14, BTC, to=1)

        async def is_calm():
            return (await house.metrics())["killswitch_rule_headroom_ratio{rule=btc-position}"] >= 0

        await until(is_calm, "the position is heard")
        await house.reset_at_last(name)
        assert house.letters.kinds().count("tripped") == 1


async def test_a_fill_that_takes_the_position_over_its_limit_trips(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=POSITIONS) as house:
        house.sim.move_position(14, BTC, to=50)
        await house.start()
        order = house.sim.place(14, 37, 25)
        house.sim.fill(order.order_id)
        await house.any_trip()
        assert not house.open(account=14)


async def test_one_reading_too_many_trips_and_its_window_must_be_whole_before_a_reset(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=FLOOD) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        await until(lambda: feed_up(house), "the feed is subscribed")
        for value in (1, 2, 3):
            await house.pub("risk/14/var", var(value))
            await house.pub("risk/15/var", var(value))
        await until(lambda: six_are_heard(house), "none of the six is one too many")
        assert not house.trips()
        await house.pub("risk/14/var", var(4))
        name = await house.any_trip()
        assert name.startswith("var-flood~")
        assert house.open() == others
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["kind"], cause["last"]) == ("var-flood", "rate", "4")
        (rule,) = (await house.state())["rules"]
        assert (rule["kind"], rule["warming"]) == ("rate", 2)


DRAWDOWN = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
value = "var.value"
stale_after_s = 60

[[rule]]
name = "drop"
reading = "var"
kind = "drawdown"
fall = 10
window_s = 60
warn_at = [0.9]
scope = { oms = "prime", account = "{account}" }
"""


async def test_a_fall_of_exactly_its_limit_trips_and_a_smaller_one_does_not(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=DRAWDOWN) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        await until(lambda: feed_up(house), "the feed is subscribed")
        for value in (-50, 100, 90.5):
            await house.pub("risk/14/var", var(value))
            await house.pub("risk/15/var", var(value / 2))
        await until(lambda: six_are_heard(house), "none of the six fell far enough")
        warned = await house.event("near_limit")
        assert "var 90.5 is 9.5 under 100.0 and has used 90 % of its limit" in json.dumps(warned)
        await house.metric("killswitch_warnings_total{rule=drop}", 1)
        assert not house.trips()
        await house.pub("risk/14/var", var(90))
        name = await house.any_trip()
        assert name.startswith("drop~")
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 14}
        assert house.open() == others
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["kind"], cause["last"]) == ("drop", "drawdown", "10.0")
        (rule,) = (await house.state())["rules"]
        assert (rule["kind"], rule["warming"], rule["headroom"]) == ("drawdown", 2, 0)
        assert rule["limit"] == "10 or more under its highest in 60 s"
        await house.metric("killswitch_trips_total{kind=drawdown,rule=drop}", 1)


RATIO = """
[[feed]]
name = "rejects"
kind = "mqtt"
topic = "desk/{account}/reject"
reading = "reject"
stale_after_s = 60

[[feed]]
name = "orders"
kind = "websocket"
url = "ws://127.0.0.1:%s/stream"
subscribe = ['{"op":"subscribe"}']
reading = "order"
value = "data.positions.margin"
labels = { account = "data.positions.acct" }
stale_after_s = 60

[[rule]]
name = "rejects"
reading = "reject"
over = "order"
kind = "ratio"
above = 0.5
window_s = 60
at_least = 4
scope = { oms = "prime", account = "{account}" }
"""


async def test_a_share_over_two_feeds_trips_at_its_reading_and_not_while_there_are_too_few(tmp_path):
    async with risk_stream() as (port, asked, say), House(tmp_path, options=ORDERS, tables=RATIO % port) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        await until(lambda: asked, "the stream has subscribed")

        async def is_up():
            await house.pub("desk/16/reject", "x")  # no number: it is heard, and counted as bad
            return (await house.metrics()).get("killswitch_bad_readings_total{feed=rejects,reason=not_json}")

        await until(is_up, "the feed is subscribed")
        rejects, orders = "killswitch_readings_total{feed=rejects}", "killswitch_readings_total{feed=orders}"
        await say((14, 1), (14, 1), (15, 1))
        await house.metric(orders, 3)
        for _ in range(2):
            await house.pub("desk/14/reject", "1")
            await house.pub("desk/15/reject", "1")
        await house.metric(rejects, 4)
        await say((14, 1), (14, 1), (15, 1))  # 2 of 4 is not above the half; 2 of 2 are too few
        await house.metric(orders, 6)
        assert not house.trips()
        assert not house.cancels()
        await house.pub("desk/14/reject", "1")
        name = await house.any_trip()
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 14}
        assert house.open() == others
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["kind"], cause["last"]) == ("rejects", "ratio", "0.75")
        (rule,) = (await house.state())["rules"]
        assert (rule["kind"], rule["warming"], rule["series"], rule["headroom"]) == ("ratio", 2, 2, -0.5)
        await house.metric("killswitch_trips_total{kind=ratio,rule=rejects}", 1)


async def six_are_heard(house):
    return (await house.metrics())["killswitch_readings_total{feed=var}"] == 6


async def test_an_mqtt_reading_over_its_limit_trips(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=READINGS % (30, "warn")) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        await until(lambda: feed_up(house), "the feed is subscribed")
        await house.pub("risk/14/var", var(250000))
        await house.pub("risk/15/var", '{"var": {"value": NaN}}')
        await house.pub("risk/14/var", var(250000.5))
        name = await house.any_trip()
        assert list(house.trips()) == [name]
        assert house.open() == others
        await house.metric("killswitch_readings_total{feed=var}", 2)
        assert (await house.metrics())["killswitch_bad_readings_total{feed=var,reason=not_json}"] == 1


async def test_an_account_that_is_beyond_its_limit_at_the_start_trips(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=POSITIONS) as house:
        house.sim.move_position(15, BTC, to=80)
        await house.start(ready=False)
        await house.any_trip()
        assert house.cancels() == [{"OMSId": 1, "AccountId": 15}]


async def test_a_quiet_account_does_not_go_stale(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=POSITIONS.replace("4.0", "3.0")) as house:
        await house.start()
        await asyncio.sleep(7)  # more than twice what a silent feed is allowed
        assert house.running
        assert not house.cancels()
        assert not {"tripped", "stale"} & set(house.letters.kinds())


@contextlib.asynccontextmanager
async def risk_stream():
    """Another system's WebSocket: its port, what it was asked, and a way to say something to everybody there."""
    asked, there = [], []

    async def handle(connection):
        asked.append(await connection.recv())
        await connection.send('{"op":"subscribed"}')
        there.append(connection)
        await connection.wait_closed()

    async def say(*rows):
        positions = [{"acct": account, "margin": margin} for account, margin in rows]
        for connection in there:
            await connection.send(json.dumps({"data": {"positions": positions}}))

    async with serve(handle, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], asked, say


STREAM = """
[[feed]]
name = "desk-risk"
kind = "websocket"
url = "ws://127.0.0.1:%s/stream"
subscribe = ['{"op":"subscribe"}']
reading = "margin_usage"
value = "data.positions.margin"
labels = { account = "data.positions.acct" }
stale_after_s = 60

[[rule]]
name = "margin"
reading = "margin_usage"
kind = "limit"
above = 0.9
scope = { oms = "prime", account = "{account}" }
"""


async def test_a_websocket_reading_over_its_limit_trips_at_that_reading_and_not_one_earlier(tmp_path):
    async with risk_stream() as (port, asked, say), House(tmp_path, options=ORDERS, tables=STREAM % port) as house:
        others = house.open() - house.open(account=15)
        await house.start()
        await until(lambda: asked, "the feed has subscribed")
        readings = "killswitch_readings_total{feed=desk-risk}"
        for n, margin in enumerate((0.1, 0.5, 0.9), start=1):
            await say((14, 0.2), (15, margin), (16, "0.9"))
            await house.metric(readings, 3 * n)
        await say((15, None), (14, "NaN"), (15, True))
        await house.metric("killswitch_bad_readings_total{feed=desk-risk,reason=not_a_number}", 3)
        assert not house.trips()
        assert not house.cancels()

        await say((14, 0.3), (15, "0.9000001"), (16, 0.4))
        name = await house.any_trip()
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 15}
        assert house.trip_of(name)["causes"][0]["last"] == "0.9000001"
        assert house.cancels() == [{"OMSId": 1, "AccountId": 15}]
        assert house.open() == others
        assert asked == ['{"op":"subscribe"}']
        await house.metric("killswitch_trips_total{kind=limit,rule=margin}", 1)
        assert (await house.metrics())[readings] == 12


async def test_a_dead_feed_trips_the_fallback_of_a_rule_that_asks_for_it(tmp_path):
    # Half open: the gateway takes connections and answers nothing, so nothing is known of any position.
    async with House(tmp_path, options=ORDERS, tables=POSITIONS.replace("4.0", "2.0")) as house:
        others = house.open() - house.open(account=16)
        await house.start()
        house.sim.faults.inject(Deaf())
        await until(house.trips, "a trip is announced", shown=house.shown)
        house.sim.faults.clear(Deaf)
        name = await house.any_trip()
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 16}
        assert list(house.trips()) == [name]
        assert house.open() == others


async def test_a_feed_that_is_never_heard_trips_the_fallback(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=READINGS % (1.5, "trip")) as house:
        await house.start()
        name = await house.any_trip()
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 15}
        assert house.cancels() == [{"OMSId": 1, "AccountId": 15}]


async def feed_up(house):
    """Readings that were sent before we subscribed would be nobody's: ask until one is counted."""
    await house.pub("risk/16/var", "{}")  # no reading: it lacks the path
    return (await house.metrics())["killswitch_bad_readings_total{feed=var,reason=no_value}"]
