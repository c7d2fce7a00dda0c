"""A recording of the real daemon under rules of all kinds trips in a replay as the daemon did, and when it did."""

from __future__ import annotations

import asyncio
import json
import random
import signal

import pytest

from killswitch.adapters.journal import read_rows
from killswitch.config import load_rules
from killswitch.rehearse import Rehearsal, lines_of, recordings
from killswitch.simulator.world import SimulatorOptions
from killswitch.wire.announce import scope_json
from tests.end_to_end.house import House, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
FEEDS = """
[[feed]]
name = "market"
kind = "oms"
oms = "prime"
stale_after_s = 30
numeraire = "USD"

[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
stale_after_s = 30

[[feed]]
name = "nack"
kind = "mqtt"
topic = "desk/{account}/nack"
reading = "nack"
stale_after_s = 30

[[feed]]
name = "entry"
kind = "mqtt"
topic = "desk/{account}/entry"
reading = "entry"
stale_after_s = 30

[[feed]]
name = "heart"
kind = "mqtt"
topic = "desk/beat"
stale_after_s = 30
"""


def rule(name, kind, **keys):
    said = {"name": name, "kind": kind, "scope": {"oms": "prime", "account": "{account}"}} | keys
    return "\n[[rule]]\n" + "\n".join(f"{key} = {toml(held)}" for key, held in said.items()) + "\n"


def toml(held):
    if isinstance(held, dict):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in held.items()) + " }"
    return json.dumps(held)


DESK = {"oms": "prime", "account": 16}
TIMED = ("lasts", "sum", "share", "var-old", "var-dead", "heart", "poor", "poorer", "oms-heart")
RULES = (
    rule("above", "limit", reading="var", above=60, warn_at=[0.5, 0.9])
    + rule("lasts", "limit", reading="var", above=40, for_s=0.6)
    + rule("drop", "drawdown", reading="var", fall=70, window_s=3, warn_at=[0.8])
    + rule("count", "rate", reading="var", above=60, per_s=2)
    + rule("sum", "rate", reading="var", above=400, per_s=2, sum=True)
    + rule("share", "ratio", reading="nack", over="entry", above=0.5, window_s=2, at_least=4)
    + rule("refused", "ratio", reading="reject", over="order", above=0.5, window_s=60, at_least=2)
    + rule("var-old", "stale", reading="var", older_than_s=1.5)
    + rule("var-dead", "stale", feed="var", older_than_s=1.8, scope=DESK)
    + rule("heart", "deadman", feed="heart", silent_s=1.5, arm="first", scope=DESK)
    + rule("oms-heart", "deadman", feed="market", silent_s=60, scope=DESK)
    + rule("btc", "limit", reading="position", above=30, where={"product": "BTC"})
    + rule("poor", "limit", reading="equity", below=1_000_000)
    + rule("poorer", "drawdown", reading="equity", fall=400_000, window_s=60)
    + rule("crash", "limit", reading="price", where={"instrument": "25"}, below=40_000, scope=DESK)
)


def tripped(house):
    """(when, rule, scope, cause) of each cause that the daemon wrote down, the first of each rule and scope."""
    made, scopes = {}, {}
    for row in read_rows(house.journal):
        body = json.loads(row.data)["body"] if row.kind in ("tripped", "cause_added") else {}
        if row.kind == "tripped":
            scopes[body["trip"]] = {name: part for name, part in body["scope"].items() if part != "every"}
        if body:
            scope = scopes[body["trip"]]
            made.setdefault((body["cause"]["rule"], str(scope)), (row.wall, body["cause"]["text"]))
    return made


def replayed(house):
    rehearsal = Rehearsal(load_rules(house.config, {}))
    made = {}
    for file in recordings([house.folder]):
        for line, _ in lines_of(file):
            for trip in rehearsal.take(line):
                made.setdefault((trip.rule, str(scope_json(trip.scope))), (trip.at, trip.cause))
    return made


def assert_alike(house):
    live, again = tripped(house), replayed(house)
    assert set(live) == set(again)
    for (name, scope), (at, cause) in live.items():
        told_at, told = again[name, scope]
        if name in TIMED:  # a timer of the daemon's is late by what the machine takes, and a replay's is not
            assert abs(at - told_at) < 1.0, (name, scope)
        else:
            assert (told, abs(at - told_at) < 5e-6) == (cause, True), (name, scope)
    return live


async def test_all_kinds_of_rules_trip_in_a_replay_when_they_did_live_also_over_restarts(tmp_path):
    chance = random.Random(7)
    async with House(tmp_path, options=ORDERS, tables=FEEDS + RULES, daemon='record = "day.jsonl"') as house:
        base, quote = house.sim.exchange.instruments[25].base, house.sim.exchange.instruments[25].quote
        for account in house.sim.exchange.accounts:
            house.sim.move_position(account, base, to=20)
            house.sim.move_position(account, quote, to=5_000_000)
        house.sim.set_price(25, bid=60_000, ask=60_000)
        async with house.client() as client:

            async def traffic(turns, level):
                for turn in range(turns):
                    account = 14 + turn % 2
                    await client.publish(f"risk/{account}/var", chance.randint(-level, level), qos=1)
                    if turn % 3 == 0:
                        word = chance.choice(["nack", "entry", "entry"])
                        await client.publish(f"desk/{account}/{word}", 1, qos=1)
                    if turn % 5 == 0:
                        await client.publish("desk/beat", "alive", qos=1)
                    if turn % 20 == 0:
                        house.sim.set_price(25, bid=60_000 - turn * 10, ask=60_000)
                    await asyncio.sleep(chance.choice([0, 0.01, 0.03]))

            await house.start()
            await traffic(150, 35)
            assert await house.stop() == 0
            await house.start()
            await traffic(100, 35)
            await house.kill()
            await house.start()
            await traffic(60, 80)
            house.sim.drop_sessions()
            for n in range(4):
                house.sim.reject_order(14, client_order_id=n)
                house.sim.place(14, 37, 25)
            await traffic(100, 95)
            house.sim.move_position(15, base, to=31)
            await traffic(40, 100)
            house.sim.set_price(25, bid=39_000, ask=39_000)
            house.sim.move_position(14, quote, to=100)
        want = {"above", "drop", "var-old", "var-dead", "heart", "btc", "poor", "poorer", "crash"}
        await until(lambda: want <= {name for name, _ in tripped(house)}, "all trip", every_s=0.2, shown=house.shown)
        async with house.client() as client:  # a recording goes as far as its last line
            await client.publish("risk/14/var", 0, qos=1)
        await asyncio.sleep(0.2)
        assert await house.stop() == 0
        made = {name for name, _ in assert_alike(house)}
        assert want <= made


async def test_what_waited_while_the_daemon_was_stopped_trips_nothing_in_a_replay_either(tmp_path):
    old = rule("var-old", "stale", reading="var", older_than_s=1.5) + rule("above", "limit", reading="var", above=60)
    heart = rule("heart", "deadman", feed="heart", silent_s=1.5, scope=DESK)
    async with House(tmp_path, options=ORDERS, tables=FEEDS + old + heart, daemon='record = "day.jsonl"') as house:
        async with house.client() as client:

            async def calm(times):
                for _ in range(times):
                    await client.publish("risk/14/var", 1, qos=1)
                    await client.publish("desk/beat", "alive", qos=1)
                    await asyncio.sleep(0.1)

            await house.start()
            await calm(10)
            house.signal(signal.SIGSTOP)
            await calm(30)
            house.signal(signal.SIGCONT)
            await calm(5)
            assert tripped(house) == {}
            await client.publish("risk/14/var", 61, qos=1)
            await house.any_trip()
            await calm(2)
        assert await house.stop() == 0
        assert [name for name, _ in assert_alike(house)] == ["above"]
