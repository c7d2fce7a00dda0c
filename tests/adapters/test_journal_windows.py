"""Kept windows on real files: rows replaced in place, beside the evidence and never in its way."""

import asyncio
import json
import sqlite3
from decimal import Decimal

import pytest

from killswitch.adapters import journal as journal_module
from killswitch.adapters.journal import read_rows, verify
from killswitch.domain.messages import JournalFailed, Journalled, Keep, KeptWindow, Slice
from tests.adapters.test_journal import filled, locked, note, opened, running, trip


def window(account=14, *totals, rule="r"):
    """One slice a total; none: forget it."""
    slices = tuple(Slice(float(n), float(n), 1, Decimal(total)) for n, total in enumerate(totals, 1))
    return KeptWindow(rule, "d", "var", "var", (("account", str(account)),), 0.5, slices)


def keep(*windows, wall=1000.0):
    return Keep(wall, 50.0, windows)


def rows(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT key, body FROM kept_window ORDER BY key").fetchall()


def damage(path, sql, *values):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql, values)
    connection.close()


async def kept(path, *keeps):
    """A life that keeps these; what the next one finds."""
    async with running(path) as (journal, _, _):
        for action in keeps:
            journal.keep(action)
    return await found(path)


async def found(path):
    async with running(path) as (_, restored, _):
        return restored


async def test_what_was_kept_is_found_with_the_clocks_of_then(tmp_path):
    first, second = keep(window(14, 1, 2), window(15, 3)), keep(window(16, 4), wall=1001.0)
    restored = await kept(tmp_path / "j.db", first, second)
    assert restored.kept == (keep(first.windows[0]), keep(first.windows[1]), second)
    assert (restored.wall, restored.warnings) == (5.0, ())


async def test_a_window_has_one_row_which_the_next_one_replaces_and_an_empty_one_removes(tmp_path):
    path = tmp_path / "j.db"
    await kept(path, keep(window(14, 1), window(15, 1), window(16, 1)))
    restored = await kept(path, keep(window(14, 2)), keep(window(15), window(99)))
    assert [k.windows[0] for k in restored.kept] == [window(14, 2), window(16, 1)]


async def test_the_file_does_not_grow_with_what_is_replaced(tmp_path):
    path = tmp_path / "j.db"
    many = [window(account, *range(120)) for account in range(50)]
    await kept(path, keep(*many))
    before = path.stat().st_size
    async with running(path) as (journal, _, _):
        for n in range(100):
            journal.keep(keep(*many, wall=1000.0 + n))
            await asyncio.sleep(0.002)
    assert path.stat().st_size <= before * 1.25
    assert path.with_name("j.db-wal").exists() is False or path.with_name("j.db-wal").stat().st_size < 9 * 2**20


async def test_a_journal_of_an_earlier_version_gets_the_table_when_something_is_kept(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, trip(1), note(2))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        rows(path)
    before = [(row.n, row.data, row.hash) for row in read_rows(path)]
    restored = await kept(path, keep(window(14, 1)))
    assert [t.trip for t in restored.trips] == ["t1"]
    assert len(restored.kept) == 1
    assert [(row.n, row.data, row.hash) for row in read_rows(path)] == before


async def test_windows_are_no_evidence(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        journal.do(trip(1))
        journal.keep(keep(window(14, 1)))
        journal.do(note(2))
        await heard.journalled(2)
    damage(path, "UPDATE kept_window SET body = ?", json.dumps({"version": 1}))
    verdict = verify(path)
    assert (verdict.ok, verdict.rows) == (True, 2)


@pytest.mark.parametrize(
    "damaged",
    ["not JSON", '{"version":2}', b"\xff\xfe", None, 5],
    ids=["no JSON", "a newer version", "no text", "nothing", "a number"],
)
async def test_a_row_that_can_not_be_read_is_named_once_and_removed_and_the_others_count(tmp_path, damaged):
    path = tmp_path / "j.db"
    await kept(path, keep(window(14, 1), window(15, 2)))
    damage(path, "UPDATE kept_window SET body = ? WHERE key LIKE '%14%'", damaged)
    restored = await kept(path, keep(window(16, 3)))
    assert [k.windows[0] for k in restored.kept] == [window(15, 2), window(16, 3)]
    assert len(rows(path)) == 2
    damage(path, "UPDATE kept_window SET body = ? WHERE key LIKE '%15%'", damaged)
    restored = await found(path)
    assert restored.warnings == ("1 window that was kept can't be read, and must warm up again",)
    assert [k.windows[0] for k in restored.kept] == [window(16, 3)]


async def test_a_row_under_another_windows_key_is_not_believed(tmp_path):
    path = tmp_path / "j.db"
    await kept(path, keep(window(14, 1)))
    damage(path, "UPDATE kept_window SET key = 'x'")
    assert (await found(path)).kept == ()


async def test_a_table_that_is_not_ours_keeps_nobody_from_starting(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, trip(1))
    damage(path, "CREATE TABLE kept_window (something TEXT)")
    async with running(path) as (journal, restored, heard):
        assert [t.trip for t in restored.trips] == ["t1"]
        assert "not all windows that were kept can be read" in restored.warnings[0]
        journal.keep(keep(window(14, 1)))
        await heard.failed("windows can't be kept")
        journal.do(note(2))
        await heard.journalled(2)
        assert len(heard.failures) == 1


async def test_what_keeps_windows_from_the_disk_holds_no_record_back(tmp_path, monkeypatch):
    """And it is said that all is well again once they are written, though no record comes."""
    monkeypatch.setattr(journal_module, "RETRY_S", 30.0)
    path = tmp_path / "j.db"
    await filled(path, trip(1))
    damage(path, "CREATE TABLE kept_window (something TEXT)")
    async with running(path) as (journal, _, heard):
        journal.keep(keep(window(14, 1)))
        await heard.failed("windows can't be kept")
        for n in range(2, 6):
            journal.do(note(n))
            await heard.journalled(n)
        damage(path, "DROP TABLE kept_window")
        heard.events.clear()
        journal._windows_at = 0.0
        journal.keep(keep(window(15, 1)))
        await heard.until(lambda event: isinstance(event, Journalled) and event.n == 5)
    assert [k.windows[0] for k in (await found(path)).kept] == [window(14, 1), window(15, 1)]


async def test_records_are_written_before_windows_that_came_earlier(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        with locked(path):
            journal.keep(keep(window(14, 1)))
            await heard.failed()
            journal.do(note(1))
            journal.keep(keep(window(14, 2)))
            await asyncio.sleep(0.1)
        await heard.journalled(1)
    assert [k.windows[0] for k in (await found(path)).kept] == [window(14, 2)]


async def test_only_the_newest_of_a_window_waits_for_a_disk_that_is_away(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        with locked(path):
            for n in range(2000):
                journal.keep(keep(window(14 + n % 3, n)))
            await heard.failed()
            assert len(journal._windows) <= 3
    assert [k.windows[0].slices[0].total for k in (await found(path)).kept] == [1998, 1999, 1997]


async def test_a_journal_that_can_only_be_read_gives_its_windows(tmp_path):
    path = tmp_path / "j.db"
    await kept(path, keep(window(14, 1)))
    with locked(path):
        journal, restored, heard = opened(path)
        try:
            assert len(restored.kept) == 1
            assert not any(isinstance(event, JournalFailed) for event in heard.events)
        finally:
            await journal.close(0.1)
