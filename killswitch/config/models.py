"""The configuration's tables as pydantic reads them: which keys there are, their defaults, and what each may hold.

What two keys say together, or two tables, is in config_relations.py.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic_settings import BaseSettings, SettingsConfigDict

from killswitch.config import addresses as a
from killswitch.config import values as v

ENV_PREFIX: Final = "KILLSWITCH_"
_BUILT_LATER: Final = ": signed commands are not built yet"


Mode = Annotated[Literal["live", "shadow"], v.one_of("live", "shadow")]


class Table(BaseModel):
    """A table: no key but the known ones, and no input in any message."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DaemonTable(Table):
    name: v.Name
    journal: a.Journal = "sqlite:///killswitch.db"
    unreadable_journal: Annotated[Literal["refuse", "sweep"], v.one_of("refuse", "sweep")] = "refuse"
    sweep_on_stop: v.Flag = False
    record: a.Recording = ""
    mode: Mode = "live"


class HttpTable(Table):
    listen: a.Listen = "127.0.0.1:9464"


class MqttTable(Table):
    urls: a.Brokers = ("mqtt://127.0.0.1:1883",)
    prefix: a.Prefix = "killswitch"
    username: v.Text = ""
    password_file: v.Text = ""
    ca_file: v.Text = ""
    cert_file: v.Text = ""
    key_file: v.Text = ""


class ConfirmTable(Table):
    empties: v.Count = 2
    settle_ms: v.Milliseconds = 50.0
    deadline_s: v.Seconds = 5.0
    guard_every_s: v.Seconds = 1.0


class RetryTable(Table):
    timeout_s: v.Seconds = 0.5
    hedge_after_s: v.Seconds = 0.15
    list_timeout_s: v.Seconds = 30.0
    first_s: v.Seconds = 0.05
    max_s: v.Seconds = 2.0


class CommandsTable(Table):
    unsigned_trip: Annotated[Literal[True], v.one_of(True, why=_BUILT_LATER)] = True
    reset_signatures: Annotated[Literal[0], v.one_of(0, why=_BUILT_LATER)] = 0
    max_age_s: v.Seconds = 30.0


class OmsTable(Table):
    name: v.Name
    oms_id: v.Id
    gateways: a.Gateways
    http: a.HttpUrl = ""
    dialect: Annotated[Literal["v2", "v3", "v4", "auto"], v.one_of("v2", "v3", "v4", "auto")]
    user_id: v.Id | None = None
    api_key: v.Said | None = Field(default=None, repr=False)
    secret_file: v.Said | None = None
    username: v.Said | None = None
    password_file: v.Said | None = None
    accounts: v.Accounts
    whole_oms: v.Flag = False
    calls_per_minute: v.Count = 400
    contact: v.Text = ""
    quotes: v.Flag = False
    block_trades: v.Flag = False


class ScopeTable(Table):
    oms: v.Name
    account: v.Part | None = None
    user: v.Part | None = None
    instrument: v.Part | None = None


class TemplateTable(Table):
    oms: v.Name
    account: v.TemplatePart | None = None
    user: v.TemplatePart | None = None
    instrument: v.TemplatePart | None = None


class PanicTable(Table):
    name: v.Name
    topic: a.ButtonTopic
    match: v.Matching = None
    scope: ScopeTable


class OmsFeedTable(Table):
    name: v.Name
    kind: Literal["oms"]
    oms: v.Name
    stale_after_s: v.Seconds
    snapshot_every_s: v.Seconds = 60.0
    numeraire: v.Said | None = None


class MqttFeedTable(Table):
    """Without a reading, and what belongs to one, it is a heart."""

    name: v.Name
    kind: Literal["mqtt"]
    topic: a.FeedTopic
    reading: v.Name | None = None
    value: v.PathInJson | None = None
    labels: v.LabelPaths = ()
    time: v.PathInJson | None = None
    stale_after_s: v.Seconds


class WebSocketFeedTable(Table):
    """As above."""

    name: v.Name
    kind: Literal["websocket"]
    url: a.StreamUrl
    subscribe: v.Messages = ()
    reading: v.Name | None = None
    value: v.PathInJson | None = None
    labels: v.LabelPaths = ()
    time: v.PathInJson | None = None
    stale_after_s: v.Seconds


FeedTable = Annotated[OmsFeedTable | MqttFeedTable | WebSocketFeedTable, Field(discriminator="kind")]


OnStale = Annotated[Literal["warn", "trip", "ignore"], v.one_of("warn", "trip", "ignore")]


class RuleShapeTable(Table):
    """What rules of every kind say."""

    name: v.Name
    owner: v.Text = ""
    scope: TemplateTable
    mode: Mode = "live"


class SeriesRuleTable(RuleShapeTable):
    """What rules say that watch series."""

    where: v.Where = ()
    on_stale: OnStale = "warn"
    on_bad: Annotated[Literal["warn", "trip"], v.one_of("warn", "trip")] = "warn"
    fallback: ScopeTable | None = None


class ReadingRuleTable(SeriesRuleTable):
    reading: v.Name


class LimitRuleTable(ReadingRuleTable):
    """Also what a table of no known kind is read as: else its kind would hide all other mistakes in it."""

    kind: Annotated[
        Literal["limit"],
        v.one_of("limit", "rate", "drawdown", "ratio", "stale", "deadman"),
    ]
    above: v.Limit | None = None
    below: v.Limit | None = None
    absolute: v.Flag = False
    for_s: v.SecondsOrNone = 0.0
    warn_at: v.Fractions = ()


class RateRuleTable(ReadingRuleTable):
    kind: Literal["rate"]
    above: v.Most
    per_s: v.Seconds
    sum: v.Flag = False
    warn_at: v.Fractions = ()


class DrawdownRuleTable(ReadingRuleTable):
    kind: Literal["drawdown"]
    fall: v.Above0
    window_s: v.Seconds
    warn_at: v.Fractions = ()


class RatioRuleTable(ReadingRuleTable):
    kind: Literal["ratio"]
    over: v.Name
    above: v.Most
    window_s: v.Seconds
    at_least: v.Count = 1
    warn_at: v.Fractions = ()


class StaleRuleTable(SeriesRuleTable):
    """On a reading's series, or on a feed as a whole: exactly one of the two is there."""

    kind: Literal["stale"]
    reading: v.Name | None = None
    feed: v.Name | None = None
    older_than_s: v.Seconds


class DeadmanRuleTable(RuleShapeTable):
    kind: Literal["deadman"]
    feed: v.Name
    silent_s: v.Seconds
    arm: Annotated[Literal["start", "first"], v.one_of("start", "first")] = "start"
    on_stale: OnStale = "warn"
    fallback: ScopeTable | None = None


RULE_KINDS: Final[dict[str, type[Table]]] = {
    "limit": LimitRuleTable,
    "rate": RateRuleTable,
    "drawdown": DrawdownRuleTable,
    "ratio": RatioRuleTable,
    "stale": StaleRuleTable,
    "deadman": DeadmanRuleTable,
}


def _rule_kind(row: object) -> str:
    kind = row.get("kind") if isinstance(row, dict) else getattr(row, "kind", None)
    return kind if isinstance(kind, str) and kind in RULE_KINDS else "limit"


RuleTable = Annotated[
    Annotated[LimitRuleTable, Tag("limit")]
    | Annotated[RateRuleTable, Tag("rate")]
    | Annotated[DrawdownRuleTable, Tag("drawdown")]
    | Annotated[RatioRuleTable, Tag("ratio")]
    | Annotated[StaleRuleTable, Tag("stale")]
    | Annotated[DeadmanRuleTable, Tag("deadman")],
    Discriminator(_rule_kind),
]


class Tables(BaseSettings):
    """The whole configuration. The sources are given where it is read (config.py)."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, env_prefix=ENV_PREFIX, env_nested_delimiter="__"
    )

    daemon: DaemonTable
    http: HttpTable = HttpTable()
    mqtt: MqttTable = MqttTable()
    confirm: ConfirmTable = ConfirmTable()
    retry: RetryTable = RetryTable()
    commands: CommandsTable = CommandsTable()
    oms: tuple[OmsTable, ...]
    panic: tuple[PanicTable, ...] = ()
    feed: tuple[FeedTable, ...] = ()
    rule: tuple[RuleTable, ...] = ()


SINGLE: Final[dict[str, type[Table]]] = {
    "daemon": DaemonTable,
    "http": HttpTable,
    "mqtt": MqttTable,
    "confirm": ConfirmTable,
    "retry": RetryTable,
    "commands": CommandsTable,
}
"""Tables that are there once; only these can be set from the environment."""

ARRAYS: Final = ("oms", "panic", "feed", "rule")

MODELS: Final[dict[tuple[str, ...], type[BaseModel]]] = {
    (): Tables,
    **{(name,): model for name, model in SINGLE.items()},
    ("oms",): OmsTable,
    ("panic",): PanicTable,
    ("panic", "scope"): ScopeTable,
    ("feed", "oms"): OmsFeedTable,
    ("feed", "mqtt"): MqttFeedTable,
    ("feed", "websocket"): WebSocketFeedTable,
    **{("rule", kind): model for kind, model in RULE_KINDS.items()},
    **{("rule", kind, "scope"): TemplateTable for kind in RULE_KINDS},
    **{("rule", kind, "fallback"): ScopeTable for kind in RULE_KINDS},
}
"""Which table stands where, by the words of a place: for naming the key that was probably meant."""


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(model.model_fields)
