"""What the composition root gets of the configuration, beside the core's own Settings: frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from killswitch.config.values import Secret
    from killswitch.domain.dialects import Dialect
    from killswitch.domain.scope import Scope
    from killswitch.domain.settings import FeedSpec, Mode
    from killswitch.wire.feed import FeedShape, HeartShape, StreamHeart, StreamShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """`journal`: as written, sqlite:/// and a path. `record`: a path as written; empty: nothing is recorded."""

    name: str
    journal: str
    unreadable_journal: Literal["refuse", "sweep"]
    sweep_on_stop: bool
    record: str = ""
    mode: Mode = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """Where to listen; port 0: any free one. `host` is without brackets."""

    host: str
    port: int
    loopback: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One broker. `address`: host:port, for people and metrics."""

    url: str
    host: str
    port: int
    tls: bool

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mqtt:
    """`brokers`: none or one. Empty `username`: none is sent."""

    brokers: tuple[Broker, ...]
    prefix: str
    username: str
    password: Secret | None
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    unsigned_trip: bool
    reset_signatures: int
    max_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySignIn:
    """An API key: the signature is made with the secret."""

    user_id: int
    api_key: str = field(repr=False)
    secret: Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordSignIn:
    username: str
    password: Secret


SignIn: TypeAlias = KeySignIn | PasswordSignIn


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """`address`: host:port, for people and metrics."""

    url: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Oms:
    """One OMS and how to sign in to it. `accounts`: all of them, on a person's word; none: the OMS is asked for them.

    `dialect`: None where each session's is found at its sign-in. `http`: the last resort for cancels; its `address`
    has the path too.
    """

    name: str
    oms_id: int
    gateways: tuple[Gateway, ...]
    http: Gateway | None
    dialect: Dialect | None
    sign_in: SignIn
    accounts: tuple[int, ...]
    whole_oms: bool
    calls_per_minute: int
    contact: str
    quotes: bool = False
    block_trades: bool = False

    @property
    def discover(self) -> bool:
        """Nobody gave a word on the accounts."""
        return not self.accounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Panic:
    """A button. `match`: None, any payload; text, the whole payload; pairs, fields that must be equal."""

    name: str
    topic: str
    match: str | tuple[tuple[str, str | int | bool | Decimal], ...] | None
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Where a WebSocket feed's messages come from, and how they are read. `address`: host:port, for people."""

    url: str
    address: str
    subscribe: tuple[str, ...]
    shape: StreamShape | StreamHeart


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A source of readings. `shape`: how an MQTT feed's payloads are read. `stream`: a WebSocket feed's."""

    spec: FeedSpec
    shape: FeedShape | HeartShape | None = None
    stream: Stream | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFile:
    """A file that holds a secret: the key that names it, and where it was found."""

    key: str
    path: Path
    open_to_all: bool
