"""Two gateways of one OMS, each behind a link that can fail, and the real daemon before them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import datetime

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import BTC_LIMIT, House, until
from tests.end_to_end.proxy import AFTER, BEFORE, DOWN, MIDDLE, MUTE, MUTE_DOWN, MUTE_UP, UP, Fault, Proxy
from tests.end_to_end.test_reload import reload
from tests.end_to_end.verdict import Verdict

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
CANCEL, LIST = "CancelAllOrders", "GetOpenOrders"
QUICK = "timeout_s = 0.5"


@contextlib.asynccontextmanager
async def two_gateways(folder, **more):
    """A house with two ways to its OMS: a and b."""
    async with Proxy() as a, Proxy() as b, House(folder, **({"options": ORDERS, "retry": QUICK} | more)) as house:
        a.target = b.target = house.sim.port
        house.oms["gateways"] = [a.url, b.url]
        house.write_config()
        yield house, a, b


async def sessions(house):
    """Port of a gateway -> its session as /state has it."""
    (oms,) = (await house.state())["omses"]
    return {int(s["gateway"].rpartition(":")[2]): s for s in oms["sessions"]}


async def up(house, *proxies):
    """Wait until the sessions through these are up, and through the others not; they."""

    async def so():
        held = await sessions(house)
        return held if {port for port, s in held.items() if s["up"]} == {p.port for p in proxies} else None

    return await until(so, "these sessions are up", shown=house.log, every_s=0.05)


def series(proxy):
    return f"killswitch_session_up{{gateway=127.0.0.1:{proxy.port},oms=prime}}"


async def gone(proxy):
    """The gateway is killed: nobody listens there, and what was open is cut."""
    await proxy.refuse()
    proxy.cut()


async def test_each_gateway_has_a_session_and_one_that_is_gone_leaves_the_daemon_ready(tmp_path):
    async with two_gateways(tmp_path) as (house, a, b):
        await house.start()
        await up(house, a, b)
        await gone(b)
        held = await up(house, a)
        assert [held[p.port]["watching"] for p in (a, b)] == [True, False]
        metrics = await house.metrics()
        assert [metrics[series(p)] for p in (a, b)] == [1, 0]
        assert metrics["killswitch_ready"] == 1
        await gone(a)
        await house.metric("killswitch_ready", 0)
        await b.accept()
        await house.ready()


async def test_rules_go_on_over_the_other_gateway_and_count_nothing_twice(tmp_path):
    rate = """
[[rule]]
name = "orders"
reading = "order"
kind = "rate"
above = 5
per_s = 60
scope = { oms = "prime", account = "{account}" }
"""
    async with two_gateways(tmp_path, tables=BTC_LIMIT + rate) as (house, a, b):
        await house.start()
        await up(house, a, b)
        for _ in range(5):
            house.sim.place(15, 37, 25)
        await until(lambda: len(house.sim.sessions) == 2, "both hear it")
        await gone(a)
        await up(house, b)
        assert not house.trips()
        house.sim.move_position(14, 1, to=60)
        trip = await house.any_trip()
        assert house.trips()[trip]["scope"] == {"oms": "prime", "account": 14}
        house.sim.place(15, 37, 25)
        await until(lambda: len(house.trips()) == 2, "the sixth order trips, and no fifth did", shown=house.shown)


async def test_a_proof_ends_with_its_session_and_the_other_gateway_proves_it_anew(tmp_path):
    async with two_gateways(tmp_path) as (house, a, b):
        verdict = Verdict(house, account=14)
        await house.start()
        await up(house, a, b)
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        await gone(a)
        await house.proofs("p-1", 2)
        await verdict.good("p-1")


@pytest.mark.parametrize("dead", ["a", "b", "both"])
async def test_each_of_two_gateways_that_answers_nothing_is_found_within_seconds(tmp_path, dead):
    async with two_gateways(tmp_path) as (house, a, b):
        await house.start()
        await up(house, a, b)
        silent = {"a": (a,), "b": (b,), "both": (a, b)}[dead]
        for proxy in silent:
            proxy.mute()
            proxy.mute_new = True
        await up(house, *(p for p in (a, b) if p not in silent))
        assert (await house.metrics())["killswitch_ready"] == (dead != "both")
        assert house.log().count("session lost: half-open: not a byte for") == len(silent)


async def test_both_gateways_down_and_one_back_ends_a_trip_that_came_meanwhile(tmp_path):
    async with two_gateways(tmp_path) as (house, a, b):
        verdict = Verdict(house, account=14)
        await house.start()
        await up(house, a, b)
        await gone(a)
        await gone(b)
        await up(house)
        await house.trip("p-1", account=14)
        await house.receipt("p-1")
        assert not house.cancels()
        await b.accept()
        await verdict.good("p-1")


async def test_a_reload_adds_and_removes_gateways_under_a_latched_trip_and_keeps_the_sessions_of_the_others(tmp_path):
    async with two_gateways(tmp_path) as (house, a, b):
        verdict = Verdict(house, account=14)
        house.oms["gateways"] = [a.url]
        house.write_config()
        await house.start()
        before = await up(house, a)
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        house.oms["gateways"] = [a.url, b.url]
        await reload(house)
        both = await up(house, a, b)
        assert both[a.port]["session"] == before[a.port]["session"]
        assert a.connections == 1
        assert house.letters.kinds().count("confirmed") == 1, "nothing is proven anew that stands"
        house.oms["gateways"] = [b.url]
        house.letters.events.clear()
        await reload(house)
        held = await up(house, b)
        assert held[b.port]["session"] == both[b.port]["session"]
        assert list(held) == [b.port]
        await house.event("confirmed")
        await verdict.good("p-1")
        assert b.connections == 1
        assert not a.links


async def test_a_wrong_secret_is_tried_no_oftener_over_two_gateways_than_over_one(tmp_path):
    """Three refusals in the first three seconds, of five that lock the user here."""
    async with two_gateways(tmp_path) as (house, *_):
        house.keep_secret("wrong.secret", "not the secret")
        house.oms["secret_file"] = "wrong.secret"
        house.write_config()
        await house.start(ready=False)
        await house.event("sign_in_refused")
        await asyncio.sleep(2.5)
        assert len([e for e in house.letters.events if e["kind"] == "sign_in_refused"]) <= 3
        assert not house.user.locked


async def swept(house):
    """Seconds from the press until it is proven, as the daemon's own clock tells it."""
    await house.trip("p-1", account=14)
    view = await house.confirmed("p-1")
    tripped, verified = (datetime.fromisoformat(view[key]).timestamp() for key in ("tripped_at", "verified_at"))
    return verified - tripped


@pytest.mark.parametrize("way", [(UP, DOWN), (UP,), (DOWN,)], ids=["both ways", "up", "down"])
async def test_a_gateway_that_is_half_open_when_a_trip_comes_delays_its_proof_by_the_hedge_only(tmp_path, way):
    async with two_gateways(tmp_path, retry="timeout_s = 3.0\nhedge_after_s = 0.1") as (house, a, b):
        verdict = Verdict(house, account=14)
        await house.start()
        await up(house, a, b)
        a.mute(*way)
        took_s = await swept(house)
        assert took_s < 2.5, "neither the time-out nor the five seconds after which it counts as gone"
        assert len(house.cancels()) == (2 if way == (DOWN,) else 1)
        await verdict.good("p-1")


MIDDLES = [
    Fault(UP, CANCEL, at=BEFORE, does=MUTE),
    Fault(UP, CANCEL, at=AFTER, does=MUTE_DOWN),
    Fault(DOWN, CANCEL, at=BEFORE),
    Fault(DOWN, CANCEL, at=AFTER, does=MUTE_UP),
    Fault(DOWN, LIST, at=MIDDLE),
    Fault(DOWN, LIST, at=AFTER, says="[]"),
    Fault(UP, LIST, at=BEFORE, does=MUTE),
]


@pytest.mark.parametrize("fault", MIDDLES, ids=str)
async def test_a_gateway_that_is_killed_or_falls_silent_in_the_middle_of_a_sweep(tmp_path, fault):
    async with two_gateways(tmp_path) as (house, a, b):
        verdict = Verdict(house, account=14)
        await house.start()
        await up(house, a, b)
        a.mute_new = True
        fault = a.inject(replace(fault))
        await house.trip("p-1", account=14)
        await until(lambda: fault.struck, "it strikes", shown=house.shown)
        await a.refuse()
        await up(house, b)
        await verdict.good("p-1")


async def test_a_reset_waits_for_the_cancel_that_hangs_and_names_it_once_its_session_is_gone(tmp_path):
    async with two_gateways(tmp_path) as (house, a, b):
        verdict = Verdict(house, account=14)
        await house.start()
        await up(house, a, b)
        a.inject(Fault(UP, CANCEL, at=BEFORE, does=MUTE_UP))
        a.mute_new = True
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        await house.reset("r-1", "p-1")
        receipt = await house.receipt("r-1")
        assert not receipt["accepted"]
        assert "unanswered" in receipt["reason"]
        await up(house, b)
        await verdict.good("p-1")
        await house.reset("r-2", "p-1")
        receipt = await house.receipt("r-2")
        assert receipt["accepted"]
        assert "may still execute" in receipt["reason"]
