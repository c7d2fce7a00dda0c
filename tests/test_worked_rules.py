"""The worked sets of rules in config/: they load without a finding, and their rule tests trip each of their rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from killswitch.config import load, load_rules
from killswitch.inventory import describe
from killswitch.rule_tests import read, run
from tests.test_rehearse import killswitch

CONFIG = Path(__file__).parents[1] / "config"
WORKED = ("market-maker", "venue-operator")


@pytest.mark.parametrize("tests", sorted(path.name for path in CONFIG.glob("*.test.toml")))
def test_the_rule_tests_that_come_with_the_project_pass_without_any_secret(tests):
    code, out, _ = killswitch("test", CONFIG / tests)
    assert (code, "0 failed" in out) == (0, True), out


@pytest.mark.parametrize("name", WORKED)
def test_each_rule_of_a_worked_set_is_tripped_by_one_of_its_tests(name):
    file = read(CONFIG / f"{name}.test.toml")
    tripped = {trip.rule for test in file.tests for trip in test.trips}
    assert tripped == {rule.name for rule in load_rules(file.config, {}).rules}


@pytest.mark.parametrize("name", WORKED)
def test_a_worked_set_has_no_finding_and_each_rule_an_owner(name, tmp_path):
    file = tmp_path / "killswitch.toml"
    file.write_bytes((CONFIG / f"{name}.toml").read_bytes())
    for secret in ("prime.secret", "venue.secret"):
        (tmp_path / secret).write_text("kept-from-everyone\n")
        (tmp_path / secret).chmod(0o600)
    config = load(file, {})
    assert describe(config).findings == ()
    assert all(rule.owner for rule in config.rules)


def test_a_worked_test_fails_when_a_limit_is_changed(tmp_path):
    for name in ("market-maker.toml", "market-maker.test.toml"):
        (tmp_path / name).write_bytes((CONFIG / name).read_bytes())
    rules = tmp_path / "market-maker.toml"
    rules.write_text(rules.read_text("utf-8").replace("fall = 60000", "fall = 60000.01"), "utf-8")
    file = read(tmp_path / "market-maker.test.toml")
    failed = [test.name for test in file.tests if not run(test, load_rules(file.config, {})).passed]
    assert failed == ["a fall of five minutes is measured from their highest, and exactly at the fall it trips"]
