"""The daemon stopped in the middle of a sweep while the world goes on; when it goes on, it believes nothing old."""

from __future__ import annotations

import asyncio
import signal

import pytest

from killswitch.simulator.faults import Latency, Stragglers
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end import patience
from tests.end_to_end.house import House, until
from tests.end_to_end.verdict import Verdict

pytestmark = pytest.mark.mosquitto


async def stopped_in_a_sweep(folder, asleep_s):
    async with House(folder, options=SimulatorOptions(orders=24), retry="timeout_s = 1.0") as house:
        verdict = Verdict(house, account=14)
        await house.start()
        house.sim.faults.inject(Stragglers(orders=2, times=1))
        house.sim.faults.inject(Latency(delay_s=0.3))
        await house.trip("p-1", account=14)
        await until(house.cancels, "the cancel arrives", shown=house.shown)
        house.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(1)  # what had left it has arrived by now
            assert house.trip_of("p-1") is None or house.trip_of("p-1")["outcome"] != "VERIFIED"
            late = house.sim.place(14, 40, 26).order_id
            await house.trip("p-2", account=14, user=40)
            await asyncio.sleep(asleep_s - 1)
            assert late in house.open()
        finally:
            house.signal(signal.SIGCONT)
        await house.receipt("p-2")
        house.sim.faults.clear()
        await verdict.good("p-1", "p-2")
        assert "the loop stood still" in house.log()


async def test_a_process_that_was_stopped_in_a_sweep_ends_it_truly(tmp_path):
    await stopped_in_a_sweep(tmp_path, 3)


@pytest.mark.long
async def test_a_process_that_was_stopped_for_30_s_in_a_sweep_ends_it_truly(tmp_path, request):
    patience.needs(request, "half a minute")
    await stopped_in_a_sweep(tmp_path, 30)
