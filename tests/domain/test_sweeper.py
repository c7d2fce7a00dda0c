"""Evidence: what proves a scope empty, and what doesn't. Each test is a sequence that once fooled a design."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.messages import (
    AnnounceEvent,
    Answer,
    Answered,
    AnswerKind,
    Arrived,
    CancelAllOrders,
    CancelOrder,
    DropSession,
    ListOpenOrders,
    ListUserAccounts,
    Looked,
    Lost,
    OpenOrders,
    Sent,
    SessionUp,
    Withdraw,
)
from killswitch.domain.settings import ConfirmPolicy
from tests.domain.bench import OK, SETTINGS, SITE, Bench, confirmed, fold_records, order, scope

REFUSED = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")
UNSUPPORTED = Answer(AnswerKind.REFUSED, "106", 106, "Not Supported")
SERVER_ERROR = Answer(AnswerKind.UNCLEAR, "102", 102, "Server Error")
ABSENT = Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found")


def tripped(covered=None, *orders, settings=SETTINGS) -> Bench:
    bench = Bench(settings)
    bench.connect()
    bench.orders = {o.order_id: o for o in orders}
    bench.trip(covered or scope(account=14))
    return bench


def lists(bench: Bench) -> list[ListOpenOrders]:
    return [a for a in bench.waiting if isinstance(a, ListOpenOrders)]


def empty(bench: Bench, action: ListOpenOrders) -> None:
    bench.waiting.remove(action)
    bench.tell(OpenOrders(wall=bench.wall, call=action.call, session=action.session, account=action.account, orders=()))


# --- what counts


def test_received_is_not_cancelled_and_no_list_is_no_proof() -> None:
    bench = tripped(None, order(1))
    bench.obeys = False
    bench.step()
    assert bench.state() == "sweeping"
    assert bench.view().orders_left is None
    assert bench.view().outcome is None


def test_it_takes_the_configured_number_of_empty_rounds_in_a_row() -> None:
    for empties in (1, 2, 3):
        settings = replace(SETTINGS, confirm=ConfirmPolicy(empties=empties))
        bench = tripped(settings=settings)
        bench.settle()
        assert len(bench.of(ListOpenOrders)) == empties


def test_rounds_keep_their_distance() -> None:
    bench = tripped()
    bench.step()
    bench.step()
    assert lists(bench) == []
    due = bench.switch.due()
    assert due == pytest.approx(bench.now + SETTINGS.confirm.settle_s)
    bench.tick()
    assert len(lists(bench)) == 1


def test_a_list_asked_before_the_cancel_was_written_proves_nothing() -> None:
    bench = confirmed()
    bench.tick()  # the guard asks for a list
    (old,) = lists(bench)
    bench.trip(scope(account=14), "t2")
    cancel = next(a for a in bench.waiting if isinstance(a, CancelAllOrders))
    bench.waiting.remove(cancel)
    bench.tell(Sent(wall=bench.wall, call=cancel.call, session=1))
    empty(bench, old)
    bench.tell(Answered(wall=bench.wall, call=cancel.call, session=1, answer=OK))
    (first,) = lists(bench)
    assert first.call > cancel.call
    empty(bench, first)
    bench.tick()
    assert bench.state("t2") == "sweeping", "the old list is not one of the two"
    empty(bench, lists(bench)[0])
    assert bench.state("t2") == "confirmed"


def test_a_list_on_a_session_that_did_not_carry_the_cancel_proves_nothing() -> None:
    bench = tripped()
    bench.step()  # the cancel, on session 1
    bench.disconnect()
    bench.connect()  # session 2
    bench.forget_actions()
    assert not lists(bench), "a new session proves nothing: it carries the cancel first"
    assert [a.session for a in bench.waiting] == [2]
    assert isinstance(bench.waiting[0], CancelAllOrders)
    bench.settle()
    assert bench.state() == "confirmed"


def test_a_second_session_that_saw_no_cancel_is_not_asked_for_proof() -> None:
    bench = tripped()
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:2", session=7))
    bench.settle()
    assert {a.session for a in bench.of(ListOpenOrders)} == {1}


def test_a_round_is_all_accounts_not_one_account_twice() -> None:
    """Account 14 is proven empty twice while 15 is still being listed, and an order enters 14."""
    bench = tripped(scope())
    bench.step()
    first = {a.account: a for a in lists(bench)}
    empty(bench, first[14])
    bench.tick(bench.now + 0.3)
    assert [a.account for a in lists(bench)] == [15], "14 is not asked again before the round is full"
    empty(bench, first[15])
    assert bench.state() == "sweeping"
    bench.tick()
    again = {a.account: a for a in lists(bench)}
    assert set(again) == {14, 15}
    empty(bench, again[14])
    assert bench.state() == "sweeping"
    empty(bench, again[15])
    assert bench.state() == "confirmed"


def test_a_working_order_seen_between_two_empty_rounds_sets_the_count_to_zero() -> None:
    bench = tripped()
    bench.step()
    empty(bench, lists(bench)[0])
    bench.working(order(9))
    bench.settle()
    assert not bench.orders
    assert len(bench.cancels()) == 2
    assert bench.bodies(Looked)[-1].count == 0


def test_an_order_seen_by_event_is_settled_by_its_absence_from_a_round_begun_after_the_event() -> None:
    """Its terminal event was lost in a reconnect: it must not block for ever."""
    bench = tripped()
    bench.step()
    (before,) = lists(bench)
    bench.working(order(9), place=False)  # a ghost: no list will ever show it
    empty(bench, before)
    bench.settle()
    asked_after = [a for a in bench.of(ListOpenOrders) if a.call > before.call]
    assert len(asked_after) >= 2, "the list asked before the event is not one of the two"


def test_a_list_that_is_under_way_when_an_order_is_seen_does_not_count() -> None:
    bench = tripped()
    bench.step()
    empty(bench, lists(bench)[0])
    bench.tick()
    (second,) = lists(bench)
    bench.working(order(9))
    empty(bench, second)
    assert bench.state() == "sweeping"


def test_a_row_that_can_not_be_read_counts_as_in_scope_and_is_told() -> None:
    bench = tripped()
    bench.step()
    for _ in range(12):
        for again in [a for a in bench.waiting if isinstance(a, CancelAllOrders)]:
            bench.waiting.remove(again)
            bench.tell(Sent(wall=bench.wall, call=again.call, session=1))
            bench.answer(again)
        for asked in lists(bench):
            bench.waiting.remove(asked)
            bench.tell(OpenOrders(wall=bench.wall, call=asked.call, session=1, account=14, orders=(), unreadable=1))
        bench.tick(bench.now + 0.5)
    assert bench.state() == "escalated"
    assert (bench.view().outcome, bench.view().orders_left) == ("RESIDUAL", 1)
    assert bench.of(CancelOrder) == []


def test_an_answer_that_is_no_list_is_no_empty_list() -> None:
    bench = tripped()
    bench.step()
    for _ in range(20):
        for asked in lists(bench):
            bench.waiting.remove(asked)
            bench.tell(Answered(wall=bench.wall, call=asked.call, session=1, answer=SERVER_ERROR))
        bench.tick(bench.now + 0.5)
    assert bench.state() == "escalated"
    assert bench.view().outcome == "UNKNOWN"
    bench.settle()
    assert bench.state() == "confirmed"


def test_a_list_that_is_refused_escalates_at_once() -> None:
    bench = tripped()
    bench.step()
    (asked,) = lists(bench)
    bench.waiting.remove(asked)
    bench.tell(Answered(wall=bench.wall, call=asked.call, session=1, answer=REFUSED))
    assert bench.state() == "escalated"
    assert bench.view().outcome == "UNKNOWN"


def test_an_old_list_that_shows_an_order_proves_nothing_but_is_a_sight() -> None:
    """It was asked before the last cancel; when it was written nobody knows: look again, and name nobody."""
    bench = confirmed()
    bench.tick()
    (old,) = lists(bench)
    bench.waiting.remove(old)
    bench.trip(scope(account=14), "t2")
    bench.settle()
    bench.tell(OpenOrders(wall=bench.wall, call=old.call, session=1, account=14, orders=(order(1),)))
    assert bench.state("t2") == "sweeping"
    assert bench.bodies(Arrived) == []
    bench.settle()
    assert bench.view("t2").outcome == "VERIFIED"


# --- complete accounts


def test_verified_over_the_accounts_that_we_happen_to_know_is_unknown() -> None:
    """An order rests on account 900, which no configuration names: it joins, and the list is complete no more."""
    bench = confirmed(scope())
    bench.working(order(5, account=900))
    assert bench.state() == "sweeping"
    for _ in range(30):
        while bench.step():
            pass
        bench.tick(bench.now + 0.5)
    assert not bench.orders, "it is cancelled all the same"
    assert (bench.state(), bench.view().outcome) == ("escalated", "UNKNOWN")
    assert 900 in bench.view().accounts_looked_at


def test_a_user_scope_asks_for_the_users_accounts_in_each_sweep() -> None:
    bench = Bench()
    bench.connect()
    bench.user_accounts = {37: (14, 200)}
    bench.orders = {1: order(1, account=200, user=37), 2: order(2, account=14, user=40)}
    bench.trip(scope(user=37))
    bench.settle()
    assert len(bench.of(ListUserAccounts)) == 1
    assert set(bench.orders) == {2}
    assert 200 in bench.view().accounts_looked_at
    bench.working(order(3, account=200, user=37))
    bench.settle()
    assert len(bench.of(ListUserAccounts)) == 2


def test_a_users_trip_is_not_confirmed_before_his_accounts_were_told() -> None:
    bench = Bench()
    bench.connect()
    bench.trip(scope(user=37))
    for _ in range(20):
        for action in list(bench.waiting):
            if not isinstance(action, ListUserAccounts):
                bench.waiting.remove(action)
                bench.tell(Sent(wall=bench.wall, call=action.call, session=1))
                bench.answer(action)
        bench.tick(bench.now + 0.1)
    assert bench.state() == "sweeping"
    bench.settle()


def test_rounds_over_accounts_that_are_not_all_yet_are_no_part_of_the_proof() -> None:
    """Account 200 is told of between the two rounds: the first one did not list it."""
    bench = Bench()
    bench.connect()
    bench.user_accounts = {37: (14, 15, 200)}
    bench.trip(scope(user=37))
    bench.step()  # the cancel
    for action in [a for a in bench.waiting if isinstance(a, ListOpenOrders)]:
        empty(bench, action)
    (users,) = [a for a in bench.waiting if isinstance(a, ListUserAccounts)]
    bench.waiting.remove(users)
    bench.answer(users)
    bench.settle()
    assert len([a for a in bench.of(ListOpenOrders) if a.account == 200]) == 2


# --- whose order


def test_an_order_that_nobody_can_attribute_makes_a_users_trip_residual_and_is_never_cancelled_for_it() -> None:
    bench = tripped(scope(account=14, user=37), order(1, user=37), order(2, user=None), order(3, user=40))
    for _ in range(12):
        while bench.step():
            pass
        bench.tick(bench.now + 0.3)
    assert set(bench.orders) == {2, 3}
    view = bench.view()
    assert (view.state, view.outcome, view.orders_left) == ("escalated", "RESIDUAL", 1)
    assert bench.of(CancelOrder) == []


# --- answers


def test_while_the_number_of_orders_falls_the_cancel_is_not_repeated() -> None:
    many = [order(i) for i in range(1, 13)]
    bench = tripped(None, *many)
    bench.obeys = False
    while bench.orders:
        bench.step()
        for id_ in list(bench.orders)[:2]:
            del bench.orders[id_]
        if not bench.waiting:
            bench.tick()
    bench.settle()
    assert len(bench.cancels()) == 1
    assert bench.of(CancelOrder) == []


def test_true_and_then_nothing_happens_is_cancelled_again_and_then_order_by_order() -> None:
    bench = tripped(None, order(1), order(2))
    bench.obeys = False
    for _ in range(40):
        if bench.of(CancelOrder):
            break
        if not bench.step():
            bench.tick()
    assert len(bench.cancels()) == 2 or len(bench.cancels()) == 3
    assert {a.order_id for a in bench.of(CancelOrder)} == {1, 2}
    bench.obeys = True
    bench.settle()


def test_many_stragglers_are_cancelled_by_narrower_calls_before_one_by_one() -> None:
    bench = tripped(None, *(order(i, instrument=25 + i % 2) for i in range(1, 61)))
    bench.obeys = False
    for _ in range(60):
        if {scope(account=14, instrument=25), scope(account=14, instrument=26)} <= set(bench.cancels()):
            break
        if not bench.step():
            bench.tick()
    else:
        raise AssertionError(bench.cancels())
    assert bench.of(CancelOrder) == []
    bench.tick(bench.now + 20)
    for _ in range(400):
        if not bench.step():
            bench.tick()
    assert bench.of(CancelOrder), "with no narrower call left, they go one by one"
    bench.obeys = True
    bench.settle()


@pytest.mark.parametrize("said", [REFUSED, UNSUPPORTED], ids=["20", "106"])
def test_a_refused_account_goes_order_by_order_and_escalates_at_once(said: Answer) -> None:
    bench = tripped(None, order(1), order(2, account=15))
    bench.answers.append(said)
    bench.step()
    assert bench.state() == "escalated"
    assert [a.kind for a in bench.of(AnnounceEvent)].count("escalated") == 1
    bench.settle()
    assert set(bench.orders) == {2}
    assert len(bench.cancels()) == 1, "the refused call is not repeated"
    assert [a.order_id for a in bench.of(CancelOrder)] == [1]


def test_a_refused_whole_oms_falls_back_to_its_accounts() -> None:
    bench = tripped(scope(instrument=25), order(1), order(2, account=15), order(3, instrument=26))
    bench.answers.append(REFUSED)
    bench.settle()
    assert set(bench.cancels()) == {
        scope(instrument=25),
        scope(account=14, instrument=25),
        scope(account=15, instrument=25),
    }
    assert set(bench.orders) == {3}


def test_a_trip_that_rested_on_a_wider_call_that_was_refused_sends_its_own() -> None:
    bench = Bench()
    bench.trip(scope(), "wide")
    bench.trip(scope(account=14), "narrow")
    bench.connect()
    assert bench.cancels() == [scope()]
    bench.answers.append(REFUSED)
    bench.settle()
    assert scope(account=14) in bench.cancels()


@pytest.mark.parametrize("said", [SERVER_ERROR, None], ids=["102", "no answer"])
def test_an_unknown_outcome_is_asked_again_and_looked_at(said: Answer | None) -> None:
    bench = tripped(None, order(1))
    bench.answers.append(said)
    bench.settle()
    assert not bench.orders
    assert bench.cancels() == [scope(account=14)] * 2


def test_nothing_there_is_looked_at() -> None:
    bench = tripped()
    bench.answers.append(ABSENT)
    bench.settle()
    assert len(bench.cancels()) == 1
    assert bench.view().outcome == "VERIFIED"


def test_answers_that_never_come_do_not_keep_an_empty_book_from_being_proven() -> None:
    bench = tripped()
    bench.answers.extend([None] * 1000)
    bench.settle()
    assert bench.view().outcome == "VERIFIED"


def test_at_most_one_cancel_per_scope_is_unanswered_and_a_burst_costs_one_more() -> None:
    bench = tripped()
    cancel = bench.waiting.popleft()
    bench.tell(Sent(wall=bench.wall, call=cancel.call, session=1))
    for i in range(100):
        bench.working(order(i + 1))
    assert len(bench.cancels()) == 1
    bench.orders.clear()
    bench.now += 0.06
    bench.tell(Answered(wall=bench.wall, call=cancel.call, session=1, answer=OK))
    assert len(bench.cancels()) == 2


def test_a_cancel_that_the_socket_does_not_take_is_withdrawn_and_left_again() -> None:
    bench = tripped()
    cancel = bench.waiting.popleft()
    bench.tick()
    assert bench.of(Withdraw) == [Withdraw("prime", (cancel.call,))]
    bench.tell(Lost(wall=bench.wall, call=cancel.call, session=1, why="withdrawn"))
    bench.settle()
    assert len(bench.cancels()) == 2


def test_no_list_is_asked_while_a_fresh_cancel_is_unanswered() -> None:
    bench = tripped()
    cancel = bench.waiting.popleft()
    bench.tell(Sent(wall=bench.wall, call=cancel.call, session=1))
    assert lists(bench) == []
    bench.tick()
    assert lists(bench), "its time is up: look"


# --- after the proof


def test_a_late_arrival_is_swept_at_once_and_named_once() -> None:
    bench = confirmed()
    bench.forget_actions()
    bench.working(order(77))
    assert bench.cancels() == [scope(account=14)]
    assert [(a.account, a.orders) for a in bench.bodies(Arrived)] == [(14, (77,))]
    bench.settle()
    assert [(a.account, a.orders) for a in bench.bodies(Arrived)] == [(14, (77,))]
    assert bench.view().outcome == "VERIFIED"


def test_a_late_arrival_that_no_event_told_of_is_found_by_the_guard() -> None:
    bench = confirmed()
    bench.orders[78] = order(78)
    bench.tick(bench.now + SETTINGS.confirm.guard_every_s + 0.1)
    while bench.step():
        pass
    assert [a.orders for a in bench.bodies(Arrived)] == [(78,)]
    bench.settle()
    assert not bench.orders


def test_an_order_outside_the_scope_is_no_late_arrival() -> None:
    bench = confirmed(scope(account=14, instrument=25))
    bench.working(order(80, instrument=26))
    bench.working(order(81, account=15))
    for _ in range(6):
        bench.tick(bench.now + 0.5)
        while bench.step():
            pass
    assert bench.state() == "confirmed"
    assert set(bench.orders) == {80, 81}


def test_a_confirmed_trip_whose_guard_goes_blind_is_swept_again() -> None:
    bench = confirmed()
    bench.waiting.clear()
    bench.tick(bench.now + 3 * SETTINGS.confirm.guard_every_s + 0.1)
    assert (bench.state(), bench.view().outcome) == ("sweeping", "UNKNOWN")


def test_a_confirmed_trip_whose_session_goes_is_verified_no_more() -> None:
    bench = confirmed()
    bench.disconnect()
    assert (bench.state(), bench.view().outcome) == ("sweeping", "UNKNOWN")
    bench.tick(bench.now + 6)
    assert bench.state() == "escalated"
    bench.connect()
    bench.settle()
    assert bench.view().outcome == "VERIFIED"


def test_the_guard_stretches_its_interval_to_its_share_of_the_budget() -> None:
    accounts = tuple(range(1, 51))
    site = replace(SITE, accounts=accounts, calls_per_minute=60)
    settings = replace(SETTINGS, sites=(site,))
    bench = Bench(settings)
    bench.connect()
    bench.trip(scope())
    bench.settle(within_s=600)
    bench.forget_actions()
    start = bench.now
    while bench.now < start + 600:
        while bench.step():
            pass
        bench.tick(bench.now + 1)
    guards = len(bench.of(ListOpenOrders))
    assert bench.cancels() == []
    assert 100 <= guards <= 600
    assert bench.switch.view(bench.now).omses[0].guard_every_s > 100


def test_the_guard_stretches_its_interval_to_what_a_round_really_takes() -> None:
    bench = confirmed()
    bench.tick()
    bench.now += 2.5  # the list of this round takes that long
    while bench.step():
        pass
    assert bench.switch.view(bench.now).omses[0].guard_every_s == pytest.approx(5.0, abs=0.2)
    bench.tick()
    while bench.step():
        pass
    assert bench.switch.view(bench.now).omses[0].guard_every_s == SETTINGS.confirm.guard_every_s


def test_no_minute_holds_more_calls_than_the_budget_but_for_cancels() -> None:
    site = replace(SITE, accounts=tuple(range(1, 30)), calls_per_minute=120)
    bench = Bench(replace(SETTINGS, sites=(site,)))
    bench.connect()
    bench.trip(scope())
    at: list[float] = []
    seen = 0
    while bench.now < 100 + 300:
        while bench.step():
            pass
        fresh = bench.of(ListOpenOrders)[seen:]
        seen += len(fresh)
        at += [bench.now] * len(fresh)
        if bench.now > 200 and bench.now < 201:
            bench.working(order(1, account=3))
        bench.tick(bench.now + 0.25)
    assert at
    assert max(sum(t <= u < t + 60 for u in at) for t in at) <= 120


def test_nothing_is_asked_of_an_oms_without_a_session() -> None:
    bench = Bench()
    bench.trip(scope(account=14))
    bench.tick(bench.now + 100)
    assert bench.waiting == bench.waiting.__class__()
    assert bench.of(DropSession) == []


def test_a_round_in_which_an_account_showed_an_order_and_was_listed_again_is_not_empty() -> None:
    """14 shows an order, is listed again empty, and only then 15 answers: the pair is no empty round."""
    bench = tripped(scope())
    bench.step()
    first = {a.account: a for a in lists(bench)}
    bench.waiting.remove(first[14])
    bench.tell(OpenOrders(wall=bench.wall, call=first[14].call, session=1, account=14, orders=(order(1),)))
    asked = {first[14].call, first[15].call}
    empty(bench, first[15])
    for _ in range(60):
        if bench.state() == "confirmed":
            break
        for again in lists(bench):
            asked.add(again.call)
            empty(bench, again)
        bench.tick(bench.now + 0.05)
        for cancel in [a for a in bench.waiting if isinstance(a, CancelAllOrders)]:
            bench.waiting.remove(cancel)
            bench.tell(Sent(wall=bench.wall, call=cancel.call, session=1))
            bench.answer(cancel)
    assert bench.state() == "confirmed"
    assert len(asked) >= 6, "two whole rounds of two accounts after the sight"


def test_where_single_cancels_are_refused_and_no_narrower_call_is_left_the_plan_begins_anew() -> None:
    bench = tripped(scope(account=14, instrument=25), order(1))
    bench.obeys = False
    for _ in range(200):
        if bench.of(CancelOrder):
            break
        if not bench.step():
            bench.tick()
    bench.answers.append(REFUSED)
    natives = len(bench.cancels())
    for _ in range(100):
        if not bench.step():
            bench.tick()
    assert len(bench.cancels()) > natives
    bench.obeys = True
    bench.settle()


def test_a_straggler_whose_single_cancel_was_refused_once_gets_another_turn() -> None:
    """Every native call says received and overlooks it; its own cancel was refused, for the moment only."""
    bench = tripped(None, order(1))
    bench.obeys = False
    for _ in range(200):
        if bench.of(CancelOrder):
            break
        if not bench.step():
            bench.tick()
    bench.answers.append(REFUSED)
    while scope(account=14, instrument=25) not in bench.cancels():
        if not bench.step():
            bench.tick()
    bench.orders[2] = order(2, instrument=26)  # from here on one of two narrower calls is always at hand
    singles, end = len(bench.of(CancelOrder)), bench.now + 60
    while bench.now < end and len(bench.of(CancelOrder)) == singles:
        if not bench.step():
            bench.tick()
    assert len(bench.of(CancelOrder)) > singles
    bench.obeys = True
    bench.settle()


def test_a_whole_oms_trip_whose_permission_is_gone_is_swept_account_by_account_for_good() -> None:
    first = confirmed(scope())
    moved = replace(SETTINGS, sites=(replace(SITE, whole_oms=False),))
    bench = Bench(moved, restored=fold_records(first.records), now=5.0)
    assert bench.state() == "escalated"
    bench.connect()
    bench.settle()
    bench.working(order(9))
    bench.settle()
    assert set(bench.cancels()) == {scope(account=14), scope(account=15)}
