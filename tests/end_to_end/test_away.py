"""What is said while the daemon, or its journal's disk, is away."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end import patience
from tests.end_to_end.house import House, iso, trip_command, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
BUTTON = """
[[panic]]
name = "desk"
topic = "desk/button"
match = "panic"
scope = { oms = "prime", account = 14 }
"""


async def said_while_away(tmp_path, away_s):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await house.kill()
        said = json.loads(trip_command("p-1", account=14))
        await house.pub("killswitch/command/trip", json.dumps(said | {"issued_at": iso(time.time() - 61)}))
        await asyncio.sleep(away_s)
        assert not house.cancels()
        await house.start()
        await house.confirmed("p-1")
        receipt = await house.receipt("p-1")
        assert receipt["accepted"] is True
        assert " s old" in receipt["reason"]  # a trip is never refused for its time
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
        # Once: it was acknowledged, so nothing comes again, and what is latched is swept by the journal's word.
        await house.stop()
        await house.start()
        await house.proofs("p-1", 2)
        assert len(house.letters.receipts["p-1"]) == 1
        assert [cause["count"] for cause in house.trip_of("p-1")["causes"]] == [1]


async def by_hand(house, verb, *more):
    """A verb as a person runs it: exit code, stdout, stderr without line breaks."""
    who = ["--config", str(house.config), "--by", "ann", "--reason", "r"]
    argv = [sys.executable, "-m", "killswitch", verb, *who, *more]
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    return process.returncode, " ".join(out.decode().split()), " ".join(err.decode().split())


async def test_with_the_broker_away_a_trip_and_its_reset_by_hand_go_over_http(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await asyncio.to_thread(house.broker.stop)
        code, out, err = await by_hand(house, "trip", "--oms", "prime", "--account", "14")
        assert "the broker could not be reached" in err
        assert "asking the daemon over HTTP" in err
        assert (code, "VERIFIED" in out) == (0, True), err
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]
        assert not house.open(account=14)
        assert len(house.open(account=15)) == 8
        (trip,) = (await house.state())["trips"]
        code, out, err = await by_hand(house, "reset", trip["trip"])
        assert (code, "asking the daemon over HTTP" in err) == (0, True), err
        assert (await house.state())["trips"] == []


async def test_with_neither_broker_nor_daemon_a_trip_by_hand_says_both_and_names_the_other_way(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await asyncio.to_thread(house.broker.stop)
        code, _, err = await by_hand(house, "trip", "--oms", "prime", "--account", "14")
        assert code == 3
        assert "the broker could not be reached" in err
        assert "/command/trip: Connection refused; `killswitch trip --direct` needs neither" in err
        assert not house.cancels()


async def test_a_command_sent_while_the_daemon_is_down_is_carried_out_once(tmp_path):
    await said_while_away(tmp_path, 0.5)


@pytest.mark.long
async def test_a_command_sent_while_the_daemon_is_down_for_a_minute_is_carried_out_once(tmp_path, request):
    patience.needs(request, "a minute")
    await said_while_away(tmp_path, 60)


async def test_a_button_pressed_while_the_daemon_is_down_is_carried_out(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=BUTTON) as house:
        await house.start()
        assert await house.stop() == 0
        await house.pub("desk/button", "panic")
        await house.start()
        await house.any_trip()
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]


def acknowledged(house):
    """How many deliveries the daemon has acknowledged, by the broker's own log."""
    return house.broker.log().count("Received PUBACK from killswitch-ks-a ")


async def test_with_the_journal_locked_the_last_panic_is_still_carried_out(tmp_path):
    # The broker delivers no more than a window of unacknowledged commands, and none of these can be journalled.
    accounts = tuple(range(101, 132))
    options = SimulatorOptions(accounts=accounts, orders=4 * len(accounts))
    async with House(tmp_path, options=options, tables=BUTTON.replace("14", "101")) as house:
        await house.start()
        lock = sqlite3.connect(house.journal, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        try:
            async with house.client() as client:
                for n in range(50):
                    await client.publish("killswitch/command/trip", b"junk \xff %d" % n, qos=1)
                    await client.publish("desk/button", b'{"battery": %d}' % n, qos=1)
                for account in accounts[:-1]:
                    command = trip_command(f"p-{account}", account=account)
                    await client.publish("killswitch/command/trip", command, qos=1)
            await until(lambda: not house.sim.exchange.open_orders(account=accounts[-2]), "all 30 are carried out")
            await house.trip("last", account=accounts[-1])
            await until(lambda: not house.open(), "the last one's cancel arrives, and nothing is left", within_s=10)

            async def not_ready():
                return (await house.get("/readyz"))[0] == 503

            await until(not_ready, "it says that it can't write", every_s=0.05)
            assert not house.letters.receipts  # none of it is on disk, and nobody says that it is
            assert not house.trips()
            assert acknowledged(house) == 100  # the junk only: the broker keeps what no disk has
        finally:
            lock.close()
        names = [f"p-{account}" for account in accounts[:-1]] + ["last"]
        await house.confirmed(*names)
        for name in names:
            receipt = await house.receipt(name)
            assert receipt["accepted"] is True
            assert "durable" not in receipt
        assert len(house.cancels()) == len(names)
        await until(lambda: acknowledged(house) == 131, "the broker is told of all of it", shown=house.shown)
        # And durable they are.
        await house.kill()
        await house.start()
        assert {t["trip"] for t in (await house.state())["trips"]} == set(names)
