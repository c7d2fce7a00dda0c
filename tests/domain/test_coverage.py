"""Which accounts nothing would act on: told ones and met ones, by rules and by buttons."""

from __future__ import annotations

from dataclasses import replace

from killswitch.domain.coverage import sentence, uncovered
from killswitch.domain.messages import Noted, OrderWorking, Record
from killswitch.domain.scope import EVERY
from killswitch.domain.settings import Label, ScopeTemplate
from tests.domain.bench import SETTINGS, Bench, order, scope
from tests.domain.watch_bench import labels, rule

TEMPLATE = ScopeTemplate(oms="prime", account=Label("account"))


def test_an_account_is_uncovered_where_no_rule_and_no_button_could_name_it():
    fixed = rule("a", scope=ScopeTemplate(oms="prime", account=14))
    pinned = rule("b", where=labels(account=15), scope=TEMPLATE)
    other = rule("c", scope=ScopeTemplate(oms="other", account=EVERY))
    assert uncovered("prime", (14, 15, 16, 17), (fixed, pinned, other), ()) == (16, 17)
    assert uncovered("prime", (14, 16, 17), (fixed,), (scope(17),)) == (16,)
    assert uncovered("prime", (14, 16), (), (scope(14, oms="other"),)) == (14, 16)
    assert uncovered("prime", (14, 16), (rule(scope=TEMPLATE),), ()) == ()
    assert uncovered("prime", (14, 16), (), (scope(user=37),)) == ()


def view_of(bench):
    (oms,) = bench.switch.view(bench.now).omses
    return oms.uncovered_accounts


def test_the_view_counts_buttons_and_accounts_that_only_an_event_showed():
    panics = (scope(14),)
    bench = Bench(replace(SETTINGS, panics=panics))
    assert view_of(bench) == (15,)
    bench.connect()
    bench.tell(OrderWorking(wall=0.0, oms="prime", session=bench.session, order=order(7, account=900)))
    assert view_of(bench) == (15, 900)


def test_the_start_puts_uncovered_accounts_on_record():
    bench = Bench(replace(SETTINGS, panics=(scope(14),)))
    actions = bench.switch.begin("1", "f", 0.0)
    noted = [a.body.text for a in actions if isinstance(a, Record) and isinstance(a.body, Noted)]
    assert noted == ["OMS prime: no rule and no panic covers account 15; only a command or a signal cancels there."]


def test_of_many_accounts_ten_are_named():
    assert sentence("prime", tuple(range(1, 13))) == (
        "OMS prime: no rule and no panic covers accounts 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more; only a command or a "
        "signal cancels there."
    )
