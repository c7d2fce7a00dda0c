"""The main job on servers of every age: what a trip cancels there, what it says to them, and that it is proven."""

from __future__ import annotations

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

BASE = 5_000_000_000
# account      14              15              16
# user      37      40      37      40      37      40
# instr   25  26  25  26  25  26  25  26  25  26  25  26
# order    0   1   2   3   4   5   6   7   8   9  10  11
#
# A scope, the orders that it ends, and the dialects that can be told it in one call.
SCOPES = [
    ({"account": 14}, [0, 1, 2, 3], {"v2", "v3", "v4"}),
    ({"account": 14, "instrument": 25}, [0, 2], {"v2", "v4"}),
    ({"account": 14, "user": 37}, [0, 1], {"v2"}),
    ({"user": 37}, [0, 1, 4, 5, 8, 9], {"v2"}),
    ({"user": 37, "instrument": 25}, [0, 4, 8], {"v2"}),
    ({"account": "every", "instrument": 25}, [0, 2, 4, 6, 8, 10], {"v2", "v4"}),
    ({"account": "every"}, list(range(12)), {"v2", "v3", "v4"}),
]
KEYS = {"v2": {"AccountId", "UserId", "InstrumentId"}, "v3": {"AccountId"}, "v4": {"AccountId", "InstrumentId"}}


def house_of(tmp_path, dialect, **more):
    options = {"dialect": dialect, "orders": 12, "first_order_id": BASE} | more
    return House(tmp_path, options=SimulatorOptions(**options), oms={"dialect": dialect})


def said(house, name):
    return [request.body for request in house.sim.exchange.log.of(name)]


def cancelled(house):
    return {e.order_id - BASE for e in house.sim.exchange.log.endings}


@pytest.mark.parametrize("dialect", ["v2", "v3", "v4"])
async def test_every_scope_is_proven_and_nothing_outside_it_is_touched(tmp_path, dialect):
    for number, (scope, orders, at_once) in enumerate(SCOPES):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with house_of(folder, dialect) as house:
            await house.start()
            await house.trip("p-1", **scope)
            await house.confirmed("p-1")
            assert cancelled(house) == set(orders), scope
            calls = said(house, "CancelAllOrders")
            assert bool(calls) is (dialect in at_once), scope
            for body in calls:
                assert set(body) - {"OMSId"} <= KEYS[dialect]
                assert 0 not in body.values()
                assert "AccountId" in body or "UserId" in body or scope["account"] == "every"
            if dialect != "v2":
                assert all(set(body) == {"OMSId", "OrderId", "AccountId"} for body in said(house, "CancelOrder"))


@pytest.mark.parametrize("dialect", ["v3", "v4"])
async def test_a_late_order_of_a_user_is_swept_by_its_own_id(tmp_path, dialect):
    async with house_of(tmp_path, dialect) as house:
        await house.start()
        await house.trip("p-1", user=37)
        await house.confirmed("p-1")
        others = house.sim.place(account=15, user=40, instrument=25).order_id
        late = house.sim.place(account=15, user=37, instrument=25).order_id
        await until(lambda: late not in house.open(), "the late order is swept", shown=house.shown)
        await house.confirmed("p-1")
        assert others in house.open()
        assert said(house, "CancelAllOrders") == []


async def test_a_user_with_hundreds_of_orders_is_swept_where_no_call_names_a_user(tmp_path):
    async with house_of(tmp_path, "v4", accounts=(14,), orders=600) as house:
        await house.start()
        await house.trip("p-1", user=37)
        await house.confirmed("p-1")
        assert house.open(user=37) == set()
        assert len(house.open(user=40)) == 300
        assert said(house, "CancelAllOrders") == []


@pytest.mark.parametrize("dialect", ["v2", "v3", "v4"])
async def test_an_order_that_nobody_entered_is_not_cancelled_for_a_user_and_nothing_is_called_proven(tmp_path, dialect):
    async with house_of(tmp_path, dialect, nameless_every=12) as house:  # order 0, which is user 40's to the exchange
        house.sim.exchange.orders[BASE].entered_by = 40
        await house.start()
        await house.trip("p-1", account=14, user=37)
        await until(lambda: cancelled(house) == {1}, "what is surely the user's is gone", shown=house.shown)

        def stuck():
            view = house.trip_of("p-1") or {}
            return (view.get("state"), view.get("outcome"), view.get("orders_left")) == ("escalated", "RESIDUAL", 1)

        await until(stuck, "it is escalated over one order", shown=house.shown)
        assert cancelled(house) == {1}
        await until(
            lambda: any("can't be attributed" in str(event) for event in house.letters.events),
            "people are told of it",
            shown=house.shown,
        )
