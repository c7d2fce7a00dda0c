"""A restart in the middle of a window forgets nothing: the next reading that is too much trips, and none before it."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.end_to_end.house import House, until
from tests.end_to_end.test_rules import FLOOD, feed_up, var

pytestmark = pytest.mark.mosquitto

ORDERS = SimulatorOptions(orders=24)
BOTH = pytest.mark.parametrize("by", ["SIGTERM", "SIGKILL"])


def kept(house):
    """How much the rows on disk hold: the counts of all slices of all windows."""
    with contextlib.closing(sqlite3.connect(f"{house.journal.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute(
                "SELECT sum(json_extract(value, '$[2]')) FROM kept_window, json_each(body, '$.slices')"
            ).fetchone()
        except sqlite3.OperationalError:  # no such table yet
            return 0
    return rows[0] or 0


async def heard(house, count):
    """Wait until so many readings were handled since the start."""
    await house.metric("killswitch_readings_total{feed=var}", count)


async def end(house, by, in_rows):
    """End the daemon; before a SIGKILL so much must be on disk as a second of running brings there."""
    if by == "SIGKILL":
        await until(lambda: kept(house) == in_rows, "the windows are on disk", shown=lambda: str(kept(house)))
        await house.kill()
    else:
        assert await house.stop() == 0
    assert kept(house) == in_rows


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
        await end(house, by, in_rows=4)

        await begin(house)
        await house.pub("risk/14/var", var(3))
        await heard(house, 1)
        assert not house.trips()
        # A second restart finds what both lives heard.
        await end(house, by, in_rows=5)
        await begin(house)
        await house.pub("risk/15/var", var(3))
        await heard(house, 1)
        assert not house.trips()
        await house.pub("risk/14/var", var(4))
        name = await house.any_trip()
        assert house.open() == others
        cause = house.trip_of(name)["causes"][0]
        assert (cause["rule"], cause["last"]) == ("var-flood", "4")


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
        await house.pub("risk/14/var", var(7))
        await house.any_trip()
