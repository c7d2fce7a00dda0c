"""Garbage on every topic, and another side that refuses or isn't there: a clear word, and nothing else happens."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, iso, trip_command, until

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
TABLES = """
[[panic]]
name = "desk"
topic = "desk/button"
match = { action = "emergency" }
scope = { oms = "prime", account = 14 }

[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
value = "v"
stale_after_s = 60

[[rule]]
name = "var-limit"
reading = "var"
kind = "limit"
above = 100
scope = { oms = "prime", account = "{account}" }
"""
TRIP, RESET = "killswitch/command/trip", "killswitch/command/reset"


def bad(**changes):
    """A trip command with these changes; None takes a key away."""
    said = json.loads(trip_command("bad-1", account=14)) | changes
    return json.dumps({key: value for key, value in said.items() if value is not None})


NO_RECEIPT = [
    b"",
    b"\xff\xfe\x00garbage",
    b"null",
    b"[]",
    b"NaN",
    b'{"id": ',
    b"[" * 60_000,
    b"x" * 70_000,
    bad(id=None),
    bad(id="a/b"),
    bad(id="#"),
    bad(id=""),
    bad(id=7),
    '{"id": "bad-1", "id": "bad-2", "scope": {"oms": "prime", "account": 14}, "by": "a", "reason": "b"}',
    '{"id": "bad-1", "scope": {"oms": "prime", "account": NaN}, "by": "a", "reason": "b"}',
]
"""No valid id can be read from these, so nobody can be answered."""
WITH_RECEIPT = [
    '{"id": "bad-1"}',
    bad(scope=[]),
    bad(scope={"oms": "prime"}),
    bad(scope={"oms": "prime", "instrument": 25}),
    bad(scope={"oms": "prime", "acount": 14}),
    bad(scope={"oms": "prime", "user": 37, "acount": 14}),
    bad(scope={"oms": "prime", "account": 0}),
    bad(scope={"oms": "prime", "account": -14}),
    bad(scope={"oms": "prime", "account": "14"}),
    bad(scope={"oms": "prime", "account": 14.0}),
    bad(scope={"oms": "prime", "account": True}),
    '{"id": "bad-1", "scope": {"oms": "prime", "account": null}, "by": "a", "reason": "b"}',
    '{"id": "bad-1", "scope": {"oms": "prime", "user": 37, "account": null}, "by": "a", "reason": "b"}',
    '{"id": "bad-1", "scope": {"oms": "prime", "account": 14, "account": 15}, "by": "a", "reason": "b"}',
    bad(by=None),
    bad(by=""),
    bad(reason=None),
    bad(issued_at="yesterday"),
    bad(override=True),
]


async def test_no_garbage_on_any_topic_trips_or_stops_anything(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=TABLES) as house:
        await house.start()
        async with house.client() as client:
            for payload in (*NO_RECEIPT, *WITH_RECEIPT):
                await client.publish(TRIP, payload, qos=1)
                await client.publish(RESET, payload, qos=1)
                await client.publish("desk/button", payload, qos=1)
                await client.publish("risk/14/var", payload, qos=1)
                await client.publish("risk/0/var", payload, qos=1)
                await client.publish("killswitch/trip/nonsense", b"", qos=1)
            await client.publish(TRIP, bad(id=None), qos=1, retain=True)
        each = len(NO_RECEIPT) + len(WITH_RECEIPT)
        await house.metric("killswitch_commands_total{command=trip,result=malformed}", each + 1)
        await house.metric("killswitch_commands_total{command=reset,result=malformed}", each)
        await house.metric("killswitch_commands_total{command=panic,result=ignored}", each)

        # Two receipts (trip and reset) for each that has an id, none for the others.
        await until(
            lambda: len(house.letters.receipts["bad-1"]) == 2 * len(WITH_RECEIPT), "receipts", shown=house.shown
        )
        assert list(house.letters.receipts) == ["bad-1"]
        assert not any(receipt["accepted"] for receipt in house.letters.receipts["bad-1"])
        assert all(receipt["reason"] for receipt in house.letters.receipts["bad-1"])
        await until(lambda: house.letters.kinds().count("refused") == 2 * each + 1, "an event each", shown=house.shown)
        metrics = await house.metrics()
        assert sum(v for k, v in metrics.items() if k.startswith("killswitch_bad_readings_total{feed=var")) > each
        assert not house.cancels()
        assert not house.trips()
        assert metrics["killswitch_state{state=armed}"] == 1

        # It lives, and what is good is carried out.
        await house.trip("good", account=14)
        await house.confirmed("good")
        # A retained command without an id comes again at each connect, and is refused each time.
        await house.stop()
        await house.start()
        await house.metric("killswitch_commands_total{command=trip,result=malformed}", 1)
        assert list(house.trips()) == ["good"]


async def test_scopes_that_are_not_ours_are_refused_with_a_reason(tmp_path):
    async with House(tmp_path, options=ORDERS, oms={"whole_oms": False}) as house:
        await house.start()
        await house.pub(TRIP, bad(id="b-1", scope={"oms": "other", "account": 14}))
        await house.pub(TRIP, bad(id="b-2", scope={"oms": "prime", "account": "every"}))
        await house.reset("b-3", "no-such-trip")
        for name, why in (("b-1", "no OMS of that name"), ("b-2", "whole_oms"), ("b-3", "no such trip")):
            receipt = await house.receipt(name)
            assert receipt["accepted"] is False
            assert why in receipt["reason"]
        await house.metric("killswitch_commands_total{command=trip,result=refused}", 2)
        await house.metric("killswitch_commands_total{command=reset,result=refused}", 1)
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        old = {"id": "b-4", "trip": "p-1", "by": "bob", "reason": "calm", "issued_at": iso(0)}
        await house.pub(RESET, json.dumps(old))
        assert "issued_at" in (await house.receipt("b-4"))["reason"]
        over = {"id": "b-5", "trip": "p-1", "by": "bob", "reason": "calm", "issued_at": iso(), "override": True}
        await house.pub(RESET, json.dumps(over))
        assert "override" in (await house.receipt("b-5"))["reason"]
        assert len(house.cancels()) == 1


async def test_a_retained_command_with_an_id_counts_once(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.pub(TRIP, trip_command("p-1", account=14), "-r")
        await house.start()
        await house.confirmed("p-1")
        await house.reset_at_last("p-1")
        await until(lambda: not house.trips(), "it is over", shown=house.shown)
        kept = house.sim.place(14, 37, 25).order_id
        await house.stop()
        await house.start()
        receipt = await house.receipt("p-1", count=2)
        assert (receipt["accepted"], receipt["reason"]) == (False, "id already used")
        assert not house.trips()
        assert kept in house.open()


async def missing(house):
    """What /readyz says is missing; None while it is ready."""
    status, text = await house.get("/readyz")
    return json.loads(text)["missing"] if status == 503 else None


async def test_a_wrong_secret_leaves_it_running_and_does_not_lock_the_user(tmp_path):
    async with House(tmp_path, options=ORDERS, confirm="deadline_s = 1.0") as house:
        (tmp_path / "prime.secret").write_text("not-the-secret-at-all")
        await house.start(ready=False)
        await house.event("sign_in_refused")
        assert await missing(house) == ["no signed-in session to prime"]
        await house.trip("p-1", account=14)
        await house.event("escalated")
        assert (await house.receipt("p-1"))["accepted"] is True
        await asyncio.sleep(2)
        assert house.running
        assert len(house.sim.exchange.log.of("AuthenticateUser")) <= 4
        assert not house.user.locked
        assert (await house.metrics())["killswitch_ready"] == 0
        assert "not-the-secret-at-all" not in house.log()


async def test_an_oms_that_is_away_leaves_it_running_and_sweeping(tmp_path):
    async with House(tmp_path, options=ORDERS, confirm="deadline_s = 1.0") as house:
        await house.sim.stop()
        await house.start(ready=False)
        await until(lambda: missing(house), "it says what is missing", every_s=0.05)
        await house.trip("p-1", account=14)
        await house.event("escalated")
        assert house.trip_of("p-1")["orders_left"] is None
        assert house.trip_of("p-1")["outcome"] != "VERIFIED"
        await house.sim.start()
        await house.confirmed("p-1")
        assert not house.open(account=14)
        await until(lambda: house.letters.retained["killswitch/state"]["state"] == "confirmed", "the lamp shows it")


async def test_a_broker_that_is_away_leaves_it_ready_and_tripping(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await asyncio.to_thread(house.broker.stop)
        await house.start(ready=False)

        async def is_ready():
            return (await house.get("/readyz"))[0] == 200

        await until(is_ready, "it is ready without a broker", every_s=0.05)
        text = (await house.get("/readyz"))[1]
        assert [broker["up"] for broker in json.loads(text)["brokers"]] == [False]
        command = ["curl", "-s", "-H", "Content-Type: application/json", "-d", trip_command("p-1", account=14)]
        process = await asyncio.create_subprocess_exec(
            *command, f"http://127.0.0.1:{house.http_port}/command/trip", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert json.loads(said)["accepted"] is True
        await until(lambda: not house.open(account=14), "its orders are cancelled")
        await asyncio.to_thread(house.broker.start)
        await house.confirmed("p-1")


@pytest.mark.parametrize("by_key", [True, False], ids=["key", "password"])
async def test_no_secret_shows_anywhere(tmp_path, by_key):
    broker_password = secrets.token_urlsafe(16)
    sign_in = {} if by_key else {"user_id": None, "api_key": None, "secret_file": None, "username": "operator"}
    if not by_key:
        sign_in["password_file"] = "oms.password"
    async with House(tmp_path, options=ORDERS, oms=sign_in, password=broker_password) as house:
        house.keep_secret("oms.password", house.user.password)
        await house.start("--log-level", "debug")
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        house.sim.drop_sessions()
        await until(lambda: len(house.sim.exchange.log.of("AuthenticateUser")) > 1, "it signs in again")
        await asyncio.to_thread(house.broker.restart)
        await house.proofs("p-1", 2)

        pid = house.process.pid
        shown = {
            "log": house.log_file.read_bytes(),
            "cmdline": _proc(pid, "cmdline"),
            "environ": _proc(pid, "environ"),
            "letters": json.dumps([house.letters.retained, house.letters.events, house.letters.receipts]).encode(),
        }
        for path in ("/metrics", "/state", "/readyz", "/healthz"):
            shown[path] = (await house.get(path))[1].encode()
            assert shown[path]
        for file in tmp_path.glob("killswitch.db*"):
            shown[file.name] = file.read_bytes()
        assert "killswitch.db" in shown
        assert b"DEBUG" in shown["log"]
        for secret in (house.user.api_secret, house.user.password, broker_password):
            leaks = [where for where, text in shown.items() if secret.encode() in text]
            assert not leaks


def _proc(pid, what):
    return Path(f"/proc/{pid}/{what}").read_bytes()
