"""Drawdown rules: a value that fell so far under its highest within a window that moves on."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import Reading
from killswitch.domain.settings import DrawdownRule
from killswitch.domain.watch import peaks as peaks_module
from tests.domain.watch_bench import FALLBACK, OMS_FEED, VAR_FEED, WALL, WARN, Bench, edges, labels, row, rule

D = Decimal
QUIET = replace(VAR_FEED, stale_after_s=1000.0)  # nothing is stale here unless a test is about that
KEY = ("var", "var", labels(account=14))


def drawdown(name="r", **more):
    """10 or more under the highest var in 60 s."""
    like = rule()
    held = {"fall": D(10), "window_s": 60.0, "owner": "desk", "reading": "var", "where": (), "on_stale": WARN}
    return DrawdownRule(name=name, **{**held, "on_bad": WARN, "fallback": FALLBACK, "scope": like.scope, **more})


def up(*rules, feeds=(QUIET,)):
    bench = Bench(*rules, feeds=feeds)
    bench.up(0.0)
    return bench


def test_exactly_the_fall_trips_and_just_under_it_does_not():
    bench = up(drawdown())
    assert [bench.var(value, at) for at, value in ((1.0, 95.0), (2.0, 102.0), (3.0, 92.00001))] == [[], [], []]
    (breach,) = bench.var(92.0, 4.0)
    assert (breach.kind, breach.value, breach.worst, breach.repeated) == ("drawdown", "10.0", "10.0", False)
    text = "var 92.0 is 10.0 under 102.0, 10 or more under its highest in 60 s (account 14; 0.0 s old)"
    assert breach.text == text


def test_a_fall_is_measured_exactly():
    bench = up(drawdown(fall=D("1E-20")))
    assert bench.var(D("1E+40"), 1.0) == []
    assert bench.rule_view("r").headroom == 1.0
    assert edges(bench.var(D("9" * 40 + "." + "9" * 20), 2.0)) == [("r", 14)]


def test_a_rise_and_a_loss_from_the_start_are_no_fall():
    bench = up(drawdown())
    assert [bench.var(value, at) for at, value in enumerate((-500.0, -490.0, 40.0, 1000.0))] == [[], [], [], []]


def test_a_peak_counts_until_window_s_after_it_was_replaced_and_not_at_that_instant():
    for late, trips in ((64.999, [("r", 14)]), (65.0, [])):
        bench = up(drawdown())
        bench.var(100.0, 1.0)
        bench.var(91.0, 5.0)  # here 100 was replaced
        assert edges(bench.var(90.0, late)) == trips


def test_the_value_that_stood_when_the_window_began_counts_however_old_its_reading_is():
    bench = up(drawdown())
    bench.var(100.0, 1.0)
    assert edges(bench.var(90.0, 900.0)) == [("r", 14)]


def test_a_quiet_account_that_only_pings_prove_keeps_its_highest():
    watched = drawdown(reading="position", where=(("product", "BTC"),))
    bench = Bench(watched, feeds=(replace(OMS_FEED, stale_after_s=5.0),))
    bench.session(at=0.0)
    bench.positions(14, row(14, "BTC", 100), at=0.0)
    for at in range(1, 300):
        assert bench.heard(at=float(at)) == []
    assert edges(bench.position(row(14, "BTC", 90), at=300.0)) == [("r", 14)]


def test_further_down_is_the_same_breach_and_its_worst_is_kept():
    bench = up(drawdown())
    found = [bench.var(value, at) for at, value in enumerate((100.0, 90.0, 80.0, 85.0, 85.0))]
    assert [[b.repeated for b in part] for part in found] == [[], [False], [True], [True], []]
    assert (found[3][0].value, found[3][0].worst) == ("15.0", "20.0")


def test_it_trips_again_only_after_the_fall_was_smaller():
    bench = up(drawdown())
    found = [edges(bench.var(value, at)) for at, value in enumerate((100.0, 89.0, 91.0, 90.0, 111.0, 101.0))]
    assert found == [[], [("r", 14)], [], [("r", 14)], [], [("r", 14)]]


def test_a_breach_that_ended_as_its_peak_left_the_window_is_over_though_the_next_reading_is_one_again():
    bench = up(drawdown())
    bench.var(100.0, 0.0)
    assert edges(bench.var(90.0, 1.0)) == [("r", 14)]
    assert edges(bench.var(95.0, 62.0)) == []  # 100 has left, 90 held until now
    assert edges(bench.var(84.0, 63.0)) == [("r", 14)]

    bench = up(drawdown())
    bench.var(100.0, 0.0)
    bench.var(90.0, 1.0)
    assert edges(bench.var(80.0, 61.0)) == [("r", 14)]  # 10 under the 90 that held until now: a new one


def test_headroom_breach_and_calm_are_those_of_now_though_nothing_came():
    bench = up(drawdown())
    bench.var(100.0, 1.0)
    bench.var(85.0, 5.0)
    view = bench.rule_view("r")
    assert (view.headroom, view.breaching, view.kind) == (-0.5, (labels(account=14),), "drawdown")
    assert view.limit == "10 or more under its highest in 60 s"
    said = bench.watch.uncalm("r", labels(account=14), 64.9)
    assert said == "var 85.0 is 15.0 under 100.0, 10 or more under its highest in 60 s (account 14; 59.9 s old)"
    bench.until(65.0)
    view = bench.rule_view("r")
    assert (view.headroom, view.breaching) == (1.0, ())
    assert bench.watch.uncalm("r", labels(account=14), 65.0) is None


def test_a_window_that_is_not_whole_yet_is_warming_and_no_reset():
    bench = Bench(drawdown(), feeds=(QUIET,))
    bench.up(5.0)
    bench.var(1.0, 6.0)
    assert bench.rule_view("r").warming == 1
    said = bench.watch.uncalm("r", labels(account=14), 6.0)
    assert said == "var is warming: its window of 60 s is whole in 59.0 s (account 14; feed var)"
    bench.until(65.0)
    assert bench.rule_view("r").warming == 0


def test_a_value_that_a_broker_retained_holds_from_its_arrival():
    bench = up(drawdown())
    bench.var(100.0, 1.0, fresh=False)
    assert edges(bench.var(90.0, 2.0)) == [("r", 14)]


def test_a_reading_out_of_order_is_no_peak():
    bench = up(drawdown())
    bench.var(95.0, 1.0, source_at=WALL - 1)
    bench.var(105.0, 2.0, source_at=WALL - 5)
    assert bench.var(90.0, 3.0) == []


def test_each_series_and_each_rule_has_a_highest_of_its_own():
    bench = up(drawdown(), drawdown("short", window_s=5.0))
    bench.var(100.0, 0.0)
    bench.var(50.0, 0.0, number=15)
    bench.var(91.0, 1.0)
    assert bench.var(41.0, 2.0, number=15) == []
    assert edges(bench.var(90.0, 7.0)) == [("r", 14)]


STEP = st.tuples(
    st.sampled_from([0.0, 0.0, 0.25, 1.0, 10.0, 30.0, 60.0, 75.0]),
    st.decimals(min_value=-9, max_value=9, places=1),
    st.sampled_from(["keep", "keep", "keep", "undo"]),
)


@given(st.lists(STEP, max_size=60), st.sampled_from(["0.1", "2", "7.5"]))
def test_the_highest_kept_step_by_step_is_the_one_looked_up_anew(steps, fall):
    watched = drawdown(fall=D(fall))
    bench = up(watched)
    kept, now = [], 0.0  # (since, value)

    def anew(at):
        """How far under the highest of what held in the window."""
        untils = [since for since, _ in kept[1:]] + [at]
        held = [value for (_, value), until in zip(kept, untils, strict=False) if until + watched.window_s > at]
        return max(held) - held[-1] if held else D(0)

    def measured(at):
        value, highest = bench.watch._roster.peaks.measure(watched, KEY, at)
        return highest - value

    for wait_s, value, fate in steps:
        now += wait_s
        event = Reading(wall=WALL, feed="var", name="var", labels=labels(account=14), value=value)
        if fate == "undo":
            bench.watch.handle(event, now)
            bench.undo.rollback()
            assert measured(now) == anew(now)
            continue
        before = anew(now)
        found = bench.feed(event, now)
        kept.append((now, value))
        assert bool(edges(found)) == (anew(now) >= watched.fall > before), (found, before)
        for later in (0.0, 0.5, 59.9, 60.0, 100.0):
            assert measured(now + later) == anew(now + later)


def test_a_window_too_full_keeps_its_size_and_its_highest(monkeypatch):
    monkeypatch.setattr(peaks_module, "PARTS_MAX", 8)
    watched = drawdown(fall=D(10_000), window_s=10.0)
    bench = up(watched)
    for n in range(1000):
        bench.var(1000.0 - n, n * 0.009)
    held = bench.watch._roster.peaks
    assert held.measure(watched, KEY, bench.now) == (D("1.0"), D("1000.0"))
    assert len(held._peaks["r", KEY]) <= 17
    # At 14.5 s what was replaced after 4.5 s counts: from 501 on; what shares a peak stays for an eighth longer.
    held.expire(watched, KEY, 14.5)
    _, highest = held.measure(watched, KEY, 14.5)
    assert D(500) <= highest <= D(500 + 139)
    assert held.measure(watched, KEY, bench.now + 10.0) == (D("1.0"), D("1.0"))


@pytest.mark.parametrize("values", [range(5000), range(5000, 0, -1), [n % 7 for n in range(5000)]])
def test_a_reading_costs_the_same_however_many_came_before(values):
    bench = up(drawdown(fall=D(1_000_000), window_s=1e6))
    peaks, undone = bench.watch._roster.peaks, []
    for n, value in enumerate(values):
        peaks.add(drawdown(fall=D(1_000_000), window_s=1e6), KEY, D(value), float(n))
        undone.append(len(bench.undo._steps))
        bench.undo.commit()
    assert sum(undone) <= 3 * 5000


@pytest.mark.parametrize("values", [[5], [5, 4]])
def test_values_that_come_again_are_one_peak(values):
    bench = up(drawdown())
    for n in range(500):
        bench.var(float(values[n % len(values)]), n * 0.01)
    assert len(bench.watch._roster.peaks._peaks["r", KEY]) <= 1
