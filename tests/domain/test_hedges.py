"""A cancel that hangs on one session goes out over another; what each session's lists are worth then."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import (
    Answer,
    Answered,
    AnswerKind,
    Called,
    CancelAllOrders,
    CancelOrder,
    DropSession,
    ListOpenOrders,
    ListUserAccounts,
    LookRequested,
    Lost,
    OpenOrders,
    Receipt,
    Sent,
    Withdraw,
)
from killswitch.domain.settings import ConfirmPolicy, RetryPolicy
from killswitch.domain.trips import State
from tests.domain.bench import OK, Bench, order, scope
from tests.domain.paths_bench import SITES, TWO, A, B, Paths, quiet

HEDGE_S = TWO.retry.hedge_after_s
REFUSED = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")


def hung(*orders, settings=TWO, covered=None) -> Paths:
    """A trip whose cancel is written to A, which answers nothing."""
    bench = Paths(settings)
    bench.silent = {A}
    bench.orders = {o.order_id: o for o in orders}
    bench.trip(covered or scope(account=14))
    quiet(bench)
    return bench


def over(bench: Bench, *kinds: type) -> list[int]:
    return [a.session for a in bench.of(*kinds)]


def empty(bench: Bench, asked: ListOpenOrders) -> None:
    bench.waiting.remove(asked)
    bench.tell(Sent(wall=bench.wall, call=asked.call, session=asked.session))
    bench.tell(OpenOrders(wall=bench.wall, call=asked.call, session=asked.session, account=asked.account, orders=()))


def reset(bench: Bench, id_: str) -> Receipt:
    bench.reset("t1", id_)
    return next(r for r in reversed(bench.of(Receipt)) if r.id == id_)


# --- the second call


def test_a_cancel_without_an_answer_goes_out_again_as_a_call_of_its_own_on_another_session() -> None:
    bench = hung()
    bench.tick(bench.now + HEDGE_S - 0.01)
    assert over(bench, CancelAllOrders) == [A]
    bench.tick(bench.now + 0.01)
    first, second = bench.of(CancelAllOrders)
    assert (first.session, second.session) == (A, B)
    assert second.scope == first.scope
    assert second.call > first.call


def test_a_cancel_that_is_answered_in_time_goes_out_once() -> None:
    bench = Paths()
    bench.trip(scope(account=14))
    bench.settle()
    assert over(bench, CancelAllOrders) == [A]


def test_a_cancel_has_one_hedge_and_a_hedge_has_none() -> None:
    bench = hung()
    bench.silent = {A, B}
    bench.up(3, "gw:3")
    bench.silent = {A, B, 3}
    began = bench.now
    while bench.now < began + TWO.retry.timeout_s - 0.01:
        bench.tick(min(bench.now + 0.05, began + TWO.retry.timeout_s - 0.01))
        quiet(bench)
    assert over(bench, CancelAllOrders) == [A, B]


def test_without_another_session_nothing_is_hedged_until_one_comes() -> None:
    bench = Paths()
    bench.down(B, "gw:2")
    bench.silent = {A}
    bench.trip(scope(account=14))
    quiet(bench)
    bench.tick(bench.now + HEDGE_S + 0.05)
    assert over(bench, CancelAllOrders) == [A]
    bench.up(3, "gw:2")
    bench.tick(bench.now)
    assert over(bench, CancelAllOrders) == [A, 3]


def test_the_hedge_of_a_single_cancel_names_the_same_order() -> None:
    bench = Paths(replace(TWO, sites=(replace(SITES[0], dialect=Dialect.V3),)))
    bench.orders = {7: order(7)}
    bench.trip(scope(account=14, user=37))
    bench.step()
    assert over(bench, CancelOrder) == [A]
    bench.silent = {A}
    quiet(bench)
    bench.tick(bench.now + HEDGE_S)
    first, second = bench.of(CancelOrder)
    assert (first.session, second.session) == (A, B)
    assert replace(second, call=0, session=0) == replace(first, call=0, session=0)


def test_what_nobody_wants_any_more_is_not_hedged() -> None:
    """A second cancel would only void the proof that stands."""
    bench = Paths(replace(TWO, sites=(replace(SITES[0], dialect=Dialect.V3),), confirm=ConfirmPolicy(empties=1)))
    bench.orders = {7: order(7)}
    bench.trip(scope(account=14, user=37))
    bench.step()
    (single,) = bench.of(CancelOrder)
    trip = bench.switch._parts.trips["t1"]
    bench.switch._parts.trips["t1"] = replace(trip, state=State.CONFIRMED, verified_wall=1.0)
    bench.tick(bench.now + HEDGE_S)
    assert bench.of(CancelOrder) == [single]


def test_the_journal_says_which_call_was_sent_again() -> None:
    bench = hung()
    bench.tick(bench.now + HEDGE_S)
    quiet(bench)
    first, second = bench.of(CancelAllOrders)
    sent = {c.call: c.text for c in bench.bodies(Called) if c.what == "sent"}
    assert sent == {first.call: "", second.call: f"call {first.call} again, which has no answer"}


# --- what is proof, and how soon


def test_a_session_that_answers_nothing_delays_the_proof_by_the_hedge_alone() -> None:
    bench = hung(order(1))
    began = bench.now
    bench.settle()
    assert bench.now - began == pytest.approx(HEDGE_S + TWO.confirm.settle_s)
    assert over(bench, CancelAllOrders) == [A, B]
    assert over(bench, ListOpenOrders) == [B, B]


def test_empty_lists_of_a_session_that_carried_nothing_prove_nothing() -> None:
    """The cancel left on A, unanswered; lists of B, asked later still, come back empty: A's book may be full."""
    bench = hung(order(1))
    bench.tick(bench.now + HEDGE_S)
    hedge = bench.waiting.popleft()
    assert (type(hedge), hedge.session) == (CancelAllOrders, B)  # on its way to B, and not written
    for n in range(3):
        bench.tell(LookRequested(wall=bench.wall, scope=scope(account=14), token=str(n)))
        (look,) = (a for a in bench.waiting if isinstance(a, ListOpenOrders))
        assert look.session == B, "what hangs isn't asked"
        empty(bench, look)
        bench.tick(bench.now + 0.06)
        assert bench.state() == "sweeping"
    bench.tell(Sent(wall=bench.wall, call=hedge.call, session=B))
    assert bench.state() == "sweeping", "nor do lists from before the last cancel was written"
    bench.answer(hedge)
    quiet(bench)
    bench.settle()
    assert not bench.orders


def test_an_answer_to_a_list_that_comes_over_another_session_is_none() -> None:
    bench = Paths()
    bench.trip(scope(account=14))
    bench.step()
    asked = next(a for a in bench.waiting if isinstance(a, ListOpenOrders))
    for _ in range(3):
        bench.tell(OpenOrders(wall=bench.wall, call=asked.call, session=B, account=14, orders=()))
    bench.tick(bench.now + 0.2)
    assert bench.state() == "sweeping"


def test_a_cancel_on_any_session_voids_the_lists_that_are_under_way_on_every_other() -> None:
    """B carried a hedge and is asked; a cancel is pressed, and leaves on A, which answers again meanwhile."""
    bench = hung(order(1))
    bench.tick(bench.now + HEDGE_S)
    bench.step()  # the hedge, on B
    asked = next(a for a in bench.waiting if isinstance(a, ListOpenOrders))
    assert asked.session == B
    first, _ = bench.of(CancelAllOrders)
    bench.tell(Answered(wall=bench.wall, call=first.call, session=A, answer=OK))
    bench.silent = set()
    bench.trip(scope(account=14), "t2")
    pressed = next(a for a in bench.waiting if isinstance(a, CancelAllOrders))
    assert pressed.session == A
    bench.waiting.remove(pressed)
    bench.tell(Sent(wall=bench.wall, call=pressed.call, session=A))
    empty(bench, asked)
    bench.tick(bench.now + 0.1)
    assert bench.state("t1") == bench.state("t2") == "sweeping"
    bench.answer(pressed)
    quiet(bench)
    bench.settle()


def test_a_list_waits_for_no_cancel_whose_hedge_was_received() -> None:
    bench = hung()
    bench.tick(bench.now + HEDGE_S)
    assert over(bench, ListOpenOrders) == []
    bench.step()
    assert over(bench, ListOpenOrders) == [B]


def test_a_hedge_that_is_refused_settles_nothing() -> None:
    bench = hung()
    bench.answers.append(REFUSED)
    bench.tick(bench.now + HEDGE_S)
    bench.step()
    assert over(bench, ListOpenOrders) == []


def test_a_session_on_which_a_cancel_hung_is_not_the_first_for_the_next_trip_until_it_answers_one() -> None:
    bench = hung()
    bench.settle()
    first, _ = bench.of(CancelAllOrders)
    bench.forget_actions()
    bench.trip(scope(account=15), "t2")
    bench.settle()
    assert over(bench, CancelAllOrders) == [B]
    bench.silent = set()
    bench.tell(Answered(wall=bench.wall, call=first.call, session=A, answer=OK))
    bench.forget_actions()
    bench.trip(scope(account=15), "t3")
    bench.settle()
    assert over(bench, CancelAllOrders) == [A]


def test_a_list_that_timed_out_is_asked_on_another_session_once_that_carried_the_cancel() -> None:
    bench = Paths(replace(TWO, retry=RetryPolicy(list_timeout_s=1.0)))
    bench.orders = {1: order(1)}
    bench.trip(scope(account=14))
    bench.step()
    bench.silent = {A}
    quiet(bench)
    assert over(bench, ListOpenOrders) == [A]
    began = bench.now
    bench.settle()
    assert bench.now - began < 1.5
    assert over(bench, CancelAllOrders) == [A, B]
    assert over(bench, ListOpenOrders) == [A, B, B]


def test_the_accounts_of_a_user_are_asked_of_another_session_when_the_first_hangs() -> None:
    bench = hung(order(1), covered=scope(user=37))
    bench.user_accounts = {37: (14,)}
    began = bench.now
    bench.settle()
    assert bench.now - began < 0.5
    assert over(bench, ListUserAccounts) == [A, B]


def test_when_both_hang_both_are_tried_again_and_again() -> None:
    bench = hung(order(1), settings=replace(TWO, retry=RetryPolicy(list_timeout_s=1.0)))
    bench.silent = {A, B}
    end = bench.now + 10.0
    while bench.now < end:
        bench.tick(min(bench.switch.due() or end, end))
        quiet(bench)
    assert bench.state() == "escalated"
    assert min(over(bench, CancelAllOrders).count(session) for session in (A, B)) >= 3
    bench.silent = set()
    bench.settle()


# --- what becomes of the one that hangs


def test_a_late_answer_to_the_first_changes_nothing() -> None:
    bench = hung()
    bench.settle()
    first, _ = bench.of(CancelAllOrders)
    bench.forget_actions()
    bench.tell(Answered(wall=bench.wall, call=first.call, session=A, answer=OK))
    assert bench.state() == "confirmed"
    assert bench.of(CancelAllOrders, ListOpenOrders) == []


def test_when_its_session_goes_it_is_not_sent_once_more_and_is_named_at_the_reset() -> None:
    bench = hung()
    bench.settle()
    first, _ = bench.of(CancelAllOrders)
    bench.forget_actions()
    bench.tell(Lost(wall=bench.wall, call=first.call, session=A, why="cut"))
    bench.down(A, "gw:1")
    assert bench.state() == "confirmed", "it was proven over B"
    assert bench.of(CancelAllOrders) == []
    receipt = reset(bench, "r1")
    assert receipt.accepted
    assert str(first.call) in receipt.reason


def test_a_reset_is_refused_while_it_hangs_on_a_live_session_which_is_replaced_in_the_end() -> None:
    bench = hung()
    bench.settle()
    receipt = reset(bench, "r1")
    assert (receipt.accepted, "unanswered" in receipt.reason) == (False, True)
    bench.tick(bench.now + 6.0)
    bench.settle()
    assert not reset(bench, "r2").accepted
    assert [a.session for a in bench.of(DropSession)] == [A]


def test_when_the_hedge_is_lost_as_well_another_cancel_leaves() -> None:
    bench = hung(order(1))
    bench.tick(bench.now + HEDGE_S)
    _, hedge = bench.of(CancelAllOrders)
    bench.waiting.clear()
    bench.tell(Sent(wall=bench.wall, call=hedge.call, session=B))
    first, _ = bench.of(CancelAllOrders)
    bench.tell(Lost(wall=bench.wall, call=first.call, session=A, why="cut"))
    bench.down(A, "gw:1")
    bench.tell(Lost(wall=bench.wall, call=hedge.call, session=B, why="cut"))
    bench.down(B, "gw:2")
    bench.silent = set()
    bench.up(3, "gw:1")
    bench.settle()
    assert over(bench, CancelAllOrders) == [A, B, 3]


def test_a_hedge_that_is_not_written_is_withdrawn_at_a_reset() -> None:
    """Two trips: the one that is swept would have it leave, and is not there any more."""
    bench = hung()
    bench.tick(bench.now + HEDGE_S)
    _, hedge = bench.of(CancelAllOrders)
    bench.waiting.clear()
    trip = bench.switch._parts.trips["t1"]
    bench.switch._parts.sweeper.forget(trip)
    withdrawn = [n for a in bench.switch._parts.outbox.take() if isinstance(a, Withdraw) for n in a.calls]
    assert hedge.call in withdrawn


def test_hedges_take_from_the_one_budget_of_the_oms_and_wait_for_none() -> None:
    bench = Paths(replace(TWO, sites=(replace(SITES[0], calls_per_minute=1),)))
    bench.silent = {A}
    for n in range(5):
        bench.trip(scope(account=14, instrument=n + 1), f"t{n}")
    quiet(bench)
    bench.tick(bench.now + HEDGE_S)
    assert over(bench, CancelAllOrders) == [A] * 5 + [B] * 5
    assert not bench.switch._parts.book.may_call("prime", bench.now)
