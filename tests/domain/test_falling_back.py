"""Falling back, opposite the simulated OMS: whatever is refused, at each level, what is permitted is used in time.

Each run is one trip over one of the scope's forms on a server of one dialect, with certain calls refused for good.
"""

from __future__ import annotations

from itertools import product

import pytest

from killswitch.domain.book import Call
from killswitch.domain.dialects import Dialect, can_say
from killswitch.domain.life import REASONS_MAX, REMIND_EVERY_S
from killswitch.domain.messages import Answer, AnswerKind, Order
from killswitch.domain.paths import watching
from killswitch.domain.scope import EVERY, Scope
from tests.domain.opposite import BASE, Opposite

V2, V3, V4 = Dialect.V2, Dialect.V3, Dialect.V4
DEADLINE_S = 5.0


def scope(account=EVERY, user=EVERY, instrument=EVERY) -> Scope:
    return Scope(oms="prime", account=account, user=user, instrument=instrument)


ROWS = [scope(*parts) for parts in product((EVERY, 14), (EVERY, 37), (EVERY, 25))]
KEYS = (("AccountId", "account"), ("UserId", "user"), ("InstrumentId", "instrument"))
CODES = (20, 100, 106)


def naming(wanted: Scope) -> str:
    return "+".join(key for key, part in KEYS if getattr(wanted, part) is not EVERY) or "none"


def inside(dialect: Dialect, wanted: Scope) -> list[str]:
    """The forms of CancelAllOrders that this dialect can say and that stay inside the scope, the widest first."""
    account = 14 if wanted.account is EVERY else wanted.account
    forms = dict.fromkeys((wanted, scope(account, wanted.user, wanted.instrument), scope(account, wanted.user, 25)))
    return [naming(form) for form in forms if can_say(dialect, form, whole_oms=True)]


def orders_in(world: Opposite, wanted: Scope) -> set[int]:
    return {
        order.order_id
        for order in world.exchange.orders.values()
        if wanted.account in (EVERY, order.account)
        and wanted.user in (EVERY, order.entered_by)
        and wanted.instrument in (EVERY, order.instrument)
    }


def proven(world: Opposite, wanted: Scope, within_s: float = DEADLINE_S) -> None:
    """It ends VERIFIED within the deadline, with the scope's orders cancelled and no other."""
    expected = orders_in(world, wanted)
    world.run(world.verified, within_s)
    assert world.cancelled() == expected


def stays_open(world: Opposite, wanted: Scope) -> None:
    """There is no way: people hear of it at once, it is never called proven, and nothing storms."""
    expected = orders_in(world, wanted)
    world.run(lambda: world.view().state == "escalated", 1.0)
    world.wait(60.0)
    assert not any(outcome == "VERIFIED" for _, _, outcome in world.states)
    assert world.view().outcome == "RESIDUAL"
    assert world.view().orders_left == len(expected)
    assert world.cancelled() == set()
    tried = len(world.said("CancelAllOrders")) + len(world.said("CancelOrder"))
    assert tried < 60 * max(len(expected), 3), "refused calls are not repeated faster than every few seconds"


def ids(value: object) -> str:
    return value.in_words() if isinstance(value, Scope) else str(getattr(value, "value", value))


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", ROWS, ids=ids)
@pytest.mark.parametrize("code", CODES)
def test_the_widest_call_is_refused(dialect, wanted, code) -> None:
    world = Opposite(dialect, faults=(f"error={code},naming={naming(wanted)},times=always",))
    world.connect()
    world.trip(wanted)
    proven(world, wanted)


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", ROWS, ids=ids)
@pytest.mark.parametrize("code", CODES)
def test_every_call_that_takes_many_orders_is_refused(dialect, wanted, code) -> None:
    world = Opposite(dialect, faults=(f"error={code},times=always",))
    world.connect()
    world.trip(wanted)
    proven(world, wanted)
    assert len(world.said("CancelAllOrders")) <= 12


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", ROWS, ids=ids)
@pytest.mark.parametrize(("code", "single"), list(product(CODES, CODES)))
def test_of_the_calls_only_one_that_is_narrower_is_permitted(dialect, wanted, code, single) -> None:
    """CancelOrder is refused too, and each form of CancelAllOrders but one: that one is found, whichever it is."""
    forms = inside(dialect, wanted)
    for permitted in forms:
        refused = [form for form in forms if form != permitted]
        faults = [f"error={code},naming={form},times=always" for form in refused]
        world = Opposite(dialect, faults=(*faults, f"error={single},call=CancelOrder,times=always"))
        world.connect()
        world.trip(wanted)
        if "Instrument" in permitted and wanted.instrument is EVERY:
            expected = orders_in(world, wanted)  # a call for each instrument that a list shows
            world.run(world.verified, DEADLINE_S)
            assert world.cancelled() == expected
        else:
            proven(world, wanted)


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", ROWS, ids=ids)
@pytest.mark.parametrize("code", CODES)
def test_nothing_at_all_is_permitted(dialect, wanted, code) -> None:
    world = Opposite(dialect, faults=(f"error={code},times=always", f"error={code},call=CancelOrder,times=always"))
    world.connect()
    world.trip(wanted)
    stays_open(world, wanted)
    world.exchange.faults.clear()
    proven(world, wanted, 8.0)


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", ROWS, ids=ids)
def test_a_second_factor_is_demanded_of_cancels_that_take_many_orders(dialect, wanted) -> None:
    world = Opposite(dialect, two_factor_calls=("CancelAllOrders",))
    world.connect()
    world.trip(wanted)
    proven(world, wanted)
    said = len(world.said("CancelAllOrders"))
    assert said <= 1, "the same demand is made of each of them"
    if said:
        assert any(e.kind == "escalated" and "2FA" in e.text for e in world.events)


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", ROWS, ids=ids)
def test_a_second_factor_is_demanded_of_every_cancel(dialect, wanted) -> None:
    world = Opposite(dialect, two_factor_calls=("CancelAllOrders", "CancelOrder"))
    world.connect()
    world.trip(wanted)
    stays_open(world, wanted)
    world.exchange.two_factor_calls = ()
    proven(world, wanted, 8.0)


def test_what_is_refused_in_many_ways_again_and_again_is_told_once_each_and_then_by_the_reminder() -> None:
    world = Opposite(V2, orders=60, two_factor_calls=("CancelAllOrders", "CancelOrder"))
    world.connect()
    world.trip(scope(14))
    world.wait(REMIND_EVERY_S - 1)
    texts = [
        event.text.split("; RESIDUAL")[0].split("; UNKNOWN")[0] for event in world.events if event.kind == "escalated"
    ]
    assert 2 <= len(texts) == len(set(texts)) <= 1 + REASONS_MAX
    world.wait(2.0)
    assert len([event for event in world.events if event.kind == "escalated"]) == len(texts) + 1


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", ROWS, ids=ids)
@pytest.mark.parametrize("code", CODES)
def test_a_permission_that_is_lost_in_the_middle_of_a_sweep(dialect, wanted, code) -> None:
    """The first call is received and takes most; what is left over has to go another way."""
    world = Opposite(dialect, orders=60, faults=("stragglers=5,times=always", "late_order=0.01,times=1"))
    world.connect()
    world.trip(wanted)
    world.after(0.02, lambda: world.exchange.faults.inject(f"error={code},times=always"))
    world.run(world.verified, DEADLINE_S)
    assert {world.exchange.orders[o].order_id for o in world.cancelled()} == orders_in(world, wanted)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_traders_credential_takes_what_is_its_own_and_the_accounts(dialect) -> None:
    """Not an operator: the whole OMS, another user, and on v2 another user's single orders are Not Authorized."""
    for wanted in (scope(), scope(instrument=25), scope(14), scope(14, 40), scope(EVERY, 40), scope(14, EVERY, 25)):
        world = Opposite(dialect, api_user=37)
        world.connect()
        world.trip(wanted)
        proven(world, wanted)


def test_orders_of_ones_own_go_though_those_of_others_may_not_be_cancelled_one_by_one() -> None:
    """v2, a trader, every CancelAllOrders refused: more than a batch of own orders, and as many of another user's."""
    world = Opposite(V2, api_user=37, orders=500, accounts=(14,), faults=("error=20,times=always",))
    world.connect()
    world.trip(scope(14))
    mine = orders_in(world, scope(14, 37))
    world.run(lambda: world.cancelled() == mine, DEADLINE_S)
    assert world.view().state == "escalated"
    tried = len(world.said("CancelOrder"))
    world.wait(20.0)
    assert world.cancelled() == mine
    assert world.view().orders_left == 250
    assert len(world.said("CancelOrder")) - tried <= 10, "of those that were refused one at a time is tried again"


def test_a_v2_server_that_wants_the_account_beside_the_order() -> None:
    """It is called v2, tells no version, and takes CancelOrder in the form of its successors only."""
    world = Opposite(V3, says=V2, version="", faults=("error=106,times=always",))
    world.connect()
    world.trip(scope(14))
    proven(world, scope(14))
    assert all(body["OrderId"] >= BASE for body in world.said("CancelOrder"))


def test_another_trips_refusals_dont_put_off_when_all_is_tried_again() -> None:
    world = Opposite(V2, faults=("error=20,times=always", "error=20,call=CancelOrder,times=always"))
    world.connect()
    world.trip(scope(EVERY, 37), "t2")
    world.wait(1.0)
    sweeper = world.switch._parts.sweeper
    first = sweeper.trips["t2"].sweep.refused_at
    assert first < world.now
    answer = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")
    call = Call(10_000, "CancelAllOrders", "prime", 1, world.now, scope(14), cancels=True)
    sweeper.refusals.refused(call, answer, world.now)
    assert sweeper.trips["t2"].sweep.refused_at == first


def test_two_trips_that_meet_dont_keep_each_other_from_trying_again() -> None:
    everything = ("error=20,times=always", "error=20,call=CancelOrder,times=always")
    world = Opposite(V2, faults=everything)
    world.connect()
    world.trip(scope(14), "t1")
    world.wait(2.3)
    world.trip(scope(EVERY, 37), "t2")
    world.wait(60.0)
    before = len(world.exchange.log.requests)
    world.wait(12.0)
    said = [r for r in list(world.exchange.log.requests)[before:] if r.name == "CancelAllOrders"]
    assert {frozenset(r.body) - {"OMSId"} for r in said} >= {frozenset({"AccountId"}), frozenset({"UserId"})}
    world.exchange.faults.clear()
    world.run(lambda: world.verified("t1") and world.verified("t2"), 8.0)


def test_a_list_that_fails_costs_one_more_list_and_not_the_whole_round() -> None:
    world = Opposite(V2, faults=("error=102,call=GetOpenOrders,times=2",))
    world.connect()
    world.trip(scope())
    proven(world, scope())
    assert len(world.said("GetOpenOrders")) == 3 + 2 + 3


def test_many_orders_that_go_one_by_one_dont_wait_for_each_other() -> None:
    """Five hundred of a user on a server that can't be told of users: no round waits longer the more are left."""
    world = Opposite(V4, accounts=(14,), orders=1000, faults=("latency=0.02",))
    world.connect()
    world.trip(scope(14, 37))
    proven(world, scope(14, 37), 2.0)
    assert len(world.said("CancelOrder")) == 500, "none is cancelled twice"


def test_orders_that_a_server_is_slow_to_end_are_not_cancelled_again_all_the_time() -> None:
    world = Opposite(V4, accounts=(14,), orders=100, cancel_rate=40.0)
    world.connect()
    world.trip(scope(14, 37))
    proven(world, scope(14, 37))
    assert len(world.said("CancelOrder")) <= 2 * 50


def test_orders_without_an_id_are_no_single_cancels_where_the_server_wants_the_id() -> None:
    """They can't be named to v3 and v4: the scope's own call goes out again instead."""
    wanted = Scope(oms="prime", account=14, user=37, instrument=EVERY)
    world = Opposite(V4)
    row = Order(14, None, 25, 37, client_order_id=77)
    world.connect()
    world.trip(wanted)
    trip = next(iter(world.switch._parts.trips.values()))
    session = watching(world.switch._parts.book, "prime")
    assert world.switch._parts.sweeper.lanes.one_by_one(trip, 14, (row,), session, world.now) == 0
