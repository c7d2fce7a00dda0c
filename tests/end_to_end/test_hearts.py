"""Silence as a limit: series and feeds that aren't heard any more trip, and not while they are."""

from __future__ import annotations

import asyncio
import time

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
OLD_S = 2.0
OLD = f"""
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{{account}}/var"
reading = "var"
stale_after_s = 600

[[rule]]
name = "var-old"
reading = "var"
kind = "stale"
older_than_s = {OLD_S}
scope = {{ oms = "prime", account = "{{account}}" }}

[[rule]]
name = "feed-old"
feed = "var"
kind = "stale"
older_than_s = 600
scope = {{ oms = "prime", account = 16 }}
"""


async def test_a_series_that_goes_quiet_trips_and_not_while_it_is_heard(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=OLD) as house:
        await house.start()
        async with house.client() as client:
            last = {}
            for _ in range(20):
                last[14] = time.monotonic()
                await client.publish("risk/14/var", b"1")
                await client.publish("risk/15/var", b"1")
                await asyncio.sleep(OLD_S / 10)
            assert house.trips() == {}
            while not any(name.startswith("var-old~") for name in house.trips()):
                await client.publish("risk/15/var", b"1")
                await asyncio.sleep(OLD_S / 10)
                assert time.monotonic() < last[14] + 60
            tripped = time.monotonic()
            name = await house.any_trip()
            # A retained value that a broker keeps says nothing about the present.
            await client.publish("risk/14/var", b"1", retain=True)
        assert tripped >= last[14] + OLD_S
        assert house.cancels()[0] == {"OMSId": 1, "AccountId": 14}
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["kind"]) == ("var-old", "stale")
        assert "var was not heard for 2.0 s, the limit is 2 s (account 14" in cause["text"]
        assert (await house.metrics())["killswitch_trips_total{kind=stale,rule=var-old}"] >= 1
        headroom = (await house.metrics())["killswitch_rule_headroom_ratio{rule=feed-old}"]
        assert 0.5 < headroom <= 1

        # It is over once it is heard, and only as long.
        async def heard():
            await house.pub("risk/14/var", "1")
            return {"account": "14"} not in (await house.state())["rules"][0]["breaching"]

        await until(heard, "the series is heard", every_s=0.2)


async def test_a_feed_that_is_never_heard_trips_though_the_broker_is_up(tmp_path):
    tables = OLD.replace("older_than_s = 600", "older_than_s = 2").replace(
        f"older_than_s = {OLD_S}", "older_than_s = 9"
    )
    async with House(tmp_path, options=ORDERS, tables=tables) as house:
        began = time.monotonic()
        await house.start()
        name = await house.any_trip()
        assert time.monotonic() >= began + 2
        assert name.startswith("feed-old~")
        assert house.cancels() == [{"OMSId": 1, "AccountId": 16}]
        cause = house.trip_of(name)["causes"][0]
        assert cause["text"] == "feed var was never heard for 2.0 s since the start, the limit is 2 s"
        await house.reset("r-1", name)
        receipt = await house.receipt("r-1")
        assert receipt["accepted"] is False
        await house.pub("risk/14/var", "1")
        await house.reset_at_last(name)
