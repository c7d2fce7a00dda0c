"""What the simulated OMS writes down: each request as it came in, and how each order ended.

Together with the order table this is the oracle of whoever tests against it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.simulator.orders import OrderState

_REQUESTS_KEPT: Final = 200_000
"""Older requests are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came in. `user` is None before sign-in; secrets in `body` are hidden.

    `body` is the object that was sent, or the bare text where it was none.
    """

    number: int
    at: float
    session: int
    user: int | None
    name: str
    body: Mapping[str, object] | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When and why an order ended. `request` is the number of the request that did it, None for a fill."""

    order_id: int
    at: float
    state: OrderState
    why: str
    request: int | None


class Log:
    """Requests and endings, oldest first."""

    def __init__(self) -> None:
        self.requests: deque[Request] = deque(maxlen=_REQUESTS_KEPT)
        self.endings: deque[Ending] = deque()
        self.current: int | None = None
        """The number of the request that is being carried out, or was last."""

    def note(self, at: float, session: int, user: int | None, name: str, body: Mapping[str, object] | str) -> Request:
        """Write a request down; cancels accepted next are put down to it."""
        number = self.requests[-1].number + 1 if self.requests else 1
        request = Request(number=number, at=at, session=session, user=user, name=name, body=body)
        self.requests.append(request)
        self.current = number
        return request

    def of(self, name: str) -> list[Request]:
        """The requests of one call."""
        return [request for request in self.requests if request.name == name]

    def ending(self, order_id: int) -> Ending | None:
        """How this order ended, None while it works."""
        return next((e for e in reversed(self.endings) if e.order_id == order_id), None)
