"""Trips that overlap, resets that race with orders, and pressing again."""

from __future__ import annotations

import json

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, iso, proven, trip_command, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
TABLES = """
[[feed]]
name = "positions"
kind = "oms"
oms = "prime"
stale_after_s = 30.0

[[rule]]
name = "btc"
reading = "position"
where = { product = "BTC" }
kind = "limit"
above = 50
scope = { oms = "prime", account = "{account}" }

[[panic]]
name = "desk"
topic = "desk/button"
scope = { oms = "prime", account = 14, instrument = 25 }
"""
HEADROOM = "killswitch_rule_headroom_ratio{rule=btc}"


async def both_tripped(house):
    """(account 14) by rule, then (account 14, instrument 25) by a button; their ids."""
    house.sim.move_position(14, 1, to=51)
    by_rule = await house.any_trip()
    await house.pub("desk/button", "now")
    await until(lambda: sum(map(proven, house.trips().values())) == 2, "both are proven", shown=house.shown)
    (by_button,) = house.trips().keys() - {by_rule}
    return by_rule, by_button


async def calm(house):
    house.sim.move_position(14, 1, to=1)

    async def heard():
        return (await house.metrics())[HEADROOM] > 0

    await until(heard, "the rule is calm", every_s=0.05)


async def swept(house, **where):
    """An order that is entered here goes."""
    late = house.sim.place(user=37, **where).order_id
    await until(lambda: late not in house.open(), "the late order is swept", shown=house.shown)


async def test_overlapping_trips_are_reset_one_by_one(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=TABLES) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        by_rule, by_button = await both_tripped(house)
        assert (await house.metrics())["killswitch_latched_trips"] == 2

        await calm(house)
        await house.reset_at_last(by_rule)
        kept = house.sim.place(14, 37, 26).order_id
        await swept(house, account=14, instrument=25)
        await until(lambda: list(house.trips()) == [by_button], "one trip is left", shown=house.shown)
        assert kept in house.open()

        await house.reset_at_last(by_button)
        cancels = len(house.cancels())
        kept_too = house.sim.place(14, 37, 25).order_id
        await house.metric("killswitch_state{state=armed}", 1)
        assert house.open() == others | {kept, kept_too}
        assert len(house.cancels()) == cancels


async def test_the_panic_outlives_the_rule_also_the_other_way_round(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=TABLES) as house:
        await house.start()
        by_rule, by_button = await both_tripped(house)
        await house.reset_at_last(by_button)
        await swept(house, account=14, instrument=25)
        await swept(house, account=14, instrument=26)
        await until(lambda: list(house.trips()) == [by_rule], "the rule's is left", shown=house.shown)
        # A restart knows the same.
        await house.kill()
        await house.start()
        await house.confirmed(by_rule)
        assert [t["trip"] for t in (await house.state())["trips"]] == [by_rule]


async def test_a_reset_and_an_order_in_the_same_instant(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        async with house.client() as client:
            for n in range(8):
                name = f"p-{n}"
                await client.publish("killswitch/command/trip", trip_command(name, account=14), qos=1)
                await house.confirmed(name)
                said = {"id": f"r-{n}", "trip": name, "by": "bob", "reason": "race", "issued_at": iso()}
                if n % 2:
                    racing = house.sim.place(14, 37, 25).order_id
                    await client.publish("killswitch/command/reset", json.dumps(said), qos=1)
                else:
                    await client.publish("killswitch/command/reset", json.dumps(said), qos=1)
                    racing = house.sim.place(14, 37, 25).order_id
                receipt = await house.receipt(f"r-{n}")
                if not receipt["accepted"]:  # the order was seen first: it is swept, then the reset is repeated
                    await until(lambda racing=racing: racing not in house.open(), "it is swept", shown=house.shown)
                    await house.reset_at_last(name)
                # Whoever came first: after the receipt nothing of this trip is cancelled any more.
                cancels = len(house.cancels()), len(house.sim.exchange.log.of("CancelOrder"))
                kept = house.sim.place(14, 40, 26).order_id
                await client.publish("killswitch/command/trip", trip_command(f"q-{n}", account=15), qos=1)
                await house.confirmed(f"q-{n}")
                assert kept in house.open(account=14)
                touched = house.cancels()[cancels[0] :]
                assert all(body["AccountId"] == 15 for body in touched)
                assert len(house.sim.exchange.log.of("CancelOrder")) == cancels[1]


async def test_a_second_press_sends_the_cancels_again(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=TABLES) as house:
        await house.start()
        await house.trip("p-1", account=15)
        await house.confirmed("p-1")
        await house.trip("p-1", account=15)
        again = await house.receipt("p-1", count=2)
        assert again == house.letters.receipts["p-1"][0]
        await until(lambda: len(house.cancels()) == 2, "the cancel leaves again", shown=house.shown)
        await house.confirmed("p-1")

        for presses in (1, 2, 3):
            await house.pub("desk/button", "now")
            body = {"OMSId": 1, "AccountId": 14, "InstrumentId": 25}
            await until(lambda n=presses, body=body: house.cancels().count(body) == n, "and again", shown=house.shown)
            await house.metric("killswitch_state{state=confirmed}", 1)
        assert len(house.trips()) == 2  # a press on a latched scope makes no trip of its own

        # The same id with other content is no press of that trip, nor of any other.
        await house.trip("p-1", account=16)
        other = await house.receipt("p-1", count=3)
        assert (other["accepted"], other["reason"]) == (False, "id already used")
        assert house.open(account=16)
