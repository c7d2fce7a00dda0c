"""What each dialect can say, written out; and every plan carried out against a simulated OMS of that dialect.

The simulator has tables of its own: it shares nothing with the ones that are tried here.
"""

from __future__ import annotations

import json
from itertools import product

import pytest

from killswitch.domain.dialects import POOREST, Dialect, can_say, dialect_of, in_words, narrowest, plan
from killswitch.domain.scope import EVERY, Scope
from killswitch.simulator.calls import answer
from killswitch.simulator.world import SimulatorOptions, build
from killswitch.wire import alphapoint

V2, V3, V4 = Dialect.V2, Dialect.V3, Dialect.V4
BASE = 5_000_000_000
ACCOUNTS = (14, 15, 16)


def scope(account=EVERY, user=EVERY, instrument=EVERY) -> Scope:
    return Scope(oms="prime", account=account, user=user, instrument=instrument)


SCOPES = [scope(*parts) for parts in product((EVERY, 14, 16), (EVERY, 37, 40), (EVERY, 25))]

# Which of the eight forms one call can say: account, user, instrument; on v2, v3, v4.
SAID = [
    (scope(14, 37, 25), True, False, False),
    (scope(14, 37), True, False, False),
    (scope(EVERY, 37, 25), True, False, False),
    (scope(EVERY, 37), True, False, False),
    (scope(14, EVERY, 25), True, False, True),
    (scope(14), True, True, True),
    (scope(EVERY, EVERY, 25), True, False, True),
    (scope(), True, True, True),
]


@pytest.mark.parametrize(("wanted", "v2", "v3", "v4"), SAID, ids=lambda v: v.in_words() if isinstance(v, Scope) else "")
def test_what_one_call_can_say_is_written_out(wanted, v2, v3, v4):
    assert [can_say(d, wanted, whole_oms=True) for d in (V2, V3, V4)] == [v2, v3, v4]
    without = [said and not wanted.whole for said in (v2, v3, v4)]
    assert [can_say(d, wanted, whole_oms=False) for d in (V2, V3, V4)] == without


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.23", V2), ("2.23.1", V2), ("v2.0", V2), ("3.3.3", V3), ("3.5.20.14", V3), ("4.3.65.1063", V4), (" 4.4 ", V4)],
)
def test_a_version_says_which_dialect(version, expected):
    assert dialect_of(version) is expected


@pytest.mark.parametrize(
    "version",
    ["", "4", "5.0.1", "1.9", "24.1", "2..3", "4.3-beta", "build of Tuesday", "2.x", "x 2.23", "\u0664.3", "2.23\n2.23",
     "9" * 5000, "2." + "9" * 5000],
)  # fmt: skip
def test_a_version_that_tells_nothing_sure_is_the_poorest_dialect(version):
    assert dialect_of(version) is POOREST
    assert all(can_say(d, s, whole_oms=True) for s in SCOPES for d in Dialect if can_say(POOREST, s, whole_oms=True))


def test_a_person_is_told_what_goes_order_by_order():
    assert in_words(V2) == "v2, which is told account, user, instrument"
    assert (
        in_words(V3) == "v3, which is told account; a scope that names user or instrument is cancelled order by order"
    )
    assert in_words(V4) == "v4, which is told account, instrument; a scope that names user is cancelled order by order"


# Against the simulated OMS.


class World:
    """Twelve orders on three accounts, by two users, in two instruments; every third shows no user at will."""

    def __init__(self, dialect: Dialect, *, nameless_every: int = 0) -> None:
        options = SimulatorOptions(dialect=dialect.value, orders=12, first_order_id=BASE, nameless_every=nameless_every)
        self.dialect = dialect
        self.exchange = build(options)

    def ask(self, name: str, text: str):
        said = answer(self.exchange, self.exchange.users[1], name, text, 0.0)
        self.exchange.advance(0.0)
        return json.loads(said)

    def ids(self, wanted: Scope) -> set[int]:
        parts = {
            part: value
            for part, value in (("account", wanted.account), ("user", wanted.user), ("instrument", wanted.instrument))
            if value is not EVERY
        }
        return self.exchange.open_ids(**parts)

    def call(self, wanted: Scope) -> None:
        request = alphapoint.cancel_all_orders(1, wanted, dialect=self.dialect)
        assert self.ask(request.name, request.payload)["result"] is True

    def one_by_one(self, wanted: Scope, account: int) -> None:
        for row in self.ask("GetOpenOrders", json.dumps({"OMSId": 1, "AccountId": account})):
            mine = wanted.user in (EVERY, row["EnteredBy"]) and wanted.instrument in (EVERY, row["Instrument"])
            if mine:
                request = alphapoint.cancel_order(1, account, row["OrderId"], None, dialect=self.dialect)
                assert self.ask(request.name, request.payload)["result"] is True

    def gone(self) -> set[int]:
        return {ending.order_id for ending in self.exchange.log.endings}


def refusals(wanted: Scope) -> list[frozenset[Scope]]:
    """None of the calls refused, the widest, one account's as well, all of them."""
    per_account = [scope(a, wanted.user, wanted.instrument) for a in ACCOUNTS]
    return [frozenset(), frozenset({wanted}), frozenset({wanted, per_account[0]}), frozenset({wanted, *per_account})]


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", SCOPES, ids=lambda s: s.in_words())
@pytest.mark.parametrize("whole_oms", [True, False])
def test_every_plan_cancels_exactly_the_scopes_orders(dialect, wanted, whole_oms):
    accounts = ACCOUNTS if wanted.account is EVERY else (wanted.account,)
    for refused in refusals(wanted):
        world = World(dialect)
        expected = world.ids(wanted)
        found = plan(dialect, wanted, accounts, whole_oms=whole_oms, refused=refused)
        for call in found.calls:
            before = world.gone()
            inside = world.ids(call)
            world.call(call)
            assert world.gone() - before == inside, "one call took what it didn't say"
        for account in found.by_order:
            world.one_by_one(wanted, account)
        assert world.gone() == expected
        assert not refused & set(found.calls)
        assert found.lists == accounts


@pytest.mark.parametrize("dialect", list(Dialect))
def test_no_plan_names_everybody_unless_the_scope_does_and_it_is_allowed(dialect):
    for wanted, refused in ((s, r) for s in SCOPES for r in refusals(s)):
        for whole_oms in (True, False):
            for call in plan(dialect, wanted, ACCOUNTS, whole_oms=whole_oms, refused=refused).calls:
                assert wanted.covers(call)
                assert not call.whole or (wanted.whole and whole_oms)
                if dialect is not V2:
                    assert call.user is EVERY
                    assert call.account is not EVERY or wanted.whole
                if dialect is V3:
                    assert call.instrument is EVERY


@pytest.mark.parametrize("dialect", list(Dialect))
def test_an_account_that_isnt_known_is_reached_only_by_a_call_that_says_every(dialect):
    for wanted in SCOPES:
        if wanted.account is not EVERY:
            continue
        world = World(dialect)
        found = plan(dialect, wanted, (14, 15), whole_oms=False)
        for call in found.calls:
            world.call(call)
        for account in found.by_order:
            world.one_by_one(wanted, account)
        accounts = {world.exchange.orders[order].account for order in world.gone()}
        assert accounts == ({14, 15, 16} if found.calls == (wanted,) else {14, 15})


@pytest.mark.parametrize("dialect", list(Dialect))
def test_an_order_that_nobody_entered_is_nobodys_to_cancel(dialect):
    wanted = scope(14, 37)
    world = World(dialect, nameless_every=2)  # user 37's orders in instrument 25 show user 0
    found = plan(dialect, wanted, (14,), whole_oms=False, refused=frozenset({wanted}))
    assert (found.calls, found.by_order) == ((), (14,))
    world.one_by_one(wanted, 14)
    assert world.gone() == {BASE + 1}


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", SCOPES, ids=lambda s: s.in_words())
def test_the_narrowest_call_takes_the_order_and_nothing_outside_the_scope(dialect, wanted):
    world = World(dialect)
    for order in [world.exchange.orders[i] for i in sorted(world.ids(wanted))]:
        for instrument in (order.instrument, None):
            call = narrowest(dialect, wanted, order.account, instrument)
            if call is None:
                assert dialect is not V2
                continue
            assert wanted.covers(call)
            trial = World(dialect)
            inside = trial.ids(call)
            trial.call(call)
            assert order.order_id in trial.gone()
            assert trial.gone() == inside


def test_the_narrowest_calls_are_as_narrow_as_the_dialect_can_say():
    whole = scope()
    assert [narrowest(d, whole, 14, 25) for d in (V2, V3, V4)] == [
        scope(14, EVERY, 25), scope(14), scope(14, EVERY, 25),
    ]  # fmt: skip
    assert [narrowest(d, scope(14, EVERY, 25), 14, 25) for d in (V2, V3, V4)] == [
        scope(14, EVERY, 25), None, scope(14, EVERY, 25),
    ]  # fmt: skip
    assert [narrowest(d, scope(EVERY, 37), 14, 25) for d in (V2, V3, V4)] == [scope(14, 37, 25), None, None]


def test_what_a_server_would_read_as_something_wider_never_becomes_a_request():
    for dialect, wanted in product(Dialect, SCOPES):
        if can_say(dialect, wanted, whole_oms=True):
            alphapoint.cancel_all_orders(1, wanted, dialect=dialect)
            continue
        with pytest.raises(ValueError, match="would cancel more than"):
            alphapoint.cancel_all_orders(1, wanted, dialect=dialect)


@pytest.mark.parametrize("dialect", [V3, V4])
def test_newer_servers_are_told_the_account_and_the_order_and_nothing_less(dialect):
    request = alphapoint.cancel_order(1, 14, BASE, 77, dialect=dialect)
    assert json.loads(request.payload) == {"OMSId": 1, "OrderId": BASE, "AccountId": 14}
    for account, order in ((None, BASE), (14, None)):
        with pytest.raises(ValueError, match="OrderId and its AccountId together"):
            alphapoint.cancel_order(1, account, order, 77, dialect=dialect)
