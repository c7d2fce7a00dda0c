"""Coverage: which accounts something would act on by itself, or at the press of a button.

What no rule and no panic scope reaches is cancelled by a command or a signal only: people should know of it
before the day on which they look for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from killswitch.domain.scope import EVERY
from killswitch.domain.settings import Label

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.domain.messages import Labels
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import Rule, ScopeTemplate

NAMED: Final = 10
"""So many accounts are named in a sentence; of the rest there is a number."""


def reaches(scope: Scope | ScopeTemplate, account: int, where: Labels = ()) -> bool:
    """Whether a scope can be this account's. A label's id is any, unless `where` holds the label fast."""
    match scope.account:
        case int():
            return scope.account == account
        case Label(name=name):
            return dict(where).get(name, str(account)) == str(account)
        case _:
            return scope.account is EVERY


def uncovered(oms: str, accounts: Iterable[int], rules: Iterable[Rule], panics: Iterable[Scope]) -> tuple[int, ...]:
    """Those accounts of an OMS that no rule's and no button's scope could name, not even in part.

    A rule in shadow covers nothing.
    """
    templates = [(rule.scope, rule.where) for rule in rules if rule.scope.oms == oms and rule.mode == "live"]
    scopes = [scope for scope in panics if scope.oms == oms]
    return tuple(
        account
        for account in accounts
        if not any(reaches(scope, account) for scope in scopes)
        and not any(reaches(scope, account, where) for scope, where in templates)
    )


def sentence(oms: str, accounts: tuple[int, ...]) -> str:
    """What a person is told of accounts that are uncovered."""
    return f"OMS {oms}: no rule and no panic covers {listed(accounts)}; only a command or a signal cancels there."


def listed(accounts: tuple[int, ...]) -> str:
    """Such as "accounts 14, 15 and 3 more"."""
    shown = ", ".join(str(account) for account in accounts[:NAMED])
    more = f" and {len(accounts) - NAMED} more" if len(accounts) > NAMED else ""
    return f"account{'s' if len(accounts) > 1 else ''} {shown}{more}"
