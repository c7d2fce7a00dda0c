"""A credential that can't cancel, with the real daemon: seen at the sign-in, named everywhere, and cured."""

from __future__ import annotations

import json

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto


async def test_it_is_named_at_the_start_in_readyz_state_and_status_and_gone_at_the_next_sign_in(tmp_path):
    options = SimulatorOptions(orders=12, permissions=("AccountReadOnly",))
    async with House(tmp_path, options=options) as house:
        await house.start(ready=False)
        told = await house.event("could_not_cancel", "neither Trading nor Operator")
        assert told["text"].startswith("prime: it could not cancel: ")
        status, text = await house.get("/readyz")
        assert status == 503
        (missing,) = json.loads(text)["missing"]
        assert missing.startswith("armed, but could not cancel: OMS prime: the credential has neither")
        (session,) = (await house.state())["omses"][0]["sessions"]
        assert (session["up"], session["may_cancel"]) == (True, False)
        await house.metric("killswitch_ready", 0)
        assert house.running, "it is the other side's fault: nothing ends for it"
        house.user.permissions = frozenset({"Operator", "Trading", "CancelEveryOrder"})
        house.sim.drop_sessions()
        await house.event("can_cancel")
        await house.ready()
        await house.metric("killswitch_ready", 1)
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")


async def test_a_second_factor_is_named_and_the_orders_go_one_by_one_all_the_same(tmp_path):
    options = SimulatorOptions(orders=12, two_factor_calls=("CancelAllOrders",))
    async with House(tmp_path, options=options) as house:
        await house.start(ready=False)
        await house.event("could_not_cancel", "cancelallorders wants a second factor")
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert house.open(account=14) == set()
        assert len(house.open()) == 8
        assert (await house.event("escalated", "2FACode"))["trip"] == "p-1"


async def test_a_server_that_knows_neither_question_is_unknown_and_ready(tmp_path):
    faults = ("unknown_call=GetUserPermissions", "unknown_call=GetValidate2FARequiredEndpoints")
    async with House(tmp_path, options=SimulatorOptions(faults=faults)) as house:
        await house.start()

        async def unknown():
            (session,) = (await house.state())["omses"][0]["sessions"]
            return session["may_cancel"] is None and "isn't known" in session["credential"]

        await until(unknown, "it is said to be unknown", shown=house.shown)
        assert (await house.get("/readyz"))[0] == 200
        assert "could_not_cancel" not in house.letters.kinds()


@pytest.mark.parametrize("calls", [8, 9, 10, 12])
async def test_a_token_that_runs_out_in_the_middle_is_signed_in_again_once_and_the_trip_is_proven(tmp_path, calls):
    async with House(tmp_path, options=SimulatorOptions(orders=12, faults=(f"token_expires_after={calls}",))) as house:
        await house.start()
        await house.trip("p-1", account="every")
        await house.event("session_expired", "signing in again")
        await house.confirmed("p-1")
        assert house.open() == set()
        assert len(house.sim.exchange.log.of("AuthenticateUser")) == 2
        assert house.letters.kinds().count("session_expired") == 1
