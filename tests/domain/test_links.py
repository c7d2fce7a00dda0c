"""Snapshots: what a feed begins with, and what it must not cost."""

from __future__ import annotations

from dataclasses import replace

from killswitch.domain.messages import ListOpenOrders, ListPositions
from killswitch.domain.settings import FeedSpec
from tests.domain.bench import SETTINGS, SITE, Bench, scope

PER_MINUTE = 400
FEED = FeedSpec(name="positions", kind="oms", stale_after_s=60.0, oms="prime")


def with_accounts(n: int) -> Bench:
    site = replace(SITE, accounts=tuple(range(1, n + 1)), calls_per_minute=PER_MINUTE)
    bench = Bench(replace(SETTINGS, sites=(site,), feeds=(FEED,)))
    bench.connect()
    return bench


def calls(bench: Bench) -> list[ListPositions | ListOpenOrders]:
    return bench.of(ListPositions, ListOpenOrders)


def go_on(bench: Bench, to: float) -> None:
    while bench.now < to:
        while bench.step():
            pass
        due = bench.switch.due()
        bench.tick(to if due is None else min(due, to))


def test_a_panic_right_after_a_sign_in_is_proven_at_once_however_many_accounts_there_are() -> None:
    """A snapshot of two hundred accounts in one go spent the calls of the next half minute."""
    bench = with_accounts(200)
    while bench.step():
        pass
    began = bench.now
    bench.trip(scope(account=14))
    bench.settle()
    assert bench.now - began < 1.0


def test_a_snapshot_asks_for_all_in_the_end_and_keeps_to_the_budget() -> None:
    bench = with_accounts(200)
    began, before = bench.now, 0
    for minute in range(1, 4):
        go_on(bench, began + 60 * minute)
        left, before = len(calls(bench)) - before, len(calls(bench))
        assert left <= 0.9 * PER_MINUTE
    for kind in (ListPositions, ListOpenOrders):
        assert {a.account for a in bench.of(kind)} == set(range(1, 201))


def test_a_new_session_begins_its_snapshot_with_the_first_account() -> None:
    bench = with_accounts(200)
    bench.disconnect()
    bench.forget_actions()
    bench.connect()
    bench.tick(bench.now + 5.0)
    assert calls(bench)[0].account == 1


def test_a_few_accounts_are_looked_at_at_once_and_again_each_minute() -> None:
    bench = with_accounts(3)
    assert len(calls(bench)) == 6
    go_on(bench, bench.now + 59.0)
    assert len(calls(bench)) == 6
    go_on(bench, bench.now + 2.0)
    assert len(calls(bench)) == 12
