"""Each planted bug still applies; `pytest -m long`, or `make mutants`, sees each of its finders find it."""

from __future__ import annotations

import pytest

from tests.end_to_end import patience
from tests.mutants.scratch import HOUSE, mutated, plant, send
from tests.mutants.table import MUTANTS, Exploring


def needs(request, what):
    """Not in CI either: whether a text still applies is seen there, and that is what changes from day to day."""
    if not patience.asked_for_long(request):
        pytest.skip(f"takes {what}: pytest -m long")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_stands_where_the_table_says_and_is_python(mutant):
    for name, text in mutated(mutant).items():
        compile(text, name, "exec")


def test_each_planted_bug_has_a_name_of_its_own_and_a_finder():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert all(mutant.edits and mutant.finders for mutant in MUTANTS)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_finder_finds_the_planted_bug(mutant, tmp_path, request):
    needs(request, "minutes for all of them")
    house = plant(mutant, tmp_path)

    survived = [finder for finder in mutant.finders if send(finder, mutant, house) is None]

    assert not survived


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_house_without_a_bug_is_sound_in_the_scratch_copy_too(tmp_path, request):
    """Else a copy that can't run would count as a bug that was found."""
    needs(request, "a minute")
    mutant = next(mutant for mutant in MUTANTS if any(isinstance(finder, Exploring) for finder in mutant.finders))
    house = plant(mutant, tmp_path)
    for name, _, _ in mutant.edits:
        (house / "killswitch" / name).write_text((HOUSE / "killswitch" / name).read_text())

    assert [send(finder, mutant, house) for finder in mutant.finders] == [None] * len(mutant.finders)
