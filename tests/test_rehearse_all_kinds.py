"""Rules of all kinds over random streams: the replay of a recording trips where, and when, the rules did."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from killswitch.adapters.recorder import _Lines
from killswitch.config import Rules
from killswitch.domain.messages import Keep, Reading, SessionUp, Stopping, Tick
from killswitch.rehearse import Rehearsal
from killswitch.wire.recording import Began, Line, decode, encode
from tests.domain.test_all_kinds import EVENTS, FEEDS, RULES, STEPS, D, Side
from tests.domain.watch_bench import WALL, breaches, labels


class Recorded(Side):
    """As the daemon records: what the rules took, and each time they were woken."""

    def __init__(self):
        super().__init__()
        self.held = _Lines(FEEDS)
        self.lines = [Line(Began(wall=WALL, daemon="ks"), 0.0)]
        self.tripped = []

    def trips(self, found):
        self.tripped += [(self.now, b.rule, b.scope, b.text) for b in breaches(found) if not b.repeated]

    def go_on(self, until):
        while (due := self.agenda.due()) is not None and due <= until:
            self.now = max(self.now, due)
            while (due := self.agenda.due()) is not None and due <= self.now:
                self.trips(self.take())
            self.lines += self.held.of(Tick(wall=WALL + self.now), self.now)
        self.now = until

    def give(self, event, at):
        self.go_on(at)
        event = replace(event, wall=WALL + at)
        self.trips(self.handle(event))
        self.lines += self.held.of(event, at)

    def replayed(self):
        rehearsal = Rehearsal(Rules(path=Path("ks.toml"), feeds=FEEDS, rules=RULES))
        found = [trip for line in self.lines for trip in rehearsal.take(decode(encode(line)))]
        found += rehearsal.wait(WALL + self.now)
        return [(round(trip.at - WALL, 5), trip.rule, trip.scope, trip.cause) for trip in found]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(STEPS, EVENTS), max_size=40))
def test_a_replay_of_any_recording_trips_as_the_rules_did(stream):
    live, at = Recorded(), 0.0
    live.give(SessionUp(wall=WALL, oms="prime", gateway="g", session=1), 0.0)
    for step, event in stream:
        at += step
        live.give(event, at)
    live.go_on(at + 30.0)
    made = [(round(when, 5), *rest) for when, *rest in live.tripped]
    assert sorted(live.replayed(), key=repr) == sorted(made, key=repr)


def test_windows_go_on_in_a_replay_though_nothing_came_for_long_before_the_stop():
    live = Recorded()
    its = labels(account=14)
    for at, feed, name in ((1.0, "entries", "entry"), (1.1, "entries", "entry"), (1.2, "rejects", "nack")):
        live.give(Reading(wall=WALL, feed=feed, name=name, labels=its, value=D(1)), at)
    live.go_on(4.0)
    live.lines += live.held.of(Stopping(wall=WALL + 4.0), 4.0)
    live.watch.memory.tell_again(4.0)
    kept = Keep(WALL + 4.0, 4.0, live.watch.memory.all(4.0))
    live.undo.commit()
    live.begin(4.5)
    live.watch.memory.put_back((kept,), 4.5, WALL + 4.5, WALL + 4.0)
    live.undo.commit()
    live.lines.append(Line(Began(wall=WALL + 4.5, daemon="ks"), 4.5))
    live.give(Reading(wall=WALL, feed="rejects", name="nack", labels=its, value=D(1)), 4.6)
    assert [(at, name) for at, name, *_ in live.tripped] == [(4.6, "share")]
    assert [(at, name) for at, name, *_ in live.replayed()] == [(4.6, "share")]
