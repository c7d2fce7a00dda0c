"""Rules of all kinds side by side: a pass that fails leaves no trace in any of them, and what a rule finds, what
it answers for a reset, and what is seen of it from outside agree."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.domain.messages import (
    BadReading,
    Beat,
    FeedDown,
    FeedUp,
    Heard,
    Instruments,
    Merged,
    OpenOrders,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    Positions,
    PositionSeen,
    PriceSeen,
    Reading,
    SessionDown,
    SessionUp,
    TradeSeen,
)
from killswitch.domain.settings import FeedSpec, ScopeTemplate, SilenceRule, StaleRule
from killswitch.domain.undo import Agenda, Undo
from killswitch.domain.watch.rules import Breach, Watch
from tests.domain.test_hearts import deadman
from tests.domain.test_peaks import drawdown
from tests.domain.test_rates import rate
from tests.domain.test_ratios import ratio
from tests.domain.watch_bench import FALLBACK, IGNORE, TRIP, WALL, Bench, btc, edges, labels, market, order, row, rule

D = Decimal
FEEDS = (
    FeedSpec(name="positions", kind="oms", oms="prime", stale_after_s=4.0, numeraire="USD"),
    FeedSpec(name="var", kind="mqtt", reading="var", stale_after_s=3.0),
    FeedSpec(name="rejects", kind="mqtt", reading="nack", stale_after_s=50.0),
    FeedSpec(name="entries", kind="websocket", reading="entry", stale_after_s=6.0, timed=True),
    FeedSpec(name="heart", kind="mqtt", stale_after_s=3.0),
)
WARN_AT = (D("0.5"), D("0.9"))


def old(name, reading, **more):
    held = {"owner": "desk", "on_stale": TRIP, "on_bad": TRIP, "fallback": FALLBACK, "scope": rule().scope}
    return StaleRule(name=name, reading=reading, **{"where": (), **held, **more})


RULES = (
    rule("above", above=D(7), warn_at=WARN_AT, on_stale=TRIP, on_bad=TRIP),
    rule("lasts", above=D(5), for_s=2.5),
    rule("below", above=None, below=D(-3), on_bad=TRIP),
    drawdown("drop", fall=D(6), window_s=5.0, warn_at=WARN_AT, on_stale=TRIP),
    rate("count", above=D(3), per_s=4.0, warn_at=WARN_AT),
    rate("sum", above=D(9), per_s=4.0, sum=True),
    ratio("share", reading="nack", over="entry", above=D("0.5"), window_s=5.0, at_least=2, on_bad=TRIP, on_stale=TRIP),
    old("var-old", "var", older_than_s=4.0),
    old("pos-old", "position", older_than_s=3.0),
    btc(name="btc", above=D(5), on_stale=TRIP, on_bad=TRIP),
    rule("poor", reading="equity", above=None, below=D(-50), on_stale=TRIP),
    drawdown("poorer", reading="equity", fall=D(100), window_s=6.0),
    rule("much", reading="open_notional", above=D(50)),
    ratio("refused", reading="reject", over="order", above=D("0.5"), window_s=5.0, at_least=2),
    SilenceRule(
        name="var-dead", owner="desk", feed="var", older_than_s=5.0, scope=ScopeTemplate(oms="prime", account=16)
    ),
    deadman("heart", silent_s=3.0, arm="first", on_stale=TRIP),
    deadman("heart-2", silent_s=5.0, on_stale=IGNORE),
    deadman("oms-heart", feed="positions", silent_s=4.0),
)

FEED_NAMES = st.sampled_from(["var", "rejects", "entries", "heart"])
ACCOUNTS = st.sampled_from([14, 15])
SMALL = st.integers(-10, 10).map(D)
SESSIONS = st.sampled_from([1, 2])
KEYS = st.sampled_from([labels(account=14), labels(account=15), labels(desk="x"), labels(account="none")])


@st.composite
def readings(draw):
    feed, name = draw(st.sampled_from([("var", "var"), ("var", "var"), ("rejects", "nack"), ("entries", "entry")]))
    more = {}
    if draw(st.integers(0, 4)) == 0:
        more["fresh"] = False
    if feed == "entries" and draw(st.booleans()):
        more["source_at"] = WALL + draw(st.integers(0, 6))
    if draw(st.integers(0, 5)) == 0:
        more["merged"] = Merged(draw(st.integers(1, 3)), draw(SMALL))
    if draw(st.integers(0, 3)) == 0:
        more["lag_s"] = float(draw(st.integers(0, 6)))
    value = draw(st.one_of(SMALL, SMALL, SMALL, st.just(D("NaN"))))
    return Reading(wall=WALL, feed=feed, name=name, labels=draw(KEYS), value=value, **more)


@st.composite
def of_feeds(draw):
    feed = draw(FEED_NAMES)
    match draw(st.integers(0, 5)):
        case 0:
            return FeedUp(wall=WALL, feed=feed)
        case 1:
            return FeedDown(wall=WALL, feed=feed, why="gone")
        case 2:
            name = {"rejects": "nack", "entries": "entry"}.get(feed, "var")
            known = draw(st.one_of(st.none(), KEYS))
            return BadReading(wall=WALL, feed=feed, name=name, labels=known, reason="not_json")
        case _:
            return Beat(wall=WALL, feed="heart", retained=draw(st.booleans()))


@st.composite
def of_oms(draw):
    session, number, product = draw(SESSIONS), draw(ACCOUNTS), draw(st.sampled_from(["BTC", "ETH", "USD"]))
    at = {"wall": WALL, "oms": "prime", "session": session}
    asked = {"wall": WALL, "call": 1, "session": session}
    instrument = draw(st.sampled_from([25, 26]))
    its = order(
        number, draw(st.integers(1, 4)), instrument, quantity=draw(SMALL), price=draw(st.one_of(st.none(), SMALL))
    )
    rows = tuple(row(number, p, draw(SMALL)) for p in draw(st.sets(st.sampled_from(["BTC", "ETH", "USD"]))))
    number_of = draw(st.integers(0, 11))
    said = (
        SessionUp(**at, gateway="g"),
        SessionDown(**at, gateway="g", why="cut"),
        Heard(**at),
        Positions(
            **asked,
            account=number,
            rows=tuple(sorted(rows, key=lambda r: r.product)),
            unreadable=draw(st.sampled_from([0, 0, 1])),
        ),
        PositionSeen(**at, row=row(number, product, draw(SMALL))),
        OpenOrders(**asked, account=number, orders=draw(st.sampled_from([(), (its,)])), unreadable=0),
        OrderWorking(**at, order=its),
        OrderEnded(**at, order=its, state=draw(st.sampled_from(["Canceled", "Rejected", "FullyExecuted"]))),
        Instruments(
            **asked, rows=(market(25, "BTC", "USD"), market(26, "USD", "ETH"))[: draw(st.integers(1, 2))], unreadable=0
        ),
        PriceSeen(
            **at, instrument=instrument, bid=None, ask=None, last=draw(st.one_of(st.none(), st.integers(1, 30).map(D)))
        ),
        TradeSeen(
            **at,
            account=number,
            instrument=instrument,
            user=37,
            trade_id=draw(st.integers(1, 3)),
            order_id=1,
            quantity=None,
            price=None,
        ),
        OrderRejected(
            **at,
            account=number,
            instrument=None,
            user=None,
            order_id=None,
            client_order_id=draw(st.integers(1, 3)),
            reason="no",
        ),
    )
    return said[number_of]


EVENTS = st.one_of(readings(), readings(), of_feeds(), of_oms(), of_oms())
STEPS = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 1.0, 3.0, 8.0])


class Side:
    """A Watch, and what it said so far."""

    def __init__(self):
        self.kept = {}
        self.begin(0.0)

    def begin(self, now):
        self.undo = Undo()
        self.agenda = Agenda(self.undo)
        self.watch = Watch(FEEDS, RULES, self.undo, self.agenda, now, keeps=True)
        self.undo.commit()
        self.now = now

    def until(self, now, shaken=lambda: None):
        found = []
        while (due := self.agenda.due()) is not None and due <= now:
            self.now = max(self.now, due)
            shaken()
            found += self.take()
        self.now = now
        return found

    def take(self):
        what = self.agenda.take(self.now)
        if what is None:
            return []
        if what[0] == "keep":
            for window in self.watch.memory.wake(what, self.now):
                self.kept[window.rule, window.feed, window.reading, window.labels] = window
            self.undo.commit()
            return []
        found = self.watch.wake(what, self.now)
        self.undo.commit()
        return found

    def handle(self, event):
        found = self.watch.handle(event, self.now)
        self.undo.commit()
        return found

    def seen(self):
        keys = [labels(account=n) for n in (14, 15)] + [labels(account=14, product="BTC"), ()]
        calm = [(r.name, k, self.watch.uncalm(r.name, k, self.now)) for r in RULES for k in keys]
        return self.watch.view(self.now), calm


def told(found):
    """Entries of one instant may be taken in another order after a rollback."""
    return sorted(map(repr, found))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.lists(st.tuples(STEPS, EVENTS), max_size=40))
def test_passes_that_fail_leave_no_trace_in_rules_of_any_kind(data, stream):
    whole, shaken = Side(), Side()

    def fail():
        """A pass, or a few, whose changes are taken back."""
        for event in data.draw(st.lists(EVENTS, max_size=2)):
            shaken.watch.handle(event, shaken.now)
        if data.draw(st.booleans()) and (what := shaken.agenda.take(shaken.now + 3.0)) is not None:
            later = shaken.now + 3.0
            (shaken.watch.memory.wake if what[0] == "keep" else shaken.watch.wake)(what, later)
        shaken.undo.rollback()

    at = 0.0
    for step, event in stream:
        at += step
        assert told(whole.until(at)) == told(shaken.until(at, fail))
        fail()
        assert told(whole.handle(event)) == told(shaken.handle(event))
        assert whole.seen() == shaken.seen()
    assert told(whole.until(at + 20.0)) == told(shaken.until(at + 20.0))
    assert whole.seen() == shaken.seen()
    assert sorted(map(repr, whole.watch.memory.all(whole.now))) == sorted(
        map(repr, shaken.watch.memory.all(shaken.now))
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(STEPS, EVENTS), max_size=40))
def test_what_trips_is_not_calm_at_that_instant_and_what_stands_in_breach_never_is(stream):
    side, at = Side(), 0.0

    def check(found):
        for one in found:
            if isinstance(one, Breach):
                assert side.watch.uncalm(one.rule, one.labels, side.now) is not None, one

    for step, event in [*stream, (30.0, Beat(wall=WALL, feed="heart"))]:
        at += step
        while (due := side.agenda.due()) is not None and due <= at:
            side.now = max(side.now, due)
            check(side.take())
        side.now = at
        check(side.handle(event))
        for view in side.watch.view(at)[0]:
            # A rule of which an OMS lists nothing is said to know nothing, lest it is misspelt; it holds up no reset.
            unknown = [key for key in view.unknown if key or view.series]
            for key in (*view.breaching, *unknown):
                assert side.watch.uncalm(view.rule, key, at) is not None, (view, key)


def test_a_series_that_a_session_proved_and_that_falls_silent_again_is_a_new_breach_at_its_time():
    bench = Bench(old("old", "position", older_than_s=3.0), feeds=(replace(FEEDS[0], stale_after_s=100.0),))
    bench.session()
    bench.positions(14, row(14, "BTC", 1))
    assert edges(bench.until(3.0)) == [("old", 14)]
    assert bench.heard(at=4.0) == []  # of the series itself nothing comes
    assert bench.until(6.999) == []
    assert edges(bench.until(7.0)) == [("old", 14)]
