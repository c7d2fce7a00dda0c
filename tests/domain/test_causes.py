"""The causes of a trip: one for each rule and series, brought up to date, and never too many to be told."""

from __future__ import annotations

import sys
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from killswitch.domain.messages import AnnounceTrip, Reading
from killswitch.domain.picture import CAUSES_MAX
from killswitch.domain.scope import EVERY
from killswitch.domain.settings import FeedSpec, ScopeTemplate
from tests.domain.bench import SETTINGS, Bench
from tests.domain.watch_bench import labels
from tests.domain.watch_bench import rule as limit

if TYPE_CHECKING:
    from collections.abc import Callable

FEED = FeedSpec(name="var", kind="mqtt", reading="var", stale_after_s=1000.0)
ALL = limit("all", scope=ScopeTemplate(oms="prime", account=EVERY), above=Decimal(100))


def bench_of(series: int) -> Bench:
    """A trip of the whole OMS that so many series caused, proven empty."""
    bench = Bench(replace(SETTINGS, feeds=(FEED,), rules=(ALL,)))
    bench.connect()
    for account in range(series):
        said(bench, account, 101)
    bench.settle()
    return bench


def said(bench: Bench, account: int, value: int) -> None:
    bench.tell(Reading(wall=bench.wall, feed="var", name="var", labels=labels(account=account), value=Decimal(value)))


def the_trip(bench: Bench):
    (trip,) = bench.switch.view(bench.now).trips
    return trip


def test_a_cause_that_comes_again_is_one_line_with_its_first_its_last_its_worst_and_how_often():
    bench = bench_of(3)
    for value in (105, 140, 120):
        said(bench, 1, value)
    causes = {cause.labels: cause for cause in the_trip(bench).causes}
    again = causes[labels(account=1)]
    assert (again.count, again.last, again.worst) == (4, "120", "140")
    assert "101" in again.text
    assert [causes[labels(account=n)].count for n in (0, 2)] == [1, 1]


def test_the_worst_is_that_of_all_edges_and_for_a_limit_below_the_lowest():
    bench = bench_of(1)
    for value in (140, 5, 130):
        said(bench, 0, value)
    (cause,) = the_trip(bench).causes
    assert (cause.count, cause.last, cause.worst) == (3, "130", "140")
    low = limit("all", scope=ScopeTemplate(oms="prime", account=EVERY), above=None, below=Decimal(100))
    bench = Bench(replace(SETTINGS, feeds=(FEED,), rules=(low,)))
    bench.connect()
    for value in (90, -5, 300, 80):
        said(bench, 0, value)
    (cause,) = the_trip(bench).causes
    assert (cause.count, cause.last, cause.worst) == (3, "80", "-5")


def test_what_came_again_is_told_with_the_next_announcement():
    bench = bench_of(1)
    bench.forget_actions()
    said(bench, 0, 150)
    bench.tick(bench.now + 5)
    bench.settle()
    told = [action.trip.causes[0].last for action in bench.of(AnnounceTrip)]
    assert told[-1:] == ["150"]


def test_of_very_many_causes_the_first_are_told_and_the_rest_counted():
    trip = the_trip(bench_of(CAUSES_MAX + 7))
    assert (len(trip.causes), trip.more_causes) == (CAUSES_MAX, 7)
    assert trip.causes[0].labels == labels(account=0)
    few = the_trip(bench_of(2))
    assert (len(few.causes), few.more_causes) == (2, 0)


def lines_of(run: Callable[[], None]) -> int:
    """How many lines are run: a search in one expression is one call, but a line each time round."""
    lines = 0

    def trace(_frame: object, event: str, _what: object):
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return lines


def test_a_reading_in_breach_costs_the_same_however_many_series_the_trip_has():
    few, many = bench_of(3), bench_of(300)
    for bench, last in ((few, 2), (many, 299)):
        said(bench, last, 111)  # the first repetition looks for its cause
    assert lines_of(lambda: said(many, 299, 112)) == lines_of(lambda: said(few, 2, 112))


def test_a_new_trip_of_a_scope_that_was_reset_begins_its_counts_anew():
    bench = bench_of(1)
    said(bench, 0, 130)
    first = the_trip(bench).trip
    said(bench, 0, 1)
    bench.settle()
    bench.reset(first)
    assert not bench.switch.view(bench.now).trips
    said(bench, 0, 110)
    (cause,) = the_trip(bench).causes
    assert (cause.count, cause.worst) == (1, "110")
