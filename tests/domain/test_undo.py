"""All or nothing: what a rollback leaves is what was there."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from killswitch.domain.undo import Agenda, Table, Undo

# How long an example takes says nothing on a busy machine.
calmly = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

keys = st.integers(0, 3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.integers()),
        st.tuples(st.just("pop"), keys, st.none()),
        st.tuples(st.just("del"), keys, st.none()),
    ),
    max_size=12,
)


def change(table, steps):
    for verb, key, value in steps:
        if verb == "set":
            table[key] = value
        elif verb == "pop":
            table.pop(key)
        elif key in table:
            del table[key]


@calmly
@given(steps, steps, steps)
def test_a_rollback_takes_back_everything_since_the_commit_and_nothing_before(first, second, third):
    undo = Undo()
    table, other = Table(undo), Table(undo)
    change(table, first)
    change(other, third)
    undo.commit()
    before = dict(table.items()), dict(other.items())
    change(table, second)
    change(other, second)
    change(table, third)
    undo.rollback()
    assert (dict(table.items()), dict(other.items())) == before


@calmly
@given(steps, steps)
def test_after_a_rollback_the_table_goes_on_as_one_that_never_changed(first, second):
    undo = Undo()
    table = Table(undo)
    change(table, first)
    undo.rollback()
    change(table, second)
    twin = {}
    for verb, key, value in second:
        if verb == "set":
            twin[key] = value
        else:
            twin.pop(key, None)
    assert dict(table.items()) == twin


def test_a_table_may_change_while_it_is_walked_through():
    table = Table(Undo())
    for n in range(5):
        table[n] = n
    for key in table:
        del table[key]
    assert len(table) == 0


def test_a_missing_key_is_an_error_and_leaves_no_step_that_harms():
    undo = Undo()
    table = Table(undo)
    with pytest.raises(KeyError):
        del table["nothing"]
    undo.rollback()
    assert "nothing" not in table


moves = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from("abc"), st.integers(0, 5)),
        st.tuples(st.just("clear"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("take"), st.none(), st.integers(0, 5)),
        st.tuples(st.just("due"), st.none(), st.none()),
    ),
    max_size=15,
)


def drive(agenda, model, moves):
    for verb, what, when in moves:
        if verb == "set":
            agenda.set(what, float(when))
            model[what] = float(when)
        elif verb == "clear":
            agenda.clear(what)
            model.pop(what, None)
        elif verb == "due":
            assert agenda.due() == min(model.values(), default=None)
        else:
            taken = agenda.take(float(when))
            if taken is None:
                assert all(t > when for t in model.values())
            else:
                assert model[taken] == min(model.values()) <= when
                del model[taken]


def all_of(agenda):
    taken = []
    while (what := agenda.take(float("inf"))) is not None:
        taken.append(what)
    return sorted(taken)


@calmly
@given(moves, moves, moves)
def test_an_agenda_gives_each_entry_once_at_its_latest_time_also_after_a_rollback(first, second, third):
    undo = Undo()
    agenda, model = Agenda(undo), {}
    drive(agenda, model, first)
    undo.commit()
    drive(agenda, dict(model), second)
    undo.rollback()
    assert {what: agenda.when(what) for what in "abc" if agenda.when(what) is not None} == model
    drive(agenda, model, third)
    assert agenda.due() == min(model.values(), default=None)
    assert all_of(agenda) == sorted(model)


def test_entries_of_one_time_are_taken_in_the_order_in_which_they_were_set():
    agenda = Agenda(Undo())
    for what in ("c", "a", "b"):
        agenda.set(what, 1.0)
    assert [agenda.take(1.0) for _ in range(4)] == ["c", "a", "b", None]


def test_nothing_is_taken_before_its_time():
    agenda = Agenda(Undo())
    agenda.set("later", 2.0)
    assert agenda.take(1.999) is None
    assert agenda.take(2.0) == "later"


@pytest.mark.parametrize("verb", ["move", "clear", "take"])
def test_an_entry_that_already_fell_off_the_heap_is_back_after_a_rollback(verb):
    undo = Undo()
    agenda = Agenda(undo)
    agenda.set("it", 1.0)
    undo.commit()
    if verb == "move":
        agenda.set("it", 5.0)
    elif verb == "clear":
        agenda.clear("it")
    else:
        agenda.take(1.0)
    assert agenda.due() != 1.0  # this is what throws the outdated entry away
    undo.rollback()
    assert agenda.due() == 1.0
    assert [agenda.take(9.0), agenda.take(9.0)] == ["it", None]
