"""The journal on real files: nothing lost, nothing out of order, and a clear sentence when it can't go on."""

import asyncio
import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from killswitch.adapters import journal as journal_module
from killswitch.adapters import journal_store
from killswitch.adapters.journal import Journal, JournalInUse, JournalUnreadable, read_rows, verify
from killswitch.domain.messages import (
    Called,
    CauseView,
    JournalFailed,
    Journalled,
    Looked,
    Noted,
    Record,
    Started,
    Tripped,
    WasReset,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.wire.record import decode, encode

SCOPE = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)


def trip(n, name=None, *, urgent=False):
    name = name or f"t{n}"
    cause = CauseView("over", "btc", "limit", (), float(n), float(n), 1)
    return Record(n, 1000.0 + n, Tripped(name, SCOPE, cause, "rule btc"), urgent=urgent)


def note(n, text="x"):
    return Record(n, 1000.0 + n, Noted("warning", text))


def ended(n, name):
    return Record(n, 1000.0 + n, WasReset(name, "alice", "calm", "", ""))


class Heard:
    """What the journal submits, and waiting for it."""

    def __init__(self):
        self.events = []
        self._news = asyncio.Event()

    def __call__(self, event):
        self.events.append(event)
        self._news.set()

    async def until(self, true):
        async with asyncio.timeout(30):
            while not any(true(event) for event in self.events):
                self._news.clear()
                await self._news.wait()

    async def journalled(self, n):
        await self.until(lambda event: isinstance(event, Journalled) and event.n >= n)

    async def failed(self, word=""):
        await self.until(lambda event: isinstance(event, JournalFailed) and word in event.why)

    @property
    def failures(self):
        return [event.why for event in self.events if isinstance(event, JournalFailed)]


def opened(path):
    heard = Heard()
    journal, restored = Journal.open(path, submit=heard, wall=lambda: 5.0)
    return journal, restored, heard


@contextlib.asynccontextmanager
async def running(path):
    journal, restored, heard = opened(path)
    task = asyncio.create_task(journal.run())
    try:
        yield journal, restored, heard
    finally:
        await journal.close()
        await asyncio.wait_for(task, 30)


def records(path):
    return [decode(row.data) for row in read_rows(path)]


def spool_of(path):
    return path.with_name(path.name + ".spool")


async def filled(path, *some):
    async with running(path) as (journal, _, _):
        for record in some:
            journal.do(record)


@contextlib.contextmanager
def locked(path):
    """Another program in the middle of a write."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def tamper(path, statement, *values):
    other = sqlite3.connect(path)
    with other:
        other.execute(statement, values)
    other.close()


def program(path, body):
    """A process with a journal of its own: `journal`, `restored`, trip, note; it can be killed."""
    source = f"""
        import asyncio, os
        from pathlib import Path
        from tests.adapters.test_journal import *
        path = Path({str(path)!r})
        journal, restored, heard = opened(path)
    """
    code = textwrap.dedent(source) + textwrap.dedent(body)
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60, cwd=root
    )


# --- in order ----------------------------------------------------------------------------------------------


async def test_what_is_journalled_is_on_disk_in_order_and_chained(tmp_path):
    path = tmp_path / "j.db"
    wanted = [Record(1, 1.0, Started("ks-a", "0.1.0", "f0")), trip(2), *map(note, range(3, 1500)), ended(1500, "t2")]
    async with running(path) as (journal, restored, heard):
        assert restored.fresh
        assert "there was no journal" in restored.warnings[0]
        for record in wanted:
            journal.do(record)
        await heard.journalled(1500)
        assert records(path) == wanted  # read while the writer has it open
        assert verify(path).ok
        assert not heard.failures
        done = [event.n for event in heard.events]
        assert done == sorted(done)
    _, again, _ = opened(path)
    assert (again.fresh, again.warnings, again.next_n) == (False, (), 1501)
    assert (again.trips, again.ended, again.serial) == ((), frozenset({"t2"}), 1)
    assert verify(path).rows == 1500


async def test_a_trip_is_latched_after_a_restart_and_the_chain_goes_on(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, trip(1), trip(2), ended(3, "t1"))
    async with running(path) as (journal, restored, _):
        assert [(kept.trip, kept.scope) for kept in restored.trips] == [("t2", SCOPE)]
        journal.do(trip(restored.next_n))
    assert [record.n for record in records(path)] == [1, 2, 3, 4]
    assert verify(path).ok


async def test_the_writer_syncs_every_commit(tmp_path):
    journal, _, _ = opened(tmp_path / "j.db")

    def pragmas():
        connection = journal._store.connect()
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")]

    assert journal._thread.submit(pragmas).result() == [2, b"wal"]
    await journal.close()


async def test_closing_flushes_what_waits_even_when_nobody_runs_it(tmp_path):
    path = tmp_path / "j.db"
    journal, _, _ = opened(path)
    for n in range(1, 2501):
        journal.do(note(n))
    assert await journal.close() == 0
    assert len(records(path)) == 2500


async def test_a_run_that_is_cancelled_in_the_middle_of_a_write_loses_and_doubles_nothing(tmp_path):
    path = tmp_path / "j.db"
    journal, _, _ = opened(path)
    task = asyncio.create_task(journal.run())
    gate = threading.Event()
    journal._thread.submit(gate.wait)
    for n in range(1, 4):
        journal.do(note(n))
    await asyncio.sleep(0.05)  # its batch is with the thread now
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    gate.set()
    journal.do(note(4))
    assert await journal.close() == 0
    assert [record.n for record in records(path)] == [1, 2, 3, 4]
    assert verify(path).ok


# --- killed ------------------------------------------------------------------------------------------------


def test_a_trip_is_found_by_the_next_start_when_the_process_is_killed_before_the_commit(tmp_path):
    path = tmp_path / "j.db"
    asyncio.run(filled(path, note(1)))
    killed = program(path, "journal.do(note(2)); journal.do(trip(3, urgent=True)); os.kill(os.getpid(), 9)")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [record.n for record in records(path)] == [1]

    journal, restored, _ = opened(path)
    assert [kept.trip for kept in restored.trips] == ["t3"]
    assert restored.next_n == 4
    # It is committed before anything else goes on, and its place in the spool is free again.
    assert records(path) == [note(1), trip(3)]
    assert spool_of(path).read_bytes() == b""
    assert verify(path).ok
    asyncio.run(journal.close())


def test_a_trip_is_found_once_when_the_process_is_killed_between_the_commit_and_the_clearing(tmp_path):
    path = tmp_path / "j.db"
    killed = program(
        path,
        """
        journal._spool.clear = lambda: os.kill(os.getpid(), 9)
        journal.do(trip(1, urgent=True))
        asyncio.run(journal.run())
        """,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert spool_of(path).read_bytes() == encode(trip(1)) + b"\n"
    journal, restored, _ = opened(path)
    assert [kept.trip for kept in restored.trips] == ["t1"]
    assert records(path) == [trip(1)]
    assert restored.serial == 1
    asyncio.run(journal.close())


async def test_the_spool_is_empty_once_its_records_are_committed(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        journal.do(trip(1, urgent=True))
        assert spool_of(path).read_bytes() == encode(trip(1)) + b"\n"
        await heard.journalled(1)
        assert spool_of(path).read_bytes() == b""


@pytest.mark.parametrize("cut", [1, 20, 60])
async def test_a_spool_line_that_was_cut_off_costs_only_itself(tmp_path, cut):
    path = tmp_path / "j.db"
    await filled(path, note(1))
    spool_of(path).write_bytes(encode(trip(2)) + b"\n" + encode(trip(3))[:cut])
    journal, restored, _ = opened(path)
    assert [kept.trip for kept in restored.trips] == ["t2"]
    assert restored.warnings == ("the last line of the spool was cut off while it was written",)
    await journal.close()


async def test_a_line_behind_one_that_was_cut_off_can_be_read(tmp_path):
    path = tmp_path / "j.db"
    journal, _, heard = opened(path)
    full, hole = os.write, iter([10])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: full(fd, data[: next(hole, None)]))
        journal.do(trip(1, urgent=True))
        journal.do(trip(2, urgent=True))
    assert heard.failures == ["the spool can't be written: only a part of the line could be written"]
    assert spool_of(path).read_bytes() == encode(trip(1))[:10] + b"\n" + encode(trip(2)) + b"\n"
    await journal.close()


async def test_spool_lines_come_once_in_the_order_of_their_numbers_and_garbage_between_is_counted(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, note(1), trip(2))
    lines = [trip(5), trip(2), note(4), trip(5)]
    spool_of(path).write_bytes(b"\xff{garbage\n" + b"\n".join(map(encode, lines)))
    journal, restored, _ = opened(path)
    assert records(path) == [note(1), trip(2), note(4), trip(5)]
    assert [kept.trip for kept in restored.trips] == ["t2", "t5"]
    assert restored.warnings == ("1 lines of the spool can't be read",)
    await journal.close()


async def test_a_spooled_trip_whose_number_another_record_took_is_kept_under_a_new_one(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, note(1), note(2))
    spool_of(path).write_bytes(encode(trip(2)) + b"\n")
    journal, restored, _ = opened(path)
    assert [kept.trip for kept in restored.trips] == ["t2"]
    assert restored.next_n == 4
    assert [record.n for record in records(path)] == [1, 2, 3]
    assert verify(path).ok
    await journal.close()


async def test_a_spooled_trip_is_latched_even_when_the_database_is_locked_or_gone(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, note(1))
    spool_of(path).write_bytes(encode(trip(2)) + b"\n")
    with locked(path):
        journal, restored, heard = opened(path)
        assert [kept.trip for kept in restored.trips] == ["t2"]
        assert "for now" in restored.warnings[0]
        assert spool_of(path).read_bytes() != b""
    task = asyncio.create_task(journal.run())
    await heard.journalled(2)
    assert records(path) == [note(1), trip(2)]
    assert spool_of(path).read_bytes() == b""
    await journal.close()
    await task

    spool_of(path).write_bytes(encode(trip(3)) + b"\n")
    path.unlink()
    journal, restored, _ = opened(path)
    assert restored.fresh
    assert [kept.trip for kept in restored.trips] == ["t3"]
    await journal.close()


# --- failing -----------------------------------------------------------------------------------------------


async def test_a_locked_database_is_reported_soon_and_catches_up_in_order_once_it_is_free(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        journal.do(note(1))
        await heard.journalled(1)
        with locked(path):
            journal.do(trip(2, urgent=True))
            await heard.failed("locked")
            for n in range(3, 1300):
                journal.do(note(n))
            await asyncio.sleep(1.2)  # several tries: one sentence
            assert heard.failures == ["the journal can't be written: database is locked"]
            assert [event.n for event in heard.events if isinstance(event, Journalled)] == [1]
            assert spool_of(path).read_bytes() != b""
        await heard.journalled(1299)
        assert [record.n for record in records(path)] == list(range(1, 1300))
        assert verify(path).ok
        assert spool_of(path).read_bytes() == b""


async def test_closing_over_a_locked_database_leaves_everything_in_the_spool(tmp_path):
    path = tmp_path / "j.db"
    journal, _, _ = opened(path)
    task = asyncio.create_task(journal.run())
    with locked(path):
        journal.do(trip(1, urgent=True))
        journal.do(note(2, "not urgent"))
        assert await journal.close(limit_s=0.5) == 0
        journal.do(note(3, "after the end"))
    await asyncio.wait_for(task, 10)
    journal._spool.close()
    journal, restored, _ = opened(path)
    assert records(path) == [trip(1), note(2, "not urgent"), note(3, "after the end")]
    assert [kept.trip for kept in restored.trips] == ["t1"]
    await journal.close()


def test_a_full_disk_loses_nothing(tmp_path):
    path = tmp_path / "j.db"
    done = program(
        path,
        """
        import resource
        big = "x" * 3000
        wanted = [note(n, big) for n in range(1, 41)]

        async def main():
            task = asyncio.create_task(journal.run())
            journal.do(wanted[0])
            await heard.journalled(1)
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
            for record in wanted[1:]:
                journal.do(record)
            journal.do(Record(41, 1.0, trip(41).body, urgent=True))
            await heard.failed("can't be written")
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await heard.journalled(41)
            await journal.close()
            await task
            assert [record.n for record in records(path)] == list(range(1, 42))
            assert verify(path).ok

        asyncio.run(main())
        print("well")
        """,
    )
    assert done.stdout == "well\n", done.stderr


def test_a_spool_that_cannot_grow_is_reported_and_stops_nobody(tmp_path):
    path = tmp_path / "j.db"
    done = program(
        path,
        """
        import resource
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        journal.do(trip(1, urgent=True))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        print(heard.failures)
        journal.do(trip(2, urgent=True))
        asyncio.run(journal.close())
        assert records(path) == [trip(1), trip(2)]
        """,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == '["the spool can\'t be written: File too large"]\n'


async def test_a_journal_that_somebody_removed_is_put_back_with_all_that_it_held(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        journal.do(trip(1))
        await heard.journalled(1)
        path.unlink()
        journal.do(note(2))
        await heard.failed("removed or replaced")
        await heard.journalled(2)
    assert records(path) == [trip(1), note(2)]
    assert verify(path).ok


async def test_records_with_numbers_that_are_taken_are_kept_all_the_same(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        for record in (note(1), note(2), trip(2)):
            journal.do(record)
            await heard.journalled(record.n)
        await heard.failed("under new numbers")
    assert [record.n for record in records(path)] == [1, 2, 3]


async def test_at_the_limit_calls_and_lists_go_first_and_the_journal_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "WAITING_MAX", 20)
    path = tmp_path / "j.db"
    journal, _, heard = opened(path)
    journal._room_at = 20
    bodies = [Called(1, "CancelAllOrders", "prime", 1, "sent", "14"), Looked(2, "prime", 1, 14, 0, "", ())]
    journal.do(Record(1, 1.0, bodies[0], urgent=True))
    for n in range(2, 20):
        journal.do(Record(n, 1.0, bodies[n % 2]) if n % 3 else note(n))
    journal.do(trip(20))
    journal.do(trip(21))  # the twenty-first wants room
    assert journal.dropped == 12
    assert heard.failures == ["12 records were dropped since the start: too many wait for the disk"]
    for n in range(22, 70):
        journal.do(note(n))  # twice the limit: notes go too
    await journal.close()
    kept = records(path)
    assert [record.n for record in kept if isinstance(record.body, Tripped)] == [20, 21]
    assert kept[0].body == bodies[0]  # urgent
    assert [record.n for record in kept] == sorted(record.n for record in kept)
    said = [record.body.text for record in kept if getattr(record.body, "kind", "") == "journal_dropped"]
    assert said
    assert f"{journal.dropped} since the start" in said[-1]
    assert len(kept) < 45
    assert verify(path).ok


# --- what can't be read ------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_gets_a_sentence(tmp_path):
    path = tmp_path / "j.db"
    path.write_bytes(b"this is a letter to my grandmother" * 100)
    for reads in (lambda: opened(path), lambda: verify(path)):
        with pytest.raises(JournalUnreadable, match="is no journal: it is not a database"):
            reads()
    assert path.read_bytes().startswith(b"this is a letter")


def test_somebody_elses_database_gets_a_sentence_and_stays_as_it_is(tmp_path):
    path = tmp_path / "j.db"
    tamper(path, "CREATE TABLE recipes (name)")
    with pytest.raises(JournalUnreadable, match="holds no journal"):
        opened(path)


def test_a_journal_in_a_folder_that_is_not_there_gets_a_sentence(tmp_path):
    with pytest.raises(JournalUnreadable, match="can't be made"):
        opened(tmp_path / "nowhere" / "j.db")
    with pytest.raises(JournalUnreadable, match="there is no journal at"):
        verify(tmp_path / "j.db")
    assert not (tmp_path / "j.db").exists()


def test_an_empty_file_is_a_new_journal_with_a_warning(tmp_path):
    path = tmp_path / "j.db"
    path.touch()
    journal, restored, _ = opened(path)
    assert restored.fresh
    assert "the journal was empty" in restored.warnings[0]
    asyncio.run(journal.close())


async def test_a_second_daemon_is_kept_out(tmp_path):
    path = tmp_path / "j.db"
    async with running(path) as (journal, _, heard):
        with pytest.raises(JournalInUse, match="another process has the journal"):
            opened(path)
        journal.do(trip(1))
        await heard.journalled(1)


async def test_a_journal_of_which_no_row_can_be_read_is_refused(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, trip(1), trip(2))
    tamper(path, "UPDATE record SET body = x'ff00'")
    with pytest.raises(JournalUnreadable, match="none of the 2 rows"):
        opened(path)


async def test_rows_around_a_broken_one_are_folded_and_writing_goes_on(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, trip(1), trip(2), ended(3, "t1"), ended(4, "t2"))
    tamper(path, "UPDATE record SET body = x'fe', wall = 'never', kind = NULL WHERE n = 3")
    async with running(path) as (journal, restored, _):
        assert [kept.trip for kept in restored.trips] == ["t1"]
        assert restored.warnings == ("1 row of the journal (3) can't be read",)
        journal.do(note(5))
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, 3)


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE record SET body = replace(body, 'alice', 'alicf') WHERE n = 3", 3),
        ("DELETE FROM record WHERE n = 2", 3),
        ("UPDATE record SET n = CASE n WHEN 2 THEN 90 ELSE n END", 3),
        ("UPDATE record SET wall = wall + 1 WHERE n = 2", 2),
        ("UPDATE record SET hash = NULL WHERE n = 4", 4),
    ],
)
async def test_verify_finds_what_was_changed_with_a_database_tool(tmp_path, statement, first_bad):
    path = tmp_path / "j.db"
    await filled(path, trip(1), trip(2), ended(3, "t1"), note(4))
    assert verify(path).ok
    tamper(path, statement)
    verdict = verify(path)
    assert (verdict.ok, verdict.first_bad) == (False, first_bad)


async def test_what_lies_before_and_after_a_damaged_page_is_read(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, trip(1), *(note(n, "x" * 300) for n in range(2, 1000)), trip(1000))
    data = bytearray(path.read_bytes())
    page = len(data) // 4096 // 2 * 4096
    data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(bytes(data))
    journal, restored, _ = opened(path)
    assert [kept.trip for kept in restored.trips] == ["t1", "t1000"]
    assert restored.next_n == 1001
    assert "can't be read" in restored.warnings[0]
    assert sum(row.hash is not None for row in read_rows(path)) > 900
    assert not verify(path).ok
    await journal.close()


async def test_readers_write_nothing(tmp_path):
    path = tmp_path / "j.db"
    await filled(path, trip(1))
    before = path.read_bytes()
    path.chmod(0o444)
    assert verify(path).ok
    rows = read_rows(path)
    next(rows)
    rows.close()
    assert path.read_bytes() == before


async def test_what_a_hung_reader_made_the_wal_grow_to_is_given_back(tmp_path):
    path = tmp_path / "j.db"
    wal, big = path.with_name("j.db-wal"), 2 * journal_store.WAL_KEPT_MAX
    async with running(path) as (journal, _, heard):
        journal.do(note(1))
        await heard.journalled(1)
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM record").fetchall()
        numbers = itertools.count(2)

        async def grow(records):
            for n in itertools.islice(numbers, records):
                journal.do(replace(note(n), body=Noted("grown", "x" * 2000)))
            await heard.journalled(n)

        while wal.stat().st_size < big:
            await grow(1000)
        reader.close()
        await grow(1)
        await grow(1)
        assert wal.stat().st_size <= journal_store.WAL_KEPT_MAX


async def test_a_path_with_marks_that_mean_something_in_a_uri_is_a_path_all_the_same(tmp_path):
    path = tmp_path / "50% of ?mode=rwc#1.db"
    await filled(path, trip(1))
    assert verify(path).rows == 1
