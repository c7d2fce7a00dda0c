"""Scope's laws against brute force: every order of a small world is asked one by one."""

from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from killswitch.domain.messages import Order
from killswitch.domain.scope import EVERY, ID_MAX, Holds, Scope, ScopeError, covering, outermost
from killswitch.domain.settings import Label, ScopeTemplate, TemplateError

# How long an example takes says nothing on a busy machine.
calmly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

IDS = (1, 2, 3)
WORLD = [
    (oms, Order(account=a, order_id=n, instrument=i, entered_by=u))
    for n, (oms, a, u, i) in enumerate(product(("one", "two"), IDS, IDS, IDS), start=1)
]
# The world has an id more than the scopes name: else "every" and "1 and 2" could not be told apart.
parts = st.sampled_from([1, 2, EVERY])
scopes = st.builds(Scope, oms=st.sampled_from(["one", "two"]), account=parts, user=parts, instrument=parts)


def held(scope):
    return {(oms, order.order_id) for oms, order in WORLD if oms == scope.oms and scope.holds(order) is Holds.YES}


@calmly
@given(scopes, scopes)
def test_covers_is_what_the_orders_say(one, other):
    assert one.covers(other) == (held(other) <= held(one))


@calmly
@given(scopes, scopes)
def test_meets_is_what_the_orders_say(one, other):
    assert one.meets(other) == bool(held(one) & held(other))
    assert one.meets(other) == other.meets(one)


@calmly
@given(scopes)
def test_a_readable_order_is_in_or_out_and_never_maybe(scope):
    for oms, order in WORLD:
        if oms != scope.oms:
            continue
        inside = (
            scope.account in (EVERY, order.account)
            and scope.user in (EVERY, order.entered_by)
            and scope.instrument in (EVERY, order.instrument)
        )
        assert scope.holds(order) is (Holds.YES if inside else Holds.NO)


@calmly
@given(
    scopes,
    st.sampled_from(IDS),
    st.sampled_from([None, *IDS]),
    st.sampled_from([None, *IDS]),
)
def test_an_order_that_hides_something_is_maybe_exactly_when_what_it_hides_decides(scope, account, user, instrument):
    seen = Order(account=account, order_id=1, instrument=instrument, entered_by=user)
    could_be = {
        scope.holds(Order(account=account, order_id=1, instrument=i, entered_by=u))
        for u in (IDS if user is None else (user,))
        for i in (IDS if instrument is None else (instrument,))
    }
    expected = could_be.pop() if len(could_be) == 1 else Holds.MAYBE
    assert scope.holds(seen) is expected


@calmly
@given(st.lists(scopes, max_size=8))
def test_the_outermost_scopes_hold_what_all_hold_and_none_of_them_is_needless(many):
    kept = outermost(many)
    assert set().union(*map(held, kept)) == set().union(*map(held, many))
    assert set(kept) <= set(many)
    assert len(set(kept)) == len(kept)
    assert not any(a != b and a.covers(b) for a in kept for b in kept)


@calmly
@given(scopes, scopes)
def test_the_covering_scopes_are_all_that_cover_it_itself_the_first(one, other):
    assert (other in covering(one)) == other.covers(one)
    assert covering(one)[0] == one


@calmly
@given(scopes)
def test_whole_means_neither_an_account_nor_a_user(scope):
    assert scope.whole == (scope.account is EVERY and scope.user is EVERY)


@pytest.mark.parametrize("part", ["account", "user", "instrument"])
@pytest.mark.parametrize("value", [0, -1, None, True, False, 14.0, "14", "every", ID_MAX + 1])
def test_nothing_but_an_id_or_every_makes_a_part(part, value):
    with pytest.raises(ScopeError, match=part):
        Scope(**{"oms": "one", "account": 1, "user": 1, "instrument": 1, part: value})


def test_a_scope_names_its_oms():
    with pytest.raises(ScopeError, match="oms"):
        Scope(oms="", account=1, user=1, instrument=1)


def test_a_scope_in_words_names_first_what_it_narrows():
    scope = Scope(oms="prime", account=14, user=EVERY, instrument=25)
    assert scope.in_words() == "prime: account 14, instrument 25, all users"


# --- templates ---------------------------------------------------------------------------------------------

template_parts = st.sampled_from([1, 2, EVERY, Label("x"), Label("y")])
texts = st.one_of(
    st.sampled_from(["1", "2", "0", "", "-1", "+1", "01", "1.0", " 1", "every", "٣", "²", "9" * 19, "9" * 20]),
    st.text(alphabet="0129+-. x٣²", max_size=4),
    st.integers(1, ID_MAX).map(str),
)


@calmly
@given(template_parts, template_parts, template_parts, st.dictionaries(st.sampled_from("xyz"), texts))
def test_a_template_takes_ids_from_labels_and_never_makes_every_of_one(account, user, instrument, labels):
    template = ScopeTemplate(oms="one", account=account, user=user, instrument=instrument)
    parts_of = {"account": account, "user": user, "instrument": instrument}

    def is_id(text):
        digits = set("0123456789")
        return bool(text) and set(text) <= digits and text[0] != "0" and int(text) <= ID_MAX

    fits = all(is_id(labels.get(p.name)) for p in parts_of.values() if isinstance(p, Label))
    if not fits:
        with pytest.raises(TemplateError):
            template.fill(tuple(sorted(labels.items())))
        return
    scope = template.fill(tuple(sorted(labels.items())))
    for name, part in parts_of.items():
        expected = int(labels[part.name]) if isinstance(part, Label) else part
        assert getattr(scope, name) == expected


def test_a_template_says_which_label_lacks_or_is_no_id():
    template = ScopeTemplate(oms="one", account=Label("account"))
    with pytest.raises(TemplateError, match="no label account"):
        template.fill((("product", "BTC"),))
    with pytest.raises(TemplateError, match="label account is no id"):
        template.fill((("account", "every"),))


@pytest.mark.parametrize(
    "text", ["", "0", "01", "007", "-1", "+1", "1.0", " 1", "1 ", "1_0", "٣", "²", "9" * 19, "9" * 20]
)
def test_what_only_looks_like_an_id_fills_no_template(text):
    with pytest.raises(TemplateError):
        ScopeTemplate(oms="one", account=Label("account")).fill((("account", text),))
