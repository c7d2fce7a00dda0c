"""One account with 20,000 open orders: lists of 22 MB, a matching engine that takes seconds to cancel them."""

from __future__ import annotations

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, counts, until

pytestmark = pytest.mark.mosquitto


@pytest.mark.timeout(240)
async def test_twenty_thousand_orders_are_proven_gone_without_a_storm(tmp_path):
    options = SimulatorOptions(orders=20_000, accounts=(14,), cancel_rate=3000)
    async with House(tmp_path, options=options, oms={"calls_per_minute": 400}, retry="") as house:
        await house.start()
        session = house.sim.sessions[0].number
        before = counts(house.sim.exchange.log.requests)
        await house.trip("p-1", account=14)
        await until(lambda: not house.open(), "every order is cancelled", within_s=90)
        await house.confirmed("p-1")
        after = counts(house.sim.exchange.log.requests)
        assert 1 <= after["CancelAllOrders"] <= 3
        assert not after["CancelOrder"]
        assert after["GetOpenOrders"] - before["GetOpenOrders"] < 100
        assert [s.number for s in house.sim.sessions] == [session]  # it was never dropped
