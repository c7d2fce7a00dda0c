"""What a session with a gateway belongs to, how patient it is, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from killswitch.adapters.oms_door import Door
    from killswitch.domain.dialects import Dialect
    from killswitch.domain.messages import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a session waits for what, in seconds."""

    sign_in_s: float = 10.0
    subscribed_s: float = 5.0
    version_s: float = 1.0  # beyond what the subscriptions took: a server may not know the call
    version_every_s: float = 60.0  # a venue may be upgraded behind a session that lasts
    ping_after_s: float = 2.0  # nothing heard for so long: ask
    dead_after_s: float = 5.0  # not a byte for so long: half-open
    answer_s: float = 30.0  # events, but no answer to anything for so long: as good as dead
    beat_s: float = 0.25  # how often to look
    heard_every_s: float = 1.0
    speak_every_s: float = 60.0  # the gateway ends a session after an hour without a call of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """What a session belongs to, and where its facts go. `dialect`: None where the server's version says it."""

    oms: str
    oms_id: int
    gateway: str
    dialect: Dialect | None
    accounts: Sequence[int]
    submit: Callable[[Event], None]
    wall: Callable[[], float]
    patience: Patience
    door: Door
    user: int | None = None  # as whom we sign in, where we say that by a number


@dataclass(frozen=True, slots=True)
class Refused:
    """The session ended before it was up because the sign-in was refused. `wait_s`: what the door says to that."""

    why: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class PutOff:
    """The sign-in wasn't tried: another gateway of the OMS refused us meanwhile."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The session ended before it was up."""

    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The session was up, for so long."""

    why: str
    lasted_s: float


Ending: TypeAlias = Refused | PutOff | Failed | Ended
