"""What a latch stands on: the journal lost, damaged or taken, and what the broker still holds."""

from __future__ import annotations

import asyncio
import json

import pytest

from killswitch.simulator.faults import KeepPlacing
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import BTC_LIMIT, House, command_of, proven, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)


def lose_journal(house):
    for file in house.folder.glob("killswitch.db*"):
        file.unlink()


async def test_a_lost_journal_is_made_good_by_what_the_broker_retains(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await house.trip("p-1", account=14, instrument=25)
        await house.proofs("p-1", 1)
        await house.kill()
        lose_journal(house)
        late = house.sim.place(14, 37, 25).order_id
        kept = house.open() - {late}
        await house.start()
        await until(lambda: house.open() == kept, "the scope is swept again", shown=house.shown)
        await house.proofs("p-1", 2)
        assert "found retained, not in the journal" in house.trip_of("p-1")["causes"][0]["text"]
        assert house.trip_of("p-1")["scope"] == {"oms": "prime", "account": 14, "instrument": 25}
        await house.reset_at_last("p-1")


async def test_what_the_broker_holds_of_a_trip_that_ended_is_cleared_and_trips_nothing(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        left_over = json.dumps(house.trip_of("p-1"))
        await house.reset_at_last("p-1")
        await until(lambda: not house.trips(), "it is over", shown=house.shown)
        await house.stop()
        await house.pub("killswitch/trip/p-1", left_over, "-r")
        await house.pub("killswitch/trip/junk", "junk", "-r")
        others = house.open() - house.open(account=15, instrument=25)
        await house.start()
        left = {"killswitch/trip/p-1", "killswitch/trip/junk"}
        await until(lambda: not left & house.letters.retained.keys(), "both are cleared", shown=house.shown)
        await house.trip("p-2", account=15, instrument=25)
        await house.confirmed("p-2")
        assert house.open() == others
        assert [t["trip"] for t in (await house.state())["trips"]] == ["p-2"]


@pytest.mark.parametrize("policy", ["refuse", "sweep"])
async def test_a_journal_that_is_no_journal_is_refused_or_everything_is_swept(tmp_path, policy):
    daemon = f'unreadable_journal = "{policy}"'
    async with House(tmp_path, options=ORDERS, daemon=daemon, oms={"whole_oms": False}) as house:
        house.journal.write_bytes(b"this is no database at all" * 1000)
        await house.start(ready=False)
        if policy == "refuse":
            assert await house.ended() == 2
            assert len(house.open()) == 24
            return
        await until(lambda: sum(map(proven, house.trips().values())) == 3, "every account", shown=house.shown)
        assert not house.open()
        assert list(tmp_path.glob("killswitch.db.unreadable-*"))


async def test_a_second_daemon_on_the_same_journal_ends_and_the_first_goes_on(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        second = await asyncio.create_subprocess_exec(
            *command_of(None), "--config", str(house.config), stderr=asyncio.subprocess.PIPE
        )
        _, said = await second.communicate()
        assert second.returncode == 1
        assert b"another process has the journal" in said
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")


async def test_a_frozen_broker_keeps_nothing_from_being_swept(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        house.broker.freeze()
        try:
            house.sim.move_position(14, 1, to=51)
            await until(lambda: not house.open(account=14), "the scope is swept", shown=house.log)

            async def confirmed():
                return [t["state"] for t in (await house.state())["trips"]] == ["confirmed"]

            await until(confirmed, "and proven", every_s=0.05)
        finally:
            house.broker.thaw()
        await house.any_trip()


async def test_a_trader_who_goes_on_is_swept_until_he_stops(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        house.sim.faults.inject(KeepPlacing(rate=40, account=14, user=37, instrument=25, lasting_s=3))
        await house.trip("p-1", account=14)
        first = min(house.sim.exchange.orders)

        def traded():
            return sum(o.account == 14 and o.order_id >= first + 24 for o in house.sim.exchange.orders.values())

        await until(lambda: traded() >= 100, "he went on", shown=house.shown)
        await until(lambda: not house.open(account=14), "nothing of his is left", shown=house.shown)

        async def stands():
            trips = (await house.state())["trips"]
            return [proven(t) for t in trips] == [True] and not house.open(account=14)

        await until(stands, "it is proven in the end", shown=house.shown, every_s=0.05)
        assert house.open() == others
