"""Ratio rules: too many readings of one kind to those of another, within a window that moves on."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import FeedUp, Reading
from killswitch.domain.settings import FeedSpec, RatioRule
from tests.domain.test_memory import Lives, in_slices
from tests.domain.watch_bench import (
    FALLBACK,
    OMS_FEED,
    TRIP,
    WALL,
    WARN,
    Bench,
    breaches,
    edges,
    labels,
    order,
    rule,
    warned,
)

D = Decimal
REJECTS = FeedSpec(name="rejects", kind="mqtt", reading="reject", stale_after_s=1000.0)
ORDERS = FeedSpec(name="orders", kind="websocket", reading="order", stale_after_s=1000.0)


def ratio(name="r", **more):
    """More than half of the orders of 60 s rejected, of 4 at least."""
    held = {"reading": "reject", "over": "order", "above": D("0.5"), "window_s": 60.0, "at_least": 4}
    held |= {"owner": "desk", "where": (), "on_stale": WARN, "on_bad": WARN, "fallback": FALLBACK}
    return RatioRule(name=name, **{**held, "scope": rule().scope, **more})


class Desk(Bench):
    """Two feeds, both up at 0.0."""

    def __init__(self, *rules, feeds=(REJECTS, ORDERS)):
        super().__init__(*rules, feeds=feeds)
        for feed in feeds:
            self.up(0.0, feed.name)

    def reject(self, at=None, number=14, **more):
        return self.feed(self.reading(1, number, **{"feed": "rejects", "name": "reject", **more}), at)

    def order(self, at=None, number=14, **more):
        return self.feed(self.reading(1, number, **{"feed": "orders", "name": "order", **more}), at)


def test_the_reading_that_takes_the_share_above_its_limit_trips_and_says_so():
    desk = Desk(ratio())
    assert [desk.order(at) for at in (1.0, 2.0, 3.0, 4.0)] == [[], [], [], []]
    assert [desk.reject(at) for at in (5.0, 6.0)] == [[], []]  # 2 of 4 is not above 0.5
    (breach,) = desk.reject(7.0)
    assert (breach.kind, breach.value, breach.worst, breach.repeated) == ("ratio", "0.75", "0.75", False)
    assert breach.scope.account == 14
    assert breach.text == (
        "reject came 3 times to 4 of order, a share of 0.75, above 0.5 of order in 60 s with 4 or more "
        "(account 14; 0.0 s old)"
    )


def test_with_fewer_than_at_least_it_does_not_trip_and_the_reading_that_makes_them_enough_does():
    desk = Desk(ratio())
    found = [desk.reject(1.0) for _ in range(9)] + [desk.order(2.0) for _ in range(3)]
    assert not any(found)
    assert desk.rule_view("r").headroom == 1.0
    assert edges(desk.order(3.0)) == [("r", 14)]


def test_readings_without_any_of_what_they_are_a_share_of_never_trip():
    desk = Desk(ratio(at_least=1, above=D(0)))
    assert not any(desk.reject(at) for at in (1.0, 2.0, 3.0))
    assert edges(desk.order(4.0)) == [("r", 14)]


def test_a_share_is_compared_exactly():
    desk = Desk(ratio(above=D("0.3333333333333333333333333333"), at_least=1))
    found = [desk.order(1.0), desk.order(1.0), desk.order(1.0), desk.reject(2.0)]
    assert [edges(part) for part in found] == [[], [], [], [("r", 14)]]  # 1/3 is above it
    desk = Desk(ratio(above=D("0.1"), at_least=1))
    assert not any([*(desk.order(1.0) for _ in range(10)), desk.reject(2.0)])


def test_only_equal_labels_pair():
    desk = Desk(ratio())
    for n in range(4):
        desk.order(float(n), number=14)
        desk.reject(float(n), number=15)
    assert desk.rule_view("r").series == 2
    assert [edges(desk.reject(5.0, number=14)) for _ in range(3)] == [[], [], [("r", 14)]]
    assert desk.rule_view("r").breaching == (labels(account=14),)


def test_the_rule_s_where_holds_for_both():
    desk = Desk(ratio(where=(("account", "14"),), at_least=1))
    desk.order(1.0, number=15)
    assert desk.reject(1.0, number=15) == []
    assert desk.rule_view("r").series == 0
    desk.order(1.0)
    assert edges(desk.reject(1.0)) == [("r", 14)]


def test_a_share_rises_and_trips_by_itself_as_what_it_is_a_share_of_leaves_the_window():
    desk = Desk(ratio(at_least=2))
    for at in (0.0, 1.0, 2.0, 30.0):
        desk.order(at)
    assert [desk.reject(40.0), desk.reject(40.0)] == [[], []]
    assert desk.until(59.999) == []
    assert edges(desk.until(60.0)) == [("r", 14)]  # 2 of 3
    assert [b.repeated for b in breaches(desk.until(61.0))] == [True]  # 2 of 2
    assert desk.rule_view("r").headroom == -1.0
    assert desk.until(62.0) == []  # one is too few
    assert desk.rule_view("r").breaching == ()


def test_a_breach_that_time_ended_is_a_new_one_when_time_begins_it_again():
    desk = Desk(ratio(at_least=1))
    desk.reject(0.0)
    desk.reject(5.0)
    desk.order(10.0)
    desk.order(11.0)
    assert edges(desk.order(12.0)) == []  # 2 of 3 began at the first order
    assert edges(desk.until(60.0)) == []  # 1 of 3
    desk = Desk(ratio(at_least=1))
    for at in (0.0, 0.0, 1.0):
        desk.reject(at)
    assert [edges(desk.order(at)) for at in (2.0, 20.0, 21.0)] == [[("r", 14)], [], []]
    assert desk.until(61.9) == []  # by then all rejects have left
    desk.reject(62.5)
    assert edges(desk.until(79.9)) == []  # 1 of 2
    assert edges(desk.until(80.0)) == [("r", 14)]


def test_nothing_wakes_it_while_nothing_of_its_reading_is_in_the_window():
    desk = Desk(ratio())
    for n in range(5):
        desk.order(float(n))
    assert desk.agenda.when(("watch", "sum", "r", ("", "reject", labels(account=14)))) is None
    desk.reject(5.0)
    assert desk.agenda.when(("watch", "sum", "r", ("", "reject", labels(account=14)))) == 60.0
    desk.order(40.0)
    desk.until(65.0)
    assert desk.agenda.when(("watch", "sum", "r", ("", "reject", labels(account=14)))) is None


def test_what_a_broker_retained_is_no_arrival_of_either():
    desk = Desk(ratio(at_least=1))
    desk.order(1.0, fresh=False)
    assert desk.reject(2.0) == []
    desk.order(3.0)
    assert edges(desk.order(4.0)) == []
    desk.reject(5.0, fresh=False)
    assert desk.rule_view("r").headroom == 0.0  # 1 of 2


def test_a_reading_out_of_order_is_not_counted():
    desk = Desk(ratio(at_least=1, above=D("0.9")))
    desk.order(1.0)
    desk.order(1.0)
    desk.reject(1.0, source_at=WALL - 1)
    assert desk.reject(2.0, source_at=WALL - 5) == []


def test_its_readings_may_come_from_several_feeds():
    other = FeedSpec(name="more", kind="mqtt", reading="reject", stale_after_s=1000.0)
    desk = Desk(ratio(at_least=2), feeds=(REJECTS, ORDERS, other))
    desk.order(1.0)
    desk.order(1.0)
    assert desk.reject(2.0) == []
    assert edges(desk.reject(3.0, feed="more")) == [("r", 14)]
    assert desk.rule_view("r").series == 1


def test_either_feed_s_silence_makes_it_unknown_and_trips_where_the_rule_says_so():
    for silent in ("rejects", "orders"):
        feeds = [replace(f, stale_after_s=5.0) if f.name == silent else f for f in (REJECTS, ORDERS)]
        desk = Desk(ratio(), feeds=feeds)
        desk.reject(1.0)
        desk.order(1.0)
        assert warned(desk.until(6.0)) == ["stale"]
        assert () in desk.rule_view("r").unknown
        assert "was not heard for 5.0 s" in desk.watch.uncalm("r", labels(account=14), 6.0)
        desk = Desk(ratio(on_stale=TRIP), feeds=feeds)
        assert edges(desk.until(5.0)) == [("r", 99)]


def test_a_rule_that_has_heard_one_of_the_two_knows_its_series():
    desk = Desk(ratio())
    desk.order(1.0)
    view = desk.rule_view("r")
    assert (view.series, view.headroom, view.kind) == (1, 1.0, "ratio")
    assert view.limit == "above 0.5 of order in 60 s with 4 or more"
    assert desk.until(999.0) == []
    assert warned(desk.until(1000.0)) == ["stale"]  # the other feed was never heard


def test_what_cannot_be_read_of_either_is_bad_for_the_rule_and_not_counted():
    desk = Desk(ratio(at_least=1, on_bad=TRIP))
    desk.order(1.0)
    desk.order(1.0)
    assert desk.reject(2.0) == []
    found = desk.feed(desk.reading(D("nan"), feed="orders", name="order"), 3.0)
    assert edges(found) == [("r", 14)]
    assert desk.rule_view("r").headroom == 0.0


def test_headroom_breach_and_calm_are_those_of_now_though_nothing_came():
    desk = Desk(ratio())
    desk.until(70.0)
    for _ in range(4):
        desk.order(71.0)
        desk.reject(71.0)
    assert desk.rule_view("r").breaching == (labels(account=14),)
    assert desk.watch.uncalm("r", labels(account=14), 72.0).startswith("reject came 4 times to 4 of order")
    assert desk.watch.uncalm("r", labels(account=14), 131.0) is None
    desk.until(131.0)
    view = desk.rule_view("r")
    assert (view.headroom, view.breaching) == (1.0, ())


def test_a_window_that_is_not_whole_yet_of_either_feed_is_warming_and_no_reset():
    desk = Bench(ratio(), feeds=(REJECTS, ORDERS))
    desk.up(0.0, "rejects")
    desk.up(30.0, "orders")
    desk.feed(desk.reading(1, feed="rejects", name="reject"), 61.0)
    assert desk.rule_view("r").warming == 1
    said = desk.watch.uncalm("r", labels(account=14), 61.0)
    assert said == "reject over order is warming: its window of 60 s is whole in 29.0 s (account 14; feed rejects)"
    desk.until(90.0)
    assert desk.rule_view("r").warming == 0


def test_a_reading_leaves_the_windows_of_rules_that_do_not_read_it_alone():
    desk = Desk(ratio(), *(ratio(f"q{n}", reading="cancel", over="trade") for n in range(50)))
    desk.order(1.0)
    assert list(desk.watch._roster.windows._parts) == [("r", ("", "order", labels(account=14)))]


def test_events_of_an_oms_pair_by_their_account_and_what_the_rule_names_for_a_rejection_says_little_else():
    watched = ratio(at_least=2), ratio("one", at_least=2, where=(("instrument", "25"),))
    desk = Bench(*watched, feeds=(replace(OMS_FEED, stale_after_s=1000.0),))
    desk.session(at=0.0)
    for number in (14, 15):
        desk.orders(number, at=0.0)
    desk.working(order(14, 1), at=1.0)
    desk.working(order(14, 2, instrument=26), at=2.0)
    assert edges(desk.refused(14, at=3.0, client_order_id=1)) == []  # 1 of 2; it names no instrument
    assert edges(desk.refused(15, at=3.0, client_order_id=2)) == []
    found = desk.refused(14, at=4.0, client_order_id=3)
    assert edges(found) == [("r", 14)]
    assert breaches(found)[0].labels == labels(account=14)
    view = desk.rule_view("r")
    assert (view.series, view.breaching) == (2, (labels(account=14),))
    assert desk.watch.uncalm("r", labels(account=14), 5.0).startswith("reject came 2 times to 2 of order")
    assert desk.watch.uncalm("r", labels(account=15), 5.0).startswith("reject over order is warming")
    assert edges(desk.refused(14, at=6.0, client_order_id=4, instrument=25)) == []
    desk.working(order(14, 3), at=7.0)
    assert edges(desk.refused(14, at=8.0, client_order_id=5, instrument=25)) == [("one", 14)]  # 2 of 2 of 25


STEP = st.tuples(
    st.sampled_from([0.0, 0.0, 0.25, 1.0, 10.0, 30.0, 60.0, 75.0]),
    st.sampled_from(["reject", "order", "order", "undo"]),
)


@given(st.lists(STEP, max_size=50), st.sampled_from(["0", "0.5", "1", "1.75"]), st.integers(min_value=1, max_value=4))
def test_the_share_kept_step_by_step_is_the_one_counted_anew_and_each_edge_is_told(steps, above, at_least):
    watched = ratio(above=D(above), at_least=at_least)
    desk = Desk(watched)
    came, told, now = [], [], 0.0

    def counts(at):
        held = [name for arrived, name in came if arrived <= at < arrived + watched.window_s]
        return held.count("reject"), held.count("order")

    def past(at):
        rejects, orders = counts(at)
        return orders >= at_least and rejects > watched.above * orders

    def measured(at):
        key, windows = ("", "reject", labels(account=14)), desk.watch._roster.windows
        return windows.measure(watched, key, at), windows.measure(watched, ("", "order", key[2]), at)

    def until(at):
        """Time alone: every instant at which something leaves is looked at."""
        nonlocal was
        for leaves in sorted({arrived + watched.window_s for arrived, _ in came}):
            if now < leaves <= at:
                told.append((bool(edges(desk.until(leaves))), past(leaves) and not was))
                was = past(leaves)

    was = False
    for wait_s, name in steps:
        until(now + wait_s)
        now += wait_s
        desk.until(now)
        feed = {"reject": "rejects"}.get(name, "orders")
        event = desk.reading(1, feed=feed, name=name if name != "undo" else "order")
        if name == "undo":
            desk.watch.handle(event, now)
            desk.undo.rollback()
            assert measured(now) == counts(now)
            continue
        found = desk.feed(event, now)
        came.append((now, name))
        assert measured(now) == counts(now)
        told.append((bool(edges(found)), past(now) and not was))
        was = past(now)
    until(now + 200.0)
    assert [is_told for is_told, _ in told] == [is_edge for _, is_edge in told]


@pytest.mark.parametrize("count", [2000])
def test_time_alone_wakes_a_rule_once_for_each_reading_that_leaves(count):
    desk = Desk(ratio(above=D(1000)))
    desk.reject(0.0)
    for n in range(count):
        desk.order(n / 1000)
    woken = 0
    while (due := desk.agenda.due()) is not None and due <= 100.0:
        what = desk.agenda.take(due)
        woken += what[1] == "sum"
        desk.watch.wake(what, due)
        desk.undo.commit()
    assert woken <= count + 1


def test_both_windows_outlive_the_process_and_the_next_rejection_trips():
    lives = Lives(ratio(), feeds=(REJECTS, ORDERS))

    def hear(feed, name, at):
        found = lives.until(at)
        event = Reading(feed=feed, name=name, labels=labels(account=14), wall=lives.wall, value=D(1))
        found += lives.watch.handle(event, lives.now)
        lives.undo.commit()
        return found

    for feed in ("rejects", "orders"):
        lives.watch.handle(FeedUp(wall=lives.wall, feed=feed), 0.0)
    for at in (0.0, 1.0, 2.0, 3.0):
        assert hear("orders", "order", at) == []
    for at in (58.0, 59.0):
        assert hear("rejects", "reject", at) == []
    lives.until(59.4)
    lives.kill(59.5)
    assert edges(hear("rejects", "reject", 59.7)) == [("r", 14)]
    lives.until(61.0)
    assert (lives.view().warming, lives.view().breaching) == (0, ())  # two orders are too few
    lives.kill(200.0)
    hear("rejects", "reject", 200.0)
    assert lives.view().warming == 1


@pytest.mark.parametrize(("away_s", "held"), [(14.0, [2, 1]), (16.0, [0, 0])])
def test_a_share_goes_on_over_a_short_gap_only_and_both_of_its_counts_do_or_neither(away_s, held):
    lives = Lives(ratio(at_least=1, above=D(100)), feeds=(REJECTS, ORDERS))
    # The order's row is the older one by far: what tells of the gap is the newest of all.
    for at, feed, name in ((1.0, "orders", "order"), (20.0, "rejects", "reject"), (29.0, "rejects", "reject")):
        event = Reading(feed=feed, name=name, labels=labels(account=14), wall=lives.wall, value=D(1))
        lives.until(at)
        lives.watch.handle(event, at)
        lives.undo.commit()
    lives.until(30.0)
    lives.kill(29.0 + away_s)
    lives.watch.memory.recall(lives.rules[0], ("rejects", "reject", labels(account=14)), lives.now)
    measure = lives.watch._roster.windows.measure
    assert [measure(lives.rules[0], ("", name, labels(account=14)), lives.now) for name in ("reject", "order")] == held


def test_windows_of_another_rule_are_not_taken_over():
    lives = Lives(ratio(at_least=1), feeds=(REJECTS, ORDERS))

    def hear():
        for feed, name in (("orders", "order"), ("rejects", "reject")):
            event = Reading(feed=feed, name=name, labels=labels(account=14), wall=lives.wall, value=D(1))
            lives.watch.handle(event, lives.now)
        lives.undo.commit()
        lives.until(lives.now + 5.0)

    hear()
    lives.rules = (ratio(at_least=1, over="entry"),)
    lives.kill(6.0)
    hear()
    held = lives.watch._roster.windows
    assert held.measure(lives.rules[0], ("", "reject", labels(account=14)), lives.now) == 1
    assert len(lives.rows) == 1


def test_what_a_kept_share_is_of_leaves_with_the_oldest_of_its_slice():
    with in_slices(1):
        lives = Lives(ratio(at_least=1, above=D(100)), feeds=(REJECTS, ORDERS))
        for feed in ("rejects", "orders"):
            lives.watch.handle(FeedUp(wall=lives.wall, feed=feed), 0.0)
        for at, feed, name in ((1.0, "orders", "order"), (2.0, "rejects", "reject"), (3.0, "orders", "order")):
            event = Reading(feed=feed, name=name, labels=labels(account=14), wall=lives.wall, value=D(1))
            lives.until(at)
            lives.watch.handle(event, at)
            lives.undo.commit()
        lives.stop(4.0)
        rule, windows = lives.rules[0], lives.watch._roster.windows
        lives.watch.memory.recall(rule, ("rejects", "reject", labels(account=14)), 4.0)
        held = [windows.measure(rule, ("", name, labels(account=14)), at) for name in rule.reads for at in (60.9, 61.1)]
        assert held == [1, 1, 2, 0]


def test_the_worst_share_is_kept_while_the_breach_lasts():
    desk = Desk(ratio(at_least=1))
    desk.order(1.0)
    found = [desk.reject(2.0), desk.reject(3.0), desk.order(4.0), desk.order(5.0)]
    assert [(b.value, b.worst, b.repeated) for (b,) in found] == [
        ("1", "1", False),
        ("2", "2", True),
        ("1", "2", True),
        ("0.666667", "2", True),
    ]


def test_after_a_restart_a_kept_share_rises_by_itself_though_nothing_is_heard():
    lives = Lives(ratio(), feeds=(REJECTS, ORDERS))
    for at, feed, name in [*((n * 1.0, "orders", "order") for n in range(8)), *[(50.0, "rejects", "reject")] * 3]:
        lives.until(at)
        event = Reading(feed=feed, name=name, labels=labels(account=14), wall=lives.wall, value=D(1))
        assert lives.watch.handle(event, at) == ()
        lives.undo.commit()
    lives.until(51.0)
    lives.kill(52.0)
    assert lives.until(61.999) == []
    assert edges(lives.until(63.0)) == [("r", 14)]  # 3 of the 5 that are left
