"""What is remembered has a limit, and what happens there is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from killswitch.domain import people, sightings, witness
from killswitch.domain.messages import Arrived, ClearTrip, OrderEnded, OrderWorking, RetainedTripFound
from killswitch.domain.undo import Recent, Undo
from tests.domain.bench import Bench, confirmed, order, scope

if TYPE_CHECKING:
    import pytest


def test_a_recent_table_pushes_out_what_was_put_in_first_and_a_rollback_puts_it_back_in_its_place() -> None:
    undo = Undo()
    table: Recent[str, int] = Recent(undo, 3)
    for n, key in enumerate("abc"):
        table[key] = n
    undo.commit()
    table["a"] = 7  # keeps its place
    table["d"] = 3
    table["e"] = 4
    assert table.items() == (("c", 2), ("d", 3), ("e", 4))
    undo.rollback()
    assert table.items() == (("a", 0), ("b", 1), ("c", 2))
    table["d"] = 3
    assert list(table) == ["b", "c", "d"]


def working(bench: Bench, number: int) -> None:
    """An event only: no list shows the order."""
    bench.tell(OrderWorking(wall=bench.wall, oms="prime", session=1, order=order(number)))


def test_what_is_remembered_of_orders_is_bounded_and_what_was_forgotten_is_a_sight_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sightings, "OVER_MAX", 100)
    monkeypatch.setattr(sightings, "WORKING_MAX", 50)
    bench = confirmed()
    for n in range(1000, 1500):
        bench.tell(OrderEnded(wall=bench.wall, oms="prime", session=1, order=order(n), state="Canceled"))
    for n in range(2000, 2200):
        working(bench, n)
    held = bench.switch._parts.book.sightings
    assert (len(held.over), len(held.working)) == (100, 50)
    bench.settle()
    bench.forget_actions()
    working(bench, 1499)
    assert bench.cancels() == []
    working(bench, 1000)
    assert bench.cancels() == [scope(account=14)]


def test_late_arrivals_that_are_remembered_as_named_are_bounded_and_one_forgotten_is_named_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(witness, "NAMED_MAX", 10)
    bench = confirmed()
    for n in [*range(100, 115), 114, 100]:
        working(bench, n)
    assert [body.orders[0] for body in bench.bodies(Arrived)] == [*range(100, 115), 100]


def test_trips_that_ended_are_bounded_and_one_forgotten_that_a_broker_holds_is_latched_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(people, "ENDED_MAX", 2)
    bench = Bench()
    bench.connect()
    for n in range(3):
        bench.trip(scope(account=14), f"t{n}")
        bench.settle()
        bench.reset(f"t{n}", f"r{n}")
    assert bench.trips() == ()
    for n in (2, 1):
        found = RetainedTripFound(wall=bench.wall, trip=f"t{n}", scope=scope(account=14), by="ann", cause="test")
        assert ClearTrip(f"t{n}") in bench.tell(found)
    assert bench.trips() == ()
    bench.tell(RetainedTripFound(wall=bench.wall, trip="t0", scope=scope(account=14), by="ann", cause="test"))
    assert [t.trip for t in bench.trips()] == ["t0"]
