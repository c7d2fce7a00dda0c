"""Receipts wait for the journal, cancels don't; and a broker never runs out of room for the next panic."""

from __future__ import annotations

from killswitch.domain.messages import (
    Acknowledge,
    AnnounceEvent,
    AnnounceState,
    AnnounceTrip,
    BrokerDown,
    BrokerUp,
    ButtonPressed,
    CancelAllOrders,
    CommandRefused,
    JournalFailed,
    Journalled,
    LookRequested,
    Preview,
    Receipt,
    Record,
)
from tests.domain.bench import Bench, fold_records, order, scope


def stuck() -> Bench:
    """A bench whose journal takes nothing."""
    bench = Bench()
    bench.connect()
    bench.journal_works = False
    bench.tell(JournalFailed(wall=bench.wall, why="the disk is full"))
    return bench


def heal(bench: Bench) -> None:
    bench.journal_works = True
    bench.tell(Journalled(wall=bench.wall, n=bench.records[-1].n))


def test_the_cancel_leaves_while_the_receipt_waits_for_the_journal() -> None:
    bench = stuck()
    bench.trip(scope(account=14))
    assert len(bench.of(CancelAllOrders)) == 1
    assert bench.of(Receipt, Acknowledge, AnnounceTrip) == []
    assert bench.switch.view(bench.now).commands_waiting == 1
    heal(bench)
    assert [(r.accepted, r.durable, r.token) for r in bench.of(Receipt)] == [(True, True, "t1")]
    assert [a.token for a in bench.of(Acknowledge)] == ["t1"]
    assert bench.of(AnnounceTrip)


def test_a_receipt_waits_for_its_own_record_and_for_no_later_one() -> None:
    bench = stuck()
    bench.trip(scope(account=14), "a")
    n = bench.records[-1].n
    bench.trip(scope(account=15), "b")
    bench.tell(Journalled(wall=bench.wall, n=n - 1))
    assert bench.of(Receipt) == []
    bench.tell(Journalled(wall=bench.wall, n=n))
    assert [r.id for r in bench.of(Receipt)] == ["a"]


def test_with_the_journal_away_the_oldest_are_acknowledged_and_the_next_panic_is_carried_out() -> None:
    bench = stuck()
    for i in range(100):
        bench.tell(
            CommandRefused(wall=bench.wall, command="trip", id=None, reason="no JSON", via="mqtt", token=f"junk{i}")
        )
    assert len(bench.of(Acknowledge)) == 100, "junk is acknowledged at once"
    bench.forget_actions()
    for i in range(30):
        bench.trip(scope(account=14, instrument=i + 1), f"c{i}")
    unacknowledged = 30 - len(bench.of(Acknowledge))
    assert unacknowledged < 10, "half of the window of a broker that has told nothing"
    assert [(r.id, r.durable) for r in bench.of(Receipt)] == [(f"c{i}", False) for i in range(30 - unacknowledged)]
    bench.forget_actions()
    bench.trip(scope(account=15), "last")
    assert scope(account=15) in bench.cancels()
    bench.forget_actions()
    heal(bench)
    assert {r.id for r in bench.of(Receipt) if r.durable} == {*(f"c{i}" for i in range(30)), "last"}
    tokens = [a.token for a in bench.of(Acknowledge)]
    assert len(tokens) == len(set(tokens)) == unacknowledged, "none is acknowledged twice"


def test_a_broker_that_told_its_window_gets_half_of_it() -> None:
    bench = stuck()
    bench.tell(BrokerUp(wall=bench.wall, broker="b:1", window=1000))
    for i in range(100):
        bench.trip(scope(account=14, instrument=i + 1), f"c{i}")
    assert bench.of(Acknowledge) == []


def test_a_delivery_of_a_connection_that_is_gone_is_not_acknowledged_any_more() -> None:
    bench = stuck()
    bench.trip(scope(account=14), token="old")
    bench.tell(BrokerDown(wall=bench.wall, broker="b:1", why="cut"))
    bench.trip(scope(account=14), token="new")  # the broker delivers it again
    heal(bench)
    assert [a.token for a in bench.of(Acknowledge)] == ["new"]
    assert {r.trip for r in bench.of(Receipt)} == {"t1"}


def test_a_command_over_http_is_answered_and_no_broker_is_told() -> None:
    bench = Bench()
    bench.connect()
    bench.trip(scope(account=14), via="http")
    assert [(r.via, r.accepted) for r in bench.of(Receipt)] == [("http", True)]
    assert bench.of(Acknowledge) == []


def test_what_is_malformed_is_acknowledged_told_and_changes_nothing() -> None:
    bench = Bench()
    bench.connect()
    records = len(bench.records)
    bench.tell(CommandRefused(wall=bench.wall, command="trip", id="x", reason="unknown key", via="mqtt", token="T"))
    assert [(r.id, r.accepted, r.reason) for r in bench.of(Receipt)] == [("x", False, "unknown key")]
    assert [a.token for a in bench.of(Acknowledge)] == ["T"]
    assert [a.kind for a in bench.of(AnnounceEvent)][-1] == "refused"
    assert len(bench.records) == records
    bench.trip(scope(account=14), "x")
    assert bench.state("x") == "sweeping", "an id that was never carried out is free"


def test_noise_on_a_panic_topic_is_acknowledged_in_silence() -> None:
    bench = Bench()
    bench.tell(CommandRefused(wall=bench.wall, command="panic", id=None, reason="-", via="mqtt", token="T", noise=True))
    assert [type(a) for a in bench.actions] == [Acknowledge]


def test_a_button_is_acknowledged_once_its_trip_is_on_disk_and_has_no_receipt() -> None:
    bench = stuck()
    bench.tell(ButtonPressed(wall=bench.wall, button="b", scope=scope(account=14), via="mqtt", token="T"))
    assert bench.of(Acknowledge) == []
    heal(bench)
    assert [a.token for a in bench.of(Acknowledge)] == ["T"]
    assert bench.of(Receipt) == []


def test_a_button_pressed_again_after_a_restart_finds_its_own_trip() -> None:
    first = Bench()
    first.connect()
    first.tell(ButtonPressed(wall=first.wall, button="desk", scope=scope(account=14), via="mqtt", token="T"))
    again = Bench(restored=fold_records(first.records), now=1.0)
    again.connect()
    again.tell(ButtonPressed(wall=again.wall, button="desk", scope=scope(account=14), via="mqtt", token="U"))
    assert len(again.trips()) == 1


def test_what_trips_is_written_in_the_same_pass() -> None:
    bench = Bench()
    bench.connect()
    bench.journal_works = False
    bench.trip(scope(account=14))
    urgent = [type(r.body).__name__ for r in bench.of(Record) if r.urgent]
    assert urgent == ["Tripped", "Commanded"]


def test_the_journals_failure_is_told_once_and_shows_until_it_writes_again() -> None:
    bench = stuck()
    bench.tell(JournalFailed(wall=bench.wall, why="the disk is full"))
    assert [a.kind for a in bench.of(AnnounceEvent)].count("journal_failed") == 1
    view = bench.switch.view(bench.now)
    assert not view.ready
    assert view.journal_error == "the disk is full"
    bench.trip(scope(account=14))
    heal(bench)
    assert bench.switch.view(bench.now).ready


def test_a_preview_lists_once_and_neither_trips_nor_cancels() -> None:
    bench = Bench()
    bench.connect()
    bench.orders = {1: order(1), 2: order(2, user=None), 3: order(3, account=15)}
    bench.tell(LookRequested(wall=bench.wall, scope=scope(account=14, user=37), token="P"))
    while bench.step():
        pass
    (preview,) = bench.of(Preview)
    assert preview.token == "P"
    assert {o.order_id for o in preview.orders} == {1, 2}, "what may be in scope is shown too"
    assert preview.accounts_looked_at == (14,)
    assert bench.cancels() == []
    assert bench.trips() == ()


def test_a_preview_names_the_accounts_that_could_not_be_looked_at() -> None:
    bench = Bench()
    bench.tell(LookRequested(wall=bench.wall, scope=scope(), token="none"))
    bench.connect()
    bench.tell(LookRequested(wall=bench.wall, scope=scope(), token="cut"))
    bench.step()
    bench.disconnect()
    first, second = bench.of(Preview)
    assert (first.accounts_looked_at, first.accounts_failed) == ((), (14, 15))
    assert (second.accounts_looked_at, second.accounts_failed) == ((14,), (15,))


def test_changes_that_come_faster_than_the_disk_still_let_announcements_leave() -> None:
    """Each change replaces the one before that waits; were all of them replaced, a lamp would stay green for ever."""
    bench = Bench()
    bench.connect()
    bench.forget_actions()
    bench.journal_works = False
    bench.trip(scope(account=14))
    for n in range(20):
        written = bench.records[-1].n
        bench.working(order(n + 1))
        bench.step()
        bench.tell(Journalled(wall=bench.wall, n=written))
    assert {a.trip.state for a in bench.of(AnnounceTrip)} == {"sweeping"}
    assert {a.state for a in bench.of(AnnounceState)} == {"sweeping"}
    bench.tell(Journalled(wall=bench.wall, n=bench.records[-1].n))
    assert bench.of(AnnounceTrip)[-1].trip == bench.view(), "the newest is the last to leave"
    assert len(bench.of(AnnounceTrip)) < 30


def test_of_the_announcements_that_wait_the_first_and_the_newest_leave_in_their_order() -> None:
    bench = Bench()
    bench.connect()
    bench.journal_works = False
    bench.trip(scope(account=14))
    for n in range(20):
        bench.working(order(n + 1))
        bench.step()
    bench.forget_actions()
    bench.tell(Journalled(wall=bench.wall, n=bench.records[-1].n))
    told = [a.trip for a in bench.of(AnnounceTrip)]
    assert len(told) == 2
    assert told[-1] == bench.view()
    assert told[0].calls <= told[-1].calls
