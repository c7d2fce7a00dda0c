"""The gateway's calls over HTTP: how one signs in there, and what an answer means.

A call is a POST of its JSON to its name; signing in is by headers, and the token of its answer goes with each
call after it. Business errors are answers with status 200; what isn't JSON is bare text. No I/O and no clock.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from killswitch.domain.messages import AnswerKind
from killswitch.wire.alphapoint_fields import Fields, as_text, load
from killswitch.wire.alphapoint_replies import read_answer
from killswitch.wire.frame import Frame, FrameType, ProtocolError

if TYPE_CHECKING:
    from killswitch.wire.alphapoint import Request

TOKEN_HEADER: Final = "APToken"  # noqa: S105  # its name
TOKEN_MAX: Final = 4096
_SHOWN: Final = 200
"""Characters of a bare text that are kept."""
OK: Final = 200
"""Of answers to what was looked at, errors too."""
NO_SUCH_PATH: Final = 404
_NO_SESSION: Final = frozenset({401, NO_SUCH_PATH})
"""A private call without a session is answered like an unknown path."""
_NOT_AUTHORIZED: Final = 20
_BUSY: Final = frozenset({404, 408, 429, 502, 503, 504})
"""Of a sign-in: there is no such path, or somebody before the server speaks. None of them looked at a credential."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status, and the body as text. The text stays out of the repr: it may hold a token."""

    status: int
    text: str = field(repr=False)

    @property
    def elsewhere(self) -> bool:
        """It points to another address."""
        return 300 <= self.status < 400

    @property
    def too_many(self) -> bool:
        """The rate limit: as a status, or as bare text that may come with status 200."""
        return self.status == 429 or self.text[:_SHOWN].strip().upper().startswith("TOO MANY REQUESTS")


def sign_in_headers(sign_in: Request) -> dict[str, str]:
    """The headers that say what AuthenticateUser's payload says: the key's four, or Basic authentication."""
    body: dict[str, str] = json.loads(sign_in.payload)
    if "APIKey" in body:
        return {key: str(body[key]) for key in ("APIKey", "Signature", "UserId", "Nonce")}
    pair = f"{body['UserName']}:{body['Password']}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def as_frame(name: str, reply: Reply) -> Frame:
    """The reply as the frame that the readers of answers know. Any other status than 200 is never a success."""
    if reply.status == OK:
        return Frame(m=FrameType.REPLY, i=0, n=name, o=reply.text)
    try:
        is_object = isinstance(load(reply.text), dict)
    except ProtocolError:
        is_object = False
    text = reply.text if is_object else f"HTTP {reply.status} {as_text(reply.text[:_SHOWN])}".rstrip()
    return Frame(m=FrameType.ERROR, i=0, n=name, o=text)


def no_session(name: str, reply: Reply) -> bool:
    """Whether the answer can mean that the token isn't known any more. So can others: ask with a call that may."""
    if reply.status in _NO_SESSION:
        return True
    answer = read_answer(as_frame(name, reply))
    return answer.kind is AnswerKind.REFUSED and answer.code == _NOT_AUTHORIZED


def is_list(reply: Reply) -> bool:
    """It begins as a list does: a call that needs a session was carried out."""
    return reply.status == OK and reply.text.lstrip().startswith("[")


def never_looked(reply: Reply) -> str:
    """Why a sign-in wasn't even judged, "" where it was: only that may be tried again soon."""
    if reply.too_many:
        return "too many requests, it says"
    if reply.elsewhere:
        return f"it points elsewhere (HTTP {reply.status}); not followed"
    return f"HTTP {reply.status}" if reply.status in _BUSY else ""


def read_token(reply: Reply) -> str:
    """The token in the answer to a sign-in, "" where there is none that could stand in a header."""
    try:
        body = load(reply.text)
    except ProtocolError:
        return ""
    token = Fields(body).get("sessiontoken") if isinstance(body, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or len(token) > TOKEN_MAX:
        return ""
    return token.strip()
