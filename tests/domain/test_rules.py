"""Rules: sentences, edges, labels, bad readings, an OMS's own readings, resets, and leaving no trace."""

from dataclasses import replace
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from killswitch.domain.messages import (
    BadReading,
    FeedDown,
    FeedUp,
    Heard,
    OpenOrders,
    OrderEnded,
    OrderWorking,
    PositionRow,
    Positions,
    PositionSeen,
    Reading,
    SessionDown,
    SessionUp,
    Tick,
)
from killswitch.domain.scope import Scope
from killswitch.domain.settings import FeedSpec, Label, ScopeTemplate
from killswitch.domain.watch.rules import Breach
from killswitch.wire.feed import Reason
from tests.domain.watch_bench import (
    FALLBACK,
    OMS_FEED,
    TRIP,
    VAR_FEED,
    WALL,
    Bench,
    account,
    breaches,
    btc,
    edges,
    labels,
    order,
    row,
    rule,
    warned,
)

D = Decimal


def up(*rules, **more):
    bench = Bench(*rules, **more)
    bench.up(0.0)
    return bench


# --- sentences ---------------------------------------------------------------------------------------------


def test_a_breach_says_value_limit_series_and_age():
    bench = Bench(btc())
    bench.session()
    found = bench.positions(14, row(14, "BTC", "51.0"), at=1.0)
    assert found == [
        Breach(
            rule="btc",
            kind="limit",
            scope=account(14),
            labels=(("account", "14"), ("product", "BTC")),
            text="position 51.0 is above 50.0 (account 14, product BTC; 0.0 s old)",
            value="51.0",
            repeated=False,
            worst="51.0",
        )
    ]


@pytest.mark.parametrize(
    ("more", "value", "text"),
    [
        ({}, 50.5, "var 50.5 is above 50.0 (account 14; 0.0 s old)"),
        ({}, D("1E+1000000"), "var 1.00000000000000000000E+1000000 is above 50.0 (account 14; 0.0 s old)"),
        ({"above": None, "below": D(5)}, 4.0, "var 4.0 is below 5 (account 14; 0.0 s old)"),
        ({"absolute": True}, -51.0, "var -51.0 is above 50.0 in size (account 14; 0.0 s old)"),
    ],
)
def test_each_kind_of_limit_has_its_sentence(more, value, text):
    assert up(rule(**more)).var(value)[0].text == text


def test_a_breach_that_had_to_last_says_so_and_a_lag_is_age():
    bench = up(rule(for_s=2.0))
    bench.var(51.0, 1.0, lag_s=0.5)
    text = "var 51.0 has been above 50.0 for 2 s (account 14; 2.5 s old)"
    assert [b.text for b in bench.until(3.0)] == [text]


# --- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("above", "value", "past"),
    [
        ("50.0", 50, False),
        ("50.0", 50.0, False),
        ("50", D("50.000000000000000000000000000000000000000001"), True),
        ("0.1", 0.1, False),
        ("0.1", D("0.1"), False),
        ("0.1", 0.1 + 1e-18, False),
        ("0.3", 0.1 + 0.2, True),
        ("50", -51, False),
        ("0", 0.0, False),
        ("0", -0.0, False),
        ("-5", -4, True),
    ],
)
def test_above_is_exact_and_at_the_limit_is_inside(above, value, past):
    value = float(value) if isinstance(value, int) else value
    assert bool(up(rule(above=D(above))).var(value)) is past


@pytest.mark.parametrize(("value", "past"), [(0.1, False), (D("0.0999"), True), (0.2, False), (-1.0, True)])
def test_below_is_exact_and_at_the_limit_is_inside(value, past):
    assert bool(up(rule(above=None, below=D("0.1"))).var(value)) is past


@pytest.mark.parametrize(
    ("value", "past"),
    [(50.0, False), (-50.0, False), (-50.5, True), (D("-50.0000000000000000000000000000000000001"), True)],
)
def test_absolute_compares_the_size(value, past):
    assert bool(up(rule(absolute=True)).var(value)) is past


def test_absolute_with_below_trips_when_the_size_is_too_small():
    bench = up(rule(above=None, below=D(5), absolute=True))
    assert bench.var(-6.0) == []
    assert edges(bench.var(-4.0)) == [("r", 14)]


@pytest.mark.parametrize(
    ("more", "value", "headroom"),
    [
        ({}, 0.0, 1.0),
        ({}, 25.0, 0.5),
        ({}, 50.0, 0.0),
        ({}, 75.0, -0.5),
        ({"absolute": True}, -25.0, 0.5),
        ({"above": D(-50)}, -75.0, 0.5),
        ({"above": None, "below": D(50)}, 75.0, 0.5),
        ({"above": None, "below": D(50)}, 25.0, -0.5),
        ({"above": D(0)}, 25.0, None),
        ({}, D("1E+1000000000"), float("-inf")),
    ],
)
def test_headroom_is_0_at_the_limit_and_below_0_past_it(more, value, headroom):
    bench = up(rule(**more))
    assert bench.rule_view("r").headroom is None
    bench.var(value)
    assert bench.rule_view("r").headroom == headroom


def test_the_worst_series_gives_the_headroom():
    bench = up(rule())
    for number, value in ((1, 10.0), (2, 40.0), (3, 20.0)):
        bench.var(value, number=number)
    view = bench.rule_view("r")
    assert (view.series, view.headroom, view.worst) == (3, 0.2, labels(account=2))
    assert (view.owner, view.kind, view.limit) == ("desk", "limit", "above 50.0")


# --- edges -------------------------------------------------------------------------------------------------


def test_a_series_trips_once_and_again_only_after_it_was_back_inside():
    bench = up(rule())
    found = [bench.var(value) for value in (49.0, 51.0, 51.0, 52.0, 51.5, 50.0, 51.0)]
    assert [[b.repeated for b in part] for part in found] == [[], [False], [], [True], [True], [], [False]]
    assert [b.worst for part in found for b in part] == ["51.0", "52.0", "52.0", "51.0"]


def test_each_series_has_an_edge_of_its_own():
    bench = up(rule())
    assert edges(bench.var(51.0, number=14) + bench.var(51.0, number=15)) == [("r", 14), ("r", 15)]


def test_the_spike_between_two_readings_inside_is_seen():
    bench = up(rule())
    assert edges(bench.var(49.0, 1.0) + bench.var(51.0, 1.0) + bench.var(49.0, 1.0)) == [("r", 14)]


def test_a_rule_with_for_s_trips_when_the_breach_has_lasted():
    bench = up(rule(for_s=2.0))
    found = bench.var(51.0, 1.0) + bench.var(52.0, 2.0)
    assert found == []
    assert bench.rule_view("r").breaching == ()
    assert bench.until(2.99) == []
    assert edges(bench.until(3.0)) == [("r", 14)]
    assert bench.until(4.0) == []


def test_a_value_back_inside_ends_the_waiting():
    bench = up(rule(for_s=2.0))
    bench.var(51.0, 1.0)
    bench.var(49.0, 2.0)
    assert bench.var(51.0, 2.5) == []
    assert bench.until(4.4) == []
    assert edges(bench.until(4.5)) == [("r", 14)]


def test_a_reading_after_for_s_trips_though_the_wake_was_late_and_then_only_once():
    bench = up(rule(for_s=2.0))
    bench.var(51.0, 1.0)
    found = bench.watch.handle(Reading(wall=WALL, feed="var", name="var", labels=labels(account=14), value=51.0), 3.5)
    assert edges(found) == [("r", 14)]
    assert breaches(bench.until(4.0)) == []


def test_a_wake_too_early_twice_or_of_nothing_is_harmless():
    bench = up(rule(for_s=2.0, on_stale=TRIP))
    bench.var(51.0, 1.0)
    key = ("var", "var", labels(account=14))
    odd = [
        ("watch", "for", "r", key),
        ("watch", "series", key),
        ("watch", "lane", ("var", "var")),
        ("watch", "rule", "r"),
        ("watch", "rule", "gone"),
        ("watch", "lane", ("no", "such")),
        ("watch", "series", ("no", "such", ())),
        ("watch", "for", "r", ("no", "such", ())),
        ("watch",),
        "nothing",
    ]
    assert [bench.watch.wake(what, 1.5) for what in odd * 2] == [()] * 20
    found = bench.until(60.0)
    assert edges(found) == [("r", 14), ("r", 99)]


# --- labels and scopes -------------------------------------------------------------------------------------


def test_where_lets_through_only_what_is_equal():
    bench = up(rule(where=labels(product="BTC")))
    assert bench.var(51.0, labels=labels(account=14, product="ETH")) == []
    assert edges(bench.var(51.0, labels=labels(account=14, product="BTC"))) == [("r", 14)]
    assert bench.rule_view("r").series == 1


@pytest.mark.parametrize(
    "held",
    [labels(product="BTC"), labels(account="x", product="BTC"), labels(account="0", product="BTC"), labels(account=14)],
)
def test_a_reading_that_lacks_a_label_is_bad_for_the_rule_and_never_every(held):
    wants = {"where": labels(product="BTC"), "scope": ScopeTemplate(oms="prime", account=Label("account"))}
    bench = up(rule("trips", on_bad=TRIP, **wants), rule("warns", **wants))
    found = bench.var(60.0, labels=held) + bench.var(60.0, labels=held)
    assert [(b.rule, b.scope, b.labels) for b in breaches(found)] == [("trips", FALLBACK, ())]
    assert warned(found) == ["bad_reading"]
    assert bench.feed_view("var").bad == (("lacks_label", 2),)
    assert bench.rule_view("warns").series == 0


def test_a_label_that_one_rule_lacks_does_not_hurt_another():
    bench = up(rule("needs", where=labels(desk="x")), rule("plain"))
    found = bench.var(60.0)
    assert edges(found) == [("plain", 14)]
    assert warned(found) == ["bad_reading"]


def test_every_part_of_a_template_comes_from_its_label():
    template = ScopeTemplate(oms="prime", account=Label("a"), user=37, instrument=Label("i"))
    found = up(rule(scope=template)).var(60.0, labels=labels(a=14, i=25))
    assert found[0].scope == Scope(oms="prime", account=14, user=37, instrument=25)


def test_an_account_of_one_oms_never_fills_the_scope_of_another():
    second = FeedSpec(name="backup", kind="oms", oms="backup", stale_after_s=10.0)
    bench = Bench(btc(), feeds=(second, OMS_FEED))
    bench.session()
    assert bench.feed(SessionUp(wall=WALL, oms="backup", gateway="g", session=7)) == []
    assert bench.positions(14, row(14, "BTC", 60), session=7) == []
    assert edges(bench.positions(14, row(14, "BTC", 60), session=1)) == [("btc", 14)]


class Counted(Decimal):
    """A limit that counts how often something was compared with it."""

    asked = 0

    def __lt__(self, other):
        Counted.asked += 1
        return super().__lt__(other)

    __gt__ = __lt__


def test_a_reading_touches_only_the_rules_that_watch_its_series():
    mine = rule("mine")
    others = [rule(f"o{n}", above=Counted(50), reading="margin") for n in range(500)]
    others += [rule(f"w{n}", above=Counted(50), where=labels(account=n + 100)) for n in range(500)]
    bench = up(*others, mine)
    Counted.asked = 0
    for value in (10.0, 60.0, 10.0):
        bench.var(value)
    assert Counted.asked == 0
    bench.var(60.0, number=107)
    assert Counted.asked == 1


# --- bad readings ------------------------------------------------------------------------------------------


def test_a_bad_reading_is_said_once_until_a_good_one_of_its_series_came():
    bench = up(rule())
    bench.var(1.0, 1.0)
    one = labels(account=14)
    found = [bench.bad(1.0, one), bench.bad(1.1, one), bench.bad(1.2, one, "too long"), bench.var(1.0, 1.3)]
    found += [bench.bad(2.0, one)]
    assert [warned(part) for part in found] == [["bad_reading"], [], ["bad_reading"], [], ["bad_reading"]]
    assert found[0][0].text == "var can't be read: not a number (account 14; feed var)"
    assert found[0][0].feed == "var"
    assert bench.feed_view("var").bad == (("not a number", 3), ("too long", 1))


def test_a_source_that_is_good_and_bad_by_turns_does_not_flood_the_event_topic():
    bench = up(rule())
    found = bench.var(1.0, 0.5)
    for n in range(1000):
        found += bench.bad(1.0 + n / 100, labels(account=14)) + bench.var(1.0, 1.005 + n / 100)
    assert warned(found).count("bad_reading") == 10
    assert bench.feed_view("var").bad == (("not a number", 1000),)


@pytest.mark.parametrize("reason", [*get_args(Reason), "lacks_label", "not_finite", "unreadable_row"])
def test_each_reason_for_a_bad_reading_is_told_in_words(reason):
    bench = up(rule())
    (said,) = bench.bad(1.0, labels(account=14), reason)
    assert reason not in said.text
    assert said.text.startswith("var can't be read: ")


def test_one_series_that_is_always_bad_among_good_ones_is_said_once():
    bench = up(rule())
    found = bench.var(1.0, 1.0, 14)
    for turn in range(100):
        found += bench.bad(2.0 + turn, labels(account=14)) + bench.var(1.0, 2.5 + turn, 15)
    assert warned(found).count("bad_reading") == 1


def test_junk_among_good_readings_is_said_once_until_it_was_quiet():
    bench = up(rule(on_bad=TRIP))
    found = []
    for turn in range(100):
        found += bench.bad(1.0 + turn) + bench.var(1.0, 1.5 + turn)
    assert warned(found) == ["bad_reading"]
    assert edges(found) == [("r", 99)]
    assert "not a number" in bench.watch.uncalm("r", (), 100.5)
    for turn in range(6):
        bench.var(1.0, 101.0 + turn)
    assert bench.watch.uncalm("r", (), 106.0) is None
    assert warned(bench.bad(107.0)) == ["bad_reading"]


def test_on_bad_trip_trips_the_series_own_scope_once_per_edge():
    bench = up(rule(on_bad=TRIP))
    bench.var(1.0, 1.0)
    one = labels(account=14)
    found = bench.bad(1.1, one) + bench.bad(1.2, one)
    assert [(b.scope, b.labels, b.value) for b in breaches(found)] == [(account(14), one, "1.0")]
    bench.var(2.0, 1.3)
    assert edges(bench.bad(1.4, one)) == [("r", 14)]


def test_on_bad_trip_without_labels_trips_the_fallback():
    bench = up(rule(on_bad=TRIP))
    assert [(b.scope, b.labels) for b in breaches(bench.bad(1.0))] == [(FALLBACK, ())]


def test_a_bad_reading_of_another_series_is_no_matter_of_the_rule():
    bench = up(rule(on_bad=TRIP, where=labels(account=14)))
    assert edges(bench.bad(1.0, labels(account=15))) == []
    assert edges(bench.bad(1.0, labels(account=14))) == [("r", 14)]


def test_a_bad_reading_neither_ends_a_breach_nor_makes_the_reset_possible():
    bench = up(rule())
    bench.var(60.0, 1.0)
    bench.bad(1.1, labels(account=14))
    assert bench.rule_view("r").breaching == (labels(account=14),)
    assert bench.rule_view("r").unknown == (labels(account=14),)
    bench.var(10.0, 1.2)
    assert bench.watch.uncalm("r", labels(account=14), 1.2) is None
    bench.bad(1.3, labels(account=14))
    assert "can't be read" in bench.watch.uncalm("r", labels(account=14), 1.3)


def test_bad_readings_do_not_keep_a_feed_alive():
    bench = up(rule(on_stale=TRIP))
    bench.var(1.0, 1.0)
    found = []
    for second in range(2, 10):
        found += bench.bad(float(second), labels(account=14))
    assert ("r", 99) in edges(found)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), D("NaN"), D("sNaN"), D("-Infinity")])
def test_what_is_not_finite_is_bad_and_never_a_value(value):
    bench = up(rule(on_bad=TRIP))
    bench.var(1.0)
    assert edges(bench.var(value)) == [("r", 14)]
    assert bench.rule_view("r").headroom == 0.98
    assert bench.feed_view("var").bad == (("not_finite", 1),)


def test_reasons_without_end_are_counted_under_a_bounded_number_of_names():
    bench = up(rule())
    for n in range(1000):
        bench.bad(reason=f"reason {n}")
    bad = dict(bench.feed_view("var").bad)
    assert len(bad) == 33
    assert bad["other"] == 968


# --- an OMS's own readings ---------------------------------------------------------------------------------


def test_a_first_list_over_the_limit_trips_without_any_event():
    bench = Bench(btc())
    bench.session()
    assert edges(bench.positions(14, row(14, "BTC", 80))) == [("btc", 14)]


def test_a_position_event_trips_and_one_back_inside_ends_the_breach():
    bench = Bench(btc())
    bench.session()
    found = [bench.position(row(14, "BTC", amount)) for amount in (49, 51, 50, 51)]
    assert [edges(part) for part in found] == [[], [("btc", 14)], [], [("btc", 14)]]


def test_hold_is_a_reading_of_its_own():
    bench = Bench(btc(reading="hold"))
    bench.session()
    assert edges(bench.position(row(14, "BTC", 0, hold=51))) == [("btc", 14)]


def test_a_product_that_a_list_no_longer_shows_is_0():
    bench = Bench(btc())
    bench.session()
    bench.positions(14, row(14, "BTC", 80), row(14, "ETH", 1))
    assert bench.rule_view("btc").breaching == (labels(account=14, product="BTC"),)
    assert bench.positions(14, row(14, "ETH", 1)) == []
    assert bench.rule_view("btc").breaching == ()
    assert bench.rule_view("btc").headroom == 1.0


def test_a_product_missing_beside_a_row_that_cannot_be_read_is_unknown_and_not_0():
    bench = Bench(btc(on_bad=TRIP))
    bench.session()
    bench.positions(14, row(14, "BTC", 80))
    found = bench.positions(14, unreadable=1)
    assert bench.rule_view("btc").breaching == (labels(account=14, product="BTC"),)
    assert ("btc", 14) in edges(found)
    assert bench.watch.uncalm("btc", labels(account=14, product="BTC"), 0.0) is not None


def test_a_list_of_a_session_nobody_knows_says_nothing():
    bench = Bench(btc())
    assert bench.positions(14, row(14, "BTC", 80), session=5) == []
    bench.session(5)
    bench.end(5)
    assert bench.positions(14, row(14, "BTC", 80), session=5) == []


def test_a_position_event_of_a_session_that_is_gone_counts_as_a_value_and_renews_no_age():
    bench = Bench(btc())
    bench.session(1)
    bench.positions(14, row(14, "BTC", 1), at=1.0)
    bench.end(1, at=2.0)
    assert edges(bench.position(row(14, "BTC", 60), at=5.0)) == [("btc", 14)]
    assert bench.feed_view("positions").age_s == 4.0


def open_orders(limit=2, **more):
    return rule("orders", reading="open_orders", above=D(limit), **more)


def count(bench, number=14, instrument=25):
    return bench.watch._roster.readings.get(("positions", "open_orders", labels(account=number, instrument=instrument)))


def test_open_orders_are_counted_from_the_list_and_the_events_after_it():
    bench = Bench(open_orders())
    bench.session()
    found = bench.orders(14, order(14, 1), order(14, 2))
    found += bench.working(order(14, 2)) + bench.working(order(14, 3, instrument=26))
    assert found == []
    assert edges(bench.working(order(14, 3))) == [("orders", 14)]
    assert count(bench, instrument=26).value == 0, "an order that moved is counted where it is"
    bench.ended(order(14, 1))
    bench.ended(order(14, 1))
    assert count(bench).value == 2
    assert bench.rule_view("orders").breaching == ()


def test_open_orders_of_an_account_that_was_never_listed_are_no_count():
    bench = Bench(open_orders(0))
    bench.session()
    assert bench.working(order(14, 1)) == []
    assert count(bench) is None
    assert edges(bench.orders(14, order(14, 1), order(14, 2))) == [("orders", 14)]


def test_an_instrument_whose_orders_are_gone_from_the_list_goes_to_0():
    bench = Bench(open_orders())
    bench.session()
    bench.orders(14, *(order(14, n) for n in range(5)))
    bench.orders(14)
    assert count(bench).value == 0
    assert bench.rule_view("orders").breaching == ()


def test_a_list_with_a_row_that_cannot_be_read_ends_no_breach():
    bench = Bench(open_orders())
    bench.session()
    bench.orders(14, *(order(14, n) for n in range(5)))
    bench.orders(14, unreadable=1)
    assert bench.rule_view("orders").breaching == (labels(account=14, instrument=25),)
    assert bench.rule_view("orders").unknown == (labels(account=14, instrument=25),)


def test_an_order_without_its_numbers_is_counted_as_unreadable():
    bench = Bench(open_orders())
    bench.session()
    bench.orders(14, order(14, 1))
    nobody = replace(order(14, 1), order_id=None)
    assert warned(bench.working(nobody)) == ["bad_reading"]
    bench.working(replace(nobody, client_order_id=7))
    assert count(bench).value == 2
    assert bench.feed_view("positions").bad == (("unreadable_row", 1),)


# --- resets and the view -----------------------------------------------------------------------------------


def test_a_series_is_calm_when_it_is_inside_and_fresh():
    bench = up(rule())
    one = labels(account=14)
    assert bench.watch.uncalm("r", one, 0.0) == "var was never heard (account 14)"
    bench.var(60.0, 1.0)
    assert bench.watch.uncalm("r", one, 1.5) == "var 60.0 is above 50.0 (account 14; 0.5 s old)"
    bench.var(10.0, 2.0)
    assert bench.watch.uncalm("r", one, 6.9) is None
    assert bench.watch.uncalm("r", one, 7.0) == "var was not heard for 5.0 s (account 14; feed var; last 10.0)"
    assert bench.watch.uncalm("removed", one, 7.0) is None


def test_a_breach_whose_for_s_still_runs_is_not_calm():
    bench = up(rule(for_s=60.0))
    bench.var(60.0, 1.0)
    assert bench.watch.uncalm("r", labels(account=14), 1.0) is not None


def test_a_rule_that_tripped_for_its_silent_feed_is_calm_when_the_feed_is_back():
    bench = up(rule(on_stale=TRIP))
    bench.var(1.0, 1.0)
    bench.until(60.0)
    assert bench.watch.uncalm("r", (), 60.0) == "var was not heard for 59.0 s (feed var)"
    bench.var(1.0, 60.0)
    assert bench.watch.uncalm("r", (), 60.0) is None


def test_a_feed_without_labels_has_one_series():
    fixed = ScopeTemplate(oms="prime", account=14)
    bench = up(rule(scope=fixed))
    assert edges(bench.var(60.0, labels=())) == [("r", 14)]
    assert bench.watch.uncalm("r", (), 0.0) is not None
    bench.var(1.0, labels=())
    assert bench.watch.uncalm("r", (), 0.0) is None


def test_the_view_of_a_feed_counts_from_the_start_until_something_was_heard():
    bench = up(rule())
    bench.until(3.0)
    view = bench.feed_view("var")
    assert (view.up, view.heard, view.age_s, view.stale, view.readings) == (True, False, 3.0, False, 0)
    bench.var(1.0, 4.0)
    bench.down(4.5)
    view = bench.feed_view("var")
    assert (view.up, view.heard, view.age_s, view.readings) == (False, True, 0.5, 1)


def test_events_of_feeds_and_kinds_that_are_not_watched_give_nothing():
    bench = up(rule())
    assert bench.feed(Tick(wall=WALL)) == []
    assert bench.feed(Reading(wall=WALL, feed="other", name="var", labels=(), value=99.0)) == []
    assert bench.feed(Reading(wall=WALL, feed="var", name="other", labels=(), value=99.0)) == []
    assert bench.feed(FeedUp(wall=WALL, feed="other")) == []
    assert bench.feed(FeedDown(wall=WALL, feed="other", why="")) == []
    assert bench.feed(BadReading(wall=WALL, feed="other", name="var", labels=None, reason="x")) == []


# --- all or nothing ----------------------------------------------------------------------------------------

VALUES = st.sampled_from([0.0, 10.0, 51.0, 60.0, float("nan"), D(55)])
HELD = st.sampled_from([(), labels(account=14), labels(account=15), labels(account=14, product="BTC")])
ROWS = st.builds(
    PositionRow,
    st.sampled_from([14, 15]),
    st.sampled_from(["BTC", "ETH"]),
    st.sampled_from([D(1), D(60)]),
    st.just(D(0)),
)
ORDERS = st.builds(order, st.sampled_from([14, 15]), st.integers(1, 4), st.sampled_from([25, 26]))
SESSIONS = st.sampled_from([1, 2])
SOME = {"wall": st.just(WALL)}
OF_OMS = {**SOME, "oms": st.just("prime"), "session": SESSIONS}
OF_CALL = {**SOME, "call": st.just(1), "session": SESSIONS, "account": st.sampled_from([14, 15])}
VAR = st.just("var")
EVENTS = st.one_of(
    st.builds(
        Reading,
        feed=VAR,
        name=VAR,
        labels=HELD,
        value=VALUES,
        fresh=st.booleans(),
        lag_s=st.sampled_from([0.0, 1.0, 9.0]),
        source_at=st.sampled_from([None, 1.0, 2.0]),
        **SOME,
    ),
    st.builds(BadReading, feed=VAR, name=VAR, labels=st.one_of(st.none(), HELD), reason=st.sampled_from("xy"), **SOME),
    st.builds(FeedUp, feed=VAR, **SOME),
    st.builds(FeedDown, feed=VAR, why=st.just("gone"), **SOME),
    st.builds(SessionUp, gateway=st.just("g"), **OF_OMS),
    st.builds(SessionDown, gateway=st.just("g"), why=st.just("cut"), **OF_OMS),
    st.builds(Heard, **OF_OMS),
    st.builds(PositionSeen, row=ROWS, **OF_OMS),
    st.builds(Positions, rows=st.lists(ROWS, max_size=3).map(tuple), unreadable=st.integers(0, 1), **OF_CALL),
    st.builds(OpenOrders, orders=st.lists(ORDERS, max_size=3).map(tuple), unreadable=st.integers(0, 1), **OF_CALL),
    st.builds(OrderWorking, order=ORDERS, **OF_OMS),
    st.builds(OrderEnded, order=ORDERS, state=st.just("Canceled"), **OF_OMS),
)
# (seconds on, event or None for letting time go on, whether it is tried and rolled back first)
STEPS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 2.0, 6.0, 30.0]), st.one_of(st.none(), EVENTS), st.booleans()), max_size=25
)
RULES = (
    rule("trips", on_stale=TRIP, on_bad=TRIP),
    rule("lasts", for_s=3.0),
    btc(on_stale=TRIP, on_bad=TRIP),
    open_orders(1),
)


def attempt(bench, event, ahead):
    """Wakes and the event are handled, and then nothing of it was."""
    later = bench.now + ahead
    while (what := bench.agenda.take(later)) is not None:
        bench.watch.wake(what, later)
    if event is not None:
        bench.watch.handle(event, later)
    bench.undo.rollback()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, EVENTS)
def test_what_is_rolled_back_leaves_no_trace(steps, intruder):
    tried, twin = (Bench(*RULES, feeds=(OMS_FEED, VAR_FEED)) for _ in range(2))
    for ahead, event, rolls_back in steps:
        if rolls_back:
            attempt(tried, intruder, 0.0)
            attempt(tried, event, ahead + 7.0)
            assert tried.watch.view(tried.now) == twin.watch.view(twin.now)
            assert tried.agenda.due() == twin.agenda.due()
        found = [
            bench.until(bench.now + ahead) if event is None else bench.feed(event, bench.now + ahead)
            for bench in (tried, twin)
        ]
        # What falls due in one instant may come in another order.
        assert sorted(found[0], key=repr) == sorted(found[1], key=repr)
        assert tried.watch.view(tried.now) == twin.watch.view(twin.now)
    end = tried.now + 120.0
    assert sorted(tried.until(end), key=repr) == sorted(twin.until(end), key=repr)
    for name in ("trips", "lasts", "btc", "orders"):
        for held in ((), labels(account=14), labels(account=14, product="BTC"), labels(account=14, instrument=25)):
            assert tried.watch.uncalm(name, held, end) == twin.watch.uncalm(name, held, end)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_a_series_is_never_in_breach_twice_without_having_been_inside(steps):
    bench = Bench(rule(), feeds=(VAR_FEED,))
    inside = {}
    for ahead, event, _ in steps:
        found = bench.until(bench.now) if event is None else bench.feed(event, bench.now + ahead)
        for breach in breaches(found):
            if not breach.repeated and breach.labels:
                assert inside.get(breach.labels, True)
        for held in (labels(account=14), labels(account=15), labels(account=14, product="BTC")):
            inside[held] = held not in bench.rule_view("r").breaching


def test_a_rule_that_knew_no_series_is_unknown_no_more_once_it_hears_one():
    bench = Bench(rule(where=(("account", "14"),)))
    bench.up(0.0)
    found = [f for at in range(1, 12) for f in bench.var(1.0, float(at), number=15)]
    assert warned(found) == ["unknown_series"]
    assert bench.rule_view("r").unknown == ((),)
    assert warned(bench.var(1.0, 11.5)) == ["heard_again"]
    assert bench.rule_view("r").unknown == ()
