"""The inventory of rules: a row for each, for whoever must answer what is watched, up to where, and by whom.

It says what the configuration says. Whether the rules fit the risk a person must judge.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from killswitch.domain.scope import EVERY
from killswitch.domain.settings import FeedRule, Label, SilenceRule
from killswitch.domain.watch import hearts, kinds
from killswitch.inventory import warns_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from killswitch.config import Config
    from killswitch.domain.settings import Rule, ScopeTemplate

COLUMNS: Final = (("Rule", 14), ("Risk", 15), ("Limit", 16), ("Acts", 7), ("Scope", 14), ("Owner", 9))
"""Titles and widths: with a space between them 80 columns in all."""
NOBODY: Final = "(nobody)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One rule. `risk`: what it watches. `acts`: what a breach does. `owner` empty: the configuration names none.

    `when_stale`, `when_bad`: what that means to the rule; empty where it means nothing to its kind.
    """

    rule: str
    kind: str
    risk: str
    limit: str
    warns: str
    acts: str
    scope: str
    owner: str
    when_stale: str
    when_bad: str


def rows(config: Config) -> tuple[Row, ...]:
    """The rules in the order of the configuration."""
    return tuple(_row(rule) for rule in config.rules)


def _row(rule: Rule) -> Row:
    watched = f"feed {rule.feed}" if isinstance(rule, FeedRule) else kinds.subject(rule)
    return Row(
        rule=rule.name,
        kind=rule.kind,
        risk=", ".join((watched, *(f"{label} {text}" for label, text in rule.where))),
        limit=hearts.in_words(rule) if isinstance(rule, FeedRule) else kinds.in_words(rule),
        warns=warns_at(rule),
        acts="cancels" if rule.mode == "live" else "shadow",
        scope=_scope(rule.scope),
        owner=rule.owner,
        when_stale="" if isinstance(rule, SilenceRule) else rule.on_stale.value,
        when_bad="" if isinstance(rule, FeedRule) else rule.on_bad.value,
    )


def _scope(scope: ScopeTemplate) -> str:
    """Such as "prime: account {account}, instrument 25"; a part that isn't named is every."""
    parts = (("account", scope.account), ("user", scope.user), ("instrument", scope.instrument))
    named = [
        f"{name} {{{part.name}}}" if isinstance(part, Label) else f"{name} {part}"
        for name, part in parts
        if part is not EVERY
    ]
    return f"{scope.oms}: {', '.join(named) or 'everything'}"


def render(config: Config) -> str:
    """The inventory as text for a terminal of 80 columns."""
    shadow = ", in SHADOW: nothing is cancelled" if config.daemon.mode == "shadow" else ""
    daemon = f"Daemon {config.daemon.name}, fingerprint {config.fingerprint()}{shadow}"
    lines = [f"Configuration {config.path}", daemon, ""]
    found = rows(config)
    if not found:
        return "\n".join([*lines, "There are no rules."]) + "\n"
    lines += [_line(title for title, _ in COLUMNS), _line("-" * width for _, width in COLUMNS)]
    for row in found:
        lines += _cells(row)
    unowned = [row.rule for row in found if not row.owner]
    if unowned:
        lines += ["", *textwrap.wrap(f"Nobody is named as the owner of: {', '.join(unowned)}.", 80)]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> Iterator[str]:
    warns = f"; warns {row.warns}" if row.warns else ""
    texts = (row.rule, row.risk, f"{row.kind}: {row.limit}{warns}", row.acts, row.scope, row.owner or NOBODY)
    wrapped = [textwrap.wrap(text, width) for text, (_, width) in zip(texts, COLUMNS, strict=True)]
    for cells in zip_longest(*wrapped, fillvalue=""):
        yield _line(cells)


def _line(cells: Iterable[str]) -> str:
    padded = (f"{cell:<{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    return " ".join(padded).rstrip()
