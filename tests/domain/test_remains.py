"""The outcome in every place: RESIDUAL with the orders, UNKNOWN with the accounts that could not be looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.messages import (
    AnnounceEvent,
    AnnounceTrip,
    Answer,
    Answered,
    AnswerKind,
    ListOpenOrders,
    Moved,
    Noted,
    OpenOrders,
    Order,
    Receipt,
    Remaining,
    Sent,
    Stopped,
    WasReset,
)
from killswitch.domain.remains import in_words, orders_left
from tests.domain.bench import SETTINGS, Bench, confirmed, order, scope

NOT_AUTHORIZED = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")
NOT_SUPPORTED = Answer(AnswerKind.REFUSED, "106", 106, "Operation Not Supported")
BROKEN = Answer(AnswerKind.UNCLEAR, "102", 102, "Server Error")


def swept(bench: Bench, seconds: float, *, no_lists_of: tuple[int, ...] = (), answer: Answer = BROKEN) -> None:
    """So long, with lists of these accounts refused."""
    end = bench.now + seconds
    while bench.now < end:
        while bench.waiting:
            head = bench.waiting[0]
            if isinstance(head, ListOpenOrders) and head.account in no_lists_of:
                bench.waiting.popleft()
                bench.tell(Sent(wall=bench.wall, call=head.call, session=head.session))
                bench.tell(Answered(wall=bench.wall, call=head.call, session=head.session, answer=answer))
            else:
                bench.step()
        due = bench.switch.due()
        bench.tick(end if due is None else min(max(due, bench.now), end))


def events(bench: Bench, kind: str) -> list[AnnounceEvent]:
    return [a for a in bench.of(AnnounceEvent) if a.kind == kind]


def last_receipt(bench: Bench) -> Receipt:
    return bench.of(Receipt)[-1]


def test_an_order_that_can_not_be_cancelled_is_named_in_every_place() -> None:
    bench = Bench()
    bench.connect()
    bench.orders[77] = order(77, user=40)
    bench.obeys = False
    bench.trip(scope(account=14))
    swept(bench, SETTINGS.confirm.deadline_s + 1)
    words = "1 order remains: 77 (account 14, user 40)"
    view = bench.view()
    assert (view.state, view.outcome, view.orders_left) == ("escalated", "RESIDUAL", 1)
    assert view.remaining == Remaining((order(77, user=40),), 0, 0, (), 0, complete=True)
    assert view.why == "not within 5 s"
    assert bench.of(AnnounceTrip)[-1].trip == view
    (said,) = events(bench, "escalated")
    assert said.text.endswith(f"not confirmed: not within 5 s; RESIDUAL, orders left: 1; {words}")
    assert said.detail == {"outcome": "RESIDUAL", "orders": [77], "accounts_unseen": []}
    (moved,) = bench.bodies(Moved)
    assert (moved.outcome, moved.orders_left, moved.orders, moved.unseen) == ("RESIDUAL", 1, (77,), ())
    bench.reset("t1")
    receipt = last_receipt(bench)
    assert (receipt.accepted, receipt.reason) == (False, "escalated")
    assert (receipt.outcome, receipt.remaining) == ("RESIDUAL", words)
    end = bench.switch.end(bench.now, bench.wall)
    (stopped,) = [a.body for a in end if isinstance(getattr(a, "body", None), Stopped)]
    assert stopped.left == f"t1: RESIDUAL, {words}"
    bench.obeys = True
    bench.settle()
    assert (bench.view().outcome, bench.view().remaining, bench.view().why) == ("VERIFIED", None, "")


@pytest.mark.parametrize(("answer", "why"), [(BROKEN, "Server Error"), (NOT_AUTHORIZED, "Not Authorized")])
def test_an_account_that_can_not_be_listed_is_named_with_the_reason_in_every_place(answer: Answer, why: str) -> None:
    bench = Bench()
    bench.connect()
    bench.trip(scope())
    swept(bench, SETTINGS.confirm.deadline_s + 1, no_lists_of=(15,), answer=answer)
    words = f"account that could not be looked at: 15 ({why})"
    view = bench.view()
    assert (view.state, view.outcome) == ("escalated", "UNKNOWN")
    assert view.remaining == Remaining((), 0, 0, ((15, why),), 0, complete=True)
    assert (view.accounts_looked_at, view.accounts_unseen) == ((14,), (15,))
    said = events(bench, "escalated")[-1]
    assert f"; UNKNOWN, orders left where it could look: 0; {words}" in said.text
    assert said.detail == {"outcome": "UNKNOWN", "orders": [], "accounts_unseen": [15]}
    assert bench.bodies(Moved)[-1].unseen == (15,)
    bench.reset("t1")
    assert (last_receipt(bench).outcome, last_receipt(bench).remaining) == ("UNKNOWN", words)
    bench.settle()
    assert (bench.view().outcome, bench.view().accounts_unseen) == ("VERIFIED", ())


def test_without_a_session_no_account_can_be_looked_at() -> None:
    bench = Bench()
    bench.trip(scope())
    bench.tick(bench.now + SETTINGS.confirm.deadline_s + 1)
    view = bench.view()
    assert (view.state, view.outcome, view.orders_left) == ("escalated", "UNKNOWN", None)
    assert view.remaining is not None
    assert view.remaining.unseen == ((14, "no signed-in session"), (15, "no signed-in session"))
    (said,) = events(bench, "escalated")
    assert said.text.endswith(
        "UNKNOWN, orders left: not listed; "
        "accounts that could not be looked at: 14 (no signed-in session), 15 (no signed-in session)"
    )


def test_with_the_last_session_gone_what_was_residual_is_unknown_and_the_orders_stay_named() -> None:
    bench = Bench()
    bench.connect()
    bench.orders[77] = order(77)
    bench.obeys = False
    bench.trip(scope(account=14))
    swept(bench, 1.0)
    assert bench.view().outcome == "RESIDUAL"
    bench.disconnect()
    view = bench.view()
    assert view.outcome == "UNKNOWN"
    assert view.remaining == Remaining((order(77),), 0, 0, ((14, "no signed-in session"),), 0, complete=True)
    assert bench.of(AnnounceTrip)[-1].trip == view


def test_an_account_that_was_listed_and_then_can_not_be_is_not_looked_at() -> None:
    bench = Bench()
    bench.connect()
    bench.orders[77] = order(77)
    bench.obeys = False
    bench.trip(scope())
    swept(bench, 0.5)
    assert bench.view().accounts_unseen == ()
    swept(bench, 3.0, no_lists_of=(15,))
    assert (bench.view().outcome, bench.view().accounts_unseen) == ("UNKNOWN", (15,))


def test_a_list_that_is_not_answered_in_time_says_so_until_it_comes() -> None:
    bench = Bench()
    bench.connect()
    bench.trip(scope(account=14))
    while not isinstance(bench.waiting[0], ListOpenOrders):
        bench.step()
    look = bench.waiting.popleft()
    bench.tell(Sent(wall=bench.wall, call=look.call, session=look.session))
    bench.tick(bench.now + SETTINGS.retry.list_timeout_s + 0.1)
    assert bench.view().remaining.unseen == ((14, "no answer in time"),)
    bench.tell(OpenOrders(wall=bench.wall, call=look.call, session=look.session, account=14, orders=()))
    assert bench.view().accounts_unseen == ()


def test_accounts_that_may_be_more_than_we_were_told_of_are_said() -> None:
    bench = confirmed(scope())
    bench.orders[90] = order(90, account=900)
    bench.working(order(90, account=900))
    swept(bench, SETTINGS.confirm.deadline_s + 1)
    assert bench.view().outcome == "UNKNOWN"
    assert bench.view().remaining.complete is False
    assert "there may be accounts that nobody told us of" in events(bench, "escalated")[-1].text


def test_a_second_reason_to_escalate_is_journalled_with_what_remains() -> None:
    bench = Bench()
    bench.connect()
    bench.orders[77] = order(77)
    bench.obeys = False
    bench.trip(scope(account=14))
    swept(bench, SETTINGS.confirm.deadline_s + 1)
    swept(bench, 3.0, no_lists_of=(14,), answer=NOT_SUPPORTED)
    (noted,) = [b for b in bench.bodies(Noted) if b.kind == "escalated"]
    assert noted.trip == "t1"
    assert "account 14 can't be listed: Operation Not Supported; UNKNOWN" in noted.text
    assert "1 order remains: 77" in noted.text
    assert bench.of(AnnounceTrip)[-1].trip.why == "account 14 can't be listed: Operation Not Supported"


def test_a_look_that_failed_before_the_sweep_began_is_no_reason_why_an_account_is_not_seen() -> None:
    bench = Bench()
    bench.connect()
    bench.trip(scope(account=14))
    swept(bench, 3.0, no_lists_of=(14,))
    assert bench.view().remaining.unseen == ((14, "Server Error"),)
    bench.trip(scope(account=14), "t2")
    assert bench.view("t2").remaining.unseen == ((14, "not listed yet"),)


def test_what_is_verified_says_so_in_its_events_and_at_its_reset() -> None:
    bench = confirmed()
    (said,) = events(bench, "confirmed")
    assert said.text.endswith("confirmed: VERIFIED, no orders left: 2 empty rounds in a row")
    assert said.detail == {"outcome": "VERIFIED", "covers": "orders"}
    bench.working(order(77))
    (again,) = events(bench, "sweeping")
    assert "RESIDUAL, swept again: order 77 by user 37 of account 14 works" in again.text
    bench.settle()
    proven = bench.view().verified_wall
    bench.reset("t1")
    assert (last_receipt(bench).accepted, last_receipt(bench).outcome) == (True, "VERIFIED")
    (body,) = bench.bodies(WasReset)
    assert (body.outcome, body.verified_wall) == ("VERIFIED", proven)
    assert "VERIFIED, reset by ann" in events(bench, "reset")[0].text
    bench.reset("t1")  # the same again
    assert last_receipt(bench).outcome == "VERIFIED"


def test_a_reset_of_no_trip_has_no_outcome() -> None:
    bench = Bench()
    bench.reset("none")
    assert (last_receipt(bench).outcome, last_receipt(bench).remaining) == ("", "")


def test_the_first_are_named_and_the_others_counted() -> None:
    bench = Bench()
    bench.connect()
    bench.obeys = False
    for n in range(100, 130):
        bench.orders[n] = order(n)
    bench.trip(scope(account=14))
    swept(bench, 1.0)
    left = bench.view().remaining
    assert ([o.order_id for o in left.orders], left.more_orders) == (list(range(100, 120)), 10)
    assert in_words(left).endswith("119 (account 14, user 37) and 10 more")
    assert in_words(left).startswith("30 orders remain: 100 (account 14, user 37), ")


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (Remaining((), 0, 0, (), 0, complete=True), ""),
        (Remaining((), 0, 2, (), 0, complete=True), "2 rows can't be read"),
        (
            Remaining((replace(order(1), order_id=None, entered_by=None),), 0, 1, (), 0, complete=True),
            "1 order remains: without an id (account 14, user unknown); 1 row can't be read",
        ),
        (
            Remaining((Order(14, None, 25, 37, client_order_id=9),), 0, 0, ((15, "x"),), 3, complete=False),
            (
                "1 order remains: client id 9 (account 14, user 37); accounts that could not be looked at: 15 (x) and "
                "3 more; there may be accounts that nobody told us of"
            ),
        ),
    ],
)
def test_what_remains_is_one_line_for_people(left: Remaining, words: str) -> None:
    assert in_words(left) == words


def test_a_number_of_orders_is_none_of_all_where_it_could_not_look_everywhere() -> None:
    assert orders_left(None, None) == "orders left: not listed"
    assert orders_left(0, "UNKNOWN") == "orders left where it could look: 0"
    assert orders_left(3, "RESIDUAL") == "orders left: 3"
