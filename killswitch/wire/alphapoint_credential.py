"""What a gateway tells of itself and of a credential: version, permissions, which calls want a second factor.

Three calls that cancel nothing and list no order. Older servers know none of them and answer with bare text
in a frame of type 5; that is Unknown, as is whatever can't be read: never "none" and never "allowed".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import msgspec

from killswitch.domain.messages import AnswerKind
from killswitch.wire.alphapoint import ID_MAX, Request
from killswitch.wire.alphapoint_fields import as_text, load
from killswitch.wire.alphapoint_replies import no_list, read_answer
from killswitch.wire.frame import Frame, FrameType, ProtocolError

NAMES_MAX: Final = 500
"""Names of a list that are kept; a list that is longer isn't what it should be."""

_VERSION: Final = re.compile(r"[vV]?(\d{1,6})(?:\.\d{1,9}){1,5}")


@dataclass(frozen=True, slots=True)
class Version:
    """The server's version as it prints it, such as 4.3.65.1063, and its first number."""

    text: str
    major: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """It isn't known, and why. `no_such_call`: the server doesn't have the call, which is no fault."""

    why: str
    no_such_call: bool = False


def get_oms_version() -> Request:
    """Public; answered by a generic answer whose `detail` is the version."""
    return Request("GetOMSVersion", "{}")


def get_user_permissions(user: int) -> Request:
    """Answered by an array of names. Anybody may ask for their own. Raises ValueError for what is no user's id."""
    if isinstance(user, bool) or not 0 < user <= ID_MAX:
        raise ValueError("UserId must be an id above 0")
    return Request("GetUserPermissions", msgspec.json.encode({"UserId": user}).decode())


def get_second_factor_calls() -> Request:
    """Public; answered by an array of the names of the calls that want a code with them."""
    return Request("GetValidate2FARequiredEndpoints", "{}")


def read_version(frame: Frame) -> Version | Unknown:
    """GetOMSVersion. The version stands in `detail`, in some answers it is all there is."""
    try:
        body = load(frame.o)
    except ProtocolError:
        return _unknown(frame)
    if frame.m != FrameType.REPLY:
        return _unknown(frame)
    if isinstance(body, str):
        text = as_text(body)
    else:
        answer = read_answer(frame)
        if answer.kind is not AnswerKind.RECEIVED:
            return _unknown(frame)
        text = answer.text
    found = _VERSION.fullmatch(text)
    return Unknown("a version that can't be read") if found is None else Version(text, int(found[1]))


def read_permissions(frame: Frame) -> tuple[str, ...] | Unknown:
    """GetUserPermissions: names as the server spells them, in its order, each once."""
    return _names(frame)


def read_second_factor_calls(frame: Frame) -> tuple[str, ...] | Unknown:
    """GetValidate2FARequiredEndpoints: names of calls, in lower case, whichever way the server spells them."""
    names = _names(frame)
    return names if isinstance(names, Unknown) else tuple(dict.fromkeys(name.lower() for name in names))


def _names(frame: Frame) -> tuple[str, ...] | Unknown:
    """An array of names. One that can't be read spoils it: it could be the one that counts."""
    try:
        body = load(frame.o)
    except ProtocolError:
        return _unknown(frame)
    if frame.m != FrameType.REPLY or not isinstance(body, list):
        return _unknown(frame)
    names = [as_text(name) for name in body[:NAMES_MAX]]
    if not all(names) or len(body) > NAMES_MAX:
        return Unknown("a name in the list that can't be read")
    return tuple(dict.fromkeys(names))


def _unknown(frame: Frame) -> Unknown:
    if frame.m == FrameType.ERROR and "not found" in frame.o[:200].lower():
        return Unknown("the server doesn't know the call", no_such_call=True)
    answer = no_list(frame)
    return Unknown(answer.text or f"answer {answer.label}")
