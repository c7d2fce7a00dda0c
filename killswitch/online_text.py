"""What `check --online` prints of what it saw: text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from killswitch.domain.credentials import CANCELS
from killswitch.inventory import WIDTH, fields
from killswitch.online import ahead
from killswitch.online_accounts import LISTED_MAX
from killswitch.terminal import counted, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from killswitch.online import BrokerLooked, GatewayLooked, OmsLooked, Online


def render(online: Online) -> str:
    """What was seen, then what is wrong with it, then what isn't known. Nothing in it can steer a terminal."""
    out = ["", "Online, now:"]
    for oms in online.oms:
        out += _oms(oms)
    for broker in online.brokers:
        out += ["", f"Broker {broker.broker}", *_fields(*_broker(broker))]
    out += ["", f"Findings online: {len(online.findings)}" if online.findings else "No findings online."]
    out += _listed(online.findings)
    if online.remarks:
        out += ["", "Good to know:", *_listed(online.remarks)]
    return "\n".join(out) + "\n"


def _listed(sentences: list[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from textwrap.wrap(
            plain(sentence), WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
        )


def _fields(*named: tuple[str, str]) -> list[str]:
    return fields(*((name, plain(text)) for name, text in named))


def _oms(oms: OmsLooked) -> Iterator[str]:
    for gateway in oms.gateways:
        yield from ("", f"OMS {oms.oms} at {gateway.gateway}")
        yield from _fields(*_gateway(oms, gateway))
    if oms.http is not None:
        yield from ("", f"OMS {oms.oms} over HTTP at {oms.http.gateway}")
        yield from _fields(*list(_gateway(oms, oms.http))[:2])
    if not any(gateway.state == "signed in" for gateway in oms.gateways):
        return
    if len(oms.gateways) > 1 or oms.http is not None:
        yield from ("", f"OMS {oms.oms}")
    may = oms.permissions
    yield from _fields(("may", "not known" if may is None else ", ".join(may) or "nothing"))
    if oms.second_factor_calls is None:
        factor = "not known"
    else:
        factor = ", ".join(name for name in CANCELS if name in oms.second_factor_calls) or "for no cancel"
    yield from _fields(("2FA", factor))
    own = oms.credential_accounts
    yield from _fields(("accounts", "not known" if own is None else _some(own) or "none of its own"))
    if oms.all_accounts is not None:
        yield from _fields(("all of them", _some(oms.all_accounts)))
    for account in oms.accounts[:LISTED_MAX]:
        count = account.open_orders
        text = f"not listed: {account.why or 'not asked for'}" if count is None else counted(count, "open order")
        yield from _fields((f"account {account.account}", text))
    for words, why in oms.beside.items():
        yield from _fields((words, f"can't be listed: {why}" if why else "can be listed"))
    if len(oms.accounts) > LISTED_MAX:
        yield from _fields(("others", f"{len(oms.accounts) - LISTED_MAX} more accounts were not listed"))


def _some(accounts: list[int]) -> str:
    more = f" and {len(accounts) - LISTED_MAX} more" if len(accounts) > LISTED_MAX else ""
    return ", ".join(map(str, accounts[:LISTED_MAX])) + more


def _gateway(oms: OmsLooked, gateway: GatewayLooked) -> Iterator[tuple[str, str]]:
    if gateway.state != "signed in":
        yield "signed in", f"no: {gateway.state}{f': {gateway.why}' if gateway.why else ''}"
        return
    user = "" if oms.user is None else f"as user {oms.user}, "
    yield "signed in", f"{user}in {_ms(gateway.sign_in_s)}"
    version = f"not known: {gateway.version_why}" if gateway.version is None else gateway.version
    configured = f"configured as dialect {oms.dialect}"
    found = f', which makes it dialect {gateway.dialect} (dialect = "auto")'
    yield "version", f"{version}{found}" if oms.dialect == "auto" else f"{version}; {configured}"
    yield "round trip", _ms(gateway.round_trip_s)
    yield "clock", "not known: it tells no time" if gateway.clock_s is None else ahead(gateway.clock_s)


def _broker(broker: BrokerLooked) -> Iterator[tuple[str, str]]:
    if broker.state != "connected":
        yield "connected", f"no: {broker.state}: {broker.why}"
        return
    yield "connected", f"MQTT {broker.version}, in {_ms(broker.took_s)}"
    refused = ", ".join(broker.refused_topics)
    yield "commands", f"no subscription to {refused}" if refused else "every topic may be subscribed to"
    told = "not told" if broker.receive_max is None else f"at most {broker.receive_max} unacknowledged messages of ours"
    yield "takes", told


def _ms(seconds: float | None) -> str:
    return "not known" if seconds is None else f"{seconds * 1000:.1f} ms"
