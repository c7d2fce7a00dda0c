"""A Watch on a bench: time is a number, and what the agenda owes is paid before each event."""

from decimal import Decimal

from killswitch.domain.messages import (
    BadReading,
    Beat,
    FeedDown,
    FeedUp,
    Heard,
    InstrumentRow,
    Instruments,
    OpenOrders,
    Order,
    OrderEnded,
    OrderRejected,
    OrderWorking,
    PositionRow,
    Positions,
    PositionSeen,
    PriceSeen,
    Reading,
    SessionDown,
    SessionUp,
    TradeSeen,
)
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.settings import FeedSpec, Label, LimitRule, OnUnknown, ScopeTemplate
from killswitch.domain.undo import Agenda, Undo
from killswitch.domain.watch.rules import Armed, Breach, Warned, Watch

WALL = 1_700_000_000.0
TRIP, WARN, IGNORE = OnUnknown.TRIP, OnUnknown.WARN, OnUnknown.IGNORE
OMS_FEED = FeedSpec(name="positions", kind="oms", oms="prime", stale_after_s=10.0)
VAR_FEED = FeedSpec(name="var", kind="mqtt", reading="var", stale_after_s=5.0)
FALLBACK = Scope(oms="prime", account=99, user=EVERY, instrument=EVERY)


def account(number):
    return Scope(oms="prime", account=number, user=EVERY, instrument=EVERY)


def rule(name="r", **more):
    """above 50.0 on var, of the account that the reading names."""
    held = {
        "owner": "desk",
        "reading": "var",
        "where": (),
        "above": Decimal("50.0"),
        "below": None,
        "absolute": False,
        "for_s": 0.0,
        "on_stale": WARN,
        "on_bad": WARN,
        "fallback": FALLBACK,
        "scope": ScopeTemplate(oms="prime", account=Label("account")),
    }
    return LimitRule(name=name, **{**held, **more})


def btc(**more):
    return rule(**{"name": "btc", "reading": "position", "where": (("product", "BTC"),), **more})


def labels(**held):
    return tuple(sorted((name, str(text)) for name, text in held.items()))


def row(number, product, amount, hold=0):
    return PositionRow(number, product, Decimal(str(amount)), Decimal(str(hold)))


def order(number, order_id, instrument=25, **more):
    return Order(**{"account": number, "order_id": order_id, "instrument": instrument, "entered_by": 37, **more})


def market(instrument, base, quote):
    return InstrumentRow(instrument, f"{base}{quote}", base, quote)


class Bench:
    def __init__(self, *rules, feeds=(OMS_FEED, VAR_FEED), armed=()):
        self.undo = Undo()
        self.agenda = Agenda(self.undo)
        self.watch = Watch(tuple(feeds), tuple(rules), self.undo, self.agenda, 0.0, armed=armed)
        self.undo.commit()
        self.now = 0.0

    def until(self, now):
        """Let time go on; everything that the agenda gave on the way."""
        found = []
        while (due := self.agenda.due()) is not None and due <= now:
            self.now = max(self.now, due)
            what = self.agenda.take(self.now)
            found += self.watch.wake(what, self.now)
            self.undo.commit()
        self.now = now
        return found

    def feed(self, event, at=None):
        """What the event gave, after what had come due before it."""
        found = self.until(self.now if at is None else at)
        found += self.watch.handle(event, self.now)
        self.undo.commit()
        return found

    def reading(self, value, number=14, **more):
        held = {"labels": labels(account=number), "feed": "var", "name": "var", "wall": WALL, **more}
        return Reading(value=value, **held)

    def var(self, value, at=None, number=14, **more):
        return self.feed(self.reading(value, number, **more), at)

    def bad(self, at=None, named=None, reason="not a number"):
        return self.feed(BadReading(wall=WALL, feed="var", name="var", labels=named, reason=reason), at)

    def beat(self, at=None, feed="heart", **more):
        return self.feed(Beat(wall=WALL, feed=feed, **more), at)

    def up(self, at=None, feed="var"):
        return self.feed(FeedUp(wall=WALL, feed=feed), at)

    def down(self, at=None, feed="var"):
        return self.feed(FeedDown(wall=WALL, feed=feed, why="gone"), at)

    def session(self, number=1, at=None):
        return self.feed(SessionUp(wall=WALL, oms="prime", gateway="g", session=number), at)

    def end(self, number=1, at=None):
        return self.feed(SessionDown(wall=WALL, oms="prime", gateway="g", session=number, why="cut"), at)

    def heard(self, number=1, at=None):
        return self.feed(Heard(wall=WALL, oms="prime", session=number), at)

    def positions(self, number, *rows, at=None, session=1, unreadable=0):
        event = Positions(wall=WALL, call=1, session=session, account=number, rows=rows, unreadable=unreadable)
        return self.feed(event, at)

    def position(self, held, at=None, session=1):
        return self.feed(PositionSeen(wall=WALL, oms="prime", session=session, row=held), at)

    def orders(self, number, *orders, at=None, session=1, unreadable=0):
        event = OpenOrders(wall=WALL, call=1, session=session, account=number, orders=orders, unreadable=unreadable)
        return self.feed(event, at)

    def working(self, held, at=None, session=1):
        return self.feed(OrderWorking(wall=WALL, oms="prime", session=session, order=held), at)

    def ended(self, held, at=None, session=1, state="Canceled"):
        event = OrderEnded(wall=WALL, oms="prime", session=session, order=held, state=state)
        return self.feed(event, at)

    def instruments(self, *rows, at=None, session=1, unreadable=0):
        return self.feed(Instruments(wall=WALL, call=1, session=session, rows=rows, unreadable=unreadable), at)

    def price(self, instrument, bid=None, ask=None, last=None, *, at=None, session=1):
        prices = {"bid": bid, "ask": ask, "last": last}
        said = {name: None if price is None else Decimal(str(price)) for name, price in prices.items()}
        return self.feed(PriceSeen(wall=WALL, oms="prime", session=session, instrument=instrument, **said), at)

    def trade(self, number=14, at=None, session=1, **more):
        held = {"instrument": 25, "user": 37, "trade_id": 1, "order_id": 1, "quantity": None, "price": None, **more}
        return self.feed(TradeSeen(wall=WALL, oms="prime", session=session, account=number, **held), at)

    def refused(self, number=14, at=None, session=1, **more):
        held = {"instrument": None, "user": None, "order_id": None, "client_order_id": 7, "reason": "no", **more}
        return self.feed(OrderRejected(wall=WALL, oms="prime", session=session, account=number, **held), at)

    def rule_view(self, name):
        return {view.rule: view for view in self.watch.view(self.now)[0]}[name]

    def feed_view(self, name):
        return {view.feed: view for view in self.watch.view(self.now)[1]}[name]


def breaches(found):
    return [f for f in found if isinstance(f, Breach)]


def edges(found):
    """(rule, account of the scope) of each trip."""
    return [(f.rule, f.scope.account) for f in breaches(found) if not f.repeated]


def warned(found):
    return [f.kind for f in found if isinstance(f, Warned)]


def armings(found):
    return [(f.rule, f.feed) for f in found if isinstance(f, Armed)]
