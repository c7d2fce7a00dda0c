"""SIGHUP again and again, in the middle of everything: nothing is done twice, nothing lost, nothing piles up."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, iso, until
from tests.end_to_end.test_reload import feed, feed_is_up, heard, hup, reload, rule

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
STREAMED = feed("var") + rule("var")
EQUITY = """
[[rule]]
name = "low"
reading = "equity"
kind = "limit"
below = -1000000000
scope = { oms = "prime", account = "{account}" }
"""
MARKET = """
[[feed]]
name = "market"
kind = "oms"
oms = "prime"
stale_after_s = 600
snapshot_every_s = 600
numeraire = "USD"
"""
POSITION = """
[[rule]]
name = "large"
reading = "position"
kind = "limit"
above = 1000000000
scope = { oms = "prime", account = "{account}" }
"""
HEART = """
[[feed]]
name = "heart"
kind = "mqtt"
topic = "traders/heart"
stale_after_s = 600

[[rule]]
name = "trader"
feed = "heart"
kind = "deadman"
arm = "first"
silent_s = %s
scope = { oms = "prime", account = 14 }
"""


def open_files(house):
    return len(list(Path(f"/proc/{house.process.pid}/fd").iterdir()))


async def test_fifty_reloads_in_a_row_leave_one_session_and_every_command_done_once(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=STREAMED) as house:
        await house.start()
        await feed_is_up(house, "var")
        await until(lambda: len(house.sim.sessions) == 1, "one session", shown=house.shown)
        before = open_files(house)
        async with house.client() as client:
            for n in range(50):
                # Another list of accounts is another session; rules, feeds and buttons come and go.
                house.oms = {"accounts": [14, 15, 16] if n % 2 else [14, 15, 16, 17]}
                more = feed("pnl", "pnl/{account}") + rule("pnl", "pnl") if n % 3 else ""
                house.tables = feed("var") + rule("var", above=50 + n % 4) + more
                house.write_config()
                house.signal(signal.SIGHUP)
                if n % 10 == 5:
                    said = {"id": f"p-{n}", "scope": {"oms": "prime", "account": 14}, "by": "ann", "reason": "x"}
                    await client.publish("killswitch/command/trip", json.dumps(said | {"issued_at": iso()}), qos=1)
                await asyncio.sleep(0.02 * (n % 5))
        house.oms, house.tables = {}, STREAMED + rule("last")
        house.write_config()
        house.signal(signal.SIGHUP)
        await house.event("reloaded", 'rule "last"')
        commanded = [f"p-{n}" for n in range(5, 50, 10)]
        await house.confirmed(*commanded)
        for name in commanded:
            assert (await house.receipt(name))["accepted"]
            assert len(house.letters.receipts[name]) == 1
        await until(lambda: len(house.sim.sessions) == 1, "one session is left", shown=house.shown)
        await until(lambda: open_files(house) <= before + 2, "what was opened was closed", shown=house.shown)
        await feed_is_up(house, "var")
        await heard(house, "var", 60, account=15)
        await until(lambda: [name for name in house.trips() if name.startswith(("var~", "last~"))], "its rule trips")


async def test_prices_are_asked_for_as_soon_as_a_reload_brings_a_rule_that_needs_them(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=MARKET + POSITION) as house:
        await house.start()

        async def told():
            held = await house.metrics()
            return held.get("killswitch_rule_headroom_ratio{rule=low}", float("nan")) > 0

        house.tables = MARKET + POSITION + EQUITY
        await reload(house)
        await until(told, "equity is told long before the next snapshot", shown=house.shown)


async def test_a_heart_that_a_beat_armed_is_minded_over_reloads_and_a_restart(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=HEART % 600) as house:
        await house.start()
        await feed_is_up(house, "heart")
        await house.pub("traders/heart", "x")

        async def armed():
            return next(r["armed"] for r in (await house.state())["rules"] if r["rule"] == "trader")

        await until(armed, "it is armed", shown=house.shown)
        await hup(house)
        house.tables = HEART % 500 + feed("var")
        await reload(house)
        assert await armed()
        await house.kill()
        house.tables = HEART % 2
        house.write_config()
        await house.start()
        name = await house.any_trip()  # nobody ever beats again
        assert name.startswith("trader~")


async def test_a_fall_that_tripped_in_shadow_trips_when_a_reload_makes_its_rule_live_and_back_is_said_loudly(tmp_path):
    fall = {"kind": "drawdown", "fall": 20, "window_s": 3600, "above": None}

    def tables(mode):
        held = rule("fall", **fall, mode=mode).replace("above = null\n", "")
        return feed("var") + held

    async with House(tmp_path, options=ORDERS, tables=tables("shadow")) as house:
        await house.start()
        await feed_is_up(house, "var")
        await heard(house, "var", 45)
        await heard(house, "var", 20)
        await house.event("shadow_found")
        house.tables = tables("live")
        await reload(house)
        await house.event("tripped", "25.0 under 45.0")
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
        said = house.log().count("rules in SHADOW, which cancel nothing: fall")
        house.tables = tables("shadow")
        await reload(house)
        await until(lambda: house.log().count("rules in SHADOW, which cancel nothing: fall") > said, "it is said")


async def test_a_reload_while_nobody_can_write_or_hear_counts_all_the_same(tmp_path):
    """The broker is away, a sweep is under way, and two more SIGHUPs come before the first is done."""
    async with House(tmp_path, options=ORDERS, tables=STREAMED) as house:
        await house.start()
        await feed_is_up(house, "var")
        await asyncio.to_thread(house.broker.stop)
        house.tables = feed("var") + rule("var", above=10) + rule("second", above=20)
        house.write_config()
        for _ in range(3):
            house.signal(signal.SIGHUP)
        await until(lambda: 'added rule "second"' in house.log(), "it is taken up", shown=house.shown)
        await asyncio.to_thread(house.broker.start)
        await feed_is_up(house, "var")
        await until(lambda: house.letters.up, "the test reads again", shown=house.shown)
        await heard(house, "var", 15)
        name = await house.any_trip()
        assert house.trip_of(name)["causes"][0]["rule"] == "var"
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
