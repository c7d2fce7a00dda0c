"""The link to an OMS over HTTP, kept warm for ever as a gateway's is: sign in, stay signed in, and again."""

from __future__ import annotations

import asyncio
from typing import Any

from killswitch.adapters.oms import OmsLink
from killswitch.adapters.oms_http import HttpSession
from killswitch.adapters.oms_http_web import HttpWeb, Pace


class HttpLink(OmsLink):
    """What a gateway's link is, for cancels alone. `url`: with the path, such as https://host:8443/AP."""

    lists = False

    def __init__(self, *, pace: Pace | None = None, **given: Any) -> None:
        super().__init__(**given)
        self._pace = pace or Pace()

    async def _attempt(self) -> float:
        """One session from beginning to end; seconds to wait before the next."""
        web = HttpWeb(self._url, self._pace)
        session = HttpSession(
            self._home, web, self._new_session(), self._credentials, clean=self._clean, pace=self._pace
        )
        self._session = session
        try:
            ending = await session.run()
        finally:
            self._session = None
            await web.close()
        # However it ended: sign-ins over HTTP keep a distance.
        rest_s = session.signed_in_at + self._pace.sign_in_every_s - asyncio.get_running_loop().time()
        return max(self._after(ending), rest_s)
