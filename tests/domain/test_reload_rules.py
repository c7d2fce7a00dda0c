"""A change of rules and feeds while it runs: what is equal goes on as if nothing had been, what is new begins now."""

from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import (
    InstrumentRow,
    Instruments,
    Keep,
    KeptWindow,
    OrderRejected,
    OrderWorking,
    PositionSeen,
    PriceSeen,
    SessionDown,
    SessionUp,
    Slice,
)
from killswitch.domain.settings import (
    DeadmanRule,
    DrawdownRule,
    FeedSpec,
    Label,
    RateRule,
    RatioRule,
    Rule,
    ScopeTemplate,
    SilenceRule,
    StaleRule,
)
from killswitch.domain.undo import Agenda, Queue, Table, Undo
from killswitch.domain.watch import kinds
from killswitch.domain.watch.plan import Wanted
from killswitch.domain.watch.rules import Watch
from tests.domain.watch_bench import (
    OMS_FEED,
    TRIP,
    VAR_FEED,
    WALL,
    Bench,
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
PNL_FEED = FeedSpec(name="pnl", kind="mqtt", reading="pnl", stale_after_s=7.0)
OTHER_FEED = FeedSpec(name="other", kind="mqtt", reading="other", stale_after_s=7.0)
FEEDS = (OMS_FEED, VAR_FEED, PNL_FEED)


def of_kind(kind, name, **more):
    like = rule(name)
    shape = {f.name: getattr(like, f.name) for f in fields(like) if f.name not in OF_LIMITS}
    return kind(**{**shape, **more})


OF_LIMITS = {"above", "below", "absolute", "for_s", "warn_at"}


def rate(name="often", **more):
    return of_kind(RateRule, name, **{"above": D(3), "per_s": 10.0, **more})


def drawdown(name="fallen", **more):
    return of_kind(DrawdownRule, name, **{"fall": D(10), "window_s": 20.0, **more})


def change(bench, *rules, feeds=FEEDS, at=None, **more):
    """What the change gave, and what had come due before it."""
    found = bench.until(bench.now if at is None else at)
    found += bench.watch.change(Wanted(feeds=tuple(feeds), rules=tuple(rules), **more), bench.now)
    bench.undo.commit()
    return found


def ratio(name="share", **more):
    """More than half as many readings of var as of pnl."""
    return of_kind(RatioRule, name, **{"over": "pnl", "above": D("0.5"), "window_s": 10.0, "at_least": 2, **more})


def old(name="old", **more):
    return of_kind(StaleRule, name, **{"older_than_s": 6.0, **more})


def deadman(name="heart", **more):
    where = ScopeTemplate(oms="prime", account=9)
    held = {"feed": "var", "silent_s": 7.0, "arm": "first", "on_stale": TRIP, "fallback": None, "scope": where}
    return DeadmanRule(**{"name": name, "owner": "desk", **held, **more})


def silence(name="silence", **more):
    where = ScopeTemplate(oms="prime", account=9)
    return SilenceRule(**{"name": name, "owner": "desk", "scope": where, "feed": "var", "older_than_s": 8.0, **more})


# --- what is equal ------------------------------------------------------------------------------------------

EVERY_KIND = (
    rule("limit", warn_at=(D("0.5"), D("0.9"))),
    rule("held", for_s=4.0, on_stale=TRIP, on_bad=TRIP),
    rate(),
    rate("sum", sum=True, above=D(60), per_s=6.0),
    drawdown(),
    old(),
    old("old-position", reading="position", on_stale=TRIP),
    silence(),
    deadman(),
    deadman("started", arm="start", silent_s=4.0),
    btc(on_stale=TRIP),
    ratio(),
    ratio("rejects", reading="reject", over="order", at_least=1),
)
OTHERS = (rule("other", above=D(20)), rate("other-rate", above=D(1)), rule("pnl", reading="other"))
AMONG = {
    "the same": (EVERY_KIND, FEEDS),
    "in another order": (EVERY_KIND[::-1], FEEDS[::-1]),
    "with others": ((*OTHERS[:1], *EVERY_KIND, *OTHERS[1:]), (*FEEDS, OTHER_FEED)),
    "read again": (tuple(replace(r) for r in EVERY_KIND), tuple(replace(f) for f in FEEDS)),
}

ACCOUNTS = st.sampled_from((14, 15))
VALUES = st.sampled_from((0.0, 20.0, 30.0, 46.0, 50.0, 51.0, 80.0, -5.0))
STEPS = st.one_of(
    st.tuples(st.just("var"), ACCOUNTS, VALUES, st.booleans()),
    st.tuples(st.just("bad"), st.one_of(st.none(), ACCOUNTS)),
    st.tuples(st.sampled_from(("up", "down", "session", "end", "heard"))),
    st.tuples(st.just("position"), ACCOUNTS, VALUES),
    st.tuples(st.just("pnl"), ACCOUNTS),
    st.tuples(st.sampled_from(("working", "rejected")), ACCOUNTS, st.integers(1, 5)),
    st.tuples(st.just("wait"), st.sampled_from((0.0, 0.5, 1.0, 3.0, 6.0, 12.0, 40.0))),
)


def take(bench, step):
    match step:
        case ("var", number, value, fresh):
            return bench.var(value, number=number, fresh=fresh)
        case ("bad", number):
            return bench.bad(named=None if number is None else labels(account=number))
        case ("position", number, value):
            return bench.positions(number, row(number, "BTC", value))
        case ("pnl", number):
            return bench.feed(bench.reading(1.0, number, feed="pnl", name="pnl"))
        case ("working", number, which):
            return bench.working(order(number, which))
        case ("rejected", number, which):
            rejected = OrderRejected(
                wall=WALL,
                oms="prime",
                session=1,
                account=number,
                instrument=25,
                user=37,
                order_id=which,
                client_order_id=None,
                reason="no",
            )
            return bench.feed(rejected)
        case ("wait", seconds):
            return bench.until(bench.now + seconds)
        case (what,):
            return getattr(bench, what)()


def seen(bench, found, names=tuple(r.name for r in EVERY_KIND)):
    """Everything that can be told of these rules, in an order of its own."""
    views, feeds = bench.watch.view(bench.now)
    asked = [(name, account) for name in names for account in (None, 14, 15)]
    return (
        sorted(repr(f) for f in found if f.rule is None or f.rule in names),
        sorted(repr(v) for v in views if v.rule in names),
        sorted(repr(f) for f in feeds if f.feed in ("var", "positions")),
        # Whether, not why: of two reasons the first by the order of the feeds is said.
        [bench.watch.uncalm(name, series_of(name, number), bench.now) is None for name, number in asked],
    )


def series_of(name, number):
    if number is None:
        return ()
    return labels(account=number, product="BTC") if name in ("btc", "old-position") else labels(account=number)


def test_every_kind_of_rule_there_is_takes_part():
    assert {type(r) for r in EVERY_KIND} == set(get_args(Rule))


@given(st.lists(st.tuples(STEPS, st.one_of(st.none(), st.sampled_from(sorted(AMONG)))), max_size=40))
def test_a_watch_that_is_reloaded_at_any_moment_says_what_one_says_that_never_was(steps):
    plain, reloaded = Bench(*EVERY_KIND, feeds=FEEDS), Bench(*EVERY_KIND, feeds=FEEDS)
    for step, to in steps:
        found = take(reloaded, step)
        assert seen(plain, take(plain, step)) == seen(reloaded, found)
        if to is not None:
            rules, feeds = AMONG[to]
            again = change(reloaded, *rules, feeds=feeds)
            assert seen(plain, []) == seen(reloaded, again)


VARIANTS = (
    (rule("x", above=D(40)), rule("x", warn_at=(D("0.5"),))),
    (rule("x", for_s=9.0), rule("x", for_s=2.0, on_stale=TRIP, on_bad=TRIP)),
    (rate("x"), rate("x", above=D(1), per_s=6.0)),
    (rate("x"), rate("x", sum=True, above=D(60), per_s=6.0)),
    (drawdown("x"), drawdown("x", fall=D(5), window_s=8.0)),
    (old("x", older_than_s=30.0), old("x", older_than_s=3.0)),
    (silence("x", older_than_s=30.0), silence("x", older_than_s=3.0)),
    (btc(name="x"), btc(name="x", above=D(30), on_stale=TRIP)),
    (rule("x"), rate("x")),
    (silence("x"), drawdown("x")),
    (deadman("x", arm="start", silent_s=20.0), deadman("x", arm="start", silent_s=3.0)),
)


@given(st.sampled_from(VARIANTS), st.lists(STEPS, max_size=20), st.lists(STEPS, max_size=20))
def test_a_changed_rule_is_a_new_rule(variants, before, after):
    """Nothing of what was known of it under its name is left, not even when it would be looked at again."""
    first, then = variants
    kept = (rule("kept"), deadman("kept-heart"))  # so that both have heard the beats of the feed
    changed, added = Bench(*kept, first), Bench(*kept)
    for step in before:
        take(changed, step)
        take(added, step)
    found = change(changed, *kept, then)
    assert seen(changed, found, ("kept", "x")) == seen(added, change(added, *kept, then), ("kept", "x"))
    for step in after:
        found = take(changed, step)
        assert seen(changed, found, ("kept", "x")) == seen(added, take(added, step), ("kept", "x"))


def test_an_unchanged_window_goes_on_counting_over_a_reload():
    bench = Bench(rate())
    bench.up(0.0)
    for at in (1.0, 2.0, 3.0):
        assert bench.var(1.0, at) == []
    assert change(bench, rate(), rule("new", above=D(1000)), at=3.5) == []
    assert edges(bench.var(1.0, 4.0)) == [("often", 14)]


def test_a_limit_that_must_hold_for_a_while_keeps_its_time_over_a_reload():
    bench = Bench(rule(for_s=3.0))
    bench.up(0.0)
    bench.var(60.0, 1.0)
    bench.var(60.0, 3.0)
    assert change(bench, rule(for_s=3.0), at=3.5) == []
    assert bench.until(3.99) == []
    assert edges(bench.until(4.0)) == [("r", 14)]


def test_a_breach_that_was_told_is_no_edge_again_after_a_reload():
    bench = Bench(rule())
    bench.up(0.0)
    assert edges(bench.var(60.0, 1.0)) == [("r", 14)]
    assert change(bench, rule()) == []
    assert edges(bench.var(61.0, 2.0)) == []


# --- what is new --------------------------------------------------------------------------------------------


def test_a_value_beyond_a_new_limit_trips_at_once():
    bench = Bench(rule("high", above=D(100)))
    bench.up(0.0)
    bench.var(60.0, 1.0)
    (breach,) = change(bench, rule("high", above=D(100)), rule("low"), at=2.0)
    assert (breach.rule, breach.scope.account, breach.repeated) == ("low", 14, False)
    assert breach.text == "var 60.0 is above 50.0 (account 14; 1.0 s old)"


def test_a_value_beyond_a_changed_limit_trips_at_once_and_one_inside_is_calm():
    bench = Bench(rule(above=D(100)))
    bench.up(0.0)
    bench.var(60.0, 1.0)
    assert edges(change(bench, rule(above=D(50)))) == [("r", 14)]
    assert change(bench, rule(above=D(70))) == []
    assert bench.watch.uncalm("r", labels(account=14), bench.now) is None


def test_a_series_that_no_rule_watched_is_known_to_a_new_one():
    bench = Bench(rule("other", where=(("account", "15"),)))
    bench.up(0.0)
    bench.var(60.0, 1.0)
    assert edges(change(bench, rule(), at=2.0)) == [("r", 14)]


def test_a_feed_that_no_rule_read_is_known_to_a_new_one():
    bench = Bench(btc())
    bench.up(0.0)
    bench.var(60.0, 1.0)
    assert edges(change(bench, btc(), rule(), at=2.0)) == [("r", 14)]


def test_a_bad_value_of_a_series_that_no_rule_watched_is_no_value_to_a_new_one():
    bench = Bench(btc())
    bench.up(0.0)
    bench.var(1.0, 1.0)
    bench.bad(1.5, named=labels(account=14))
    (breach,) = change(bench, rule(on_bad=TRIP), at=2.0)
    assert "can't be read" in breach.text
    assert "can't be read" in bench.watch.uncalm("r", labels(account=14), bench.now)


def test_a_new_rule_over_a_feed_that_fell_silent_hears_of_it_at_once():
    bench = Bench(rule("first"))
    bench.up(0.0)
    bench.var(1.0, 1.0)
    bench.until(20.0)
    assert edges(change(bench, rule("first"), rule(on_stale=TRIP))) == [("r", 99)]


def test_a_new_rule_without_a_series_is_given_the_time_that_its_feed_has():
    bench = Bench(rule("first", where=(("account", "14"),)))
    bench.up(0.0)
    bench.var(1.0, 1.0)
    late = rule("late", where=(("account", "15"),), on_stale=TRIP)
    assert change(bench, rule("first", where=(("account", "14"),)), late, at=2.0) == []
    assert bench.var(1.0, 5.0) == []
    assert edges(bench.until(7.0)) == [("late", 99)]


def test_the_window_of_a_new_rule_is_warming_until_it_is_whole():
    bench = Bench(rate("old"))
    bench.up(0.0)
    for at in range(1, 30):
        bench.var(1.0, float(at) * 4)
    assert change(bench, rate("old"), rate("new")) == []
    assert [bench.rule_view(name).warming for name in ("old", "new")] == [0, 1]
    assert "warming" in bench.watch.uncalm("new", labels(account=14), bench.now)
    bench.var(1.0, bench.now + 10)
    assert bench.rule_view("new").warming == 0


def test_the_highest_value_of_a_drawdown_outlives_a_change_of_its_limit():
    bench = Bench(drawdown())
    bench.up(0.0)
    bench.var(100.0, 1.0)
    bench.var(95.0, 2.0)
    assert edges(change(bench, drawdown(fall=D(5)), at=2.5)) == [("fallen", 14)]


def test_a_drawdown_over_another_window_begins_at_the_value_of_now():
    bench = Bench(drawdown())
    bench.up(0.0)
    bench.var(100.0, 1.0)
    bench.var(95.0, 2.0)
    assert change(bench, drawdown(fall=D(5), window_s=30.0), at=2.5) == []
    assert edges(bench.var(90.5, 3.0)) == []
    assert edges(bench.var(90.0, 4.0)) == [("fallen", 14)]


LIMITS = (
    (rate("x"), rate("x", above=D(1), warn_at=(D("0.5"),))),
    (rate("x", sum=True), rate("x", sum=True, above=D(60), owner="another")),
    (drawdown("x"), drawdown("x", fall=D(5), scope=ScopeTemplate(oms="prime", account=9))),
    (drawdown("x", mode="shadow"), drawdown("x")),
    (ratio("x"), ratio("x", above=D("0.9"), at_least=1)),
)


@given(st.sampled_from(LIMITS), st.lists(STEPS, max_size=20), st.lists(STEPS, max_size=20))
def test_a_rule_whose_limit_is_changed_looks_back_as_if_it_had_been_so_from_the_start(limits, before, after):
    """Neither a fall nor a count is forgotten by an edit, as none is over a restart."""
    first, then = limits
    changed, always = Bench(first, feeds=FEEDS), Bench(then, feeds=FEEDS)

    def looks_back(bench):
        held = bench.rule_view("x")
        return held.series, held.headroom

    for step in before:
        take(changed, step)
        take(always, step)
    change(changed, then)
    for step in after:
        take(changed, step)
        take(always, step)
        assert looks_back(changed) == looks_back(always)


def test_a_fall_that_tripped_in_shadow_trips_when_its_rule_is_made_live():
    bench = Bench(drawdown(mode="shadow"))
    bench.up(0.0)
    bench.var(100.0, 1.0)
    assert edges(bench.var(80.0, 2.0)) == [("fallen", 14)]
    assert edges(change(bench, drawdown(), at=3.0)) == [("fallen", 14)]


def test_a_removed_rule_says_and_trips_nothing_more():
    bench = Bench(rule(), rule("kept", above=D(1000)))
    bench.up(0.0)
    bench.var(1.0, 1.0)
    change(bench, rule("kept", above=D(1000)))
    assert bench.var(60.0, 2.0) == []
    assert [v.rule for v in bench.watch.view(bench.now)[0]] == ["kept"]


def test_a_new_feed_has_its_own_time_to_come_up():
    bench = Bench(rule())
    bench.up(0.0)
    for at in range(0, 60, 4):
        bench.var(1.0, float(at))
    assert change(bench, rule(), rule("pnl", reading="other", on_stale=TRIP), feeds=(*FEEDS, OTHER_FEED), at=60.0) == []
    for at in range(60, 90, 4):
        assert bench.var(1.0, float(at)) == []
    assert edges(bench.until(90.0)) == [("pnl", 99)]


def test_a_feed_that_reads_from_elsewhere_now_has_been_heard_of_nothing():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(60.0, 1.0)
    change(bench, rule(), replaced=frozenset({"var"}))
    assert bench.rule_view("r").series == 0
    assert not bench.feed_view("var").up
    assert bench.watch.uncalm("r", labels(account=14), bench.now) == "var was never heard (account 14)"
    assert edges(bench.var(60.0, 2.0)) == [("r", 14)]


def test_an_oms_feed_that_is_new_stands_where_its_session_stands():
    bench = Bench(rule(), feeds=(VAR_FEED,))
    bench.session(1, 0.0)
    change(bench, rule(), btc(), at=50.0)
    assert bench.feed_view("positions").up
    assert edges(bench.positions(14, row(14, "BTC", 60), at=51.0)) == [("btc", 14)]


def test_a_new_rule_that_needs_a_label_which_a_known_series_lacks_is_left_in_the_dark_at_once():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(1.0, 1.0)
    needs = rule(
        "needs", scope=ScopeTemplate(oms="prime", account=1, instrument=2), where=(("desk", "a"),), on_bad=TRIP
    )
    assert edges(change(bench, rule(), needs, at=2.0)) == [("needs", 99)]


@pytest.mark.parametrize("shorter", [old("x", older_than_s=3.0), silence("x", older_than_s=3.0)], ids=lambda r: r.kind)
def test_a_time_that_is_shorter_now_is_over_sooner_whatever_was_planned_before(shorter):
    bench = Bench(replace(shorter, older_than_s=300.0), feeds=(replace(VAR_FEED, stale_after_s=1000.0),))
    bench.up(0.0)
    bench.var(1.0, 10.0)
    assert change(bench, shorter, feeds=(replace(VAR_FEED, stale_after_s=1000.0),), at=11.0) == []
    assert edges(bench.until(12.9)) == []
    assert [name for name, _ in edges(bench.until(13.0))] == ["x"]


def test_another_numeraire_begins_every_sum_anew_and_the_next_lists_tell_it():
    rows = (InstrumentRow(25, "BTCUSD", "BTC", "USD"), InstrumentRow(26, "USDEUR", "USD", "EUR"))

    def shown(bench, at):
        found = bench.feed(Instruments(wall=WALL, call=1, session=1, rows=rows), at)
        for instrument, price in ((25, D(100)), (26, D(2))):
            seen_price = PriceSeen(
                wall=WALL, oms="prime", session=1, instrument=instrument, bid=price, ask=price, last=price
            )
            found += bench.feed(seen_price)
        return found + bench.positions(14, row(14, "BTC", 1))

    of_equity = rule(
        "equity", reading="equity", above=D(150), scope=ScopeTemplate(oms="prime", account=Label("account"))
    )
    bench = Bench(of_equity, feeds=(replace(OMS_FEED, numeraire="USD"),))
    bench.session(1, 0.0)
    assert edges(shown(bench, 1.0)) == []
    assert bench.rule_view("equity").headroom == pytest.approx(1 / 3)
    assert edges(change(bench, of_equity, feeds=(replace(OMS_FEED, numeraire="EUR"),), at=2.0)) == []
    assert bench.rule_view("equity").headroom is None
    assert edges(shown(bench, 3.0)) == [("equity", 14)]


# --- what a trip waits for ----------------------------------------------------------------------------------


def test_a_removed_rule_that_a_trip_waits_for_is_judged_on_and_trips_nothing():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(60.0, 1.0)
    bound = frozenset({"r"})
    assert change(bench, bound=bound) == []
    assert "60.0 is above" in bench.watch.uncalm("r", labels(account=14), bench.now)
    assert bench.watch.view(bench.now)[0] == ()
    assert bench.var(1.0, 2.0) == []
    assert bench.watch.uncalm("r", labels(account=14), bench.now) is None
    assert bench.var(70.0, 3.0) == []
    assert "70.0 is above" in bench.watch.uncalm("r", labels(account=14), bench.now)


def test_a_changed_rule_that_a_trip_waits_for_is_asked_as_it_was_and_as_it_is():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(60.0, 1.0)
    assert change(bench, rule(above=D(100)), bound=frozenset({"r"})) == []
    assert "above 50.0" in bench.watch.uncalm("r", labels(account=14), bench.now)
    change(bench, rule(above=D(10)), bound=frozenset({"r"}))  # once more
    bench.var(20.0, 2.0)
    assert "above 10" in bench.watch.uncalm("r", labels(account=14), bench.now)
    bench.var(5.0, 3.0)
    assert bench.watch.uncalm("r", labels(account=14), bench.now) is None


def test_what_no_trip_waits_for_any_more_is_let_go():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(60.0, 1.0)
    change(bench, bound=frozenset({"r"}))
    bench.watch.release(frozenset({"r"}), bench.now)
    assert bench.watch.is_retired("r")
    bench.watch.release(frozenset(), bench.now)
    assert not bench.watch.is_retired("r")
    assert bench.watch.uncalm("r", labels(account=14), bench.now) is None


def test_a_removed_rule_whose_feed_went_as_well_can_be_judged_by_nobody():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(60.0, 1.0)
    change(bench, feeds=(OMS_FEED,), bound=frozenset({"r"}))
    assert bench.watch.uncalm("r", labels(account=14), bench.now) is None
    assert not bench.watch.is_retired("r")


def test_a_removed_rule_that_a_trip_waits_for_keeps_its_window():
    bench = Bench(rate(), drawdown())
    bench.up(0.0)
    for at in (16.0, 17.0, 18.0, 19.0):
        bench.var(20.0 - at, at)
    change(bench, bound=frozenset({"often", "fallen"}))
    assert "came 4 times" in bench.watch.uncalm("often", labels(account=14), bench.now)
    assert "whole in 1.0 s" in bench.watch.uncalm("fallen", labels(account=14), bench.now)
    bench.var(1.0, 23.5)
    assert bench.watch.uncalm("fallen", labels(account=14), bench.now) is None
    bench.var(1.0, 29.5)
    assert bench.watch.uncalm("often", labels(account=14), bench.now) is None


def test_a_rule_that_never_can_say_anything_of_what_tripped_holds_no_reset_back_beside_what_it_was():
    bench = Bench(rule())
    bench.up(0.0)
    bench.var(60.0, 1.0)
    change(bench, rule(reading="pnl"), bound=frozenset({"r"}))
    uncalm = bench.watch.uncalm("r", labels(account=14), bench.now)
    assert uncalm.endswith("above 50.0 (account 14; 0.0 s old): so rule r says as it was when it tripped")
    bench.var(5.0, 2.0)
    assert bench.watch.uncalm("r", labels(account=14), bench.now) is None


def test_what_was_kept_of_a_window_goes_to_the_rule_that_takes_it_over():
    """Of a series that wasn't heard yet since the start, and over the next start too."""
    bench = Bench(rate())
    bench.watch = Watch(FEEDS, (rate(),), bench.undo, bench.agenda, 0.0, keeps=True)
    kept = KeptWindow(
        rule="often",
        definition=kinds.definition(rate()),
        feed="var",
        reading="var",
        labels=labels(account=99),
        since=-20.0,
        slices=(Slice(0.0, 0.0, 2, D(0)),),
    )
    bench.watch.memory.put_back((Keep(WALL, 0.0, (kept,)),), 0.0, WALL, WALL)
    bench.undo.commit()
    bench.up(0.0)
    change(bench, rate(above=D(2)))
    assert edges(bench.var(1.0, 1.0, number=99)) == [("often", 99)]
    change(bench, rate(above=D(9)))
    (told,) = [w for w in bench.watch.memory.all(bench.now) if w.labels == labels(account=99)]
    assert sum(held.count for held in told.slices) == 3


def test_a_heart_that_goes_and_comes_back_is_judged_once_as_it_was_and_once_as_it_is():
    bench = Bench(deadman())
    bench.up(0.0)
    bench.beat(1.0, feed="var")
    assert [name for name, _ in edges(bench.until(9.0))] == ["heart"]
    bound = frozenset({"heart"})
    for _ in range(5):
        change(bench, bound=bound)
        change(bench, deadman(), bound=bound)
    assert list(bench.watch._roster.plan.retired.values()) == ["heart"]
    assert "as it was when it tripped" in bench.watch.uncalm("heart", (), bench.now)
    bench.beat(10.0, feed="var")
    assert bench.watch.uncalm("heart", (), bench.now) is None


@pytest.mark.parametrize("there", [(), (rate(above=D(9)),)], ids=["removed", "changed"])
def test_a_rule_that_comes_back_as_it_was_goes_on_with_its_window_and_is_judged_once(there):
    bench = Bench(rate())
    bench.up(0.0)
    bound = frozenset({"often"})
    for _ in range(5):
        change(bench, *there, bound=bound)
        bench.var(1.0, bench.now + 1)
        change(bench, rate(), bound=bound)
    assert "came 5 times" in bench.watch.uncalm("often", labels(account=14), bench.now)
    assert len(bench.watch._roster.plan.retired) <= 1
    assert bench.watch.is_retired("often") == bool(there)


# --- nothing is forgotten, and nothing left behind ------------------------------------------------------------

GONE = (
    rule("gone-limit", warn_at=(D("0.5"),), on_bad=TRIP, reading="gone-reading"),
    rule("gone-held", for_s=100.0, reading="gone-reading"),
    rate("gone-rate", sum=True, reading="gone-reading"),
    drawdown("gone-drawdown", reading="gone-reading"),
    rule("gone-missed", where=(("account", "77"),), reading="gone-reading"),
    old("gone-old", reading="gone-reading"),
    rate("gone-kept", reading="gone-reading", per_s=1000.0),
    ratio("gone-ratio", reading="reject", over="order", scope=ScopeTemplate(oms="gone-oms", account=1), fallback=None),
    rule("gone-price", reading="price", scope=ScopeTemplate(oms="gone-oms", account=1), fallback=None),
    deadman("gone-heart", feed="gone-feed", silent_s=0.5),
    silence("gone-silence", feed="gone-feed", older_than_s=1.0),
    btc(name="gone-position", scope=ScopeTemplate(oms="gone-oms", account=1), fallback=None),
)
GONE_FEEDS = (
    FeedSpec(name="gone-feed", kind="mqtt", reading="gone-reading", stale_after_s=5.0),
    FeedSpec(name="gone-positions", kind="oms", oms="gone-oms", stale_after_s=10.0, numeraire="USD"),
)


def filled():
    """A bench on which everything that Watch keeps was filled by rules, feeds and an OMS that will go."""
    bench = Bench(rule(), feeds=FEEDS)
    bench.watch = Watch(FEEDS, (rule(),), bench.undo, bench.agenda, 0.0, keeps=True)
    change(bench, rule(), *GONE, feeds=(*FEEDS, *GONE_FEEDS))
    kept = KeptWindow(
        rule="gone-kept",
        definition=kinds.definition(next(r for r in GONE if r.name == "gone-kept")),
        feed="gone-feed",
        reading="gone-reading",
        labels=labels(account=99),
        since=0.0,
        slices=(Slice(0.0, 0.0, 1, D(1)),),
    )
    bench.watch.memory.put_back((Keep(WALL, 0.0, (kept,)),), 0.0, WALL, WALL)

    def read(value, at, number=14, **more):
        return bench.feed(bench.reading(value, number, feed="gone-feed", name="gone-reading", **more), at)

    bench.up(0.0, feed="gone-feed")
    for at in range(1, 4):
        read(100.0 - 20 * at, float(at))
        read(-40.0, float(at), number=15)
    bench.feed(replace(bench.reading(1.0, 16, feed="gone-feed", name="gone-reading"), labels=()), 3.0)  # a stray
    for session in (1, 2):
        bench.feed(SessionUp(wall=0.0, oms="gone-oms", gateway="g", session=session))
        bench.positions(14, row(14, "BTC", 60), at=4.0, session=session)
        bench.orders(14, order(14, 7), session=session)
        rows = (InstrumentRow(25, "BTCUSD", "BTC", "USD"),)
        bench.feed(Instruments(wall=WALL, call=1, session=session, rows=rows))
        for instrument, bid in ((25, D(1)), (26, None)):
            price = PriceSeen(
                wall=WALL, oms="gone-oms", session=session, instrument=instrument, bid=bid, ask=bid, last=bid
            )
            bench.feed(price)
        held = OrderWorking(wall=WALL, oms="gone-oms", session=session, order=order(14, 8))
        bench.feed(held)
    bench.feed(SessionDown(wall=0.0, oms="gone-oms", gateway="g", session=1, why="cut"))
    read(60.0, 7.0)
    read(1.0, 7.0, number=16, source_at=WALL)
    bench.watch.memory.wake(("keep", "changed"), 7.5)
    read(1.0, 7.5, number=17)
    bench.undo.commit()
    bench.until(9.0)
    bench.feed(
        PositionSeen(wall=WALL, oms="gone-oms", session=2, row=row(14, "BTC", 61))
    )  # account 15 is due by now, and its lane has not been heard since
    return bench


def rooms(thing, path="watch", found=None, seen=None):
    """path -> every table, queue and dict that can be reached from `thing`, and all values that it holds."""
    found, seen = ({} if found is None else found), (set() if seen is None else seen)
    if id(thing) in seen or isinstance(thing, Undo | Agenda | type):
        return found
    seen.add(id(thing))
    if isinstance(thing, Table | Queue):
        found[path] = thing._held
        rooms(thing._held, path, found, seen)
    elif isinstance(thing, dict):
        found[path] = thing
        for key, value in thing.items():
            rooms(key, f"{path}[]", found, seen)
            rooms(value, f"{path}[]", found, seen)
    elif isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
        for one in thing:
            rooms(one, f"{path}[]", found, seen)
    elif is_dataclass(thing):
        found.setdefault(f"{path}:{type(thing).__name__}", thing)
        for field in fields(thing):
            rooms(getattr(thing, field.name), f"{path}.{field.name}", found, seen)
    elif isinstance(thing, str):
        found.setdefault(f"text {thing}", path)
    elif hasattr(thing, "__dict__"):
        for name, value in vars(thing).items():
            rooms(value, f"{path}.{name}", found, seen)
    return found


EMPTY_AT_LEAST_ONCE = {"watch._roster.plan.retired"}
"""What this test leaves empty: nothing that a rule, a feed or an OMS fills by itself."""


def test_this_test_fills_every_table_that_watch_keeps():
    """A table that is new here has to be filled above, so that the next test sees whether it is let go."""
    tables = {
        path: held for path, held in rooms(filled().watch).items() if isinstance(held, dict) or hasattr(held, "append")
    }
    assert {path for path, held in tables.items() if not held and "[]" not in path} <= EMPTY_AT_LEAST_ONCE


def test_what_is_gone_leaves_nothing_behind():
    bench = filled()
    assert any("gone" in path for path in rooms(bench.watch))
    change(bench, rule(), omses=frozenset({"gone-oms"}))
    bench.watch.memory.wake(("keep", "changed"), bench.now + 5)  # that nothing is kept of them is told as well
    assert [(path, where) for path, where in rooms(bench.watch).items() if "gone" in path] == []


def plainly(thing):
    """What a value says, of a table too: not where it lies in memory."""
    if isinstance(thing, tuple):
        return str([plainly(one) for one in thing])
    return f"table of {len(thing)}" if isinstance(thing, Table | Queue) else repr(thing)


def test_a_change_that_is_taken_back_has_changed_nothing():
    bench = filled()

    def told():
        held = {
            path: inside for path, inside in rooms(bench.watch).items() if "[]" not in path and not is_dataclass(inside)
        }
        return {
            path: sorted(map(plainly, getattr(inside, "items", inside.__iter__)())) for path, inside in held.items()
        }

    before = told()
    wanted = (rule(above=D(1)), rule("new"))
    omses = frozenset({"gone-oms"})
    bench.watch.change(Wanted(feeds=(OTHER_FEED, VAR_FEED), rules=wanted, omses=omses), bench.now)
    assert told() != before
    bench.undo.rollback()
    assert told() == before


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda r: r.name)
def test_a_rule_of_each_kind_that_a_reload_brings_works_and_is_let_go_again(kind):
    bench = Bench(rule())
    bench.session(1, 0.0)
    bench.up(0.0)
    bench.var(0.0, 1.0)
    bench.up(1.0, feed="pnl")
    change(bench, rule(), replace(kind, name="newcomer"), at=2.0)
    found = []
    for at in range(3, 20):
        found += bench.var(70.0 if at < 12 else 1.0, float(at))
        found += bench.positions(14, row(14, "BTC", 70))
        found += take(bench, ("pnl", 14)) + take(bench, ("working", 14, at)) if at < 5 else []
        found += take(bench, ("rejected", 14, 100 + at))
    found += bench.until(45.0)  # and then nothing is heard any more
    assert "newcomer" in [name for name, _ in edges(found)]
    change(bench, rule(), at=46.0)
    assert not any("newcomer" in path for path in rooms(bench.watch))
    assert [b.rule for b in breaches(bench.var(70.0, 47.0))] == ["r"]
    assert warned(bench.until(50.0)) == []
