"""SIGKILL at every kind of moment between trip and confirmation, judged by the ids that were published."""

from __future__ import annotations

import asyncio
import signal
from decimal import Decimal

import pytest

from killswitch.simulator.faults import LateOrder
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import BTC_LIMIT, House, proven, trip_command, until

pytestmark = pytest.mark.mosquitto

CRASHING = "tests.end_to_end.crashing"
SCOPES = {
    "p-1": {"account": 14, "instrument": 25},
    "p-2": {"account": 14},
    "p-3": {"account": 15, "user": 37},
    "p-4": {"user": 40},
    "p-5": {"account": 16, "instrument": 26},
}
TIMES = (1, 2, 3, 5)
KINDS = ("Sent", "Journalled", "Acknowledge", "Answered", "OpenOrders")


def in_scope(house):
    """What is open in any of the tripped scopes."""
    return set().union(*(house.open(**scope) for scope in SCOPES.values()))


async def publish_all(house):
    """Every id is with the broker when this returns: each publish waits for its PUBACK."""
    async with house.client() as client:
        for name, scope in SCOPES.items():
            await client.publish("killswitch/command/trip", trip_command(name, **scope), qos=1)


async def judge(house):
    """Nothing that was published is lost: proven, latched and answered, on the oracle's word too."""
    await house.confirmed(*SCOPES)
    unanswered = [name for name in SCOPES if not house.letters.receipts[name]]
    for name in unanswered:  # its receipt died with the process: a sender who hears nothing asks again
        await house.trip(name, **SCOPES[name])
    for name in SCOPES:
        receipt = await house.receipt(name)
        assert (receipt["accepted"], receipt["trip"]) == (True, name)
    await house.confirmed(*SCOPES)
    assert not in_scope(house)

    async def all_latched():
        trips = {t["trip"]: t for t in (await house.state())["trips"]}
        return trips.keys() == SCOPES.keys() and all(proven(t) for t in trips.values())

    await until(all_latched, "each is latched and proven, and nothing else is", shown=house.shown)
    assert house.trips().keys() == SCOPES.keys()
    assert "reset" not in house.letters.kinds()


async def crash_and_recover(folder, kind, moment, n):
    folder.mkdir()
    async with House(folder, options=SimulatorOptions(orders=36)) as house:
        untouched = house.open() - in_scope(house)
        await house.start(kind, moment, str(n), module=CRASHING)
        await publish_all(house)
        assert await house.ended() == -signal.SIGKILL
        await house.start(module="tests.end_to_end.plain")
        await judge(house)
        assert house.open() == untouched


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_kill_at_this_moment_loses_no_trip(tmp_path, kind, moment):
    for n in TIMES:
        await crash_and_recover(tmp_path / f"{n}", kind, moment, n)


async def test_a_rules_trip_survives_a_kill_right_after_its_cancel_was_decided(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=12), tables=BTC_LIMIT) as house:
        await house.start("CancelDecided", "after", "1", module=CRASHING)
        house.sim.move_position(14, 1, to=51)
        assert await house.ended() == -signal.SIGKILL
        house.sim.move_position(14, 1, to=Decimal(1))  # nothing breaches any more, so only the journal can know
        await house.start()
        name = await house.any_trip()
        assert name.startswith("btc~")
        assert not house.open(account=14)


async def test_killed_again_and_again_it_still_gets_there(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=36)) as house:
        house.sim.faults.inject(LateOrder(delay_s=0.05, times=3))
        await house.start()
        await publish_all(house)
        for moment in (0.0, 0.01, 0.03, 0.1):
            await asyncio.sleep(moment)
            await house.kill()
            await house.start()
        await judge(house)
