"""Every interleaving of a small world, to a depth; and proof that it finds what is wrong with a core by itself.

EXPLORE_DEPTH says how much deeper than in every test run: 0 by default, 7 takes many minutes.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from killswitch.domain.asking import Asking
from killswitch.domain.messages import OpenOrders
from killswitch.domain.sweep import Sweep
from killswitch.domain.sweeper import Sweeper
from killswitch.domain.trips import State
from tests.sim import world
from tests.sim.explorer import Budget, Explorer, begun, make, told
from tests.sim.fingerprint import fingerprint
from tests.sim.memento import put_back, save
from tests.sim.test_sim import (
    CancelsAfterTheReset,
    Changed,
    ForgetsItsLatches,
    IsDeafToOrders,
    RaisesAtAReset,
    StopsLooking,
    Widens,
)

DEEPER = int(os.environ.get("EXPLORE_DEPTH", "0"))

# What may happen on one way, how many gateways, where it begins, and how deep a short run goes.
SHARES = {
    "one fault": (Budget(faults=1, orders=0, resets=1), 1, False, 7),
    "one fault, two sessions": (Budget(faults=1, orders=0, resets=1), 2, False, 6),
    "no fault, orders and resets": (Budget(faults=0, orders=1, resets=1), 1, False, 10),
    "all of it, once both are confirmed": (Budget(faults=1, orders=1, resets=1), 1, True, 5),
}


@pytest.mark.timeout(max(300, 4**DEEPER))
@pytest.mark.parametrize("share", SHARES)
def test_no_interleaving_of_the_small_world_breaks_what_must_hold(share, capsys):
    budget, gateways, latched, depth = SHARES[share]

    tally = Explorer(budget, gateways=gateways, latched=latched).run(depth + DEEPER)

    with capsys.disabled():
        print(f"\nexplored, {share}: {tally}")
    assert not tally.why, told(tally.way, gateways, latched=latched)
    assert tally.states > 1000
    assert tally.folded > tally.states // 10


def test_a_state_that_was_put_back_goes_on_as_it_did():
    small = begun(1, latched=False)
    small.press(0)
    held, before = save(small), fingerprint(small)
    ways = []
    for _ in range(2):
        for _ in range(6):
            make(small, ("do", 0, None) if small.waiting else ("tick", 0, None))
        small.press(1)
        ways.append((fingerprint(small), small.now, small.judge.last_n, small.judge.cancels_written))
        put_back(held)
        assert fingerprint(small) == before

    assert ways[0] == ways[1]


def test_states_that_only_counters_and_clocks_tell_apart_are_one():
    small = begun(1, latched=True)
    marks = []
    for _ in range(8):
        make(small, ("do", 0, None) if small.waiting else ("tick", 0, None))
        marks.append(fingerprint(small))

    assert len(set(marks)) < len(marks)


# --- it finds what is wrong by itself ------------------------------------------------------------------------


class TakesAnotherCallsAnswer(Changed):
    """A list that nobody waits for any more is taken for the one that is under way."""

    def handle(self, event, now):
        book = self._parts.book
        if isinstance(event, OpenOrders) and event.call not in book.calls:
            under_way = [c.number for c in book.calls.values() if c.name == "GetOpenOrders"]
            event = replace(event, call=under_way[0]) if under_way else event
        return super().handle(event, now)


ONE_FAULT = Budget(faults=1, orders=0, resets=0)
ORDERS = Budget(faults=0, orders=1, resets=0)
RESETS = Budget(faults=0, orders=0, resets=1)
ALL = Budget(faults=1, orders=1, resets=1)


def explored(budget, *, latched=False):
    """Where something is latched each state is run on: what nobody looks at any more shows only then."""
    return Explorer(budget, sample=1 if latched else 100, latched=latched).run(14, states=12_000)


def found(said, tally):
    print(f"{tally}, after {len(tally.way)} moves: {tally.way}")
    return said in tally.why


@pytest.mark.parametrize(
    ("wrong", "budget", "latched", "said"),
    [
        (Widens, ONE_FAULT, False, "is in no latched scope"),
        (ForgetsItsLatches, ONE_FAULT, False, "the records say"),
        (CancelsAfterTheReset, ALL, True, "is in no latched scope"),
        (RaisesAtAReset, ALL, True, "set aside"),
        (IsDeafToOrders, ORDERS, False, "shown by an event, is open"),
        (StopsLooking, ORDERS, False, "not at rest"),
        (TakesAnotherCallsAnswer, ONE_FAULT, False, "VERIFIED without list"),
    ],
)
def test_a_core_with_one_thing_wrong_is_found_out_by_looking_everywhere(monkeypatch, wrong, budget, latched, said):
    monkeypatch.setattr(world, "KillSwitch", wrong)

    assert found(said, explored(budget, latched=latched))


def counts_everything(sweep, listed, proving):
    return True


def carried_by_any(sweep, session, plan):
    return all(any(scope.covers(part) for _, scope in sweep.carried) for part in plan)


def moves_no_mark(sweep, next_call, now):
    return sweep


real_go_on = Asking.go_on


def asks_without_guard(asking, oms, now):
    held = asking._evidence.latched(oms)
    if not any(t.state is State.CONFIRMED for t in held):
        real_go_on(asking, oms, now)
    for trip in held:
        asking._agenda.clear(("blind", trip.id))  # else it notices by itself that nobody looks


def keeps_its_proof(sweeper, session):
    return


@pytest.mark.parametrize(
    ("changes", "budget", "latched", "said"),
    [
        ({(Sweep, "counts"): counts_everything}, ONE_FAULT, False, "VERIFIED without list"),
        (
            {(Sweep, "carried_by"): carried_by_any, (Sweeper, "session_down"): keeps_its_proof},
            ONE_FAULT,
            False,
            "VERIFIED without list",
        ),
        ({(Sweep, "touched"): moves_no_mark}, ONE_FAULT, False, "VERIFIED without list"),
        ({(Asking, "go_on"): asks_without_guard}, ALL, True, "not at rest"),
    ],
    ids=["any list as proof", "proof kept across sessions", "marks that don't move", "no guard"],
)
def test_a_sweep_with_one_thing_wrong_is_found_out_by_looking_everywhere(monkeypatch, changes, budget, latched, said):
    for (where, name), wrong in changes.items():
        monkeypatch.setattr(where, name, wrong)

    assert found(said, explored(budget, latched=latched))
