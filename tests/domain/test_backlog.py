"""The backlog where a feed's readings wait for the loop."""

from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.backlog import Backlog
from killswitch.domain.messages import BadReading, Reading


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
    backlog = Backlog(limit=10)
    values = [49.0, 49.5, 51.0, 48.0, 47.0, 49.0, 49.1, 49.2, 49.3, 49.4, 49.6]
    for value in values:
        backlog.put([reading(value)])
    assert [r.value for r in drained(backlog)] == [49.0, 51.0, 47.0, 49.6]
    assert backlog.conflated == 7


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5)), min_size=1, max_size=80))
def test_first_lowest_highest_and_last_of_each_series_survive_in_order(pushed):
    backlog = Backlog(limit=12)
    for series, value in pushed:
        backlog.put([reading(float(value), series)])
    kept = drained(backlog)
    assert len(kept) + backlog.conflated == len(pushed)
    assert len(kept) <= 24 + 1
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
    assert {bad.reason for bad in drained(backlog)} == {"no_value", "bad_time"}


def test_many_series_are_kept_each_however_small_the_limit():
    backlog = Backlog(limit=10)
    for n in range(100):
        backlog.put([reading(float(n), f"s{n}")])
    assert len(drained(backlog)) == 100
