"""A session that runs out on the server while its socket lives: given up, and signed in again once."""

from __future__ import annotations

import pytest

from killswitch.domain.dialects import Dialect
from killswitch.domain.messages import Called, Noted
from killswitch.domain.scope import EVERY, Scope
from tests.domain.opposite import Opposite

V2, V3, V4 = Dialect.V2, Dialect.V3, Dialect.V4
WHOLE = Scope(oms="prime", account=EVERY, user=EVERY, instrument=EVERY)
ACCOUNT = Scope(oms="prime", account=14, user=EVERY, instrument=EVERY)
USER = Scope(oms="prime", account=EVERY, user=37, instrument=EVERY)
NOBODY_KNOWS = "unknown_call=GetUserPermissions,times=always"


def signed_in(dialect: Dialect, *faults: str, **more) -> Opposite:
    world = Opposite(dialect, faults=faults, **more)
    world.connect()
    world.wait(0.1)
    return world


def told(world: Opposite) -> list[str]:
    return [e.text for e in world.events if e.kind == "session_expired"]


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize("wanted", [WHOLE, ACCOUNT, USER], ids=lambda s: s.in_words())
@pytest.mark.parametrize("calls", range(1, 14))
def test_at_whichever_call_of_a_sweep_it_runs_out_the_scope_is_proven_in_time(dialect, wanted, calls) -> None:
    world = signed_in(dialect, f"token_expires_after={calls}", "stragglers=1,times=1")
    world.trip(wanted)
    world.run(world.verified, 5.0)
    struck = world.exchange.faults.injected["TokenExpires"]
    assert world.sign_ins == 1 + len(told(world)) <= 1 + struck
    assert len(world.drops) == len(told(world))
    left = world.exchange.open_ids(**{"account": wanted.account} if wanted is ACCOUNT else {})
    mine = {o for o in left if wanted.user in (EVERY, world.exchange.orders[o].entered_by)}
    assert mine == set()


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_session_on_which_nothing_ever_worked_is_tried_anew_once_as_well(dialect) -> None:
    world = signed_in(dialect, "token_expires_after=0")
    world.trip(ACCOUNT)
    world.run(world.verified, 15.0)
    assert world.sign_ins == 2


@pytest.mark.parametrize("dialect", list(Dialect))
def test_after_an_idle_hour_the_first_press_is_carried_out_by_its_own_call(dialect) -> None:
    world = signed_in(dialect, "token_expires_after=1000,after_s=100")
    world.wait(150.0)
    assert world.sign_ins == 1
    world.trip(WHOLE)
    took = world.run(world.verified, 5.0)
    assert took < 1.0
    assert world.sign_ins == 2
    assert len(told(world)) == 1
    assert [b.kind for b in world.records if isinstance(b, Noted)].count("session_expired") == 1
    wide = [body for body in world.said("CancelAllOrders") if set(body) == {"OMSId"}]
    assert len(wide) >= 2, "what was refused on the dead session is tried on the new one"


def test_it_is_found_before_the_day_by_the_question_that_is_asked_again() -> None:
    world = signed_in(V2, "token_expires_after=1000,after_s=100")
    world.wait(700.0)
    assert world.sign_ins == 2
    assert "GetUserPermissions is refused, where it wasn't before" in told(world)[0]
    assert world.switch.view(world.now).omses[0].sessions[0].may_cancel is True


def test_where_a_server_doesnt_know_the_question_the_refusals_of_everything_tell() -> None:
    world = signed_in(V2, NOBODY_KNOWS, "token_expires_after=1000,after_s=100")
    world.wait(150.0)
    world.trip(ACCOUNT)
    world.run(world.verified, 5.0)
    assert world.sign_ins == 2
    assert "every call" in told(world)[0]


@pytest.mark.parametrize("known", [True, False])
def test_a_permission_that_is_taken_for_good_is_no_circle_of_sign_ins(known) -> None:
    world = signed_in(V2, *(() if known else (NOBODY_KNOWS,)))
    world.trip(WHOLE)
    world.run(world.verified, 5.0)
    world.user.permissions = frozenset()
    world.exchange.place(account=14, user=37, instrument=25, now=world.now)
    world.run(lambda: world.view().state == "escalated", 15.0)
    world.wait(300.0)
    assert world.sign_ins == 2, "signed in again once, and then it is a refusal"
    assert world.view().outcome in ("UNKNOWN", "RESIDUAL")
    world.user.permissions = frozenset({"Operator", "Trading", "CancelEveryOrder"})
    world.run(world.verified, 10.0)
    assert world.sign_ins == 2


def test_what_a_credential_may_never_do_is_no_session_that_ran_out() -> None:
    world = signed_in(V2, api_user=37)
    for n, wanted in enumerate((WHOLE, Scope(oms="prime", account=EVERY, user=40, instrument=EVERY), ACCOUNT)):
        world.trip(wanted, f"t{n}")
        world.wait(20.0)
    assert all(world.verified(f"t{n}") for n in range(3))
    assert world.sign_ins == 1
    assert told(world) == []


def test_tokens_that_run_out_all_the_time_are_signed_in_again_at_a_bearable_pace() -> None:
    world = signed_in(V2, "token_expires_after=30,times=always")
    world.trip(WHOLE)
    world.wait(300.0)
    assert 2 < world.sign_ins <= 32
    world.exchange.faults.clear()
    world.run(world.verified, 20.0)


def test_a_cancel_that_was_refused_on_a_dead_session_is_not_said_to_execute_later() -> None:
    world = signed_in(V2, "token_expires_after=1000,after_s=100")
    world.wait(150.0)
    world.trip(ACCOUNT)
    world.run(world.verified, 5.0)
    assert world.switch._parts.trips["t1"].ghosts == ()
    assert any(isinstance(b, Called) and b.what in ("20", "lost") for b in world.records)
