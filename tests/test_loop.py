"""The loop by itself: what it tells of its own turns."""

from __future__ import annotations

import asyncio

import pytest

from killswitch.domain.messages import Stopping
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
