"""The backlog where a feed's readings wait for the loop."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.backlog import Backlog
from killswitch.domain.messages import (
    BadReading,
    FeedDown,
    FeedUp,
    Merged,
    PositionRow,
    PositionSeen,
    PriceSeen,
    Reading,
)


def reading(value, series="s"):
    return Reading(wall=0.0, feed="f", name="n", labels=(("series", series),), value=value)


def drained(backlog):
    found = []
    while len(backlog):
        found += backlog.take(7)
    return found


def test_below_its_limit_nothing_is_merged():
    backlog = Backlog(limit=100)
    readings = [reading(float(n)) for n in range(100)]
    for one in readings:
        backlog.put([one])
    assert drained(backlog) == readings
    assert backlog.conflated == 0


def test_at_the_limit_a_spike_stays_a_spike():
    backlog = Backlog(limit=1)
    values = [40.0, 49.0, 49.5, 51.0, 48.0, 47.0, 49.0, 49.1, 49.2, 49.3, 49.4, 49.6]
    for value in values:
        backlog.put([reading(value)])
    kept = drained(backlog)
    assert [r.value for r in kept] == [40.0, 49.0, 51.0, 47.0, 49.6]
    assert backlog.conflated == 7
    assert [r.merged for r in kept] == [
        None,
        None,
        Merged(1, Decimal("49.5")),
        Merged(1, Decimal("48.0")),
        Merged(5, Decimal("246.0")),
    ]


def test_it_says_once_that_it_merges_and_again_after_it_was_emptied():
    backlog = Backlog(limit=1)
    for _ in range(2):
        assert [backlog.put([reading(float(n))]) for n in range(9)] == [False] * 5 + [True] + [False] * 3
        assert len(backlog) == 5
        assert len(drained(backlog)) == 5
        assert not backlog


def test_what_is_older_or_the_same_again_never_stands_in_for_what_counts():
    """A spike of long ago, delivered late, must not push out the spike of now."""
    backlog = Backlog(limit=1)
    said = [(10, 0), (11, 1), (60, 2), (99, 1), (99, 1.5), (12, 3), (12, 3), (13, 4), (14, 5), (15, 6)]
    for value, at in said:
        backlog.put([replace(reading(float(value)), source_at=float(at), wall=100.0)])
    kept = drained(backlog)
    assert [r.value for r in kept] == [10.0, 11.0, 60.0, 12.0, 15.0]
    merged = [r.merged for r in kept if r.merged is not None]
    assert (sum(m.older for m in merged), sum(m.repeated for m in merged)) == (2, 1)


def test_what_is_no_reading_stays_between_those_it_came_between():
    backlog = Backlog(limit=1)
    up, down = FeedUp(wall=0.0, feed="f"), FeedDown(wall=0.0, feed="f", why="gone")
    events = [
        reading(1.0),
        reading(2.0),
        down,
        reading(3.0),
        up,
        reading(9.0),
        reading(4.0),
        reading(5.0),
        reading(6.0),
    ]
    for event in events:
        backlog.put([event])
    said = [e.value if isinstance(e, Reading) else type(e).__name__ for e in drained(backlog)]
    assert said == [1.0, 2.0, "FeedDown", "FeedUp", 9.0, 4.0, 6.0]


def test_a_position_keeps_the_extremes_of_its_amount_and_of_its_hold():
    backlog = Backlog(limit=1)
    rows = [(0, 0), (5, 5), (9, 1), (1, 9), (5, 6), (6, 5), (4, 4), (5, 5)]
    for amount, hold in rows:
        row = PositionRow(14, "BTC", Decimal(amount), Decimal(hold))
        backlog.put([PositionSeen(wall=0.0, oms="prime", session=1, row=row)])
    kept = drained(backlog)
    assert {(9, 1), (1, 9)} < {(e.row.amount, e.row.hold) for e in kept}
    assert (kept[-1].row.amount, kept[-1].row.hold) == (5, 5)
    assert len(kept) + sum(e.merged for e in kept) == len(rows)


def test_the_answer_to_a_call_is_merged_with_nothing():
    backlog = Backlog(limit=1)

    def price(n, call=None):
        return PriceSeen(wall=0.0, oms="o", session=1, instrument=1, bid=Decimal(n), ask=None, last=None, call=call)

    events = [price(0), *(price(n) for n in range(1, 9)), price(5, call=7), *(price(n) for n in range(1, 9))]
    for event in events:
        backlog.put([event])
    kept = drained(backlog)
    assert [e.call for e in kept].count(7) == 1
    assert len(kept) + sum(e.merged for e in kept) == len(events)
    assert len(kept) <= 10


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5)), min_size=1, max_size=80))
def test_first_lowest_highest_and_last_of_each_series_survive_in_order(pushed):
    backlog = Backlog(limit=12)
    for series, value in pushed:
        backlog.put([reading(float(value), series)])
    kept = drained(backlog)
    assert len(kept) + backlog.conflated == len(pushed)
    assert len(kept) + sum(r.merged.count for r in kept if r.merged is not None) == len(pushed)
    assert len(kept) <= 12 + 3 * 6  # first, lowest, highest, last, and both ends of the deepest fall
    for name in "abc":
        sent = [float(v) for s, v in pushed if s == name]
        got = [r.value for r in kept if dict(r.labels)["series"] == name]
        assert not sent or (got[0], min(got), max(got), got[-1]) == (sent[0], min(sent), max(sent), sent[-1])
        rest = iter(sent)
        assert all(value in rest for value in got)  # a subsequence: the order is that of arrival


def test_a_bad_reading_is_kept_for_each_reason():
    backlog = Backlog(limit=10)
    for n in range(30):
        why = ("no_value", "bad_time")[n % 2]
        backlog.put([BadReading(wall=float(n), feed="f", name="n", labels=None, reason=why)])
    kept = drained(backlog)
    assert {bad.reason for bad in kept} == {"no_value", "bad_time"}
    assert len(kept) == 10 + 4
    assert len(kept) + sum(bad.merged for bad in kept) == 30


def test_many_series_are_kept_each_however_small_the_limit():
    backlog = Backlog(limit=10)
    for n in range(100):
        backlog.put([reading(float(n), f"s{n}")])
    assert len(drained(backlog)) == 100
