"""Rate rules: more readings, or a bigger sum of them, than allowed within a window that moves on."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import Reading
from killswitch.domain.settings import RateRule
from killswitch.domain.undo import Undo
from killswitch.domain.watch import windows as windows_module
from tests.domain.watch_bench import FALLBACK, VAR_FEED, WALL, WARN, Bench, breaches, edges, labels, rule

D = Decimal
OFTEN = replace(VAR_FEED, stale_after_s=1000.0)  # nothing is stale here unless a test is about that


def rate(name="r", **more):
    """More than 3 readings of var in 10 s."""
    like = rule()
    held = {"above": D(3), "per_s": 10.0, "owner": "desk", "reading": "var", "where": (), "on_stale": WARN}
    return RateRule(name=name, **{**held, "on_bad": WARN, "fallback": FALLBACK, "scope": like.scope, **more})


def up(*rules, feeds=(OFTEN,)):
    bench = Bench(*rules, feeds=feeds)
    bench.up(0.0)
    return bench


def test_the_reading_that_is_one_too_many_trips_and_says_so():
    bench = up(rate())
    assert [bench.var(1.0, at) for at in (1.0, 2.0, 3.0)] == [[], [], []]
    (breach,) = bench.var(1.0, 4.0)
    assert (breach.kind, breach.value, breach.worst, breach.repeated) == ("rate", "4", "4", False)
    assert breach.text == "var came 4 times, more than 3 readings in 10 s (account 14; 0.0 s old)"


def test_a_sum_trips_when_it_is_above_and_at_it_is_inside():
    bench = up(rate(sum=True))
    assert bench.var(3.0, 1.0) == []
    (breach,) = bench.var(0.25, 2.0)
    assert breach.text == "var adds up to 3.25, above 3 in sum over 10 s (account 14; 0.0 s old)"


def test_a_reading_is_in_the_window_until_per_s_went_by_and_not_at_that_instant():
    for late, trips in ((9.999, [("r", 14)]), (10.0, [])):
        bench = up(rate())
        for at in (0.0, 1.0, 2.0):
            bench.var(1.0, at)
        assert edges(bench.var(1.0, late)) == trips


def test_it_trips_again_only_after_it_was_back_inside():
    bench = up(rate(above=D(1), per_s=5.0))
    found = [bench.var(1.0, at) for at in (0.0, 1.0, 2.0, 6.0, 20.0, 21.0)]
    assert [[b.repeated for b in part] for part in found] == [[], [False], [True], [False], [], [False]]


def test_a_breach_that_ended_while_nothing_came_is_over_though_the_next_reading_is_one_again():
    bench = up(rate(above=D(3), sum=True))
    assert edges(bench.var(4.0, 0.0)) == [("r", 14)]
    assert edges(bench.var(4.0, 60.0)) == [("r", 14)]


def test_each_series_has_a_window_of_its_own():
    bench = up(rate())
    found = [bench.var(1.0, at, number=14 + at % 2) for at in range(7)]
    assert [edges(part) for part in found] == [[], [], [], [], [], [], [("r", 14)]]


def test_a_sum_that_grows_because_something_below_0_left_the_window_trips_without_a_reading():
    bench = up(rate(sum=True))
    bench.var(-5.0, 0.0)
    assert bench.var(6.0, 5.0) == []
    assert bench.until(9.999) == []
    assert edges(bench.until(10.0)) == [("r", 14)]
    assert bench.until(100.0) == []


def test_what_a_broker_retained_is_no_arrival():
    bench = up(rate(above=D(0)))
    assert bench.var(1.0, 1.0, fresh=False) == []
    assert edges(bench.var(1.0, 2.0)) == [("r", 14)]


def test_a_reading_out_of_order_is_not_counted():
    bench = up(rate(above=D(1)))
    bench.var(1.0, 1.0, source_at=WALL - 1)
    assert bench.var(1.0, 2.0, source_at=WALL - 5) == []


def test_headroom_breach_and_calm_are_those_of_now_though_nothing_came():
    bench = up(rate())
    bench.until(20.0)
    for at in (21.0, 22.0, 23.0, 24.0, 24.0):
        bench.var(1.0, at)
    assert bench.rule_view("r").headroom == pytest.approx(-2 / 3)
    assert bench.rule_view("r").breaching == (labels(account=14),)
    said = bench.watch.uncalm("r", labels(account=14), 25.0)
    assert said == "var came 5 times, more than 3 readings in 10 s (account 14; 1.0 s old)"
    bench.until(32.0)
    view = bench.rule_view("r")
    assert (view.headroom, view.breaching, view.kind) == (0.0, (), "rate")
    assert view.limit == "more than 3 readings in 10 s"
    assert bench.watch.uncalm("r", labels(account=14), 32.0) is None


def test_a_window_that_is_not_whole_yet_is_warming_and_no_reset():
    bench = Bench(rate(), rule(name="limit"), feeds=(OFTEN,))
    bench.up(5.0)
    bench.var(1.0, 6.0)
    assert (bench.rule_view("r").warming, bench.rule_view("limit").warming) == (1, 0)
    said = bench.watch.uncalm("r", labels(account=14), 6.0)
    assert said == "var is warming: its window of 10 s is whole in 9.0 s (account 14; feed var)"
    assert bench.watch.uncalm("limit", labels(account=14), 6.0) is None
    bench.until(15.0)
    assert bench.rule_view("r").warming == 0
    assert bench.watch.uncalm("r", labels(account=14), 15.0) is None


def test_a_silent_series_is_unknown_to_a_rate_rule_as_well():
    bench = up(rate(), feeds=(VAR_FEED,))
    bench.var(1.0, 1.0)
    assert [f.text for f in bench.until(6.0)] == ["rule r: var was not heard for 5.0 s (feed var)"]


STEP = st.tuples(
    st.sampled_from([0.0, 0.0, 0.25, 1.0, 3.0, 10.0, 25.0]),
    st.decimals(min_value=-9, max_value=9, places=2),
    st.sampled_from(["keep", "keep", "keep", "undo"]),
)


@given(st.lists(STEP, max_size=60), st.booleans(), st.integers(min_value=0, max_value=8))
def test_the_window_kept_step_by_step_is_the_one_counted_anew(steps, adds, above):
    watched = rate(above=D(above), sum=adds)
    bench = up(watched)
    key = ("var", "var", labels(account=14))
    kept, now = [], 0.0

    def anew(at):
        held = [value for arrived, value in kept if arrived + watched.per_s > at]
        return sum(held, D(0)) if adds else D(len(held))

    for wait_s, value, fate in steps:
        due = now + wait_s
        while (tick := bench.agenda.due()) is not None and tick <= due:
            bench.until(tick)
        now = due
        event = Reading(wall=WALL, feed="var", name="var", labels=labels(account=14), value=value)
        if fate == "undo":
            bench.watch.handle(event, now)
            bench.undo.rollback()
            assert bench.watch._roster.windows.measure(watched, key, now) == anew(now)
            continue
        before = anew(now)
        found = bench.feed(event, now)
        kept.append((now, value))
        assert bench.watch._roster.windows.measure(watched, key, now) == anew(now)
        is_past = anew(now) > above
        assert bool(edges(found)) == (is_past and before <= above), (found, before)
        assert all(b.value == str(anew(now)) for b in breaches(found) if not adds)
        for later in (0.5, 9.9, 10.0, 40.0):
            assert bench.watch._roster.windows.measure(watched, key, now + later) == anew(now + later)


def test_a_window_too_full_keeps_its_size_and_forgets_nothing(monkeypatch):
    monkeypatch.setattr(windows_module, "PARTS_MAX", 8)
    bench = up(rate(above=D(10_000)))
    key = ("var", "var", labels(account=14))
    for n in range(1000):
        bench.var(1.0, n * 0.009)
    held = bench.watch._roster.windows
    assert held.measure(rate(), key, bench.now) == 1000
    assert len(held._parts["r", key]) <= 17
    assert held.measure(rate(), key, bench.now + 10.0) == 0
    # What shares a part stays for at most an eighth of the window longer.
    assert held.measure(rate(), key, 14.5) <= 1000 - 361
    assert held.measure(rate(), key, 14.5) >= 1000 - 501


def test_what_leaves_the_window_at_an_instant_has_left_it_at_that_instant():
    """Else a sum that grows by it would be due again at once, and again."""
    undo = Undo()
    held = windows_module.Windows(undo)
    watched, key = rate(sum=True), ("var", "var", labels(account=14))
    held.add(watched, key, D(-5), 0.0)
    assert held.grows_at(watched, key) == 10.0
    held.expire(watched, key, 10.0)
    assert held.grows_at(watched, key) is None


def test_a_breach_that_time_began_and_ended_before_anybody_was_woken_trips_all_the_same():
    bench = up(rate(sum=True))
    for at, value in ((0.5, -5.0), (0.501, 2.5), (0.502, 1.5)):
        assert bench.var(value, at) == []
    bench.now = 10.6  # 4.0 from 10.5 on, 1.5 from 10.501 on
    assert edges(bench.until(10.6)) == [("r", 14)]
    assert bench.rule_view("r").breaching == ()


def test_a_time_is_told_as_it_was_configured():
    for per_s, said in ((0.25, "0.25 s"), (10.0, "10 s"), (2_592_000.0, "2592000 s"), (1e-05, "0.00001 s")):
        assert up(rate(per_s=per_s)).rule_view("r").limit == f"more than 3 readings in {said}"


def test_a_sum_grows_when_what_is_below_0_leaves_whatever_left_before_it():
    bench = up(rate(sum=True))
    for at, value in ((0.0, 0.0), (1.0, 0.0), (2.0, -5.0), (3.0, 6.0)):
        assert bench.var(value, at) == []
    assert bench.until(11.999) == []
    assert edges(bench.until(12.0)) == [("r", 14)]
