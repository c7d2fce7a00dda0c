"""From checked tables to the values that the rest of the house uses. Nothing is checked here any more."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from decimal import Decimal
from typing import TYPE_CHECKING, TypedDict, assert_never
from urllib.parse import urlsplit

from killswitch.config.addresses import PORTS, place, place_over_http
from killswitch.config.mistakes import Mistake
from killswitch.config.models import (
    DeadmanRuleTable,
    DrawdownRuleTable,
    LimitRuleTable,
    MqttFeedTable,
    OmsFeedTable,
    RateRuleTable,
    RatioRuleTable,
    StaleRuleTable,
    WebSocketFeedTable,
)
from killswitch.config.tables import (
    Broker,
    Commands,
    Daemon,
    Feed,
    Gateway,
    Http,
    KeySignIn,
    Mqtt,
    Oms,
    Panic,
    PasswordSignIn,
    SignIn,
    Stream,
)
from killswitch.domain.dialects import Dialect
from killswitch.domain.scope import EVERY, Every, Scope
from killswitch.domain.settings import (
    ConfirmPolicy,
    DeadmanRule,
    DrawdownRule,
    FeedSpec,
    Label,
    LimitRule,
    OnUnknown,
    RateRule,
    RatioRule,
    RetryPolicy,
    Rule,
    ScopeTemplate,
    SilenceRule,
    StaleRule,
)
from killswitch.wire.feed import FeedShape, HeartShape, ShapeError, StreamHeart, StreamShape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from killswitch.config.files import Files
    from killswitch.config.models import (
        CommandsTable,
        ConfirmTable,
        DaemonTable,
        FeedTable,
        HttpTable,
        MqttTable,
        OmsTable,
        PanicTable,
        RetryTable,
        RuleTable,
        ScopeTable,
        SeriesRuleTable,
        Tables,
        TemplateTable,
    )
    from killswitch.domain.messages import Labels
    from killswitch.domain.settings import Mode


def daemon(table: DaemonTable) -> Daemon:
    return Daemon(
        name=table.name,
        journal=table.journal,
        unreadable_journal=table.unreadable_journal,
        sweep_on_stop=table.sweep_on_stop,
        record=table.record,
        mode=table.mode,
    )


def http(table: HttpTable) -> Http:
    host, _, port = table.listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host.lower() == "localhost"
    return Http(host=host, port=int(port), loopback=loopback)


def mqtt(table: MqttTable, files: Files) -> Mqtt:
    brokers = []
    for url in table.urls:
        parts = urlsplit(url)
        brokers.append(
            Broker(
                url=url,
                host=parts.hostname or "",
                port=parts.port or PORTS[parts.scheme],
                tls=parts.scheme == "mqtts",
            )
        )
    return Mqtt(
        brokers=tuple(brokers),
        prefix=table.prefix,
        username=table.username,
        password=files.secrets.get(("mqtt", "password_file")),
        ca_file=files.paths.get(("mqtt", "ca_file")),
        cert_file=files.paths.get(("mqtt", "cert_file")),
        key_file=files.paths.get(("mqtt", "key_file")),
    )


def confirm(table: ConfirmTable) -> ConfirmPolicy:
    return ConfirmPolicy(
        empties=table.empties,
        settle_s=table.settle_ms / 1000,
        deadline_s=table.deadline_s,
        guard_every_s=table.guard_every_s,
    )


def retry(table: RetryTable) -> RetryPolicy:
    return RetryPolicy(
        timeout_s=table.timeout_s,
        hedge_after_s=table.hedge_after_s,
        list_timeout_s=table.list_timeout_s,
        first_s=table.first_s,
        max_s=table.max_s,
    )


def commands(table: CommandsTable) -> Commands:
    return Commands(
        unsigned_trip=table.unsigned_trip,
        reset_signatures=table.reset_signatures,
        max_age_s=table.max_age_s,
    )


def oms(table: OmsTable, index: int, files: Files) -> Oms:
    sign_in: SignIn
    key = "secret_file" if table.secret_file is not None else "password_file"
    secret = files.secrets["oms", index, key]
    if table.user_id is not None and table.api_key is not None:
        sign_in = KeySignIn(user_id=table.user_id, api_key=table.api_key, secret=secret)
    else:
        assert table.username is not None, "one way to sign in is whole: config_relations.py saw to it"
        sign_in = PasswordSignIn(username=table.username, password=secret)
    return Oms(
        name=table.name,
        oms_id=table.oms_id,
        gateways=tuple(Gateway(url=url, address=place(url)) for url in table.gateways),
        http=Gateway(url=table.http, address=place_over_http(table.http)) if table.http else None,
        dialect=None if table.dialect == "auto" else Dialect(table.dialect),
        sign_in=sign_in,
        accounts=table.accounts,
        whole_oms=table.whole_oms,
        calls_per_minute=table.calls_per_minute,
        contact=table.contact,
        quotes=table.quotes,
        block_trades=table.block_trades,
    )


def panic(table: PanicTable) -> Panic:
    return Panic(name=table.name, topic=table.topic, match=table.match, scope=scope(table.scope))


def feeds(tables: Iterable[FeedTable]) -> tuple[tuple[Feed, ...], list[Mistake]]:
    """The feeds, and what the reader of payloads says about a shape: it has the last word on it."""
    built, wrong = [], []
    for index, table in enumerate(tables):
        try:
            built.append(_feed(table))
        except ShapeError as error:
            wrong.append(Mistake(("feed", index), str(error)))
    return tuple(built), wrong


def _feed(table: FeedTable) -> Feed:
    match table:
        case OmsFeedTable():
            spec = FeedSpec(
                name=table.name,
                kind="oms",
                stale_after_s=table.stale_after_s,
                oms=table.oms,
                snapshot_every_s=table.snapshot_every_s,
                numeraire=table.numeraire,
            )
            return Feed(spec=spec)
        case MqttFeedTable():
            spec = FeedSpec(
                name=table.name,
                kind="mqtt",
                stale_after_s=table.stale_after_s,
                reading=table.reading,
                timed=table.time is not None,
            )
            return Feed(spec=spec, shape=_mqtt_shape(table))
        case WebSocketFeedTable():
            stream = Stream(
                url=table.url,
                address=place(table.url),
                subscribe=table.subscribe,
                shape=_stream_shape(table),
            )
            spec = FeedSpec(
                name=table.name,
                kind="websocket",
                stale_after_s=table.stale_after_s,
                reading=table.reading,
                timed=table.time is not None,
            )
            return Feed(spec=spec, stream=stream)
        case _:
            assert_never(table)


def _mqtt_shape(table: MqttFeedTable) -> FeedShape | HeartShape:
    if table.reading is None:
        return HeartShape(name=table.name, topic=table.topic)
    return FeedShape(
        name=table.name,
        topic=table.topic,
        reading=table.reading,
        value=table.value,
        labels=dict(table.labels),
        time=table.time,
    )


def _stream_shape(table: WebSocketFeedTable) -> StreamShape | StreamHeart:
    if table.reading is None or table.value is None:
        return StreamHeart(name=table.name)  # relations.py saw to it that neither is there
    return StreamShape(
        name=table.name,
        reading=table.reading,
        value=table.value,
        labels=dict(table.labels),
        time=table.time,
    )


class _Shape(TypedDict):
    """What rules of every kind say that watch a reading."""

    name: str
    owner: str
    reading: str
    where: Labels
    on_stale: OnUnknown
    on_bad: OnUnknown
    fallback: Scope | None
    scope: ScopeTemplate
    mode: Mode


def _shape(table: SeriesRuleTable, reading: str) -> _Shape:
    return _Shape(
        name=table.name,
        owner=table.owner,
        reading=reading,
        where=table.where,
        on_stale=OnUnknown(table.on_stale),
        on_bad=OnUnknown(table.on_bad),
        fallback=None if table.fallback is None else scope(table.fallback),
        scope=_template(table.scope),
        mode=table.mode,
    )


def rule(table: RuleTable) -> Rule:
    match table:
        case LimitRuleTable():
            return LimitRule(
                **_shape(table, table.reading),
                above=table.above,
                below=table.below,
                absolute=table.absolute,
                for_s=table.for_s,
                warn_at=table.warn_at,
            )
        case RateRuleTable():
            return RateRule(
                **_shape(table, table.reading),
                above=table.above,
                per_s=table.per_s,
                sum=table.sum,
                warn_at=table.warn_at,
            )
        case DrawdownRuleTable():
            return DrawdownRule(
                **_shape(table, table.reading), fall=table.fall, window_s=table.window_s, warn_at=table.warn_at
            )
        case RatioRuleTable():
            return RatioRule(
                **_shape(table, table.reading),
                over=table.over,
                above=table.above,
                window_s=table.window_s,
                at_least=table.at_least,
                warn_at=table.warn_at,
            )
        case StaleRuleTable(feed=str(feed)):
            template = _template(table.scope)
            return SilenceRule(
                name=table.name,
                owner=table.owner,
                scope=template,
                mode=table.mode,
                feed=feed,
                older_than_s=table.older_than_s,
            )
        case StaleRuleTable():
            assert table.reading is not None, "it names a reading or a feed: relations.py saw to it"
            return StaleRule(**_shape(table, table.reading), older_than_s=table.older_than_s)
        case DeadmanRuleTable():
            return DeadmanRule(
                name=table.name,
                owner=table.owner,
                scope=_template(table.scope),
                feed=table.feed,
                mode=table.mode,
                silent_s=table.silent_s,
                arm=table.arm,
                on_stale=OnUnknown(table.on_stale),
                fallback=None if table.fallback is None else scope(table.fallback),
            )
        case _:
            assert_never(table)


def scope(table: ScopeTable) -> Scope:
    """A part that isn't named is EVERY; that neither account nor user being named was said was checked."""
    return Scope(
        oms=table.oms,
        account=EVERY if table.account is None else table.account,
        user=EVERY if table.user is None else table.user,
        instrument=EVERY if table.instrument is None else table.instrument,
    )


def _template(table: TemplateTable) -> ScopeTemplate:
    return ScopeTemplate(
        oms=table.oms,
        account=EVERY if table.account is None else table.account,
        user=EVERY if table.user is None else table.user,
        instrument=EVERY if table.instrument is None else table.instrument,
    )


def digest(tables: Tables) -> str:
    """SHA-256 of the configuration, defaults filled in, in one canonical form; API keys are left out."""
    content = tables.model_dump(exclude={"oms": {"__all__": {"api_key"}}}, warnings=False)
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_canonical)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> str | dict[str, str]:
    match value:
        case Decimal():
            return format(value.normalize(), "f") if value else "0"  # 50, 50.0 and 5e1 are one limit
        case Every():
            return value.value
        case Label():
            return {"label": value.name}
        case _:
            raise TypeError(f"no canonical form for a {type(value).__name__}")
