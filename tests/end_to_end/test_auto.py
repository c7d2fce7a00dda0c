"""The dialect "auto": what the version of each sign-in tells is what is said, and what isn't told is not guessed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from killswitch.simulator.dialects import DIALECTS
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

BASE = 5_000_000_000
USERS_ORDERS = {0, 1, 4, 5, 8, 9}  # user 37's of twelve orders; the other half is user 40's


def house_of(tmp_path, server, version, dialect="auto"):
    options = SimulatorOptions(dialect=server, version=version, orders=12, first_order_id=BASE)
    return House(tmp_path, options=options, oms={"dialect": dialect})


def cancelled(house):
    return {e.order_id - BASE for e in house.sim.exchange.log.endings}


async def dialects(house):
    state = await house.state()
    return [session["dialect"] for oms in state["omses"] for session in oms["sessions"]]


@pytest.mark.parametrize(
    ("server", "version", "dialect", "told"),
    [
        ("v2", "2.23.1", "v2", {"UserId"}),
        ("v2", "", "v3", set()),  # it doesn't know the call
        ("v3", None, "v3", set()),
        ("v4", None, "v4", set()),
        ("v4", "5.0.1", "v3", set()),  # of a kind that nobody knows
        ("v4", "build of Tuesday", "v3", set()),
    ],
)
async def test_a_users_orders_go_and_nobody_elses_whatever_the_server_says_it_is(
    tmp_path, server, version, dialect, told
):
    async with house_of(tmp_path, server, version) as house:
        await house.start()
        assert await dialects(house) == [dialect]
        await house.trip("p-1", user=37)
        await house.confirmed("p-1")
        assert cancelled(house) == USERS_ORDERS
        assert {key for body in house.cancels() for key in body} - {"OMSId"} == told


@pytest.mark.parametrize(
    ("server", "version", "keys"),
    [
        ("v2", "2.23.1", {"AccountId", "InstrumentId"}),
        ("v2", "", set()),
        ("v3", None, set()),
        ("v4", None, {"AccountId", "InstrumentId"}),
    ],
)
async def test_an_instrument_is_named_only_where_it_is_heeded(tmp_path, server, version, keys):
    async with house_of(tmp_path, server, version) as house:
        await house.start()
        await house.trip("p-1", account=14, instrument=25)
        await house.confirmed("p-1")
        assert cancelled(house) == {0, 2}
        assert {key for body in house.cancels() for key in body} - {"OMSId"} == keys


async def test_a_venue_that_is_upgraded_overnight_is_spoken_to_as_what_it_is_from_its_next_session_on(tmp_path):
    async with house_of(tmp_path, "v2", "2.23.1") as house:
        await house.start()
        await house.trip("p-1", user=37)
        await house.confirmed("p-1")
        before = len(house.cancels())
        assert any("UserId" in body for body in house.cancels())
        house.sim.exchange.dialect = DIALECTS["v4"]
        house.sim.exchange.version = "4.3.65.1063"
        house.sim.drop_sessions()

        async def narrowed():
            return await dialects(house) == ["v4"]

        await until(narrowed, "the new session is a v4's", shown=house.shown, every_s=0.05)
        others = house.sim.place(account=15, user=40, instrument=25).order_id
        late = house.sim.place(account=15, user=37, instrument=25).order_id
        await until(lambda: late not in house.open(), "the late order is swept", shown=house.shown)
        await house.confirmed("p-1")
        assert house.cancels()[before:] == []
        assert others in house.open()
        assert len(house.open(user=40)) == 7


async def test_a_server_that_never_answers_what_it_is_is_told_the_account_and_nothing_else(tmp_path):
    async with house_of(tmp_path, "v4", None) as house:
        house.sim.exchange.faults.inject("no_answer=always,call=GetOMSVersion,executed=no")
        await house.start()
        assert await dialects(house) == ["v3"]
        await house.trip("p-1", account="every", instrument=25)
        await house.confirmed("p-1")
        assert cancelled(house) == {0, 2, 4, 6, 8, 10}
        assert house.cancels() == []


async def test_a_configured_dialect_is_held_against_the_version_as_before(tmp_path):
    async with house_of(tmp_path, "v4", None, dialect="v2") as house:
        await house.start(ready=False)
        await house.event("sign_in_refused", "it says that it is version 4.3.65.1063")
        assert json.loads((await house.get("/readyz"))[1])["ready"] is False


async def test_a_server_that_ignores_the_user_it_says_it_heeds_is_found_out_and_never_told_a_user_again(tmp_path):
    async with house_of(tmp_path, "v2", "2.23.1") as house:
        honest = house.sim.exchange.dialect
        house.sim.exchange.dialect = replace(honest, honours=honest.honours - {"UserId"})
        await house.start()
        await house.trip("p-1", account=14, user=37)
        said = await house.event(
            "wider_than_asked", "account 14 ended right after a cancel for prime: account 14, user 37"
        )
        await house.confirmed("p-1")
        assert cancelled(house) == {0, 1, 2, 3}
        told = len(house.cancels())
        await house.kill()
        await house.start()
        await house.confirmed("p-1")
        assert said["text"] in (await house.state())["notes"]
        assert await dialects(house) == ["v3"]
        others = house.sim.place(account=14, user=40, instrument=25).order_id
        late = house.sim.place(account=14, user=37, instrument=25).order_id
        await until(lambda: late not in house.open(), "the late order is swept", shown=house.shown)
        await house.confirmed("p-1")
        assert others in house.open()
        assert len(house.cancels()) == told
