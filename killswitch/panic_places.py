"""What the board's panic button offers: the scopes that the configuration names, each once and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from killswitch.domain.scope import EVERY, Scope
from killswitch.domain.settings import TemplateError
from killswitch.wire.announce import scope_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from killswitch.config import Config

ACCOUNTS_MAX: Final = 100
"""Offered of one OMS: nobody looks through more in a hurry, and each picture holds them. Any id can be typed."""


def panic_places(config: Config) -> list[dict[str, Any]]:
    """`{"name", "words", "scope"}` each: panics, then rules whose scope hangs on no label, then each OMS's accounts.

    `name` says whose scope it is. A scope that several name stands once, under the first of them.
    """
    found: dict[Scope, str] = {}
    for name, scope in _named(config):
        found.setdefault(scope, name)
    return [{"name": name, "words": scope.in_words(), "scope": scope_json(scope)} for scope, name in found.items()]


def _named(config: Config) -> Iterator[tuple[str, Scope]]:
    for panic in config.panics:
        yield f"panic: {panic.name}", panic.scope
    for rule in config.rules:
        try:
            yield f"rule: {rule.name}", rule.scope.fill(())
        except TemplateError:  # it hangs on what is read
            continue
    for oms in config.oms:
        for account in oms.accounts[:ACCOUNTS_MAX]:
            yield "account", Scope(oms=oms.name, account=account, user=EVERY, instrument=EVERY)
        if oms.whole_oms:
            yield "whole OMS", Scope(oms=oms.name, account=EVERY, user=EVERY, instrument=EVERY)
