"""`check --online`, the accounts: all of an OMS, where they are to be discovered, and what is to be said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from killswitch.domain.messages import Answer
from killswitch.wire.alphapoint_accounts import get_accounts, read_accounts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from killswitch.config.tables import Oms
    from killswitch.online import OmsLooked, Online
    from killswitch.wire import alphapoint
    from killswitch.wire.frame import Frame

    Ask: TypeAlias = Callable[[alphapoint.Request], Awaitable[Frame | str]]
    """Asks one question; a sentence where there is no answer."""

WITHIN_S: Final = 15.0
"""For one OMS, all of its gateways; the OMSs are looked at side by side."""
LISTED_MAX: Final = 20
"""Accounts whose orders are listed: the daemon's calls count against the same limit as ours."""
PAGE: Final = 500
PAGES_MAX: Final = 5
"""Pages of accounts that are asked for; the daemon itself asks for all of them."""


async def read_all(oms_id: int, ask: Ask) -> tuple[int, ...] | str:
    """All accounts of the OMS, or why they can't be had. Only an empty page is the end of them."""
    found: dict[int, None] = {}
    rows = 0
    for _ in range(PAGES_MAX):
        frame = await ask(get_accounts(oms_id, rows, PAGE))
        if isinstance(frame, str):
            return frame
        match read_accounts(frame):
            case Answer() as answer:
                return answer.text or f"answer {answer.label}"
            case page if page.unreadable:
                return "a row of it can't be read"
            case page if not page.rows:
                return tuple(found) or "it holds none"
            case page:
                rows += page.rows
                found |= dict.fromkeys(page.accounts)
    return f"it has more than {PAGES_MAX} pages, which are not all looked at here"


def judge_accounts(who: str, oms: Oms, looked: OmsLooked, online: Online) -> None:
    """What can be listed, what was not, and which accounts nobody told us of."""
    unlisted: dict[str, list[int]] = {}
    for account in looked.accounts:
        if account.open_orders is None and account.why:
            unlisted.setdefault(account.why, []).append(account.account)
    for said, accounts in unlisted.items():
        online.findings.append(
            f"{who}: the open orders of {_accounts(accounts)} can't be listed ({said}): nothing there could be proven."
        )
    unasked = [account.account for account in looked.accounts if account.open_orders is None and not account.why]
    if unasked:
        online.remarks.append(
            f"{who}: the orders of {_accounts(unasked)} were not listed: {WITHIN_S:g} s and half of the budget of "
            f"calls are what this check takes, and at most {LISTED_MAX} lists."
        )
    if oms.discover:
        _judge_found(who, oms, looked, online)
    if looked.credential_accounts is None:
        online.remarks.append(f"{who}: which accounts the credential has is not known: {why(looked, 'accounts')}.")
        return
    if oms.discover:
        return
    named = {account.account for account in looked.accounts}
    more = [account for account in sorted(looked.credential_accounts) if account not in named]
    if more:
        online.findings.append(
            f"{who}: the credential has {_accounts(more)} too, which the list of accounts doesn't: no scope covers "
            "what rests there."
        )


def _judge_found(who: str, oms: Oms, looked: OmsLooked, online: Online) -> None:
    """Accounts are discovered: only the OMS's own list of them is all of them."""
    if looked.all_accounts is not None:
        return
    text = (
        f"{who}: the list of all accounts can't be had: {why(looked, 'all accounts')}. Of a scope without an account "
        "only the orders on accounts that are known are looked at, and it is never VERIFIED."
    )
    (online.findings if oms.whole_oms else online.remarks).append(text)


def _accounts(accounts: Sequence[int]) -> str:
    shown = ", ".join(map(str, accounts[:LISTED_MAX]))
    more = f" and {len(accounts) - LISTED_MAX} more" if len(accounts) > LISTED_MAX else ""
    return f"account{'s' if len(accounts) > 1 else ''} {shown}{more}"


def why(looked: OmsLooked, what: str) -> str:
    """Why it isn't known."""
    return looked.unknown.get(what, f"not asked within {WITHIN_S:g} s")
