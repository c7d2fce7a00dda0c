"""What `check` says of accounts: which rules and buttons reach each, and which scopes name one that isn't there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from killswitch.domain import coverage, dialects, extras
from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.settings import ScopeTemplate, SilenceRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from killswitch.config import Config
    from killswitch.config.tables import Oms


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLines:
    """What reaches one account: rules and panics by name, and whether all of its orders or only some."""

    account: int
    whole: tuple[str, ...]
    partly: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OmsLines:
    """One OMS and its accounts. `uncovered`: those that no rule and no panic reaches. `discover`: there is no list."""

    oms: str
    gateways: tuple[str, ...]
    http: str
    whole_oms: bool
    dialect: str
    covers: str  # what VERIFIED speaks of
    accounts: tuple[AccountLines, ...]
    uncovered: tuple[int, ...]
    discover: bool


def oms_lines(config: Config, oms: Oms) -> OmsLines:
    """What is covered of an OMS."""
    accounts = tuple(_account(config, oms.name, account) for account in oms.accounts)
    return OmsLines(
        oms=oms.name,
        gateways=tuple(gateway.address for gateway in oms.gateways),
        http="" if oms.http is None else oms.http.address,
        whole_oms=oms.whole_oms,
        dialect=dialects.in_words(oms.dialect),
        covers=extras.covers(oms),
        accounts=accounts,
        uncovered=tuple(lines.account for lines in accounts if not lines.whole and not lines.partly),
        discover=oms.discover,
    )


def _account(config: Config, oms: str, account: int) -> AccountLines:
    whole: list[str] = []
    partly: list[str] = []
    reaching = [(f"rule {rule.name}", rule.scope, rule.where) for rule in config.rules if rule.mode == "live"]
    heard = config.panics if config.mqtt.brokers else ()
    reaching += [(f"panic {panic.name}", _as_template(panic.scope), ()) for panic in heard]
    for name, scope, where in reaching:
        if scope.oms != oms or not coverage.reaches(scope, account, where):
            continue
        (whole if scope.user is EVERY and scope.instrument is EVERY else partly).append(name)
    return AccountLines(account=account, whole=tuple(whole), partly=tuple(partly))


def _as_template(scope: Scope) -> ScopeTemplate:
    return ScopeTemplate(oms=scope.oms, account=scope.account, user=scope.user, instrument=scope.instrument)


def strangers(config: Config) -> Iterator[str]:
    """Scopes with an account that the OMS's list doesn't have: a slip of the keyboard, as a rule."""
    accounts = {oms.name: oms.accounts for oms in config.oms if not oms.discover}
    scopes = [(f"Rule {rule.name}", rule.scope) for rule in config.rules]
    fallbacks = [(rule, None if isinstance(rule, SilenceRule) else rule.fallback) for rule in config.rules]
    scopes += [(f"Rule {rule.name}, fallback", _as_template(scope)) for rule, scope in fallbacks if scope]
    scopes += [(f"Panic {panic.name}", _as_template(panic.scope)) for panic in config.panics]
    for who, scope in scopes:
        listed = accounts.get(scope.oms)
        if isinstance(scope.account, int) and listed is not None and scope.account not in listed:
            yield (
                f"{who}: account {scope.account} isn't in the list of accounts of OMS {scope.oms}; one of the "
                "two is wrong."
            )
