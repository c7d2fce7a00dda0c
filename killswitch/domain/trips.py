"""The life of a trip: its states, the one table of what each input does to them, and what a trip holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from killswitch.domain.messages import CauseView
    from killswitch.domain.scope import Scope
    from killswitch.domain.sweep import Sweep


class State(Enum):
    """Where a trip is. ARMED: there is none."""

    ARMED = "armed"
    CONFIRMED = "confirmed"
    SWEEPING = "sweeping"
    ESCALATED = "escalated"


class Input(Enum):
    """What happens to a trip."""

    TRIP = "trip"  # a breach or a person's command
    PROVEN = "proven"  # enough empty rounds in a row
    SIGHTED = "sighted"  # a working order in the scope was seen
    OVERDUE = "overdue"  # not confirmed in time, or refused in a way that people must hear of
    BLIND = "blind"  # the last full round is too old, or its session is gone
    RESET = "reset"  # a person ends it


class Verdict(Enum):
    """Inputs that change no state."""

    LATE = "late"  # it was on its way; counted and ignored
    REFUSED = "refused"


A, C, S, E = State.ARMED, State.CONFIRMED, State.SWEEPING, State.ESCALATED
LATE, REFUSED = Verdict.LATE, Verdict.REFUSED

TRANSITIONS: Final[dict[tuple[State, Input], State | Verdict]] = {
    (A, Input.TRIP): S,
    (A, Input.PROVEN): LATE,
    (A, Input.SIGHTED): LATE,
    (A, Input.OVERDUE): LATE,
    (A, Input.BLIND): LATE,
    (A, Input.RESET): REFUSED,  # no such trip
    (S, Input.TRIP): S,
    (S, Input.PROVEN): C,
    (S, Input.SIGHTED): S,
    (S, Input.OVERDUE): E,
    (S, Input.BLIND): S,
    (S, Input.RESET): REFUSED,
    (C, Input.TRIP): S,
    (C, Input.PROVEN): C,
    (C, Input.SIGHTED): S,
    (C, Input.OVERDUE): LATE,
    (C, Input.BLIND): S,
    (C, Input.RESET): A,
    (E, Input.TRIP): E,
    (E, Input.PROVEN): C,
    (E, Input.SIGHTED): E,
    (E, Input.OVERDUE): E,
    (E, Input.BLIND): E,
    (E, Input.RESET): REFUSED,  # unless two people override, once commands are signed
}

SEVERITY: Final = (State.ARMED, State.CONFIRMED, State.SWEEPING, State.ESCALATED)
"""From best to worst: `killswitch/state` shows the worst."""

VERIFIED: Final = "VERIFIED"
RESIDUAL: Final = "RESIDUAL"
UNKNOWN: Final = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Trip:
    """A latched scope. `outcome` while it isn't confirmed: RESIDUAL, UNKNOWN, or None before the first round."""

    id: str
    scope: Scope
    causes: tuple[CauseView, ...]
    by: str
    tripped_wall: float
    state: State
    sweep: Sweep
    command_id: str = ""
    button: str = ""
    outcome: str | None = None
    verified_wall: float | None = None
    confirmed_once: bool = False
    calls: int = 0
    ghosts: tuple[int, ...] = ()  # written cancels whose session went unanswered: they may still execute

    @property
    def by_rule(self) -> bool:
        return not self.command_id and not self.button and any(c.rule for c in self.causes)

    def with_cause(self, cause: CauseView) -> Trip:
        return replace(self, causes=merged(self.causes, cause))


def merged(causes: tuple[CauseView, ...], cause: CauseView) -> tuple[CauseView, ...]:
    """One line per rule and series: the same one is brought up to date, another one is added."""
    for i, held in enumerate(causes):
        if (held.rule, held.kind, held.labels) == (cause.rule, cause.kind, cause.labels) and (
            cause.rule or held.text == cause.text
        ):
            return (*causes[:i], again(held, cause), *causes[i + 1 :])
    return (*causes, cause)


def again(held: CauseView, cause: CauseView) -> CauseView:
    """The same cause once more."""
    worst = cause.worst or held.worst
    return replace(held, last_wall=cause.last_wall, count=held.count + 1, last=cause.last, worst=worst)


Change: TypeAlias = tuple[str, Input, str]
"""(trip, input, why): what a sweep tells the switch."""
