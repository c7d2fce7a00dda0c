"""Several sessions of one OMS: which of them does what, and what happens when one of them goes."""

from __future__ import annotations

from dataclasses import replace

from killswitch.domain.messages import (
    AnnounceEvent,
    CancelAllOrders,
    CancelRejected,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
)
from tests.domain.bench import SITE, order, scope
from tests.domain.paths_bench import FED, SITES, TWO, A, B, Paths, quiet

# --- the session that watches


def test_one_session_watches_and_a_further_one_asks_for_nothing() -> None:
    bench = Paths(FED)
    quiet(bench)
    assert bench.where(ListPositions, ListOpenOrders, ListInstruments) == {A}
    assert len(bench.of(ListPositions)) == len(SITE.accounts)
    assert [(s.gateway, s.up, s.session, s.watching) for s in bench.standing()] == [
        ("gw:1", True, A, True),
        ("gw:2", True, B, False),
    ]


def test_when_it_goes_the_next_one_takes_over_with_a_snapshot_at_once() -> None:
    bench = Paths(FED)
    quiet(bench)
    bench.forget_actions()
    bench.down(A, "gw:1")
    assert bench.switch.view(bench.now).feeds[0].up, "a session is left: the feed isn't down"
    bench.tick(bench.now)
    assert {a.account for a in bench.of(ListPositions)} == set(SITE.accounts)
    assert bench.where(ListPositions, ListOpenOrders) == {B}
    assert [s.watching for s in bench.standing()] == [False, True]


def test_a_session_that_comes_back_does_not_take_it_over_again() -> None:
    bench = Paths(FED)
    bench.down(A, "gw:1")
    bench.tick(bench.now)
    quiet(bench)
    bench.forget_actions()
    bench.up(3, "gw:1")
    assert bench.of(ListPositions, ListOpenOrders) == []
    assert [s.watching for s in bench.standing()] == [False, True]


def test_a_take_over_lets_a_sweep_go_first() -> None:
    bench = Paths(FED)
    quiet(bench)
    bench.trip(scope(account=14))
    bench.settle()
    bench.forget_actions()
    bench.down(A, "gw:1")
    bench.tick(bench.now)
    assert isinstance(bench.waiting[0], CancelAllOrders)
    assert bench.of(ListPositions) == []
    bench.settle()
    bench.tick(bench.now + 2.0)
    assert len(bench.of(ListPositions)) == len(SITE.accounts)


def test_a_rejection_that_each_session_tells_of_is_told_once() -> None:
    bench = Paths()
    for session in (A, B, B):
        told = CancelRejected(wall=bench.wall, oms="prime", session=session, account=14, order_id=7, reason="too late")
        bench.tell(told)
    told = [a for a in bench.of(AnnounceEvent) if a.kind == "cancel_rejected"]
    assert len(told) == 2, "the second of B's is another one"


# --- proof and sessions


def test_an_oms_is_ready_as_long_as_one_of_its_sessions_is_up() -> None:
    bench = Paths()
    bench.down(A, "gw:1")
    assert bench.switch.view(bench.now).ready
    bench.down(B, "gw:2")
    assert bench.switch.view(bench.now).missing == ("no signed-in session to prime",)


def test_when_the_session_of_a_proof_goes_the_other_one_cancels_and_proves_anew() -> None:
    bench = Paths()
    bench.trip(scope(account=14))
    bench.settle()
    assert bench.where(CancelAllOrders, ListOpenOrders) == {A}
    bench.orders = {1: order(1)}
    bench.forget_actions()
    bench.down(A, "gw:1")
    assert bench.state() == "sweeping"
    assert bench.view().outcome == "UNKNOWN"
    assert [(type(a), a.session) for a in bench.waiting] == [(CancelAllOrders, B)]
    bench.settle()
    assert not bench.orders


def test_when_another_session_goes_a_proof_stands() -> None:
    bench = Paths()
    bench.trip(scope(account=14))
    bench.settle()
    bench.forget_actions()
    bench.down(B, "gw:2")
    assert bench.state() == "confirmed"
    assert bench.of(CancelAllOrders) == []


def test_rounds_over_a_session_that_is_gone_are_no_part_of_a_proof_over_the_next_one() -> None:
    """Order by order no session needs to have carried anything: the count of rounds must not pass over all the same."""
    bench = Paths(replace(TWO, sites=(replace(SITES[0], dialect=SITE.dialect.__class__("v3")),)))
    bench.trip(scope(account=14, instrument=25))
    (first,) = bench.of(ListOpenOrders)
    assert first.session == A
    quiet(bench)  # one empty round of two
    bench.down(A, "gw:1")
    bench.forget_actions()
    bench.tick(bench.now + 0.2)
    quiet(bench)
    assert bench.state() == "sweeping"
    bench.settle()
    assert [a.session for a in bench.of(ListOpenOrders)] == [B, B]
