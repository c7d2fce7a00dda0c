"""Readings that were merged in a flood trip what they would have tripped one by one."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from killswitch.domain.backlog import Backlog
from killswitch.domain.settings import FeedSpec
from tests.domain.test_peaks import drawdown
from tests.domain.test_rates import rate
from tests.domain.watch_bench import WALL, Bench, edges, labels, rule

D = Decimal
FEED = FeedSpec(name="var", kind="mqtt", reading="var", stale_after_s=1000.0)
RULES = (
    rule("above", above=D(7)),
    rule("below", above=None, below=D(2)),
    rule("size", absolute=True, above=D(8)),
    rate("count", above=D(12)),
    rate("sum", above=D(40), sum=True),
    drawdown("drop", fall=D(6), window_s=60.0),
)
VALUES = st.integers(0, 10)
SIGNED = st.integers(-10, 10)
STEPS = st.sampled_from([1, 1, 1, 0, -1, 5])


def fed(readings, flood, limit=0):
    """The bench after these readings, and then the flood through a backlog; all of it within one instant."""
    bench = Bench(*RULES, feeds=(FEED,))
    bench.up(0.0)
    found = [found for one in readings for found in bench.feed(one, 1.0)]
    if limit is not None:
        backlog = Backlog(limit)
        backlog.put(flood)
        flood = iter(backlog.pop, None)
    return bench, found + [found for one in flood for found in bench.feed(one, 1.0)]


def readings_of(bench, rows, source_at=None):
    """(account, value, step of the source's clock), as they arrive."""
    for account, value, step in rows:
        if source_at is not None:
            source_at += step
        held = labels(account=account)
        yield bench.reading(D(value), account, labels=held, source_at=source_at, wall=WALL)


def rows(values):
    return st.lists(st.tuples(st.sampled_from([14, 15]), values, STEPS), max_size=60)


def seen(bench):
    rules, (feed,) = bench.watch.view(bench.now)
    return [(r.rule, r.breaching, r.headroom, r.series) for r in rules], feed.readings, feed.bad


@given(rows(VALUES), rows(VALUES), st.booleans())
@example([], [(14, value, 1) for value in (5, 1, 10, 4, 9)], False)  # a fall between neither end
@example([], [(14, 1, 1), (14, 2, 1), (14, 0, 1), (14, 1, 0), (14, 0, 0)], True)  # corrected, and back again
def test_merged_or_not_the_same_rules_trip_for_the_same_series_and_stand_the_same_afterwards(before, flood, timed):
    """What may differ: how often one trips that swings in and out of its limit within the flood."""
    maker = Bench(*RULES, feeds=(FEED,))
    # In order, so that none of the flood is older than what was there before it.
    early = list(readings_of(maker, [(a, v, 1) for a, v, _ in before], WALL - 1000 if timed else None))
    late = list(readings_of(maker, flood, WALL - 500 if timed else None))
    one_by_one, found = fed(early, late, limit=None)
    merged, found_merged = fed(early, late)
    assert set(edges(found)) == set(edges(found_merged))
    assert seen(one_by_one) == seen(merged)


@given(rows(SIGNED))
def test_of_both_signs_too_for_limits_and_counts(flood):
    """A sum whose readings have both signs may peak between the ones that are kept: its end is right, its peak may
    pass unseen. All else is as it would have been."""
    maker = Bench(*RULES, feeds=(FEED,))
    late = list(readings_of(maker, flood))
    one_by_one, found = fed([], late, limit=None)
    merged, found_merged = fed([], late)
    assert {e for e in edges(found) if e[0] != "sum"} == {e for e in edges(found_merged) if e[0] != "sum"}
    assert set(edges(found_merged)) <= set(edges(found))
    assert seen(one_by_one) == seen(merged)


def test_a_count_is_that_of_all_that_arrived():
    maker = Bench(feeds=(FEED,))
    flood = list(readings_of(maker, [(14, 5, 1)] * 5000))
    bench, found = fed([], flood, limit=10)
    assert bench.feed_view("var").readings == 5000
    watched = next(r for r in RULES if r.name == "count")
    assert bench.watch._roster.windows.measure(watched, ("var", "var", labels(account=14)), 1.0) == 5000
    assert ("count", 14) in edges(found)


def test_what_a_broker_retained_is_no_arrival_in_a_flood_either():
    maker = Bench(feeds=(FEED,))
    flood = [replace(one, fresh=n % 2 == 0) for n, one in enumerate(readings_of(maker, [(14, 3, 1)] * 20))]
    bench, found = fed([], flood)
    watched = next(r for r in RULES if r.name == "count")
    assert bench.watch._roster.windows.measure(watched, ("var", "var", labels(account=14)), 1.0) == 10
    assert edges(found) == []
