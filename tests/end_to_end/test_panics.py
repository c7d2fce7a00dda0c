"""A hundred panics, a hundred pieces of junk and one more panic, while the journal takes nothing."""

from __future__ import annotations

import contextlib
import json
import resource
import sqlite3
import time

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.adapters.test_mqtt import between
from tests.end_to_end.bounded import NOT_ALLOWED
from tests.end_to_end.house import House, trip_command, until
from tests.mosquitto import Mosquitto

pytestmark = pytest.mark.mosquitto

ACCOUNTS = tuple(range(101, 202))
OPTIONS = SimulatorOptions(accounts=ACCOUNTS, orders=4 * len(ACCOUNTS))
UNACCEPTABLE_VERSION = b"\x20\x02\x00\x01"  # a CONNACK of 3.1.1


def junk(n):
    """Every kind of it: no JSON, no command, and a command that is none though its id is good."""
    bad_key = {"id": f"junk-{n}", "scope": {"oms": "prime", "acount": 14}, "by": "x", "reason": "y"}
    return [b"junk \xff %d" % n, b"", b"[]", json.dumps(bad_key).encode()][n % 4]


@contextlib.asynccontextmanager
async def locked(house):
    await house.start()
    lock = sqlite3.connect(house.journal, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        lock.close()


@contextlib.asynccontextmanager
async def full(house):
    await house.start()
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    yield
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.asynccontextmanager
async def read_only(house):
    await house.start()
    assert await house.stop() == 0
    files = list(house.folder.glob("killswitch.db*"))
    for file in files:
        file.chmod(0o444)
    house.folder.chmod(0o555)
    try:
        await house.start(module="tests.end_to_end.bounded", ready=False)
        await until(lambda: "can't be" in house.log() or not house.running, "it says so", shown=house.log)
        if not house.running and house.process.returncode == NOT_ALLOWED:
            pytest.skip("root can't give up its right to write anywhere here")
        await until(lambda: house.log().count("commands subscribed") == 2, "it hears commands", shown=house.log)
        await until(lambda: len(house.sim.sessions) == 1, "it is signed in", shown=house.log)
        yield
    finally:
        house.folder.chmod(0o755)
        for file in files:
            file.chmod(0o644)


@contextlib.asynccontextmanager
async def house_of(folder, version):
    """A house whose broker has its own defaults: a window of 20, unless MQTT 5 asks for more."""
    house = House(folder, options=OPTIONS, confirm="guard_every_s = 20.0")
    house.broker = Mosquitto(folder / "broker", ours=False)
    async with contextlib.AsyncExitStack() as stack:
        if version == "3.1.1":
            old = await stack.enter_async_context(between(house.broker, to_5=UNACCEPTABLE_VERSION))
            house.broker_url = f"mqtt://{old.host}:{old.port}"
        yield await stack.enter_async_context(house)


HOW = {"full": full, "locked": locked, "read-only": read_only}


@pytest.mark.parametrize(
    ("how", "version"), [("full", "5"), ("full", "3.1.1"), ("locked", "3.1.1"), ("read-only", "5")]
)
async def test_the_last_of_a_hundred_panics_and_as_much_junk_waits_for_no_journal(tmp_path, how, version):
    *crowd, last = ACCOUNTS
    async with house_of(tmp_path, version) as house:
        assert all(house.open(account=account) for account in ACCOUNTS)
        async with HOW[how](house), house.client() as client:
            for n, account in enumerate(crowd):
                command = trip_command(f"p-{account}", account=account)
                await client.publish("killswitch/command/trip", command, qos=1)
                await client.publish("killswitch/command/trip", junk(n), qos=1)
            began = time.monotonic()
            await client.publish("killswitch/command/trip", trip_command("last", account=last), qos=1)
            await until(
                lambda: not house.open(account=last), "the last one is carried out", within_s=20, shown=house.shown
            )
            print(f"the last panic was carried out after {time.monotonic() - began:.3f} s")
            await until(lambda: not house.open(), "and so is every other", shown=house.shown)

            async def not_ready():
                return (await house.get("/readyz"))[0] == 503

            await until(not_ready, "the journal took nothing all the while", every_s=0.05)
            accepted = [r for held in house.letters.receipts.values() for r in held if r["accepted"]]
            assert all(receipt["durable"] is False for receipt in accepted)  # nobody says that any of it is on disk
            assert bool(accepted) == (version == "3.1.1")  # let go, to make room for the last one
            assert not house.trips()
        names = [f"p-{account}" for account in crowd] + ["last"]
        for name in names:
            await until(
                lambda name=name: any("durable" not in r for r in house.letters.receipts[name]),
                f"{name} is on disk",
                shown=house.shown,
            )
        await house.confirmed(*names)
        refused = [r for n in range(3, len(crowd), 4) for r in house.letters.receipts[f"junk-{n}"]]
        assert len(refused) == 25
        assert not any(r["accepted"] for r in refused)
        await house.kill()
        await house.start()
        assert {t["trip"] for t in (await house.state())["trips"]} == set(names)
