"""A reading's own time: what is late, out of order, the same again, frozen or from the future, and a stepped clock."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.domain.test_rates import rate
from tests.domain.watch_bench import IGNORE, TRIP, WALL, Bench, edges, labels, rule, warned

STALE_S = 5.0
HOUR = 3600.0


class Site(Bench):
    """Readings with a time of their own. `step`: of our wall clock, from now on; `theirs`: of the source's."""

    def __init__(self, *rules):
        super().__init__(*rules)
        self.step = self.theirs = 0.0
        self.up(0.0)

    def at(self, value, now, made_at=None, number=14):
        """A reading made at that time (by default just now), read at `now`."""
        wall = WALL + now + self.step
        source_at = WALL + (now if made_at is None else made_at) + self.theirs
        more = {"lag_s": max(0.0, wall - source_at), "source_at": source_at, "wall": wall}
        return self.var(value, now, number, **more)

    @property
    def odd(self):
        return dict(self.feed_view("var").bad)


# --- told apart and counted --------------------------------------------------------------------------------


def test_the_same_again_is_no_arrival_and_is_counted():
    site = Site(rate(above=Decimal(2)), rate("sum", above=Decimal(2), sum=True))
    found = [f for n in range(100) for f in site.at(1.0, 1.0 + n / 100, made_at=1.0)]
    assert edges(found) == []
    assert site.odd == {"duplicate": 99}
    assert site.feed_view("var").readings == 100
    found = site.at(1.0, 2.1, made_at=2.0) + site.at(1.0, 2.2, made_at=2.1)
    assert edges(found) == [("r", 14), ("sum", 14)]


def test_another_value_with_the_same_time_is_a_correction_and_counts():
    site = Site(rule())
    assert site.at(10.0, 1.0, made_at=1.0) == []
    assert edges(site.at(60.0, 1.1, made_at=1.0)) == [("r", 14)]
    assert site.odd == {}


def test_the_same_value_with_a_new_time_is_news():
    site = Site(rate(above=Decimal(2)))
    found = [f for n in range(3) for f in site.at(1.0, 1.0 + n)]
    assert edges(found) == [("r", 14)]
    assert site.odd == {}


def test_what_is_late_counts_as_a_value_and_its_age_is_its_lag():
    site = Site(rule(on_stale=TRIP))
    site.at(10.0, 4.0, number=15)
    assert edges(site.at(60.0, 6.0, made_at=1.0)) == [("r", 14)]
    assert site.odd == {"late": 1}
    assert site.rule_view("r").unknown == (labels(account=14),)
    site.at(10.0, 6.1, made_at=6.1 - STALE_S + 0.01, number=16)
    assert site.odd == {"late": 1}


def test_what_is_older_than_the_newest_is_counted_and_has_no_value():
    site = Site(rule())
    assert edges(site.at(60.0, 3.0)) == [("r", 14)]
    assert site.at(10.0, 3.1, made_at=2.9) == []
    assert site.rule_view("r").breaching == (labels(account=14),)
    assert site.odd == {"out_of_order": 1}


def test_what_is_from_the_future_counts_as_made_on_arrival():
    site = Site(rule(on_stale=TRIP))
    site.at(10.0, 1.0, made_at=1.0 + 86_400)
    assert site.odd == {"future": 1}
    site.at(10.0, 1.5, made_at=2.4)  # clocks differ by as much
    assert site.odd == {"future": 1}
    assert edges(site.until(6.4)) == []
    assert edges(site.until(6.5)) == [("r", 99)]


def test_a_reading_from_the_future_moves_no_window():
    site = Site(rate(above=Decimal(2)))
    found = site.at(1.0, 1.0, made_at=1000.0) + site.at(1.0, 2.0, made_at=2000.0)
    assert edges(found) == []
    assert edges(site.at(1.0, 12.5, made_at=3000.0)) == []
    assert site.odd == {"future": 3}


def test_a_reading_is_of_one_oddity_only():
    site = Site(rule())
    site.at(10.0, 1.0, made_at=-100.0)
    site.at(10.0, 1.1, made_at=-100.0)
    site.at(11.0, 1.2, made_at=-100.0)
    site.at(11.0, 1.3, made_at=-101.0)
    assert site.odd == {"late": 2, "frozen": 1, "out_of_order": 1}
    assert site.feed_view("var").readings == 4


def test_readings_without_a_time_of_their_own_are_none_of_these():
    bench = Bench(rule(), rate(above=Decimal(50)))
    bench.up(0.0)
    found = [f for n in range(51) for f in bench.var(1.0, 1.0 + n / 100)]
    assert edges(found) == [("r", 14)]
    assert bench.feed_view("var").bad == ()


def test_what_the_broker_was_merged_out_of_is_counted_by_its_kind_too():
    from killswitch.domain.messages import Merged  # noqa: PLC0415

    site = Site(rule())
    site.var(1.0, 1.0, merged=Merged(3, Decimal(9), older=2, repeated=4))
    assert site.odd == {"duplicate": 4, "out_of_order": 2}
    assert site.feed_view("var").readings == 10


# --- frozen ------------------------------------------------------------------------------------------------


def frozen(site, start, stop, number=14):
    """The same again, ten times a second."""
    return [
        f for n in range(int((stop - start) * 10)) for f in site.at(10.0, start + n / 10, made_at=start, number=number)
    ]


def test_a_source_that_stands_still_does_not_look_alive():
    site = Site(rule(on_stale=TRIP))
    found = frozen(site, 1.0, 30.0)
    assert edges(found) == [("r", 99)]
    assert site.feed_view("var").stale is True
    assert site.odd == {"duplicate": 49, "frozen": 240}


def test_a_series_that_stands_still_among_others_that_move_goes_stale_by_itself():
    site = Site(rule(on_stale=TRIP))
    found = []
    for n in range(200):
        now = 1.0 + n / 10
        found += site.at(10.0, now, made_at=1.0) + site.at(10.0, now + 0.01, number=15)
    assert edges(found) == [("r", 14)]
    said = next(f for f in found if edges([f]))
    assert said.text == (
        "var says nothing new for 5.0 s, only the same with the same time (account 14; feed var; last 10.0)"
    )
    assert site.watch.uncalm("r", labels(account=14), site.now).startswith("var says nothing new for 19.")


def test_what_stands_still_is_said_once_until_it_moves():
    site = Site(rule(on_stale=IGNORE))
    found = frozen(site, 1.0, 20.0)
    assert [f.text for f in found if f.kind == "bad_reading"] == [
        "var stands still: 10.0 comes again and again, with a time 5.0 s ago (account 14; feed var)"
    ]
    assert warned(site.at(10.0, 20.5)) == []
    assert warned(frozen(site, 21.0, 40.0)) == ["bad_reading"]


def test_a_thousand_series_that_stand_still_are_said_once():
    site = Site(rule())
    found = [f for now in (1.0, 3.0, 7.0, 9.0) for n in range(1, 1001) for f in site.at(1.0, now, 1.0, number=n)]
    assert warned(found).count("bad_reading") == 1
    assert site.odd == {"duplicate": 1000, "frozen": 2000}


def test_a_source_whose_clock_is_ahead_can_stand_still_too():
    site = Site(rule(on_stale=TRIP))
    site.theirs = HOUR
    assert edges(frozen(site, 1.0, 30.0)) == [("r", 99)]
    assert site.odd["frozen"] > 200


def test_the_same_again_ends_no_doubt_about_what_came_since():
    site = Site(rule())
    site.at(10.0, 1.0, made_at=1.0)
    site.bad(1.1, labels(account=14))
    site.at(10.0, 1.2, made_at=1.0)
    assert "can't be read" in site.watch.uncalm("r", labels(account=14), 1.2)
    site.at(10.0, 1.3)
    assert site.watch.uncalm("r", labels(account=14), 1.3) is None


# --- a clock is stepped ------------------------------------------------------------------------------------

STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR, 7.0, -7.0, 86_400.0])


@STEPS
def test_a_step_of_our_clock_trips_nothing_and_makes_nothing_stale_late_or_out_of_order(step):
    site = Site(rule(on_stale=TRIP))
    found = []
    for n in range(400):
        site.step = step if n > 200 else 0.0
        found += site.at(10.0, 1.0 + n / 10, made_at=0.9 + n / 10, number=14 + n % 2)
    assert found == []
    assert site.odd == {}
    assert site.watch.uncalm("r", labels(account=14), site.now) is None


@STEPS
def test_after_a_step_a_breach_is_still_seen_and_silence_still_heard(step):
    site = Site(rule(on_stale=TRIP))
    site.at(10.0, 1.0)
    site.step = step
    assert edges(site.at(60.0, 2.0)) == [("r", 14)]
    assert edges(site.until(6.9)) == []
    assert edges(site.until(7.0)) == [("r", 99)]


@STEPS
def test_after_a_step_what_stands_still_is_not_fresh_again(step):
    site = Site(rule(on_stale=TRIP))
    found = frozen(site, 1.0, 5.0)
    site.step = step
    found += [f for n in range(200) for f in site.at(10.0, 5.0 + n / 10, made_at=1.0)]
    assert edges(found) == [("r", 99)]
    assert site.feed_view("var").stale is True


@STEPS
def test_after_a_step_a_source_that_falls_behind_is_late(step):
    site = Site(rule(on_stale=TRIP))
    site.at(10.0, 1.0)
    site.step = step
    found = [f for n in range(20) for f in site.at(10.0, 2.0 + n, made_at=1.0 + n / 10)]
    assert edges(found) == [("r", 99)]
    assert site.odd["late"] > 10


@STEPS
def test_a_series_that_is_first_heard_after_the_step_is_judged_as_its_feed_is(step):
    site = Site(rule(on_stale=TRIP))
    site.at(10.0, 1.0)
    site.step = step
    site.at(10.0, 2.0)
    assert site.at(10.0, 2.1, number=15) == []
    assert site.odd == {}


@STEPS
def test_a_source_on_our_own_host_is_stepped_with_us(step):
    site = Site(rule(on_stale=TRIP))
    site.at(10.0, 1.0)
    site.step = site.theirs = step
    assert [f for n in range(100) for f in site.at(10.0, 2.0 + n / 10)] == []
    assert site.odd == {}
    assert site.at(10.0, 12.0, made_at=11.0) == []
    assert site.odd == {"out_of_order": 1}


@STEPS
def test_a_clock_that_was_wrong_and_is_set_right_judges_rightly_from_then_on(step):
    site = Site(rule(on_stale=TRIP))
    site.step = step  # wrong from the start
    site.at(10.0, 1.0)
    site.step = 0.0
    before = dict(site.odd)
    assert [f for n in range(100) for f in site.at(10.0, 2.0 + n / 10)] == []
    assert site.odd == before == {"late" if step > 0 else "future": 1}
    site.at(10.0, 13.0, made_at=7.0)
    site.at(11.0, 13.1, made_at=7.5)
    assert site.odd == {**before, "out_of_order": 2}
    assert site.feed_view("var").stale is False


@STEPS
def test_two_steps_there_and_back_change_nothing(step):
    site = Site(rule(on_stale=TRIP))
    found = []
    for n in range(300):
        site.step = step if 100 < n <= 200 else 0.0
        found += site.at(10.0, 1.0 + n / 10)
    assert found == []
    assert site.odd == {}


SAID = st.tuples(
    st.integers(0, 24), st.sampled_from([0.0, 0.0, 0.5, 4.0, 6.0, -0.5, -3.0]), st.sampled_from([10.0, 10.0, 60.0])
)


@given(
    st.lists(SAID, min_size=1, max_size=40),
    st.lists(st.sampled_from([0.0, HOUR, -HOUR, 120.0]), min_size=40, max_size=40),
)
def test_whatever_the_source_says_a_step_neither_adds_nor_takes_a_breach_of_a_value(said, steps):
    """The same readings with and without steps of our clock: the same values count, so the same limits trip."""
    straight, stepped = Site(rule(on_stale=IGNORE)), Site(rule(on_stale=IGNORE))
    now = 1.0
    for (wait_s, lag_s, value), step in zip(said, steps, strict=False):
        now += wait_s / 8  # exact in binary, so that no rounding is mistaken for a difference
        one, other = straight.at(value, now, now - lag_s), stepped.at(value, now, now - lag_s)
        assert edges(one) == edges(other)
        assert straight.odd == stepped.odd
        stepped.step = step
