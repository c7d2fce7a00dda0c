"""SIGHUP: the configuration is read again while the daemon runs, all of it or nothing, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import signal
import socket

import pytest
from websockets.asyncio.server import serve

from killswitch.simulator.faults import Latency
from killswitch.simulator.gateway import Simulator
from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, proven, until
from tests.end_to_end.ports import quiet_port

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)


def feed(name, topic=None):
    return f"""
[[feed]]
name = "{name}"
kind = "mqtt"
topic = "{topic or f"risk/{{account}}/{name}"}"
reading = "{name}"
stale_after_s = 600
"""


def rule(name, reading="var", **keys):
    held = {"kind": "limit", "above": 50, "reading": reading} | keys
    lines = [f"{key} = {json.dumps(value)}" for key, value in held.items()]
    return "\n".join(["[[rule]]", f'name = "{name}"', *lines, 'scope = { oms = "prime", account = "{account}" }', ""])


async def reload(house, expected="reloaded"):
    """Write the configuration as the house has it now, say SIGHUP, and wait for what comes of it; the event."""
    house.write_config()
    return await hup(house, expected)


async def hup(house, expected="reloaded"):
    before = house.letters.kinds().count(expected)
    house.signal(signal.SIGHUP)
    await until(lambda: house.letters.kinds().count(expected) > before, f"{expected} is told", shown=house.shown)
    return [event for event in house.letters.events if event["kind"] == expected][-1]


async def heard(house, name, value, account=14):
    """Publish a reading and wait until it was taken."""
    series = f"killswitch_readings_total{{feed={name}}}"
    before = (await house.metrics())[series]
    await house.pub(f"risk/{account}/{name}", str(value))
    await house.metric(series, before + 1)


async def feed_is_up(house, name):
    async def so():
        return f'"{name}"' in json.dumps((await house.state())["feeds"]) and next(
            f["up"] for f in (await house.state())["feeds"] if f["feed"] == name
        )

    await until(so, f"{name} is up", shown=house.shown, every_s=0.05)


async def test_a_new_rule_trips_a_removed_one_does_not_and_their_series_come_and_go(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=feed("var") + rule("old")) as house:
        await house.start()
        await feed_is_up(house, "var")
        await heard(house, "var", 40)
        first = await house.metrics()
        assert first["killswitch_config_last_reload_successful"] == 1
        house.tables = feed("var") + rule("new", above=100)
        event = await reload(house)
        assert 'added rule "new"; removed rule "old"' in event["text"]
        now = await house.metrics()
        assert "killswitch_trips_total{kind=limit,rule=old}" not in now
        assert "killswitch_rule_headroom_ratio{rule=old}" not in now
        assert now["killswitch_trips_total{kind=limit,rule=new}"] == 0
        assert now["killswitch_rule_headroom_ratio{rule=new}"] == 0.6  # what was known of the series is known to it
        fingerprints = [{k for k in held if k.startswith("killswitch_build_info")} for held in (first, now)]
        assert len(fingerprints[1]) == 1
        assert fingerprints[0] != fingerprints[1]
        await heard(house, "var", 60)
        assert not house.trips()
        await heard(house, "var", 101)
        name = await house.any_trip()
        assert name.startswith("new~")
        assert house.cancels() == [{"OMSId": 1, "AccountId": 14}]


async def test_a_value_beyond_a_new_limit_trips_at_the_reload(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=feed("var") + rule("var")) as house:
        await house.start()
        await feed_is_up(house, "var")
        await heard(house, "var", 40)
        house.tables = feed("var") + rule("var", above=30)
        await reload(house)
        assert (await house.any_trip()).startswith("var~")


async def test_a_rate_window_goes_on_over_reloads_and_trips_at_its_reading(tmp_path):
    often = rule("often", kind="rate", above=3, per_s=600)
    async with House(tmp_path, options=ORDERS, tables=feed("var") + often) as house:
        await house.start()
        await feed_is_up(house, "var")
        for n in range(3):
            await heard(house, "var", n)
            house.tables = feed("var") + often + rule(f"more-{n}", above=1000)
            await reload(house)
        assert not house.trips()
        await heard(house, "var", 4)
        assert (await house.any_trip()).startswith("often~")


async def test_a_file_with_mistakes_changes_nothing_and_says_them_all(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=feed("var") + rule("var")) as house:
        await house.start()
        await feed_is_up(house, "var")
        house.tables = feed("var") + rule("var", above="s3cret-nonsense", kind="limit") + rule("x", nokey=1)
        event = await reload(house, "reload_refused")
        assert len(event["detail"]["reasons"]) >= 2
        assert 'rule "var".above' in event["text"]
        assert "s3cret-nonsense" not in house.log() + json.dumps(house.letters.events)
        assert (await house.metrics())["killswitch_config_last_reload_successful"] == 0
        await heard(house, "var", 51)
        await house.any_trip()
        house.tables = feed("var") + rule("var")
        await reload(house)
        assert (await house.metrics())["killswitch_config_last_reload_successful"] == 1


async def test_what_cant_change_while_it_runs_is_refused_in_a_sentence_each(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        text = house.config.read_text("utf-8")
        (tmp_path / "other").mkdir()
        for was, now, said in (
            ('name = "ks-a"', 'name = "ks-b"', "[daemon].name can't be changed while it runs"),
            ('name = "ks-a"', 'name = "ks-a"\njournal = "sqlite:///x.db"', "[daemon].journal can't be changed"),
            ('name = "ks-a"', 'name = "ks-a"\nmode = "shadow"', "[daemon].mode can't be changed"),
            (f"127.0.0.1:{house.http_port}", f"127.0.0.1:{quiet_port()}", "[http].listen can't be changed"),
            (house.broker.url, "mqtt://127.0.0.1:1", "[mqtt].urls can't be changed"),
            ("[mqtt]", '[mqtt]\nprefix = "other"', "[mqtt].prefix can't be changed"),
            (
                'name = "prime"',
                'name = "second"',
                "OMS prime: it can't be removed or renamed while trip p-1 is latched",
            ),
        ):
            assert was in text
            house.config.write_text(text.replace(was, now), "utf-8")
            assert said in (await hup(house, "reload_refused"))["text"]
            assert (await house.metrics())["killswitch_config_last_reload_successful"] == 0
        assert proven(house.trip_of("p-1"))
        house.config.write_text(text, "utf-8")
        await hup(house)
        await house.reset_at_last("p-1")


async def test_a_reload_in_the_middle_of_a_sweep_leaves_the_sweep_to_its_end(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        house.sim.faults.inject(Latency(delay_s=0.5))
        await house.trip("p-1", account=14)
        await until(house.cancels, "the cancel arrives")
        house.tables = feed("var") + rule("var")
        house.sections["confirm"] = "empties = 3"
        await reload(house)
        await house.trip("p-2", account=15)
        await house.confirmed("p-1", "p-2")
        assert not house.open(account=14)
        await house.event("confirmed", "3 empty rounds in a row")


async def test_feeds_over_mqtt_come_and_go_and_the_others_are_not_disturbed(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=feed("var") + feed("pnl")) as house:
        await house.start()
        await feed_is_up(house, "var")
        await heard(house, "pnl", 1)
        house.tables = feed("var") + feed("margin") + rule("margin", reading="margin")
        await reload(house)
        await feed_is_up(house, "margin")
        await house.pub("risk/14/pnl", "2")
        await heard(house, "var", 1)
        assert "killswitch_readings_total{feed=pnl}" not in await house.metrics()
        # The same name, another topic: nothing that the old one says is taken for it.
        house.tables = feed("var", "other/{account}/var") + feed("margin") + rule("var")
        await reload(house)
        await feed_is_up(house, "var")
        await house.pub("risk/14/var", "60")
        await heard(house, "margin", 60)
        assert not house.trips()
        await house.pub("other/14/var", "60")
        assert (await house.any_trip()).startswith("var~")
        assert not any(event["kind"] == "stale" for event in house.letters.events)


def button(name, topic, account):
    scope = f'scope = {{ oms = "prime", account = {account} }}'
    return f'[[panic]]\nname = "{name}"\ntopic = "{topic}"\n{scope}\n'


async def test_a_new_button_presses_and_one_that_is_gone_does_not(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=button("old", "desk/old", 14)) as house:
        await house.start()
        house.tables = button("new", "desk/new", 15)
        assert 'panic "old", panic "new"' in (await reload(house))["text"]

        async def pressed():
            await house.pub("desk/new", "x")
            return house.trips()

        await until(pressed, "the new button presses", shown=house.shown, every_s=0.2)
        assert "Received UNSUBSCRIBE" in house.broker.log()  # a durable session would hold it for ever
        await house.pub("desk/old", "x")
        await house.trip("p-1", account=16)
        await house.confirmed("p-1")
        await until(lambda: all(map(proven, house.trips().values())), "all are proven", shown=house.shown)
        assert sorted(view["scope"]["account"] for view in house.trips().values()) == [15, 16]


async def test_a_feed_over_a_websocket_starts_with_a_reload_and_ends_with_one(tmp_path):
    clients = set()

    async def handle(client):
        clients.add(client)
        with contextlib.suppress(Exception):
            async for _ in client:
                pass
        clients.discard(client)

    async with serve(handle, "127.0.0.1", 0) as server, House(tmp_path, options=ORDERS) as house:
        await house.start()
        stream = f"""
[[feed]]
name = "desk"
kind = "websocket"
url = "ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
subscribe = ["hello"]
reading = "margin"
value = "m"
labels = {{ account = "a" }}
stale_after_s = 600
"""
        house.tables = stream + rule("margin", reading="margin")
        await reload(house)
        await until(lambda: clients, "it has connected")
        await feed_is_up(house, "desk")
        for client in tuple(clients):
            await client.send(json.dumps({"m": 51, "a": 14}))
        assert (await house.any_trip()).startswith("margin~")
        house.tables = ""
        await reload(house)
        await until(lambda: not clients, "the connection is let go")


async def test_an_oms_that_comes_with_a_reload_is_swept_and_one_that_goes_is_let_go(tmp_path):
    second = Simulator(SimulatorOptions(orders=24))
    await second.start()
    try:
        async with House(tmp_path, options=ORDERS, tables=feed("var")) as house:
            await house.start()
            await feed_is_up(house, "var")
            user = second.exchange.users[second.options.api_user]
            house.keep_secret("second.secret", user.api_secret)
            table = {
                "name": "second",
                "oms_id": second.exchange.oms_id,
                "gateways": [second.url],
                "dialect": "v2",
                "user_id": user.user_id,
                "api_key": user.api_key,
                "secret_file": "second.secret",
                "accounts": list(second.exchange.accounts),
            }
            lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in table.items())
            there = rule("there").replace('"prime"', '"second"')
            house.tables = feed("var") + f"[[oms]]\n{lines}\n" + there
            await reload(house)
            await house.ready()
            await heard(house, "var", 60)
            await house.any_trip()
            assert not second.exchange.open_ids(account=14)
            assert house.open(account=14)
            trip = next(iter(house.trips()))
            house.tables = feed("var")
            assert "OMS second: it can't be removed" in (await reload(house, "reload_refused"))["text"]
            house.tables = feed("var") + f"[[oms]]\n{lines}\n" + there
            await heard(house, "var", 1)
            await house.reset_at_last(trip)
            house.tables = feed("var")
            await reload(house)
            metrics = await house.metrics()
            assert not [series for series in metrics if "oms=second" in series]
            assert [oms["oms"] for oms in (await house.state())["omses"]] == ["prime"]
    finally:
        await second.stop()


async def test_another_secret_makes_a_new_session_before_the_old_one_is_let_go(tmp_path):
    async with House(tmp_path, options=ORDERS) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        house.user.api_secret = "rotated-secret"
        (tmp_path / "prime.secret").write_text("wrong-secret", "utf-8")
        assert 'changed oms "prime"' in (await reload(house))["text"]
        await house.event("sign_in_refused")
        assert (await house.state())["ready"]  # the old session serves on
        gateway = house.sim.url.removeprefix("ws://").partition("/")[0]
        await house.metric(f"killswitch_session_up{{gateway={gateway},oms=prime}}", 1)
        await house.trip("p-2", account=15)
        await house.confirmed("p-2")
        (tmp_path / "prime.secret").write_text("rotated-secret", "utf-8")
        up = house.letters.kinds().count("session_up")
        await reload(house)
        await until(lambda: house.letters.kinds().count("session_up") > up, "the new one", shown=house.shown)
        await house.proofs("p-1", 2)
        await house.proofs("p-2", 2)
        kinds = [e["kind"] for e in house.letters.events]
        assert kinds.index("session_up") < kinds.index("session_down")
        assert "wrong-secret" not in house.log()
        assert "rotated-secret" not in house.log()


async def test_removing_the_rule_in_the_file_is_no_way_round_the_reset(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=feed("var") + rule("var")) as house:
        await house.start()
        await feed_is_up(house, "var")
        await heard(house, "var", 51)
        trip = await house.any_trip()
        house.tables = feed("var")
        await reload(house)
        await house.reset("r-1", trip)
        assert "var 51.0 is above 50" in (await house.receipt("r-1"))["reason"]
        await heard(house, "var", 1)
        await house.reset_at_last(trip)
        accepted = [r for receipts in house.letters.receipts.values() for r in receipts if r["accepted"]]
        assert accepted[-1]["reason"].startswith("rule removed: var (configuration ")


async def test_another_password_at_the_broker_is_tried_before_it_is_believed(tmp_path):
    async with House(tmp_path, options=ORDERS, password="right") as house:
        await house.start()
        (tmp_path / "mqtt.password").write_text("wrong", "utf-8")
        event = await reload(house, "reload_refused")
        assert "[mqtt]: the new sign-in was tried in vain" in event["text"]
        assert "wrong" not in event["text"]
        (tmp_path / "mqtt.password").write_text("right", "utf-8")
        await reload(house)
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")


async def test_systemd_is_told_when_a_reload_begins_and_when_it_is_over(tmp_path):
    name = f"killswitch-test-{secrets.token_hex(8)}"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notified:
        notified.bind(f"\0{name}")
        notified.setblocking(False)
        said = []

        def heard_(times):
            with contextlib.suppress(BlockingIOError):
                while True:
                    word = notified.recv(4096).decode()
                    said.extend([word] if not word.startswith("WATCHDOG") else [])
            return said.count("READY=1") >= times

        async with House(tmp_path, options=ORDERS) as house:
            await house.start(env={"NOTIFY_SOCKET": f"@{name}"})
            await reload(house)
            await until(lambda: heard_(2), "the reload is over")
            house.config.write_text("no configuration", "utf-8")
            await hup(house, "reload_refused")
            await until(lambda: heard_(3), "so is one that was refused")
            ready, reloading, *_ = said
            assert (ready, reloading.split("=")[0]) == ("READY=1", "RELOADING")
            assert [word.split("\n")[0] for word in said[1:5]] == ["RELOADING=1", "READY=1"] * 2
            lines = dict(line.split("=") for line in reloading.split("\n"))
            assert int(lines["MONOTONIC_USEC"]) > 0


async def test_a_recording_begins_and_ends_with_a_reload(tmp_path):
    async with House(tmp_path, options=ORDERS, tables=feed("var")) as house:
        await house.start()
        await feed_is_up(house, "var")
        house.sections["daemon"] = 'record = "kept.jsonl"'
        await reload(house)
        await heard(house, "var", 7)
        del house.sections["daemon"]
        await reload(house)
        await heard(house, "var", 8)
        kept = tmp_path / "kept.jsonl"
        await until(lambda: kept.exists() and '"value":7' in kept.read_text("utf-8"), "it is recorded")
        await asyncio.sleep(0.5)
        assert '"value":8' not in kept.read_text("utf-8")
