"""A dialect that is found at each sign-in: what may be said over which sessions, and what a change of it means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.dialects import POOREST, Dialect, poorest
from killswitch.domain.messages import (
    AnnounceEvent,
    CancelAllOrders,
    CancelOrder,
    ListOpenOrders,
    Moved,
    OrderEnded,
    SessionDown,
    SessionUp,
    Withdraw,
)
from killswitch.domain.scope import EVERY
from killswitch.domain.settings import Settings
from tests.domain.bench import SITE, Bench, fold_records, order, scope

V2, V3, V4 = Dialect.V2, Dialect.V3, Dialect.V4
AUTO = Settings(daemon="ks", boot="1", sites=(replace(SITE, dialect=None, gateways=("gw:1", "gw:2")),))
USER = scope(EVERY, 37)
INSTRUMENT = scope(14, EVERY, 25)


class Gateways(Bench):
    """A bench whose exchange hears every session that is up, over two gateways."""

    def __init__(self, settings: Settings = AUTO, restored=None) -> None:
        super().__init__(settings, restored)
        self.live: set[int] = set()
        self._numbers = 0
        self.user_accounts = {37: (14, 15)}
        for number, user in ((1, 37), (2, 40)):
            self.orders[number] = order(number, user=user)

    def up(self, dialect: Dialect | None, gateway: str = "gw:1") -> int:
        self._numbers += 1
        session = self.session = self._numbers
        self.live.add(session)
        self.tell(SessionUp(wall=self.wall, oms="prime", gateway=gateway, session=session, dialect=dialect))
        return session

    def down(self, session: int, gateway: str = "gw:1") -> None:
        self.live.discard(session)
        self.tell(SessionDown(wall=self.wall, oms="prime", gateway=gateway, session=session, why="cut"))

    def step(self):
        """As the bench does it, on whichever session."""
        while self.waiting and self.waiting[0].session not in self.live:
            self.waiting.popleft()
        if self.waiting:
            self.session = self.waiting[0].session
        return super().step()

    def dialects(self) -> dict[int, str]:
        return {s.session: s.dialect for s in self.switch.view(self.now).omses[0].sessions if s.session is not None}


def users_told(bench: Bench) -> list[int]:
    return [action.call for action in bench.of(CancelAllOrders) if action.scope.user is not EVERY]


@pytest.mark.parametrize(("dialect", "told"), [(V2, True), (V3, False), (V4, False), (None, False)])
def test_a_user_is_named_only_to_a_session_whose_server_says_that_it_is_a_v2(dialect, told):
    bench = Gateways()
    bench.up(dialect)
    bench.trip(USER)
    bench.settle()
    assert bool(users_told(bench)) is told
    assert bool(bench.of(CancelOrder)) is not told
    assert set(bench.orders) == {2}


@pytest.mark.parametrize(("dialect", "told"), [(V2, True), (V3, False), (V4, True), (None, False)])
def test_an_instrument_is_named_only_to_a_session_that_heeds_it(dialect, told):
    bench = Gateways()
    bench.up(dialect)
    bench.orders[3] = order(3, instrument=26)
    bench.trip(INSTRUMENT)
    bench.settle()
    assert (INSTRUMENT in bench.cancels()) is told
    assert set(bench.orders) == {3}


def test_nothing_but_the_account_is_said_where_no_sign_in_has_told_anything():
    assert poorest(()) is POOREST
    assert Gateways().switch.view(100.0).omses[0].sessions[0].dialect == ""
    bench = Gateways()
    bench.trip(USER)  # no session yet: nothing leaves
    assert bench.of(CancelAllOrders, CancelOrder) == []
    bench.up(None)
    bench.settle()
    assert users_told(bench) == []
    assert set(bench.orders) == {2}


@pytest.mark.parametrize("newer", [V3, V4, None])
def test_a_venue_that_was_upgraded_between_two_sessions_is_told_no_user_any_more(newer):
    bench = Gateways()
    first = bench.up(V2)
    bench.trip(USER)
    bench.settle()
    assert users_told(bench)
    bench.down(first)
    bench.forget_actions()
    bench.up(newer)
    bench.working(order(3, user=37))
    bench.settle()
    assert users_told(bench) == []
    assert [action.order_id for action in bench.of(CancelOrder)] == [3]
    assert set(bench.orders) == {2}


def test_a_second_session_that_is_poorer_narrows_what_leaves_on_the_first_at_once():
    bench = Gateways()
    bench.up(V2)
    bench.trip(USER)
    bench.settle()
    bench.forget_actions()
    bench.up(V4, "gw:2")
    assert bench.state() == "sweeping"
    assert bench.dialects() == {1: "v4", 2: "v4"}
    bench.working(order(3, user=37))
    bench.settle()
    assert users_told(bench) == []
    assert set(bench.orders) == {2}
    assert any(moved.input == "blind" and "other ids than before" in moved.why for moved in bench.bodies(Moved))


def test_a_call_that_has_left_before_a_poorer_session_came_proves_nothing_of_the_new_plan():
    bench = Gateways()
    bench.up(V2)
    bench.trip(USER)
    assert users_told(bench) == [1]
    bench.up(V4, "gw:2")
    bench.settle()
    assert users_told(bench) == [1]  # it left on the session that heeds it
    assert set(bench.orders) == {2}


def test_an_older_session_never_grows_richer_when_the_poorer_one_goes():
    bench = Gateways()
    bench.up(V2)
    second = bench.up(V4, "gw:2")
    bench.down(second, "gw:2")
    assert bench.dialects() == {1: "v4"}
    bench.trip(USER)
    bench.settle()
    assert users_told(bench) == []


def test_the_next_sign_in_says_anew_what_may_be_said():
    bench = Gateways()
    bench.down(bench.up(V4))
    bench.trip(USER)
    bench.up(V2)
    bench.settle()
    assert users_told(bench)
    assert bench.of(CancelOrder) == []
    assert set(bench.orders) == {2}


def test_a_plan_that_grows_is_proven_only_once_its_own_cancels_have_left():
    bench = Gateways()
    poor = bench.up(V4)
    bench.up(V2, "gw:2")
    bench.trip(USER)
    bench.settle()
    assert users_told(bench) == []
    bench.forget_actions()
    bench.down(poor)
    assert bench.state() == "sweeping"
    bench.settle()
    assert users_told(bench)
    assert set(bench.orders) == {2}


def test_a_scope_whose_plan_is_the_same_in_both_dialects_stays_proven():
    bench = Gateways()
    bench.up(V2)
    bench.trip(scope(14))
    bench.settle()
    bench.up(V4, "gw:2")
    assert bench.state() == "confirmed"


def test_a_configured_dialect_is_never_widened_by_a_session():
    """The old session may still be there after a reload that names another dialect: the word of now holds."""
    bench = Gateways(replace(AUTO, sites=(replace(AUTO.sites[0], dialect=V3),)))
    bench.up(V2)
    bench.trip(USER)
    bench.settle()
    assert users_told(bench) == []
    assert set(bench.orders) == {2}


# --- wider than asked


def ended(bench: Gateways, held, state: str = "Canceled") -> None:
    bench.orders.pop(held.order_id, None)
    bench.tell(OrderEnded(wall=bench.wall, oms="prime", session=bench.session, order=held, state=state))


def asked(covered=USER) -> Gateways:
    """A v2 that was told a user, and has answered."""
    bench = Gateways()
    bench.up(V2)
    bench.trip(covered)
    while bench.step():
        pass
    return bench


def test_another_users_order_that_ends_right_after_a_users_cancel_narrows_the_oms_for_good():
    bench = asked()
    ended(bench, order(2, user=40))
    (said,) = [event.text for event in bench.of(AnnounceEvent) if event.kind == "wider_than_asked"]
    assert said.startswith(
        "OMS prime: wider than asked: order 2 of account 14 ended right after a cancel for prime: user"
    )
    assert said in bench.switch.view(bench.now).notes
    assert bench.dialects() == {1: "v3"}
    bench.forget_actions()
    bench.working(order(3, user=37))
    bench.settle()
    bench.up(V2, "gw:2")
    bench.working(order(4, user=37))
    bench.settle()
    assert users_told(bench) == []
    assert [action.order_id for action in bench.of(CancelOrder)] == [3, 4]


def test_what_narrowed_an_oms_is_still_known_after_a_restart():
    bench = asked()
    ended(bench, order(2, user=40))
    again = Gateways(restored=fold_records(bench.records))
    assert any("wider than asked" in note for note in again.switch.view(again.now).notes)
    again.up(V2)
    again.settle()
    assert users_told(again) == []
    assert again.dialects() == {1: "v3"}
    assert set(again.orders) == {2}


def test_an_event_that_names_no_user_is_judged_by_the_list():
    bench = asked(scope(14, 37))
    assert bench.of(ListOpenOrders)
    ended(bench, order(2, user=None))
    assert bench.dialects() == {1: "v3"}


def test_another_instruments_order_tells_the_same():
    bench = Gateways()
    bench.up(V4)
    bench.orders[3] = order(3, instrument=26)
    bench.trip(INSTRUMENT)
    while bench.step():
        pass
    ended(bench, bench.orders[3])
    assert bench.dialects() == {1: "v3"}


@pytest.mark.parametrize(
    ("covered", "held", "state", "after_s"),
    [
        (USER, order(3, user=37), "Canceled", 0.0),  # that is what was asked
        (USER, order(3, user=None), "Canceled", 0.0),  # nobody knows whose it was
        (USER, order(2, user=40), "FullyExecuted", 0.0),
        (USER, order(2, user=40), "Canceled", 1.1),  # he did it himself
        (scope(14, 37), order(3, account=15, user=40), "Canceled", 0.0),  # another account's: no key explains it
        (scope(14), order(3, account=15, user=40), "Canceled", 0.0),
    ],
)
def test_nothing_else_that_ends_narrows_anything(covered, held, state, after_s):
    bench = asked(covered)
    bench.tick(bench.now + after_s)
    ended(bench, held, state)
    assert bench.dialects() == {1: "v2"}
    assert not [event for event in bench.of(AnnounceEvent) if event.kind == "wider_than_asked"]


def test_an_order_that_another_cancel_of_ours_takes_is_not_held_against_this_one():
    bench = Gateways()
    bench.up(V2)
    bench.trip(USER)
    bench.trip(scope(14, 40), "t2")
    while bench.step():
        pass
    ended(bench, order(2, user=40))
    assert bench.dialects() == {1: "v2"}


def test_a_cancel_that_isnt_written_yet_leaves_no_more_once_its_user_may_be_ignored():
    bench = asked()
    bench.trip(scope(15, 37), "t2")
    waiting = users_told(bench)[-1]
    ended(bench, order(2, user=40))
    (withdrawn,) = bench.of(Withdraw)
    assert withdrawn.calls == (waiting,)
