"""The recorder, on a real disk: everything the rules take is in the file, in bounded files, whatever the disk does."""

from __future__ import annotations

import logging
import resource
import signal
import threading
import time
from decimal import Decimal

from killswitch.adapters.recorder import Recorder
from killswitch.domain.messages import (
    Beat,
    FeedUp,
    Heard,
    OpenOrders,
    Order,
    OrderWorking,
    PositionRow,
    Positions,
    Reading,
    SessionUp,
    Tick,
)
from killswitch.domain.settings import FeedSpec
from killswitch.rehearse import lines_of, recordings
from killswitch.wire.recording import Began, Missing

FEEDS = (
    FeedSpec(name="var", kind="mqtt", stale_after_s=5, reading="var"),
    FeedSpec(name="positions", kind="oms", oms="prime", stale_after_s=5),
)


def reading(value, feed="var"):
    return Reading(wall=1000.0 + value, feed=feed, name="var", labels=(("account", "14"),), value=float(value))


def lines(path):
    return [line for line, _ in lines_of(path)]


def values(path):
    return [line.event.value for line in lines(path) if isinstance(line.event, Reading)]


def recorder(path, **more):
    made = Recorder(path, "ks-a", FEEDS, **more)
    made.start(1.0, 1000.0)
    return made


def until(met):
    end = time.monotonic() + 20
    while not met():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_the_rules_took_is_in_the_file_in_order_with_its_clock(tmp_path):
    path = tmp_path / "r.jsonl"
    made = recorder(path)
    made.see(FeedUp(wall=1001.0, feed="var"), 1.5)
    for n in range(1000):
        made.see(reading(n), 2.0 + n)
    made.see(reading(5, feed="nobodys"), 2000.0)
    made.see(Tick(wall=1.0), 2000.0)
    made.close()
    held = lines(path)
    assert isinstance(held[0].event, Began)
    assert isinstance(held[1].event, FeedUp)
    assert values(path) == list(range(1000))
    assert [line.clock_s for line in held] == [1.0, 1.5, *(2.0 + n for n in range(1000))]
    assert made.lost == 0


def test_an_oms_s_events_are_recorded_as_the_readings_that_the_rules_take(tmp_path):
    path = tmp_path / "r.jsonl"
    made = recorder(path)
    row = PositionRow(account=14, product="BTC", amount=Decimal("49.50"), hold=Decimal(1))
    order = Order(account=14, order_id=7, client_order_id=0, instrument=25, entered_by=37)
    made.see(SessionUp(wall=1.0, oms="prime", gateway="g", session=1), 1.0)
    made.see(Positions(wall=1.0, call=1, session=1, account=14, rows=(row,)), 1.1)
    made.see(OpenOrders(wall=1.0, call=2, session=1, account=14, orders=()), 1.2)
    made.see(OrderWorking(wall=1.0, oms="prime", session=1, order=order), 1.3)
    made.see(Heard(wall=1.0, oms="other", session=2), 1.4)
    made.close()
    seen = [(e.name, str(e.value)) for line in lines(path) if isinstance(e := line.event, Reading)]
    assert seen == [("position", "49.50"), ("hold", "1"), ("order", "1"), ("open_orders", "1")]
    kinds = [type(line.event).__name__ for line in lines(path)]
    assert kinds == ["Began", "SessionUp", "Listed", "Reading", "Reading", "Listed", "Heard", *["Reading"] * 2]


def test_files_are_bounded_in_size_and_number_and_hold_the_newest(tmp_path):
    path = tmp_path / "r.jsonl"
    made = recorder(path, size_max=2000, files_max=3)
    for n in range(500):
        made.see(reading(n), float(n))
    made.close()
    files = sorted(f.name for f in tmp_path.iterdir())
    assert files == ["r.jsonl", "r.jsonl.1", "r.jsonl.2"]
    assert all(f.stat().st_size <= 2000 for f in tmp_path.iterdir())
    together = [value for file in recordings([tmp_path]) for value in values(file)]
    assert together == list(range(500 - len(together), 500))
    assert len(together) > 30


def test_a_half_line_of_a_killed_process_is_cut_off_and_the_rest_is_kept(tmp_path):
    path = tmp_path / "r.jsonl"
    made = recorder(path)
    made.see(reading(1), 1.0)
    made.close()
    with path.open("a") as file:
        file.write('{"at":"2026')
    made = recorder(path)
    made.see(reading(2), 1.0)
    made.close()
    assert values(path) == [1, 2]


def test_a_file_that_is_taken_away_is_begun_again(tmp_path):
    path = tmp_path / "r.jsonl"
    made = recorder(path)
    made.see(reading(1), 1.0)
    until(lambda: path.exists() and values(path) == [1])
    path.rename(tmp_path / "moved.jsonl")
    made.see(reading(2), 1.0)
    made.close()
    assert values(tmp_path / "moved.jsonl") == [1]
    assert values(path) == [2]


def test_a_disk_that_takes_nothing_costs_readings_which_are_counted_said_once_and_marked(tmp_path, caplog):
    path = tmp_path / "folder" / "r.jsonl"  # the folder isn't there
    made = recorder(path)
    for n in range(3):
        made.see(reading(n), float(n))
        until(lambda n=n: made.lost >= n + 1)
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    lost = made.lost
    path.parent.mkdir()
    made.see(reading(7), 7.0)
    made.close()
    assert made.lost == lost == 4  # the start as well
    assert [type(line.event) for line in lines(path)] == [Missing, Reading]
    assert lines(path)[0].event.lost == 4
    assert [r.levelno for r in caplog.records] == [logging.ERROR, logging.WARNING]


def test_a_write_that_stops_half_way_leaves_whole_lines_only(tmp_path):
    path = tmp_path / "r.jsonl"
    made = recorder(path)
    made.see(reading(1), 1.0)
    until(lambda: path.exists() and values(path) == [1])
    # A limit on the size of files stands for a disk that is full: a part of a line is written, then no more.
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, before[1]))
    try:
        made.see(reading(2), 2.0)
        until(lambda: made.lost == 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    made.see(reading(3), 3.0)
    made.close()
    assert values(path) == [1, 3]
    assert [line.event.lost for line in lines(path) if isinstance(line.event, Missing)] == [1]


def test_a_disk_that_hangs_never_holds_up_who_sees_and_what_is_dropped_is_counted(tmp_path):
    path = tmp_path / "r.jsonl"
    made = Recorder(path, "ks-a", FEEDS, waiting_max=1000)
    goes_on, append = threading.Event(), made._append

    def hang(data):
        goes_on.wait(60)
        append(data)

    made._append = hang
    made.start(1.0, 1000.0)
    for n in range(30_000):
        made.see(reading(n), float(n))
    assert len(made._waiting) <= 1000
    goes_on.set()
    made.close()
    kept = values(path)
    assert kept[:500] == list(range(500))
    assert made.lost == 30_000 - len(kept) > 25_000
    # What is still to be marked is what came after the last line.
    marked = sum(line.event.lost for line in lines(path) if isinstance(line.event, Missing))
    assert marked + made._unsaid + made._over - made._over_told == 30_000 - len(kept)


def test_beats_and_the_dead_men_that_were_armed_are_in_the_file(tmp_path):
    path = tmp_path / "r.jsonl"
    made = Recorder(path, "ks-a", (*FEEDS, FeedSpec(name="heart", kind="mqtt", stale_after_s=5)))
    made.start(1.0, 1000.0, (("dead", "heart"),))
    beats = [Beat(wall=1001.0, feed="heart"), Beat(wall=1002.0, feed="heart", retained=True)]
    for beat in (*beats, Beat(wall=1003.0, feed="nobody")):
        made.see(beat, beat.wall)
    made.close()
    assert [line.event for line in lines(path)] == [
        Began(wall=1000.0, daemon="ks-a", armed=(("dead", "heart"),)),
        *beats,
    ]
