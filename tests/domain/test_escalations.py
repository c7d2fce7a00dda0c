"""An escalation reaches people while the journal is away."""

from __future__ import annotations

from killswitch.domain.life import DISK_WAIT_S, REMIND_EVERY_S
from killswitch.domain.messages import AnnounceEvent, AnnounceState, AnnounceTrip, Journalled
from tests.domain.bench import SETTINGS, Bench, scope


def stuck() -> Bench:
    """A latched trip that nobody can sweep, while no disk takes anything."""
    bench = Bench()
    bench.journal_works = False
    bench.trip(scope(account=14))
    return bench


def told(bench: Bench) -> list[AnnounceEvent]:
    return [a for a in bench.of(AnnounceEvent) if a.kind == "escalated"]


def heal(bench: Bench) -> None:
    bench.journal_works = True
    bench.tell(Journalled(wall=bench.wall, n=bench.records[-1].n))


def test_an_escalation_waits_for_the_journal_for_a_moment_and_is_then_told_as_not_on_disk() -> None:
    bench = stuck()
    bench.tick(bench.now + SETTINGS.confirm.deadline_s + DISK_WAIT_S / 2)
    assert told(bench) == []
    bench.tick(bench.now + DISK_WAIT_S)
    (said,) = told(bench)
    assert (said.trip, said.durable) == ("t1", False)
    assert [a.state for a in bench.of(AnnounceState)] == ["escalated"]  # the lamp that people see
    assert bench.of(AnnounceTrip) == []  # a retained trip would outlive us: it waits
    heal(bench)
    assert told(bench) == [said]  # once
    assert bench.of(AnnounceTrip)[-1].trip == bench.view()


def test_an_escalation_that_the_journal_has_in_time_is_on_disk() -> None:
    bench = stuck()
    bench.tick(bench.now + SETTINGS.confirm.deadline_s + DISK_WAIT_S / 2)
    heal(bench)
    (said,) = told(bench)
    assert said.durable
    bench.tick(bench.now + DISK_WAIT_S)
    assert told(bench) == [said]


def test_reminders_reach_people_too_and_do_not_pile_up() -> None:
    bench = stuck()
    bench.tick(bench.now + SETTINGS.confirm.deadline_s + 10 * REMIND_EVERY_S + 2 * DISK_WAIT_S)
    assert [said.durable for said in told(bench)] == [False] * 11
    heal(bench)
    assert len(told(bench)) == 11


def test_the_newest_state_leaves_with_an_escalation_and_no_older_one_after_it() -> None:
    bench = stuck()
    bench.trip(scope(account=15), "t2")
    bench.tick(bench.now + SETTINGS.confirm.deadline_s + 2 * DISK_WAIT_S)
    assert bench.of(AnnounceState)[-1].state == "escalated"
    assert len(bench.of(AnnounceState)[-1].trips) == 2
    heal(bench)
    assert bench.of(AnnounceState)[-1].state == "escalated"
