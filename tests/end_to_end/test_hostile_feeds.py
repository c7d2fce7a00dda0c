"""What a feed can do to the daemon: 200 malformed payloads, a broker restarted under 1,000 series, a stepped clock."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import aiomqtt
import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until
from tests.hostile import malformed

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
FEED = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/var"
reading = "var"
value = "v"
labels = { account = "acct" }
time = "ts"
stale_after_s = %s
"""
RULE = """
[[rule]]
name = "%s"
reading = "var"
kind = "limit"
above = 100
on_stale = "%s"
fallback = { oms = "prime", account = %s }
scope = { oms = "prime", account = "{account}" }
"""


def said(value, account, at=None):
    at_ms = int(1000 * (time.time() if at is None else at))
    return json.dumps({"v": value, "acct": account, "ts": at_ms})


def bad(metrics):
    name = "killswitch_bad_readings_total{feed=var,reason="
    return {key[len(name) : -1]: value for key, value in metrics.items() if key.startswith(name) and value}


async def heard(house, client):
    """A reading that was sent before the feed is subscribed would be nobody's."""

    async def so():
        await client.publish("risk/var", said(1, 14), qos=1)
        return (await house.metrics())["killswitch_readings_total{feed=var}"] > 0

    await until(so, "the feed is heard", shown=house.shown, every_s=0.1)


async def test_200_malformed_payloads_are_no_values_and_a_breach_afterwards_trips(tmp_path):
    payloads = malformed(200)
    async with House(tmp_path, options=ORDERS, tables=FEED % 60 + RULE % ("high", "warn", 16)) as house:
        await house.start()
        async with house.client() as client:
            await heard(house, client)
            before = await house.metrics()
            for payload in payloads:
                await client.publish("risk/var", payload, qos=1)

            async def all_counted():
                return sum(bad(await house.metrics()).values()) >= 200

            await until(all_counted, "each is counted", shown=house.shown, every_s=0.1)
            metrics = await house.metrics()
            assert sum(bad(metrics).values()) == 200 + bad(before).get("duplicate", 0)
            assert metrics["killswitch_readings_total{feed=var}"] == before["killswitch_readings_total{feed=var}"]
            assert next(r for r in (await house.state())["rules"] if r["rule"] == "high")["series"] == 1
            assert not house.trips()
            assert not house.cancels()
            # Not a word to the event topic for each: one for each reason.
            assert house.letters.kinds().count("bad_reading") <= len(bad(metrics))
            await client.publish("risk/var", said(101, 14), qos=1)
            name = await house.any_trip()
            assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 14}
            assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
            assert house.running


async def keep_saying(house, numbers):
    """Each series again and again, whatever becomes of the broker."""
    while True:
        with contextlib.suppress(aiomqtt.MqttError):
            async with house.client() as client:
                while True:
                    for number in numbers:
                        await client.publish("risk/var", said(1, number))
                    await asyncio.sleep(0.3)
        await asyncio.sleep(0.1)


async def test_a_broker_restarted_under_1000_series_is_at_most_one_trip_per_rule(tmp_path):
    rules = RULE % ("one", "trip", 15) + RULE % ("two", "trip", 16)
    async with House(tmp_path, options=ORDERS, tables=FEED % 15.0 + rules) as house:
        await house.start()
        source = asyncio.create_task(keep_saying(house, range(1000, 2000)))

        async def known():
            return all(rule["series"] == 1000 for rule in (await house.state())["rules"])

        await until(known, "all series are known", shown=house.shown, every_s=0.1)
        assert not house.trips()
        await asyncio.to_thread(house.broker.stop)
        # The feed fails as a whole: one trip of each rule's fallback, though 2,000 times a series is stale.
        totals = [f"killswitch_trips_total{{kind=limit,rule={name}}}" for name in ("one", "two")]

        async def tripped():
            metrics = await house.metrics()
            return all(metrics[total] for total in totals)

        await until(tripped, "the silence is noticed", shown=house.shown, every_s=0.1)
        await asyncio.to_thread(house.broker.start)

        async def back():
            return not any(feed["stale"] for feed in (await house.state())["feeds"])

        await until(back, "the feed is heard again", shown=house.shown, every_s=0.1)
        await asyncio.sleep(18)  # more than stale_after_s: what had not come back by then would be stale alone
        while not source.done():  # a client that is just losing its broker swallows a cancellation
            source.cancel()
            await asyncio.wait([source], timeout=0.5)
        metrics = await house.metrics()
        assert [metrics[total] for total in totals] == [1, 1]
        assert sorted(trip["scope"]["account"] for trip in house.trips().values()) == [15, 16]
        assert {body["AccountId"] for body in house.cancels()} == {15, 16}


@contextlib.contextmanager
def faked_clock(folder):
    """The environment of a process whose wall clock can be set, and the means to set it; its monotonic one goes on."""
    library = next(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        missing = "install faketime to step the clock of a daemon"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    file = folder / "clock"

    def step(seconds):
        fresh = folder / "clock.new"
        fresh.write_text(f"{seconds:+d}\n")
        fresh.replace(file)

    step(0)
    yield (
        {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        },
        step,
    )


@pytest.mark.parametrize("by_s", [3600, -3600], ids=["forward", "back"])
async def test_a_clock_stepped_by_an_hour_trips_nothing_and_is_announced(tmp_path, by_s):
    stale_s = 8.0
    positions = '[[feed]]\nname = "positions"\nkind = "oms"\noms = "prime"\nstale_after_s = 8\n'
    rules = RULE % ("high", "trip", 16) + RULE.replace('"var"', '"position"') % ("held", "trip", 15)
    with faked_clock(tmp_path) as (env, step):
        async with House(tmp_path, options=ORDERS, tables=FEED % stale_s + positions + rules) as house:
            house.sim.move_position(14, 1, to=1)
            await house.start(env=env)
            async with house.client() as client:
                await heard(house, client)
                odd = bad(await house.metrics())
                told = f"set {'forward' if by_s > 0 else 'back'} by 3600.0 s"
                for at_s in (by_s, 0):
                    step(at_s)
                    end = time.monotonic() + stale_s + 3
                    while time.monotonic() < end:
                        await client.publish("risk/var", said(1, 14), qos=1)
                        await asyncio.sleep(0.1)
                    await house.event("clock_stepped", told)
                    told = f"set {'back' if by_s > 0 else 'forward'} by 3600.0 s"
                assert not house.trips()
                assert not house.cancels()
                assert not {"tripped", "stale", "heard_again"} & set(house.letters.kinds())
                assert house.letters.kinds().count("clock_stepped") == 2
                assert bad(await house.metrics()) == odd
                await client.publish("risk/var", said(101, 14), qos=1)
                name = await house.any_trip()
                assert house.trip_of(name)["scope"] == {"oms": "prime", "account": 14}
