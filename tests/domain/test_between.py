"""What falls between the rooms: hedges and dialects, HTTP and gateways, late answers of two sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import (
    AccountsFound,
    AnnounceEvent,
    Answer,
    Answered,
    AnswerKind,
    CancelAllOrders,
    CancelOrder,
    CancelQuote,
    ListUserAccounts,
    Order,
    OrderEnded,
    SessionUp,
    Withdraw,
)
from killswitch.domain.scope import EVERY
from tests.domain.bench import OK, Bench, order, scope
from tests.domain.paths_bench import TWO, A, B, Paths, quiet
from tests.domain.quotes_bench import QuoteBench, settings
from tests.domain.test_last_resort import Desk, known, with_dialect

V2, V3, V4 = Dialect.V2, Dialect.V3, Dialect.V4
AUTO = replace(TWO, sites=(replace(TWO.sites[0], dialect=None),))
HEDGE_S = TWO.retry.hedge_after_s


class Auto(Paths):
    """Paths whose sign-ins tell a version."""

    def up(self, session: int, gateway: str, dialect: Dialect = V2) -> None:
        self.session = session
        self.tell(SessionUp(wall=self.wall, oms="prime", gateway=gateway, session=session, dialect=dialect))


def withdrawn(bench: Bench) -> set[int]:
    return {call for action in bench.of(Withdraw) for call in action.calls}


def unwritten_on_a() -> tuple[Auto, int]:
    """A cancel for a user stands unwritten before A's socket; its hedge was received over B."""
    bench = Auto(AUTO)
    bench.orders = {1: order(1), 2: order(2, user=40)}
    bench.trip(scope(14, 37))
    first = bench.waiting.popleft()
    bench.tick(bench.now + HEDGE_S)
    assert bench.step().session == B
    return bench, first.call


def test_a_cancel_whose_hedge_was_received_is_not_written_later_once_its_user_may_be_ignored() -> None:
    bench, first = unwritten_on_a()
    assert first not in withdrawn(bench)
    held = order(2, user=40)
    bench.tell(OrderEnded(wall=bench.wall, oms="prime", session=B, order=held, state="Canceled"))
    assert first in withdrawn(bench)


def test_a_cancel_whose_hedge_was_received_is_not_written_later_once_a_poorer_session_comes() -> None:
    bench, first = unwritten_on_a()
    bench.up(3, "gw:3", V3)
    assert first in withdrawn(bench)


def test_a_cancel_that_waits_for_http_leaves_no_more_once_a_poorer_session_comes() -> None:
    desk = Desk(with_dialect(None))
    desk.http_up(V4)
    desk.trip(scope(account=14, instrument=25))
    (waiting,) = desk.sent_over_http()
    desk.session = 1
    desk.tell(SessionUp(wall=desk.wall, oms="prime", gateway="gw:1", session=1, dialect=V3))
    assert waiting.call in withdrawn(desk)


def test_what_may_be_said_over_http_is_not_richer_than_what_a_later_session_had_shown() -> None:
    desk = Desk(with_dialect(None))
    desk.http_up(V4)
    desk.tell(SessionUp(wall=desk.wall, oms="prime", gateway="gw:1", session=1, dialect=V3))
    desk.session = 1
    desk.disconnect()
    desk.trip(scope(account=14, instrument=25))
    assert not desk.sent_over_http()


@pytest.mark.parametrize("text", ["TOO MANY REQUESTS", "Server Error"])
def test_orders_that_are_not_clearly_received_over_http_are_not_hammered(text: str) -> None:
    desk = known()
    said = Answer(AnswerKind.UNCLEAR, "other", text=text)
    for _ in range(50):
        desk.over_http(said)
    assert len(desk.sent_over_http()) == 2
    end = desk.now + 60
    while (due := desk.switch.due()) is not None and due <= end:
        desk.tick()
        desk.over_http(said)
    assert 20 < len(desk.sent_over_http()) < 80


def test_a_new_session_over_http_cancels_at_once_the_orders_whose_cancels_were_cut_with_the_last_one() -> None:
    desk = known()
    desk.over_http(Answer(AnswerKind.UNCLEAR, "other", text="Server Error"))
    desk.http_down()
    desk.http_up(V3)
    assert sorted(action.order_id for action in desk.sent_over_http()) == [1, 3]


def test_a_late_word_on_a_users_accounts_takes_nothing_back_that_another_session_told_since() -> None:
    bench = Paths()
    bench.user_accounts = {37: (14, 99)}
    bench.silent = {A}
    bench.trip(scope(EVERY, 37))
    quiet(bench)
    bench.tick(bench.now + HEDGE_S)
    quiet(bench)
    early = bench.of(ListUserAccounts)[0]
    assert early.session == A
    bench.trip(scope(EVERY, 37))  # pressed again: asked again
    quiet(bench)
    bench.tell(AccountsFound(wall=bench.wall, call=early.call, session=A, accounts=(14, 99)))
    bench.settle()


# --- what ends because of us is not held against the server


def told_to_be_wider(bench: Bench) -> list[str]:
    return [event.text for event in bench.of(AnnounceEvent) if event.kind == "wider_than_asked"]


def test_both_sides_of_a_quote_end_because_of_the_one_call_that_cancelled_it() -> None:
    bench = QuoteBench(settings(dialect=None))
    bench.session = 1
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:1", session=1, dialect=V4))
    bench.quote(501, instrument=26)
    bench.trip(scope(account=14, instrument=26))
    while not bench.of(CancelQuote):
        bench.step() or bench.tick()
    bench.tick(bench.now + 1.1)  # so long after its own cancel
    bench.trip(scope(account=14, instrument=25), "t2")
    while bench.step():
        pass
    for side in (501, 502):
        held = Order(14, side, 26, None)
        bench.tell(OrderEnded(wall=bench.wall, oms="prime", session=1, order=held, state="Canceled"))
    assert not told_to_be_wider(bench)


def test_an_order_that_was_cancelled_by_its_owners_id_ends_because_of_that() -> None:
    bench = Auto(AUTO)
    bench.answers.append(Answer(AnswerKind.REFUSED, "100", 100, "Invalid Request"))  # so it goes order by order
    bench.orders = {3: Order(14, None, 25, 40, client_order_id=77)}
    bench.trip(scope(14, 40))
    while not bench.of(CancelOrder):
        bench.step() or bench.tick()
    bench.tick(bench.now + 1.1)
    bench.trip(scope(14, 37), "t2")
    quiet(bench)
    held = Order(14, 3, 25, 40, client_order_id=77)
    bench.tell(OrderEnded(wall=bench.wall, oms="prime", session=A, order=held, state="Canceled"))
    assert not told_to_be_wider(bench)


def test_a_users_accounts_whose_answer_was_set_aside_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.user_accounts = {37: (14, 99)}
    bench.connect()
    bench.trip(scope(EVERY, 37))
    while not isinstance(bench.waiting[0], ListUserAccounts):
        bench.step()
    asked = bench.waiting.popleft()

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(bench.switch._parts.sweeper.gathering, "met", broken)
        answer = AccountsFound(wall=bench.wall, call=asked.call, session=1, accounts=(14, 99))
        assert "set_aside" in [a.kind for a in bench.switch.handle(answer, bench.now) if isinstance(a, AnnounceEvent)]
    bench.working(order(8, account=99))  # met, so that nobody's word on all accounts is whole
    bench.settle()
    assert bench.orders == {}


def test_a_proof_does_not_outlive_the_session_that_listed_its_quotes() -> None:
    bench = QuoteBench(settings(block_trades=False))
    bench.connect()
    bench.trip(scope(account=14, instrument=25))
    bench.settle()
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:2", session=2))
    bench.working(order(9, account=14))  # cancelled on the first, and proven there
    bench.session = 1
    bench.settle()
    first = bench.switch._parts.book.listed["prime", 14]
    bench.switch._parts.book.listed["prime", 14] = replace(first, session=2)
    trip = bench.switch._parts.trips["t1"]
    carried = trip.sweep.carried | {(2, trip.scope)}
    bench.switch._parts.trips["t1"] = replace(trip, sweep=replace(trip.sweep, carried=carried))
    bench.disconnect()
    assert bench.state() == "sweeping"


def test_the_cancel_of_a_quote_is_not_hedged_by_one_side_of_it_when_a_session_comes() -> None:
    bench = QuoteBench(settings(block_trades=False))
    bench.connect()
    bench.quote(501)
    bench.trip(scope(account=14, instrument=25))
    while not bench.of(CancelQuote):
        bench.step() or bench.tick()
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:2", session=2))
    bench.tick(bench.now + HEDGE_S + 0.1)
    assert not bench.of(CancelOrder)


def test_while_every_session_hangs_a_users_accounts_are_not_asked_for_again_and_again() -> None:
    bench = Paths()
    bench.user_accounts = {37: (14, 15)}
    bench.silent = {A, B}
    bench.trip(scope(EVERY, 37))
    quiet(bench)
    began = bench.now
    while (due := bench.switch.due()) is not None and due < began + TWO.retry.list_timeout_s - 0.1:
        bench.tick()
        quiet(bench)
    assert len(bench.of(ListUserAccounts)) <= 2


def test_what_waits_for_http_is_not_withdrawn_because_no_gateway_has_told_its_version() -> None:
    desk = Desk(with_dialect(None))
    desk.http_up(V4)
    desk.trip(scope(account=14, instrument=25))
    desk.trip(scope(account=15, instrument=25), "t2")
    assert len(desk.sent_over_http()) == 2
    assert not withdrawn(desk)


def test_an_answer_to_an_older_cancel_does_not_make_a_session_answer_again() -> None:
    bench = Paths()
    bench.silent = {A, B}
    bench.trip(scope(account=14))
    bench.trip(scope(account=15), "t2")
    quiet(bench)
    first, second = (action for action in bench.of(CancelAllOrders) if action.session == A)
    bench.tick(bench.now + HEDGE_S)
    assert first.call < second.call
    bench.tell(Answered(wall=bench.wall, call=first.call, session=A, answer=OK))
    bench.forget_actions()
    bench.trip(scope(), "t3")
    assert [action.session for action in bench.of(CancelAllOrders)] == [B]
