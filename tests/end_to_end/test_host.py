"""What the host sees of the daemon: signals, systemd's datagrams, and a fault of our own that is set aside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import socket
import sys

import pytest

from killswitch.simulator.faults import Lie
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import ROOT, House, proven, trip_command, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)


async def test_sigterm_ends_it_in_order_and_what_is_latched_stays_so(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert await house.stop() == 0
        where = "p-1: prime: account 14, all users, all instruments"
        for said in (
            f"WARNING killswitch: tripped {where}: ",
            f"INFO killswitch: confirmed {where}: ",
            f"WARNING killswitch: stopping: {where} stays latched; nothing guards it now",
        ):
            assert said in house.log()
        assert "uvicorn" not in house.log()
        gone = {"killswitch/state": {"state": "unknown"}, "killswitch/availability/ks-a": "offline"}
        retained = house.letters.retained
        await until(lambda: {k: retained.get(k) for k in gone} == gone, "the wills speak", shown=lambda: retained)
        assert "killswitch/replica/ks-a" not in retained
        assert proven(house.trip_of("p-1"))

        late = house.sim.place(14, 37, 25).order_id
        await house.start()
        assert "WARNING killswitch: still latched: p-1 by alice: prime: account 14" in house.log()
        assert "WARNING killswitch: OMS prime: no rule and no panic covers accounts 14, 15" in house.log()
        await until(lambda: late not in house.open(), "what came meanwhile is swept", shown=house.shown)
        await house.confirmed("p-1")
        await until(lambda: retained["killswitch/state"] == {"state": "confirmed", "trips": 1}, "the lamp shows it")
        verify = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "killswitch", "journal", "verify", str(house.journal)),
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await verify.wait() == 0


async def test_what_came_just_before_sigterm_is_still_carried_out(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        house.signal(signal.SIGSTOP)  # both signals are there when it goes on
        house.signal(signal.SIGUSR1)
        house.signal(signal.SIGTERM)
        house.signal(signal.SIGCONT)
        assert await house.ended() == 0
        assert not house.open()
        assert "stays latched; nothing guards it now" in house.log()
        assert "NOT confirmed" not in house.log()


async def test_sigterm_sweeps_on_until_the_deadline_and_says_what_is_left(tmp_path):
    async with House(tmp_path, options=ORDERS, confirm="deadline_s = 1.0", retry="timeout_s = 0.3") as house:
        await house.start()
        house.sim.faults.inject(Lie())
        house.sim.faults.inject(Lie(call="CancelOrder"))
        await house.trip("p-1", account=14)
        await house.receipt("p-1")
        assert await house.stop() == 0
        assert "p-1: prime: account 14, all users, all instruments is NOT confirmed, orders left: 8" in house.log()
        house.sim.faults.clear()
        await house.start()
        await house.confirmed("p-1")


async def test_what_is_proven_while_it_stops_is_told_before_it_has_stopped(tmp_path):
    async with House(tmp_path, options=ORDERS, retry="timeout_s = 0.3") as house:
        await house.start(module="tests.end_to_end.slow_disk")
        house.sim.faults.inject(Lie())
        house.sim.faults.inject(Lie(call="CancelOrder"))
        await house.trip("p-1", account=14)
        await house.receipt("p-1")
        house.signal(signal.SIGTERM)
        house.sim.faults.clear()
        assert await house.ended() == 0
        assert not house.open(account=14)
        await until(lambda: proven(house.trip_of("p-1")), "the confirmation was told", shown=house.shown)


async def test_sigusr1_trips_the_whole_oms_where_that_is_allowed(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        house.signal(signal.SIGUSR1)
        name = await house.any_trip()
        assert house.cancels() == [{"OMSId": 1}]
        assert not house.open()
        assert house.trip_of(name)["scope"] == {"oms": "prime", "account": "every"}
        assert (await house.metrics())["killswitch_trips_total{kind=signal,rule=}"] == 1


async def test_sigusr1_trips_every_account_where_the_whole_oms_is_not_allowed(tmp_path):
    options = SimulatorOptions(orders=24, api_user=37)
    async with House(tmp_path, options=options, oms={"whole_oms": False}) as house:
        await house.start()
        house.signal(signal.SIGUSR1)
        await until(lambda: sum(map(proven, house.trips().values())) == 3, "each account", shown=house.shown)
        assert sorted(body["AccountId"] for body in house.cancels()) == [14, 15, 16]
        assert all(body.keys() == {"OMSId", "AccountId"} for body in house.cancels())
        assert not house.open()


async def test_sighup_is_survived(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        house.config.write_text("this is no configuration", "utf-8")
        house.signal(signal.SIGHUP)
        await until(lambda: "SIGHUP" in house.log(), "it says what it does about it")
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert house.running


async def test_systemd_is_told_of_the_start_the_turning_and_the_end(tmp_path):
    name = f"killswitch-test-{secrets.token_hex(8)}"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notified:
        notified.bind(f"\0{name}")
        notified.setblocking(False)
        said = []

        def heard(what, times=1):
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.append(notified.recv(4096).decode())
            return said.count(what) >= times

        async with House(tmp_path, options=ORDERS) as house:
            await house.start(env={"NOTIFY_SOCKET": f"@{name}"})
            await until(lambda: heard("READY=1"), "ready")
            await until(lambda: heard("WATCHDOG=1", 3), "the watchdog is fed")
            assert await house.stop() == 0
            assert heard("STOPPING=1")
            assert said.index("READY=1") < said.index("STOPPING=1")
            assert set(said) == {"READY=1", "WATCHDOG=1", "STOPPING=1"}


async def test_an_event_that_makes_the_core_raise_is_set_aside_and_the_next_panic_is_carried_out(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        others = house.open() - house.open(account=14)
        await house.start(module="tests.end_to_end.raising")
        said = json.loads(trip_command("cursed", account=15)) | {"by": "mallory"}
        await house.pub("killswitch/command/trip", json.dumps(said))
        receipt = await house.receipt("cursed")
        assert receipt["accepted"] is False
        await house.event("escalated", "set aside")
        await house.trip("p-1", account=14)
        await house.proofs("p-1", 1)
        assert house.open() == others
        assert list(house.trips()) == ["p-1"]
        metrics = await house.metrics()
        assert metrics["killswitch_commands_total{command=trip,result=refused}"] == 1
        # It was acknowledged: it doesn't come back at the next start to do it again.
        await house.kill()
        await house.start()
        await house.proofs("p-1", 2)
        assert len(house.letters.receipts["cursed"]) == 1
        assert house.open() == others
