"""The outcome wherever people look: an order that can't be cancelled, an account that can't be listed, no session."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from killswitch.simulator.faults import Lie, Stragglers
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import ROOT, House, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
SOON = "deadline_s = 1.0"


async def cli(house, verb, *more):
    """A verb as a person runs it: exit code and what it says, without line breaks."""
    argv = [sys.executable, "-m", "killswitch", verb, "--config", str(house.config), *more]
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def told(house, outcome, words, *scope):
    """That outcome with those words, at every place where a live trip shows, and its id."""
    trip = ("--oms", "prime", *scope, "--by", "ann", "--reason", "r", "--wait", "4")
    code, said = await cli(house, "trip", *trip)
    assert code == 1
    assert f"{outcome}: not verified within 4 s" in said
    assert words[1:] in " ".join(said.split())  # it begins a sentence there
    (name,) = house.trips()

    def published():
        view = house.trip_of(name)
        return view["state"] == "escalated" and view["outcome"] == outcome and view["remaining"]["text"] == words

    await until(published, "it is published", shown=house.shown)
    event = await house.event("escalated")
    assert event["detail"]["outcome"] == outcome
    assert words in event["text"]
    assert "call the desk" in event["text"]
    (shown,) = (await house.state())["trips"]
    assert (shown["outcome"], shown["remaining"]["text"], shown["why"]) == (outcome, words, "not within 1 s")
    _, said = await cli(house, "status")
    assert f"{name}: escalated, {outcome}" in said
    assert words in " ".join(said.split())
    _, said = await cli(house, "status", "--json")
    assert json.loads(said)["trips"][0]["remaining"]["text"] == words
    code, said = await cli(house, "reset", name, "--by", "ann", "--reason", "r", "--json")
    refused = json.loads(said)
    assert (code, refused["reason"], refused["outcome"], refused["remaining"]) == (1, "escalated", outcome, words)
    return name


async def journalled(house, kind):
    with closing(sqlite3.connect(house.journal)) as journal:
        rows = journal.execute("SELECT body FROM record WHERE kind = ?", (kind,)).fetchall()
    return [json.loads(row[0])["body"] for row in rows]


async def test_an_order_that_can_not_be_cancelled_is_named_wherever_people_look(tmp_path):
    async with House(tmp_path, options=ORDERS, confirm=SOON, oms={"contact": "the desk"}) as house:
        house.sim.faults.inject(Stragglers(orders=1))
        house.sim.faults.inject(Lie(call="CancelOrder"))
        left = max(house.open(account=14))
        user = house.sim.exchange.orders[left].entered_by
        words = f"1 order remains: {left} (account 14, user {user})"
        await house.start()
        name = await told(house, "RESIDUAL", words, "--account", "14")
        (order,) = house.trip_of(name)["remaining"]["orders"]
        assert (order["order"], order["account"], order["user"]) == (left, 14, user)
        trip = ("--oms", "prime", "--account", "14", "--by", "ann", "--reason", "r", "--wait", "2", "--direct")
        code, said = await cli(house, "trip", *trip)
        assert (code, "RESIDUAL: not verified within 2 s" in said) == (1, True), said
        assert words in " ".join(said.split())
        code, said = await cli(house, "trip", *trip, "--json")
        assert json.loads(said)["trip"]["remaining"]["orders"][0]["order"] == left
        await house.stop()
        assert f"is NOT confirmed, orders left: 1; RESIDUAL, {words}" in house.log()
        (moved,) = await journalled(house, "moved")
        assert (moved["outcome"], moved["orders"], moved["unseen"]) == ("RESIDUAL", [left], [])
        (stopped,) = await journalled(house, "stopped")
        assert stopped["left"] == f"{name}: RESIDUAL, {words}"


async def test_an_account_that_can_not_be_listed_is_named_wherever_people_look(tmp_path):
    oms = {"accounts": [14, 15, 16, 99], "contact": "the desk"}
    async with House(tmp_path, options=ORDERS, confirm=SOON, oms=oms) as house:
        await house.start()
        words = "account that could not be looked at: 99 (Resource Not Found)"
        name = await told(house, "UNKNOWN", words, "--account", "every")
        assert not house.open()
        held = house.trip_of(name)
        assert held["remaining"]["accounts_unseen"] == [{"account": 99, "why": "Resource Not Found"}]
        assert (await house.state())["trips"][0]["accounts_unseen"] == [99]
        trip = ("--oms", "prime", "--account", "every", "--by", "ann", "--reason", "r", "--wait", "2", "--direct")
        code, said = await cli(house, "trip", *trip)
        assert (code, words[1:] in " ".join(said.split())) == (1, True), said
        assert (await journalled(house, "moved"))[-1]["unseen"] == [99]


async def test_without_a_session_it_is_said_that_nobody_could_look(tmp_path):
    async with House(tmp_path, options=ORDERS, confirm=SOON, oms={"contact": "the desk"}) as house:
        await house.start()
        await house.sim.stop()
        await house.event("session_down")
        words = "account that could not be looked at: 14 (no signed-in session)"
        name = await told(house, "UNKNOWN", words, "--account", "14")
        assert house.trip_of(name)["orders_left"] is None
        await house.sim.start()
        await house.confirmed(name)
        assert "remaining" not in house.trip_of(name)
        await house.reset_at_last(name)
        reset = await house.event("reset")
        assert "VERIFIED, reset by bob" in reset["text"]
        accepted = [r[-1] for r in house.letters.receipts.values() if r[-1]["accepted"] and r[-1]["reason"] == "reset"]
        assert accepted[-1]["outcome"] == "VERIFIED"
        (body,) = await journalled(house, "was_reset")
        assert body["outcome"] == "VERIFIED"
