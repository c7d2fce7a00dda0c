"""Links that break, hang, crawl and lie dead, between the daemon and its gateway, and between it and its broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from dataclasses import replace

import pytest

from killswitch.simulator.faults import Stragglers
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, trip_command, until
from tests.end_to_end.proxy import (
    AFTER,
    BEFORE,
    DOWN,
    MIDDLE,
    MUTE,
    MUTE_DOWN,
    MUTE_UP,
    STALL,
    UP,
    Fault,
    Proxy,
)
from tests.end_to_end.verdict import Verdict

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
CANCEL, LIST, SIGN_IN = "CancelAllOrders", "GetOpenOrders", "AuthenticateUser"
QUICK = "timeout_s = 0.5"


@contextlib.asynccontextmanager
async def far_house(folder, **more):
    """A house whose OMS is behind a link that can fail."""
    async with Proxy() as proxy, House(folder, options=ORDERS, oms={"gateways": [proxy.url]}, **more) as house:
        proxy.target = house.sim.port
        yield house, proxy


async def swept(house, proxy, *faults):
    """A trip while these faults are on its way; true, and proven in the end."""
    verdict = Verdict(house, account=14)
    await house.start()
    injected = [proxy.inject(replace(fault)) for fault in faults]
    await house.trip("p-1", account=14)
    for fault in injected:
        await until(lambda fault=fault: fault.struck == fault.times, f"{fault} strikes", shown=house.shown)
    await verdict.good("p-1")


CUTS = [
    Fault(UP, CANCEL, at=BEFORE),
    Fault(UP, CANCEL, at=MIDDLE),
    Fault(UP, CANCEL, at=AFTER),
    Fault(DOWN, CANCEL, at=BEFORE),
    Fault(DOWN, CANCEL, at=AFTER),
    Fault(UP, LIST, at=AFTER),
    Fault(DOWN, LIST, at=MIDDLE),
    Fault(DOWN, LIST, at=AFTER, says="[]"),
    Fault(UP, LIST, at=BEFORE, nth=2),
    Fault(DOWN, LIST, at=MIDDLE, nth=2),
    Fault(DOWN, LIST, at=MIDDLE, times=3),
    Fault(DOWN, "OrderStateEvent", at=MIDDLE, nth=3),
]
"""At an empty list: between the two rounds that make a proof."""


@pytest.mark.parametrize("fault", CUTS, ids=str)
async def test_the_socket_is_closed_at_this_step_of_a_sweep(tmp_path, fault):
    async with far_house(tmp_path, retry=QUICK) as (house, proxy):
        house.sim.faults.inject(Stragglers(orders=3, times=1))  # so that a list shows something
        await swept(house, proxy, fault)
        assert proxy.connections > 1


@pytest.mark.parametrize("way", [UP, DOWN])
async def test_the_socket_is_closed_at_any_byte_of_the_greeting(tmp_path, way):
    async with far_house(tmp_path, retry=QUICK) as (house, proxy):
        cuts = [proxy.inject(Fault(way, byte=byte)) for byte in (1, 40, 200, 400)]
        await swept(house, proxy)
        assert [cut.struck for cut in cuts] == [1, 1, 1, 1]


HALF_OPEN = [
    Fault(UP, CANCEL, at=BEFORE, does=MUTE_UP),
    Fault(UP, CANCEL, at=AFTER, does=MUTE_DOWN),
    Fault(DOWN, LIST, at=MIDDLE, does=MUTE),
]


@pytest.mark.parametrize("fault", HALF_OPEN, ids=str)
async def test_a_link_that_goes_half_open_in_a_sweep_is_found_by_traffic_of_ours(tmp_path, fault):
    async with far_house(tmp_path, retry=QUICK) as (house, proxy):
        await swept(house, proxy, fault)
        assert "half-open: not a byte for" in house.log()


async def test_a_link_that_is_half_open_long_before_anybody_needs_it_is_made_anew(tmp_path):
    async with far_house(tmp_path, retry=QUICK) as (house, proxy):
        verdict = Verdict(house, account=14)
        await house.start()
        proxy.mute()
        await until(lambda: proxy.connections > 1, "it is found, with nothing to do", shown=house.shown)
        await house.trip("p-1", account=14)
        await verdict.good("p-1")


@pytest.mark.parametrize("call", [CANCEL, LIST])
async def test_an_answer_that_comes_after_its_time_proves_nothing_and_a_slow_link_gets_there(tmp_path, call):
    async with far_house(tmp_path, retry=QUICK) as (house, proxy):
        proxy.delay_s = 0.1
        await swept(house, proxy, Fault(DOWN, call, does=1.5))


async def test_a_user_who_is_locked_for_a_while_is_swept_for_once_he_is_not(tmp_path):
    async with House(tmp_path, options=ORDERS, confirm="deadline_s = 0.3") as house:
        verdict = Verdict(house, account=14)
        await house.start()
        house.user.locked = True
        house.sim.drop_sessions()
        await house.event("sign_in_refused")
        await house.trip("p-1", account=14)
        await house.event("escalated")
        assert not house.cancels()
        assert house.trip_of("p-1")["outcome"] == "UNKNOWN"
        house.user.locked = False
        await verdict.good("p-1")


async def test_a_gateway_whose_bytes_are_not_read_for_a_while_is_waited_for_or_left(tmp_path):
    async with far_house(tmp_path, retry=QUICK) as (house, proxy):
        verdict = Verdict(house, account=14)
        await house.start()
        fault = proxy.inject(Fault(DOWN, LIST, at=MIDDLE, does=STALL))
        await house.trip("p-1", account=14)
        await until(lambda: fault.struck, "half a list has arrived", shown=house.shown)
        await asyncio.sleep(2)
        assert house.trip_of("p-1")["outcome"] != "VERIFIED"
        proxy.flow()
        await verdict.good("p-1")


async def test_a_gateway_that_refuses_connections_and_then_hangs_up_on_whoever_signs_in(tmp_path):
    async with far_house(tmp_path, retry=QUICK) as (house, proxy):
        verdict = Verdict(house, account=14)
        await house.start()
        await proxy.refuse()
        proxy.cut()
        dropped = proxy.inject(Fault(DOWN, SIGN_IN, times=3))
        await house.trip("p-1", account=14)
        await house.receipt("p-1")
        await asyncio.sleep(1)
        assert not house.cancels()
        assert house.trip_of("p-1")["outcome"] != "VERIFIED"
        await proxy.accept()
        await verdict.good("p-1")
        assert dropped.struck == 3


def press(house, name, **scope):
    """A panic over HTTP."""
    url = f"http://127.0.0.1:{house.http_port}/command/trip"
    said = trip_command(name, **scope).encode()
    request = urllib.request.Request(url, said, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("how", ["half open", "stalled"])
async def test_a_panic_over_http_needs_no_broker_that_answers(tmp_path, how):
    async with Proxy(frames=False) as proxy, House(tmp_path, options=ORDERS) as house:
        proxy.target, house.broker_url = house.broker.port, f"mqtt://127.0.0.1:{proxy.port}"
        house.write_config()
        verdict = Verdict(house, account=14)
        await house.start()
        await until(lambda: proxy.links, "it is at the broker")
        proxy.mute_new = True
        proxy.mute(*((UP, DOWN) if how == "half open" else (DOWN,)))
        receipt = await asyncio.to_thread(press, house, "p-1", account=14)
        assert (receipt["accepted"], receipt["trip"]) == (True, "p-1")

        async def confirmed():
            return [t["outcome"] for t in (await house.state())["trips"]] == ["VERIFIED"]

        await until(confirmed, "it is proven, and HTTP says so", shown=house.log, every_s=0.05)
        assert not house.open(account=14)
        if how == "half open":
            assert house.trip_of("p-1") is None
        proxy.mute_new = False
        proxy.cut()
        await verdict.good("p-1")


async def test_the_verdict_notices_what_is_told_as_verified_and_is_not(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        verdict = Verdict(house, account=14)
        said = {"state": "confirmed", "outcome": "VERIFIED", "scope": {"oms": "prime", "account": 14}}
        await house.pub("killswitch/trip/p-1", json.dumps(said), "-r")
        await until(lambda: verdict.lies, "it is found out")
