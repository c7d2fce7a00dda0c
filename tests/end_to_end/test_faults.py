"""The broker restarted and the OMS's socket cut in the middle: each ends verified and latched."""

from __future__ import annotations

import asyncio

import pytest

from killswitch.simulator.faults import (
    CloseOn,
    Error,
    Latency,
    Lie,
    NoAnswer,
    Reject,
    SlowLists,
    Stragglers,
    UnknownCall,
)
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
QUICK = "timeout_s = 0.5"


async def latched(house, name, proofs=1):
    """Verified, empty, announced so, and still latched where it is decided."""
    await house.proofs(name, proofs)
    assert not house.open(account=14)
    assert [t["trip"] for t in (await house.state())["trips"]] == [name]
    assert "reset" not in house.letters.kinds()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_the_broker_goes_in_the_middle_of_a_sweep_and_comes_back(tmp_path, how):
    async with House(tmp_path, options=ORDERS, retry=QUICK) as house:
        await house.start()
        house.sim.faults.inject(Latency(delay_s=0.2))
        await house.trip("p-1", account=14)
        await until(house.cancels, "the cancel arrives")
        await asyncio.to_thread(getattr(house.broker, how))
        # Nobody needs the broker to get the scope empty and proven.
        await until(lambda: not house.open(account=14), "the scope is empty")

        async def proven():
            return (await house.state())["trips"][0]["state"] == "confirmed"

        await until(proven, "it is confirmed while there is no broker")
        await asyncio.to_thread(house.broker.start)
        if how == "kill":  # a killed broker may have taken the first receipt with it: its sender asks again
            await house.trip("p-1", account=14)
        assert (await house.receipt("p-1"))["accepted"] is True
        await latched(house, "p-1")
        state = {"state": "confirmed", "trips": 1}
        await until(lambda: house.letters.retained["killswitch/state"] == state, "the lamp shows it")


@pytest.mark.parametrize(
    "fault",
    [
        CloseOn(call="CancelAllOrders", times=1, executed=False),
        CloseOn(call="CancelAllOrders", times=1, executed=True),
        CloseOn(call="CancelAllOrders", times=3, executed=False),
        CloseOn(call="GetOpenOrders", times=1, executed=False),
        CloseOn(call="GetOpenOrders", times=3, executed=True),
    ],
    ids=lambda fault: f"{fault.call}-{fault.times}-{'after' if fault.executed else 'before'}",
)
async def test_the_socket_is_cut_in_the_middle_of_a_sweep(tmp_path, fault):
    async with House(tmp_path, options=ORDERS, retry=QUICK) as house:
        await house.start()
        house.sim.faults.inject(fault)
        await house.trip("p-1", account=14)
        await latched(house, "p-1")
        assert house.sim.faults.injected["CloseOn"] == fault.times
        sessions = {request.session for request in house.sim.exchange.log.of("CancelAllOrders")}
        assert len(sessions) > 1  # no session proves what another one's cancel did


@pytest.mark.parametrize(
    "fault",
    [
        NoAnswer(times=2, executed=False),
        NoAnswer(times=1, executed=True),
        Lie(times=1),
        Lie(times=3),
        Error(code=102, times=2),
        Error(code=20),
        Error(code=100),
        Error(code=101, times=2),
        Error(code=104, times=2),
        Error(code=106, times=2),
        Error(code=107, times=2, executed=True),
        Error(code=999, times=2),
        Error(call="GetOpenOrders", code=102, times=3),
        Stragglers(orders=2),
        Reject(times=1),
        UnknownCall(call="CancelAllOrders", times=2),
        UnknownCall(call="GetOpenOrders", times=2),
        SlowLists(delay_s=0.5, times=3),
    ],
    ids=str,
)
async def test_lost_lying_and_refused_cancels_end_verified(tmp_path, fault):
    async with House(tmp_path, options=ORDERS, retry=QUICK) as house:
        others = house.open() - house.open(account=14)
        await house.start()
        house.sim.faults.inject(fault)
        await house.trip("p-1", account=14)
        await latched(house, "p-1")
        assert house.open() == others


async def test_the_session_is_lost_after_the_proof_and_it_is_proven_again(tmp_path):
    async with House(tmp_path, options=ORDERS, retry=QUICK) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        house.sim.drop_sessions()
        await latched(house, "p-1", proofs=2)


async def test_a_sign_in_that_takes_seconds_is_waited_for_and_nothing_is_said_before(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        house.sim.faults.inject(Latency(delay_s=1.5))
        house.sim.drop_sessions()
        await house.trip("p-1", account=14)
        await until(lambda: "p-1" in house.trips(), "it is announced", shown=house.shown)
        assert house.trip_of("p-1")["state"] != "confirmed"
        await until(lambda: not house.open(account=14), "the scope is empty", shown=house.shown, within_s=20)
        house.sim.faults.clear()
        await latched(house, "p-1")
