"""The loop by itself: what it tells of its own turns."""

from __future__ import annotations

import asyncio

import pytest

from killswitch.domain.messages import Beat, ClockStepped, Stopping, Tick
from killswitch.loop import BEAT_EVERY_S, Loop


class Still:
    """A switch that wants nothing; `costs_s` is how long it takes over each event, by the loop's clock."""

    def __init__(self):
        self.now, self.costs_s = 0.0, 0.0

    def due(self):
        return None

    def handle(self, event, now):
        self.now += self.costs_s
        return ()


async def lags(*, overslept_s=0.0, costs_s=0.0, turns=6):
    """How late the turns of a loop without work say that they began, after one event at the third of them."""
    switch, said, enough = Still(), [], asyncio.Event()

    def beat(late_s):
        said.append(late_s)
        if len(said) == 3:
            switch.costs_s = costs_s
            loop.inbox.put(Stopping(wall=0.0))
        if len(said) >= turns:
            enough.set()

    async def wait(seconds):
        await asyncio.sleep(0)
        switch.now += seconds + overslept_s

    loop = Loop(switch, {}, now=lambda: switch.now, wall=lambda: 0.0, beat=beat)
    loop.inbox.wait = wait
    running = asyncio.create_task(loop.run())
    await asyncio.wait_for(enough.wait(), 30)
    running.cancel()
    return said[:turns]


async def test_a_loop_that_waits_for_work_is_not_late():
    assert await lags() == [0.0] * 6


async def test_a_loop_that_is_woken_late_says_by_how_much():
    assert (await lags(overslept_s=0.25))[1] == pytest.approx(0.25)


async def test_a_turn_that_takes_long_makes_the_next_one_late():
    assert max(await lags(costs_s=BEAT_EVERY_S / 2)) == pytest.approx(BEAT_EVERY_S / 2)


async def steps_told(walls, *, costs_s=0.0):
    """What a loop is told of its clocks, turning once a second; `walls`: the wall clock at each turn."""
    switch, turns, enough = Still(), 0, asyncio.Event()
    told, switch.handle = [], lambda event, now: told.append(event) or ()

    def wall():
        switch.now += costs_s
        return walls[min(turns, len(walls) - 1)]

    async def wait(seconds):
        nonlocal turns
        await asyncio.sleep(0)
        switch.now += 1.0
        turns += 1
        if turns > len(walls) + 3:
            enough.set()

    loop = Loop(switch, {}, now=lambda: switch.now, wall=wall)
    loop.inbox.wait = wait
    running = asyncio.create_task(loop.run())
    await asyncio.wait_for(enough.wait(), 30)
    running.cancel()
    return [(round(event.by_s, 3), event.wall) for event in told if isinstance(event, ClockStepped)]


async def test_a_wall_clock_that_is_set_is_told_once_each_way():
    goes_on = [1000.0 + n for n in range(30)]
    hour = [wall + 3600.0 * (5 <= n < 15) for n, wall in enumerate(goes_on)]
    assert await steps_told(hour[:26]) == [(3600.0, 4605.0), (-3600.0, 1015.0)]


async def test_a_wall_clock_that_is_slewed_is_not_set():
    assert await steps_told([1000.0 + n * 1.4 for n in range(30)]) == []


async def test_being_stopped_between_two_looks_at_the_clocks_is_no_step():
    assert await steps_told([1000.0] * 30, costs_s=5.0) == []


class Planned:
    """A switch for which something is due at 1.0; every look at the clock costs 0.05 s. `took`: what it was given."""

    def __init__(self):
        self.clock, self.planned, self.took = 0.0, 1.0, []

    def now(self):
        self.clock += 0.05
        return self.clock

    def due(self):
        return self.planned

    def handle(self, event, now):
        self.took.append((type(event), now))
        if isinstance(event, Tick):
            self.planned = now + 0.03 if self.planned == 1.0 else None
        return ()


async def test_a_reading_is_never_later_than_what_is_due_and_not_taken_yet():
    """Else a replay, which takes what is due first, would judge another order than the daemon did."""
    switch = Planned()
    loop = Loop(switch, {}, now=switch.now, wall=lambda: 0.0)
    for n in range(40):
        loop.inbox.put(Beat(wall=0.0, feed=f"heart-{n}"))
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(30):
        while len(switch.took) < 40:
            await asyncio.sleep(0)
    running.cancel()
    times = [now for _, now in switch.took]
    assert times == sorted(times)
    ticks = [at for at, (kind, _) in enumerate(switch.took) if kind is Tick]
    assert all(now < 1.0 for _, now in switch.took[: ticks[0]])
    assert ticks[1] == ticks[0] + 2
    assert times[ticks[0] + 1] == times[ticks[0]]  # the one event that has its turn between the two
