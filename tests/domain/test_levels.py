"""Warnings before the limit: once on the way up, again only after the value fell back, and never a trip."""

from decimal import Decimal

import pytest

from killswitch.domain.watch.rules import Warned
from tests.domain.test_peaks import drawdown
from tests.domain.test_rates import OFTEN, rate
from tests.domain.test_ratios import Desk, ratio
from tests.domain.watch_bench import Bench, edges, rule, warned

D = Decimal
LEVELS = (D("0.5"), D("0.75"), D("0.9"))  # of 50: 25, 37.5, 45; let go at 22.5, 35, 42.5


def up(*rules):
    bench = Bench(*rules)
    bench.up(0.0)
    return bench


def said(bench, *values, **more):
    """Of each value, the percents that were warned of."""
    return [[f.text.split(" has used ")[1].split(" %")[0] for f in bench.var(v, **more)] for v in values]


def test_a_warning_names_the_rule_the_value_the_level_and_the_series():
    found = up(rule(warn_at=LEVELS)).var(45.0)
    text = "rule r: var 45.0 has used 90 % of its limit, above 50.0 (account 14; 0.0 s old)"
    assert found == [Warned("near_limit", "r", "var", text)]


def test_a_level_is_said_once_on_the_way_up_and_at_it_is_reached():
    bench = up(rule(warn_at=LEVELS))
    assert said(bench, 24.999, 25.0, 30.0, 37.4, 37.5, 45.0, 49.0) == [[], ["50"], [], [], ["75"], ["90"], []]


def test_a_level_is_said_again_only_after_the_value_fell_back_by_the_margin_below_it():
    bench = up(rule(warn_at=LEVELS))
    assert said(bench, 45.0, 42.5, 45.0) == [["90"], [], []]
    assert said(bench, 42.4, 45.0) == [[], ["90"]]
    assert said(bench, 34.9, 38.0, 22.4, 26.0) == [[], ["75"], [], ["50"]]


def test_a_jump_over_several_levels_is_one_warning_of_the_highest():
    assert said(up(rule(warn_at=LEVELS)), 46.0) == [["90"]]


def test_a_breach_is_not_warned_of_beside_and_its_end_says_no_level_that_it_passed_by():
    bench = up(rule(warn_at=LEVELS))
    found = bench.var(51.0)
    assert (edges(found), warned(found)) == ([("r", 14)], [])
    assert said(bench, 46.0, 42.0, 45.0) == [[], [], ["90"]]


def test_past_a_limit_that_must_last_is_warned_of_until_it_trips():
    bench = up(rule(warn_at=LEVELS, for_s=2.0))
    assert warned(bench.var(51.0, 1.0)) == ["near_limit"]
    assert edges(bench.until(3.0)) == [("r", 14)]


def test_each_series_and_each_rule_has_levels_of_its_own():
    bench = up(rule(warn_at=LEVELS), rule(name="wide", above=D(90), warn_at=(D("0.5"),)))
    assert [(f.rule, f.kind) for f in bench.var(45.0, number=14)] == [("r", "near_limit"), ("wide", "near_limit")]
    assert len(bench.var(45.0, number=15)) == 2
    assert bench.var(45.0, number=14) == []


@pytest.mark.parametrize(
    ("more", "calm", "near", "again"),
    [
        ({"below": D(50)}, 60.0, 55.0, 57.6),  # used: 1 - headroom, so 0.9 of it is 55
        ({"above": D(-50)}, -60.0, -55.0, -57.6),
        ({"below": D(-50)}, -40.0, -45.0, -42.4),
        ({"above": D(50), "absolute": True}, -10.0, -45.0, -42.4),
        ({"above": D("1E+300")}, 0.0, D("9E+299"), D("8.4E+299")),
    ],
)
def test_the_level_is_where_the_headroom_is_what_is_left(more, calm, near, again):
    bench = up(rule(**{"above": None, "warn_at": (D("0.9"),), **more}))
    found = [warned(bench.var(value)) for value in (calm, near, near, again, near)]
    assert found == [[], ["near_limit"], [], [], ["near_limit"]]
    assert bench.rule_view("r").headroom == pytest.approx(0.1)


def test_a_level_near_rest_lets_go_at_rest():
    bench = up(rule(warn_at=(D("0.02"),)))  # a margin of 5 % would lie below 0
    assert said(bench, 1.0, 0.6, 1.0, 0.0, 1.0) == [["2"], [], [], [], ["2"]]


def test_a_rate_warns_of_how_many_came_and_again_after_time_alone_took_it_back():
    bench = Bench(rate(above=D(10), warn_at=(D("0.5"), D("0.9"))), feeds=(OFTEN,))
    bench.up(0.0)
    found = [[f.text for f in bench.var(1.0, 1.0)] for _ in range(10)]
    assert [len(part) for part in found] == [0, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    text = "rule r: var came 9 times and has used 90 % of its limit, more than 10 readings in 10 s "
    assert found[8] == [f"{text}(account 14; 0.0 s old)"]
    assert edges(bench.var(1.0, 1.0)) == [("r", 14)]
    found = [warned(bench.var(1.0, 20.0)) for _ in range(5)]
    assert found == [[], [], [], [], ["near_limit"]]


def test_a_sum_that_time_alone_lets_grow_warns_by_itself():
    bench = Bench(rate(above=D(10), sum=True, warn_at=(D("0.9"),)), feeds=(OFTEN,))
    bench.up(0.0)
    bench.var(-4.0, 0.0)
    assert bench.var(9.5, 5.0) == []
    assert warned(bench.until(10.0)) == ["near_limit"]


def test_a_drawdown_warns_of_how_far_it_fell_and_again_after_its_peak_left_the_window():
    bench = Bench(drawdown(warn_at=(D("0.9"),)), feeds=(OFTEN,))
    bench.up(0.0)
    assert [warned(bench.var(v, 1.0)) for v in (100.0, 91.1, 91.0, 91.4, 91.6, 91.0)] == [
        [],
        [],
        ["near_limit"],
        [],
        [],
        ["near_limit"],
    ]
    assert warned(bench.var(91.0, 100.0)) == []  # 100 left long ago
    (found,) = bench.var(82.0, 101.0)
    text = "var 82.0 is 9.0 under 91.0 and has used 90 % of its limit, 10 or more under its highest in 60 s"
    assert found.text == f"rule r: {text} (account 14; 0.0 s old)"


def test_a_ratio_warns_of_its_share_once_there_are_enough_and_names_no_single_feed():
    desk = Desk(ratio(at_least=4, warn_at=(D("0.5"),)))
    assert [warned(desk.order(1.0)) for _ in range(3)] == [[], [], []]
    assert warned(desk.reject(1.0)) == []  # 1 of 3 is 0.33 of 0.5, but three are too few
    (found,) = desk.order(2.0)
    text = "reject came 1 times to 4 of order, a share of 0.25 and has used 50 % of its limit"
    assert (found.kind, found.feed) == ("near_limit", None)
    assert found.text.startswith(f"rule r: {text}, above 0.5 of order in 60 s with 4 or more")
    assert desk.order(3.0) == []  # 0.2 of 0.5 lets go: it is 40 %
    assert desk.reject(4.0) != []
    assert warned(desk.order(5.0)) == []


def test_a_rollback_takes_a_warning_back():
    bench = up(rule(warn_at=LEVELS))
    event = bench.reading(45.0)
    bench.watch.handle(event, 1.0)
    bench.undo.rollback()
    assert warned(bench.feed(event, 1.0)) == ["near_limit"]


def test_what_is_silent_or_was_never_heard_says_which_rule():
    bench = up(rule(), rule(name="s"))
    assert [f.text.split(":")[0] for f in bench.until(5.0)] == ["rule r", "rule s"]
    assert [f.text.split(":")[0] for f in bench.var(1.0)] == ["rule r", "rule s"]
