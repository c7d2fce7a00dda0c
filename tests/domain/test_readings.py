"""Age and silence: when a series, a feed or a rule without series counts as unknown, and when not."""

import math
from dataclasses import replace

import pytest

from killswitch.domain.messages import PositionSeen
from killswitch.domain.settings import FeedSpec
from tests.domain.watch_bench import (
    FALLBACK,
    IGNORE,
    TRIP,
    VAR_FEED,
    WALL,
    WARN,
    Bench,
    account,
    breaches,
    btc,
    edges,
    labels,
    row,
    rule,
    warned,
)


def many(bench, start, stop, every, numbers=range(1, 1001)):
    """Every series once in each period, spread evenly over it."""
    found, numbers = [], list(numbers)
    step = every / len(numbers)
    for turn in range(round((stop - start) / every)):
        for n, number in enumerate(numbers):
            found += bench.var(1.0, start + turn * every + n * step, number)
    return found


# --- a feed as a whole -------------------------------------------------------------------------------------


def test_a_feed_that_goes_down_under_1000_series_is_one_breach_per_rule():
    bench = Bench(rule("a", on_stale=TRIP), rule("b", on_stale=TRIP))
    bench.up(0.0)
    assert many(bench, 0.1, 8.1, 4.0) == []
    found = bench.down(8.2) + bench.until(100.0)
    assert edges(found) == [("a", 99), ("b", 99)]
    assert {b.scope for b in breaches(found)} == {FALLBACK}


def test_a_source_that_falls_silent_behind_a_link_that_stands_is_one_breach_per_rule_too():
    bench = Bench(rule("a", on_stale=TRIP), rule("b", on_stale=TRIP))
    bench.up(0.0)
    many(bench, 0.1, 8.1, 4.0)
    found = bench.until(100.0)
    assert edges(found) == [("a", 99), ("b", 99)]
    assert breaches(found)[0].text == "var was not heard for 5.0 s (feed var)"
    assert breaches(found)[0].labels == ()


def test_a_broker_restarted_under_1000_series_is_at_most_one_trip_per_rule():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    many(bench, 0.1, 8.1, 4.0)
    found = bench.down(8.2) + bench.up(14.2) + many(bench, 14.3, 30.3, 4.0)
    assert edges(found) == [("r", 99)]


def test_a_short_outage_is_no_breach_though_readings_were_lost_in_it():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    many(bench, 0.1, 8.1, 4.0)
    found = bench.down(8.2) + bench.up(11.0) + many(bench, 11.5, 27.5, 4.0)
    assert found == []


def test_a_series_that_stays_away_after_the_feed_is_back_trips_its_own_scope():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    many(bench, 0.1, 8.1, 4.0, range(1, 11))
    bench.down(8.2)
    found = bench.up(20.0) + many(bench, 20.0, 40.0, 1.0, range(2, 11))
    assert edges(found) == [("r", 99), ("r", 1)]


def test_the_feeds_silence_is_an_edge_again_only_after_it_was_heard():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    bench.var(1.0, 1.0)
    assert edges(bench.until(50.0)) == [("r", 99)]
    assert bench.var(1.0, 50.0) == []
    assert edges(bench.until(100.0)) == [("r", 99)]


def test_a_feed_goes_stale_at_its_time_and_not_before():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    bench.var(1.0, 1.0)
    assert bench.until(5.99) == []
    assert bench.feed_view("var").stale is False
    assert edges(bench.until(6.0)) == [("r", 99)]
    assert bench.feed_view("var").stale is True


def test_on_warn_a_silent_feed_is_said_once_and_said_again_when_it_is_heard():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(1.0, 1.0)
    assert warned(bench.until(60.0)) == ["stale"]
    assert warned(bench.var(1.0, 60.0)) == ["heard_again"]
    assert bench.var(1.0, 61.0) == []


def test_on_ignore_silence_says_nothing_and_still_counts_as_unknown_for_a_reset():
    bench = Bench(rule(on_stale=IGNORE))
    bench.up(0.0)
    bench.var(1.0, 1.0)
    assert bench.until(60.0) == []
    assert bench.watch.uncalm("r", labels(account=14), 60.0) is not None


def test_a_source_that_speaks_again_after_its_silence_brings_no_trips_of_the_series_that_follow():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    many(bench, 0.1, 8.1, 4.0)
    found = bench.until(20.0) + many(bench, 20.0, 36.0, 4.0)
    assert edges(found) == [("r", 99)]


def test_a_reading_shows_that_its_link_stands_though_nobody_said_so():
    bench = Bench(rule(on_stale=TRIP))
    bench.var(1.0, 1.0)
    assert bench.feed_view("var").up is True
    assert edges(bench.until(6.0)) == [("r", 99)]


def test_an_old_reading_at_the_start_takes_nothing_from_the_time_to_come_up():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    assert bench.var(1.0, 1.0, lag_s=3600.0) == []
    assert bench.until(4.9) == []
    assert edges(bench.until(5.0)) == [("r", 99)]


# --- one series --------------------------------------------------------------------------------------------


def test_a_series_that_goes_stale_while_its_feed_lives_trips_its_own_scope_once():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    many(bench, 0.0, 4.0, 1.0, range(1, 11))
    found = many(bench, 4.0, 30.0, 1.0, range(2, 11))
    assert edges(found) == [("r", 1)]
    assert breaches(found)[0].scope == account(1)
    assert breaches(found)[0].labels == labels(account=1)
    assert breaches(found)[0].text == "var was not heard for 5.0 s (account 1; feed var; last 1.0)"


def test_a_stale_series_that_is_heard_and_falls_silent_again_is_a_new_edge():
    bench = Bench(rule(on_stale=TRIP), rule("w"))
    bench.up(0.0)
    many(bench, 0.0, 2.0, 1.0, (1, 2))
    first = many(bench, 2.0, 10.0, 1.0, (2,))
    again = bench.var(1.0, 10.0, 1)
    second = many(bench, 10.5, 20.5, 1.0, (2,))
    assert edges(first) == [("r", 1)]
    assert warned(first) == ["stale"]
    assert warned(again) == ["heard_again"]
    assert edges(second) == [("r", 1)]


def test_a_series_is_judged_alone_only_once_its_feed_was_heard_after_it_fell_due():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    bench.var(1.0, 1.0, 1)
    bench.var(1.0, 4.0, 2)
    assert bench.until(8.9) == []
    assert edges(bench.var(1.0, 8.9, 2)) == [("r", 1)]


def test_a_link_that_goes_up_and_down_does_not_hide_a_silent_series_for_ever():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    bench.var(1.0, 0.0, 1)
    found = []
    for turn in range(1, 20):
        found += bench.down(turn * 3.0) + bench.up(turn * 3.0 + 0.1) + bench.var(1.0, turn * 3.0 + 0.2, 2)
    assert ("r", 1) in edges(found)


def test_the_lag_of_the_source_counts_as_age():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    bench.var(60.0, 10.0, lag_s=2.0)
    assert bench.until(12.9) == []
    assert edges(bench.until(13.0)) == [("r", 99)]


def test_a_source_whose_clock_is_ahead_is_not_fresh_for_longer():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    bench.var(1.0, 10.0, lag_s=-3600.0)
    assert edges(bench.until(15.0)) == [("r", 99)]


def test_a_feed_whose_readings_all_come_too_late_is_silent_as_a_whole():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    found = []
    for turn in range(200):
        found += bench.var(1.0, 0.1 + turn * 0.1, turn % 50 + 1, lag_s=3600.0)
    assert edges(found) == [("r", 99)]


def test_a_step_of_the_wall_clock_changes_no_age():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    found = []
    for turn, step in enumerate((0, 3600, -3600, 86_400, 0)):
        found += bench.var(1.0, 1.0 + turn, wall=1_700_000_000.0 + step + turn)
    assert found == []
    assert bench.feed_view("var").age_s == 0.0


def test_a_value_that_is_not_fresh_counts_but_renews_no_age():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    bench.var(1.0, 1.0)
    assert edges(bench.var(60.0, 4.0, fresh=False)) == [("r", 14)]
    assert edges(bench.until(6.0)) == [("r", 99)]


def test_a_series_known_by_a_retained_value_alone_ages_from_the_feeds_start():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(2.0)
    assert edges(bench.var(60.0, 3.0, fresh=False)) == [("r", 14)]
    assert bench.watch.uncalm("r", labels(account=14), 3.0).startswith("var 60.0 is above 50.0 (account 14; 1.0 s")
    found = bench.until(20.0)
    assert edges(found) == [("r", 99)]
    assert breaches(found)[0].text.startswith("var was never heard (feed var; 7.0 s since the start)")


# --- never heard -------------------------------------------------------------------------------------------


def test_a_feed_that_never_comes_up_counts_as_silent_30_s_after_the_start():
    bench = Bench(rule(on_stale=TRIP))
    assert bench.until(29.9) == []
    assert edges(bench.until(100.0)) == [("r", 99)]


def test_a_feed_that_is_up_and_never_speaks_is_due_stale_after_s_later():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(3.0)
    assert bench.until(7.9) == []
    assert edges(bench.until(8.0)) == [("r", 99)]
    assert bench.until(100.0) == []


def test_a_slow_feed_gets_its_own_time_at_the_start():
    bench = Bench(rule(on_stale=TRIP), feeds=(FeedSpec(name="var", kind="mqtt", reading="var", stale_after_s=90.0),))
    bench.up(1.0)
    assert bench.until(89.9) == []
    assert edges(bench.until(90.0)) == [("r", 99)]


def test_a_rule_that_knows_no_series_of_a_feed_that_speaks_is_said_once():
    bench = Bench(rule("trips", where=labels(desk="x"), on_stale=TRIP), rule("warns", where=labels(desk="x")))
    bench.up(0.0)
    found = many(bench, 0.0, 40.0, 1.0, (1,)) + bench.var(1.0, 40.0, labels=labels(account=1, desk="y"))
    assert edges(found) == [("trips", 99)]
    assert warned(found).count("unknown_series") == 1
    again = bench.var(1.0, 41.0, labels=labels(account=1, desk="x"))
    assert warned(again) == ["heard_again"]


def test_a_rule_that_still_knows_no_series_when_its_feed_is_back_is_looked_at_again():
    bench = Bench(rule(where=labels(desk="x"), on_stale=TRIP))
    bench.up(0.0)
    assert edges(bench.until(35.0)) == [("r", 99)]
    found = []
    for second in range(40, 50):
        found += bench.var(1.0, float(second), labels=labels(account=1, desk="y"))
    assert [b.text for b in breaches(found)] == ["no series of var that this rule watches was heard by now"]


def test_a_rule_whose_reading_no_feed_gives_is_unknown_and_not_calm():
    bench = Bench(rule(reading="margin", on_stale=TRIP))
    assert edges(bench.until(60.0)) == [("r", 99)]
    assert bench.rule_view("r").unknown == ((),)
    assert bench.watch.uncalm("r", (), 60.0) is not None


def test_a_lane_and_its_series_that_fall_due_in_one_instant_fail_as_one_whichever_comes_first():
    key = ("var", "var", labels(account=14))
    for first in (("watch", "lane", key[:2]), ("watch", "series", key)):
        bench = Bench(rule(on_stale=TRIP))
        bench.up(0.0)
        bench.until(5.0)  # never heard: it has failed, and comes back with a series that is old already
        bench.var(1.0, 6.0, lag_s=1.0)
        found = list(bench.watch.wake(first, 10.0)) + bench.until(10.0)
        assert edges(found) == [("r", 99)]
        assert bench.agenda.due() == 15.0


# --- order -------------------------------------------------------------------------------------------------


def test_an_older_reading_is_counted_and_neither_ends_nor_makes_a_breach():
    bench = Bench(rule(on_stale=TRIP))
    bench.up(0.0)
    assert edges(bench.var(60.0, 1.0, source_at=1000.0)) == [("r", 14)]
    assert bench.var(10.0, 2.0, source_at=999.0) == []
    assert bench.rule_view("r").breaching == (labels(account=14),)
    assert bench.feed_view("var").bad == (("out_of_order", 1),)
    assert bench.feed_view("var").age_s == 1.0, "what is older is no look at the present"


def test_a_reading_that_comes_twice_is_harmless():
    bench = Bench(rule())
    bench.up(0.0)
    assert len(bench.var(60.0, 1.0, source_at=1000.0)) == 1
    assert bench.var(60.0, 1.1, source_at=1000.0) == []
    assert bench.var(61.0, 1.2, source_at=1000.0)[0].repeated


def test_a_reading_dated_in_the_future_does_not_shut_out_those_after_it():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(10.0, 1.0, source_at=1_700_000_000.0 + 86_400, wall=1_700_000_000.0)
    assert edges(bench.var(60.0, 2.0, source_at=1_700_000_001.0, wall=1_700_000_001.0)) == [("r", 14)]


# --- an OMS ------------------------------------------------------------------------------------------------


def test_a_quiet_account_is_not_stale_while_pings_are_answered():
    bench = Bench(btc(on_stale=TRIP))
    bench.session()
    bench.positions(14, row(14, "BTC", 10), at=0.5)
    found = []
    for second in range(1, 200):
        found += bench.heard(at=float(second))
    assert found == []
    assert bench.watch.uncalm("btc", labels(account=14, product="BTC"), 199.0) is None


def test_a_dead_session_makes_its_accounts_stale_as_one_breach_per_rule():
    bench = Bench(btc(on_stale=TRIP))
    bench.session()
    for number in range(1, 101):
        bench.positions(number, row(number, "BTC", 10), at=0.5)
    for second in range(1, 100):
        bench.heard(at=float(second))
    bench.end(at=99.5)
    assert bench.until(108.9) == []
    found = bench.until(200.0)
    assert edges(found) == [("btc", 99)]
    assert bench.watch.uncalm("btc", labels(account=14, product="BTC"), 200.0) is not None


def test_a_session_whose_pings_are_not_answered_is_silent_though_it_is_up():
    bench = Bench(btc(on_stale=TRIP))
    bench.session()
    bench.positions(14, row(14, "BTC", 10), at=0.5)
    bench.heard(at=5.0)
    assert edges(bench.until(60.0)) == [("btc", 99)]
    assert bench.feed_view("positions").up is True
    assert bench.feed_view("positions").stale is True


def test_a_new_session_proves_nothing_of_an_account_before_its_list():
    bench = Bench(btc(on_stale=TRIP))
    bench.session(1)
    for number in (14, 15):
        bench.positions(number, row(number, "BTC", 10), at=0.5)
    bench.heard(1, at=1.0)
    bench.end(1, at=1.5)
    found = bench.session(2, at=2.0)
    found += bench.positions(14, row(14, "BTC", 10), at=2.5, session=2)
    for second in range(3, 40):
        found += bench.heard(2, at=float(second))
    assert edges(found) == [("btc", 15)]
    assert bench.positions(15, row(15, "BTC", 10), at=40.0, session=2) == []
    assert bench.watch.uncalm("btc", labels(account=15, product="BTC"), 40.0) is None


def test_pings_alone_are_no_look_at_anything():
    bench = Bench(btc(on_stale=TRIP))
    found = bench.session()
    for second in range(1, 60):
        found += bench.heard(at=float(second))
    assert edges(found) == [("btc", 99)]
    assert breaches(found)[0].text.startswith("position was never heard")
    assert bench.feed_view("positions").heard is False


def test_an_account_that_the_next_session_has_listed_is_not_stale_and_the_feed_was_never_down():
    bench = Bench(btc(on_stale=TRIP))
    bench.session(1)
    bench.session(2)
    bench.positions(14, row(14, "BTC", 10), at=0.5, session=1)
    found = bench.end(1, at=1.0)
    assert bench.feed_view("positions").up
    found += bench.positions(14, row(14, "BTC", 10), at=1.5, session=2)
    for second in range(2, 60):
        found += bench.heard(2, at=float(second))
    assert found == []


def test_values_are_taken_from_the_oldest_session_only_for_each_has_an_order_of_its_own():
    """What a slow session tells late must not undo what the other has told since: a breach would be hidden."""
    bench = Bench(btc())
    bench.session(1)
    bench.session(2)
    bench.positions(14, row(14, "BTC", 10), session=1)
    late = PositionSeen(wall=WALL, oms="prime", session=2, row=row(14, "BTC", 49))
    assert edges(bench.feed(replace(late, session=1, row=row(14, "BTC", 51)))) == [("btc", 14)]
    bench.feed(late)
    assert bench.watch.uncalm("btc", labels(account=14, product="BTC"), bench.now)
    bench.end(1)
    bench.feed(late)  # it watches now
    assert bench.watch.uncalm("btc", labels(account=14, product="BTC"), bench.now) is None


def test_an_oms_that_lists_no_such_position_has_none_of_it_and_trips_nothing():
    bench = Bench(btc(on_stale=TRIP))
    bench.session()
    found = bench.positions(14, row(14, "USD", 5), at=0.5)
    for second in range(1, 60):
        found += bench.heard(at=float(second))
    assert edges(found) == []
    assert warned(found) == ["unknown_series"]
    assert bench.watch.uncalm("btc", (), 59.0) is None
    assert bench.watch.uncalm("btc", labels(account=14, product="BTC"), 59.0) is None
    assert bench.watch.uncalm("btc", labels(account=15, product="BTC"), 59.0) is not None


# --- the cost, and the ends of the numbers -----------------------------------------------------------------


def test_a_reading_of_a_known_series_leaves_the_agenda_alone():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(1.0, 1.0)
    bench.var(1.0, 1.1)
    set_again = []
    bench.agenda.set = lambda what, when: set_again.append(what)
    for n in range(100):
        bench.watch.handle(_reading(n), 1.2)
    assert set_again == []


def _reading(n):
    from tests.domain.watch_bench import WALL, Reading  # noqa: PLC0415  # the one test that goes round the bench

    return Reading(wall=WALL, feed="var", name="var", labels=labels(account=14), value=float(n % 7))


@pytest.mark.parametrize("lag_s", [math.inf, math.nan, -math.inf, 1e300])
def test_no_lag_whatever_breaks_anything(lag_s):
    bench = Bench(rule(on_stale=TRIP), rule("w", on_stale=WARN))
    bench.up(0.0)
    bench.var(60.0, 1.0, lag_s=lag_s)
    bench.until(60.0)
    assert bench.rule_view("r").breaching == (labels(account=14),)


def test_a_reading_that_took_its_time_makes_its_series_no_older_than_the_one_before_it():
    bench = Bench(rule(on_stale=TRIP), feeds=(VAR_FEED,))
    bench.up(0.0)
    bench.var(1.0, 10.0)
    bench.var(1.0, 10.0, number=15)
    bench.var(1.0, 11.0, lag_s=4.5)
    for at in (12.0, 13.0, 14.0, 14.9):
        assert bench.var(1.0, at, number=15) == []
    assert bench.watch.uncalm("r", labels(account=14), 14.9) is None
    assert edges(bench.var(1.0, 15.5, number=15)) == [("r", 14)]
