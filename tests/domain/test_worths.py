"""Equity and open notional: kept step by step they are what adding up anew gives, or nothing at all."""

import itertools
from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.domain.messages import (
    Heard,
    InstrumentRow,
    Instruments,
    OpenOrders,
    Order,
    OrderEnded,
    OrderWorking,
    PositionRow,
    Positions,
    PositionSeen,
    PriceSeen,
)
from killswitch.domain.settings import FeedSpec
from killswitch.domain.undo import Undo
from killswitch.domain.watch.markets import chains
from killswitch.domain.watch.venue import SETTLE_MAX_S, SETTLE_S, Venue
from tests.domain.watch_bench import WALL

STALE_S = 10.0
FEED = FeedSpec(name="positions", kind="oms", oms="prime", stale_after_s=STALE_S, numeraire="USD")
ROWS = {
    1: ("BTC", "USD"),
    2: ("ETH", "BTC"),
    3: ("ETH", "USD"),
    4: ("USD", "EUR"),
    5: ("XRP", "ETH"),
    6: ("XRP", "EUR"),
    7: ("BTC", "USD"),
}
PRODUCTS = ("USD", "BTC", "ETH", "EUR", "XRP", "OWN")
WIDE = Context(prec=100)


def rows(ids):
    return tuple(InstrumentRow(i, f"I{i}", *ROWS[i]) for i in ids)


def every_chain(ids, product):
    """All ways from a product to USD that meet no product twice, as (instruments, whether each is walked backwards)."""
    if product == "USD":
        return [((), ())]
    found = []

    def go(at, met, way, back):
        if at == "USD":
            found.append((way, back))
            return
        for i in ids:
            for one, other, inverse in ((*ROWS[i], False), (*ROWS[i][::-1], True)):
                if one == at and other not in met:
                    go(other, {*met, other}, (*way, i), (*back, inverse))

    go(product, {product}, (), ())
    return found


class Naive:
    """The same events, taken down plainly; everything is added up anew at each look."""

    def __init__(self):
        self.now = 0.0
        self.up, self.heard, self.shown, self.kept = set(), {}, {}, {}
        self.ids, self.prices = None, {}
        self.amounts, self.whole, self.unread = {}, set(), {}
        self.orders, self.instruments = {}, {}

    def look(self, session, kind=None, which=None):
        if session in self.up:
            self.heard[session] = self.now
            if kind:
                self.shown.setdefault((kind, which), set()).add(session)

    def overheard(self, session):
        """A session that is up beside the one that watches: it tells that it lives, and no values."""
        return session in self.up and session != min(self.up)

    def watches(self, session):
        return session in self.up and session == min(self.up)

    def end(self, session):
        self.up.discard(session)
        for key, sessions in self.shown.items():
            if session in sessions:
                sessions.discard(session)
                self.kept[key] = max(self.kept.get(key, 0.0), self.heard[session])

    def at(self, kind, which):
        times = [self.heard[s] for s in self.shown.get((kind, which), ())]
        return max([*times, *([self.kept[kind, which]] if (kind, which) in self.kept else [])], default=None)

    def chain(self, product):
        found = every_chain(self.ids or (), product)
        return min(found, key=lambda way: (len(way[0]), way[0]), default=None)

    def rate(self, product):
        """The rate and the instruments that it needs; None where one lacks."""
        chain = self.chain(product)
        if chain is None or any(self.prices.get(i) is None for i in chain[0]):
            return None
        over = under = Decimal(1)
        for i, inverse in zip(*chain, strict=True):
            over, under = (over, under * self.prices[i]) if inverse else (over * self.prices[i], under)
        return WIDE.divide(over, under), chain[0]

    def add_up(self, parts, listed_at):
        """(value, as of when), or None: parts are (amount, product)."""
        total, times = Decimal(0), [listed_at]
        for amount, product in parts:
            rate = self.rate(product)
            if rate is None:
                return None
            total += (amount * rate[0]).quantize(Decimal("1e-28"))
            times += [self.at("price", i) for i in rate[1]]
        return total, min(times)

    def equity(self, account):
        if account not in self.whole or self.unread.get(account):
            return None
        parts = [(a, p) for p, a in self.amounts.get(account, {}).items() if a]
        return self.add_up(parts, self.at("positions", account))

    def notional(self, account, instrument):
        quote = base = Decimal(0)
        for its, left, price in self.orders.get(account, {}).values():
            if its == instrument and left is None:
                return None
            if its == instrument and price is None:
                base += left
            elif its == instrument:
                quote += left * price
        if (quote or base) and instrument not in (self.ids or ()):
            return None
        parts = [(a, p) for a, p in zip((base, quote), ROWS[instrument], strict=True) if a]
        return self.add_up(parts, self.at("orders", account))


class Both:
    """A Venue and the plain one, given the same; `twice`: each event is also taken and taken back first."""

    def __init__(self, *, twice=False):
        self.undo = Undo()
        self.venue = Venue((FEED,), self.undo)
        self.plain = Naive()
        self.twice = twice
        self.sessions = itertools.count(1)
        self.values = {}
        self.told = 0
        self.moving = {}  # account -> since when, and until when its equity isn't told

    def wait(self, seconds):
        """Time goes on; what has come to rest on the way is told."""
        end = self.plain.now + seconds
        while self.moving and (due := min(until for _, until in self.moving.values())) <= end:
            self.plain.now = max(self.plain.now, due)
            self.moving = {a: held for a, held in self.moving.items() if held[1] > self.plain.now}
            shown = self.venue.settle("prime", self.plain.now)
            self.undo.commit()
            self.look(shown)
        self.plain.now = end

    def take(self, event):
        if self.twice:
            self.venue.take(event, self.plain.now)
            self.undo.rollback()
        shown = self.venue.take(event, self.plain.now)
        self.undo.commit()
        if isinstance(event, Positions) and shown and not self.plain.overheard(event.session):
            self.moving.pop(event.account, None)
        self.look(shown)

    def look(self, shown):
        seen = {(s.name, s.labels): s for s in (shown.seen if shown else ()) if s.name in ("equity", "open_notional")}
        self.values |= {key: s.value for key, s in seen.items()}
        self.told += len(seen)
        with localcontext(Context(prec=300)):
            self.check(seen)

    def check(self, seen):
        looked_at = {}
        for account in (14, 15):
            looked_at["equity", (("account", str(account)),)] = self.plain.equity(account)
            for i in self.plain.instruments.get(account, ()):
                labels = (("account", str(account)), ("instrument", str(i)))
                looked_at["open_notional", labels] = self.plain.notional(account, i)
        for key in seen:
            assert looked_at[key] is not None, f"{key} is told, and nobody can know it"
        for (name, labels), known in looked_at.items():
            if known is None:
                continue
            value, as_of = known
            if name == "equity" and int(labels[0][1]) in self.moving:
                assert (name, labels) not in seen
                continue
            assert self.venue.why_not("prime", name, labels, 0.0).find("has no price") < 0
            assert self.venue.proven_at("prime", name, labels) == as_of
            if self.plain.now < as_of + STALE_S:
                assert self.values[name, labels] == value
            else:
                assert (name, labels) not in seen

    # --- events

    def up(self):
        session = next(self.sessions)
        self.venue.session_up(session, "prime")
        self.undo.commit()
        self.plain.up.add(session)
        return session

    def end(self, session):
        if session in self.plain.up and session in self.plain.heard:
            self.venue.session_down(session)
            self.undo.commit()
            self.plain.end(session)

    def ping(self, session):
        self.plain.look(session)
        self.take(Heard(wall=WALL, oms="prime", session=session))

    def markets(self, session, ids):
        self.plain.look(session)
        if self.plain.watches(session):
            self.plain.look(session)
            self.plain.ids = tuple(ids)
        self.take(Instruments(wall=WALL, call=1, session=session, rows=rows(ids)))

    def price(self, session, instrument, price):
        self.plain.look(session)
        if self.plain.watches(session):
            self.plain.look(session, "price", instrument)
            self.plain.prices[instrument] = price
        event = {"bid": None, "ask": None, "last": price}
        self.take(PriceSeen(wall=WALL, oms="prime", session=session, instrument=instrument, **event))

    def positions(self, session, account, held, unreadable=0):
        self.plain.look(session)
        if self.plain.watches(session):
            self.plain.look(session, "positions", account)
            self.plain.whole.add(account)
            self.plain.unread[account] = unreadable
            before = self.plain.amounts.get(account, {}) if unreadable else {}
            self.plain.amounts[account] = before | held
        listed = tuple(PositionRow(account, p, a, Decimal(0)) for p, a in held.items())
        self.take(Positions(wall=WALL, call=1, session=session, account=account, rows=listed, unreadable=unreadable))

    def position(self, session, account, product, amount):
        self.plain.look(session)
        if not self.plain.overheard(session):
            if self.plain.amounts.setdefault(account, {}).get(product, 0) != amount:
                since, _ = self.moving.get(account, (self.plain.now, 0))
                self.moving[account] = since, min(self.plain.now + SETTLE_S, since + SETTLE_MAX_S)
            self.plain.amounts[account][product] = amount
        row = PositionRow(account, product, amount, Decimal(0))
        self.take(PositionSeen(wall=WALL, oms="prime", session=session, row=row))

    def orders(self, session, account, held):
        self.plain.look(session)
        if self.plain.watches(session):
            self.plain.look(session, "orders", account)
            self.plain.orders[account] = dict(enumerate(held))
            self.plain.instruments.setdefault(account, set()).update(order[0] for order in held)
        listed = tuple(Order(account, n + 1, i, 37, None, left, price) for n, (i, left, price) in enumerate(held))
        self.take(OpenOrders(wall=WALL, call=1, session=session, account=account, orders=listed))

    def order(self, session, account, number, held):
        """held None: it ends."""
        self.plain.look(session)
        orders = self.plain.orders.get(account) if not self.plain.overheard(session) else None
        if orders is not None:
            orders.pop(number, None)
        if orders is not None and held is not None:
            orders[number] = held
            self.plain.instruments[account].add(held[0])
        i, left, price = held or (1, None, None)
        order = Order(account, number + 1, i, 37, None, left, price)
        if held is None:
            event = OrderEnded(wall=WALL, oms="prime", session=session, order=order, state="Canceled")
        else:
            event = OrderWorking(wall=WALL, oms="prime", session=session, order=order)
        self.take(event)


def decimals(low, high):
    return st.decimals(low, high, places=8, allow_nan=False, allow_infinity=False)


SESSIONS = st.integers(1, 3)
ACCOUNTS = st.sampled_from((14, 15))
AMOUNTS = st.one_of(st.just(Decimal(0)), decimals(-1000, 1000))
PRICES = st.one_of(st.none(), decimals("0.00000001", 100000), decimals("0.5", 2))
RESTING = st.tuples(
    st.sampled_from(sorted(ROWS)), st.one_of(st.none(), decimals(0, 100)), st.one_of(st.none(), decimals(1, 1000))
)
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from((0.05, 0.5, 3.0, 9.0))),
    st.tuples(st.just("up")),
    st.tuples(st.just("end"), SESSIONS),
    st.tuples(st.just("ping"), SESSIONS),
    st.tuples(st.just("markets"), SESSIONS, st.sets(st.sampled_from(sorted(ROWS)), min_size=3)),
    *[st.tuples(st.just("price"), SESSIONS, st.sampled_from(sorted(ROWS)), PRICES)] * 3,
    st.tuples(
        st.just("positions"),
        SESSIONS,
        ACCOUNTS,
        st.dictionaries(st.sampled_from(PRODUCTS[:5]), AMOUNTS),
        st.sampled_from((0, 0, 0, 1)),
    ),
    *[st.tuples(st.just("position"), SESSIONS, ACCOUNTS, st.sampled_from(PRODUCTS), AMOUNTS)] * 2,
    st.tuples(st.just("orders"), SESSIONS, ACCOUNTS, st.lists(RESTING, max_size=4)),
    *[st.tuples(st.just("order"), SESSIONS, ACCOUNTS, st.integers(0, 5), st.one_of(st.none(), RESTING))] * 2,
)


def play(both, steps):
    for name, *more in steps:
        getattr(both, name)(*more)


@settings(max_examples=300)
@given(st.lists(STEPS, max_size=60), st.booleans())
def test_what_is_kept_step_by_step_is_what_adding_up_anew_gives(steps, twice):
    both = Both(twice=twice)
    both.up()
    both.markets(1, sorted(ROWS))
    for instrument in ROWS:
        both.price(1, instrument, Decimal(instrument))
    both.positions(1, 14, {"BTC": Decimal(1), "EUR": Decimal(7)})
    both.orders(1, 15, [(1, Decimal(2), Decimal(100)), (2, Decimal(3), None)])
    assert both.told > 0
    play(both, steps)


def test_chains_are_the_shortest_with_the_smallest_ids_whatever_the_order_of_the_list():
    for ids in itertools.chain.from_iterable(itertools.combinations(ROWS, n) for n in range(len(ROWS) + 1)):
        built = chains(rows(ids), "USD")
        for product in PRODUCTS:
            best = min(every_chain(ids, product), key=lambda way: (len(way[0]), way[0]), default=None)
            held = built.of.get(product)
            assert (None if held is None else tuple(s.instrument for s in held)) == (best and best[0])
            assert (None if held is None else tuple(s.inverse for s in held)) == (best and best[1])


@pytest.mark.parametrize("lacking", sorted(ROWS))
def test_a_price_that_lacks_never_gives_a_number_to_what_needs_it(lacking):
    both = Both()
    both.up()
    both.markets(1, sorted(ROWS))
    both.positions(1, 14, {"BTC": Decimal(1), "XRP": Decimal(1), "EUR": Decimal(-5), "USD": Decimal(3)})
    needed = {i for product in ("BTC", "XRP", "EUR") for i in both.plain.chain(product)[0]}
    for instrument in set(ROWS) - {lacking}:
        both.price(1, instrument, Decimal(2))
    assert bool(both.told) is (lacking not in needed)
    both.price(1, lacking, Decimal(2))
    assert both.told
