"""The budget of calls: what goes through it, what a server's limit does to it, and that cancels never wait for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from killswitch.domain.budget import CANCEL_PAUSE_S, PAUSE_S, SLOW_S, Budget
from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import ListOpenOrders, ListUserAccounts, LookRequested, Noted, Preview
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.settings import Settings, Site
from killswitch.domain.standing import Standing
from killswitch.domain.undo import Undo
from tests.domain.bench import SETTINGS, SITE, Bench, scope
from tests.domain.opposite import Opposite

V2, V4 = Dialect.V2, Dialect.V4
EVERYTHING = Scope(oms="prime", account=EVERY, user=EVERY, instrument=EVERY)
FIFTY = tuple(range(14, 64))


def budget(per_minute: int = 600) -> Budget:
    site = Site(name="prime", accounts=(14,), whole_oms=True, calls_per_minute=per_minute, gateways=("gw:1",))
    undo = Undo()
    return Budget(Standing(Settings(daemon="ks", boot="1", sites=(site,)), undo), undo)


def left_within(held: Budget, seconds: float, now: float) -> int:
    """How many calls leave when each leaves as soon as it may."""
    end, count = now + seconds, 0
    while now <= end:
        if held.may_call("prime", now):
            held.take("prime", now)
            count += 1
        else:
            again = held.call_again_at("prime", now)
            assert again > now, "it must move on"
            now = again
    return count


def test_a_limited_pace_is_halved_once_for_the_calls_that_left_together_and_no_list_leaves_for_a_moment() -> None:
    held = budget()
    assert held.limited("prime", 10.0) is True
    assert held.limited("prime", 10.1) is False
    assert held.share("prime") == 0.5
    assert not held.may_call("prime", 10.0 + PAUSE_S - 0.01)
    assert held.may_call("prime", 10.0 + PAUSE_S + 0.01)


def test_a_cancel_that_met_the_limit_makes_the_lists_wait_longer() -> None:
    held = budget()
    held.limited("prime", 10.0)
    held.limited("prime", 10.5, cancel=True)
    assert not held.may_call("prime", 10.0 + PAUSE_S + 0.01)
    assert held.may_call("prime", 10.5 + CANCEL_PAUSE_S + 0.01)
    assert held.share("prime") == 0.5


def test_each_later_one_halves_it_again_and_only_the_first_is_news() -> None:
    held, now = budget(), 10.0
    news = []
    for _ in range(12):
        news.append(held.limited("prime", now))
        now += PAUSE_S + 0.1
    assert news == [True] + [False] * 11
    assert held.share("prime") == pytest.approx(1 / 64)
    assert left_within(held, 60.0, now) >= 4, "however slow, it goes on"


def test_nothing_is_saved_up_while_the_server_limits_us() -> None:
    held = budget(6000)
    assert left_within(held, 0.0, 9.0) == 1800
    held = budget(6000)
    held.limited("prime", 10.0)
    assert left_within(held, 1.0, 10.0 + SLOW_S - 2) <= 30 + 8


def test_the_pace_comes_back_step_by_step_and_then_a_limit_is_news_again() -> None:
    held = budget()
    for at in (10.0, 12.0, 14.0):
        held.limited("prime", at)
    seen = []
    for n in range(12):
        held.may_call("prime", 14.0 + n * SLOW_S)
        seen.append(held.share("prime"))
    assert seen[:3] == [0.125, 0.125 * 1.25, 0.125 * 1.25**2]
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert held.limited("prime", 500.0) is True


def test_what_a_sign_in_costs_is_counted_and_leaves_half_of_a_burst() -> None:
    held = budget(600)
    held.spent("prime", 20, 10.0)
    assert left_within(held, 0.0, 10.0) == 160
    held.spent("prime", 1000, 10.0)
    assert left_within(held, 0.0, 10.0) == 0
    held.spent("prime", 1000, 40.0)
    assert left_within(held, 0.0, 40.0) == 90


# --- in the whole


def sparse(per_minute: int, accounts: tuple[int, ...] = FIFTY) -> Settings:
    return replace(SETTINGS, sites=(replace(SITE, accounts=accounts, calls_per_minute=per_minute),))


def test_a_preview_takes_no_more_than_the_budget_and_says_what_it_could_not_look_at() -> None:
    bench = Bench(sparse(100))
    bench.connect()
    bench.tell(LookRequested(wall=bench.wall, scope=scope(), token="p"))
    while not bench.of(Preview):
        while bench.step():
            pass
        bench.tick()
    (seen,) = bench.of(Preview)
    assert len(bench.of(ListOpenOrders)) <= 30
    assert sorted((*seen.accounts_looked_at, *seen.accounts_failed)) == list(FIFTY)
    assert seen.accounts_failed
    assert seen.why == "the budget of calls is spent"


def test_a_preview_that_waited_a_moment_has_looked_at_all() -> None:
    bench = Bench(sparse(600, tuple(range(14, 80))))
    bench.connect()
    bench.tell(LookRequested(wall=bench.wall, scope=scope(), token="p"))
    for _ in range(200):
        while bench.step():
            pass
        if bench.of(Preview):
            break
        bench.tick()
    (seen,) = bench.of(Preview)
    assert (seen.accounts_failed, seen.why) == ((), "")


def test_previews_dont_starve_the_proof_of_a_trip() -> None:
    bench = Bench(sparse(600))
    bench.connect()
    for n in range(20):
        bench.tell(LookRequested(wall=bench.wall, scope=scope(), token=n))
    bench.trip(scope(account=14))
    began = bench.now
    bench.settle()
    assert bench.now - began < SETTINGS.confirm.deadline_s


def test_the_accounts_of_a_user_are_asked_for_when_there_are_calls_to_spare() -> None:
    bench = Bench(sparse(10, (14,)))
    bench.connect()
    bench.user_accounts[37] = (14,)
    while bench.switch._parts.book.may_call("prime", bench.now):
        bench.switch._parts.book.budget.take("prime", bench.now)
    bench.trip(scope(user=37))
    assert bench.of(ListUserAccounts) == []
    assert bench.cancels() == [scope(user=37)], "the cancel waits for nothing"
    bench.settle(120.0)
    assert len(bench.of(ListUserAccounts)) == 1


@pytest.mark.parametrize("frame", [5, 1])
@pytest.mark.parametrize("dialect", [V2, V4])
def test_a_trip_over_fifty_accounts_under_a_tight_limit_is_proven_and_its_cancels_get_through(dialect, frame) -> None:
    world = Opposite(
        dialect, accounts=FIFTY, orders=200, faults=(f"rate_limit=20,per_s=2,frame={frame}", "stragglers=3,times=2")
    )
    world.connect()
    world.trip(EVERYTHING)
    world.run(world.verified, 60.0)
    assert world.exchange.open_ids() == set()
    assert world.exchange.faults.injected["RateLimit"] > 0
    assert [e.kind for e in world.events].count("rate_limited") == 1
    assert [b.kind for b in world.records if isinstance(b, Noted)].count("rate_limited") == 1
    assert any("limits our calls" in note for note in world.switch.view(world.now).notes)
    assert "escalated" not in [e.kind for e in world.events if "refused" in e.text], "it is no refusal"


def test_while_lists_meet_the_limit_a_second_trips_cancel_is_there_within_a_breath() -> None:
    world = Opposite(V2, accounts=FIFTY, orders=200, faults=("rate_limit=20,per_s=2",))
    world.connect()
    world.trip(EVERYTHING)
    world.wait(0.5)
    late = world.exchange.place(account=30, user=40, instrument=26, now=world.now).order_id
    waited = world.run(lambda: late in world.cancelled(), 10.0)
    assert waited < 3.0


def test_a_limit_on_every_call_is_never_an_empty_list() -> None:
    world = Opposite(V2, faults=("rate_limit=1,per_s=1000",))
    world.connect()
    world.wait(0.1)
    world.trip(EVERYTHING)
    world.wait(30.0)
    assert not any(outcome == "VERIFIED" for _, _, outcome in world.states)
    assert len(world.said("CancelAllOrders")) < 40
    assert len(world.said("GetOpenOrders")) < 60
    world.exchange.faults.clear()
    world.run(world.verified, 10.0)
