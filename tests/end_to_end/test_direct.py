"""`trip --direct`: neither broker nor daemon; the same core, evidence of its own, and an exit code to rely on."""

from __future__ import annotations

import asyncio
import sys

import pytest

from killswitch.simulator.faults import Lie
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import ROOT, House

ORDERS = SimulatorOptions(orders=24)


async def trip(house, *more):
    """The command line's exit code and output."""
    where = ["--config", str(house.config), "--oms", "prime", "--by", "alice", "--reason", "the broker burns"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "killswitch", "trip", *where, *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
    )
    said, _ = await process.communicate()
    return process.returncode, " ".join(said.decode().split())  # it is wrapped for a terminal


async def test_a_direct_trip_needs_neither_broker_nor_daemon(tmp_path):
    async with House(tmp_path, options=ORDERS, broker=False) as house:
        others = house.open() - house.open(account=14, user=37)
        code, said = await trip(house, "--account", "14", "--user", "37", "--direct")
        assert code == 0, said
        assert "VERIFIED" in said
        assert "nothing guards" in said
        assert house.cancels() == [{"OMSId": 1, "UserId": 37, "AccountId": 14}]
        assert house.open() == others
        (evidence,) = tmp_path.glob("direct-*.db")
        assert evidence.stat().st_size


async def test_a_direct_trip_that_is_not_proven_says_so(tmp_path):
    async with House(tmp_path, options=ORDERS, broker=False) as house:
        house.sim.faults.inject(Lie())
        house.sim.faults.inject(Lie(call="CancelOrder"))
        code, said = await trip(house, "--account", "14", "--direct", "--wait", "2")
        assert code == 1, said
        assert "RESIDUAL" in said
        assert len(house.open(account=14)) == 8


@pytest.mark.parametrize("broken", ["stopped", "secret"])
async def test_a_direct_trip_that_reaches_nobody_ends_with_three(tmp_path, broken):
    async with House(tmp_path, options=ORDERS, broker=False) as house:
        if broken == "stopped":
            await house.sim.stop()
        else:
            (tmp_path / "prime.secret").write_text("not-the-secret")
        code, said = await trip(house, "--account", "14", "--direct", "--wait", "2")
        assert code == 3, said
        assert "Nothing was cancelled" in said
        assert len(house.open()) == 24
        if broken == "stopped":
            await house.sim.start()


async def test_a_preview_shows_what_would_go_and_cancels_nothing(tmp_path):
    async with House(tmp_path, options=ORDERS, broker=False) as house:
        code, said = await trip(house, "--account", "14", "--instrument", "25", "--preview")
        assert code == 0, said
        for order in house.open(account=14, instrument=25):
            assert str(order) in said
        assert not house.cancels()
        assert len(house.open()) == 24
