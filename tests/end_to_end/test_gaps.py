"""SIGKILL at seeded moments within each gap of a trip's life, judged by the ids that were published."""

from __future__ import annotations

import asyncio
import json
import random
import signal

import pytest

from killswitch.simulator.faults import SlowLists
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end import patience
from tests.end_to_end.gaps import GAPS, LISTED, RESET, WIDE_S
from tests.end_to_end.house import House, iso, proven, until
from tests.end_to_end.test_crashes import SCOPES, in_scope, judge, publish_all

pytestmark = pytest.mark.mosquitto

MOMENTS, IN_CI, ALWAYS = 40, 4, 1
"""A gap: with those of test_crashes.py more than 200 in all. Which ones are taken when fewer are, the seed says."""
BATCHES = 4


def moments(gap, request):
    """(number, ms after the gap opened)."""
    rng = random.Random(f"killed in {gap}")
    every = [(k, rng.uniform(0, WIDE_S * 600)) for k in range(MOMENTS)]
    if patience.asked_for_long(request):
        return every
    return rng.sample(every, IN_CI if patience.in_ci() else ALWAYS)


def resets():
    """id -> payload: a sender who asks again says the same."""
    said = {"by": "bob", "reason": "calm again", "issued_at": iso()}
    return {f"r-{name}": json.dumps({"id": f"r-{name}", "trip": name} | said) for name in SCOPES}


async def publish(house, said):
    async with house.client() as client:
        for payload in said.values():
            await client.publish("killswitch/command/reset", payload, qos=1)


async def judge_resets(house, said):
    """Each reset was answered; one that was accepted ended its trip for good, any other trip stands as it did."""
    for name, payload in said.items():
        if not house.letters.receipts[name]:
            await asyncio.sleep(0.2)
        if not house.letters.receipts[name]:  # its receipt died with the process
            await house.pub("killswitch/command/reset", payload)
    over = set()
    for name in said:
        receipt = await house.receipt(name)
        if any(r["accepted"] for r in house.letters.receipts[name]):
            over.add(name.removeprefix("r-"))
        else:
            assert receipt["reason"] in ("sweeping", "escalated") or "unanswered" in receipt["reason"], receipt

    async def stand():
        trips = {t["trip"]: t for t in (await house.state())["trips"]}
        return trips.keys() == SCOPES.keys() - over and all(proven(t) for t in trips.values())

    await until(stand, f"{sorted(over)} are over, the others stand", shown=house.shown, every_s=0.05)
    for name in SCOPES.keys() - over:
        await house.reset_at_last(name)
    await until(lambda: not house.trips(), "all are over", shown=house.shown)
    # No cancel after a reset, whatever the next start finds.
    kept = {house.sim.place(s.get("account", 16), s.get("user", 37), s.get("instrument", 25)).order_id
            for s in SCOPES.values()}  # fmt: skip
    count = len(house.cancels())
    await house.kill()
    await house.start()
    await house.trip("p-9", account=15, user=40, instrument=26)
    await house.confirmed("p-9")
    assert kept <= house.open()
    assert len(house.cancels()) == count + 1


async def crash_in(folder, gap, delay_ms):
    folder.mkdir()
    async with House(folder, options=SimulatorOptions(orders=36)) as house:
        untouched = house.open() - in_scope(house)
        if gap == LISTED:
            house.sim.faults.inject(SlowLists(delay_s=WIDE_S))
        await house.start(gap, f"{delay_ms:.3f}", module="tests.end_to_end.gaps")
        await publish_all(house)
        said = resets()
        if gap == RESET:
            await house.confirmed(*SCOPES)
            await publish(house, said)
        assert await house.ended() == -signal.SIGKILL
        assert f"killed: {gap}" in house.log()
        house.sim.faults.clear()
        await house.start(module="tests.end_to_end.plain")
        if gap == RESET:
            await judge_resets(house, said)
        else:
            await judge(house)
            assert house.open() == untouched


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("gap", GAPS)
async def test_a_kill_anywhere_in_this_gap_loses_nothing(tmp_path, gap, batch, request):
    chosen = moments(gap, request)[batch::BATCHES]
    if not chosen:
        pytest.skip(f"takes {MOMENTS} starts a gap: pytest -m long")
    for k, delay_ms in chosen:
        await crash_in(tmp_path / f"{k}", gap, delay_ms)
