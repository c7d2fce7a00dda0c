"""What the core's work grows with: counted in calls of functions, so that no machine is too slow for it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from killswitch.domain.messages import Answer, AnswerKind
from tests.domain.bench import OK, SETTINGS, SITE, Bench, scope

REFUSED = Answer(AnswerKind.REFUSED, "20", 20, "Not Authorized")


def effort(accounts: int, said: Answer) -> int:
    """The calls that a sweep of a whole OMS takes from its trip to its proof."""
    site = replace(SITE, accounts=tuple(range(1, accounts + 1)), calls_per_minute=60_000)
    bench = Bench(replace(SETTINGS, sites=(site,)))
    bench.connect()
    bench.answers.append(said)
    calls = 0

    def count(_frame: object, event: str, _what: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        bench.trip(scope())
        bench.settle()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("said", [OK, REFUSED], ids=["one call for all", "a call for each"])
def test_twice_the_accounts_are_four_times_the_work_at_most(said: Answer) -> None:
    """Each answer looks at each account once; what looked at each pair took minutes for two hundred of them."""
    assert effort(80, said) < 5 * effort(40, said)
