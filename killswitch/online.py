"""`check --online`: signs in to each OMS and to the broker as the daemon would, looks, and changes nothing.

Safe beside a live daemon: one sign-in a gateway, never a second one after a refusal (users get locked), a few
questions with pauses between them, no subscription at an OMS, no cancel; at the broker a session of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from killswitch import online_extras
from killswitch.adapters.mqtt_send import BrokerUnreachable
from killswitch.adapters.mqtt_visit import NotLetIn, look
from killswitch.adapters.oms_visit import NoAnswer, SignInRefused, Unreachable, Visit, visit
from killswitch.broker import broker_of
from killswitch.config.tables import KeySignIn
from killswitch.domain.credentials import CANCELS, OPERATOR, TRADING
from killswitch.domain.dialects import POOREST, Dialect, dialect_of, ignored_by, in_words
from killswitch.domain.messages import Answer, AnswerKind
from killswitch.links import credentials_of
from killswitch.online_accounts import LISTED_MAX, WITHIN_S, judge_accounts, read_all, why
from killswitch.online_http import look_over_http
from killswitch.wire import alphapoint
from killswitch.wire import alphapoint_credential as credential
from killswitch.wire.alphapoint_replies import read_open_orders, read_user_accounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from killswitch.adapters.oms_visit import ClockSpan
    from killswitch.config import Config
    from killswitch.config.tables import Oms
    from killswitch.wire.frame import Frame

PAUSE_S: Final = 0.1
SHARE: Final = 0.5
"""Of calls_per_minute, at most."""
CLOCK_OFF_S: Final = 5.0
"""A clock that is further off than this is told of: no evidence of ours would agree with the venue's."""


@dataclass(slots=True, kw_only=True)
class GatewayLooked:
    """One gateway. `state`: signed in, refused or unreachable; `why` it isn't signed in. Times are in seconds.

    `version` None: not known, and `version_why` says why. `dialect`: what a session there is spoken to in.
    `clock_s`: the gateway's clock is ahead of ours by at least and at most so much; None: it tells no time.
    """

    gateway: str
    state: str = "not tried"
    why: str = ""
    sign_in_s: float | None = None
    round_trip_s: float | None = None
    version: str | None = None
    version_why: str = ""
    dialect: str | None = None
    clock_s: tuple[float, float] | None = None


@dataclass(slots=True, kw_only=True)
class AccountLooked:
    """One configured account. `open_orders` None: not listed, and `why` says why not; "": it wasn't asked for."""

    account: int
    open_orders: int | None = None
    why: str = ""


@dataclass(slots=True, kw_only=True)
class OmsLooked:
    """One OMS. What is None isn't known, and `unknown` says why, by name. `all_accounts`: asked for where they are
    to be discovered.
    """

    oms: str
    dialect: str
    gateways: list[GatewayLooked] = field(default_factory=list)
    http: GatewayLooked | None = None
    user: int | None = None
    permissions: list[str] | None = None
    second_factor_calls: list[str] | None = None
    credential_accounts: list[int] | None = None
    all_accounts: list[int] | None = None
    accounts: list[AccountLooked] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)  # what is listed beside orders -> why it can't be, or ""
    unknown: dict[str, str] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return any(gateway.state in ("signed in", "refused") for gateway in self.gateways)


@dataclass(slots=True, kw_only=True)
class BrokerLooked:
    """One broker. `state`: connected, refused or unreachable. `receive_max` None: not told."""

    broker: str
    state: str
    why: str = ""
    version: str | None = None
    receive_max: int | None = None
    refused_topics: list[str] = field(default_factory=list)
    took_s: float | None = None


@dataclass(slots=True, kw_only=True)
class Online:
    """What was seen; plain values, so that it can be JSON as it is."""

    oms: list[OmsLooked]
    brokers: list[BrokerLooked]
    findings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def unreached(self) -> bool:
        """An OMS none of whose gateways answered, or a broker."""
        return not all(oms.reached for oms in self.oms) or any(b.state == "unreachable" for b in self.brokers)


async def look_around(config: Config, wall: Callable[[], float] = time.time) -> Online:
    """Look at every OMS and the broker, side by side. Ends within about WITHIN_S; raises nothing of the others'."""
    brokers = asyncio.ensure_future(_brokers(config))
    omses = await asyncio.gather(*(_oms(oms, wall) for oms in config.oms))
    online = Online(oms=list(omses), brokers=await brokers)
    for oms, looked in zip(config.oms, omses, strict=True):
        _judge(oms, looked, online)
    for broker in online.brokers:
        _judge_broker(broker, online)
    return online


# --- an OMS -------------------------------------------------------------------------------------------------


async def _oms(oms: Oms, wall: Callable[[], float]) -> OmsLooked:
    looked = OmsLooked(oms=oms.name, dialect="auto" if oms.dialect is None else oms.dialect.value)
    looked.gateways = [GatewayLooked(gateway=gateway.address) for gateway in oms.gateways]
    looked.accounts = [AccountLooked(account=account) for account in oms.accounts]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WITHIN_S), contextlib.AsyncExitStack() as kept:
            first = await _gateways(oms, looked, kept, wall)
            if first is not None:
                await _questions(oms, looked, first)
    if oms.http is not None:
        looked.http = GatewayLooked(gateway=oms.http.address)
        # Whoever was refused once isn't sent again.
        if not any(gateway.state == "refused" for gateway in looked.gateways):
            await look_over_http(oms, looked.http, wall)
    for gateway in looked.gateways:
        if gateway.state == "trying":
            gateway.state, gateway.why = "unreachable", f"no answer within {WITHIN_S:g} s"
    return looked


async def _gateways(
    oms: Oms, looked: OmsLooked, kept: contextlib.AsyncExitStack, wall: Callable[[], float]
) -> Visit | None:
    """Sign in to one after the other, until one refuses us. The first session stays, for the questions."""
    first: Visit | None = None
    for gateway, seen in zip(oms.gateways, looked.gateways, strict=True):
        seen.state = "trying"
        async with contextlib.AsyncExitStack() as brief:
            stack = brief if first else kept
            try:
                session = await stack.enter_async_context(visit(gateway.url, credentials_of(oms), wall))
            except Unreachable as error:
                seen.state, seen.why = "unreachable", str(error)
                continue
            except SignInRefused as error:
                seen.state, seen.why = "refused", str(error)
                return first  # another gateway would only count the same refusal again
            seen.state, seen.sign_in_s, seen.clock_s = "signed in", session.took_s, _span(session.clock)
            await _greet(session, seen, _pause_s(oms))
            first = first or session
    return first


def _span(clock: ClockSpan | None) -> tuple[float, float] | None:
    return None if clock is None else (clock.least_s, clock.most_s)


def _pause_s(oms: Oms) -> float:
    return max(PAUSE_S, 60 / (SHARE * oms.calls_per_minute))


async def _greet(session: Visit, seen: GatewayLooked, pause_s: float) -> None:
    try:
        _, seen.round_trip_s = await session.ask(alphapoint.ping())
        await asyncio.sleep(pause_s)
        frame, _ = await session.ask(credential.get_oms_version())
    except NoAnswer as error:
        seen.version_why = str(error)
        return
    match credential.read_version(frame):
        case credential.Version(text):
            seen.version = text
        case credential.Unknown(why):
            seen.version_why = session.clean(why)


async def _questions(oms: Oms, looked: OmsLooked, session: Visit) -> None:
    """What the credential may do, then a list of each account; each question once."""
    configured = oms.sign_in.user_id if isinstance(oms.sign_in, KeySignIn) else None
    looked.user = session.user
    user = session.user or configured

    async def ask(request: alphapoint.Request) -> Frame | str:
        await asyncio.sleep(_pause_s(oms))
        try:
            frame, _ = await session.ask(request)
        except NoAnswer as error:
            return str(error)
        return frame

    def note(what: str, found: object) -> Sequence[Any] | None:
        if isinstance(found, tuple):
            return found
        why = found.why if isinstance(found, credential.Unknown) else getattr(found, "text", "") or str(found)
        looked.unknown[what] = session.clean(why)
        return None

    if user is None:
        looked.unknown |= dict.fromkeys(("permissions", "accounts"), "the gateway doesn't say which user we are")
    else:
        frame = await ask(credential.get_user_permissions(user))
        found = note("permissions", frame if isinstance(frame, str) else credential.read_permissions(frame))
        looked.permissions = None if found is None else [session.clean(name) for name in found]
    frame = await ask(credential.get_second_factor_calls())
    found = note("second factor", frame if isinstance(frame, str) else credential.read_second_factor_calls(frame))
    looked.second_factor_calls = None if found is None else [session.clean(name) for name in found]
    if user is not None:
        frame = await ask(alphapoint.get_user_accounts(oms.oms_id, user))
        found = note("accounts", frame if isinstance(frame, str) else read_user_accounts(frame))
        looked.credential_accounts = None if found is None else list(found)
    if oms.discover:
        found = note("all accounts", await read_all(oms.oms_id, ask))
        looked.all_accounts = None if found is None else list(found)
        known = sorted({*(looked.credential_accounts or ()), *(looked.all_accounts or ())})
        looked.accounts = [AccountLooked(account=account) for account in known]
    for account in looked.accounts[:LISTED_MAX]:
        frame = await ask(alphapoint.get_open_orders(oms.oms_id, account.account))
        _listed(account, frame, session)
    version = next((gateway.version for gateway in looked.gateways if gateway.version), "")
    await online_extras.look(oms, oms.dialect or dialect_of(version), ask, session.clean, looked.beside)


def _listed(account: AccountLooked, frame: Frame | str, session: Visit) -> None:
    if isinstance(frame, str):
        account.why = frame
        return
    match read_open_orders(frame, account.account):
        case Answer() as answer:
            account.why = session.clean(answer.text or f"answer {answer.label}")
            if answer.kind is AnswerKind.REFUSED:
                account.why = f"refused: {account.why}"
        case rows:
            account.open_orders, account.why = len(rows.rows) + rows.unreadable, ""


# --- what it means ------------------------------------------------------------------------------------------


def _judge(oms: Oms, looked: OmsLooked, online: Online) -> None:
    who = f"OMS {oms.name}"
    for gateway in filter(None, (*looked.gateways, looked.http)):
        _judge_gateway(who, oms, gateway, online)
    if not any(gateway.state == "signed in" for gateway in looked.gateways):
        return
    configured = oms.sign_in.user_id if isinstance(oms.sign_in, KeySignIn) else None
    if configured is not None and looked.user not in (None, configured):
        online.findings.append(
            f"{who}: the gateway takes us for user {looked.user}, the configuration says {configured}."
        )
    _judge_permissions(who, oms, looked, online)
    online.findings += online_extras.findings(oms.name, looked.beside)
    needing = [name for name in CANCELS if name in (looked.second_factor_calls or ())]
    if needing:
        online.findings.append(
            f"{who}: {' and '.join(needing)} want{'s' if len(needing) == 1 else ''} a second factor with each call, "
            "which a daemon can't give: such a call would be refused. The venue has to exempt the credential."
        )
    elif looked.second_factor_calls is None:
        online.remarks.append(
            f"{who}: whether cancels want a second factor is not known: {why(looked, 'second factor')}."
        )
    judge_accounts(who, oms, looked, online)


def _judge_gateway(who: str, oms: Oms, gateway: GatewayLooked, online: Online) -> None:
    add = online.findings.append
    where = f"{who}, {gateway.gateway}"
    match gateway.state:
        case "unreachable":
            add(f"{where}: not reached: {gateway.why}.")
        case "refused":
            add(f"{where}: the sign-in was refused: {gateway.why}. It was not tried again: users get locked.")
        case "not tried":
            add(f"{where}: not tried: the gateway before it refused us, or took too long.")
    gateway.dialect = (oms.dialect or dialect_of(gateway.version or "")).value if gateway.state == "signed in" else None
    if oms.dialect is None:
        _judge_found(where, gateway, online)
    elif gateway.version is not None:
        _judge_dialect(where, oms.dialect, gateway.version, online)
    if gateway.clock_s is not None:
        least, most = gateway.clock_s
        if least > CLOCK_OFF_S or most < -CLOCK_OFF_S:
            add(f"{where}: its clock and ours differ: it is {ahead(gateway.clock_s)}.")


def _judge_found(where: str, gateway: GatewayLooked, online: Online) -> None:
    """Leaving the dialect to the version is sound whatever the server says; what it costs is worth knowing."""
    if gateway.dialect == POOREST.value and gateway.state == "signed in":
        why = f"version {gateway.version}" if gateway.version else f"the version isn't known: {gateway.version_why}"
        online.remarks.append(f'{where}: {why}. dialect = "auto" makes that {in_words(POOREST)}.')


def _judge_dialect(where: str, configured: Dialect, version: str, online: Online) -> None:
    fits = dialect_of(version)
    if fits is configured:
        return
    said = f'{where}: the server is version {version}, the configuration says dialect = "{configured.value}": '
    ignored = ignored_by(configured, version)
    if ignored:
        online.findings.append(
            f"{said}it is not known to heed the {' and the '.join(ignored)} in a cancel, and a cancel that is heeded "
            "in part reaches further, up to every order of the OMS. Don't run with this."
        )
    else:
        online.remarks.append(f"{said}more goes order by order than has to.")


def ahead(span: tuple[float, float]) -> str:
    """Such as "3602 s ahead of ours"; where no difference can be told, "within 1 s of ours"."""
    least, most = span
    if least <= 0 <= most:
        return f"within {math.ceil(max(-least, most))} s of ours"
    middle = (least + most) / 2
    return f"{abs(middle):.0f} s {'ahead of' if middle > 0 else 'behind'} ours"


def _judge_permissions(who: str, oms: Oms, looked: OmsLooked, online: Online) -> None:
    if looked.permissions is None:
        online.remarks.append(f"{who}: what the credential may do is not known: {why(looked, 'permissions')}.")
        return
    may = {name.lower() for name in looked.permissions}
    if not may & {OPERATOR, TRADING}:
        online.findings.append(f"{who}: the credential can't cancel: it has neither Trading nor Operator.")
    if oms.whole_oms and OPERATOR not in may:
        online.findings.append(
            f"{who}: whole_oms = true, but the credential isn't Operator: a cancel of the whole OMS would be refused."
        )


# --- the broker ---------------------------------------------------------------------------------------------


async def _brokers(config: Config) -> list[BrokerLooked]:
    broker = broker_of(config)
    if broker is None:
        return []
    prefix = config.mqtt.prefix
    topics = [f"{prefix}/command/trip", f"{prefix}/command/reset", *(panic.topic for panic in config.panics)]
    try:
        async with asyncio.timeout(WITHIN_S):
            # Never the daemon's own identifier: the broker would give us its session, and what waits in it.
            seen = await look(broker, list(dict.fromkeys(topics)), f"killswitch-check-{secrets.token_hex(8)}")
    except NotLetIn as error:
        return [BrokerLooked(broker=broker.label, state="refused", why=_bare(str(error), broker.label))]
    except BrokerUnreachable as error:
        return [BrokerLooked(broker=broker.label, state="unreachable", why=_bare(str(error), broker.label))]
    except TimeoutError:
        return [BrokerLooked(broker=broker.label, state="unreachable", why=f"no answer within {WITHIN_S:g} s")]
    return [
        BrokerLooked(
            broker=broker.label,
            state="connected",
            version=seen.version,
            receive_max=seen.receive_max,
            refused_topics=list(seen.refused),
            took_s=seen.took_s,
        )
    ]


def _bare(sentence: str, label: str) -> str:
    return sentence.removeprefix(f"{label}: ")


def _judge_broker(broker: BrokerLooked, online: Online) -> None:
    who = f"Broker {broker.broker}"
    match broker.state:
        case "unreachable":
            online.findings.append(f"{who}: not reached: {broker.why}.")
        case "refused":
            online.findings.append(f"{who}: it doesn't let us in: {broker.why}.")
    if broker.refused_topics:
        topics = ", ".join(broker.refused_topics)
        online.findings.append(f"{who}: it doesn't let us subscribe to {topics} with QoS 1: no command there is heard.")
