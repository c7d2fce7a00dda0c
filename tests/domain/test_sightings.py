"""Order events in the proof: late, twice, out of order, and against what lists show."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from killswitch.domain.book import Listed
from killswitch.domain.messages import (
    AnnounceEvent,
    Arrived,
    CancelAllOrders,
    ListOpenOrders,
    Moved,
    OpenOrders,
    OrderEnded,
    Sent,
)
from killswitch.domain.settings import ConfirmPolicy
from killswitch.domain.sightings import Sightings
from killswitch.domain.undo import Undo
from tests.domain.bench import SETTINGS, Bench, confirmed, order, scope

if TYPE_CHECKING:
    from killswitch.domain.messages import Order

SLOW_GUARD = replace(SETTINGS, confirm=ConfirmPolicy(guard_every_s=600.0))


def ended(bench: Bench, held: Order, state: str = "Canceled") -> None:
    bench.orders.pop(held.order_id or 0, None)
    bench.tell(OrderEnded(wall=bench.wall, oms="prime", session=bench.session, order=held, state=state))


def quietly(bench: Bench, held: Order) -> None:
    """An event of old: the order itself does not come back."""
    bench.forget_actions()
    bench.working(held, place=False)


def arrived(bench: Bench) -> list[int]:
    return [order for body in bench.bodies(Arrived) for order in body.orders]


def still_proven(bench: Bench) -> None:
    assert not bench.of(CancelAllOrders, ListOpenOrders)
    assert (bench.state(), bench.view().outcome) == ("confirmed", "VERIFIED")


def guard(bench: Bench) -> None:
    """One round of the guard."""
    bench.tick(bench.now + bench.switch._parts.standing.confirm.guard_every_s + 0.1)
    while bench.step():
        pass


# --- late arrivals


def test_a_late_arrival_is_cancelled_in_the_pass_of_its_event_however_slow_the_guard_is() -> None:
    bench = confirmed(settings=SLOW_GUARD)
    bench.forget_actions()
    before = bench.now
    bench.working(order(77))
    assert bench.cancels() == [scope(account=14)]
    assert bench.now == before
    bench.settle()
    assert bench.now - before < 5.0  # and proven again, long before the guard's turn
    assert not bench.orders


def test_a_late_arrival_that_a_list_shows_is_cancelled_in_the_pass_of_that_list() -> None:
    bench = confirmed()
    bench.orders[78] = order(78)
    bench.forget_actions()
    bench.tick(bench.now + SETTINGS.confirm.guard_every_s + 0.1)
    while not bench.cancels():
        assert bench.step(), "the guard lists"
    assert bench.cancels() == [scope(account=14)]


def test_a_late_arrival_is_named_by_account_user_and_order_in_the_event_and_in_the_evidence() -> None:
    bench = confirmed(scope(account=14))
    bench.working(order(77, user=40))
    bench.settle()
    bench.working(replace(order(78), entered_by=None))
    bench.settle()
    said = [a for a in bench.of(AnnounceEvent) if a.kind == "late_arrival"]
    assert [a.text for a in said] == [
        "1 late: account 14, order 77 by user 40",
        "1 late: account 14, order 78 by an unknown user",
    ]
    assert said[0].detail == {"account": 14, "orders": [77], "users": (40,)}
    assert [(b.account, b.orders, b.users) for b in bench.bodies(Arrived)] == [(14, (77,), (40,)), (14, (78,), (None,))]
    assert "order 77 by user 40 of account 14 works" in [b.why for b in bench.bodies(Moved)]


def test_many_late_arrivals_of_one_list_are_counted_and_the_first_are_named() -> None:
    bench = confirmed()
    for n in range(100, 125):
        bench.orders[n] = order(n)
    guard(bench)
    (said,) = [a for a in bench.of(AnnounceEvent) if a.kind == "late_arrival"]
    assert said.text.startswith("25 late: account 14, order 100 by user 37, ")
    assert said.text.endswith("order 119 by user 37 and 5 more")
    assert arrived(bench) == list(range(100, 125))  # the evidence has all of them


def test_a_late_order_that_nobody_can_attribute_is_named_from_a_list_too() -> None:
    bench = confirmed(scope(account=14, user=37))
    bench.orders[79] = replace(order(79), entered_by=None)
    guard(bench)
    assert arrived(bench) == [79]


def test_a_late_arrival_is_named_once_by_whatever_shows_it() -> None:
    bench = confirmed()
    bench.working(order(77))
    bench.working(order(77))
    while bench.step():
        pass
    quietly(bench, order(77))
    bench.settle()
    assert arrived(bench) == [77]


# --- terminal states


@pytest.mark.parametrize("state", ["Canceled", "FullyExecuted", "Rejected", "Expired"])
def test_a_working_event_after_the_terminal_one_changes_nothing(state: str) -> None:
    bench = confirmed()
    bench.working(order(77))
    ended(bench, order(77), state)
    bench.settle()
    for _ in range(3):
        quietly(bench, order(77))
        still_proven(bench)
    assert arrived(bench) == [77]


def test_a_working_event_that_its_terminal_event_overtook_is_no_arrival() -> None:
    bench = confirmed()
    bench.forget_actions()
    ended(bench, order(77))  # of an order that was never seen
    still_proven(bench)
    quietly(bench, order(77))
    still_proven(bench)
    assert arrived(bench) == []


def test_an_old_working_event_of_an_order_that_ended_before_the_trip_is_no_arrival() -> None:
    bench = Bench()
    bench.connect()
    bench.working(order(70))
    ended(bench, order(70))
    bench.trip(scope(account=14))
    bench.settle()
    quietly(bench, order(70))
    still_proven(bench)
    assert arrived(bench) == []


def test_old_events_between_two_empty_rounds_do_not_set_the_count_to_zero() -> None:
    bench = Bench()
    bench.connect()
    bench.working(order(70))
    bench.trip(scope(account=14))
    rounds = 0
    while bench.state() != "confirmed":
        while (action := bench.step()) is not None:
            if isinstance(action, CancelAllOrders):
                ended(bench, order(70))
            rounds += isinstance(action, ListOpenOrders)
            bench.working(order(70), place=False)
        bench.tick()
    assert rounds == SETTINGS.confirm.empties


def test_an_order_that_a_list_shows_works_whatever_events_said() -> None:
    bench = confirmed()
    held = order(77)
    ended(bench, held)
    bench.orders[77] = held  # it is open all the same
    guard(bench)
    assert arrived(bench) == [77]
    bench.settle()
    assert not bench.orders
    bench.obeys = True
    bench.orders[78] = order(78)
    ended(bench, order(78))
    bench.orders[78] = order(78)
    bench.obeys = False
    guard(bench)
    # The list took the end back, so an event about it counts again.
    assert bench.state() != "confirmed"
    quietly(bench, order(78))
    assert bench.switch._parts.book.sightings.working.get(("prime", 14, 78)) is not None


def test_a_list_asked_before_the_terminal_event_does_not_take_it_back() -> None:
    bench = confirmed()
    held = order(77)
    bench.working(held)
    while not any(isinstance(a, ListOpenOrders) for a in bench.waiting):
        if bench.step() is None:
            bench.tick()
    bench.orders[77] = held
    look = bench.waiting.popleft()
    assert isinstance(look, ListOpenOrders)
    bench.tell(Sent(wall=bench.wall, call=look.call, session=1))
    ended(bench, held)
    bench.tell(OpenOrders(wall=bench.wall, call=look.call, session=1, account=14, orders=(held,)))
    bench.settle()
    quietly(bench, held)
    still_proven(bench)


def test_an_end_in_another_account_ends_nothing_here() -> None:
    bench = confirmed()
    ended(bench, order(77, account=15))
    bench.working(order(77))
    assert arrived(bench) == [77]


def test_an_order_without_an_id_is_never_taken_for_one_that_ended() -> None:
    bench = confirmed()
    nameless = replace(order(1), order_id=None)
    bench.tell(OrderEnded(wall=bench.wall, oms="prime", session=1, order=nameless, state="Canceled"))
    bench.forget_actions()
    bench.working(nameless)
    assert bench.cancels() == [scope(account=14)]
    assert "an order without an id by user 37 of account 14 works" in [b.why for b in bench.bodies(Moved)]


# --- absence


def sized(number: int, left: int) -> Order:
    return replace(order(number), quantity=Decimal(left))


def test_an_order_seen_by_event_whose_terminal_event_was_lost_is_settled_by_its_absence() -> None:
    bench = confirmed()
    bench.working(sized(77, 5))
    bench.settle()
    for left in (5, 7):  # the same again, and one from before it was filled in part
        quietly(bench, sized(77, left))
        still_proven(bench)
    assert arrived(bench) == [77]


def test_an_order_that_only_lists_lacked_counts_when_an_event_shows_that_it_was_filled_since() -> None:
    bench = confirmed()
    bench.working(sized(77, 5))
    bench.settle()
    quietly(bench, sized(77, 4))
    assert bench.cancels() == [scope(account=14)]
    assert bench.state() == "sweeping"
    assert arrived(bench) == [77]  # counted already


def test_an_order_whose_size_nobody_told_counts_after_its_absence() -> None:
    bench = confirmed()
    bench.working(order(77))
    bench.settle()
    quietly(bench, order(77))
    assert bench.cancels() == [scope(account=14)]


def test_an_order_of_the_first_list_that_a_later_list_lacks_is_no_late_arrival() -> None:
    bench = Bench()
    bench.connect()
    bench.orders[70] = sized(70, 3)
    bench.obeys = False
    bench.trip(scope(account=14))
    while bench.view().orders_left != 1:
        if bench.step() is None:
            bench.tick()
    bench.obeys = True
    bench.settle()
    quietly(bench, sized(70, 3))
    still_proven(bench)
    assert arrived(bench) == []


def test_an_order_may_hide_in_a_row_that_can_not_be_read_and_is_not_settled_by_such_a_list() -> None:
    bench = confirmed()
    bench.working(sized(77, 5))
    while not any(isinstance(a, ListOpenOrders) for a in bench.waiting):
        if bench.step() is None:
            bench.tick()
    look = bench.waiting.popleft()
    bench.tell(Sent(wall=bench.wall, call=look.call, session=1))
    bench.tell(OpenOrders(wall=bench.wall, call=look.call, session=1, account=14, orders=(), unreadable=1))
    assert len(bench.switch._parts.book.sightings.over) == 0


def a_list(call: int, asked_at: float, ended_at: float, *orders: Order) -> Listed:
    return Listed(call, 1, asked_at, ended_at, orders, frozenset(o.order_id for o in orders if o.order_id), 0)


def test_a_list_that_was_under_way_when_an_order_was_seen_settles_nothing() -> None:
    seen = Sightings(Undo())
    seen.worked("prime", sized(77, 5), 10)
    seen.listed("prime", 14, None, a_list(9, 1.0, 2.0))
    assert seen.is_news("prime", sized(77, 5))
    seen.listed("prime", 14, None, a_list(10, 3.0, 4.0))
    assert not seen.is_news("prime", sized(77, 5))


def test_of_two_lists_that_were_under_way_together_neither_ends_what_the_other_one_shows() -> None:
    seen = Sightings(Undo())
    shows = a_list(9, 1.0, 3.0, sized(77, 5))
    seen.listed("prime", 14, shows, a_list(10, 2.0, 4.0))
    assert seen.is_news("prime", sized(77, 5))
    seen.listed("prime", 14, shows, a_list(11, 3.0, 4.0))
    assert not seen.is_news("prime", sized(77, 5))


# --- storms


def test_duplicates_and_reordering_come_to_the_same_end() -> None:
    events = [("working", 77), ("working", 78), ("ended", 77), ("ended", 78)]
    for first in range(len(events)):
        for second in range(len(events)):
            bench = confirmed()
            told = [*events, events[first], events[second]]
            told = told[second:] + told[:second]
            for what, number in told:
                if what == "working":
                    bench.working(order(number), place=False)
                else:
                    ended(bench, order(number))
            bench.settle()
            assert sorted(set(arrived(bench))) == sorted(arrived(bench))
            assert bench.view().outcome == "VERIFIED"
            bench.now += 0.01
            quietly(bench, order(77))
            still_proven(bench)
