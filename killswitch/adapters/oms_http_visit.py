"""A short visit over HTTP: one sign-in, the version, one call that needs the session, and off. Nothing is retried.

The session isn't ended by LogOut, as with a gateway: no document says whether that ends the user's others too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from killswitch.adapters.oms import without_secrets
from killswitch.adapters.oms_door import Door
from killswitch.adapters.oms_home import Failed, Home, Patience, Refused
from killswitch.adapters.oms_http import HttpSession
from killswitch.adapters.oms_http_web import HttpWeb, Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from killswitch.adapters.oms import Credentials
    from killswitch.domain.messages import Event


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of it. `why`: it isn't signed in; `refused`: since it was said so. `version`: "" where none is told."""

    why: str
    refused: bool
    version: str
    took_s: float


async def visit_over_http(
    url: str, oms_id: int, credentials: Credentials, user: int | None, wall: Callable[[], float]
) -> Seen:
    """Sign in once and look. Never raises for what the other side does. `wall`: Unix seconds."""
    loop = asyncio.get_running_loop()
    began, up = loop.time(), asyncio.Event()

    def told(_: Event) -> None:
        up.set()

    pace = Pace()
    home = Home(
        oms="",
        oms_id=oms_id,
        gateway=url,
        dialect=None,  # what the version means is judged by whoever asks
        accounts=(),
        submit=told,
        wall=wall,
        patience=Patience(),
        door=Door(),
        user=user,
    )
    clean = partial(without_secrets, credentials=credentials)
    web = HttpWeb(url, pace)
    session = HttpSession(home, web, 1, credentials, clean=clean, pace=pace)
    living, signed_in = asyncio.ensure_future(session.run()), asyncio.ensure_future(up.wait())
    try:
        await asyncio.wait({living, signed_in}, return_when=asyncio.FIRST_COMPLETED)
        took_s = loop.time() - began
        if session.up:
            session.drop("only a visit")
            await living
            return Seen("", refused=False, version=session.version, took_s=took_s)
        ending = await living
    finally:
        for task in (living, signed_in):
            task.cancel()
        await web.close()
    why = ending.why if isinstance(ending, Failed | Refused) else "it ended at once"
    return Seen(clean(why), refused=isinstance(ending, Refused), version=session.version, took_s=took_s)
