"""What a sweep knows, and what counts for it: values only."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from killswitch.domain.book import Listed
from killswitch.domain.sweep import Next, Sweep, judge, names
from tests.domain.bench import order, scope

if TYPE_CHECKING:
    from killswitch.domain.scope import Scope

PLAN = (scope(account=14),)
SWEEP = Sweep(began_call=1, mark=5, not_before=10.0, carried=frozenset({(1, scope(account=14))}))
LIST = Listed(call=5, session=1, asked_at=10.0, ended_at=10.1, orders=(), ids=frozenset(), unreadable=0)


def counts(sweep: Sweep, listed: Listed, live: set[int], plan: tuple[Scope, ...] = PLAN) -> bool:
    return sweep.counts(listed, sweep.proving(live, plan))


def test_a_list_counts_at_the_mark_in_time_on_a_live_session_that_carried_the_plan() -> None:
    assert counts(SWEEP, LIST, {1})


@pytest.mark.parametrize(
    ("why", "sweep", "listed", "live"),
    [
        ("asked before the last cancel was written", SWEEP, replace(LIST, call=4), {1}),
        ("asked before the round may begin", SWEEP, replace(LIST, asked_at=9.99), {1}),
        ("its session is gone", SWEEP, LIST, {2}),
        ("its session carried nothing", SWEEP, replace(LIST, session=2), {1, 2}),
        ("its session carried another scope's cancel", replace(SWEEP, carried=frozenset({(1, scope(15))})), LIST, {1}),
        (
            "its session carried a narrower cancel only",
            replace(SWEEP, carried=frozenset({(1, scope(account=14, instrument=25))})),
            LIST,
            {1},
        ),
    ],
)
def test_a_list_does_not_count(why: str, sweep: Sweep, listed: Listed, live: set[int]) -> None:
    assert not counts(sweep, listed, live), why


def test_a_wider_cancel_carries_the_plan_and_order_by_order_needs_none() -> None:
    assert counts(replace(SWEEP, carried=frozenset({(1, scope())})), LIST, {1})
    assert counts(replace(SWEEP, carried=frozenset()), LIST, {1}, ())


def test_a_plan_that_is_one_call_per_account_is_carried_only_when_all_of_them_left() -> None:
    plan = (scope(account=14), scope(account=15))
    assert not counts(SWEEP, LIST, {1}, plan)
    both = replace(SWEEP, carried=SWEEP.carried | {(1, scope(account=15))})
    assert counts(both, LIST, {1}, plan)


def test_a_touch_moves_the_mark_forward_only_and_the_round_begins_at_once() -> None:
    touched = replace(SWEEP, empties=1).touched(9, 3.0)
    assert (touched.mark, touched.empties, touched.not_before) == (9, 0, 3.0)
    assert touched.touched(7, 4.0).mark == 9


def test_what_is_judged_is_two_lists_after_the_same_cancel() -> None:
    two, three = names([order(1), order(2)]), names([order(1), order(2), order(3)])
    what, sweep = judge(SWEEP, three, 3, by_order=False)
    assert what is Next.WAIT
    what, falling = judge(sweep, two, 2, by_order=False)
    assert what is Next.WAIT, "it falls"
    what, again = judge(falling, two, 2, by_order=False)
    assert (what, again.fruitless) == (Next.CANCEL, 1)
    assert again.previous is None, "what follows is compared with itself"
    _, fresh = judge(again, two, 2, by_order=False)
    what, _ = judge(fresh, two, 2, by_order=False)
    assert what is Next.SINGLES, "no effect twice"


def test_orders_that_changed_are_no_sign_of_a_cancel_without_effect() -> None:
    sweep = replace(SWEEP, previous=names([order(1)]), previous_count=1, fruitless=1)
    what, after = judge(sweep, names([order(2)]), 1, by_order=False)
    assert (what, after.fruitless) == (Next.CANCEL, 0)


def test_orders_are_told_apart_by_their_client_ids_where_they_have_no_other() -> None:
    nameless = replace(order(1), order_id=None)
    assert names([replace(nameless, client_order_id=7), order(7)]) == {"client 7", "7"}
    assert names([nameless]) == frozenset()
