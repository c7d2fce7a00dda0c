"""Falling back with the real daemon and real sockets: whatever is refused, what is permitted is used."""

from __future__ import annotations

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House

pytestmark = pytest.mark.mosquitto

# What is refused, and the scope that is tripped; some way is left in each.
REFUSED = [
    ({"account": "every"}, ("error=20,naming=none,times=always",)),
    ({"account": "every"}, ("error=106,times=always",)),
    ({"account": 14}, ("error=100,times=always",)),
    ({"account": 14}, ("error=20,naming=AccountId,times=always", "error=20,call=CancelOrder,times=always")),
    ({"user": 37}, ("error=20,times=always",)),
]


# v3 has no narrower call than an account's.
CASES = [
    (dialect, *case)
    for dialect in ("v2", "v3", "v4")
    for case in REFUSED
    if dialect != "v3" or "call=CancelOrder" not in case[1][-1]
]


@pytest.mark.parametrize(("dialect", "scope", "faults"), CASES)
async def test_some_way_is_left_and_nothing_outside_the_scope_is_touched(tmp_path, dialect, scope, faults):
    options = SimulatorOptions(dialect=dialect, orders=12, faults=faults)
    async with House(tmp_path, options=options, oms={"dialect": dialect}) as house:
        inside = house.open(**{k: v for k, v in scope.items() if v != "every"})
        outside = house.open() - inside
        await house.start()
        await house.trip("p-1", **scope)
        await house.confirmed("p-1")
        assert house.open() == outside
