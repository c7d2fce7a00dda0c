"""A restart in the middle of a window forgets nothing: the next reading that is too much trips, and none before it."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until
from tests.end_to_end.test_rules import DRAWDOWN, FLOOD, feed_up, var

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
BOTH = pytest.mark.parametrize("by", ["SIGTERM", "SIGKILL"])


def slices(house):
    """What the rows on disk hold: the slices of all windows, as (count, total)."""
    with contextlib.closing(sqlite3.connect(f"{house.journal.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute("SELECT body FROM kept_window ORDER BY key").fetchall()
        except sqlite3.OperationalError:  # no such table yet
            return []
    return [(count, total) for (body,) in rows for _, _, count, total in json.loads(body)["slices"]]


def counted(house):
    return sum(count for count, _ in slices(house))


def newest(house):
    return float(slices(house)[-1][1]) if slices(house) else None


async def heard(house, count):
    """Wait until so many readings were handled since the start."""
    await house.metric("killswitch_readings_total{feed=var}", count)


async def end(house, by, holds, expected):
    """End the daemon; before a SIGKILL so much must be on disk as a second of running brings there."""
    if by == "SIGKILL":
        await until(lambda: holds(house) == expected, "the windows are on disk", shown=lambda: str(slices(house)))
        await house.kill()
    else:
        assert await house.stop() == 0
    assert holds(house) == expected


async def begin(house):
    await house.start()
    await until(lambda: feed_up(house), "the feed is subscribed")


@BOTH
async def test_a_rate_window_survives_a_restart(tmp_path, by):
    async with House(tmp_path, options=ORDERS, tables=FLOOD) as house:
        others = house.open() - house.open(account=14)
        await begin(house)
        for value in (1, 2):
            await house.pub("risk/14/var", var(value))
            await house.pub("risk/15/var", var(value))
        await heard(house, 4)
        await end(house, by, counted, 4)

        await begin(house)
        await house.pub("risk/14/var", var(3))
        await heard(house, 1)
        assert not house.trips()
        # A second restart finds what both lives heard.
        await end(house, by, counted, 5)
        await begin(house)
        await house.pub("risk/15/var", var(3))
        await heard(house, 1)
        assert not house.trips()
        await house.pub("risk/14/var", var(4))
        name = await house.any_trip()
        assert house.open() == others
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["last"]) == ("var-flood", "4")


@BOTH
async def test_a_drawdown_goes_on_over_a_restart(tmp_path, by):
    async with House(tmp_path, options=ORDERS, tables=DRAWDOWN.replace("window_s = 60", "window_s = 600")) as house:
        others = house.open() - house.open(account=14)
        await begin(house)
        for value in (40, 100, 97):
            await house.pub("risk/14/var", var(value))
        await heard(house, 3)
        await end(house, by, newest, 97)

        await begin(house)
        await house.pub("risk/14/var", var(90.5))
        await heard(house, 1)
        assert not house.trips()
        await house.pub("risk/14/var", var(90))
        name = await house.any_trip()
        assert house.open() == others
        cause = house.trip_of(name)["causes"][0]
        assert cause["text"].startswith("var 90.0 is 10.0 under 100.0,")

        # In breach it is latched over a restart as one trip, and the next reading makes no other.
        await end(house, by, newest, 90)
        await begin(house)
        await house.pub("risk/14/var", var(89))
        await heard(house, 1)
        await house.confirmed(name)
        assert list(house.trips()) == [name]
        assert house.letters.kinds().count("tripped") == 1


async def test_what_was_not_kept_or_fits_no_rule_any_more_is_warming_and_counts_anew(tmp_path):
    tables = FLOOD.replace("per_s = 60", "per_s = 3")
    async with House(tmp_path, options=ORDERS, tables=tables) as house:
        await begin(house)
        await house.pub("risk/14/var", var(1))

        async def is_whole():
            (rule,) = (await house.state())["rules"]
            return rule["series"] == 1 and rule["warming"] == 0

        await until(is_whole, "the window was watched for its length", every_s=0.05)
        for value in (2, 3):
            await house.pub("risk/14/var", var(value))
        await heard(house, 3)
        await house.stop()

        house.tables = FLOOD.replace("per_s = 60", "per_s = 61")
        house.write_config()
        await begin(house)
        for value in (4, 5, 6):
            await house.pub("risk/14/var", var(value))
        await heard(house, 3)
        assert not house.trips()
        (rule,) = (await house.state())["rules"]
        assert rule["warming"] == 1
        assert (await house.metrics())["killswitch_rule_warming{rule=var-flood}"] == 1
        await house.pub("risk/14/var", var(7))
        await house.any_trip()
