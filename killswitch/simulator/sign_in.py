"""Who may come in: by API key and signature, or by user name and password. Pure.

The reply of a login with 2FA pending says Authenticated true all the same, with Requires2FA true and neither a
SessionToken nor a User. API keys bypass 2FA. After too many failed logins in a row a user is locked, and only
an administrator (`User.locked = False`) can unlock it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from killswitch.simulator.users import User

SECRET_KEYS: Final = frozenset({"Password", "APIKey", "Signature", "Nonce", "Code", "SessionToken"})
"""What the log hides of a request's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The reply, and the user that it lets in, or that has to send a code first."""

    reply: str
    user: User | None = None
    pending: User | None = None


class Door:
    """The users of one OMS at their sign-in."""

    def __init__(self, users: Mapping[int, User], *, oms_id: int, failures: int) -> None:
        """`failures`: failed logins in a row that lock a user."""
        self._users = users
        self._oms_id = oms_id
        self._failures = failures

    def authenticate(self, body: Mapping[str, object]) -> Admission:
        """AuthenticateUser, in either form. UserId and Nonce may be integers or strings."""
        by_key = "APIKey" in body
        user = self._by_key(body) if by_key else self._by_name(body)
        if user is None:
            return _refused("Invalid username or password")
        if user.locked:
            return _refused("User is locked", locked=True)
        proven = _signed(user, body) if by_key else _same(user.password, body.get("Password"))
        if not proven:
            user.failed_logins += 1
            user.locked = user.failed_logins >= self._failures
            return _refused("Invalid username or password", locked=user.locked)
        user.failed_logins = 0
        if user.two_factor and not by_key:
            return Admission(reply=_reply(authenticated=True, two_factor=True), pending=user)
        return self._admitted(user)

    def second_factor(self, pending: User | None, body: Mapping[str, object]) -> Admission:
        """Authenticate2FA after a login that asked for it."""
        if pending is None or not _same(pending.two_factor, body.get("Code")):
            return _refused("Invalid code")
        return self._admitted(pending)

    def _by_key(self, body: Mapping[str, object]) -> User | None:
        try:
            return self._users.get(int(_text(body.get("UserId"))))
        except ValueError:
            return None

    def _by_name(self, body: Mapping[str, object]) -> User | None:
        return next((u for u in self._users.values() if u.name == body.get("UserName")), None)

    def _admitted(self, user: User) -> Admission:
        shown = {
            "UserId": user.user_id,
            "UserName": user.name,
            "Email": f"{user.name}@example.com",
            "EmailVerified": True,
            "AccountId": min(user.accounts, default=0),
            "OMSId": self._oms_id,
            "Use2FA": bool(user.two_factor),
        }
        return Admission(reply=_reply(authenticated=True, user=shown), user=user)


def _signed(user: User, body: Mapping[str, object]) -> bool:
    """Lower-case hex of HMAC-SHA256 over Nonce + UserId + APIKey, keyed by the secret."""
    if not _same(user.api_key, body.get("APIKey")):
        return False
    message = "".join(_text(body.get(key)) for key in ("Nonce", "UserId", "APIKey"))
    wanted = hmac.new(user.api_secret.encode(), message.encode("utf-8", "replace"), hashlib.sha256)
    return _same(wanted.hexdigest(), body.get("Signature"))


def _text(value: object) -> str:
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return str(value)
    return ""


def _same(kept: str, given: object) -> bool:
    """Whether a kept secret was given; a secret that is empty opens nothing."""
    if not kept or not isinstance(given, str):
        return False
    return hmac.compare_digest(kept.encode(), given.encode("utf-8", "replace"))


def _refused(reason: str, *, locked: bool = False) -> Admission:
    return Admission(reply=_reply(authenticated=False, locked=locked, reason=reason))


def _reply(
    *,
    authenticated: bool,
    user: Mapping[str, object] | None = None,
    two_factor: bool = False,
    locked: bool = False,
    reason: str | None = None,
) -> str:
    return json.dumps(
        {
            "Authenticated": authenticated,
            "SessionToken": None if user is None else secrets.token_hex(16),
            "User": user,
            "Locked": locked,
            "Requires2FA": two_factor,
            "EnforceEnable2FA": False,
            "TwoFAType": "Google" if two_factor else None,
            "TwoFAToken": secrets.token_hex(16) if two_factor else None,
            "errormsg": reason,
        }
    )
