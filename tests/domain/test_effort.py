"""What the core's work grows with: counted in calls of functions, so that no machine is too slow for it."""

from __future__ import annotations

import sys
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from killswitch.domain.messages import Answer, AnswerKind, Reading
from killswitch.domain.undo import Agenda, Undo
from killswitch.domain.watch.plan import Wanted
from killswitch.domain.watch.rules import Watch
from tests.domain.bench import OK, SETTINGS, SITE, Bench, scope
from tests.domain.test_peaks import drawdown
from tests.domain.test_rates import OFTEN, rate
from tests.domain.test_ratios import ORDERS, REJECTS, ratio
from tests.domain.watch_bench import OMS_FEED, VAR_FEED, WALL, labels
from tests.domain.watch_bench import Bench as WatchBench
from tests.domain.watch_bench import rule as limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.domain.settings import Rule

REFUSED = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")


def effort(accounts: int, said: Answer) -> int:
    """The calls that a sweep of a whole OMS takes from its trip to its proof."""
    site = replace(SITE, accounts=tuple(range(1, accounts + 1)), calls_per_minute=60_000)
    bench = Bench(replace(SETTINGS, sites=(site,)))
    bench.connect()
    bench.answers.append(said)

    def run() -> None:
        bench.trip(scope())
        bench.settle()

    return calls_of(run)


def calls_of(run: Callable[[], None]) -> int:
    calls = 0

    def count(_frame: object, event: str, _what: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("said", [OK, REFUSED], ids=["one call for all", "a call for each"])
def test_twice_the_accounts_are_four_times_the_work_at_most(said: Answer) -> None:
    """Each answer looks at each account once; what looked at each pair took minutes for two hundred of them."""
    assert effort(80, said) < 5 * effort(40, said)


def readings_effort(*, keeps: bool, rules: tuple[Rule, ...], readings: int, series: int) -> int:
    """The calls that so many readings take, a hundred a second, with all that falls due between them."""
    undo = Undo()
    agenda = Agenda(undo)
    watch = Watch((OFTEN,), rules, undo, agenda, 0.0, keeps=keeps)
    events = [
        Reading(wall=WALL, feed="var", name="var", labels=labels(account=n), value=Decimal(n % 7))
        for n in range(series)
    ]

    def run() -> None:
        for n in range(readings):
            now = n / 100
            while (due := agenda.due()) is not None and due <= now:
                what = agenda.take(now)
                if isinstance(what, tuple) and what[0] == "keep":
                    watch.memory.wake(what, now)
                else:
                    watch.wake(what, now)
            watch.handle(events[n % series], now)
            undo.commit()

    return calls_of(run)


@pytest.mark.parametrize("rule", [rate(), rate(sum=True), drawdown()], ids=["count", "sum", "drawdown"])
@pytest.mark.parametrize("series", [1, 500])
def test_to_keep_windows_for_a_restart_is_a_small_part_of_the_work(rule: Rule, series: int) -> None:
    plain = readings_effort(keeps=False, rules=(rule,), readings=3_000, series=series)
    assert readings_effort(keeps=True, rules=(rule,), readings=3_000, series=series) < 1.7 * plain


def effort_of_a_reading(others: int) -> int:
    """The calls that a reading takes which a rule of each kind counts, beside so many rules that don't read it."""
    watched = (rate(), drawdown(), ratio(reading="var", over="order"))
    strangers = (
        *(ratio(f"a{n}", reading="reject", over="order", warn_at=(Decimal("0.5"),)) for n in range(others)),
        *(drawdown(f"b{n}", where=(("account", "99"),)) for n in range(others)),
        *(rate(f"c{n}", reading="reject") for n in range(others)),
    )
    bench = WatchBench(*watched, *strangers, feeds=(REJECTS, ORDERS, OFTEN))
    bench.up(0.0)
    bench.var(1.0, 1.0)  # who watches it is found with the first one
    calls = 0

    def count(_frame: object, event: str, _what: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        bench.var(2.0, 2.0)
    finally:
        sys.setprofile(None)
    return calls


def test_a_reading_costs_the_same_however_many_rules_do_not_read_it() -> None:
    assert effort_of_a_reading(300) == effort_of_a_reading(0)


def reload_effort(*, series: int, rules: int, changed: int, where: bool) -> int:
    """The calls that a reload takes which changes so many of the rules over so many known series."""
    held = tuple(limit(f"r{n}", where=(("account", str(n + 1)),) if where else ()) for n in range(rules))
    bench = WatchBench(*held)
    bench.up(0.0)
    for number in range(series):
        bench.var(1.0, number=number + 1)
    new = (*(replace(one, above=Decimal(60)) for one in held[:changed]), *held[changed:])
    return calls_of(lambda: bench.watch.change(Wanted(feeds=(OMS_FEED, VAR_FEED), rules=new), bench.now))


def test_a_changed_rule_is_held_only_against_the_series_that_its_where_may_mean() -> None:
    """A cancel waits for as long as a reload takes: two hundred rules, each of one account, were two seconds of it."""
    few, many = (reload_effort(series=400, rules=n, changed=n, where=True) for n in (10, 80))
    assert many - few < 70 * 150


def test_beside_a_rule_that_is_changed_the_others_are_only_put_in_order() -> None:
    alone, many = (reload_effort(series=400, rules=n, changed=1, where=False) for n in (1, 20))
    assert many - alone < 1.5 * 19 * 400


def effort_of_the_next(latched: int) -> int:
    """The calls that one more trip takes to its proof, where so many of other accounts are being swept."""
    site = replace(SITE, accounts=tuple(range(1, latched + 2)), calls_per_minute=60_000)
    bench = Bench(replace(SETTINGS, sites=(site,)))
    bench.connect()
    for account in range(1, latched + 1):
        bench.trip(scope(account), f"t{account}")

    def run() -> None:
        bench.trip(scope(latched + 1), "last", digest="last")
        for _ in range(20):
            bench.step()

    return calls_of(run)


def test_a_latched_trip_that_an_event_does_not_concern_costs_it_a_glance() -> None:
    """A hundred panics in a moment: what each event makes anew of each of them, the last cancel waits for."""
    few, many = effort_of_the_next(20), effort_of_the_next(100)
    assert many - few < 80 * 5_000  # some sixty events
