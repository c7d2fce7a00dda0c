"""Events of an OMS that are counted: each once, whatever is told twice, and none from a list."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import OrderEnded, OrderRejected, OrderWorking
from killswitch.domain.settings import Label, RateRule, ScopeTemplate
from killswitch.domain.undo import Undo
from killswitch.domain.watch.tallies import Tallies
from tests.domain.watch_bench import (
    FALLBACK,
    TRIP,
    WALL,
    WARN,
    Bench,
    edges,
    labels,
    order,
)

D = Decimal


def rate(reading, above=2, **more):
    """More than `above` of them within 10 s."""
    held = {
        "name": "burst",
        "owner": "desk",
        "reading": reading,
        "where": (),
        "on_stale": WARN,
        "on_bad": WARN,
        "fallback": FALLBACK,
        "scope": ScopeTemplate(oms="prime", account=Label("account")),
        "above": D(above),
        "per_s": 10.0,
        "sum": False,
    }
    return RateRule(**{**held, **more})


class Counted:
    """All that was counted, as (reading, value, labels)."""

    def __init__(self, *names):
        self.bench = Bench(*(rate(name, above=10**6, name=name) for name in names))
        self.bench.session()

    def of(self, reading):
        """How many came of that reading, over all series."""
        windows = self.bench.watch._roster.windows
        rule = self.bench.watch._roster.rules[reading]
        keys = [key for key in self.bench.watch._roster.watched if key[1] == reading]
        return sum(windows.measure(rule, key, self.bench.now) for key in keys)

    def labels(self, reading):
        return [key[2] for key in self.bench.watch._roster.watched if key[1] == reading]


def test_an_order_counts_once_at_its_first_event_whatever_follows():
    held = Counted("order", "cancel")
    for _ in range(3):
        held.bench.working(order(14, 5))
    held.bench.ended(order(14, 5))
    held.bench.working(order(14, 5))  # the order of events is not guaranteed
    held.bench.ended(order(14, 5))
    assert (held.of("order"), held.of("cancel")) == (1, 1)
    assert held.labels("order") == [labels(account=14, instrument=25, user=37)]


@pytest.mark.parametrize(("state", "orders", "cancels", "rejects"), [
    ("FullyExecuted", 1, 0, 0), ("Canceled", 1, 1, 0), ("Expired", 1, 0, 0), ("Rejected", 0, 0, 1),
])  # fmt: skip
def test_an_order_whose_first_event_is_its_end_counts_as_what_it_is(state, orders, cancels, rejects):
    held = Counted("order", "cancel", "reject")
    for _ in range(2):
        held.bench.ended(order(14, 5), state=state)
    assert (held.of("order"), held.of("cancel"), held.of("reject")) == (orders, cancels, rejects)


def test_an_order_that_a_list_showed_is_no_new_one():
    held = Counted("order", "cancel")
    held.bench.orders(14, order(14, 5))
    held.bench.working(order(14, 5))
    held.bench.working(order(14, 6))
    held.bench.ended(order(14, 5))
    held.bench.working(order(14, 5))
    assert (held.of("order"), held.of("cancel")) == (1, 1)


def test_a_trade_counts_once_for_each_side_that_is_ours():
    held = Counted("trade")
    for _ in range(2):
        held.bench.trade(14, trade_id=7, order_id=1)
        held.bench.trade(15, trade_id=7, order_id=2)
        held.bench.trade(14, trade_id=8, order_id=1)
    assert held.of("trade") == 3


def test_what_two_sessions_tell_counts_once_and_goes_on_when_one_of_them_ends():
    held = Counted("trade", "reject", "order")
    held.bench.session(2)

    def both(*sessions):
        for session in sessions:
            held.bench.trade(trade_id=None, session=session)
            held.bench.refused(client_order_id=None, session=session)
            held.bench.working(order(14, 5), session=session)

    both(1, 2)
    assert (held.of("trade"), held.of("reject"), held.of("order")) == (1, 1, 1)
    held.bench.end(1)
    both(2)
    assert (held.of("trade"), held.of("reject"), held.of("order")) == (2, 2, 1)


def test_a_rejection_that_is_told_in_two_ways_counts_once_in_either_order():
    held = Counted("reject")
    gone = order(14, 5, client_order_id=7)
    held.bench.refused(client_order_id=7)
    held.bench.ended(gone, state="Rejected")
    assert held.of("reject") == 1
    held.bench.ended(order(14, 6, client_order_id=8), state="Rejected")
    held.bench.refused(client_order_id=8)
    assert held.of("reject") == 2


def test_a_loop_that_sends_one_client_id_again_and_again_is_many_rejections():
    """It is the very thing that a rate of rejections is there for: merging by that id would hide it."""
    told_once, told_twice = Counted("reject"), Counted("reject")
    for n in range(20):
        told_once.bench.refused(client_order_id=7)
        told_twice.bench.refused(client_order_id=7)
        told_twice.bench.ended(order(14, 100 + n, client_order_id=7), state="Rejected")
    assert (told_once.of("reject"), told_twice.of("reject")) == (20, 20)


def test_rejections_told_in_one_way_hours_ago_hide_none_that_are_told_in_the_other_now():
    """Orders without a client id can't be told apart: what never found its pair must not pair with the next burst."""
    held = Counted("reject")
    for n in range(50):
        held.bench.refused(client_order_id=None, at=held.bench.now + n)
    assert held.of("reject") > 0
    held.bench.now += 3600.0
    for n in range(20):
        held.bench.ended(order(14, 100 + n), state="Rejected")
    assert held.of("reject") == 20


@given(
    st.lists(
        st.tuples(st.sampled_from([None, 1, 2]), st.sampled_from(["event", "state", "both", "turned"])), max_size=30
    )
)
def test_each_rejection_counts_once_where_a_server_tells_of_it_in_both_ways(sent):
    held = Tallies(Undo())
    count = 0
    for order_id, (client, way) in enumerate(sent, 1):
        event = OrderRejected(
            wall=WALL, oms="prime", session=1, account=14, instrument=None, user=None, order_id=None,
            client_order_id=client, reason="",
        )  # fmt: skip
        one = order(14, order_id, client_order_id=client)
        state = OrderEnded(wall=WALL, oms="prime", session=1, order=one, state="Rejected")
        told = [event, state] if way in ("event", "both") else [state, event]
        count += sum(len(held.take(it, 1.0, listed=False, oldest=True)) for it in told)
    assert count == len(sent)


def test_the_value_is_the_quantity_where_it_is_known_and_else_one():
    bench = Bench(rate("order", 100, sum=True))
    bench.session()
    bench.working(order(14, 1, quantity=D("60.5")))
    bench.working(order(14, 2))
    assert edges(bench.ended(order(14, 3, quantity=D(0)), state="FullyExecuted")) == []  # 62.5 by now
    assert edges(bench.working(order(14, 4, quantity=D("37.5")))) == []
    assert edges(bench.working(order(14, 5, quantity=D("0.1")))) == [("burst", 14)]


@pytest.mark.parametrize("name", ["order", "trade", "reject", "cancel"])
def test_a_rate_of_events_trips_at_the_event_that_is_one_too_many(name):
    bench = Bench(rate(name))
    bench.session()
    step = {
        "order": lambda n: bench.working(order(14, n)),
        "trade": lambda n: bench.trade(trade_id=n),
        "reject": lambda n: bench.refused(client_order_id=n),
        "cancel": lambda n: bench.ended(order(14, n)),
    }[name]
    assert [edges(step(n)) for n in (1, 2, 3)] == [[], [], [("burst", 14)]]


def test_what_is_beyond_the_memory_counts_again_and_what_is_in_it_does_not():
    held = Tallies(Undo(), remembered=10)

    def seen(n):
        event = OrderWorking(wall=WALL, oms="prime", session=1, order=order(14, n))
        return len(held.take(event, 1.0, listed=False, oldest=True))

    assert sum(seen(n) for n in range(11)) == 11
    assert [seen(n) for n in (10, 1, 0)] == [0, 0, 1]


def test_no_event_is_no_silence_and_a_dead_session_is():
    bench = Bench(rate("reject", on_stale=TRIP))
    bench.session()
    found = [f for at in range(1, 200, 3) for f in bench.heard(at=float(at))]
    assert found == []
    assert bench.watch.uncalm("burst", (), bench.now) is None
    assert bench.watch.uncalm("burst", labels(account=14), bench.now) is None
    assert edges(bench.until(bench.now + 11.0)) == [("burst", 99)]


def test_an_event_that_lacks_a_label_which_the_scope_needs_is_bad_for_that_rule():
    scope = ScopeTemplate(oms="prime", account=Label("account"), user=Label("user"))
    bench = Bench(rate("reject", above=0, scope=scope, on_bad=TRIP))
    bench.session()
    assert edges(bench.refused(user=None)) == [("burst", 99)]
    assert edges(bench.refused(user=37)) == [("burst", 14)]
