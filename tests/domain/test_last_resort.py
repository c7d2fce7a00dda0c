"""Cancels over HTTP, as the core decides them: when no gateway answers, and never as proof."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.dialects import Dialect
from killswitch.domain.last_resort import AGAIN_S, SINGLE_AGAIN_S, UNANSWERED_MAX
from killswitch.domain.messages import (
    AnnounceEvent,
    Answer,
    Answered,
    AnswerKind,
    Called,
    CancelAllOrders,
    CancelOrder,
    HttpDown,
    HttpUp,
    ListOpenOrders,
    Lost,
    OpenOrders,
    Receipt,
    Sent,
    SessionUp,
)
from tests.domain.bench import OK, SETTINGS, SITE, Bench, order, scope

HTTP = 900
AT = "gw:2/AP"
TWO = replace(SETTINGS, sites=(replace(SITE, gateways=("gw:1", AT)),))


def with_dialect(dialect: Dialect | None):
    return replace(TWO, sites=(replace(TWO.sites[0], dialect=dialect),))


class Desk(Bench):
    """A bench whose OMS can be reached over HTTP too. What goes over it is answered by `over_http`."""

    def __init__(self, settings=TWO, **more) -> None:
        super().__init__(settings, **more)
        self.http = HTTP
        self.unanswered = 0

    def http_up(self, dialect: Dialect = Dialect.V2) -> None:
        self.http += 1
        self.tell(HttpUp(wall=self.wall, oms="prime", gateway=AT, session=self.http, dialect=dialect))

    def http_down(self) -> None:
        self.tell(HttpDown(wall=self.wall, oms="prime", gateway=AT, session=self.http, why="cut"))

    def sent_over_http(self):
        return [a for a in self.of(CancelAllOrders, CancelOrder) if a.session == self.http]

    def over_http(self, said: Answer | None = OK) -> int:
        """Answer what waits for HTTP. How many there were."""
        mine = [a for a in self.waiting if a.session == self.http]
        for action in mine:
            self.waiting.remove(action)
            self.tell(Sent(wall=self.wall, call=action.call, session=self.http))
            if said is None:
                continue
            if said.kind is AnswerKind.RECEIVED:
                self._cancel(action)
            self.tell(Answered(wall=self.wall, call=action.call, session=self.http, answer=said))
        return len(mine)

    def events(self, kind: str) -> list[str]:
        return [a.text for a in self.of(AnnounceEvent) if a.kind == kind]

    def until(self, seconds: float, *, gateway: bool = False) -> None:
        """Let time go on, with HTTP answering, and nobody else unless the gateway does too."""
        end = self.now + seconds
        while (due := self.switch.due()) is not None and due <= end:
            self.tick()
            self.over_http()
            while gateway and self.step():
                pass
        self.now = end


def test_without_a_gateway_the_cancel_leaves_over_http_at_once():
    desk = Desk()
    desk.orders = {1: order(1)}
    desk.http_up()
    desk.trip(scope(account=14))
    (cancel,) = desk.sent_over_http()
    assert cancel.scope == scope(account=14)
    desk.over_http()
    assert not desk.orders


def test_nothing_is_listed_over_http_and_what_it_swept_stays_unknown_and_is_said_so():
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http()
    desk.until(60)
    assert not desk.of(ListOpenOrders)
    view = desk.view()
    assert (view.state, view.outcome, view.orders_left) == ("escalated", "UNKNOWN", None)
    assert "cancels were received over HTTP, where nothing can be listed" in desk.events("escalated")[-1]
    (said,) = desk.events("over_http")
    assert said.endswith("there is no session with a gateway: cancelled over HTTP, which proves nothing")


def test_what_lists_of_old_had_shown_is_no_outcome_once_http_went_over_it():
    desk = Desk()
    desk.orders = {1: order(1)}
    desk.obeys = False
    desk.connect()
    desk.http_up()
    desk.trip(scope(account=14))
    while desk.step():
        pass
    assert desk.view().outcome == "RESIDUAL"
    desk.disconnect()
    desk.over_http()
    assert desk.view().outcome == "UNKNOWN"


def test_it_leaves_again_and_again_at_its_pace_while_nobody_can_look():
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http()
    desk.until(10 * AGAIN_S)
    assert 9 <= len(desk.sent_over_http()) <= 12


def test_many_scopes_keep_within_the_budget_of_calls():
    site = replace(TWO.sites[0], accounts=tuple(range(100, 150)), calls_per_minute=60, whole_oms=False)
    desk = Desk(replace(TWO, sites=(site,)))
    desk.http_up()
    for account in site.accounts:
        desk.trip(scope(account=account), f"t{account}")
    desk.over_http()
    assert len(desk.sent_over_http()) == 50  # the first of each is never held back
    desk.until(600)
    assert len(desk.sent_over_http()) <= 50 + 10 * 60


def test_a_session_that_comes_later_carries_the_cancel_itself_before_its_lists_count():
    desk = Desk()
    desk.orders = {1: order(1)}
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http()
    desk.connect()
    cancels = [a for a in desk.of(CancelAllOrders) if a.session == desk.session]
    assert [c.scope for c in cancels] == [scope(account=14)]
    assert not desk.of(ListOpenOrders)
    desk.settle()
    assert desk.view().outcome == "VERIFIED"


def test_a_list_that_a_session_gives_before_it_carried_the_cancel_proves_nothing():
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http()
    desk.connect()
    (cancel,) = [a for a in desk.waiting if a.session == desk.session]
    for call in (10_001, 10_002, 10_003):
        held = OpenOrders(wall=desk.wall, call=call, session=desk.session, account=14, orders=())
        desk.tell(held)
        desk.now += 1
    assert desk.state() != "confirmed"
    assert cancel.session == desk.session


def test_while_a_gateway_answers_nothing_leaves_over_http():
    desk = Desk()
    desk.orders = {1: order(1)}
    desk.connect()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.settle()
    desk.until(60, gateway=True)
    assert desk.sent_over_http() == []
    assert desk.events("over_http") == []


def test_a_gateway_that_leaves_the_cancel_unanswered_beyond_its_time_has_http_beside_it():
    desk = Desk()
    desk.orders = {1: order(1)}
    desk.connect()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.answers += [None] * 50
    while desk.step():
        pass
    assert not desk.sent_over_http()
    desk.tick(desk.now + TWO.retry.timeout_s + 0.01)
    (cancel,) = desk.sent_over_http()
    assert cancel.scope == scope(account=14)
    assert "no gateway answers" in desk.events("over_http")[0]


def test_what_http_carried_is_no_answer_for_the_gateway_which_is_told_it_again_and_again():
    desk = Desk()
    desk.connect()
    desk.http_up()
    desk.trip(scope(account=14))
    end = desk.now + 20
    while (due := desk.switch.due()) is not None and due <= end:
        desk.tick()
        desk.over_http()
        while desk.waiting:
            action = desk.waiting.popleft()
            desk.tell(Sent(wall=desk.wall, call=action.call, session=desk.session))
    assert len([a for a in desk.of(CancelAllOrders) if a.session == desk.session]) > 5


def test_a_gateway_that_answers_again_is_relied_on_again_and_proves():
    desk = Desk()
    desk.orders = {1: order(1)}
    desk.connect()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.answers += [None]
    desk.step()
    desk.tick(desk.now + TWO.retry.timeout_s + 0.01)
    desk.over_http()
    assert not desk.orders
    desk.settle()
    assert desk.view().outcome == "VERIFIED"
    before = len(desk.sent_over_http())
    desk.working(order(2))
    desk.settle()
    desk.until(30, gateway=True)
    assert len(desk.sent_over_http()) == before


def test_of_two_gateways_both_must_be_silent():
    desk = Desk(replace(TWO, sites=(replace(SITE, gateways=("gw:1", "gw:9", AT)),)))
    desk.connect()
    desk.tell(SessionUp(wall=desk.wall, oms="prime", gateway="gw:9", session=50))
    desk.http_up()
    desk.trip(scope(account=14))
    desk.answers += [None] * 50
    while desk.step():
        pass
    desk.tick(desk.now + TWO.retry.timeout_s + 0.01)
    assert {a.session for a in desk.of(CancelAllOrders)} == {1, 50}, "the hedge's own time is not up yet"
    desk.tick(desk.now + TWO.retry.hedge_after_s)
    assert {a.session for a in desk.of(CancelAllOrders)} == {1, 50, desk.http}


def test_what_is_received_over_http_makes_no_session_prove():
    """The WebSocket's own cancel is never written; its lists, however empty, are no evidence."""
    desk = Desk()
    desk.connect()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.tick(desk.now + TWO.retry.timeout_s + 0.01)  # not even Sent
    desk.over_http()
    for action in [a for a in desk.waiting if isinstance(a, ListOpenOrders)]:
        desk.answer(action)
    desk.until(20)
    assert desk.state() == "escalated"


def test_after_the_reset_nothing_leaves_and_what_is_on_its_way_holds_the_reset_back():
    desk = Desk()
    desk.connect()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.answers += [None]
    desk.step()
    desk.tick(desk.now + TWO.retry.timeout_s + 0.01)
    desk.over_http(said=None)  # written, and never answered
    (first,) = [a.call for a in desk.of(CancelAllOrders) if a.session == desk.session][:1]
    desk.tell(Answered(wall=desk.wall, call=first, session=desk.session, answer=OK))
    desk.settle()
    desk.reset("t1")
    (receipt,) = [a for a in desk.of(Receipt) if a.id == "r1"]
    assert (receipt.accepted, receipt.reason) == (False, "1 cancel over HTTP is unanswered")
    (call,) = [a.call for a in desk.sent_over_http()]
    desk.tell(Lost(wall=desk.wall, call=call, session=desk.http, why="no answer within 5 s"))
    desk.reset("t1", "r2")
    assert desk.state() == "armed"
    desk.forget_actions()
    desk.until(60)
    assert not desk.of(CancelAllOrders)


def test_a_server_that_answers_nothing_over_http_either_isnt_given_more_and_more():
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    end = desk.now + 60
    while (due := desk.switch.due()) is not None and due <= end:
        desk.over_http(said=None)
        desk.tick()
    assert len(desk.sent_over_http()) == UNANSWERED_MAX


@pytest.mark.parametrize("answer", [Answer(AnswerKind.UNCLEAR, "other", text="TOO MANY REQUESTS"), None])
def test_a_cancel_without_a_clear_answer_leaves_again_sooner(answer):
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http(said=answer)
    if answer is None:
        desk.tell(Lost(wall=desk.wall, call=desk.sent_over_http()[0].call, session=desk.http, why="cut"))
    began = desk.now
    while len(desk.sent_over_http()) < 2:
        desk.tick()
    assert desk.now - began < 0.5 < AGAIN_S
    assert desk.view().outcome is None
    assert "over HTTP" not in "".join(desk.events("escalated"))


def test_a_refusal_over_http_is_gone_around_by_narrower_calls():
    desk = Desk()
    desk.http_up()
    desk.trip(scope())
    desk.over_http(Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized"))
    assert {a.scope for a in desk.sent_over_http()[1:]} == {scope(account=14), scope(account=15)}


def test_a_press_by_a_person_leaves_over_http_at_once_too():
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http()
    desk.trip(scope(account=14), "t2", digest="another")
    assert len(desk.sent_over_http()) == 2


def test_a_new_session_over_http_waits_for_nothing():
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http()
    desk.http_down()
    desk.http_up()
    assert len(desk.sent_over_http()) == 1
    assert not [a for a in desk.of(CancelAllOrders) if a.session not in (HTTP + 1, HTTP + 2)]


def test_its_dialect_is_heeded_for_what_leaves_over_it():
    desk = Desk(with_dialect(None))
    desk.http_up(Dialect.V4)
    desk.trip(scope(account=14, instrument=25))
    desk.trip(scope(account=15, user=37), "t2")
    assert [a.scope for a in desk.sent_over_http()] == [scope(account=14, instrument=25)]


# --- order by order -----------------------------------------------------------------------------------------


def known(dialect=Dialect.V3) -> Desk:
    """A user's trip whose orders a gateway listed before it went away."""
    desk = Desk(with_dialect(dialect))
    desk.orders = {1: order(1), 2: order(2, user=40), 3: order(3), 4: order(4, user=None)}
    desk.obeys = False
    desk.connect()
    desk.http_up(dialect)
    desk.trip(scope(account=14, user=37))
    for _ in range(4):
        desk.step()
    desk.disconnect()
    return desk


def test_orders_that_the_last_list_showed_are_cancelled_by_their_ids_and_nobody_elses_are():
    desk = known()
    assert sorted(a.order_id for a in desk.sent_over_http()) == [1, 3]
    desk.over_http()
    assert sorted(desk.orders) == [2, 4]


def test_without_a_list_there_is_no_way_order_by_order():
    desk = Desk(with_dialect(Dialect.V3))
    desk.http_up(Dialect.V3)
    desk.trip(scope(account=14, user=37))
    desk.until(30)
    assert not desk.sent_over_http()
    assert (desk.state(), desk.view().outcome) == ("escalated", "UNKNOWN")


def test_orders_are_not_cancelled_by_their_ids_over_and_over():
    desk = known()
    desk.over_http()
    desk.until(SINGLE_AGAIN_S / 2)
    assert len(desk.sent_over_http()) == 2
    desk.until(SINGLE_AGAIN_S)
    assert len(desk.sent_over_http()) == 4


# --- where it shows -----------------------------------------------------------------------------------------


def test_it_shows_as_one_more_gateway_and_alone_makes_nobody_ready():
    desk = Desk()
    view = desk.switch.view(desk.now)
    assert [(s.gateway, s.up) for oms in view.omses for s in oms.sessions] == [("gw:1", False), (AT, False)]
    assert "no signed-in session to prime" in view.missing
    desk.http_up()
    view = desk.switch.view(desk.now)
    assert [(s.gateway, s.up, s.session) for oms in view.omses for s in oms.sessions] == [
        ("gw:1", False, None),
        (AT, True, desk.http),
    ]
    assert [s.credential for oms in view.omses for s in oms.sessions] == ["", "over HTTP, for cancels alone"]
    assert not view.ready
    assert f"no signed-in session to prime but over HTTP at {AT}, which can cancel and prove nothing" in view.missing
    desk.http_down()
    assert [s.why for oms in desk.switch.view(desk.now).omses for s in oms.sessions][1] == "cut"


def test_the_evidence_says_what_went_over_http():
    desk = Desk()
    desk.http_up()
    desk.trip(scope(account=14))
    desk.over_http()
    assert [(c.what, c.text) for c in desk.bodies(Called)] == [("sent", "over HTTP"), ("ok", "over HTTP")]
