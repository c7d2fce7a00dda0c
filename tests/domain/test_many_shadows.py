"""A limit on trial that is far too tight: hundreds of shadow trips, and what they must not cost the live rules."""

from __future__ import annotations

from dataclasses import replace

from killswitch.domain.messages import (
    AnnounceState,
    AnnounceTrip,
    CancelAllOrders,
    ClearTrip,
    ListOpenOrders,
    ShadowCause,
    ShadowEnded,
    ShadowFound,
    ShadowTripped,
    Tick,
)
from killswitch.domain.settings import ScopeTemplate
from killswitch.domain.shadows import CAUSES_MAX, MORE_CAUSES, STANDING_MAX
from tests.domain.bench import SITE, Bench, order, scope
from tests.domain.test_shadows import LIVE, RULES, TRIED, bench_of, look, read, sent, shadows

ACCOUNTS = tuple(range(100, 100 + STANDING_MAX + 50))
DESK = replace(RULES, sites=(replace(SITE, accounts=ACCOUNTS, calls_per_minute=400),))
ONE_SCOPE = replace(TRIED, scope=ScopeTemplate(oms="prime", account=14))


def past_the_limit(accounts=ACCOUNTS, settings=DESK, *, connected=True) -> Bench:
    bench = bench_of(settings, connected=connected)
    bench.orders = {n: order(n, n) for n in accounts}
    for account in accounts:
        read(bench, 45, account)
    return bench


def test_of_the_looks_that_wait_for_the_budget_only_the_first_is_woken():
    bench = past_the_limit(ACCOUNTS[:200])
    look(bench, 1.0)
    assert sum(s.would_cancel is None for s in shadows(bench)) > 100
    effort, steps = 0, bench.switch._parts.shadows  # how often it is asked is what this is about
    asked = steps._not_before

    def counted(*args):
        nonlocal effort
        effort += 1
        return asked(*args)

    steps._not_before = counted
    end = bench.now + 10.0
    while (due := bench.switch.due()) is not None and due <= end:
        bench.now = max(bench.now, due)
        bench.tell(Tick(wall=bench.wall))
        while bench.step():
            pass
    assert effort <= 200  # some 40 lists may leave in that time


def test_every_look_in_line_ends_and_each_scope_is_told_what_it_would_have_lost():
    bench = past_the_limit(ACCOUNTS[:200])
    look(bench, 120.0)
    assert [s.orders_left for s in shadows(bench)] == [1] * 200
    assert len(bench.bodies(ShadowFound)) == 200
    assert not sent(bench)


def test_a_look_at_many_accounts_lets_the_small_ones_behind_it_have_their_turn():
    bench = bench_of(replace(DESK, mode="shadow"))
    bench.trip(scope(), "wide")
    look(bench, 0.5)
    bench.trip(scope(account=100), "small")
    look(bench, 5.0)
    wide, small = shadows(bench)
    assert wide.would_cancel is None
    assert small.would_cancel is not None


def test_looks_in_line_without_a_session_end_by_themselves():
    bench = past_the_limit(ACCOUNTS[:20], connected=False)
    look(bench, 40.0)
    assert [s.would_cancel.accounts_unseen for s in shadows(bench)] == [(a,) for a in ACCOUNTS[:20]]


def test_a_session_that_comes_and_goes_loses_no_look_in_line():
    bench = past_the_limit(ACCOUNTS[:60])
    for _ in range(3):
        look(bench, 1.0)
        bench.disconnect()
        look(bench, 1.0)
        bench.connect()
    look(bench, 90.0)
    assert all(s.would_cancel is not None for s in shadows(bench))


def test_only_so_many_shadow_trips_of_rules_stand_and_the_oldest_makes_room():
    bench = past_the_limit()
    standing = shadows(bench)
    assert len(standing) == STANDING_MAX
    assert len(bench.bodies(ShadowTripped)) == len(ACCOUNTS)  # the journal has each
    ended = bench.bodies(ShadowEnded)
    assert len(ended) == 50
    assert ended[0].by == "killswitch"
    assert ended[0].reason == f"more than {STANDING_MAX} shadow trips of rules stand, before it was looked at"
    assert {c.trip for c in bench.of(ClearTrip)} == {e.trip for e in ended}
    assert len(bench.of(AnnounceState)[-1].trips) == STANDING_MAX
    look(bench, 120.0)
    assert all(s.would_cancel is not None for s in shadows(bench))


def test_a_trip_that_made_room_comes_again_with_the_next_edge_of_its_breach():
    bench = past_the_limit()
    read(bench, 46, ACCOUNTS[0])  # it is past its limit still: no edge
    assert len(bench.bodies(ShadowTripped)) == len(ACCOUNTS)
    read(bench, 30, ACCOUNTS[0])
    read(bench, 45, ACCOUNTS[0])
    assert shadows(bench)[-1].scope.account == ACCOUNTS[0]


def test_people_s_shadow_trips_make_no_room():
    bench = bench_of(replace(DESK, mode="shadow"))
    bench.trip(scope(account=100), "mine")
    for account in ACCOUNTS:
        read(bench, 45, account)
    assert "mine" in {s.trip for s in shadows(bench)}
    assert len(shadows(bench)) == STANDING_MAX + 1


def test_a_live_rule_s_cancel_leaves_at_once_among_hundreds_of_shadow_trips():
    bench = past_the_limit()
    before = len(bench.of(CancelAllOrders))
    read(bench, 55, ACCOUNTS[-1])
    assert len(bench.of(CancelAllOrders)) == before + 1
    look(bench, 5.0)
    (trip,) = bench.trips()
    assert trip.scope == scope(account=ACCOUNTS[-1])
    assert trip.outcome == "VERIFIED"


def test_a_shadow_trip_of_thousands_of_series_shows_the_first_and_journals_each_once():
    bench = past_the_limit(tuple(range(1, 1001)), replace(DESK, rules=(ONE_SCOPE, LIVE)))
    for account in range(1, 1001):
        read(bench, 46, account)
    (trip,) = shadows(bench)
    assert len(bench.bodies(ShadowCause)) == 999
    assert len(trip.causes) == CAUSES_MAX + 1
    assert (trip.causes[-1].text, trip.causes[-1].count) == (MORE_CAUSES, 1000 - CAUSES_MAX)
    assert len(bench.of(AnnounceTrip)) <= CAUSES_MAX + 5
    assert len(bench.of(ListOpenOrders)) <= len(ACCOUNTS)
