"""Stale rules: how old a series, or a feed as a whole, may become."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain import coverage
from killswitch.domain.settings import Label, ScopeTemplate, SilenceRule, StaleRule
from tests.domain.watch_bench import (
    FALLBACK,
    IGNORE,
    OMS_FEED,
    TRIP,
    VAR_FEED,
    WARN,
    Bench,
    account,
    breaches,
    edges,
    labels,
    row,
    warned,
)

SLOW = replace(VAR_FEED, stale_after_s=1000.0)  # its own staleness comes long after the rules'
BY_LABEL = ScopeTemplate(oms="prime", account=Label("account"))


def stale(name="r", **more):
    """No series of var may be unheard for 5 s."""
    held = {"owner": "desk", "reading": "var", "where": (), "on_stale": WARN, "on_bad": WARN, "fallback": FALLBACK}
    return StaleRule(name=name, **{**held, "scope": BY_LABEL, "older_than_s": 5.0, **more})


def silence(name="f", **more):
    """Feed var as a whole may not be unheard for 5 s."""
    scope = ScopeTemplate(oms="prime", account=16)
    return SilenceRule(name=name, **{"owner": "desk", "scope": scope, "feed": "var", "older_than_s": 5.0, **more})


def up(*rules, feeds=(SLOW,)):
    bench = Bench(*rules, feeds=feeds)
    bench.up(0.0)
    return bench


# --- series -------------------------------------------------------------------------------------------------


def test_a_series_trips_exactly_when_it_is_older_than_allowed_and_says_so():
    bench = up(stale())
    bench.var(45.0, 1.0)
    assert bench.until(5.999_999) == []
    (breach,) = bench.until(6.0)
    assert (breach.kind, breach.scope, breach.labels) == ("stale", account(14), labels(account=14))
    assert (breach.value, breach.worst, breach.repeated) == ("5.000", "5.000", False)
    assert breach.text == "var was not heard for 5.0 s, the limit is 5 s (account 14; 5.0 s old)"
    assert bench.until(500.0) == []  # once
    assert "was not heard for 499.0 s" in bench.watch.uncalm("r", labels(account=14), 500.0)


@pytest.mark.parametrize("began", [0.1, 0.3, 1.7, 12_345.678_9, 987_654.321])
def test_no_rounding_makes_the_instant_of_the_breach_calm(began):
    bench = up(stale(older_than_s=0.7))
    bench.var(1.0, began)
    (breach,) = bench.until(began + 10)
    assert breach.value == "0.700"


def test_readings_keep_it_from_tripping_and_cost_no_entry_of_the_agenda():
    bench = up(stale())
    bench.var(1.0, 0.0)
    entry = ("watch", "old", "r", ("var", "var", labels(account=14)))
    assert bench.agenda.when(entry) == 5.0
    for n in range(1, 100):
        assert bench.var(1.0, n * 0.04) == []
    assert bench.agenda.when(entry) == 5.0
    assert bench.until(8.9) == []
    assert edges(bench.until(8.96)) == [("r", 14)]


def test_each_series_trips_by_itself_and_again_after_it_was_heard():
    bench = up(stale())
    bench.var(1.0, 0.0, number=14)
    bench.var(1.0, 0.0, number=15)
    bench.var(1.0, 3.0, number=15)
    assert edges(bench.until(7.0)) == [("r", 14)]
    assert edges(bench.until(8.0)) == [("r", 15)]
    assert bench.rule_view("r").breaching == (labels(account=14), labels(account=15))
    assert bench.var(1.0, 9.0, number=14) == []
    assert bench.watch.uncalm("r", labels(account=14), 9.0) is None
    assert bench.rule_view("r").breaching == (labels(account=15),)
    assert edges(bench.until(14.0)) == [("r", 14)]


def test_the_share_that_is_left_is_the_headroom():
    bench = up(stale())
    bench.var(1.0, 0.0)
    for at, left in ((0.0, 1.0), (2.0, 0.6), (5.0, 0.0), (10.0, -1.0)):
        bench.until(at)
        assert bench.rule_view("r").headroom == pytest.approx(left)
    assert bench.rule_view("r").limit == "not heard for 5 s"


def test_a_retained_message_without_source_time_renews_nothing():
    bench = up(stale())
    bench.var(1.0, 1.0)
    bench.var(2.0, 5.0, fresh=False)
    assert edges(bench.until(6.0)) == [("r", 14)]
    assert bench.var(3.0, 7.0, fresh=False) == []
    assert bench.watch.uncalm("r", labels(account=14), 7.0) is not None


def test_a_series_that_is_known_only_by_a_retained_message_ages_from_when_the_feed_was_up():
    bench = up(stale())
    bench.var(1.0, 3.0, fresh=False)
    assert edges(bench.until(5.0)) == [("r", 14)]


def test_a_reading_that_comes_too_old_already_trips_at_once():
    bench = up(stale())
    (breach,) = bench.var(1.0, 1.0, lag_s=7.0)
    assert breach.value == "7.000"


def test_a_reading_out_of_order_renews_nothing():
    bench = up(stale())
    bench.var(1.0, 1.0, source_at=100.0)
    bench.var(1.0, 5.0, source_at=99.0)
    assert edges(bench.until(6.0)) == [("r", 14)]


def test_the_feed_s_own_staleness_is_no_matter_of_a_series_that_was_heard():
    bench = up(stale(on_stale=TRIP, older_than_s=60.0), feeds=(VAR_FEED,))
    bench.var(1.0, 1.0)
    assert bench.until(60.999) == []  # stale_after_s went by at 6.0, and the feed failed as a whole
    assert bench.watch.uncalm("r", labels(account=14), 60.0) is None
    assert bench.rule_view("r").unknown == ()
    assert edges(bench.until(61.0)) == [("r", 14)]


@pytest.mark.parametrize(("policy", "expected"), [(TRIP, [("r", 99)]), (WARN, []), (IGNORE, [])])
def test_what_was_never_heard_is_what_on_stale_says(policy, expected):
    bench = up(stale(on_stale=policy), feeds=(VAR_FEED,))
    found = bench.until(500.0)
    assert edges(found) == expected
    assert warned(found) == (["stale"] if policy is WARN else [])
    assert bench.rule_view("r").unknown == ((),)
    assert "never heard" in bench.watch.uncalm("r", (), 500.0)
    assert warned(bench.var(1.0, 501.0)) == (["heard_again"] if policy is WARN else [])
    assert bench.rule_view("r").unknown == ()
    assert edges(bench.until(506.0)) == [("r", 14)]


def test_a_quiet_account_is_proven_by_ping_and_a_dead_session_is_not():
    bench = Bench(stale(reading="position", where=(("product", "BTC"),)), feeds=(OMS_FEED,))
    bench.session(1, 0.0)
    bench.positions(14, row(14, "BTC", 1), at=0.0)
    for at in (4.0, 8.0, 12.0, 16.0):
        assert bench.heard(1, at) == []
    bench.end(1, 17.0)
    assert edges(bench.until(21.0)) == [("r", 14)]


def test_a_proof_between_two_silences_of_an_account_is_never_overlooked():
    bench = Bench(stale(reading="position"), feeds=(replace(OMS_FEED, stale_after_s=1000.0),))
    bench.session(1, 0.0)
    bench.positions(14, row(14, "BTC", 1), at=0.0)
    assert edges(bench.until(7.0)) == [("r", 14)]
    assert bench.heard(1, 7.5) == []
    assert bench.watch.uncalm("r", (("account", "14"), ("product", "BTC")), 7.6) is None
    assert bench.until(12.4) == []
    assert edges(bench.until(12.5)) == [("r", 14)]


def test_a_bad_reading_renews_nothing_and_on_bad_decides_about_it():
    bench = up(stale(on_bad=TRIP))
    bench.var(1.0, 1.0)
    assert edges(bench.bad(3.0, labels(account=14))) == [("r", 14)]
    assert [b.text.split(" for ")[0] for b in breaches(bench.until(6.0))] == ["var was not heard"]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(14, 15), st.booleans()), max_size=30))
def test_the_edges_are_those_of_a_naive_look_at_every_instant(steps):
    """In quarters of a second, which are exact. What is due is paid before what arrives at that instant."""
    bench, at, arrivals = up(stale()), 0, []
    for pause, number, fresh in steps:
        at += pause
        arrivals.append((at, number, fresh))
    end, last, past, expected, found = at + 100, {}, set(), [], []

    def look(tick):
        late = {number for number, seen in last.items() if tick >= seen + 20}
        expected.extend((tick, number) for number in sorted(late - past))
        past.clear()
        past.update(late)

    for tick in range(end + 1):
        look(tick)
        for _, number, fresh in (arrival for arrival in arrivals if arrival[0] == tick):
            last[number] = tick if fresh else last.get(number, 0)
            look(tick)
        found += [(tick, f.scope.account) for f in breaches(bench.until(tick / 4))]
        for _, number, fresh in (arrival for arrival in arrivals if arrival[0] == tick):
            found += [(tick, f.scope.account) for f in breaches(bench.var(1.0, tick / 4, number, fresh=fresh))]
    assert sorted(found) == sorted(expected)


# --- feeds as a whole ---------------------------------------------------------------------------------------


def test_a_feed_trips_when_nothing_of_it_is_heard_any_more():
    bench = up(silence())
    bench.var(1.0, 1.0, number=14)
    bench.var(1.0, 4.0, number=15)
    assert bench.until(8.999) == []
    (breach,) = bench.until(9.0)
    assert (breach.rule, breach.kind, breach.scope, breach.labels) == ("f", "stale", account(16), ())
    assert breach.text == "feed var was not heard for 5.0 s, the limit is 5 s"
    assert breach.value == "5.000"
    assert bench.until(100.0) == []
    assert bench.rule_view("f").breaching == ((),)
    assert bench.rule_view("f").headroom == pytest.approx(-18.2)
    assert bench.var(1.0, 101.0) == []
    assert bench.watch.uncalm("f", (), 101.0) is None
    assert bench.rule_view("f").headroom == 1.0
    assert edges(bench.until(106.0)) == [("f", 16)]


def test_a_feed_that_is_never_heard_trips_so_long_after_the_start_whether_its_link_is_up_or_not():
    bench = Bench(silence(), feeds=(SLOW,))
    assert bench.until(4.999) == []
    (breach,) = bench.until(5.0)
    assert breach.text == "feed var was never heard for 5.0 s since the start, the limit is 5 s"


def test_after_a_start_it_is_not_calm_until_something_is_heard():
    bench = up(silence())
    bench.until(1.0)
    assert "never heard" in bench.watch.uncalm("f", (), 1.0)
    bench.var(1.0, 2.0)
    assert bench.watch.uncalm("f", (), 2.0) is None


def test_neither_a_retained_message_nor_a_bad_one_is_news_of_a_feed():
    bench = up(silence())
    bench.var(1.0, 1.0)
    bench.var(1.0, 3.0, fresh=False)
    bench.bad(4.0)
    assert edges(bench.until(6.0)) == [("f", 16)]


def test_an_oms_feed_is_heard_by_every_proven_look():
    bench = Bench(silence(feed="positions"), feeds=(OMS_FEED,))
    bench.session(1, 0.0)
    bench.positions(14, at=1.0)
    for at in (5.0, 9.0, 13.0):
        assert bench.heard(1, at) == []
    assert edges(bench.until(18.0)) == [("f", 16)]


def test_rules_on_feeds_stand_among_the_others_in_the_order_of_the_configuration():
    bench = up(stale("a"), silence("b"), stale("c"))
    assert [view.rule for view in bench.watch.view(0.0)[0]] == ["a", "b", "c"]
    assert coverage.uncovered("prime", (14, 16), [silence()], ()) == (14,)


@pytest.mark.parametrize("policy", [WARN, TRIP])
def test_a_series_known_by_what_a_broker_retained_is_unknown_no_more_once_it_speaks(policy):
    bench = Bench(stale(on_stale=policy), feeds=(replace(VAR_FEED, stale_after_s=3.0),))
    bench.up(0.0)
    bench.var(1.0, 1.0, fresh=False, retained=True)
    found = bench.until(4.0)
    assert (warned(found), edges(found)) == ((["stale"], []) if policy is WARN else ([], [("r", 99)]))
    assert bench.rule_view("r").unknown == ((),)
    assert ("heard_again" in warned(bench.var(1.0, 4.5))) is (policy is WARN)
    assert bench.rule_view("r").unknown == ()
    assert bench.watch.uncalm("r", (), 4.5) is None
    assert edges(bench.until(9.5)) == [("r", 14)]
