"""The runbook's commands, run in the situations that they are for, with the real daemon, broker and simulated OMS.

A situation is an async generator: it brings a house there, and yields before each of its blocks in the runbook, in
their order, what stands for the words in capitals. What it asserts after the last `yield` is what must have come of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import shutil
import sys
from pathlib import Path

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.documents import blocks, printed
from tests.end_to_end.house import BTC_LIMIT, ROOT, WITHIN_S, House, until

pytestmark = pytest.mark.mosquitto

BLOCKS = [block for block in blocks(ROOT / "deploy" / "RUNBOOK.md") if block.run]
ORDERS = SimulatorOptions(orders=24)
CONTACT = {"contact": "prime desk, line 1"}
BTC = 1
VAR = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
stale_after_s = 1

[[rule]]
name = "var-limit"
reading = "var"
kind = "limit"
above = 250000
scope = { oms = "prime", account = "{account}" }
"""


async def tripped(folder):
    async with House(folder, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        house.sim.move_position(14, BTC, to=60)
        trip = await house.any_trip()
        yield house, {}
        house.sim.move_position(14, BTC, to=0)
        await calm(house)
        yield house, {"TRIP": trip}
        yield house, {}
        assert not house.trips()


async def escalated(folder):
    options = SimulatorOptions(orders=24, faults=("lie=always", "lie=always,call=CancelOrder"))
    async with House(folder, options=options, tables=BTC_LIMIT, oms=CONTACT, confirm="deadline_s = 1.0") as house:
        await house.start()
        await house.trip("p-1", account=14)
        told = await house.event("escalated")
        assert told["text"].endswith("call prime desk, line 1")
        for _ in range(4):
            yield house, {}
        assert all(view["state"] == "escalated" for view in house.trips().values())
        assert len(house.trips()) == 2


async def will_not_reset(folder):
    async with House(folder, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        house.sim.move_position(14, BTC, to=60)
        yield house, {"TRIP": await house.any_trip()}
        assert house.trips()


async def broker_gone(folder):
    async with House(folder, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        await asyncio.to_thread(house.broker.stop)

        async def noticed():
            return not any(broker["up"] for broker in (await house.state())["brokers"])

        await until(noticed, "the daemon notices", every_s=0.05)
        yield house, {}
        assert not house.open(account=14)
        yield house, {}
        await asyncio.to_thread(house.broker.start)
        await house.ready()  # by itself


async def unreadable(folder):
    async with House(folder, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        await house.trip("p-1", account=14)
        await house.confirmed("p-1")
        assert await house.stop() == 0
        damaged = b"a hole in the disk" * 1000
        house.journal.write_bytes(damaged)
        await house.start(ready=False)
        assert await house.ended() == 2  # as the runbook says
        assert "is no journal" in house.log()
        order = house.sim.place(14, 37, 25).order_id
        yield house, {}
        assert order not in house.open()
        yield house, {}
        assert Path(f"{folder}.broken", house.journal.name).read_bytes() == damaged
        yield house, {}
        yield house, {}
        yield house, {}
        # The first way: everything is tripped, beside what the broker held.
        await house.start(env={"KILLSWITCH_DAEMON__UNREADABLE_JOURNAL": "sweep"})
        await until(lambda: not house.open(), "everything is swept", shown=house.shown)
        await house.confirmed("p-1")
        await house.stop()
        # The second one, from where the first began.
        for file in folder.glob("killswitch.db*"):
            file.unlink()
        house.journal.write_bytes(damaged)
        yield house, {}
        await house.start()
        await house.confirmed("p-1")
        assert "found retained, not in the journal" in house.trip_of("p-1")["causes"][-1]["text"]


async def without_oms(folder):
    async with House(folder, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        await house.sim.stop()

        async def noticed():
            return not (await house.state())["ready"]

        await until(noticed, "the daemon notices", every_s=0.05)
        yield house, {}


async def not_ready(folder):
    async for step in without_oms(folder):
        yield step


async def session_down(folder):
    async for house, words in without_oms(folder):
        yield house, words
        yield house, words


async def feed_stale(folder):
    async with House(folder, tables=VAR) as house:
        await house.start()
        await house.pub("risk/14/var", "1000")

        async def stale():
            return any(feed["heard"] and feed["stale"] for feed in (await house.state())["feeds"])

        await until(stale, "the feed is stale", every_s=0.05)
        yield house, {}
        yield house, {}


async def uncovered(folder):
    async with House(folder, tables=BTC_LIMIT.replace('"{account}"', "14")) as house:
        yield house, {}


async def drill(folder):
    async with House(folder, tables=BTC_LIMIT) as house:
        await house.start()
        yield house, {}
        yield house, {}
        yield house, {"TRIP": await house.any_trip()}
        await until(lambda: not house.trips(), "it is reset", shown=house.shown)


async def journal_errors(folder):
    async with House(folder, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        room(house, 0)
        await house.trip("p-1", account=14)

        async def noticed():
            return (await house.state())["journal_error"]

        await until(noticed, "the daemon notices", every_s=0.05)
        assert not house.open(account=14)
        yield house, {}
        yield house, {}
        room(house, resource.RLIM_INFINITY)
        await house.ready()  # by itself
        yield house, {}
        await house.confirmed("p-1")


async def gone(folder):
    async with House(folder, options=ORDERS, tables=BTC_LIMIT) as house:
        await house.start()
        await house.kill()
        yield house, {}
        yield house, {}
        assert not house.open(account=14)
        order = house.sim.place(14, 37, 25).order_id
        yield house, {}
        await house.start()
        await until(lambda: order not in house.open(), "it is carried out", shown=house.shown)
        await house.any_trip()


async def watchdog(_folder):
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: apt install prometheus")
    yield None, {}


SITUATIONS = {
    "tripped": tripped,
    "escalated": escalated,
    "will-not-reset": will_not_reset,
    "broker-gone": broker_gone,
    "unreadable": unreadable,
    "not-ready": not_ready,
    "session-down": session_down,
    "feed-stale": feed_stale,
    "uncovered": uncovered,
    "drill": drill,
    "journal-errors": journal_errors,
    "gone": gone,
    "watchdog": watchdog,
}


async def calm(house):
    async def so():
        return not any(rule["breaching"] or rule["unknown"] for rule in (await house.state())["rules"])

    await until(so, "the rules are calm", every_s=0.05)


def room(house, size):
    """No file of the daemon's may grow beyond that: what it writes then fails, as on a full disk."""
    resource.prlimit(house.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def here(text, house, words):
    """The runbook's text, for this house and not for the samples' host."""
    if house is not None:
        words = words | {
            "/etc/killswitch/killswitch.toml": str(house.config),
            "/var/lib/killswitch": str(house.folder),
            "127.0.0.1:9464": f"127.0.0.1:{house.http_port}",
            "-h 127.0.0.1 -p 1883": f"-h {house.broker.host} -p {house.broker.port}",
            "127.0.0.1:1883": f"{house.broker.host}:{house.broker.port}",
        }
    for word, stands_for in words.items():
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda _, it=stands_for: it, text)
    return text


async def run(block, house, words):
    """Run a block as a person at the console would; everything that it showed."""
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith("KILLSWITCH")}
    surroundings["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{surroundings['PATH']}"
    if house is not None:
        surroundings["KILLSWITCH_CONFIG"] = str(house.config)
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-e", "-c", here(block.command, house, words), env=surroundings, cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return process.returncode, output.decode()


@pytest.mark.parametrize("situation", dict.fromkeys(block.run for block in BLOCKS))
async def test_the_runbooks_commands_do_what_it_says(tmp_path, situation):
    folder = tmp_path / "house"
    folder.mkdir()
    async with contextlib.aclosing(SITUATIONS[situation](folder)) as steps:
        for block in (block for block in BLOCKS if block.run == situation):
            house, words = await anext(steps)
            code, output = await run(block, house, words)
            assert code == block.exit, f"{block.where}: {output}"
            assert printed(here(block.prints, house, words), output), f"{block.where}: {block.prints}\n---\n{output}"
        with pytest.raises(StopAsyncIteration):
            await anext(steps)


def test_every_situation_is_one_of_the_runbook():
    assert set(SITUATIONS) == {block.run for block in BLOCKS}
