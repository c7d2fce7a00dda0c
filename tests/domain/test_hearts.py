"""Dead-men: a heart that doesn't beat trips, and one that nobody can hear is unknown, not dead."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.settings import DeadmanRule, FeedSpec, ScopeTemplate, SilenceRule
from killswitch.domain.watch.hearts import RECONNECT_S
from tests.domain.watch_bench import (
    FALLBACK,
    IGNORE,
    OMS_FEED,
    TRIP,
    VAR_FEED,
    WARN,
    Bench,
    account,
    armings,
    breaches,
    edges,
    row,
    warned,
)

HEART = FeedSpec(name="heart", kind="mqtt", stale_after_s=1000.0)
SCOPE = ScopeTemplate(oms="prime", account=16)


def deadman(name="d", **more):
    """No beat of feed heart for 10 s."""
    return DeadmanRule(name=name, **{"owner": "desk", "scope": SCOPE, "feed": "heart", "silent_s": 10.0, **more})


def up(*rules, feeds=(HEART,), **more):
    bench = Bench(*rules, feeds=feeds, **more)
    bench.up(0.0, feed=feeds[0].name)
    return bench


# --- the heart stops ----------------------------------------------------------------------------------------


def test_a_heart_is_dead_exactly_silent_s_after_its_last_beat_and_that_is_said_once():
    bench = up(deadman())
    assert [bench.beat(at) for at in (1.0, 9.0, 18.5)] == [[], [], []]
    assert bench.until(28.499_999) == []
    (breach,) = bench.until(28.5)
    assert (breach.rule, breach.kind, breach.scope, breach.labels) == ("d", "deadman", account(16), ())
    assert (breach.value, breach.repeated) == ("10.000", False)
    assert breach.text == "the heart of feed heart did not beat for 10.0 s, the limit is 10 s"
    assert bench.until(500.0) == []


def test_when_it_beats_again_that_is_said_and_the_next_silence_is_another():
    bench = up(deadman())
    assert edges(bench.until(10.0)) == [("d", 16)]
    assert warned(bench.beat(20.0)) == ["heard_again"]
    assert bench.beat(21.0) == []
    assert edges(bench.until(31.0)) == [("d", 16)]


def test_beats_cost_no_entry_of_the_agenda():
    bench = up(deadman())
    entry = ("watch", "heart", "d")
    assert bench.agenda.when(entry) == 10.0
    for n in range(100):
        bench.beat(n * 0.09)
    assert bench.agenda.when(entry) == 10.0


def test_a_message_that_a_broker_kept_is_no_beat():
    bench = up(deadman())
    bench.beat(1.0)
    assert bench.beat(6.0, retained=True) == []
    assert edges(bench.until(11.0)) == [("d", 16)]
    assert bench.beat(12.0, retained=True) == []
    assert bench.watch.uncalm("d", (), 12.0) is not None
    assert bench.feed_view("heart").readings == 1


def test_armed_from_the_start_it_has_its_full_time_from_there():
    bench = up(deadman())
    assert bench.until(9.999) == []
    (breach,) = bench.until(10.0)
    assert breach.text == "the heart of feed heart did not beat for 10.0 s since the start, the limit is 10 s"


# --- what is a beat -----------------------------------------------------------------------------------------


def test_where_a_feed_gives_a_reading_each_one_is_a_beat_but_what_was_kept_or_is_none():
    bench = up(deadman(feed="var"), feeds=(VAR_FEED,))
    bench.var(1.0, 1.0)
    bench.var(1.0, 4.0, source_at=4.0)
    bench.var(1.0, 5.0, source_at=3.0)  # out of order, and a sign of life all the same
    bench.var(1.0, 6.0, source_at=6.0, retained=True)
    bench.var(1.0, 7.0, fresh=False, retained=True)
    bench.bad(8.0)
    bench.var(float("nan"), 9.0)
    assert edges(bench.until(14.999)) == []
    assert edges(bench.until(15.0)) == [("d", 16)]


def test_a_beat_counts_at_its_arrival_however_old_its_source_says_it_is():
    bench = up(deadman(feed="var"), feeds=(VAR_FEED,))
    bench.var(1.0, 5.0, lag_s=60.0)
    assert bench.until(14.999) == []
    assert edges(bench.until(15.0)) == [("d", 16)]


def test_every_sign_of_life_of_an_oms_is_a_beat():
    bench = Bench(deadman(feed="positions"), feeds=(OMS_FEED,))
    bench.session(1, 0.0)
    bench.positions(14, row(14, "BTC", 1), at=5.0)
    bench.heard(1, 14.0)
    bench.position(row(14, "BTC", 2), 23.0)
    assert bench.until(32.999) == []
    assert edges(bench.until(33.0)) == [("d", 16)]


def test_what_comes_late_from_a_dead_session_of_an_oms_is_no_beat():
    bench = Bench(deadman(feed="positions"), feeds=(OMS_FEED,))
    bench.session(1, 0.0)
    bench.session(2, 0.0)
    bench.heard(1, 5.0)
    bench.end(1, 6.0)
    bench.heard(1, 7.0)
    assert edges(bench.until(15.0)) == [("d", 16)]


def test_a_rule_on_one_heart_doesn_t_hear_another():
    other = replace(HEART, name="other")
    bench = up(deadman(), deadman("o", feed="other"), feeds=(HEART, other))
    bench.up(0.0, feed="other")
    bench.beat(9.0, feed="other")
    assert edges(bench.until(10.0)) == [("d", 16)]
    assert edges(bench.until(19.0)) == [("o", 16)]


# --- our own link -------------------------------------------------------------------------------------------


def test_a_broker_that_is_away_at_boot_makes_nothing_dead_and_unknown_only_in_time():
    bench = Bench(deadman(on_stale=TRIP), feeds=(HEART,))
    assert bench.until(10.0 + RECONNECT_S - 0.001) == []
    (breach,) = bench.until(10.0 + RECONNECT_S)
    assert breach.scope == account(16)
    assert breach.text == (
        "nobody knows whether the heart of feed heart beats: not heard for 20.0 s since the start, the limit is 10 s, "
        "and our own link to it is down"
    )
    assert bench.until(500.0) == []


@pytest.mark.parametrize(
    ("policy", "fallback", "tripped", "said"),
    [
        (TRIP, None, [("d", 16)], []),
        (TRIP, FALLBACK, [("d", 99)], []),
        (WARN, None, [], ["stale"]),
        (IGNORE, None, [], []),
    ],
)
def test_while_the_link_is_down_on_stale_decides_once_per_silence(policy, fallback, tripped, said):
    bench = up(deadman(on_stale=policy, fallback=fallback))
    bench.beat(5.0)
    bench.down(9.0, feed="heart")
    assert bench.until(24.999) == []
    found = bench.until(25.0)
    assert (edges(found), warned(found)) == (tripped, said)
    assert bench.until(300.0) == []
    assert bench.rule_view("d").unknown == ((),)
    assert bench.rule_view("d").headroom is None
    assert "our own link to it is down" in bench.watch.uncalm("d", (), 300.0)
    bench.up(300.0, feed="heart")
    assert warned(bench.beat(301.0)) == ([] if policy is IGNORE else ["heard_again"])
    assert bench.watch.uncalm("d", (), 301.0) is None
    bench.down(302.0, feed="heart")
    found = bench.until(400.0)
    assert (edges(found), warned(found)) == (tripped, said)


def test_a_link_that_goes_at_the_last_moment_keeps_the_heart_from_being_dead():
    bench = up(deadman())
    bench.down(9.999, feed="heart")
    assert bench.until(19.999) == []
    assert warned(bench.until(20.0)) == ["stale"]


def test_a_link_that_goes_after_the_last_moment_comes_too_late():
    bench = up(deadman())
    assert edges(bench.down(10.0, feed="heart")) == [("d", 16)]
    assert bench.until(500.0) == []


def test_after_a_short_loss_the_heart_has_its_full_time_again_and_is_dead_then():
    bench = up(deadman())
    bench.beat(1.0)
    bench.down(3.0, feed="heart")
    bench.up(4.0, feed="heart")
    assert bench.until(13.999) == []
    assert edges(bench.until(14.0)) == [("d", 16)]


def test_a_beat_after_the_link_is_back_is_all_that_is_needed():
    bench = up(deadman())
    bench.down(3.0, feed="heart")
    bench.up(18.0, feed="heart")
    assert bench.beat(19.0) == []
    assert bench.until(28.999) == []
    assert edges(bench.until(29.0)) == [("d", 16)]


def test_a_link_that_flaps_faster_than_silent_s_hides_a_dead_heart_for_silent_s_and_a_reconnect_only():
    bench = up(deadman(on_stale=TRIP))
    bench.beat(1.0)
    found = []
    for at in range(2, 60, 4):
        found += [(bench.now, b) for b in breaches(bench.down(float(at), feed="heart"))]
        found += [(bench.now, b) for b in breaches(bench.up(float(at + 1), feed="heart"))]
    ((when, breach),) = found
    assert 21.0 <= when <= 23.0
    assert "our own link to it was down meanwhile" in breach.text or "is down" in breach.text


def test_a_heart_that_was_unknown_is_found_dead_once_the_link_stands_long_enough():
    bench = up(deadman())
    bench.down(1.0, feed="heart")
    assert warned(bench.until(30.0)) == ["stale"]
    bench.up(30.0, feed="heart")
    assert bench.until(39.999) == []
    assert edges(bench.until(40.0)) == [("d", 16)]
    assert bench.until(500.0) == []


@pytest.mark.parametrize(("fallback", "expected"), [(None, []), (FALLBACK, [("d", 16)])])
def test_dead_after_unknown_is_an_edge_only_where_it_trips_another_scope(fallback, expected):
    bench = up(deadman(on_stale=TRIP, fallback=fallback))
    bench.down(1.0, feed="heart")
    assert len(edges(bench.until(30.0))) == 1
    bench.up(30.0, feed="heart")
    found = bench.until(40.0)
    assert len(breaches(found)) == 1
    assert edges(found) == expected


def test_a_dead_heart_stays_dead_whatever_the_link_does():
    bench = up(deadman())
    assert edges(bench.until(10.0)) == [("d", 16)]
    bench.down(11.0, feed="heart")
    bench.up(12.0, feed="heart")
    assert bench.until(500.0) == []
    assert bench.rule_view("d").breaching == ((),)
    assert "did not beat for 490.0 s" in bench.watch.uncalm("d", (), 490.0)


# --- arming -------------------------------------------------------------------------------------------------


def test_armed_by_the_first_beat_it_is_silent_before_and_says_that_it_is_armed_once():
    bench = up(deadman(arm="first"))
    assert bench.until(500.0) == []
    assert bench.watch.uncalm("d", (), 500.0) is None
    assert (bench.rule_view("d").armed, bench.rule_view("d").headroom) == (False, None)
    assert armings(bench.beat(501.0)) == [("d", "heart")]
    assert bench.beat(502.0) == []
    assert (bench.rule_view("d").armed, bench.rule_view("d").headroom) == (True, 1.0)
    assert edges(bench.until(512.0)) == [("d", 16)]


def test_a_retained_message_arms_nothing():
    bench = up(deadman(arm="first"))
    assert bench.beat(1.0, retained=True) == []
    assert bench.until(500.0) == []


def test_restored_armed_it_has_its_full_time_from_the_start():
    bench = up(deadman(arm="first"), armed=[("d", "heart")])
    assert bench.until(9.999) == []
    assert edges(bench.until(10.0)) == [("d", 16)]
    assert armings(bench.beat(11.0)) == []


def test_a_rule_that_comes_again_with_another_feed_or_name_is_not_armed_by_the_old_record():
    for armed in (("d", "other"), ("x", "heart")):
        bench = up(deadman(arm="first"), armed=[armed])
        assert bench.until(500.0) == []
        assert armings(bench.beat(501.0)) == [("d", "heart")]


def test_after_a_start_an_armed_one_is_not_calm_before_it_beats():
    bench = up(deadman(arm="first"), armed=[("d", "heart")])
    bench.until(1.0)
    assert "since the start" in bench.watch.uncalm("d", (), 1.0)
    bench.beat(2.0)
    assert bench.watch.uncalm("d", (), 2.0) is None


# --- looking ------------------------------------------------------------------------------------------------


def test_the_share_of_silent_s_that_is_left_is_the_headroom():
    bench = up(deadman())
    bench.beat(5.0)
    for at, left in ((5.0, 1.0), (10.0, 0.5), (15.0, 0.0), (25.0, -1.0)):
        bench.until(at)
        assert bench.rule_view("d").headroom == pytest.approx(left)
    assert bench.rule_view("d").limit == "no beat for 10 s"
    assert bench.rule_view("d").series == 1


def test_a_heart_is_a_feed_with_an_age_of_its_own():
    bench = up(deadman(), feeds=(replace(HEART, stale_after_s=5.0),))
    assert (bench.feed_view("heart").heard, bench.feed_view("heart").stale) == (False, False)
    bench.beat(1.0)
    bench.beat(2.0, merged=3)
    view = bench.feed_view("heart")
    assert (view.up, view.heard, view.age_s, view.stale, view.readings) == (True, True, 0.0, False, 5)
    assert bench.until(7.5) == []
    assert (bench.feed_view("heart").age_s, bench.feed_view("heart").stale) == (5.5, True)


def test_a_heart_can_be_stale_as_a_whole_too():
    bench = up(SilenceRule(name="f", owner="desk", scope=SCOPE, feed="heart", older_than_s=5.0))
    bench.beat(1.0)
    bench.beat(4.0, retained=True)
    assert edges(bench.until(6.0)) == [("f", 16)]


def test_a_feed_that_was_never_heard_is_not_calm_though_it_isnt_late_yet():
    bench = up(SilenceRule(name="f", owner="desk", scope=SCOPE, feed="heart", older_than_s=5.0))
    assert "was never heard for 1.0 s since the start" in bench.watch.uncalm("f", (), 1.0)
    bench.beat(1.0)
    assert bench.watch.uncalm("f", (), 1.0) is None


def test_an_oms_feed_is_heard_as_long_as_any_list_of_it_is_proven():
    silent = SilenceRule(name="f", owner="desk", scope=SCOPE, feed="positions", older_than_s=5.0)
    bench = Bench(silent, feeds=(OMS_FEED,))
    bench.session(1)
    bench.session(2)
    bench.orders(14, session=1, at=1.0)
    bench.end(1)
    bench.positions(14, session=2, at=1.0)
    for at in range(2, 20):
        assert bench.heard(2, at=float(at)) == []
    assert edges(bench.until(24.0)) == [("f", 16)]


# --- against a naive look at every instant ------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["beat", "retained", "up", "down"])), max_size=40)


@given(STEPS, st.sampled_from(["start", "first"]))
def test_the_findings_are_those_of_a_naive_look_at_every_instant(steps, arm):
    """In quarters of a second. What is due is paid before what happens at that instant."""
    bench, at, events = Bench(deadman(arm=arm), feeds=(HEART,)), 0, []
    for pause, what in steps:
        at += pause
        events.append((at, what))
    last, link_up, back, downs, armed, said = 0, False, None, [0], arm == "start", None
    expected, found = [], []

    def look(tick):
        nonlocal said
        if not armed or said == "dead":
            return
        if link_up and tick >= max(last, back) + 40:
            expected.append((tick, "dead"))
            said = "dead"
        elif said is None and tick >= last + 40 + 40 and (not link_up or any(d >= last for d in downs)):
            expected.append((tick, "unknown"))
            said = "unknown"

    for tick in range(at + 200):
        look(tick)
        found += [(tick, "dead" if f in breaches([f]) else "unknown") for f in bench.until(tick / 4)]
        for _, what in (event for event in events if event[0] == tick):
            match what:
                case "beat":
                    last, armed, said = tick, True, None
                    # The link's loss counts from the last beat on: one that was told is over.
                    downs = [tick] if not link_up else []
                    bench.beat(tick / 4)
                    if back is None:
                        link_up, back = True, tick  # it came over it
                        downs = []
                case "retained":
                    bench.beat(tick / 4, retained=True)
                case "up":
                    link_up, back = True, tick
                    downs.append(tick)
                    bench.up(tick / 4, feed="heart")
                case "down":
                    link_up = False
                    downs.append(tick)
                    bench.down(tick / 4, feed="heart")
    assert found == expected
