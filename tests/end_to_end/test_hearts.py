"""Silence as a limit: series and feeds that aren't heard any more trip, and not while they are."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from click.testing import CliRunner

from killswitch.cli import cli
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
OLD_S = 3.0
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
            longest = 0.0
            for _ in range(20):
                longest = max(longest, time.monotonic() - last.get(14, time.monotonic()))
                last[14] = time.monotonic()
                await client.publish("risk/14/var", b"1")
                await client.publish("risk/15/var", b"1")
                await asyncio.sleep(OLD_S / 10)
            assert house.trips() == {} or longest > OLD_S / 2  # a machine that stood still for so long is no proof
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
        assert cause["text"].startswith("var was not heard for ")
        assert "the limit is 3 s (account 14" in cause["text"]
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
        assert cause["text"].startswith("feed var was never heard for ")
        assert cause["text"].endswith(" since the start, the limit is 2 s")
        await house.reset("r-1", name)
        receipt = await house.receipt("r-1")
        assert receipt["accepted"] is False
        await house.pub("risk/14/var", "1")
        await house.reset_at_last(name)


SILENT_S = 3.0
DEAD = """
[[feed]]
name = "heart"
kind = "mqtt"
topic = "traders/1/beat"
stale_after_s = 600

[[rule]]
name = "dead"
feed = "heart"
kind = "deadman"
silent_s = %s
arm = "%s"
on_stale = "%s"
scope = { oms = "prime", account = 16 }
"""


def dead(silent_s=SILENT_S, arm="start", on_stale="warn"):
    return DEAD % (silent_s, arm, on_stale)


async def rule_of(house):
    return (await house.state())["rules"][0]


async def test_a_dead_man_trips_when_the_heart_stops_and_not_while_it_beats(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=dead()) as house, house.client() as client:
        # It beats before the daemon is there: its time counts from the start.
        await client.publish("traders/1/beat", b"", qos=1)
        await house.start()
        last, longest = time.monotonic(), 0.0
        for _ in range(20):
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            await client.publish("traders/1/beat", b"", qos=1)
            await asyncio.sleep(SILENT_S / 10)
        assert house.trips() == {} or longest > SILENT_S / 2
        name = await house.any_trip()
        assert time.monotonic() >= last + SILENT_S
        assert house.cancels() == [{"OMSId": 1, "AccountId": 16}]
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["kind"], cause["labels"]) == ("dead", "deadman", {})
        assert cause["text"].startswith("the heart of feed heart did not beat for ")
        assert cause["text"].endswith("s, the limit is 3 s")
        metrics = await house.metrics()
        assert metrics["killswitch_readings_total{feed=heart}"] == 20
        assert metrics["killswitch_trips_total{kind=deadman,rule=dead}"] == 1
        await house.reset("r-1", name)
        assert (await house.receipt("r-1"))["accepted"] is False

        async def beating():
            await client.publish("traders/1/beat", b"", qos=1)
            return (await rule_of(house))["breaching"] == []

        await until(beating, "it beats again", every_s=0.1)
        for n in range(200):
            await client.publish("traders/1/beat", b"", qos=1)
            await house.reset(f"r-2.{n}", name)
            if (await house.receipt(f"r-2.{n}"))["accepted"]:
                break
        else:
            raise AssertionError("no reset was accepted")


async def test_a_heartbeat_that_the_broker_keeps_is_no_beat_when_the_daemon_connects_again(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=dead(arm="first")) as house:
        await house.pub("traders/1/beat", "kept", "-r")
        await house.start()
        await asyncio.sleep(0.5)
        assert (await rule_of(house))["armed"] is False  # it came, and armed nothing
        await house.pub("traders/1/beat", "live")
        await until(lambda: _armed(house), "it is armed", every_s=0.05)
        for _ in range(2):  # each brings the kept message again
            await asyncio.to_thread(house.broker.stop)
            await asyncio.to_thread(house.broker.start)
        await house.any_trip()
        assert house.cancels() == [{"OMSId": 1, "AccountId": 16}]
        assert (await house.metrics())["killswitch_readings_total{feed=heart}"] == 1  # the live one
        async with house.client() as client:
            await client.subscribe("traders/1/beat")
            message = await asyncio.wait_for(anext(aiter(client.messages)), 20)
            assert (message.payload, message.retain) == (b"kept", True)  # the broker kept it through all that


async def _armed(house):
    return (await rule_of(house))["armed"]


@pytest.mark.parametrize("on_stale", ["warn", "trip"])
async def test_while_the_broker_is_away_the_heart_is_unknown_and_on_stale_decides(tmp_path, on_stale):
    async with House(tmp_path, options=ORDERS, tables=dead(1.0, on_stale=on_stale)) as house:
        await asyncio.to_thread(house.broker.stop)
        began = time.monotonic()
        await house.start(ready=False)

        async def unknown():
            state = await house.state()
            return state and state["rules"][0]["unknown"] == [{}]

        await until(unknown, "silent_s went by", every_s=0.05)
        assert (await house.state())["trips"] == []  # nobody knows, and that isn't dead
        if on_stale == "trip":
            await until(house.cancels, "it is tripped", every_s=0.05)
            assert time.monotonic() >= began + 1.0 + 10.0
            assert "nobody knows whether the heart of feed heart beats" in str((await house.state())["trips"])
        else:
            await until(lambda: "nobody knows whether the heart" in house.log(), "people are told", every_s=0.05)
            assert time.monotonic() >= began + 1.0 + 10.0
            assert house.cancels() == []
        # With the link back it has silent_s to beat in; it doesn't.
        await asyncio.to_thread(house.broker.start)
        await until(house.cancels, "it is dead", every_s=0.05)
        await house.any_trip()
        assert house.cancels()[0] == {"OMSId": 1, "AccountId": 16}


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_daemon_that_starts_again_has_not_forgotten_that_a_heart_once_beat(tmp_path, how):
    async with House(tmp_path, options=ORDERS, tables=dead(arm="first")) as house:
        await house.start()
        await asyncio.sleep(0.5)
        assert (await rule_of(house))["armed"] is False
        await house.pub("traders/1/beat", "alive")
        await until(lambda: _armed(house), "it is armed", every_s=0.02)
        await (house.kill() if how == "kill" else house.stop())
        assert house.trips() == {}
        began = time.monotonic()
        await house.start()
        assert await _armed(house) is True
        name = await house.any_trip()
        assert time.monotonic() >= began + SILENT_S
        assert "did not beat for" in house.trip_of(name)["causes"][0]["text"]
        assert "since the start" in house.trip_of(name)["causes"][0]["text"]


async def test_a_recording_of_beats_gives_the_trips_that_the_daemon_made(tmp_path):
    tables = dead(arm="first")
    async with House(tmp_path, options=ORDERS, tables=tables, daemon='record = "day.jsonl"') as house:
        await house.start()
        await house.pub("traders/1/beat", "alive")
        await until(lambda: _armed(house), "it is armed", every_s=0.02)
        await house.kill()  # the trip is of a heart that beat in another life of the daemon only
        await house.start()
        await house.any_trip()
        await house.pub("traders/1/beat", "alive")  # a recording goes as far as its last line
        await house.metric("killswitch_readings_total{feed=heart}", 1)
        await house.stop()
        done = CliRunner().invoke(cli, ["replay", "--config", str(house.config), "--json", str(tmp_path)])
        (trip,) = [json.loads(line) for line in done.stdout.splitlines()]
        assert (trip["rule"], trip["scope"]) == ("dead", {"oms": "prime", "account": 16})
        assert trip["cause"].startswith("the heart of feed heart did not beat for 3.")
