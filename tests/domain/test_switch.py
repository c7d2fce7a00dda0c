"""The table, cell by cell, and every message in every state."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal

import pytest

from killswitch.domain.life import Life
from killswitch.domain.messages import (
    AccountsFound,
    Acknowledge,
    AnnounceEvent,
    AnnounceState,
    AnnounceTrip,
    Answer,
    Answered,
    AnswerKind,
    BadReading,
    BrokerDown,
    BrokerUp,
    ButtonPressed,
    CancelAllOrders,
    CancelRejected,
    ClearTrip,
    ClockStepped,
    CommandRefused,
    EverythingTripped,
    FeedDown,
    FeedUp,
    Heard,
    JournalFailed,
    Journalled,
    LinkFailed,
    LookRequested,
    Lost,
    Moved,
    Noted,
    OpenOrders,
    OrderEnded,
    OrderWorking,
    PositionRow,
    Positions,
    PositionSeen,
    Reading,
    Receipt,
    Record,
    ResetRequested,
    Restored,
    RetainedTripFound,
    Sent,
    SessionDown,
    SessionUp,
    SetAside,
    SignInRefused,
    Stopping,
    Tick,
    Tripped,
    TripRequested,
)
from killswitch.domain.scope import EVERY
from killswitch.domain.settings import FeedSpec, Label, LimitRule, OnUnknown, ScopeTemplate
from killswitch.domain.switch import InvariantBroken
from killswitch.domain.trips import TRANSITIONS, Input, State, Verdict
from tests.domain.bench import SETTINGS, SITE, Bench, confirmed, fold_records, order, scope


def sweeping() -> Bench:
    bench = Bench()
    bench.connect()
    bench.orders = {1: order(1)}
    bench.tell(ButtonPressed(wall=bench.wall, button="b", scope=scope(account=14), via="mqtt", token="x"))
    return bench


def in_state(state: State) -> Bench:
    """The one trip, by a button on account 14, in the state asked for."""
    bench = sweeping()
    match state:
        case State.ARMED:
            bench.settle()
            bench.reset(bench.trips()[0].trip, "first-reset")
            assert bench.trips() == ()
        case State.SWEEPING:
            pass
        case State.CONFIRMED:
            bench.settle()
        case State.ESCALATED:
            bench.waiting.clear()
            bench.tick(bench.now + 6)
    states = [t.state for t in bench.trips()]
    assert states == ([] if state is State.ARMED else [state.value])
    return bench


def give(bench: Bench, input_: Input) -> None:
    """Bring an input about by the events that stand for it."""
    match input_:
        case Input.TRIP:
            bench.tell(ButtonPressed(wall=bench.wall, button="b", scope=scope(account=14), via="mqtt", token="y"))
        case Input.PROVEN:
            bench.orders.clear()
            for _ in range(10):
                while bench.step():
                    pass
                bench.tick(bench.now + 0.3)
        case Input.SIGHTED:
            bench.working(order(99))
        case Input.OVERDUE:
            bench.waiting.clear()
            bench.obeys = False
            bench.tick(bench.now + 5.5)
        case Input.BLIND:
            bench.disconnect()
        case Input.RESET:
            trips = bench.trips()
            bench.reset(trips[0].trip if trips else "nobody")


# OVERDUE and PROVEN let time pass, and then other inputs follow by themselves: for these cells the first move counts.
CELLS = [(s, i) for (s, i) in TRANSITIONS if (s, i) != (State.CONFIRMED, Input.OVERDUE)]


@pytest.mark.parametrize(("state", "input_"), CELLS, ids=[f"{s.value}-{i.value}" for s, i in CELLS])
def test_each_cell_of_the_table_is_what_the_switch_does(state: State, input_: Input) -> None:
    bench = in_state(state)
    moves = len(bench.bodies(Moved))
    resets = len(bench.of(Receipt))
    give(bench, input_)
    target = TRANSITIONS[state, input_]
    moved = bench.bodies(Moved)[moves:]
    now = [State(t.state) for t in bench.trips()] or [State.ARMED]
    if isinstance(target, Verdict):
        assert now == [state]
        assert not moved
        if target is Verdict.REFUSED:
            assert [r.accepted for r in bench.of(Receipt)[resets:]] == [False]
    elif target is state:
        assert now == [state]
        assert not moved
    elif target is State.ARMED:
        assert now == [State.ARMED]
    elif state is State.ARMED:
        assert now == [target]
    else:
        assert State(moved[0].target) is target
        assert moved[0].input == input_.value


def test_a_deadline_that_fires_after_the_proof_is_late() -> None:
    bench = confirmed()
    before = bench.state()
    for _ in range(3):
        bench.tell(Tick(wall=bench.wall))
    assert bench.state() == before == "confirmed"
    assert TRANSITIONS[State.CONFIRMED, Input.OVERDUE] is Verdict.LATE


def test_the_table_has_every_cell() -> None:
    assert set(TRANSITIONS) == {(s, i) for s in State for i in Input}


WALL = 1_700_000_000.0
ANY = scope(account=14)
FEED = FeedSpec(name="f", kind="mqtt", stale_after_s=5, reading="r")
EVENTS = [
    Tick(wall=WALL),
    SessionUp(wall=WALL, oms="prime", gateway="gw:1", session=9),
    SessionDown(wall=WALL, oms="prime", gateway="gw:1", session=9, why="w"),
    SessionDown(wall=WALL, oms="prime", gateway="gw:1", session=1, why="w"),
    SignInRefused(wall=WALL, oms="prime", gateway="gw:1", why="w"),
    LinkFailed(wall=WALL, oms="prime", gateway="gw:1", why="w"),
    *(Sent(wall=WALL, call=c, session=s) for c in (1, 2, 999) for s in (1, 9)),
    *(
        Answered(wall=WALL, call=c, session=1, answer=Answer(kind, "x", 20, "no"))
        for c in (1, 2, 999)
        for kind in AnswerKind
    ),
    *(OpenOrders(wall=WALL, call=c, session=1, account=14, orders=(order(5),), unreadable=1) for c in (1, 2, 3, 999)),
    AccountsFound(wall=WALL, call=1, session=1, accounts=(14,)),
    Positions(wall=WALL, call=1, session=1, account=14, rows=(PositionRow(14, "BTC", Decimal(1), Decimal(0)),)),
    *(Lost(wall=WALL, call=c, session=1, why="w") for c in (1, 2, 999)),
    OrderWorking(wall=WALL, oms="prime", session=1, order=order(7)),
    OrderWorking(wall=WALL, oms="prime", session=1, order=order(7, account=77)),
    OrderEnded(wall=WALL, oms="prime", session=1, order=order(7), state="Canceled"),
    CancelRejected(wall=WALL, oms="prime", session=1, account=14, order_id=None, reason="r"),
    PositionSeen(wall=WALL, oms="prime", session=1, row=PositionRow(14, "BTC", Decimal(1), Decimal(0))),
    Heard(wall=WALL, oms="prime", session=1),
    Reading(wall=WALL, feed="f", name="r", labels=(), value=1.0),
    BadReading(wall=WALL, feed="f", name="r", labels=None, reason="not_json"),
    FeedUp(wall=WALL, feed="f"),
    FeedDown(wall=WALL, feed="f", why="w"),
    TripRequested(wall=WALL, id="c1", scope=ANY, by="a", reason="r", issued_at=None, digest="d", via="mqtt", token="t"),
    TripRequested(
        wall=WALL,
        id="c2",
        scope=scope(account=1, oms="nope"),
        by="a",
        reason="r",
        issued_at=None,
        digest="d",
        via="http",
    ),
    ResetRequested(
        wall=WALL, id="c3", trip="nobody", by="a", reason="r", issued_at=WALL, override=False, digest="d", via="mqtt"
    ),
    ButtonPressed(wall=WALL, button="b2", scope=ANY, via="mqtt", token="t"),
    CommandRefused(wall=WALL, command="trip", id="c4", reason="r", via="mqtt", token="t"),
    CommandRefused(wall=WALL, command="panic", id=None, reason="r", via="mqtt", token="t", noise=True),
    EverythingTripped(wall=WALL, by="s", reason="r"),
    LookRequested(wall=WALL, scope=ANY, token="t"),
    ClockStepped(wall=WALL, by_s=-3600.0),
    Stopping(wall=WALL),
    Journalled(wall=WALL, n=10_000),
    Journalled(wall=WALL, n=0),
    JournalFailed(wall=WALL, why="w"),
    BrokerUp(wall=WALL, broker="b:1", window=20),
    BrokerDown(wall=WALL, broker="b:1", why="w"),
    RetainedTripFound(wall=WALL, trip="old", scope=ANY, by="a", cause="c"),
    RetainedTripFound(wall=WALL, trip="old", scope=None, by="a", cause="c"),
]


@pytest.mark.parametrize("state", list(State), ids=lambda s: s.value)
@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_every_message_in_every_state_late_and_twice_is_handled(state: State, event: object) -> None:
    bench = in_state(state)
    for _ in range(2):
        bench.tell(event)  # the bench fails on an event that was set aside
    bench.tick(bench.now + 0.2)
    bench.tell(event)
    latched = {t.trip for t in bench.trips()}
    if state is not State.ARMED:
        assert latched, "no event but a reset may end a trip"


@pytest.mark.parametrize("state", [State.SWEEPING, State.CONFIRMED, State.ESCALATED], ids=lambda s: s.value)
def test_whatever_comes_in_between_every_trip_is_confirmed_in_the_end(state: State) -> None:
    bench = in_state(state)
    for event in EVENTS:
        if not isinstance(event, SessionUp | Journalled):
            bench.tell(event)
    bench.connect()
    bench.orders = {i: order(i, account) for i, account in enumerate((14, 14, 15, 77), start=200)}
    bench.tick(bench.now + 31)  # lists that were under way when it all happened run out of time
    whole = [t for t in bench.trips() if t.scope.account is EVERY]
    for trip in whole:  # account 77 turned up: nobody can say any more that the accounts are all
        assert trip.outcome != "VERIFIED"
    bench.settle_but({t.trip for t in whole})
    assert not [o for o in bench.orders.values() if o.account in (14, 15)]


def test_an_exception_changes_nothing_and_the_next_panic_is_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.connect()
    before = bench.switch.view(bench.now)

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(bench.switch._parts.desk, "accept", broken)
        actions = bench.switch.handle(
            TripRequested(
                wall=WALL, id="bad", scope=ANY, by="a", reason="r", issued_at=None, digest="d", via="mqtt", token="T"
            ),
            bench.now,
        )
    kinds = [type(a) for a in actions]
    assert CancelAllOrders not in kinds
    assert [a.body for a in actions if hasattr(a, "body") and isinstance(a.body, SetAside)]
    assert [(a.accepted, a.token) for a in actions if isinstance(a, Receipt)] == [(False, "T")]
    assert [a.token for a in actions if isinstance(a, Acknowledge)] == ["T"]
    assert [a.kind for a in actions if isinstance(a, AnnounceEvent)][-1] == "escalated"
    assert replace(bench.switch.view(bench.now), commands_waiting=0) == before
    bench.trip(ANY, "next")
    bench.settle()
    assert bench.state("next") == "confirmed"


def test_an_answer_that_is_set_aside_is_asked_for_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.connect()
    bench.trip(ANY)
    bench.step()
    (asked,) = bench.waiting
    bench.waiting.clear()
    answer = OpenOrders(wall=WALL, call=asked.call, session=1, account=14, orders=())

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(bench.switch._parts.sweeper.witness, "listed", broken)
        assert any(isinstance(getattr(a, "body", None), SetAside) for a in bench.switch.handle(answer, bench.now))
    before = bench.now
    bench.settle()
    assert bench.now - before < 1


def test_what_is_due_and_can_not_be_handled_is_put_off_and_keeps_nothing_else_from_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Put back as it was it would be due at once again, and the process would do nothing else any more."""
    bench = Bench()
    bench.trip(scope(account=14), "bad")
    bench.trip(scope(account=15), "good")
    change = Life.change

    def faulty(life: Life, trip: str, *rest: object) -> None:
        if trip == "bad":
            raise ZeroDivisionError
        change(life, trip, *rest)

    monkeypatch.setattr(Life, "change", faulty)
    bench.now = bench.switch.due()
    actions = bench.switch.handle(Tick(wall=bench.wall), bench.now)
    assert [a.body.event for a in actions if isinstance(a, Record) and isinstance(a.body, SetAside)] == ["Tick"]
    assert bench.state("good") == "escalated"
    assert bench.switch.due() > bench.now
    monkeypatch.undo()
    bench.tick()
    assert bench.state("bad") == "escalated", "it is tried again"


def test_only_a_broken_invariant_of_the_state_itself_ends_the_process() -> None:
    bench = confirmed()
    trip = bench.switch._parts.trips["t1"]
    bench.switch._parts.trips["t1"] = replace(trip, verified_wall=None)
    with pytest.raises(InvariantBroken):
        bench.switch.handle(Tick(wall=WALL), bench.now)


# --- tripping


def test_cancels_leave_before_everything_else_in_a_pass() -> None:
    bench = Bench()
    bench.connect()
    bench.journal_works = False
    actions = bench.switch.handle(
        TripRequested(wall=WALL, id="x", scope=ANY, by="a", reason="r", issued_at=None, digest="d", via="http"),
        bench.now,
    )
    assert isinstance(actions[0], CancelAllOrders)
    assert not [a for a in actions if isinstance(a, Receipt | AnnounceTrip | AnnounceState)]


def test_a_trip_without_a_session_cancels_as_soon_as_there_is_one() -> None:
    bench = Bench()
    bench.trip(ANY)
    assert bench.cancels() == []
    bench.connect()
    assert bench.cancels() == [ANY]


def test_the_same_command_again_finds_its_own_trip_and_cancels_again() -> None:
    bench = confirmed()
    bench.forget_actions()
    bench.trip(scope(account=14))
    assert [(r.accepted, r.trip) for r in bench.of(Receipt)] == [(True, "t1")]
    assert bench.cancels() == [scope(account=14)]
    assert len(bench.bodies(Tripped)) == 1


def test_a_retained_command_counts_once_though_the_broker_replays_it() -> None:
    bench = confirmed()
    bench.forget_actions()
    bench.trip(scope(account=14), retained=True)
    assert [(r.accepted, r.trip) for r in bench.of(Receipt)] == [(True, "t1")]
    assert bench.cancels() == []
    assert bench.state() == "confirmed"


def test_an_id_with_other_content_or_after_its_reset_is_refused() -> None:
    bench = confirmed()
    bench.trip(scope(account=15), "t1")
    assert bench.of(Receipt)[-1].reason == "id already used"
    bench.reset("t1")
    bench.trip(scope(account=14), "t1")
    assert bench.of(Receipt)[-1] == replace(bench.of(Receipt)[-1], accepted=False, reason="id already used")
    assert bench.state() == "armed"


def test_every_command_makes_a_trip_of_its_own_and_each_is_reset_by_itself() -> None:
    bench = confirmed()
    bench.trip(scope(account=14, instrument=25), "t2")
    bench.settle()
    bench.reset("t1", "r1")
    assert {t.trip for t in bench.trips()} == {"t2"}
    bench.working(order(50, instrument=26))
    assert bench.state("t2") == "confirmed"
    bench.working(order(51, instrument=25))
    assert bench.state("t2") == "sweeping"
    bench.forget_actions()
    bench.settle()
    assert all(s == scope(account=14, instrument=25) for s in bench.cancels())
    assert set(bench.orders) == {50}, "the trip that was reset holds nothing any more"


def test_overlapping_scopes_cost_one_call() -> None:
    bench = Bench()
    bench.trip(scope(account=14), "wide")
    bench.trip(scope(account=14, instrument=25), "narrow")
    bench.connect()
    assert bench.cancels() == [scope(account=14)]
    bench.settle()
    assert bench.state("wide") == bench.state("narrow") == "confirmed"


def test_a_person_who_presses_again_sends_the_cancels_again_at_once() -> None:
    bench = in_state(State.CONFIRMED)
    bench.forget_actions()
    give(bench, Input.TRIP)
    assert bench.cancels() == [scope(account=14)]
    assert bench.trips()[0].state == "sweeping"
    assert len(bench.trips()) == 1


def test_a_press_while_it_sweeps_waits_for_no_distance_between_cancels() -> None:
    bench = Bench()
    bench.connect()
    bench.orders = {1: order(1)}
    bench.obeys = False
    bench.tell(ButtonPressed(wall=bench.wall, button="b", scope=ANY, via="mqtt", token="x"))
    bench.step()
    assert bench.cancels() == [ANY]
    bench.tell(ButtonPressed(wall=bench.wall, button="b", scope=ANY, via="mqtt", token="y"))
    assert bench.cancels() == [ANY, ANY]


def test_a_scope_of_an_oms_that_nobody_configured_or_permitted_is_refused() -> None:
    narrow = replace(SITE, whole_oms=False)
    bench = Bench(replace(SETTINGS, sites=(narrow,)))
    bench.connect()
    bench.trip(scope(account=14, oms="other"), "a")
    bench.trip(scope(instrument=25), "b")
    assert [r.accepted for r in bench.of(Receipt)] == [False, False]
    assert bench.cancels() == []
    assert [a.token for a in bench.of(Acknowledge)] == ["a", "b"]


def test_every_configured_scope_is_the_whole_oms_where_that_is_allowed_else_each_account() -> None:
    for whole, want in ((True, [scope()]), (False, [scope(account=14), scope(account=15)])):
        bench = Bench(replace(SETTINGS, sites=(replace(SITE, whole_oms=whole),)))
        bench.connect()
        bench.tell(EverythingTripped(wall=WALL, by="s", reason="r"))
        assert bench.cancels() == want
        bench.tell(EverythingTripped(wall=WALL, by="s", reason="r"))
        assert len(bench.trips()) == len(want)


# --- rules


RULE = LimitRule(
    name="big",
    owner="desk",
    reading="r",
    where=(),
    above=Decimal(50),
    below=None,
    absolute=False,
    for_s=0.0,
    on_stale=OnUnknown.WARN,
    on_bad=OnUnknown.WARN,
    fallback=None,
    scope=ScopeTemplate(oms="prime", account=Label("account")),
)
RULED = replace(SETTINGS, feeds=(FEED,), rules=(RULE,))


def reads(bench: Bench, value: float, account: str = "14") -> None:
    bench.tell(Reading(wall=bench.wall, feed="f", name="r", labels=(("account", account),), value=value))


def test_a_warning_is_journalled_and_announced_with_its_rule_and_trips_nothing() -> None:
    bench = Bench(replace(RULED, rules=(replace(RULE, warn_at=(Decimal("0.9"),)),)))
    bench.connect()
    bench.tell(FeedUp(wall=WALL, feed="f"))
    reads(bench, 45.0)
    text = "rule big: r 45.0 has used 90 % of its limit, above 50 (account 14; 0.0 s old)"
    bodies = [record.body for record in bench.of(Record)]
    assert [body for body in bodies if isinstance(body, Noted)] == [Noted("near_limit", text, rule="big")]
    (said,) = [a for a in bench.of(AnnounceEvent) if a.kind == "near_limit"]
    assert (said.text, said.detail) == (text, {"rule": "big"})
    assert bench.trips() == ()
    assert bench.cancels() == []


def test_a_rule_trips_on_the_edge_once_and_its_reset_is_refused_until_it_is_calm() -> None:
    bench = Bench(RULED)
    bench.connect()
    bench.tell(FeedUp(wall=WALL, feed="f"))
    for value in (49.0, 50.0):
        reads(bench, value)
    assert bench.trips() == ()
    for value in (50.5, 51.0, 52.0):
        reads(bench, value)
    (trip,) = bench.trips()
    assert trip.scope == scope(account=14)
    assert [(c.rule, c.kind, c.count) for c in trip.causes] == [("big", "limit", 3)]
    bench.settle()
    cancels = len(bench.cancels())
    reads(bench, 53.0)
    assert len(bench.cancels()) == cancels, "a breach that goes on is no press"
    bench.reset(trip.trip, "early")
    assert bench.of(Receipt)[-1].accepted is False
    reads(bench, 10.0)
    bench.reset(trip.trip, "calm")
    assert bench.of(Receipt)[-1].accepted is True
    reads(bench, 60.0)
    assert len(bench.trips()) == 1
    assert bench.trips()[0].trip != trip.trip


def test_a_reset_is_refused_while_the_rule_can_not_see() -> None:
    bench = Bench(RULED)
    bench.connect()
    bench.tell(FeedUp(wall=WALL, feed="f"))
    reads(bench, 51.0)
    reads(bench, 1.0)
    bench.settle()
    bench.tick(bench.now + 10)  # stale by now
    bench.settle()
    bench.reset(bench.trips()[0].trip)
    assert bench.of(Receipt)[-1].accepted is False


def test_rules_fold_only_into_rule_trips_of_an_equal_scope() -> None:
    bench = Bench(replace(RULED, rules=(RULE, replace(RULE, name="big2", above=Decimal(60)))))
    bench.connect()
    bench.tell(FeedUp(wall=WALL, feed="f"))
    bench.trip(scope(account=14), "panic")
    reads(bench, 70.0)
    assert sorted(len(t.causes) for t in bench.trips()) == [1, 2]


# --- resetting


def test_a_reset_is_refused_while_a_cancel_is_unanswered_and_its_connection_replaced_when_overtaken() -> None:
    bench = confirmed()
    bench.answers.append(None)
    bench.trip(scope(account=14))  # pressed again; this cancel is never answered
    bench.settle()
    bench.reset("t1", "r1")
    assert "unanswered" in bench.of(Receipt)[-1].reason
    bench.settle()
    bench.tick(bench.now + 6)
    bench.settle()
    bench.reset("t1", "r2")
    assert "never answered" in bench.of(Receipt)[-1].reason
    bench.disconnect()
    assert bench.state() == "sweeping", "a proof goes with its session"
    bench.connect()
    bench.settle()
    bench.reset("t1", "r3")
    receipt = bench.of(Receipt)[-1]
    assert receipt.accepted
    assert re.fullmatch(r"reset; 1 cancel on dead sessions may still execute: \d+", receipt.reason)


def test_a_reset_needs_its_time_and_takes_no_override_yet() -> None:
    bench = confirmed()
    for id_, more in (("old", {"issued_at": bench.wall - 31}), ("new", {"issued_at": bench.wall + 31})):
        bench.reset("t1", id_, **more)
        assert bench.of(Receipt)[-1].accepted is False
    bench.reset("t1", "o", override=True)
    assert bench.of(Receipt)[-1].accepted is False
    assert bench.state() == "confirmed"


@pytest.mark.parametrize("off_s", [-1e9, -31.0, 0.02, 1e9])
def test_a_trip_is_never_refused_for_its_time(off_s: float) -> None:
    """A command that lay at the broker for a minute, a button that believes it is 1970, a phone that is ahead."""
    bench = Bench()
    bench.connect()
    bench.trip(ANY, issued_at=bench.wall + off_s)
    assert bench.of(Receipt)[-1].accepted
    assert bench.cancels() == [ANY]


def test_no_cancel_leaves_after_a_reset_and_the_retained_trip_is_cleared() -> None:
    bench = confirmed()
    bench.reset("t1")
    assert [a.trip for a in bench.of(ClearTrip)] == ["t1"]
    bench.forget_actions()
    bench.working(order(5))
    bench.tick(bench.now + 30)
    while bench.step():
        pass
    assert bench.cancels() == []
    assert bench.of(AnnounceTrip) == []


# --- restarting


def test_a_latched_trip_is_swept_again_after_a_restart_and_its_reset_waits_for_the_proof() -> None:
    first = confirmed()
    restored = fold_records(first.records)
    bench = Bench(restored=restored, now=5.0)
    bench.orders = {1: order(1)}
    assert bench.state() == "sweeping"
    bench.reset("t1")
    assert bench.of(Receipt)[-1].reason == "sweeping"
    bench.connect()
    bench.settle()
    assert not bench.orders
    bench.trip(scope(account=14), "t1", digest=str(scope(account=14)))
    assert bench.of(Receipt)[-1].accepted, "a command that comes again finds its own trip after a restart too"


def test_a_latched_trip_of_an_oms_that_is_no_longer_configured_is_escalated_and_unknown() -> None:
    first = confirmed()
    moved = replace(SETTINGS, sites=(replace(SITE, name="other"),))
    bench = Bench(moved, restored=fold_records(first.records), now=5.0)
    assert (bench.view().state, bench.view().outcome) == ("escalated", "UNKNOWN")
    assert not bench.switch.view(bench.now).ready
    bench.tick(bench.now + 200)
    assert bench.state() == "escalated"
    told = [a.text for a in bench.of(AnnounceEvent) if a.kind == "escalated"]
    assert len(told) >= 4, "at the start and once a minute"
    assert all("OMS prime is not configured" in text for text in told)


@pytest.mark.parametrize("stop_after", range(1, 40))
def test_a_plan_that_is_stopped_after_any_action_is_restored_and_converges(stop_after: int) -> None:
    """A crash after each action in turn: what was written by then is all that a restart has."""
    first = Bench()
    first.orders = {i: order(i, a, n, u) for i, (a, n, u) in enumerate(((14, 25, 37), (14, 26, 40), (15, 25, 37)), 1)}
    first.connect()
    first.trip(scope(account=14))
    left = stop_after
    while left > 0 and (first.step() or first.switch.due()):
        left -= 1
        if not first.waiting:
            first.tick()
    bench = Bench(restored=fold_records(first.records), now=5.0)
    bench.orders = first.orders
    bench.connect()
    bench.settle()
    assert set(bench.orders) == {3}
    assert bench.view().outcome == "VERIFIED"


def test_a_command_that_was_refused_first_and_carried_out_later_is_known_after_a_restart() -> None:
    """Else a retained command would trip again at each start after its reset."""
    narrow = replace(SETTINGS, sites=(replace(SITE, whole_oms=False),))
    first = Bench(narrow)
    first.trip(scope())
    assert not first.of(Receipt)[-1].accepted
    second = Bench(restored=fold_records(first.records))
    second.connect()
    second.trip(scope())
    second.settle()
    second.reset("t1")
    assert second.state() == "armed"
    third = Bench(restored=fold_records(first.records + second.records))
    third.connect()
    third.trip(scope())
    assert not third.of(Receipt)[-1].accepted
    assert third.cancels() == []


def test_a_retained_trip_is_latched_again_unless_it_is_known_to_have_ended() -> None:
    """The journal may be new, an old copy, or have lost the trip's row: what it doesn't know is no reason to let go."""
    found = RetainedTripFound(wall=WALL, trip="t1", scope=ANY, by="ann", cause="c")
    ended = confirmed(ANY)
    ended.reset("t1")
    ended.forget_actions()
    ended.tell(found)
    assert [a.trip for a in ended.of(ClearTrip)] == ["t1"]
    later = Bench(restored=fold_records(ended.records))
    later.connect()
    later.tell(found)
    assert [a.trip for a in later.of(ClearTrip)] == ["t1"]
    assert later.cancels() == []
    for restored in (Restored(fresh=True), fold_records(confirmed(ANY, id_="another").records)):
        bench = Bench(restored=restored)
        bench.connect()
        bench.settle()
        bench.forget_actions()
        bench.tell(found)
        assert bench.state("t1") == "sweeping"
        assert bench.cancels() == [ANY]


def test_a_gateway_is_down_since_it_went_down_and_not_since_the_last_try() -> None:
    bench = Bench()
    bench.connect()
    bench.disconnect()
    for _ in range(5):
        bench.now += 1
        bench.tell(LinkFailed(wall=bench.wall, oms="prime", gateway="gw:1", why="refused"))
    (session,) = bench.switch.view(bench.now).omses[0].sessions
    assert (session.up, session.since_s, session.why) == (False, 5, "refused")


def test_a_refused_command_is_told_with_its_id_and_its_sender() -> None:
    bench = Bench()
    bench.trip(scope(account=14, oms="other"), "p-9")
    (said,) = [a.text for a in bench.of(AnnounceEvent) if a.kind == "refused"]
    assert "p-9" in said
    assert "ann" in said
