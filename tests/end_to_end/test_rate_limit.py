"""A gateway that limits our calls, with the real daemon: lists make room, cancels get through, the proof comes."""

from __future__ import annotations

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto


@pytest.mark.parametrize("frame", [5, 1])
async def test_a_trip_over_fifty_accounts_under_a_tight_limit_is_proven(tmp_path, frame):
    options = SimulatorOptions(accounts=50, orders=200, faults=(f"rate_limit=40,per_s=1,frame={frame}",))
    async with House(tmp_path, options=options) as house:
        await house.start()
        await house.trip("p-1", account="every")
        told = await house.event("rate_limited")
        assert "TOO MANY REQUESTS" in told["text"]
        late = house.sim.place(account=40, user=37, instrument=25).order_id
        await until(lambda: late not in house.open(), "the late order is cancelled", shown=house.shown)
        await house.confirmed("p-1")
        assert house.open() == set()
        assert house.letters.kinds().count("rate_limited") == 1
        other = "killswitch_calls_total{answer=other,call=GetOpenOrders,oms=prime}"
        assert (await house.metrics())[other] > 0
        assert any("limits our calls" in note for note in (await house.state())["notes"])
