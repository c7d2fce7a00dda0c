"""Shadow: a rule that is tried on a live daemon, and a whole daemon that only tells; the simulator sees no cancel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import ROOT, House, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
TRIED = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
stale_after_s = 60

[[rule]]
name = "tried"
reading = "var"
kind = "limit"
above = 40
mode = "shadow"
scope = { oms = "prime", account = "{account}" }

[[rule]]
name = "proven"
reading = "var"
kind = "limit"
above = 50
scope = { oms = "prime", account = "{account}" }
"""


def cancels(house):
    """Whatever could end an order, in the order in which it arrived at the OMS."""
    log = house.sim.exchange.log
    return [*log.of("CancelAllOrders"), *log.of("CancelOrder")]


async def shadow_of(house, holds=""):
    """Wait for a retained shadow trip that has looked; it."""

    def looked():
        trips = [t for name, t in house.trips().items() if t["shadow"] and holds in name]
        return next((t for t in trips if t["would_cancel"]), None)

    return await until(looked, "a shadow trip has looked", shown=house.shown)


async def cli(house, *words):
    """Exit code and output of a verb."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "killswitch", *words, "--config", str(house.config),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("KILLSWITCH")},
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, " ".join(out.decode().split())


async def test_a_rule_in_shadow_tells_and_a_live_one_on_the_same_scope_really_cancels(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=TRIED) as house:
        everything, mine = house.open(), house.open(account=14)
        await house.start()
        await until(lambda: feeds_up(house), "the feed is subscribed", every_s=0.05)
        await house.pub("risk/14/var", "45")
        trip = await shadow_of(house, "tried~")
        assert (trip["state"], trip["outcome"], trip["calls"]) == ("shadow", None, 0)
        assert trip["orders_left"] == trip["would_cancel"]["orders"] == len(mine)
        assert trip["would_cancel"]["order_ids"] == sorted(mine)
        assert trip["would_cancel"]["by_account"] == {"14": len(mine)}
        found = await house.event("shadow_found", "would have cancelled")
        assert found["shadow"] is True
        assert house.letters.retained["killswitch/state"] == {"state": "armed", "trips": 0}
        assert [t["shadow"] for t in house.letters.retained["killswitch/replica/ks-a"]["trips"]] == [True]
        assert not cancels(house)
        assert house.open() == everything
        metrics = await house.metrics()
        assert metrics["killswitch_shadow_trips_total{kind=limit,rule=tried}"] == 1
        assert metrics["killswitch_trips_total{kind=limit,rule=tried}"] == 0
        assert metrics["killswitch_latched_trips"] == 0
        assert metrics["killswitch_shadow"] == 0

        await house.pub("risk/14/var", "55")
        live = await house.any_trip()
        assert live.startswith("proven~")
        assert house.open() == everything - mine
        assert house.letters.retained["killswitch/state"]["trips"] == 1
        assert "SHADOW tried~" in house.log()

        # A reset of the shadow trip needs no calm rule; the live one stays.
        await house.reset("r-1", trip["trip"])
        assert (await house.receipt("r-1"))["shadow"] is True
        await until(lambda: list(house.trips()) == [live], "the live trip stays alone", shown=house.shown)


async def test_a_daemon_in_shadow_takes_commands_and_cancels_nothing(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=TRIED, daemon='mode = "shadow"\nsweep_on_stop = true') as house:
        everything, mine = house.open(), house.open(account=14)
        await house.start()
        await house.trip("p-1", account=14)
        receipt = await house.receipt("p-1")
        assert (receipt["accepted"], receipt["reason"]) == (True, "shadow: nothing is cancelled")
        assert receipt["shadow"] is True
        trip = await shadow_of(house, "p-1")
        assert trip["would_cancel"]["order_ids"] == sorted(mine)

        scope = ("--oms", "prime", "--account", "14", "--by", "ann", "--reason", "a try")
        code, said = await cli(house, "trip", *scope)
        assert code == 1
        assert "shadow: nothing is cancelled" in said
        assert f"would have cancelled {len(mine)} orders (account 14: {len(mine)})" in said
        code, said = await cli(house, "status")
        assert "in SHADOW: new trips cancel nothing" in said
        assert "p-1: SHADOW, nothing is cancelled" in said
        status, body = await house.get("/readyz")
        assert (status, json.loads(body)["mode"]) == (200, "shadow")

        body = json.dumps({"id": "p-http", "scope": {"oms": "prime", "account": 15}, "by": "ann", "reason": "a try"})
        answer = await post(house, "/command/trip", body)
        assert (answer["accepted"], answer["shadow"], answer["reason"]) == (True, True, "shadow: nothing is cancelled")
        assert house.letters.retained["killswitch/replica/ks-a"]["shadow"] is True

        house.signal(signal.SIGUSR1)
        await shadow_of(house, "signal~")
        assert (await house.metrics())["killswitch_shadow"] == 1
        assert await house.stop() == 0
        assert not cancels(house)
        assert house.open() == everything
        assert "this daemon is in SHADOW" in house.log()

        # Back to live: nothing of it is swept, and its topics are cleared.
        assert house.trips()
        house.sections |= {"daemon": ""}
        house.write_config()
        await house.start()
        await until(lambda: not house.trips(), "the leftovers are cleared", shown=house.shown)
        await house.trip("p-1", account=14)
        await until(lambda: not house.letters.receipts["p-1"][-1]["accepted"], "the id is used", shown=house.shown)
        assert not cancels(house)
        await house.trip("p-2", account=15)
        await house.confirmed("p-2")
        assert house.open(account=14) == mine


async def test_what_a_live_daemon_latched_is_swept_on_by_one_in_shadow(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        await house.kill()
        late = house.sim.place(14, 37, 25)
        house.sections |= {"daemon": 'mode = "shadow"'}
        house.write_config()
        await house.start()
        await until(lambda: late.order_id not in house.open(), "the late order is cancelled", shown=house.shown)
        await house.confirmed("p-1")
        assert "swept on until reset" in house.log()
        await house.reset_at_last("p-1")
        later = house.sim.place(14, 37, 25)
        await house.trip("p-2", account=14)
        await shadow_of(house, "p-2")
        assert house.open(account=14) == {later.order_id}


async def test_a_direct_trip_is_real_though_the_configuration_says_shadow(tmp_path):
    async with House(tmp_path, options=ORDERS, daemon='mode = "shadow"') as house:
        code, said = await cli(
            house, "trip", "--direct", "--oms", "prime", "--account", "14", "--by", "ann", "--reason", "for real"
        )
        assert code == 0, said
        assert not house.open(account=14)


async def test_a_retained_shadow_trip_whose_journal_is_gone_is_cleared_and_not_swept(tmp_path):
    async with House(tmp_path, options=ORDERS, daemon='mode = "shadow"') as house:
        everything = house.open()
        await house.start()
        await house.trip("p-1", account=14)
        await shadow_of(house, "p-1")
        await house.kill()
        for file in tmp_path.glob("killswitch.db*"):
            file.unlink()
        house.sections |= {"daemon": ""}
        house.write_config()
        await house.start()
        await until(lambda: not house.trips(), "the leftover is cleared", shown=house.shown)
        assert (await house.state())["trips"] == []
        assert not cancels(house)
        assert house.open() == everything


async def post(house, path, body):
    """The answer of a POST, as JSON."""

    def ask():
        request = urllib.request.Request(
            f"http://127.0.0.1:{house.http_port}{path}", body.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20) as answer:
            return json.loads(answer.read())

    return await asyncio.to_thread(ask)


async def feeds_up(house):
    return all(feed["up"] for feed in (await house.state())["feeds"])
