"""The door of an OMS: how several links to it sign in, and how they back off from refusals together."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time

import pytest

from killswitch.adapters import oms_door
from killswitch.adapters.oms import Door, KeyCredentials, OmsLink
from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import LinkFailed, SessionUp, SignInRefused
from tests.adapters.bare_gateway import SIGNED_IN, BareGateway

REFUSED = '{"Authenticated":false,"errormsg":"Invalid username or password","EnforceEnable2FA":false}'


class Desk:
    """Links to these gateways, with one door, and all that they told."""

    def __init__(self, *gateways):
        self.told = []
        door, sessions = Door(), itertools.count(1)
        self.links = [
            OmsLink(
                oms="prime",
                oms_id=1,
                url=gateway.url,
                gateway=name,
                dialect=Dialect.V2,
                credentials=KeyCredentials(37, "the-api-key", "the-api-secret"),
                accounts=(),
                submit=self.told.append,
                wall=lambda: 1_700_000_000.0,
                new_session=lambda: next(sessions),
                door=door,
            )
            for name, gateway in zip("ab", gateways, strict=True)
        ]

    async def __aenter__(self):
        self._tasks = [asyncio.create_task(link.run()) for link in self.links]
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            assert not task.done(), task
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def of(self, kind):
        return [event.gateway for event in self.told if isinstance(event, kind)]

    async def until(self, true, seconds=20):
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.01)


def refusing():
    return BareGateway(AuthenticateUser=REFUSED)


def tries(*gateways):
    """How many sign-ins arrived."""
    return sum(n == "AuthenticateUser" for gateway in gateways for peer in gateway.peers for n, _, _ in peer.frames)


async def test_two_gateways_are_two_sessions():
    async with BareGateway() as one, BareGateway() as other, Desk(one, other) as desk:
        await desk.until(lambda: sorted(desk.of(SessionUp)) == ["a", "b"])
        assert [link.session is not None for link in desk.links] == [True, True]


async def test_two_gateways_that_refuse_us_are_tried_no_oftener_than_one_and_in_turn():
    """After 1, 2 and 4 seconds: so there are three tries in the first four, of both together."""
    began = time.monotonic()
    async with refusing() as one, refusing() as other, Desk(one, other) as desk:
        await desk.until(lambda: len(desk.of(SignInRefused)) == 3)
        assert time.monotonic() - began >= 3.0
        assert set(desk.of(SignInRefused)[1:]) == {"a", "b"}, "whoever was refused last comes last"
        assert "another gateway refuses" in next(e.why for e in desk.told if isinstance(e, LinkFailed))
        await asyncio.sleep(1.0)
        assert tries(one, other) == 3


async def test_a_refusal_by_one_gateway_does_not_keep_us_from_another_that_lets_us_in():
    async with refusing() as one, BareGateway() as other, Desk(one, other) as desk:
        await desk.until(lambda: desk.of(SessionUp) == ["b"])
        await desk.until(lambda: len(desk.of(SignInRefused)) == 2)
        other.peers[-1].abort()
        began = time.monotonic()
        await desk.until(lambda: desk.of(SessionUp) == ["b", "b"])
        assert time.monotonic() - began < 1.5, "it let us in last time, so it may be tried while the other is not"
        assert tries(one) == 2


async def test_once_one_that_had_refused_us_lets_us_in_the_others_are_tried_at_once():
    async with refusing() as one, refusing() as other, Desk(one, other) as desk:
        await desk.until(lambda: len(desk.of(SignInRefused)) == 3)  # now for four seconds
        one.answers["AuthenticateUser"] = other.answers["AuthenticateUser"] = SIGNED_IN
        await desk.until(lambda: desk.of(SessionUp))
        began = time.monotonic()
        await desk.until(lambda: len(desk.of(SessionUp)) == 2)
        assert time.monotonic() - began < 3.0


async def test_a_gateway_that_answers_no_sign_in_does_not_keep_the_other_waiting_for_long(monkeypatch):
    monkeypatch.setattr(oms_door, "TURN_S", 0.3)
    async with BareGateway(AuthenticateUser=None) as one, BareGateway() as other, Desk(one, other) as desk:
        await desk.until(lambda: desk.of(SessionUp) == ["b"], seconds=5)
        assert desk.of(SignInRefused) == []


async def test_whoever_waits_for_the_door_to_open_is_woken_by_a_success():
    door = Door()
    assert door.wait_s("b") == 0
    assert door.refused("a") == pytest.approx(1.0)
    assert door.wait_s("b") > 0.5
    waits = asyncio.create_task(door.opens("b"))
    await asyncio.sleep(0)
    door.let_in("a")
    async with asyncio.timeout(0.5):
        await waits
    with contextlib.suppress(TimeoutError):
        async with door.turn("b") as open_:
            assert open_
