"""A credential that can't cancel is seen at the sign-in: what is asked, what it means, and who hears of it."""

from __future__ import annotations

import pytest

from killswitch.domain.credentials import AGAIN_S, BAD_AGAIN_S, lacking
from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import ListPermissions, Noted, SessionUp
from killswitch.domain.scope import EVERY, Scope
from tests.domain.bench import Bench
from tests.domain.opposite import Opposite

V2, V3, V4 = Dialect.V2, Dialect.V3, Dialect.V4
ACCOUNT = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)


def asked(world: Opposite) -> int:
    return len(world.said("GetUserPermissions"))


def kinds(world: Opposite) -> list[str]:
    return [e.kind for e in world.events if e.kind in ("could_not_cancel", "can_cancel")]


def session(world: Opposite):
    return world.switch.view(world.now).omses[0].sessions[0]


def ready(world: Opposite) -> bool:
    return world.switch.view(world.now).ready


def signed_in(dialect: Dialect = V2, **more) -> Opposite:
    world = Opposite(dialect, **more)
    world.connect()
    world.wait(0.1)
    return world


@pytest.mark.parametrize(
    ("permissions", "second_factor", "whole_oms", "holds"),
    [
        (("Operator", "Deposit"), (), True, ""),
        (("TRADING",), (), False, ""),
        (("Trading",), None, False, ""),
        (None, ("createwithdrawticket",), True, ""),
        (("Deposit",), (), False, "neither Trading nor Operator"),
        ((), (), False, "neither Trading nor Operator"),
        (("Trading",), (), True, "isn't Operator"),
        (("Operator",), ("CancelAllOrders",), True, "cancelallorders wants a second factor"),
        (("Operator",), ("cancelorder", "cancelallorders"), True, "cancelallorders and cancelorder want"),
        (None, ("cancelorder",), False, "cancelorder wants a second factor"),
        (("Deposit",), ("cancelorder",), False, "Operator; cancelorder"),
    ],
)
def test_what_a_credential_lacks(permissions, second_factor, whole_oms, holds) -> None:
    found = lacking(permissions, second_factor, whole_oms=whole_oms)
    assert holds in found
    assert bool(holds) is bool(found)


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_credential_that_may_cancel_is_said_to_and_nothing_is_announced(dialect) -> None:
    world = signed_in(dialect)
    assert (session(world).may_cancel, session(world).credential) == (True, "")
    assert ready(world)
    assert kinds(world) == []
    world.wait(AGAIN_S + 1)
    assert asked(world) == 2, "a permission may be taken in the middle of the day"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"permissions": ("AccountReadOnly",)}, "neither Trading nor Operator"),
        ({"permissions": ("Trading",)}, "isn't Operator"),
        ({"two_factor_calls": ("CancelAllOrders",)}, "cancelallorders wants a second factor"),
    ],
)
def test_one_that_may_not_is_announced_journalled_and_makes_it_unready_until_it_may(more, why) -> None:
    world = signed_in(**more)
    assert session(world).may_cancel is False
    assert why in session(world).credential
    (missing,) = world.switch.view(world.now).missing
    assert missing.startswith("armed, but could not cancel: OMS prime: ")
    assert why in missing
    assert kinds(world) == ["could_not_cancel"]
    assert [b.kind for b in world.records if isinstance(b, Noted)] == ["could_not_cancel"]
    world.wait(3 * BAD_AGAIN_S)
    assert asked(world) == 4
    assert kinds(world) == ["could_not_cancel"], "it is said once"
    world.user.permissions = frozenset({"Operator", "Trading"})
    world.exchange.two_factor_calls = ()
    world.wait(BAD_AGAIN_S + 1)
    assert kinds(world) == ["could_not_cancel", "can_cancel"]
    assert ready(world)
    assert session(world).may_cancel is True


def test_the_same_reason_is_not_said_again_at_each_sign_in() -> None:
    world = signed_in(permissions=("Deposit",))
    for _ in range(3):
        world.cut()
        world.wait(1.0)
    assert asked(world) == 4
    assert kinds(world) == ["could_not_cancel"]
    assert not ready(world)


@pytest.mark.parametrize(
    "fault",
    [
        "unknown_call=GetUserPermissions,times=always",
        "unknown_call=GetValidate2FARequiredEndpoints,times=always",
        "error=20,call=GetUserPermissions,times=always",
        "error=102,call=GetUserPermissions,times=always",
        "no_answer=always,call=GetUserPermissions",
        "no_answer=always,call=GetValidate2FARequiredEndpoints",
    ],
)
def test_what_isnt_known_is_said_to_be_unknown_and_is_neither(fault) -> None:
    world = signed_in(faults=(fault,))
    world.wait(10.0)
    assert session(world).may_cancel is None
    assert "isn't known" in session(world).credential
    assert ready(world)
    assert kinds(world) == []


def test_an_unknown_half_doesnt_hide_that_the_other_says_no() -> None:
    world = signed_in(two_factor_calls=("cancelorder",), faults=("unknown_call=GetUserPermissions,times=always",))
    assert session(world).may_cancel is False
    assert not ready(world)


def test_the_questions_come_after_the_sweep_and_never_before_a_cancel() -> None:
    world = Opposite(V2, faults=("no_answer=always,call=GetOpenOrders",))
    world.trip(ACCOUNT)
    world.connect()
    world.wait(4.0)
    assert world.said("CancelAllOrders")
    assert asked(world) == 0
    world.wait(3.0)
    assert asked(world) == 1, "a sweep without an end hides nothing"


def test_nothing_is_asked_where_nobody_says_who_we_are() -> None:
    bench = Bench()
    bench.tell(SessionUp(wall=bench.wall, oms="prime", gateway="gw:1", session=1))
    assert bench.of(ListPermissions) == []
    (seen,) = bench.switch.view(bench.now).omses[0].sessions
    assert seen.may_cancel is None
    assert "which user we are" in seen.credential


def test_the_questions_wait_for_the_budget_of_calls() -> None:
    world = Opposite(V2, site={"calls_per_minute": 10})
    for _ in range(6):
        world.connect()
        world.cut()
        world.wait(0.1)
    assert asked(world) <= 3
