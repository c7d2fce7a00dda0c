"""A command or a button at the broker becomes exactly the cancels of its scope, proof, a receipt and metrics."""

from __future__ import annotations

import json
import subprocess

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House

pytestmark = pytest.mark.mosquitto

# The vendor's table: what the request must hold beside OMSId, and which orders go.
ROWS = [
    ({"account": 14, "user": 37, "instrument": 25}, {"AccountId": 14, "UserId": 37, "InstrumentId": 25}),
    ({"account": 14, "user": 37}, {"AccountId": 14, "UserId": 37}),
    ({"user": 37, "instrument": 25}, {"UserId": 37, "InstrumentId": 25}),
    ({"user": 37}, {"UserId": 37}),
    ({"account": 14, "instrument": 25}, {"AccountId": 14, "InstrumentId": 25}),
    ({"account": 14}, {"AccountId": 14}),
    ({"account": "every", "instrument": 25}, {"InstrumentId": 25}),
    ({"account": "every"}, {}),
]
BUTTON = """
[[panic]]
name = "desk"
topic = "zigbee2mqtt/desk-button"
match = { action = "emergency" }
scope = { oms = "prime", account = 14 }
"""


def retained(broker, topic):
    """What the broker itself keeps on a topic, as anybody who comes later sees it."""
    where = ["-h", broker.host, "-p", str(broker.port), "-t", topic, "--retained-only", "-C", "1", "-W", "10"]
    return json.loads(subprocess.run(["mosquitto_sub", *where], capture_output=True, check=True).stdout)


@pytest.mark.parametrize(("scope", "ids"), ROWS, ids=lambda row: "+".join(row) if isinstance(row, dict) else "")
async def test_a_command_sends_exactly_the_ids_of_its_scope_and_ends_verified(tmp_path, scope, ids):
    # Two orders for each of 3 accounts x 2 users x 2 instruments.
    async with House(tmp_path, options=SimulatorOptions(orders=24)) as house:
        named = {name: part for name, part in scope.items() if part != "every"}
        doomed, all_orders = house.open(**named), house.open()
        await house.start()
        await house.trip("p-1", **scope)
        view = await house.confirmed("p-1")

        assert house.cancels() == [{"OMSId": 1, **ids}]
        assert house.open() == all_orders - doomed
        assert len(doomed) == 24 // (3 if "account" in named else 1) // (2 if "user" in named else 1) // (
            2 if "instrument" in named else 1
        )
        assert not house.sim.exchange.log.of("CancelOrder")
        assert view["scope"] == {"oms": "prime", **scope}
        assert view["orders_left"] == 0
        assert retained(house.broker, "killswitch/trip/p-1")["outcome"] == "VERIFIED"
        receipt = await house.receipt("p-1")
        assert (receipt["accepted"], receipt["trip"], receipt["daemon"]) == (True, "p-1", "ks-a")
        await house.metric("killswitch_state{state=confirmed}", 1)
        metrics = await house.metrics()
        assert metrics["killswitch_calls_total{answer=ok,call=CancelAllOrders,oms=prime}"] == 1
        assert metrics["killswitch_orders_left{oms=prime}"] == 0
        assert metrics["killswitch_trip_to_confirm_seconds_count"] == 1
        assert metrics["killswitch_trip_to_send_seconds_count"] == 1
        assert metrics["killswitch_trips_total{kind=command,rule=}"] == 1
        assert metrics["killswitch_latched_trips"] == 1
        assert house.letters.retained["killswitch/state"] == {"state": "confirmed", "trips": 1}


async def test_a_panic_button_does_the_same(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=24), tables=BUTTON) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        await house.pub("zigbee2mqtt/desk-button", '{"battery": 97, "action": "single"}')
        await house.pub("zigbee2mqtt/desk-button", '{"battery": 97, "action": "emergency"}')
        name = await house.any_trip()

        assert list(house.trips()) == [name]
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
        assert house.open() == others
        assert house.trip_of(name)["causes"][0]["kind"] == "panic"
        metrics = await house.metrics()
        assert metrics["killswitch_trips_total{kind=panic,rule=}"] == 1
        assert metrics["killswitch_commands_total{command=panic,result=accepted}"] == 1
        await house.metric("killswitch_state{state=confirmed}", 1)


async def test_a_late_order_is_swept_and_named(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=24)) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        late = house.sim.place(14, 37, 25).order_id
        said = await house.event("late_arrival")
        assert str(late) in said["text"]
        await house.proofs("p-1", 2)
        assert not house.open(account=14)
        await house.metric("killswitch_late_arrivals_total{oms=prime}", 1)


async def test_a_reset_ends_the_trip_and_clears_what_is_retained(tmp_path):
    async with House(tmp_path, options=SimulatorOptions(orders=24)) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        await house.reset_at_last("p-1")
        await house.event("reset")
        await house.metric("killswitch_state{state=armed}", 1)
        before = house.sim.place(14, 37, 25).order_id
        await house.trip("p-2", account=15)  # by the time that this is proven, a guard would have seen the order
        await house.confirmed("p-2")
        assert before in house.open(account=14)
        assert list(house.trips()) == ["p-2"]
