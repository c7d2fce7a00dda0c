"""Shadow trips: what a rule or a person would have cancelled, told, and never cancelled."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from killswitch.domain.messages import (
    AnnounceEvent,
    AnnounceState,
    AnnounceTrip,
    ButtonPressed,
    CancelAllOrders,
    CancelOrder,
    ClearTrip,
    EverythingTripped,
    FeedUp,
    ListOpenOrders,
    Lost,
    Reading,
    Receipt,
    RetainedTripFound,
    ShadowCause,
    ShadowFound,
    ShadowTripped,
    Tripped,
)
from killswitch.domain.settings import ScopeTemplate, SilenceRule
from killswitch.domain.shadows import IDS_TOLD, TRIES, WAIT_S
from tests.domain.bench import SETTINGS, SITE, Bench, fold_records, order, scope
from tests.domain.watch_bench import OMS_FEED, VAR_FEED, rule

DARK = replace(SETTINGS, mode="shadow")
TRIED = rule("tried", above=Decimal(40), mode="shadow")
LIVE = rule("live", above=Decimal(50))
RULES = replace(SETTINGS, feeds=(VAR_FEED,), rules=(TRIED, LIVE))
ONLY_TRIED = replace(RULES, rules=(TRIED,))


def bench_of(settings=DARK, *, connected=True, restored=None) -> Bench:
    bench = Bench(settings, restored)
    bench.orders = {n: order(n, 14 if n < 10 else 15) for n in (1, 2, 3, 11)}
    if connected:
        bench.connect()
    if settings.feeds:
        bench.tell(FeedUp(wall=bench.wall, feed="var"))
    return bench


def read(bench: Bench, value, account=14):
    bench.tell(
        Reading(wall=bench.wall, feed="var", name="var", labels=(("account", str(account)),), value=Decimal(value))
    )


def look(bench: Bench, within_s=5.0):
    """Answer everything and let time go on, for so long."""
    end = bench.now + within_s
    while True:
        while bench.step():
            pass
        due = bench.switch.due()
        if due is None or due > end:
            return
        bench.tick()


def shadows(bench: Bench):
    return bench.switch.view(bench.now).shadows


def one(bench: Bench):
    (shadow,) = shadows(bench)
    return shadow


def sent(bench: Bench):
    return bench.of(CancelAllOrders, CancelOrder)


def test_a_command_in_shadow_cancels_nothing_and_says_what_it_would_have():
    bench = bench_of()
    bench.trip(scope(account=14))
    look(bench)

    assert not sent(bench)
    assert not bench.trips()
    trip = one(bench)
    assert (trip.trip, trip.state, trip.shadow, trip.outcome, trip.calls) == ("t1", "shadow", True, None, 0)
    assert trip.orders_left == 3
    assert trip.would_cancel.order_ids == (1, 2, 3)
    assert trip.would_cancel.by_account == ((14, 3),)
    assert trip.accounts_looked_at == (14,)
    (found,) = bench.bodies(ShadowFound)
    assert found.orders == ((14, (1, 2, 3)),)
    assert not bench.bodies(Tripped)
    (receipt,) = bench.of(Receipt)
    assert (receipt.accepted, receipt.reason, receipt.shadow) == (True, "shadow: nothing is cancelled", True)


def test_the_state_stays_armed_and_the_shadow_trip_is_in_the_replicas_view():
    bench = bench_of()
    bench.trip(scope(account=14))
    look(bench)

    last = bench.of(AnnounceState)[-1]
    assert (last.state, last.shadow) == ("armed", True)
    assert [(t.trip, t.shadow) for t in last.trips] == [("t1", True)]
    assert bench.of(AnnounceTrip)[-1].trip == one(bench)
    events = [e for e in bench.of(AnnounceEvent) if e.shadow]
    assert [e.kind for e in events] == ["shadow_tripped", "shadow_found"]
    assert "would have cancelled 3 orders (account 14: 3): 1, 2, 3" in events[1].text


def test_it_never_escalates_however_long_it_stands_over_open_orders():
    bench = bench_of()
    bench.trip(scope(account=14))
    look(bench, 300.0)

    assert one(bench).state == "shadow"
    assert "escalated" not in [e.kind for e in bench.of(AnnounceEvent)]
    assert len(bench.of(ListOpenOrders)) == 1
    assert bench.switch.view(bench.now).state == "armed"


@pytest.mark.parametrize("press", ["button", "signal"])
def test_buttons_and_signals_in_shadow_cancel_nothing_and_a_second_press_is_a_cause(press):
    bench = bench_of()
    for _ in range(2):
        if press == "button":
            bench.tell(ButtonPressed(wall=bench.wall, button="desk", scope=scope(account=14), via="mqtt", token=1))
        else:
            bench.tell(EverythingTripped(wall=bench.wall, by="root", reason="now"))
    look(bench)

    assert not sent(bench)
    assert one(bench).causes[0].count == 2
    assert one(bench).would_cancel.orders == (3 if press == "button" else 4)
    assert len(bench.bodies(ShadowCause)) == 1


def test_the_same_command_again_gets_its_receipt_again_and_another_one_its_id_refused():
    bench = bench_of()
    bench.trip(scope(account=14))
    bench.trip(scope(account=14))
    bench.trip(scope(account=15))

    assert [(r.accepted, r.shadow) for r in bench.of(Receipt)] == [(True, True), (True, True), (False, False)]
    assert one(bench).causes[0].count == 2


def test_a_command_that_a_live_daemon_would_refuse_is_refused_in_shadow():
    bench = bench_of(replace(DARK, sites=(replace(SITE, whole_oms=False),)))
    bench.trip(scope())

    assert bench.of(Receipt)[-1].accepted is False
    assert not shadows(bench)


def test_a_rule_in_shadow_cancels_nothing_on_a_live_daemon():
    bench = bench_of(RULES)
    read(bench, 45)
    look(bench)

    assert not sent(bench)
    assert not bench.trips()
    trip = one(bench)
    assert trip.trip.startswith("tried~")
    assert trip.by == "rule tried"
    assert trip.would_cancel.order_ids == (1, 2, 3)
    assert bench.switch.view(bench.now).state == "armed"


def test_a_live_rule_on_the_same_scope_trips_beside_the_shadow_and_really_cancels():
    bench = bench_of(RULES)
    read(bench, 45)
    look(bench)
    read(bench, 55)
    bench.settle()

    assert bench.cancels() == [scope(account=14)]
    assert set(bench.orders) == {11}
    (live,) = bench.trips()
    assert [c.rule for c in live.causes] == ["live"]
    assert [c.rule for c in one(bench).causes] == ["tried"]


def test_a_command_on_the_scope_of_a_shadow_trip_really_cancels():
    bench = bench_of(RULES)
    read(bench, 45)
    look(bench)
    bench.trip(scope(account=14))
    bench.settle()

    assert bench.cancels() == [scope(account=14)]
    assert bench.of(Receipt)[-1].shadow is False
    assert one(bench).trip.startswith("tried~")


def test_shadow_rules_of_one_scope_fold_and_a_repeated_breach_adds_to_the_causes():
    bench = bench_of(replace(RULES, rules=(TRIED, rule("tried-too", above=Decimal(42), mode="shadow"))))
    read(bench, 41)
    read(bench, 45)
    read(bench, 46)
    read(bench, 1)
    read(bench, 47)

    assert [c.rule for c in one(bench).causes] == ["tried", "tried-too"]
    assert [c.last for c in one(bench).causes] == ["47", "47"]
    assert len(bench.bodies(ShadowTripped)) == 1
    assert len(bench.bodies(ShadowCause)) == 1


def test_shadow_trips_of_other_scopes_and_of_people_stay_apart():
    bench = bench_of(replace(RULES, mode="shadow"))
    bench.trip(scope(account=14))
    read(bench, 45)
    read(bench, 45, account=15)

    assert len(shadows(bench)) == 3


def test_a_breach_before_there_is_a_session_looks_once_there_is_one():
    bench = bench_of(ONLY_TRIED, connected=False)
    read(bench, 45)
    look(bench)
    assert one(bench).would_cancel is None
    assert one(bench).orders_left is None
    bench.connect()
    look(bench)

    assert one(bench).would_cancel.orders == 3
    assert not sent(bench)


def test_a_look_without_any_session_ends_and_says_what_it_could_not_see():
    bench = bench_of(ONLY_TRIED, connected=False)
    read(bench, 45)
    look(bench, WAIT_S + 1)

    would = one(bench).would_cancel
    assert (would.orders, would.accounts_unseen) == (0, (14,))
    assert "at least 0 orders; not looked at: account 14" in bench.of(AnnounceEvent)[-1].text


def test_lists_that_fail_are_asked_for_again_a_few_times_and_only_those():
    bench = bench_of()
    bench.trip(scope())
    for _ in range(TRIES * 3):
        while bench.waiting:
            action = bench.waiting[0]
            if action.account == 15:
                bench.waiting.popleft()
                bench.tell(Lost(wall=bench.wall, call=action.call, session=action.session, why="cut"))
            else:
                bench.step()
        if bench.switch.due() is not None:
            bench.tick()

    assert [a.account for a in bench.of(ListOpenOrders)] == [14, *[15] * TRIES]
    would = one(bench).would_cancel
    assert (would.orders, would.accounts_unseen) == (3, (15,))


def test_what_is_announced_of_many_orders_is_bounded_and_the_journal_has_all():
    bench = bench_of()
    bench.orders = {n: order(n) for n in range(1, 201)}
    bench.trip(scope(account=14))
    look(bench)

    assert len(one(bench).would_cancel.order_ids) == IDS_TOLD
    assert one(bench).would_cancel.orders == 200
    assert bench.bodies(ShadowFound)[0].orders == ((14, tuple(range(1, 201))),)


def test_what_is_announced_of_many_accounts_is_bounded_too():
    accounts = tuple(range(1, 121))
    bench = bench_of(replace(DARK, sites=(replace(SITE, accounts=accounts),)))
    bench.orders = {n: order(n, n) for n in accounts if n <= 60}
    bench.trip(scope())
    while bench.waiting or not one(bench).would_cancel:
        if bench.waiting and bench.waiting[0].account > 60:
            action = bench.waiting.popleft()
            bench.tell(Lost(wall=bench.wall, call=action.call, session=action.session, why="cut"))
        elif not bench.step():
            bench.tick()

    would = one(bench).would_cancel
    assert (would.orders, would.accounts, would.unseen) == (60, 60, 60)
    assert len(would.by_account) == len(would.accounts_unseen) == len(would.order_ids) == IDS_TOLD
    assert len(bench.bodies(ShadowFound)[0].orders) == len(bench.bodies(ShadowFound)[0].accounts_unseen) == 60
    assert len(one(bench).accounts_unseen) == 60
    text = bench.of(AnnounceEvent)[-1].text
    assert "and 50 more accounts" in text
    assert "not looked at: account 61, 62" in text


def test_a_look_beside_a_live_trip_says_that_it_may_have_come_second():
    bench = bench_of(RULES)
    read(bench, 55)
    look(bench)

    assert one(bench).would_cancel.swept_by == (bench.trips()[0].trip,)


def test_a_look_leaves_calls_for_sweeps():
    accounts = tuple(range(1, 201))
    site = replace(SITE, accounts=accounts, calls_per_minute=100)
    bench = bench_of(replace(DARK, sites=(site,)))
    bench.trip(scope())
    bench.tick()

    assert 0 < len(bench.of(ListOpenOrders)) < 30
    assert bench.switch.due() > bench.now


def test_a_look_comes_to_its_end_beside_guards_and_snapshots_that_take_every_call_there_is():
    site = replace(SITE, accounts=(14, 15, 16), calls_per_minute=100)
    bench = bench_of(replace(RULES, sites=(site,), feeds=(VAR_FEED, replace(OMS_FEED, snapshot_every_s=1.0))))
    bench.trip(scope())
    bench.settle()
    look(bench, 60.0)  # the burst is spent
    read(bench, 45)
    look(bench, WAIT_S - 1)
    assert one(bench).would_cancel is None
    look(bench, 30.0)

    assert one(bench).would_cancel is not None
    assert bench.state() == "confirmed"


def test_a_rule_in_shadow_breaches_beside_a_live_trip_of_its_scope():
    bench = bench_of(RULES)
    read(bench, 55, account=15)
    bench.settle()
    read(bench, 1, account=15)
    read(bench, 1, account=14)
    bench.reset(one(bench).trip)
    read(bench, 45, account=15)
    look(bench)

    assert one(bench).causes[0].last == "45"
    assert [c.rule for c in bench.trips()[0].causes] == ["live"]


def test_a_command_whose_receipt_was_never_written_stays_used():
    bench = bench_of()
    bench.trip(scope(account=14))
    (until,) = [n for n, record in enumerate(bench.records) if isinstance(record.body, ShadowTripped)]
    later = bench_of(SETTINGS, restored=fold_records(bench.records[: until + 1]))
    later.trip(scope(account=14))
    look(later)

    assert later.of(Receipt)[-1].reason == "id already used"
    assert not sent(later)


def test_a_reset_ends_it_while_the_rule_breaches_and_the_scope_is_full():
    bench = bench_of(ONLY_TRIED)
    read(bench, 45)
    look(bench)
    trip = one(bench).trip
    bench.reset(trip)

    assert bench.of(Receipt)[-1].accepted is True
    assert bench.of(Receipt)[-1].shadow is True
    assert not shadows(bench)
    assert bench.of(ClearTrip) == [ClearTrip(trip)]
    assert bench.of(AnnounceState)[-1].trips == ()
    assert not sent(bench)
    bench.reset(trip, "r2")
    assert bench.of(Receipt)[-1].reason == "no such trip"
    read(bench, 46)  # still the same breach
    assert not shadows(bench)
    read(bench, 1)
    read(bench, 45)  # and its next edge
    assert one(bench).trip != trip


def test_a_reset_that_is_too_old_is_refused_for_a_shadow_trip_too():
    bench = bench_of()
    bench.trip(scope(account=14))
    bench.reset("t1", issued_at=bench.wall - 1000)

    assert bench.of(Receipt)[-1].accepted is False
    assert one(bench).trip == "t1"


def test_a_reset_while_it_looks_ends_the_look():
    bench = bench_of()
    bench.trip(scope(account=14))
    bench.tick()
    bench.reset("t1")
    look(bench)

    assert not bench.bodies(ShadowFound)
    assert not shadows(bench)


@pytest.mark.parametrize("mode", ["live", "shadow"])
def test_a_start_over_its_journal_forgets_it_sweeps_nothing_and_clears_its_topic(mode):
    bench = bench_of(replace(RULES, mode="shadow"))
    bench.trip(scope(account=14), "t1")
    read(bench, 45, account=15)
    look(bench)
    rules_trip = shadows(bench)[1].trip
    restored = fold_records(bench.records)
    assert not restored.trips
    assert not restored.warnings

    later = bench_of(replace(SETTINGS, mode=mode), restored=restored)
    for trip, marked in (("t1", True), (rules_trip, False)):  # the mark may be unreadable: the journal knows too
        later.tell(
            RetainedTripFound(wall=later.wall, trip=trip, scope=scope(account=14), by="ann", cause="it", shadow=marked)
        )
    look(later)

    assert not sent(later)
    assert not later.trips()
    assert not shadows(later)
    assert later.of(ClearTrip) == [ClearTrip("t1"), ClearTrip(rules_trip)]
    later.trip(scope(account=14), "t1")
    assert later.of(Receipt)[-1].reason == "id already used"


def test_a_retained_shadow_trip_that_the_journal_lost_is_cleared_and_not_latched():
    bench = bench_of(SETTINGS)
    bench.tell(
        RetainedTripFound(wall=bench.wall, trip="s9", scope=scope(account=14), by="ann", cause="it", shadow=True)
    )
    look(bench)

    assert bench.of(ClearTrip) == [ClearTrip("s9")]
    assert not sent(bench)


def test_ids_made_after_a_restart_are_new_though_only_shadow_trips_came_before():
    bench = bench_of(ONLY_TRIED)
    read(bench, 45)
    restored = fold_records(bench.records)
    later = bench_of(ONLY_TRIED, restored=restored)
    read(later, 45)

    assert one(later).trip != one(bench).trip


def test_what_was_latched_live_is_swept_on_by_a_daemon_in_shadow_and_can_be_reset():
    live = bench_of(SETTINGS)
    live.trip(scope(account=14))
    dark = bench_of(DARK, restored=fold_records(live.records))
    dark.settle()

    assert dark.cancels() == [scope(account=14)]
    assert dark.state() == "confirmed"
    notes = dark.switch.view(dark.now).notes
    assert "SHADOW" in notes[0]
    assert "swept on until reset" in notes[1]
    dark.forget_actions()
    dark.trip(scope(account=14), "t2")  # beside it a new command is a shadow
    look(dark, 0.5)
    assert one(dark).trip == "t2"
    dark.reset("t1")
    assert dark.state() == "armed"
    assert len(dark.switch.view(dark.now).notes) == 1
    dark.forget_actions()
    dark.working(order(77))
    look(dark)
    assert not sent(dark)


def test_a_rule_that_becomes_live_by_a_restart_trips_really_while_it_breaches():
    bench = bench_of(ONLY_TRIED)
    read(bench, 45)
    look(bench)
    later = bench_of(replace(ONLY_TRIED, rules=(replace(TRIED, mode="live"),)), restored=fold_records(bench.records))
    read(later, 45)
    later.settle()

    assert later.cancels() == [scope(account=14)]


def test_the_warnings_of_a_rule_in_shadow_are_marked():
    wary = replace(TRIED, warn_at=(Decimal("0.5"),))
    bench = bench_of(replace(ONLY_TRIED, rules=(wary,)))
    read(bench, 30)

    (warning,) = [e for e in bench.of(AnnounceEvent) if e.kind == "near_limit"]
    assert warning.shadow is True


def test_each_rule_is_shown_with_its_mode_whatever_its_kind():
    whole = ScopeTemplate(oms="prime", account=14)
    silent = SilenceRule(name="silent", owner="", scope=whole, feed="var", older_than_s=5.0, mode="shadow")
    bench = bench_of(replace(RULES, rules=(*RULES.rules, silent)))
    assert {r.rule: r.mode for r in bench.switch.view(bench.now).rules} == {
        "tried": "shadow",
        "live": "live",
        "silent": "shadow",
    }
    look(bench, 10.0)
    assert one(bench).by == "rule silent"
    assert not sent(bench)


def test_a_rule_in_shadow_covers_no_account():
    (oms,) = bench_of(ONLY_TRIED).switch.view(100.0).omses
    assert oms.uncovered_accounts == (14, 15)
    (oms,) = bench_of(RULES).switch.view(100.0).omses
    assert oms.uncovered_accounts == ()
