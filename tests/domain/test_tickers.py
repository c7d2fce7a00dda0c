"""Which prices are asked for, when, and again: on the switch, beside an exchange that answers or doesn't."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from killswitch.domain.messages import (
    AnnounceEvent,
    Answer,
    Answered,
    AnswerKind,
    InstrumentRow,
    Instruments,
    ListInstruments,
    ListOpenOrders,
    ListPositions,
    Lost,
    PriceSeen,
    SessionDown,
    SessionUp,
    SubscribePrice,
)
from killswitch.domain.settings import FeedSpec, LimitRule, OnUnknown, ScopeTemplate
from tests.domain.bench import SETTINGS, SITE, Bench, scope

FEED = FeedSpec(name="positions", kind="oms", stale_after_s=60.0, oms="prime")
TEN = Decimal(10)


def rule(**more: object) -> LimitRule:
    held: dict[str, object] = {
        "name": "crash",
        "owner": "",
        "reading": "price",
        "where": (),
        "on_stale": OnUnknown.WARN,
        "on_bad": OnUnknown.WARN,
        "fallback": None,
        "scope": ScopeTemplate(oms="prime", account=14),
        "above": None,
        "below": TEN,
        "absolute": False,
        "for_s": 0.0,
    }
    return LimitRule(**{**held, **more})  # type: ignore[arg-type]  # as above


class Exchange(Bench):
    """A bench whose exchange has so many instruments; `deaf`: it answers nothing."""

    def __init__(self, instruments: int, *rules: LimitRule, per_minute: int = 6000, deaf: bool = False) -> None:
        site = replace(SITE, calls_per_minute=per_minute)
        super().__init__(replace(SETTINGS, sites=(site,), feeds=(FEED,), rules=rules or (rule(),)))
        self.instruments, self.deaf = instruments, deaf

    def until(self, to: float) -> None:
        """Answer whatever is asked, up to that time."""
        while self.now < to:
            while self.step():
                pass
            self.markets()
            due = self.switch.due()
            self.tick(to if due is None else min(due, to))

    def markets(self) -> None:
        for action in self.of(ListInstruments, SubscribePrice):
            if not self.deaf and action.call not in self.answered and action.session == self.session:
                self.answered.add(action.call)
                self.say(action)

    def say(self, action: ListInstruments | SubscribePrice) -> None:
        if isinstance(action, ListInstruments):
            rows = tuple(InstrumentRow(n, f"I{n}", f"P{n}", "USD") for n in range(1, self.instruments + 1))
            self.tell(Instruments(wall=self.wall, call=action.call, session=action.session, rows=rows))
        else:
            self.tell(
                PriceSeen(
                    wall=self.wall,
                    oms="prime",
                    session=action.session,
                    instrument=action.instrument,
                    bid=TEN,
                    ask=TEN,
                    last=TEN,
                    call=action.call,
                )
            )

    answered: set[int]

    def connect(self) -> None:
        self.answered = set()
        super().connect()

    def subscribed(self) -> list[int]:
        return [a.instrument for a in self.of(SubscribePrice) if a.session == self.session]


def up(instruments: int, *rules: LimitRule, **more: int | bool) -> Exchange:
    bench = Exchange(instruments, *rules, **more)  # type: ignore[arg-type]  # as above
    bench.connect()
    return bench


def test_every_price_is_subscribed_to_once_a_few_at_a_time_after_the_list() -> None:
    bench = up(35)
    began = bench.now
    bench.until(began + 0.05)
    assert len(bench.subscribed()) <= 10
    bench.until(began + 5.0)
    assert bench.subscribed() == list(range(1, 36))
    bench.until(began + 50.0)
    assert len(bench.subscribed()) == 35


def test_a_rule_that_names_an_instrument_costs_one_subscription() -> None:
    bench = up(35, rule(where=(("instrument", "7"),)))
    bench.until(bench.now + 5.0)
    assert bench.subscribed() == [7]


def test_without_a_rule_that_reads_prices_nothing_is_asked_for() -> None:
    bench = up(35, rule(reading="position"))
    bench.until(bench.now + 70.0)
    assert bench.of(ListInstruments, SubscribePrice) == []


def test_a_new_session_asks_for_all_again_and_a_second_one_only_once_the_first_is_gone() -> None:
    bench = up(3)
    bench.until(bench.now + 2.0)
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:1", session=9))
    bench.until(bench.now + 2.0)
    assert [a.session for a in bench.of(SubscribePrice)] == [1, 1, 1]
    bench.tell(SessionDown(wall=bench.wall, oms="prime", gateway="gw:1", session=1, why="cut"))
    bench.session = 9
    bench.until(bench.now + 2.0)
    assert bench.subscribed() == [1, 2, 3]


def test_new_instruments_are_met_with_the_next_snapshot() -> None:
    bench = up(3)
    bench.until(bench.now + 2.0)
    bench.instruments = 4
    bench.until(bench.now + 70.0)
    assert bench.subscribed() == [1, 2, 3, 4]


def test_what_is_lost_or_not_answered_is_asked_for_again() -> None:
    bench = up(2)
    bench.tick(bench.now)
    bench.markets()
    bench.deaf = True
    bench.until(bench.now + 0.5)
    first = bench.of(SubscribePrice)
    assert [a.instrument for a in first] == [1, 2]
    bench.tell(Lost(wall=bench.wall, call=first[0].call, session=1, why="the write failed"))
    bench.until(bench.now + 6.0)
    assert bench.subscribed() == [1, 2, 1]
    bench.until(bench.now + 45.0)  # of the second nothing was ever heard
    assert bench.subscribed().count(2) == 2


def test_subscribed_already_is_an_answer_and_a_refusal_is_asked_again_slowly() -> None:
    bench = up(2)
    bench.tick(bench.now)
    bench.markets()
    bench.deaf = True
    bench.until(bench.now + 0.5)
    one, two = bench.of(SubscribePrice)
    there = Answer(AnswerKind.RECEIVED, "909", 909, "Already Subscribed.")
    refused = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")
    bench.tell(Answered(wall=bench.wall, call=one.call, session=1, answer=there))
    bench.tell(Answered(wall=bench.wall, call=two.call, session=1, answer=refused))
    bench.until(bench.now + 50.0)
    assert bench.subscribed() == [1, 2]
    bench.until(bench.now + 30.0)
    assert bench.subscribed() == [1, 2, 2]


def test_a_thousand_subscriptions_keep_to_the_budget_and_hold_no_panic_up() -> None:
    bench = up(1000, per_minute=400)
    began, before = bench.now, 0
    for minute in range(1, 4):
        bench.until(began + 60.0 * minute)
        calls = len(bench.of(ListInstruments, SubscribePrice, ListPositions, ListOpenOrders))
        assert calls - before <= 0.9 * 400
        before = calls
    at = bench.now
    bench.trip(scope(account=14))
    bench.settle()
    assert bench.now - at < 1.0
    bench.until(began + 60.0 * 8)
    assert sorted(set(bench.subscribed())) == list(range(1, 1001))


def test_a_price_that_falls_below_its_limit_trips_through_the_switch() -> None:
    bench = up(1)
    bench.until(bench.now + 1.0)
    price = {"wall": bench.wall, "oms": "prime", "session": 1, "instrument": 1, "last": None}
    bench.tell(PriceSeen(bid=TEN, ask=TEN, **price))  # type: ignore[arg-type]  # as above
    assert not bench.trips()
    bench.tell(PriceSeen(bid=TEN - 1, ask=TEN, **price))  # type: ignore[arg-type]
    assert [t.scope for t in bench.trips()] == [scope(account=14)]


def test_a_server_that_answers_no_subscription_is_asked_ever_less_often_and_nothing_piles_up() -> None:
    bench = Exchange(50, per_minute=400)
    bench.connect()
    say = bench.say
    bench.say = lambda action: None if isinstance(action, SubscribePrice) else say(action)  # type: ignore[method-assign]  # this exchange is mute
    bench.until(bench.now + 900.0)
    asked = len(bench.of(SubscribePrice))
    assert asked >= 100  # each again, and some once more
    bench.until(bench.now + 3600.0)
    assert len(bench.of(SubscribePrice)) - asked <= 100
    assert len(bench.switch._parts.book.calls) <= 60
    bench.disconnect()
    bench.connect()
    del bench.say
    bench.until(bench.now + 60.0)
    assert len(bench.subscribed()) == 50  # a new session begins with a clean sheet


def test_a_subscription_answered_after_its_time_is_taken_and_asked_for_no_more() -> None:
    bench = up(1)
    bench.deaf = True
    bench.answered = set()
    bench.until(bench.now + 0.2)
    bench.deaf = False
    (asking,) = bench.of(ListInstruments)[-1:]
    bench.answered.add(asking.call)
    bench.say(asking)
    bench.deaf = True
    bench.until(bench.now + 31.0)
    (late,) = bench.of(SubscribePrice)
    bench.say(late)
    bench.deaf = False
    bench.until(bench.now + 30.0)
    assert len(bench.subscribed()) <= 2


def test_an_instrument_that_is_not_there_is_said_once_a_session_and_asked_for_slowly() -> None:
    bench = up(1, rule(where=(("instrument", "7"),)))
    bench.deaf = True
    bench.until(bench.now + 1.0)
    bench.answered = {a.call for a in bench.of(SubscribePrice, ListInstruments)}
    absent = Answer(AnswerKind.ABSENT, "104", 104, "Resource Not Found")
    for _ in range(2):
        call = bench.of(SubscribePrice)[-1]
        assert call.instrument == 7
        bench.tell(Answered(wall=bench.wall, call=call.call, session=1, answer=absent))
        asked = len(bench.subscribed())
        bench.until(bench.now + 55.0)
        assert len(bench.subscribed()) == asked
        bench.until(bench.now + 6.0)
        assert len(bench.subscribed()) == asked + 1
    (said,) = [e.text for e in bench.of(AnnounceEvent) if e.kind == "price_refused"]
    assert said == (
        "prime: the prices of instrument 7 can't be had: Resource Not Found; rules that need them are blind there"
    )
    bench.disconnect()
    bench.connect()
    bench.until(bench.now + 1.0)
    bench.tell(Answered(wall=bench.wall, call=bench.of(SubscribePrice)[-1].call, session=2, answer=absent))
    assert len([e for e in bench.of(AnnounceEvent) if e.kind == "price_refused"]) == 2


def test_thousands_of_refused_prices_are_a_few_sentences() -> None:
    bench = up(60)
    bench.say = lambda action: (  # type: ignore[method-assign]  # this exchange refuses each price
        Exchange.say(bench, action)
        if isinstance(action, ListInstruments)
        else bench.tell(
            Answered(
                wall=bench.wall,
                call=action.call,
                session=action.session,
                answer=Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized"),
            )
        )
    )
    bench.until(bench.now + 200.0)
    assert len(bench.of(SubscribePrice)) >= 120
    assert len([e for e in bench.of(AnnounceEvent) if e.kind == "price_refused"]) == 10
