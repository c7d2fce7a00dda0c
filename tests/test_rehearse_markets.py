"""What comes of an OMS's prices, recorded: its replay trips where the daemon did, and says the same."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from killswitch.adapters.recorder import _Lines
from killswitch.config import Rules
from killswitch.domain.messages import Tick
from killswitch.domain.settings import DeadmanRule, ScopeTemplate
from killswitch.rehearse import Rehearsal
from killswitch.wire.recording import Began, Line, decode, encode
from tests.domain.test_equity import BTC, ETH, EUR, FEED, equity, notional, pings, resting
from tests.domain.watch_bench import TRIP, WALL, Bench, breaches, row, rule

D = Decimal


def trips(found):
    return [(b.rule, b.scope.account, b.text) for b in breaches(found) if not b.repeated]


class Recorded(Bench):
    """A bench whose events are recorded as the daemon's are."""

    def __init__(self, *rules, feeds=(FEED,)):
        super().__init__(*rules, feeds=feeds)
        self.rules = rules
        self.held = _Lines(feeds)
        self.lines = [Line(Began(wall=WALL, daemon="ks"), 0.0)]
        self.tripped = []

    def until(self, now):
        found = []
        while (due := self.agenda.due()) is not None and due <= now:
            found += super().until(max(due, self.now))
            self.lines += self.held.of(Tick(wall=WALL + self.now), self.now)
        found += super().until(now)
        self.tripped += trips(found)
        return found

    def feed(self, event, at=None):
        before = len(self.tripped)
        found = super().feed(event, at)
        self.tripped[before:] = trips(found)
        self.lines += self.held.of(replace(event, wall=WALL + self.now), self.now)
        return found

    def replayed(self):
        rehearsal = Rehearsal(Rules(path=Path("ks.toml"), feeds=(FEED,), rules=self.rules))
        found = [t for line in self.lines for t in rehearsal.take(decode(encode(line)))]
        found += rehearsal.wait(WALL + self.now)
        return [(t.rule, t.scope.account, t.cause) for t in found]


@pytest.mark.parametrize("silent", [False, True])
def test_a_recording_of_it_trips_where_the_daemon_did(silent):
    bench = Recorded(
        equity(on_stale=TRIP),
        notional(on_stale=TRIP),
        rule(
            name="crash",
            reading="price",
            above=None,
            below=D(500),
            scope=replace(rule().scope, account=21),
            on_stale=TRIP,
        ),
    )
    bench.session()
    bench.instruments(BTC, ETH, EUR)
    bench.positions(14, row(14, "BTC", 2), row(14, "USD", 100))
    bench.positions(15, row(15, "XRP", 2))
    bench.orders(14)
    bench.price(1, 599, 601)
    bench.working(resting(1, 1, None), at=1.0)
    pings(bench, 25.0)
    bench.price(1, 440, 440)
    bench.price(1, 2000, 2000, at=27.0)
    bench.position(row(14, "BTC", "0.1"), at=28.0)
    bench.position(row(14, "USD", 4000), at=28.05)
    bench.position(row(14, "USD", 300), at=28.5)
    bench.position(row(14, "BTC", 2), at=29.0)
    if silent:
        bench.price(1, at=30.0)
        pings(bench, 60.0)
    bench.price(1, 600, 600, at=bench.now + 1)
    bench.end(1)
    bench.until(bench.now + 60.0)
    assert len(bench.tripped) >= 6
    assert bench.replayed() == bench.tripped


def test_what_time_alone_told_of_an_oms_is_no_beat_of_its_heart_in_a_replay_either():
    scope = ScopeTemplate(oms="prime", account=16)
    bench = Recorded(equity(), DeadmanRule(name="heart", owner="desk", feed=FEED.name, silent_s=2.0, scope=scope))
    bench.session()
    bench.instruments(BTC)
    bench.price(1, 600, 600)
    bench.positions(14, row(14, "USD", 5000))
    bench.position(row(14, "USD", 4000), at=1.0)  # its equity is told 0.1 s later, by time alone
    bench.position(row(14, "USD", 4500), at=3.05)
    bench.until(20.0)
    assert [name for name, _, _ in bench.tripped] == ["heart", "heart"]
    assert bench.replayed() == bench.tripped


def crash():
    return rule(
        name="crash", reading="price", above=None, below=D(500), scope=replace(rule().scope, account=21), on_stale=TRIP
    )


def test_a_price_that_comes_on_another_session_after_a_silence_replays_as_no_stale_one():
    bench = Recorded(crash())
    bench.session(1, at=1.0)
    bench.price(2, last=800, at=2.0)
    bench.session(2, at=3.0)
    bench.price(1, last=800, at=4.0, session=2)
    bench.heard(1, at=8.0)
    bench.price(2, last=900, at=40.0, session=2)  # until now the feed was silent as a whole
    assert len(bench.tripped) == 1  # the silence
    assert bench.replayed() == bench.tripped


def test_a_price_that_can_be_told_again_after_a_silence_replays_as_no_stale_one():
    bench = Recorded(crash())
    bench.session(1, at=1.0)
    bench.price(1, last=800, at=2.0)
    bench.price(1, at=2.1)
    bench.heard(1, at=8.0)
    bench.price(1, last=900, at=15.0)
    before = list(bench.tripped)
    bench.until(20.0)
    assert bench.tripped == before
    assert bench.replayed() == bench.tripped


def test_a_list_after_a_silence_replays_all_of_its_rows_as_fresh():
    bench = Recorded(rule(name="btc", reading="position", where=(("product", "BTC"),), above=D(9000), on_stale=TRIP))
    bench.session(1, at=1.0)
    bench.position(row(14, "BTC", 2000), at=2.0)
    bench.positions(15, row(15, "USD", 0), at=3.0)
    bench.session(2, at=4.0)
    bench.positions(14, row(14, "ETH", 2), row(14, "EUR", 1), row(14, "BTC", 2), at=40.0, session=2)
    assert bench.replayed() == bench.tripped
