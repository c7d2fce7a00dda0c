"""A reload: latches stay whatever is changed, and it is all of the new configuration or nothing of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from killswitch.domain.messages import (
    Acknowledge,
    AnnounceEvent,
    Answered,
    ButtonPressed,
    ChangeOver,
    Commanded,
    FeedUp,
    LinkFailed,
    ListOpenOrders,
    ListPositions,
    Lost,
    Moved,
    Noted,
    OpenOrders,
    Reading,
    Receipt,
    Reconfigured,
    Reloaded,
    ReloadFailed,
    SessionDown,
    SessionUp,
    Tripped,
)
from killswitch.domain.settings import FeedSpec, RateRule, ScopeTemplate, Site
from tests.domain.bench import OK, SETTINGS, SITE, Bench, confirmed, fold_records, order, scope
from tests.domain.watch_bench import btc, labels, rule

OTHER = Site(name="other", accounts=(1, 2), whole_oms=True, calls_per_minute=6000, gateways=("gw:2",))
VAR = FeedSpec(name="var", kind="mqtt", reading="var", stale_after_s=1000.0)
POSITIONS = FeedSpec(name="positions", kind="oms", oms="prime", stale_after_s=1000.0)
RULED = replace(SETTINGS, feeds=(VAR,), rules=(rule(),), fingerprint="old")


def reload(bench, settings=None, **more):
    """What the core did about another configuration; whether it stands now."""
    new = replace(bench.switch._parts.settings if settings is None else settings, fingerprint="new")
    actions = bench.tell(Reconfigured(wall=bench.wall, settings=new, by="SIGHUP", token="t", **more))
    return any(isinstance(a, ChangeOver) for a in actions)


def var(bench, value, number=14):
    event = Reading(wall=bench.wall, feed="var", name="var", labels=labels(account=number), value=value)
    bench.tell(event)


def ruled(*rules, settings=RULED, trip=True):
    bench = Bench(replace(settings, rules=rules or settings.rules))
    bench.connect()
    bench.tell(FeedUp(wall=bench.wall, feed="var"))
    if trip:
        var(bench, 60.0)
        bench.settle()
    return bench


def refusals(bench):
    return [n.text for n in bench.bodies(Noted) if n.kind == "reload_refused"]


def receipt(bench):
    return bench.of(Receipt)[-1]


# --- all of it, or nothing ----------------------------------------------------------------------------------


def test_another_configuration_stands_and_the_journal_says_what_is_different():
    bench = ruled(rule(), rule("going"), trip=False)
    changed = replace(RULED, rules=(rule(above=Decimal(70)), rule("come")), sites=(replace(SITE, contact="ann"), OTHER))
    assert reload(bench, changed, changed=("[confirm]",), replaced=frozenset({"var"}))
    (body,) = bench.bodies(Reloaded)
    assert (body.before, body.config, body.by) == ("old", "new", "SIGHUP")
    assert (body.added, body.removed) == (('oms "other"', 'rule "come"'), ('rule "going"',))
    assert body.changed == ('oms "prime"', 'rule "r"', 'feed "var"', "[confirm]")
    (event,) = [e for e in bench.of(AnnounceEvent) if e.kind == "reloaded"]
    assert event.text.startswith('the configuration was read again by SIGHUP: added oms "other", rule "come"; removed')
    fold_records(bench.records)  # a restart can read it


def test_a_file_that_cant_be_used_changes_nothing_and_says_every_mistake():
    bench = ruled()
    before = bench.switch.view(bench.now)
    bench.tell(ReloadFailed(wall=bench.wall, mistakes=("one", "two"), by="SIGHUP"))
    assert refusals(bench)[0].endswith("nothing is changed: one; two")
    assert bench.of(AnnounceEvent)[-1].detail == {"reasons": ["one", "two"]}
    assert bench.switch.view(bench.now) == before
    assert bench.of(ChangeOver) == []


def test_what_others_refuse_and_what_the_core_refuses_is_said_together():
    bench = ruled()
    assert not reload(bench, replace(RULED, sites=(), rules=(), daemon="another"), refusals=("no new journal",))
    (text,) = refusals(bench)
    trip = bench.trips()[0].trip
    assert "no new journal; [daemon].name can't be changed while it runs: restart it; " in text
    assert text.endswith(f"OMS prime: it can't be removed or renamed while trip {trip} is latched: reset it first")
    assert bench.switch.view(bench.now).omses


def test_an_oms_is_another_one_under_another_id():
    bench = ruled(trip=False)
    assert not reload(bench, replace(RULED, sites=(replace(SITE, oms_id=7),)))
    assert "another oms_id is another OMS" in refusals(bench)[0]


@pytest.mark.parametrize(
    ("latched", "site", "refused"),
    [
        (scope(), replace(SITE, whole_oms=False), "whole_oms can't be taken from it"),
        (scope(), replace(SITE, accounts=(14,)), "account 15 can't be taken from it"),
        (scope(user=37), replace(SITE, accounts=(15,)), "account 14 can't be taken from it"),
        (scope(account=14), None, "it can't be removed or renamed"),
        (scope(account=14), replace(SITE, accounts=(15,)), "account 14 can't be taken from it"),
        (scope(account=14), replace(SITE, whole_oms=False, accounts=(14,)), None),
    ],
)
def test_a_latched_trip_keeps_its_ground(latched, site, refused):
    bench = Bench()
    bench.connect()
    bench.trip(latched)
    stands = reload(bench, replace(SETTINGS, sites=() if site is None else (site,)))
    assert stands is (refused is None)
    if refused is not None:
        assert f"{refused} while trip t1 is latched: reset it first" in refusals(bench)[0]


def test_what_was_refused_under_a_trip_is_let_through_after_its_reset():
    bench = confirmed()
    assert not reload(bench, replace(SETTINGS, sites=(OTHER,)))
    bench.reset("t1")
    assert reload(bench, replace(SETTINGS, sites=(OTHER,)))
    assert [o.oms for o in bench.switch.view(bench.now).omses] == ["other"]


# --- latches, sweeps and commands ----------------------------------------------------------------------------


def test_a_sweep_goes_on_over_a_reload_and_its_answers_count():
    bench = Bench()
    bench.orders[1] = order(1)
    bench.connect()
    bench.trip(scope(account=14))
    assert len(bench.waiting) == 1
    assert reload(bench, replace(SETTINGS, rules=(rule(),), feeds=(VAR,)))
    bench.settle()
    assert bench.view().outcome == "VERIFIED"
    assert bench.orders == {}
    assert len(bench.cancels()) == 1  # nothing was sent twice for it


def test_a_reload_with_the_same_configuration_does_nothing_to_a_trip():
    bench = confirmed()
    bench.forget_actions()
    before = bench.view()
    assert reload(bench)
    assert bench.view() == before
    assert bench.cancels() == []
    assert bench.of(ListOpenOrders, ListPositions) == []


def test_the_new_policies_hold_for_what_comes():
    bench = Bench()
    bench.connect()
    confirm = replace(SETTINGS.confirm, empties=4, deadline_s=50.0)
    assert reload(bench, replace(SETTINGS, confirm=confirm, retry=replace(SETTINGS.retry, timeout_s=7.0)))
    bench.trip(scope(account=14))
    began = bench.now
    bench.answers.append(None)
    bench.step()
    assert bench.switch.due() == began + 7.0
    bench.settle()
    assert bench.bodies(Moved)[-1].why == "4 empty rounds in a row"


def test_an_account_that_is_added_joins_the_round():
    bench = confirmed(scope())
    assert reload(bench, replace(SETTINGS, sites=(replace(SITE, accounts=(14, 15, 16)),)))
    assert bench.state() == "sweeping"
    bench.settle()
    assert bench.view().accounts_looked_at == (14, 15, 16)


def test_a_persons_word_on_an_account_that_turned_up_makes_the_list_whole():
    bench = Bench()
    bench.connect()
    bench.working(order(1, account=16), place=False)
    bench.trip(scope())
    for _ in range(40):
        bench.step()
        bench.tick()
    assert bench.view().outcome == "UNKNOWN"
    assert reload(bench, replace(SETTINGS, sites=(replace(SITE, accounts=(14, 15, 16)),)))
    bench.settle()
    assert bench.view().outcome == "VERIFIED"


def test_a_new_session_beside_the_old_one_takes_over_and_the_proof_starts_anew():
    bench = confirmed()
    old = bench.session
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:1", session=old + 1))
    assert bench.state() == "confirmed"
    bench.tell(SessionDown(wall=bench.wall, oms="prime", gateway="gw:1", session=old, why="replaced"))
    assert bench.state() == "sweeping"
    assert bench.switch.view(bench.now).omses[0].sessions[0].up  # the gateway is: its other session stands
    bench.session = old + 1
    bench.settle()
    assert bench.view().outcome == "VERIFIED"


def test_a_failed_attempt_beside_a_session_that_stands_takes_nothing_down():
    bench = Bench()
    bench.connect()
    bench.tell(LinkFailed(wall=bench.wall, oms="prime", gateway="gw:1", why="refused"))
    assert bench.switch.view(bench.now).omses[0].sessions[0].up


def test_an_oms_that_went_is_not_waited_for_and_what_still_comes_of_it_harms_nothing():
    bench = Bench(replace(SETTINGS, sites=(SITE, OTHER), feeds=(POSITIONS,), rules=(btc(),)))
    bench.connect()
    pending = list(bench.waiting)
    assert pending
    assert reload(bench, replace(SETTINGS, sites=(OTHER,)))
    for late in pending:
        bench.tell(Lost(wall=bench.wall, call=late.call, session=late.session, why="stopped"))
    bench.tell(OpenOrders(wall=bench.wall, call=1, session=1, account=14, orders=()))
    bench.working(order(7))
    bench.tell(SessionDown(wall=bench.wall, oms="prime", gateway="gw:1", session=1, why="stopped"))
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:1", session=2))
    bench.tick(bench.now + 120)
    assert [o.oms for o in bench.switch.view(bench.now).omses] == ["other"]
    bench.trip(scope(oms="prime", account=14), "late")
    assert receipt(bench).reason == "no OMS of that name is configured"


def test_a_press_for_an_oms_that_went_meanwhile_trips_nothing_and_people_hear_of_it():
    bench = Bench(replace(SETTINGS, sites=(SITE, OTHER)))
    assert reload(bench, replace(SETTINGS, sites=(OTHER,)))
    bench.tell(ButtonPressed(wall=bench.wall, button="desk", scope=scope(account=14), via="mqtt", token="d"))
    assert bench.trips() == ()
    assert bench.of(Acknowledge)[-1].token == "d"
    assert "button desk: no OMS of that name is configured" in bench.of(AnnounceEvent)[-1].text


def test_an_oms_that_came_is_swept_by_its_rule():
    bench = ruled(trip=False)
    there = rule("there", scope=ScopeTemplate(oms="other", account=1))
    var(bench, 60.0, number=15)
    bench.settle()
    assert reload(bench, replace(RULED, sites=(SITE, OTHER), rules=(rule(), there)))
    assert [t.scope.oms for t in bench.trips()] == ["prime", "other"]
    bench.tell(SessionUp(wall=bench.wall, oms="other", gateway="gw:2", session=9))
    assert scope(oms="other", account=1) in bench.cancels()


def test_a_trip_that_lost_its_ground_at_the_start_gets_it_back():
    lost = fold_records(confirmed().records)
    bench = Bench(replace(SETTINGS, sites=(OTHER,)), lost)
    bench.tick(bench.now + 1)
    assert bench.state() == "escalated"
    assert reload(bench, replace(SETTINGS, sites=(OTHER, SITE)))
    bench.connect()
    bench.settle()
    assert bench.view().outcome == "VERIFIED"


def test_a_snapshot_is_asked_for_at_once_when_what_is_read_of_an_oms_changes():
    bench = Bench(replace(SETTINGS, feeds=(POSITIONS,), rules=(btc(),)))
    bench.connect()
    while bench.step():
        pass
    bench.forget_actions()
    assert reload(bench, replace(SETTINGS, feeds=(POSITIONS,), rules=(btc(), btc(name="more"))))
    bench.tick(bench.now)
    assert {a.account for a in bench.of(ListPositions)} == {14, 15}


def test_a_value_beyond_a_new_limit_trips_in_the_pass_of_the_reload():
    bench = ruled(rule(above=Decimal(100)))
    assert bench.trips() == ()
    assert reload(bench, RULED)
    (trip,) = bench.trips()
    assert trip.causes[0].text == "var 60.0 is above 50.0 (account 14; 0.0 s old)"
    records = [type(r.body) for r in bench.records]
    assert records.index(Reloaded) < records.index(Tripped)


# --- rules that a latched trip waits for --------------------------------------------------------------------


def test_removing_the_rule_is_no_way_round_the_reset():
    bench = ruled()
    trip = bench.trips()[0].trip
    assert reload(bench, replace(RULED, rules=()))
    bench.reset(trip, "r1")
    why = "var 60.0 is above 50.0 (account 14; 0.0 s old): so rule r says as it was when it tripped"
    assert receipt(bench).reason == why
    var(bench, 1.0)
    bench.reset(trip, "r2")
    assert (receipt(bench).accepted, receipt(bench).reason) == (True, "rule removed: r (configuration new)")
    assert bench.bodies(Commanded)[-1].reason == "rule removed: r (configuration new)"
    assert bench.trips() == ()


def test_raising_the_limit_is_no_way_round_the_reset():
    bench = ruled()
    trip = bench.trips()[0].trip
    assert reload(bench, replace(RULED, rules=(rule(above=Decimal(100)),)))
    bench.reset(trip, "r1")
    assert "above 50.0" in receipt(bench).reason
    var(bench, 1.0)
    bench.reset(trip, "r2")
    assert (receipt(bench).accepted, receipt(bench).reason) == (True, "rule changed: r (configuration new)")
    var(bench, 60.0)
    assert bench.trips() == ()  # the rule as it was is gone with its trip
    var(bench, 101.0)
    assert len(bench.trips()) == 1


def test_a_rule_that_went_with_its_feed_can_be_judged_by_nobody_and_the_receipt_says_that_it_was_removed():
    bench = ruled()
    trip = bench.trips()[0].trip
    assert reload(bench, replace(RULED, rules=(), feeds=()))
    bench.reset(trip, "r1")
    assert (receipt(bench).accepted, receipt(bench).reason) == (True, "rule removed: r (configuration new)")


def test_a_removed_rule_of_another_trip_is_not_waited_for():
    bench = ruled(rule(), rule("x", above=Decimal(50), where=(("account", "15"),)))
    assert reload(bench, replace(RULED, rules=(rule(),)))
    var(bench, 1.0)
    bench.reset(bench.trips()[0].trip, "r1")
    assert receipt(bench).reason == "reset"


def test_a_rate_goes_on_counting_over_a_reload():
    shape = {"owner": "", "reading": "var", "on_stale": rule().on_stale, "on_bad": rule().on_bad, "fallback": None}
    often = RateRule(name="often", scope=rule().scope, above=Decimal(3), per_s=60.0, **shape)
    bench = ruled(often, trip=False)
    for _ in range(3):
        var(bench, 1.0)
        assert reload(bench, replace(RULED, rules=(replace(often), rule("x", above=Decimal(500)))))
    assert bench.trips() == ()
    var(bench, 1.0)
    assert [t.by for t in bench.trips()] == ["rule often"]


def test_an_answer_that_was_on_its_way_to_a_dead_session_is_none():
    bench = Bench()
    bench.connect()
    bench.trip(scope(account=14))
    (cancel,) = bench.waiting
    assert reload(bench, SETTINGS)
    bench.tell(Answered(wall=bench.wall, call=cancel.call, session=99, answer=OK))
    bench.settle()


def test_a_daemon_that_becomes_live_over_a_breach_trips_at_once():
    """The edge of the breach was the shadow's: the live rule must not wait for the next one."""
    bench = ruled(settings=replace(RULED, mode="shadow"), trip=False)
    bench.orders = {1: order(1)}
    var(bench, 60.0)
    bench.settle()
    assert not bench.trips()
    assert reload(bench, replace(bench.switch._parts.settings, mode="live"))
    bench.settle()
    (trip,) = bench.trips()
    assert (trip.outcome, bench.orders) == ("VERIFIED", {})


def test_a_trip_stays_latched_and_waits_for_its_rule_when_the_daemon_goes_into_shadow():
    bench = ruled()
    (trip,) = bench.trips()
    assert reload(bench, replace(bench.switch._parts.settings, mode="shadow"))
    assert bench.trips() == (trip,)
    bench.reset(trip.trip)
    assert not receipt(bench).accepted
    var(bench, 10.0)
    bench.reset(trip.trip, "r2")
    assert receipt(bench).accepted
