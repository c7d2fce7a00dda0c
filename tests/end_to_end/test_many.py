"""Many trips at once: the last panic doesn't wait behind what is said of the others."""

from __future__ import annotations

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, trip_command, until

pytestmark = pytest.mark.mosquitto


async def test_a_hundred_panics_at_once_are_all_carried_out_proven_and_told(tmp_path):
    accounts = tuple(range(101, 201))
    options = SimulatorOptions(accounts=accounts, orders=4 * len(accounts))
    # A busy machine must not be asked for a hundred guard lists a second, or it is swept again in between.
    async with House(tmp_path, options=options, confirm="guard_every_s = 20.0") as house:
        await house.start()
        async with house.client() as client:
            for account in accounts:
                await client.publish("killswitch/command/trip", trip_command(f"p-{account}", account=account), qos=1)
        await until(lambda: not house.open(), "the last one's orders are gone", shown=house.shown)
        await house.confirmed(*(f"p-{account}" for account in accounts))
        assert len(house.cancels()) == len(accounts)
        for kind in ("tripped", "confirmed"):  # nothing was left out on the way to the broker

            def told(kind=kind):
                return {e["trip"] for e in house.letters.events if e["kind"] == kind}

            await until(lambda told=told: len(told()) == len(accounts), f"each is told {kind}", shown=house.shown)
        assert len(house.letters.receipts) == len(accounts)
