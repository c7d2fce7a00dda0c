"""The journal's disk full, read-only, or with damaged rows, while panics arrive."""

from __future__ import annotations

import contextlib
import resource
import sqlite3

import pytest

from killswitch.simulator.faults import Lie
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.bounded import NOT_ALLOWED
from tests.end_to_end.house import House, proven, until
from tests.end_to_end.verdict import Verdict

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)


def room(house, size):
    """No file of the daemon's may grow beyond that: what it writes then fails, as on a full disk."""
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def not_ready(house):
    async def so():
        return (await house.get("/readyz"))[0] == 503

    await until(so, "it says that it can't write", every_s=0.05)


async def panics(house, *names):
    """These trips, over MQTT, while no disk takes them: carried out, and neither confirmed to anybody nor lost."""
    for name, scope in zip(names, ({"instrument": 26}, {"user": 37}, {}), strict=False):
        await house.trip(name, account=14, **scope)
    await until(lambda: not house.open(account=14), "they are carried out", shown=house.shown)
    await not_ready(house)
    assert not [name for name in names if house.letters.receipts[name]]
    assert not [name for name in names if house.trip_of(name)]


async def answered(house, *names):
    for name in names:
        receipt = await house.receipt(name)
        assert (receipt["accepted"], receipt["trip"]) == (True, name)


@pytest.mark.parametrize("ends", ["room", "SIGKILL"])
async def test_on_a_full_disk_panics_are_carried_out_and_journalled_once_there_is_room(tmp_path, ends):
    names = ("p-1", "p-2", "p-3")
    async with House(tmp_path, options=ORDERS) as house:
        verdict = Verdict(house, account=14)
        await house.start()
        await house.trip("p-0", account=14, instrument=25)
        await house.confirmed("p-0")
        room(house, 0)  # its log can't be written either
        await panics(house, *names)
        if ends == "SIGKILL":  # nothing of them was ever written: only the broker has them
            await house.kill()
            await house.start()
        else:
            room(house, resource.RLIM_INFINITY)
        await verdict.good("p-0", *names)
        await answered(house, *names)
        await house.kill()
        await house.start()
        await verdict.good("p-0", *names)


@pytest.mark.parametrize("after", ["SIGTERM", "SIGKILL"])
async def test_with_a_read_only_journal_what_is_latched_is_guarded_and_panics_are_carried_out(tmp_path, after):
    names = ("p-1", "p-2", "p-3")
    async with House(tmp_path, options=ORDERS) as house:
        verdict = Verdict(house, account=14)
        await house.start()
        await house.trip("p-0", account=14, instrument=25)
        await house.confirmed("p-0")
        await (house.stop() if after == "SIGTERM" else house.kill())
        house.sim.place(14, 37, 25)
        files = list(tmp_path.glob("killswitch.db*"))
        for file in files:
            file.chmod(0o444)
        tmp_path.chmod(0o555)
        try:
            await house.start(module="tests.end_to_end.bounded", ready=False)
            await until(lambda: "can't be" in house.log() or not house.running, "it says so", shown=house.log)
            if not house.running and house.process.returncode == NOT_ALLOWED:
                pytest.skip("root can't give up its right to write anywhere here")
            await until(lambda: not house.open(account=14, instrument=25), "what is latched is swept", shown=house.log)
            await panics(house, *names)
        finally:
            tmp_path.chmod(0o755)
            for file in files:
                file.chmod(0o644)
        await verdict.good("p-0", *names)
        await answered(house, *names)
        await house.kill()
        await house.start()
        await verdict.good("p-0", *names)


async def test_an_escalation_reaches_people_while_no_disk_takes_it(tmp_path):
    async with House(tmp_path, options=ORDERS, confirm="deadline_s = 1.0") as house:
        await house.start()
        house.sim.faults.inject(Lie())
        house.sim.faults.inject(Lie(call="CancelOrder"))
        room(house, 0)
        await house.trip("p-1", account=14)
        said = await house.event("escalated")
        assert (said["trip"], said["durable"]) == ("p-1", False)
        assert "RESIDUAL, orders left: 8" in said["text"]
        lamp = house.letters.retained
        await until(lambda: lamp["killswitch/state"]["state"] == "escalated", "the lamp shows it", shown=house.shown)
        assert not house.letters.receipts["p-1"]
        room(house, resource.RLIM_INFINITY)
        house.sim.faults.clear()
        await answered(house, "p-1")
        await house.confirmed("p-1")
        assert "durable" not in (await house.event("confirmed"))


def flip(house, where, *values):
    """The bytes of these rows' bodies, each another one; the hashes stay."""
    with contextlib.closing(sqlite3.connect(house.journal)) as connection:
        rows = connection.execute(f"SELECT n, CAST(body AS BLOB) FROM record WHERE {where}", values).fetchall()
        for n, body in rows:
            flipped = bytes(byte ^ 0x55 for byte in body)
            connection.execute("UPDATE record SET body = CAST(? AS TEXT) WHERE n = ?", (flipped, n))
        connection.commit()
    assert rows


@pytest.mark.parametrize("policy", ["refuse", "sweep"])
async def test_rows_around_a_damaged_one_count_and_what_it_held_stays_latched(tmp_path, policy):
    scopes = {
        "p-1": {"account": 14, "instrument": 25},
        "p-2": {"account": 14, "instrument": 26},
        "p-3": {"account": 15, "user": 37},
        "p-4": {"account": 15, "user": 40},
    }
    async with House(tmp_path, options=ORDERS, daemon=f'unreadable_journal = "{policy}"') as house:
        others = house.open(account=16)
        await house.start()
        for name, scope in scopes.items():
            await house.trip(name, **scope)
        await house.confirmed(*scopes)
        await house.reset_at_last("p-4")
        await until(lambda: "p-4" not in house.trips(), "it is over", shown=house.shown)
        assert await house.stop() == 0
        # One row is the beginning of a trip, the other one the end of another.
        flip(house, "kind = 'tripped' AND body LIKE '%p-2%'")
        flip(house, "kind = 'was_reset'")
        late = [house.sim.place(scope["account"], scope.get("user", 37), scope.get("instrument", 25)).order_id
                for scope in scopes.values()]  # fmt: skip
        await house.start()
        await until(lambda: not set(late) & house.open(), "all of them are guarded", shown=house.shown)

        async def stand():
            trips = {t["trip"]: t for t in (await house.state())["trips"]}
            return trips.keys() == scopes.keys() and all(proven(t) for t in trips.values())

        await until(stand, "each is latched: the rows around count", shown=house.shown, every_s=0.05)
        assert "can't be read" in house.log()
        assert house.open() == others
        assert "found retained, not in the journal" in house.trip_of("p-2")["causes"][-1]["text"]


@pytest.mark.parametrize("policy", ["refuse", "sweep"])
async def test_a_journal_of_damaged_rows_only_is_refused_or_everything_is_swept(tmp_path, policy):
    daemon = f'unreadable_journal = "{policy}"'
    async with House(tmp_path, options=ORDERS, daemon=daemon, oms={"whole_oms": False}) as house:
        await house.start()
        await house.trip("p-1", account=14, instrument=25)
        await house.confirmed("p-1")
        assert await house.stop() == 0
        flip(house, "TRUE")
        left = house.open()
        await house.start(ready=False)
        if policy == "refuse":
            assert await house.ended() == 2
            assert house.open() == left
            return
        await until(lambda: not house.open(), "everything is swept", shown=house.shown)
        await house.confirmed("p-1")  # the broker still knows it
        await until(lambda: sum(map(proven, house.trips().values())) == 4, "every account", shown=house.shown)
