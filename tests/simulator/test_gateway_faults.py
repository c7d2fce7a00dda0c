"""Every fault as a client sees it, over a real socket."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed

from killswitch.simulator.faults import Deaf, NoAnswer
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.world import SimulatorOptions

from .client import bare

ACCOUNT = {"OMSId": 1, "AccountId": 14}


@pytest.fixture
async def sim():
    async with Simulator(SimulatorOptions(orders=12)) as simulator:
        yield simulator


async def settled(sim) -> None:
    """Until the exchange has carried out everything that it accepted."""
    async with asyncio.timeout(20):
        while sim.exchange.due() is not None:
            await asyncio.sleep(0.01)


async def test_no_answer_comes_although_the_cancel_is_carried_out(sim):
    sim.faults.inject("no_answer=1")
    async with bare(sim, 1) as client:
        await client.send("CancelAllOrders", ACCOUNT)
        assert await client.silent()
        await settled(sim)
        assert sim.exchange.open_ids(account=14) == set()
        assert (await client.ask("CancelAllOrders", ACCOUNT))["result"] is True


async def test_no_answer_comes_and_nothing_is_carried_out_until_switched_off(sim):
    sim.faults.inject("no_answer=always,executed=no")
    async with bare(sim, 1) as client:
        for _ in range(3):
            await client.send("CancelAllOrders", ACCOUNT)
        assert await client.silent()
        assert len(sim.exchange.open_ids(account=14)) == 4
        assert sim.faults.injected["NoAnswer"] == 3
        sim.faults.clear(NoAnswer)
        assert (await client.ask("CancelAllOrders", ACCOUNT))["result"] is True


async def test_another_call_can_be_the_one_without_an_answer(sim):
    sim.faults.inject("no_answer=1,call=GetOpenOrders")
    async with bare(sim, 1) as client:
        await client.send("GetOpenOrders", ACCOUNT)
        assert await client.silent()
        assert len(await client.ask("GetOpenOrders", ACCOUNT)) == 4


async def test_a_lie_says_true_and_changes_nothing(sim):
    sim.faults.inject("lie=2")
    async with bare(sim, 1) as client:
        await client.ask("SubscribeAccountEvents", ACCOUNT)
        for _ in range(2):
            assert (await client.ask("CancelAllOrders", ACCOUNT))["result"] is True
            assert await client.silent()
            assert len(await client.ask("GetOpenOrders", ACCOUNT)) == 4
        await client.ask("CancelAllOrders", ACCOUNT)
        await settled(sim)
        assert sim.exchange.open_ids(account=14) == set()


async def test_an_error_code_is_answered_so_many_times(sim):
    sim.faults.inject("error=102,times=2")
    async with bare(sim, 1) as client:
        codes = [(await client.ask("CancelAllOrders", ACCOUNT))["errorcode"] for _ in range(3)]
        assert codes == [102, 102, 0]


async def test_an_error_can_meet_a_call_of_the_session_too(sim):
    sim.faults.inject("error=102,times=1,call=SubscribeAccountEvents")
    async with bare(sim, 1) as client:
        assert (await client.ask("SubscribeAccountEvents", ACCOUNT))["errorcode"] == 102
        assert await client.ask("SubscribeAccountEvents", ACCOUNT) == {"Subscribe": True}


async def test_a_token_runs_out_while_the_socket_lives(sim):
    sim.faults.inject("token_expires_after=2")
    async with bare(sim, 1) as client:
        await client.ask("SubscribeAccountEvents", ACCOUNT)
        assert len(await client.ask("GetOpenOrders", ACCOUNT)) == 4
        for _ in range(2):
            assert (await client.ask("CancelAllOrders", ACCOUNT))["errorcode"] == 20
        assert (await client.ask("Ping", {}))["msg"] == "PONG"
        sim.place(account=14, user=37, instrument=25)
        assert await client.silent(), "nothing is told any more either"
        assert sim.faults.injected["TokenExpires"] == 1
        await client.sign_in(sim.exchange.users[1])
        assert (await client.ask("CancelAllOrders", ACCOUNT))["result"] is True


@pytest.mark.parametrize("frame", [1, 5])
async def test_calls_beyond_the_limit_get_bare_text_and_nothing_is_carried_out(sim, frame):
    sim.faults.inject(f"rate_limit=2,per_s=100,frame={frame}")
    async with bare(sim, 1) as client:
        for _ in range(2):
            assert len(await client.ask("GetOpenOrders", ACCOUNT)) == 4
        await client.send("CancelAllOrders", ACCOUNT)
        said = await client.read()
        assert (said.m, said.n, said.o) == (frame, "CancelAllOrders", "TOO MANY REQUESTS")
        assert len(sim.exchange.open_ids(account=14)) == 4
        assert sim.faults.injected["RateLimit"] == 1
    async with bare(sim, 1) as another:
        assert (await another.ask("CancelAllOrders", ACCOUNT))["result"] is True, "each session has its own"


@pytest.mark.parametrize(("executed", "left"), [("no", 4), ("yes", 0)])
async def test_the_socket_is_cut_on_a_call_before_or_after_it_is_carried_out(sim, executed, left):
    sim.faults.inject(f"close_on=CancelAllOrders,times=1,executed={executed}")
    async with bare(sim, 1) as client:
        await client.send("CancelAllOrders", ACCOUNT)
        with pytest.raises(ConnectionClosed) as closed:
            await client.read()
        assert closed.value.rcvd is None  # no closing handshake: a lost link, not a farewell
    await settled(sim)
    assert len(sim.exchange.open_ids(account=14)) == left
    async with bare(sim, 1) as client:
        assert (await client.ask("CancelAllOrders", ACCOUNT))["result"] is True


async def test_stragglers_stay_in_the_list(sim):
    sim.faults.inject("stragglers=3")
    async with bare(sim, 1) as client:
        await client.ask("CancelAllOrders", ACCOUNT)
        await settled(sim)
        rows = await client.ask("GetOpenOrders", ACCOUNT)
        assert len(rows) == 3
        for row in rows:
            await client.ask("CancelOrder", {"OMSId": 1, "OrderId": row["OrderId"]})
        await settled(sim)
        assert await client.ask("GetOpenOrders", ACCOUNT) == []


async def test_a_trader_keeps_placing_by_himself_for_a_while(sim):
    async with bare(sim, 1) as client:
        await client.ask("SubscribeAccountEvents", ACCOUNT)
        sim.faults.inject("keep_placing=50,account=14,user=40,instrument=26,lasting_s=0.21")
        events = await client.events("OrderStateEvent", 10)
        assert {(e.o["OrderState"], e.o["EnteredBy"], e.o["Instrument"]) for e in events} == {("Working", 40, 26)}
        await settled(sim)
        assert len(sim.exchange.open_ids(account=14)) == 14


async def test_a_late_order_enters_after_the_book_was_empty(sim):
    sim.faults.inject("late_order=0.1")
    async with bare(sim, 1) as client:
        await client.ask("SubscribeAccountEvents", ACCOUNT)
        await client.ask("CancelAllOrders", ACCOUNT)
        *cancelled, late = await client.events("OrderStateEvent", 5)
        assert [e.o["OrderState"] for e in cancelled] == ["Canceled"] * 4
        assert late.o["OrderState"] == "Working"
        assert sim.exchange.open_ids(account=14) == {late.o["OrderId"]}


async def test_answers_can_be_late_while_the_cancel_is_not(sim):
    sim.faults.inject("latency=0.3")
    async with bare(sim, 1) as client:
        assert (await client.ask("CancelAllOrders", ACCOUNT))["result"] is True
        (request,) = sim.exchange.log.of("CancelAllOrders")
        assert sim.now() - request.at >= 0.3
        assert {ending.at for ending in sim.exchange.log.endings} == {request.at}


async def test_a_slow_list_shows_what_was_there_when_it_was_asked_for(sim):
    sim.faults.inject("slow_lists=0.3,times=1")
    async with bare(sim, 1) as client:
        asked = await client.send("GetOpenOrders", ACCOUNT)
        assert (await client.ask("CancelAllOrders", ACCOUNT))["result"] is True
        await settled(sim)
        late = await client.read()
        assert (late.i, len(late.o)) == (asked, 4)
        assert await client.ask("GetOpenOrders", ACCOUNT) == []


async def test_a_deaf_gateway_takes_connections_and_does_nothing_else(sim):
    async with bare(sim, 1) as client:
        await client.ask("SubscribeAccountEvents", ACCOUNT)
        sim.faults.inject("deaf=always")
        await client.send("CancelAllOrders", ACCOUNT)
        sim.move_position(14, 1, to=9)
        assert await client.silent()
        assert len(sim.exchange.open_ids(account=14)) == 4
        async with bare(sim) as second:
            await second.send("Ping")
            assert await second.silent()
        sim.faults.clear(Deaf)
        assert await client.ask("Ping") == {"msg": "PONG"}


async def test_faults_can_be_given_at_the_start():
    options = SimulatorOptions(orders=12, faults=("lie=1", NoAnswer(times=1, call="Ping")))
    async with Simulator(options) as sim, bare(sim, 1) as client:
        await client.ask("CancelAllOrders", ACCOUNT)
        assert len(sim.exchange.open_ids(account=14)) == 4
        await client.send("Ping")
        assert await client.silent()
