"""Late arrivals over real sockets: swept by their event, whatever the guard's pace is, and told apart from old news."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from killswitch.simulator.events import order_state
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

SLOW = "guard_every_s = 10"


def looks(house):
    """The calls that sweep and prove, in the order in which they came."""
    return [r.name for r in house.sim.exchange.log.requests if r.name in ("CancelAllOrders", "GetOpenOrders")]


async def test_a_late_order_is_cancelled_by_its_event_and_not_at_the_guards_next_turn(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=24), confirm=SLOW) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        before = len(looks(house))
        late = house.sim.place(14, 37, 25).order_id
        await until(lambda: late not in house.open(), "it is cancelled", shown=house.shown, within_s=8)
        assert looks(house)[before] == "CancelAllOrders"  # no list came first
        said = await house.event("late_arrival")
        assert said["text"] == f"1 late: account 14, order {late} by user 37"
        assert said["detail"] == {"account": 14, "orders": [late], "users": [37]}
        await house.proofs("p-1", 2)
        await house.stop()
        with closing(sqlite3.connect(house.journal)) as journal:
            (body,) = journal.execute("SELECT body FROM record WHERE kind = 'arrived'").fetchone()
        assert f'"account":14,"orders":[{late}],"users":[37]' in body


async def test_old_events_of_orders_that_ended_are_no_late_arrivals_and_leave_the_proof_alone(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=24), confirm=SLOW) as house:
        await house.start()
        (first, *_) = sorted(house.open(account=14))
        old = [order_state(house.sim.exchange.orders[first], short=False)]  # as it is now: working
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        order = house.sim.place(14, 37, 25)
        old.append(order_state(order, short=False))
        await house.proofs("p-1", 2)
        before = len(looks(house))
        for event in old * 3:
            house.sim._tell([event])
        last = house.sim.place(14, 37, 25).order_id  # what comes after them has been heard after them
        await house.proofs("p-1", 3)
        assert looks(house)[before:].count("CancelAllOrders") == 1
        named = [e["detail"]["orders"] for e in house.letters.events if e["kind"] == "late_arrival"]
        assert named == [[order.order_id], [last]]
        await house.metric("killswitch_late_arrivals_total{oms=prime}", 2)
