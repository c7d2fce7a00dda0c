"""What `check` says of a sound configuration: what each rule watches and would cancel, and what is covered.

Findings are no mistakes, but should be mended before a bad day; remarks are what nothing in the configuration
can mend.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final, assert_never

from killswitch.domain import coverage, extras
from killswitch.domain.scope import EVERY
from killswitch.domain.settings import (
    DeadmanRule,
    DrawdownRule,
    FeedRule,
    Label,
    LeveledRule,
    LimitRule,
    OnUnknown,
    RateRule,
    RatioRule,
    ReadingRule,
    Rule,
    ScopeTemplate,
    SilenceRule,
    StaleRule,
)
from killswitch.domain.watch.limit import seconds
from killswitch.domain.watch.readings import lanes_of
from killswitch.domain.watch.shown import COUNTED
from killswitch.inventory_cover import OmsLines, oms_lines, strangers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from killswitch.config import Config
    from killswitch.config.tables import Panic
    from killswitch.domain.settings import Mode

WIDTH: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLines:
    """One rule in words; what is empty means nothing to its kind. `mode`: shadow cancels nothing."""

    rule: str
    mode: Mode
    owner: str
    watches: str
    trips: str
    warns: str
    cancels: str
    when_stale: str
    when_bad: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PanicLines:
    """One button in words."""

    panic: str
    topic: str
    presses: str
    cancels: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """All that `check` knows without signing in anywhere; plain values, so that it can be JSON as it is."""

    config: str
    fingerprint: str
    daemon: str
    mode: Mode
    rules: tuple[RuleLines, ...]
    panics: tuple[PanicLines, ...]
    oms: tuple[OmsLines, ...]
    findings: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 where there are findings, else 0; remarks don't count. Mistakes (2) never come this far."""
        return 1 if self.findings else 0


def describe(config: Config) -> Inventory:
    """The inventory of a loaded configuration. Touches nothing."""
    sites = tuple(oms_lines(config, oms) for oms in config.oms)
    return Inventory(
        config=str(config.path),
        fingerprint=config.fingerprint(),
        daemon=config.daemon.name,
        mode=config.daemon.mode,
        rules=tuple(_rule(config, rule) for rule in config.rules),
        panics=tuple(_panic(panic) for panic in config.panics),
        oms=sites,
        findings=tuple(_findings(config, sites)),
        remarks=tuple(_remarks(config)),
    )


# --- rules and buttons in words -----------------------------------------------------------------------------


def _rule(config: Config, rule: Rule) -> RuleLines:
    if isinstance(rule, FeedRule):
        return RuleLines(
            rule=rule.name,
            mode=rule.mode,
            owner=rule.owner,
            watches=f"feed {rule.feed} as a whole",
            trips=_trips(rule),
            warns="",
            cancels=_template(rule.scope),
            when_stale=_link_lost(rule) if isinstance(rule, DeadmanRule) else "",
            when_bad="",
        )
    where = " and ".join(f"{label} {text}" for label, text in rule.where)
    sources = _sources(config, rule)
    return RuleLines(
        rule=rule.name,
        mode=rule.mode,
        owner=rule.owner,
        watches=f"{' and '.join(rule.reads)}{f' with {where}' if where else ''}, from {_listed(sources, 'feed')}",
        trips=_trips(rule),
        warns=warns_at(rule),
        cancels=_template(rule.scope),
        when_stale=_unknown(rule, rule.on_stale),
        when_bad=_unknown(rule, rule.on_bad),
    )


def _trips(rule: Rule) -> str:
    match rule:
        case LimitRule():
            value = f"the size of {rule.reading}" if rule.absolute else rule.reading
            side, limit = ("above", rule.above) if rule.above is not None else ("below", rule.below)
            lasting = f" for {seconds(rule.for_s)}" if rule.for_s else ""
            return f"when {value} is {side} {limit}{lasting}"
        case RateRule(sum=True):
            return f"when the readings of {rule.reading} in {seconds(rule.per_s)} add up to more than {rule.above}"
        case RateRule():
            return f"when more than {rule.above} readings of {rule.reading} come in {seconds(rule.per_s)}"
        case DrawdownRule():
            return f"when {rule.reading} is {rule.fall} or more under its highest in {seconds(rule.window_s)}"
        case RatioRule():
            share = f"there are more than {rule.above} readings of {rule.reading} to each of {rule.over}"
            enough = f", of which {rule.at_least} or more came" if rule.at_least > 1 else ""
            return f"when in {seconds(rule.window_s)} {share}{enough}"
        case StaleRule():
            return f"when a series of {rule.reading} that was heard isn't any more for {seconds(rule.older_than_s)}"
        case SilenceRule():
            return f"when nothing of it is heard for {seconds(rule.older_than_s)}"
        case DeadmanRule():
            since = "from the start on" if rule.arm == "start" else "once it was heard for the first time"
            return f"when no beat of it is heard for {seconds(rule.silent_s)}, {since}"
        case _:
            assert_never(rule)


def warns_at(rule: Rule) -> str:
    """At which parts of the limit a rule warns; empty: at none."""
    levels = rule.warn_at if isinstance(rule, LeveledRule) else ()
    parts = ", ".join(f"{(part * 100).normalize():f}" for part in levels)
    return f"at {parts} % of the limit" if parts else ""


def _sources(config: Config, rule: ReadingRule) -> tuple[str, ...]:
    """The feeds that give the rule's readings."""
    return tuple(feed.spec.name for feed in config.feeds if any(name in rule.reads for _, name in lanes_of(feed.spec)))


def _link_lost(rule: DeadmanRule) -> str:
    said = {
        OnUnknown.WARN: "warns",
        OnUnknown.IGNORE: "nothing happens",
        OnUnknown.TRIP: f"trips{f', cancels {rule.fallback.in_words()}' if rule.fallback else ''}",
    }[rule.on_stale]
    return f"{said}, when our own link is down so that nobody knows"


def _unknown(rule: ReadingRule, policy: OnUnknown) -> str:
    match policy:
        case OnUnknown.WARN:
            return "warns"
        case OnUnknown.IGNORE:
            return "nothing happens"
        case OnUnknown.TRIP:
            assert rule.fallback is not None, "the configuration demands it"
            return f"trips; where no series is known, cancels {rule.fallback.in_words()}"


def _template(scope: ScopeTemplate) -> str:
    parts = (("account", scope.account), ("user", scope.user), ("instrument", scope.instrument))
    named = [
        f"the {part} in the reading's label {value.name}" if isinstance(value, Label) else f"{part} {value}"
        for part, value in parts
        if value is not EVERY
    ]
    every = [f"all {part}s" for part, value in parts if value is EVERY]
    return f"{scope.oms}: {', '.join(named + every)}"


def _panic(panic: Panic) -> PanicLines:
    match panic.match:
        case None:
            presses = "any payload that isn't empty"
        case str():
            presses = f"the payload {json.dumps(panic.match)}"
        case fields:
            presses = "a payload with " + " and ".join(
                f"{json.dumps(name)} = {_shown(value)}" for name, value in fields
            )
    return PanicLines(panic=panic.name, topic=panic.topic, presses=presses, cancels=panic.scope.in_words())


def _shown(value: object) -> str:
    # As JSON, so that no control character of a payload reaches a terminal.
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def _listed(names: Iterable[str], what: str) -> str:
    listed = list(names)
    return f"{what}{'s' if len(listed) > 1 else ''} {' and '.join(listed)}"


# --- findings -----------------------------------------------------------------------------------------------


def _findings(config: Config, sites: tuple[OmsLines, ...]) -> Iterator[str]:
    yield from config.notes()
    if config.daemon.mode == "shadow":
        yield "The daemon is in SHADOW: whatever a rule, a command, a button or a signal trips, nothing is cancelled."
    for site in sites:
        if site.uncovered:
            yield coverage.sentence(site.oms, site.uncovered)
        for lines in site.accounts:
            if lines.partly and not lines.whole:
                yield (
                    f"OMS {site.oms}: account {lines.account} is covered for some users or instruments only, by "
                    f"{' and '.join(lines.partly)}."
                )
    yield from strangers(config)
    for rule in config.rules:
        yield from _about_rule(config, rule)
    yield from _links(config)
    for held in config.held_files:
        if held.open_to_all:
            yield f"{held.key}: everyone on this host can read the file {held.path}; chmod 600 closes it."


def _remarks(config: Config) -> Iterator[str]:
    """What is good to know and can't be seen, or mended, from here."""
    for rule in config.rules:
        if rule.mode == "shadow":
            yield f"Rule {rule.name} is in SHADOW: it cancels nothing, says what it would have, and covers no account."
    for oms in config.oms:
        if oms.discover:
            yield (
                f"OMS {oms.name}: its accounts are discovered. A scope without an account is VERIFIED only where the "
                "OMS lists all of them in that very sweep (GetAccounts, an operator's); check --online tries it."
            )
    yield from extras.remarks(config.oms)
    if config.mqtt.brokers:
        for panic in config.panics:
            yield (
                f"Panic {panic.name}: a press with QoS 0 is lost while the daemon is away; set the device to "
                "QoS 1, which a broker keeps for it."
            )


def _about_rule(config: Config, rule: Rule) -> Iterator[str]:
    if isinstance(rule, DeadmanRule) and rule.on_stale is OnUnknown.IGNORE:
        yield f"Rule {rule.name}: while our own link to feed {rule.feed} is down nothing happens (on_stale)."
    if isinstance(rule, FeedRule):
        return
    if rule.on_stale is OnUnknown.IGNORE:
        when = "what it watches is never heard" if isinstance(rule, StaleRule) else "its feed falls silent"
        yield f"Rule {rule.name}: when {when} nothing happens (on_stale)."
    if isinstance(rule, LimitRule) and rule.reading in COUNTED:
        yield f"Rule {rule.name}: {rule.reading} is an event; a limit sees one at a time, rate and ratio count them."
    parts = (rule.scope.account, rule.scope.user, rule.scope.instrument)
    others = [
        feed.spec.oms
        for feed in config.feeds
        if feed.spec.oms not in (None, rule.scope.oms) and any(name in rule.reads for _, name in lanes_of(feed.spec))
    ]
    if others and any(isinstance(part, Label) for part in parts):
        yield (
            f"Rule {rule.name}: {' and '.join(rule.reads)} comes from {_listed(map(str, others), 'OMS')} as well, "
            f"whose ids mean other accounts than at OMS {rule.scope.oms}; give the rule a where that tells them apart."
        )


def _links(config: Config) -> Iterator[str]:
    """What crosses a network in the open, and what answers to one."""
    if not config.http.loopback:
        yield (
            "HTTP listens on an address that isn't loopback: commands are answered with 403 there, since they "
            "can't be signed yet; metrics and state are open to whoever reaches it."
        )
    for broker in config.mqtt.brokers:
        if not broker.tls and not _is_local(broker.host):
            yield f"Broker {broker.address}: commands and passwords cross the network unencrypted (mqtt://)."
    for feed in config.feeds:
        if (stream := feed.stream) and stream.url.startswith("ws://") and not _is_local(_host_of(stream.address)):
            yield (
                f"Feed {feed.spec.name}: its readings come from {stream.address} unencrypted (ws://): who sits on "
                "that network can feign them."
            )
    for oms in config.oms:
        for gateway in filter(None, (*oms.gateways, oms.http)):
            scheme = gateway.url.partition(":")[0]
            if scheme in ("ws", "http") and not _is_local(_host_of(gateway.address)):
                yield f"OMS {oms.name}: the sign-in to {gateway.address} crosses the network unencrypted ({scheme}://)."


def _host_of(address: str) -> str:
    return address.rpartition(":")[0]


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


# --- for a terminal -----------------------------------------------------------------------------------------


def render(inventory: Inventory) -> str:
    """The inventory as text for a terminal of 80 columns."""
    out = [
        f"Configuration {inventory.config}",
        f"Daemon {inventory.daemon}, fingerprint {inventory.fingerprint}"
        + (", in SHADOW: nothing is cancelled" if inventory.mode == "shadow" else ""),
    ]
    for rule in inventory.rules:
        owner = f" (owner: {rule.owner})" if rule.owner else ""
        out += ["", f"Rule {rule.rule}{owner}{', in shadow' if rule.mode == 'shadow' else ''}"]
        out += fields(
            ("watches", rule.watches),
            ("trips", rule.trips),
            *((("warns", rule.warns),) if rule.warns else ()),
            ("cancels", rule.cancels if rule.mode == "live" else f"nothing, in shadow; were it live: {rule.cancels}"),
            *((("stale", rule.when_stale),) if rule.when_stale else ()),
            *((("bad value", rule.when_bad),) if rule.when_bad else ()),
        )
    for panic in inventory.panics:
        out += ["", f"Panic {panic.panic}"]
        out += fields(("topic", panic.topic), ("pressed by", panic.presses), ("cancels", panic.cancels))
    for oms in inventory.oms:
        out += ["", f"OMS {oms.oms} at {', '.join(oms.gateways)}"]
        if oms.discover:
            out += fields(
                ("accounts", "asked of the OMS at each sign-in, with each snapshot and by each sweep of all of them")
            )
        for account in oms.accounts:
            reaching = [*account.whole, *(f"{name} (in part)" for name in account.partly)]
            out += fields((f"account {account.account}", ", ".join(reaching) or "not covered"))
        if oms.http:
            out += fields(("over HTTP", f"{oms.http}: for cancels, where no gateway answers; it proves nothing"))
        out += fields(("dialect", oms.dialect), ("proof", f"VERIFIED speaks of {oms.covers}"))
        allowed = "allowed" if oms.whole_oms else "not allowed (whole_oms)"
        out += fields(("whole OMS", f"a scope without account and user is {allowed}"))
    head = f"Findings: {len(inventory.findings)}" if inventory.findings else "No findings."
    known = ["", "Good to know:", *_bullets(inventory.remarks)] if inventory.remarks else []
    return "\n".join([*out, "", head, *_bullets(inventory.findings), *known]) + "\n"


def _bullets(sentences: Iterable[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from textwrap.wrap(sentence, WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def fields(*named: tuple[str, str]) -> list[str]:
    """Lines of a name and its text each, for a terminal."""
    lines = []
    for name, text in named:
        lead = f"  {name:<11} " if len(name) <= 11 else f"  {name} "
        lines += textwrap.wrap(text, WIDTH, initial_indent=lead, subsequent_indent=" " * 14, break_on_hyphens=False)
    return lines


def render_mistakes(mistakes: tuple[str, ...]) -> str:
    """Mistakes as text for a terminal: one after the other, each with its place."""
    head = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''} in the configuration:"
    return "\n".join([head, *_bullets(mistakes)]) + "\n"
