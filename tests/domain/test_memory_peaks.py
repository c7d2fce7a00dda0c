"""Peaks outlive the process: a drawdown that began before a restart is measured from the same highest value."""

from dataclasses import replace
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from killswitch.domain.watch import memory as memory_module
from tests.domain.test_memory import KEY, OFTEN, Lives, in_slices
from tests.domain.test_peaks import drawdown
from tests.domain.watch_bench import edges, labels

D = Decimal


def highest(lives, rule, at):
    lives.recall()
    return lives.watch._roster.peaks.measure(rule, KEY, at)[1]


def killed_at_95(back_at, **more):
    """100 at 10, 95 from 20 on; then SIGKILL at 30. The rule: 10 under its highest in 60 s."""
    lives = Lives(drawdown(**more))
    lives.up(0.0)
    for value, at in ((100, 10.0), (95, 20.0)):
        assert lives.var(value, at) == []
    lives.until(30.0)
    lives.kill(back_at)
    return lives


def test_a_fall_that_goes_on_after_a_restart_trips_at_the_value_that_makes_it_whole():
    lives = killed_at_95(33.0)
    assert lives.var(91, 34.0) == []
    (found,) = lives.var(90, 35.0)
    assert (found.value, found.repeated) == ("10", False)
    assert found.text.startswith("var 90 is 10 under 100,")


def test_a_peak_leaves_when_it_would_have_left_without_the_restart():
    assert edges(killed_at_95(33.0).var(90, 79.9)) == [("r", 14)]
    assert killed_at_95(33.0).var(90, 80.1) == []


def test_a_value_holds_over_the_gap():
    lives = killed_at_95(60.0)
    assert edges(lives.var(85, 80.5)) == [("r", 14)]  # 100 has left; 95 held until now
    assert edges(lives.var(85, 120.0)) == []


def test_a_value_that_holds_on_quietly_is_told_again_so_that_a_restart_finds_it():
    lives = Lives(drawdown())
    lives.up(0.0)
    lives.var(100, 10.0)
    lives.until(500.0)
    lives.kill(520.0)
    assert edges(lives.var(90, 521.0)) == [("r", 14)]


def test_a_gap_longer_than_the_window_leaves_nothing_and_it_warms_up():
    lives = killed_at_95(100.0)
    lives.up(100.0)
    assert lives.var(50, 101.0) == []
    assert lives.view().warming == 1
    assert lives.var(40.5, 102.0) == []
    assert edges(lives.var(40, 103.0)) == [("r", 14)]


def test_a_window_that_was_whole_stays_whole():
    lives = Lives(drawdown())
    lives.up(0.0)
    lives.var(100, 65.0)
    lives.until(70.0)
    lives.kill(75.0)
    lives.up(75.0)
    lives.var(100, 76.0)
    lives.var(100, 76.0, number=15)
    assert lives.view().warming == 1
    assert lives.watch.uncalm("r", labels(account=14), 76.0) is None


def test_a_series_that_is_never_heard_again_is_forgotten():
    lives = killed_at_95(33.0)
    lives.until(80.0)
    assert lives.rows
    lives.until(140.0)
    assert not lives.rows


def test_a_series_that_is_heard_stays_however_quiet_its_value_is():
    lives = killed_at_95(33.0)
    lives.var(95, 34.0)
    lives.until(400.0)
    lives.kill(410.0)
    assert edges(lives.var(85, 411.0)) == [("r", 14)]


def test_a_value_that_stays_as_it_is_isnt_told_each_second():
    lives = Lives(drawdown())
    for second in range(100):
        lives.var(100, float(second))
    assert len(lives.keeps) <= 10


def test_another_window_is_another_definition_and_another_fall_is_not():
    lives = killed_at_95(33.0)
    for rule, edge in ((drawdown(fall=D(5)), [("r", 14)]), (drawdown(window_s=61.0), [])):
        lives.rules = (rule,)
        lives.kill(33.5)
        assert edges(lives.var(94, 34.0)) == edge


def test_a_restart_in_breach_is_an_edge_again_for_the_latch_remembers_the_trip():
    lives = Lives(drawdown())
    assert lives.var(100, 10.0) == []
    assert edges(lives.var(85, 11.0)) == [("r", 14)]
    lives.stop(15.0)
    assert edges(lives.var(85, 16.0)) == [("r", 14)]
    assert edges(lives.var(84, 17.0)) == []


def test_what_must_be_told_of_a_long_fall_has_a_size():
    lives = Lives(drawdown(fall=D(10_000), window_s=10.0), feeds=(replace(OFTEN, stale_after_s=1000.0),))
    for n in range(5_000):
        lives.var(-n, n * 0.001)
    lives.until(6.0)
    ((_, (window,)),) = lives.keeps[-1:]
    assert len(window.slices) <= memory_module.SLICES + 3


def test_peaks_that_share_a_slice_leave_with_the_last_of_them():
    with in_slices(1):
        watched = drawdown()
        lives = Lives(watched)
        lives.up(0.0)
        for value, at in ((100, 10.0), (95, 12.0), (92, 14.0)):
            lives.var(value, at)
        lives.stop(15.0)
        assert [highest(lives, watched, at) for at in (15.0, 73.9, 74.1)] == [100, 100, 92]


STEP = st.tuples(
    st.sampled_from([0.0, 0.01, 0.1, 0.25, 1.0, 3.0, 12.0, 61.0]),
    st.integers(min_value=-9, max_value=9),
    st.sampled_from(["keep", "keep", "keep", "keep", "undo", "kill", "stop"]),
    st.sampled_from([0.0, 0.5, 4.0, 30.0, 61.0]),
)


@given(st.lists(STEP, max_size=80), st.sampled_from([1, 3, 60]))
def test_a_peak_brought_back_is_that_of_the_values_told_and_none_stays_for_much_longer(steps, slices):
    with in_slices(slices):
        watched = drawdown(fall=D(1_000_000))
        width_s = watched.window_s / slices
        lives = Lives(watched)
        lives.up(0.0)
        came = []
        for wait_s, value, fate, away_s in steps:
            lives.var(value, lives.now + wait_s, undone=fate == "undo")
            if fate != "undo":
                came.append((lives.now, value))
            if fate not in ("kill", "stop"):
                continue
            told_at = max((at for at, _ in lives.keeps), default=-1.0)
            if fate == "stop":
                told_at = lives.now
            # What came in the very instant in which it was told may be in it or not: of such no more is asked.
            sure, perhaps = [c for c in came if c[0] < told_at], [c for c in came if c[0] <= told_at]
            (lives.stop if fate == "stop" else lives.kill)(lives.now + away_s)
            for later in (0.003, 0.503, 5.003, 29.003, 59.003, 61.003):
                at = lives.now + later
                there = held_until(sure, told_at, at - watched.window_s)
                if there:
                    assert highest(lives, watched, at) >= max(there)
                if lives.watch._roster.peaks.value(watched, KEY) is not None:
                    unsure = [value for when, value in perhaps if when == told_at]
                    long_ago = at - watched.window_s - width_s
                    most = [*held_until(sure, at, long_ago), *unsure, *held_until(perhaps, at, long_ago)]
                    assert highest(lives, watched, at) <= max(most)
            return


def held_until(came, last_until, after):
    """The values that held at some time after that; the last one held until `last_until`."""
    ends = [*(at for at, _ in came[1:]), last_until]
    return [value for (_, value), end in zip(came, ends, strict=False) if end > after]
