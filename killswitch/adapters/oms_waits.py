"""How long to wait before the next attempt to reach a gateway.

tenacity computes the waits; the loop that sleeps them is our own, since it tells three endings apart. A
cancel or a list is never repeated from here.
"""

from __future__ import annotations

from typing import Final

from tenacity import AsyncRetrying, RetryCallState, wait_chain, wait_exponential, wait_fixed, wait_random

# Lost links: 50 ms, doubling up to 2 s. The jitter is stated, because the library's own is a whole second;
# it only keeps several daemons from knocking in step.
_LINK: Final = wait_exponential(multiplier=0.05, exp_base=2, max=2) + wait_random(min=0, max=0.05)

# Refused sign-ins lock the user at some count that nobody publishes, and only an administrator can unlock
# it: three quick ones for what passes, ten at one a minute, then one every ten minutes for ever.
_REFUSED: Final = wait_chain(
    wait_fixed(1), wait_fixed(2), wait_fixed(4), *(wait_fixed(60) for _ in range(10)), wait_fixed(600)
)

_NOTHING_RETRIED: Final = AsyncRetrying()


def link_wait_s(failures: int) -> float:
    """Seconds to wait after the `failures`-th attempt in a row (from 1 on) that gave no lasting session."""
    return _LINK(_state(failures))


def refused_wait_s(refusals: int) -> float:
    """Seconds to wait after the `refusals`-th refused sign-in in a row, from 1 on."""
    return _REFUSED(_state(refusals))


def _state(attempt: int) -> RetryCallState:
    state = RetryCallState(_NOTHING_RETRIED, None, (), {})
    state.attempt_number = min(attempt, 100)  # years of attempts must not become a number of a million bits
    return state
