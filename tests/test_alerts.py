"""The alerts: promtool runs their unit tests, which are seen to bite, and what they rest on is really there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from killswitch.adapters.metrics import Metrics
from killswitch.domain.settings import Settings
from tests.documents import anchors
from tests.promtool import the_promtool

__all__ = ["the_promtool"]

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "prometheus"
TESTS = ("alerts.test.yml", "alerts.drill.test.yml")
RUNBOOK = "https://example.com/killswitch/deploy/RUNBOOK.md#"
DRILLS = {"killswitch_last_drill_timestamp_seconds"}
"""What `killswitch drill` brings with it; its alert is quiet where the metric isn't there."""

(GROUP,) = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
RULES = {rule["alert"]: rule for rule in GROUP["rules"]}


@pytest.fixture
def bench(tmp_path, promtool):
    """Tests one alert alone, changed: gives promtool's code and words. A key that is None is left out."""

    def run(name, **changed):
        rule = {key: value for key, value in (RULES[name] | changed).items() if value is not None}
        rules = {"groups": [GROUP | {"rules": [rule]}]}
        (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules), "utf-8")
        (tmp_path / "test.yml").write_text(yaml.safe_dump(of(name)), "utf-8")
        return promtool(tmp_path, "test", "rules", "test.yml")

    return run


def of(name):
    """The unit tests of one alert."""
    for file in TESTS:
        tests = yaml.safe_load((FOLDER / file).read_text("utf-8"))
        for each in tests["tests"]:
            each["alert_rule_test"] = [asked for asked in each["alert_rule_test"] if asked["alertname"] == name]
        tests["tests"] = [each for each in tests["tests"] if each["alert_rule_test"]]
        if len(tests["tests"]) > 1 or file == TESTS[1] or name == "KillswitchWatchdog":
            return tests
    raise AssertionError(name)


@pytest.mark.promtool
def test_the_sample_and_the_rules_are_right_by_promtool(promtool):
    code, said = promtool(FOLDER, "check", "config", "prometheus.yml")

    assert code == 0, said
    assert f"{len(RULES)} rules found" in said


@pytest.mark.promtool
@pytest.mark.parametrize("name", TESTS)
def test_the_alerts_fire_when_they_should_and_not_otherwise(promtool, name):
    code, said = promtool(FOLDER, "test", "rules", name)

    assert code == 0, said


@pytest.mark.promtool
@pytest.mark.parametrize("name", RULES)
def test_alone_and_unchanged_an_alert_passes(bench, name):
    code, said = bench(name)

    assert code == 0, said


@pytest.mark.promtool
@pytest.mark.parametrize("name", RULES)
def test_an_alert_that_never_fires_is_noticed(bench, name):
    code, _ = bench(name, expr="vector(1) < 0")

    assert code == 1


@pytest.mark.promtool
@pytest.mark.parametrize("name", [name for name in RULES if name != "KillswitchWatchdog"])
def test_an_alert_that_always_fires_is_noticed(bench, name):
    expr = RULES[name]["expr"]
    code, _ = bench(name, expr=f"({expr}) or vector(1)")

    assert code == 1


@pytest.mark.promtool
@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if "for" in rule])
def test_an_alert_that_does_not_wait_or_waits_too_long_is_noticed(bench, name):
    assert bench(name, **{"for": None})[0] == 1
    assert bench(name, **{"for": "1000h"})[0] == 1


@pytest.mark.promtool
@pytest.mark.parametrize(
    ("name", "was", "would_be"),
    [
        ("KillswitchNotReady", "!= 1", "== 0"),
        ("KillswitchSessionDown", "!= 1", "== 0"),
        ("KillswitchBrokerAway", "!= 1", "== 0"),
        ("KillswitchTripped", "> 0", "!= 0"),
        ("KillswitchNoDrill", " unless killswitch_shadow == 1", ""),
        ("KillswitchNoDrill", "killswitch_shadow == 1", "killswitch_shadow != 0"),
        ("KillswitchFeedStale", "killswitch_feed_stale_after_seconds", "30"),
        ("KillswitchGone", "on (job, instance)", ""),
        ("KillswitchGone", 'or absent(up{job="killswitch"})', ""),
        ("KillswitchGone", '{job="killswitch"}', ""),
    ],
)
def test_what_an_expression_does_with_nan_shadow_and_others_is_tested(bench, name, was, would_be):
    expr = RULES[name]["expr"]
    assert was in expr

    assert bench(name, expr=expr.replace(was, would_be))[0] == 1


@pytest.mark.parametrize("name", RULES)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(name):
    rule = RULES[name]

    assert rule["labels"]["severity"] in ("critical", "warning", "none")
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "$value" in rule["annotations"]["description"] or name in (
        *("KillswitchEscalated", "KillswitchGone", "KillswitchWatchdog"),
    )
    assert rule["annotations"]["runbook_url"].startswith(RUNBOOK)


def test_every_alert_has_a_section_of_its_own_in_the_runbook():
    wanted = [rule["annotations"]["runbook_url"].removeprefix(RUNBOOK) for rule in RULES.values()]

    assert len(set(wanted)) == len(wanted)
    assert set(wanted) <= set(anchors(ROOT / "deploy" / "RUNBOOK.md"))


def test_every_alert_is_named_in_its_section():
    text = (ROOT / "deploy" / "RUNBOOK.md").read_text("utf-8")
    sections = dict(zip(anchors(ROOT / "deploy" / "RUNBOOK.md"), re.split(r"(?m)^#+ .*$", text)[1:], strict=True))

    for name, rule in RULES.items():
        assert name in sections[rule["annotations"]["runbook_url"].removeprefix(RUNBOOK)]


def test_every_metric_that_the_alerts_go_by_is_one_that_the_daemon_shows():
    named = {word for rule in RULES.values() for word in re.findall(r"killswitch_\w+", str(rule))}
    text, _ = Metrics(Settings(daemon="a", boot="b", sites=()), "1", "c", (), view=lambda: None).render(None)
    shown = set(re.findall(r"(?m)^# TYPE (\S+)", text.decode()))

    assert named - shown <= DRILLS
    assert len(named) > 8
