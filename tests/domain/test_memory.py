"""Windows outlive the process: what is told of them, how seldom, and what a restart makes of it."""

import contextlib
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.messages import ClockStepped, FeedUp, Keep, Reading, Record, Restored, Tick, Tripped
from killswitch.domain.switch import KillSwitch
from killswitch.domain.undo import Agenda, Undo
from killswitch.domain.watch import memory as memory_module
from killswitch.domain.watch.rules import Watch
from killswitch.wire import kept as wire
from tests.domain.bench import SETTINGS
from tests.domain.test_rates import OFTEN, rate
from tests.domain.watch_bench import WALL, edges, labels

D = Decimal
KEY = ("var", "var", labels(account=14))


class Lives:
    """A Watch that tells what must outlive it, by real bytes, and its next life.

    `rows`: what is on disk. `wall_ahead`: how far the wall clock runs before the other one.
    """

    def __init__(self, *rules, feeds=(OFTEN,), now=0.0):
        self.rules, self.feeds = rules, feeds
        self.now, self.wall_ahead = now, WALL
        self.rows, self.keeps = {}, []
        self.stopped_wall = 0.0
        self.begin()

    def begin(self):
        self.undo = Undo()
        self.agenda = Agenda(self.undo)
        self.watch = Watch(self.feeds, self.rules, self.undo, self.agenda, self.now, keeps=True)
        kept = tuple(wire.decode(row) for row in self.rows.values())
        self.watch.memory.put_back(kept, self.now, self.wall, self.stopped_wall)
        self.undo.commit()

    @property
    def wall(self):
        return self.now + self.wall_ahead

    def keep(self, windows):
        if windows:
            self.keeps.append((self.now, windows))
        for window in windows:
            self.rows.pop(wire.key_of(window), None)
            if window.slices:
                self.rows[wire.key_of(window)] = wire.encode(window, self.wall, self.now)

    def until(self, now):
        found = []
        while (due := self.agenda.due()) is not None and due <= now:
            self.now = max(self.now, due)
            what = self.agenda.take(self.now)
            if what[0] == "keep":
                self.keep(self.watch.memory.wake(what, self.now))
            else:
                found += self.watch.wake(what, self.now)
            self.undo.commit()
        self.now = max(now, self.now)
        return found

    def up(self, at):
        self.until(at)
        self.watch.handle(FeedUp(wall=self.wall, feed="var"), self.now)
        self.undo.commit()

    def var(self, value, at, number=14, *, undone=False):
        """What a reading gave. `undone`: its pass failed."""
        found = self.until(at)
        event = Reading(feed="var", name="var", labels=labels(account=number), wall=self.wall, value=D(str(value)))
        found += self.watch.handle(event, self.now)
        if undone:
            self.undo.rollback()
            return []
        self.undo.commit()
        return found

    def kill(self, back_at):
        """SIGKILL: what wasn't told is lost. The next life begins at `back_at`."""
        self.now = back_at
        self.begin()

    def stop(self, back_at):
        """SIGTERM: everything is told."""
        self.keep(self.watch.memory.all(self.now))
        self.stopped_wall = self.wall
        self.undo.commit()
        self.kill(back_at)

    def view(self, name="r"):
        return {view.rule: view for view in self.watch.view(self.now)[0]}[name]

    def recall(self):
        """As the first reading of the series does."""
        for rule in self.rules:
            self.watch.memory.recall(rule, KEY, self.now)

    def measure(self, rule, now=None):
        self.recall()
        return self.watch._roster.windows.measure(rule, KEY, self.now if now is None else now)


def killed_with_three(back_at, **more):
    """Three readings were allowed and came at 10, 11 and 12; then SIGKILL at 14."""
    lives = Lives(rate(**more))
    lives.up(0.0)
    for at in (10.0, 11.0, 12.0):
        assert lives.var(1, at) == []
    lives.until(14.0)
    lives.kill(back_at)
    return lives


def test_after_a_restart_the_very_next_reading_that_is_one_too_many_trips_and_none_before():
    lives = killed_with_three(15.0)
    (found,) = lives.var(1, 16.0)
    assert (found.value, found.repeated) == ("4", False)
    early = killed_with_three(15.0, above=D(4))
    assert early.var(1, 16.0) == []
    assert edges(early.var(1, 17.0)) == [("r", 14)]


def test_what_left_its_window_while_nobody_watched_is_gone():
    for back_at, left in ((19.5, 3), (20.5, 2), (21.5, 1), (22.5, 0)):
        lives = killed_with_three(back_at)
        assert lives.measure(rate(), back_at) == left


def test_a_window_that_was_whole_is_whole_after_a_restart_and_another_warms_up():
    lives = killed_with_three(14.4)
    lives.up(14.4)
    lives.var(0, 16.0)
    lives.var(0, 16.0, number=15)
    assert lives.view().warming == 1
    assert lives.watch.uncalm("r", labels(account=15), 16.0).startswith("var is warming: its window of 10 s is whole")
    assert lives.watch.uncalm("r", labels(account=14), 21.5) is None


def test_a_window_that_was_not_whole_goes_on_warming_from_where_it_was():
    lives = Lives(rate())
    lives.up(5.0)
    lives.var(1, 6.0)
    lives.until(7.0)
    lives.kill(8.0)
    lives.up(8.5)
    lives.var(1, 9.0)
    said = lives.watch.uncalm("r", labels(account=14), 9.0)
    assert said == "var is warming: its window of 10 s is whole in 6.0 s (account 14; feed var)"


def test_what_nobody_watched_for_more_than_a_quarter_of_its_length_warms_up_with_what_was_kept_in_it():
    for away_s, warming in ((2.4, 0), (2.6, 1)):
        lives = Lives(rate())
        lives.up(0.0)
        for at in (20.0, 20.1, 20.2):
            lives.var(1, at)
        lives.stop(20.2 + away_s)
        lives.up(lives.now)
        assert edges(lives.var(1, 23.0)) == [("r", 14)]
        assert lives.view().warming == warming


def test_a_stop_is_a_sign_of_life_though_nothing_had_come_for_long():
    for end, warming in ((Lives.stop, 0), (Lives.kill, 1)):
        lives = Lives(rate())
        lives.up(0.0)
        lives.var(1, 20.0)
        lives.until(27.0)
        end(lives, 28.0)
        lives.up(28.0)
        lives.var(1, 29.0)
        assert (lives.view().warming, lives.measure(rate())) == (warming, 2)


def test_when_all_has_left_during_the_gap_it_is_as_if_nothing_had_been_kept():
    lives = killed_with_three(40.0)
    lives.up(40.0)
    lives.var(1, 41.0)
    assert lives.view().warming == 1
    assert lives.measure(rate()) == 1


def test_an_orderly_stop_loses_nothing_though_a_moment_went_by_since_the_last_reading():
    lives = Lives(rate())
    lives.up(0.0)
    for at in (10.0, 10.1, 10.2):
        lives.var(1, at)
    lives.stop(11.0)
    assert edges(lives.var(1, 12.0)) == [("r", 14)]


def test_a_window_is_told_at_once_and_then_at_most_once_a_second():
    lives = Lives(rate(above=D(1000)))
    for n in range(100):
        lives.var(1, 10.0 + n / 32)
    assert [at for at, _ in lives.keeps] == [10.0, 11.0, 12.0, 13.0]
    lives.until(14.0)
    assert [at for at, _ in lives.keeps][4:] == [14.0]
    lives.until(18.0)
    assert len(lives.keeps) == 5, "nothing changed, nothing is told"


def test_of_many_windows_some_are_told_at_a_time_and_none_waits_for_ever(monkeypatch):
    monkeypatch.setattr(memory_module, "AT_ONCE_MAX", 3)
    lives = Lives(rate(above=D(1000), per_s=1000.0))
    for n in range(60):
        lives.until(10.0 + n * 0.1)
        for number in range(1, 11):
            lives.var(1, lives.now, number=number)
    told = [[w.labels[0][1] for w in windows] for _, windows in lives.keeps]
    assert [len(part) for part in told[1:]] == [3] * 5
    assert [name for part in told[1:4] for name in part] == ["2", "3", "4", "5", "6", "7", "8", "9", "10"]


def test_what_must_be_told_has_a_size_however_much_came():
    lives = Lives(rate(above=D(100_000), sum=True))
    for n in range(20_000):
        lives.var((-1) ** n, n * 0.001)
    lives.until(21.0)
    ((_, (window,)),) = lives.keeps[-1:]
    assert len(window.slices) <= 2 * (memory_module.SLICES + 2)
    assert len(lives.rows) == 1


def test_a_row_is_removed_once_its_window_is_empty():
    lives = Lives(rate())
    lives.var(1, 10.0)
    lives.until(11.0)
    assert lives.rows
    lives.until(200.0)
    assert not lives.rows
    lives.var(1, 300.0)
    lives.until(301.0)
    assert lives.rows, "it is kept again when something comes again"


def test_rows_of_rules_that_changed_or_went_are_removed_and_not_believed():
    other = rate(name="other")
    for rules in ((), (other,), (rate(per_s=11.0),), (rate(sum=True),), (rate(where=labels(account=15)),)):
        lives = Lives(rate())
        lives.var(1, 10.0)
        lives.until(11.0)
        lives.rules = rules
        lives.kill(12.0)
        assert all(lives.measure(rule) == 0 for rule in rules)
        lives.until(13.0)
        assert not lives.rows, rules


def test_a_limit_that_changed_keeps_its_window():
    lives = killed_with_three(15.0)
    lives.rules = (rate(above=D(2)),)
    lives.kill(15.5)
    assert lives.measure(rate()) == 3


def test_a_wall_clock_that_went_back_makes_nothing_younger_or_lost_and_one_that_went_ahead_lets_it_leave():
    lives = killed_with_three(15.0)
    lives.wall_ahead -= 3600.0
    lives.kill(15.0)
    # As if no time had gone by since it was told, at 12.
    assert [lives.measure(rate(), at) for at in (15.0, 22.5, 23.5, 24.5, 25.5)] == [3, 3, 2, 1, 0]
    ahead = killed_with_three(15.0)
    ahead.wall_ahead += 3600.0
    ahead.kill(15.0)
    assert ahead.measure(rate()) == 0


def test_a_wall_clock_that_was_set_while_we_ran_changes_nothing():
    for by_s in (-3600.0, 3600.0):
        lives = killed_with_three(15.0)  # nothing was heard since in this life: its window is told again as well
        lives.wall_ahead += by_s
        lives.watch.memory.tell_again(15.0)
        lives.undo.commit()
        lives.until(17.0)
        lives.kill(18.0)
        assert [lives.measure(rate(), at) for at in (18.0, 20.5, 21.5, 22.5)] == [3, 2, 1, 0]
        lives.watch.memory.tell_again(18.0)
        lives.wall_ahead += by_s
        lives.kill(20.0)
        assert lives.measure(rate()) == (3 if by_s < 0 else 0), "it wasn't told in time"


def test_a_machine_that_was_started_anew_has_a_clock_that_begins_anew():
    lives = Lives(rate(), now=1_000_000.0)
    lives.up(1_000_000.0)
    for at in (20.0, 21.0, 22.0):
        lives.var(1, 1_000_000.0 + at)
    lives.until(1_000_022.5)
    lives.wall_ahead = WALL + 1_000_000.0 + 24.0 - 3.0  # 24 s after the start it is second 3 of the new clock
    lives.kill(3.0)
    assert lives.measure(rate(), 3.0) == 3
    assert lives.measure(rate(), 9.5) == 2  # 30.5 s: that of second 20 has left
    lives.up(3.5)
    lives.var(1, 4.0)
    assert lives.view().warming == 0


@pytest.mark.parametrize(("back_at", "grows_at"), [(17.0, 20.0), (21.0, 21.1)], ids=["after it", "in the gap"])
def test_a_sum_that_was_kept_grows_by_itself_when_what_is_below_0_leaves(back_at, grows_at):
    lives = Lives(rate(sum=True))
    lives.up(0.0)
    lives.var(-5, 10.0)
    lives.var(6, 15.0)
    lives.until(16.0)
    lives.kill(back_at)
    assert lives.until(grows_at - 0.2) == []
    assert edges(lives.until(grows_at)) == [("r", 14)]
    assert lives.until(40.0) == []


def test_rehearsed_rules_tell_nothing():
    undo = Undo()
    agenda = Agenda(undo)
    watch = Watch((OFTEN,), (rate(),), undo, agenda, 0.0)
    watch.handle(Reading(feed="var", name="var", labels=labels(account=14), wall=WALL, value=1.0), 1.0)
    undo.commit()
    assert watch.memory.all(2.0) == ()
    seen = []
    while (due := agenda.due()) is not None and due < 10.0:
        seen.append(agenda.take(due)[0])
    assert "keep" not in seen


STEP = st.tuples(
    st.sampled_from([0.0, 0.01, 0.1, 0.25, 1.0, 3.0, 12.0]),
    st.decimals(min_value=-9, max_value=9, places=2),
    st.sampled_from(["keep", "keep", "keep", "keep", "undo", "kill", "stop"]),
    st.sampled_from([0.0, 0.5, 4.0, 11.0]),
)


@given(st.lists(STEP, max_size=80), st.booleans(), st.sampled_from([1, 3, 60]))
def test_a_window_brought_back_holds_what_was_told_of_it_and_nothing_for_much_longer(steps, adds, slices):
    with in_slices(slices):
        watched = rate(above=D(1_000_000), sum=adds)
        lives = Lives(watched)
        lives.up(0.0)
        came = []
        for wait_s, value, fate, away_s in steps:
            lives.var(value, lives.now + wait_s, undone=fate == "undo")
            if fate != "undo":
                came.append((lives.now, value))
            if fate in ("kill", "stop"):
                # What came in the very instant in which it was told may be in it or not: of such no more is asked.
                told_at = lives.now if fate == "stop" else max((at for at, _ in lives.keeps), default=-1.0)
                perhaps = [c for c in came if c[0] <= told_at]
                sure = perhaps if fate == "stop" else [c for c in came if c[0] < told_at]
                (lives.stop if fate == "stop" else lives.kill)(lives.now + away_s)
                least, most = bounds(sure, perhaps, adds=adds, per_s=watched.per_s, width_s=watched.per_s / slices)
                for later in (0.003, 0.303, 2.003, 5.003, 9.903, 13.003):  # a wall clock is exact to less than 1e-6 s
                    assert least(lives.now + later) <= lives.measure(watched, lives.now + later)
                    assert lives.measure(watched, lives.now + later) <= most(lives.now + later)
                return


@contextlib.contextmanager
def in_slices(slices):
    """A window told in so many slices."""
    usual, memory_module.SLICES = memory_module.SLICES, slices
    try:
        yield
    finally:
        memory_module.SLICES = usual


def test_what_shares_a_slice_leaves_with_the_newest_of_it_and_what_is_below_0_with_the_oldest():
    with in_slices(1):
        lives = Lives(rate(sum=True))
        lives.up(0.0)
        for value, at in ((1, 10.0), (-4, 11.0), (-3, 12.0), (2, 13.0)):
            lives.var(value, at)
        lives.stop(14.0)
        assert [lives.measure(rate(sum=True), at) for at in (14.0, 20.5, 21.5, 22.5, 23.5)] == [-4, -4, 3, 3, 0]


def bounds(sure, perhaps, *, adds, per_s, width_s):
    """The least and the most that a window may hold at a time."""

    def least(now):
        held = [value for at, value in sure if at + per_s > now]
        # What may be in it and is below 0 makes a sum smaller.
        maybe = [v for at, v in perhaps if (at, v) not in sure and at + per_s > now and v < 0]
        return sum([*held, *maybe], D(0)) if adds else D(len(held))

    def most(now):
        if not adds:
            return D(sum(at + per_s + width_s > now for at, _ in perhaps))
        above = [value for at, value in perhaps if value >= 0 and at + per_s + width_s > now]
        below = [value for at, value in sure if value < 0 and at + per_s - width_s > now]
        return sum([*above, *below], D(0))

    return least, most


def test_what_is_told_says_since_when_and_by_which_definition():
    lives = Lives(replace(rate(), per_s=20.0))
    lives.up(3.0)
    lives.var(1, 10.0)
    lives.until(10.0)
    ((_, (window,)),) = lives.keeps
    assert (window.since, window.rule, window.feed, window.labels) == (3.0, "r", "var", labels(account=14))
    assert window.definition == "('rate', 'var', (), 20.0, False)"
    (row,) = lives.rows.values()
    assert wire.decode(row) == Keep(WALL + 10.0, 10.0, (window,))


def test_a_pass_that_fails_has_told_nothing_and_the_next_one_tells_it():
    lives = Lives(rate())
    lives.until(9.0)
    lives.watch.handle(Reading(feed="var", name="var", labels=labels(account=14), wall=lives.wall, value=D(1)), 9.0)
    lives.undo.commit()
    due = lives.agenda.due()
    told = lives.watch.memory.wake(lives.agenda.take(due), due)
    lives.undo.rollback()
    assert lives.agenda.due() == due
    lives.until(due)
    assert lives.keeps == [(due, told)]


def switch(restored=None, now=100.0):
    return KillSwitch(replace(SETTINGS, feeds=(OFTEN,), rules=(rate(),)), restored or Restored(), now)


def some(of, count, at, wall):
    """So many readings of account 14: all that came of them."""
    event = Reading(feed="var", name="var", labels=labels(account=14), wall=wall, value=D(1))
    return [action for _ in range(count) for action in of.handle(event, at)]


def test_the_switch_gives_its_windows_to_be_kept_each_second_and_at_its_end():
    before = switch()
    assert not [a for a in some(before, 2, 101.0, WALL) if isinstance(a, Keep)]
    (keep,) = [a for a in before.handle(Tick(wall=WALL + 0.5), 101.5) if isinstance(a, Keep)]
    assert (keep.wall, keep.clock_s, keep.windows[0].slices[0].count) == (WALL + 0.5, 101.5, 2)
    before.handle(ClockStepped(wall=WALL + 60.0, by_s=59.2), 101.8)
    (again,) = [a for a in before.handle(Tick(wall=WALL + 60.7), 102.5) if isinstance(a, Keep)]
    assert again == Keep(WALL + 60.7, 102.5, keep.windows)

    before = switch()
    some(before, 2, 101.0, WALL)
    before.handle(Tick(wall=WALL + 0.5), 101.5)
    some(before, 1, 102.0, WALL + 1)
    (last,) = [a for a in before.end(102.0, WALL + 1) if isinstance(a, Keep)]
    assert sum(held.count for held in last.windows[0].slices) == 3
    assert not [a for a in switch().end(102.0, WALL) if isinstance(a, Keep)]

    after = switch(Restored(kept=(keep, last), wall=WALL + 3), now=3.0)
    tripped = [a for a in some(after, 1, 4.0, WALL + 4) if isinstance(a, Record) and isinstance(a.body, Tripped)]
    assert [a.body.cause.text for a in tripped] == [
        "var came 4 times, more than 3 readings in 10 s (account 14; 0.0 s old)"
    ]


def test_of_windows_that_changed_at_once_all_are_told_though_nothing_comes_after(monkeypatch):
    monkeypatch.setattr(memory_module, "AT_ONCE_MAX", 3)
    lives = Lives(rate(above=D(1000), per_s=1000.0))
    for number in range(1, 11):
        lives.var(1, 10.0, number=number)
    lives.until(15.0)
    assert len(lives.rows) == 10
