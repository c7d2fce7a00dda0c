"""Rehearsing: rule tests and replays, in this process and as a person runs them; and equal to the real daemon."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from killswitch.adapters.journal import read_rows
from killswitch.cli import cli
from killswitch.config import load_rules
from killswitch.domain.messages import Beat, FeedUp, Reading
from killswitch.rehearse import Rehearsal, lines_of, recordings
from killswitch.wire.announce import scope_json
from killswitch.wire.recording import Began, Line, decode, encode
from tests.end_to_end.house import House, until

CONFIG = Path(__file__).parents[1] / "config"
T0 = 1_772_000_000.0
RULES = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
value = "var.value"
stale_after_s = 60

[[feed]]
name = "positions"
kind = "oms"
oms = "prime"
stale_after_s = 5

[[rule]]
name = "var-limit"
reading = "var"
kind = "limit"
above = 100
scope = { oms = "prime", account = "{account}" }

[[rule]]
name = "slow"
reading = "var"
where = { account = "14" }
kind = "limit"
above = 50
for_s = 3
on_stale = "trip"
on_bad = "trip"
fallback = { oms = "prime", account = 15 }
scope = { oms = "prime", account = 14 }

[[rule]]
name = "btc"
reading = "position"
kind = "limit"
above = 50
on_stale = "trip"
fallback = { oms = "prime", account = 16 }
scope = { oms = "prime", account = "{account}" }
"""


def killswitch(*argv):
    """Exit code, stdout, stderr."""
    done = CliRunner().invoke(cli, [str(a) for a in argv])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def config(tmp_path):
    """The sample's OMS with rules of our own; the secrets that it names are not there."""
    text = (CONFIG / "killswitch.toml").read_text("utf-8")
    file = tmp_path / "killswitch.toml"
    oms = text[text.index("[[oms]]") : text.index("[[panic]]")].replace("[14, 15]", "[14, 15, 16]")
    file.write_text('[daemon]\nname = "ks-a"\n' + oms + RULES, "utf-8")
    return file


def var(at_s, value, account=14, **more):
    return encode(
        Line(
            Reading(wall=T0 + at_s, feed="", name="var", labels=(("account", str(account)),), value=Decimal(value)),
            **more,
        )
    )


def said(at_s, **more):
    at = datetime.fromtimestamp(T0 + at_s, UTC).isoformat()
    return json.dumps({"at": at} | more)


def recording(folder, *lines, name="r.jsonl"):
    file = folder / name
    file.write_text("".join(line + "\n" for line in lines), "utf-8")
    return file


def replayed(config, *files):
    code, out, err = killswitch("replay", "--json", "--config", config, *files)
    assert code == 0, err
    trips = [json.loads(line) for line in out.splitlines()]
    return [
        (datetime.fromisoformat(t["at"]).timestamp() - T0, t["rule"], t["scope"].get("account")) for t in trips
    ], err


# --- rule tests ---------------------------------------------------------------------------------------------


def test_the_sample_s_own_rule_tests_pass_without_any_secret():
    assert not (CONFIG / "prime.secret").exists()
    code, out, _ = killswitch("test", CONFIG / "killswitch.test.toml")
    assert (code, "5 passed, 0 failed" in out) == (0, True)


TEST = """config = "killswitch.toml"
[[test]]
name = "one"
readings = [{ at_s = 0, reading = "var", labels = { account = 15 }, value = 99 },
            { at_s = 3, reading = "var", labels = { account = 15 }, value = 101 }]
until_s = 10
trips = [{ at_s = 3, rule = "var-limit", scope = { oms = "prime", account = 15 } }]
"""


def rule_test(config, *changes):
    text = TEST
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = config.with_name("rules.test.toml")
    file.write_text(text, "utf-8")
    code, out, err = killswitch("test", file)
    return code, " ".join((out + err).split())


def test_a_test_passes_when_exactly_its_trips_come(config):
    assert rule_test(config)[0] == 0


def test_a_reading_can_be_repeated_at_even_distances(config):
    again = "at_s = 0, every_s = 4, times = 3, reading"
    trips = "trips = [{ at_s = 1, rule"
    readings = "{ at_s = 1, every_s = 4, times = 2, reading"
    changes = [("at_s = 0, reading", again), ("{ at_s = 3, reading", readings)]
    assert rule_test(config, *changes, ("trips = [{ at_s = 3, rule", trips))[0] == 1  # 99, 101, 99, 101, 99: two trips
    both = f'{trips} = "var-limit", scope = {{ oms = "prime", account = 15 }} }}, {{ at_s = 5, rule'
    assert rule_test(config, *changes, ("trips = [{ at_s = 3, rule", both))[0] == 0


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("every_s = 1, times = 0", "readings[0].times: it must be a whole number from 1 to 100,000"),
        ("every_s = 1, times = 100001", "readings[0].times: it must be a whole number from 1 to 100,000"),
        ("every_s = 1", "readings[0].times: it must be a whole number"),
        ("times = 2", "readings[0].every_s: it must be seconds, 0 or more"),
        ("every_s = -1, times = 2", "readings[0].every_s: it must be seconds, 0 or more"),
        ("every_s = 6, times = 3", "until_s: a reading or a trip is after it"),
    ],
)
def test_a_repetition_that_can_t_be_is_a_mistake(config, keys, words):
    code, said = rule_test(config, ("at_s = 0, reading", f"at_s = 0, {keys}, reading"))
    assert (code, words in said) == (2, True), said


DROP = """
[[rule]]
name = "drop"
reading = "var"
kind = "drawdown"
fall = 10
window_s = 5
scope = { oms = "prime", account = "{account}" }
"""


RATIO = """
[[feed]]
name = "nack"
kind = "mqtt"
topic = "desk/{account}/nack"
reading = "nack"
stale_after_s = 60

[[feed]]
name = "entry"
kind = "mqtt"
topic = "desk/{account}/entry"
reading = "entry"
stale_after_s = 60

[[rule]]
name = "rejects"
reading = "nack"
over = "entry"
kind = "ratio"
above = 0.5
window_s = 5
at_least = 2
on_stale = "trip"
fallback = { oms = "prime", account = 16 }
scope = { oms = "prime", account = "{account}" }
"""
SHARES = """config = "killswitch.toml"
[[test]]
name = "two of three"
readings = [%s]
until_s = 20
trips = [%s]
[[test]]
name = "a feed of which only a trip tells"
readings = []
until_s = 60
trips = [{ at_s = 60, rule = "rejects", scope = { oms = "prime", account = 16 } },
         { at_s = 60, rule = "rejects", scope = { oms = "prime", account = 16 } }]
"""


def test_a_share_is_rehearsed_over_two_feeds_and_by_time_alone(config, tmp_path):
    config.write_text(config.read_text("utf-8") + RATIO, "utf-8")
    came = [(0, "entry"), (1, "entry"), (2, "nack"), (2, "entry"), (3, "entry"), (3, "nack")]
    readings = ", ".join(
        f'{{ at_s = {at}, reading = "{n}", labels = {{ account = 14 }}, value = 1 }}' for at, n in came
    )
    # 2 of 4 until 5 s, when the first order leaves.
    trip = '{ at_s = 5, rule = "rejects", scope = { oms = "prime", account = 14 } }'
    file = tmp_path / "rules.test.toml"
    file.write_text(SHARES % (readings, trip), "utf-8")
    assert killswitch("test", file)[0] == 0
    code, out, _ = killswitch("test", "--json", file)
    told = json.loads(out)
    assert (code, told["failed"]) == (0, 0)
    assert [(t["file"], t["passed"], t["why"]) for t in told["tests"]] == [(str(file), True, [])] * 2
    file.write_text(SHARES % (readings, ""), "utf-8")
    assert killswitch("test", file)[0] == 1
    code, out, _ = killswitch("test", "--json", file)
    told = json.loads(out)
    assert (code, told["failed"], told["tests"][0]["passed"]) == (1, 1, False)
    assert "at 5 s rejects trips prime: account 14" in told["tests"][0]["why"][0]


@pytest.mark.parametrize(("last", "code"), [(41, 1), (40, 0)])
def test_a_fall_is_rehearsed_and_trips_at_its_limit(config, last, code):
    config.write_text(config.read_text("utf-8") + DROP, "utf-8")
    change = (
        ("value = 99", "value = 50"),
        ("value = 101", f"value = {last}"),
        ('rule = "var-limit"', 'rule = "drop"'),
    )
    assert rule_test(config, *change)[0] == code


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("trips = [{ at_s = 3", "trips = [{ at_s = 4"), "expected: at 4 s var-limit trips prime: account 15"),
        (("value = 101", "value = 100"), "got: no trip"),
        (("account = 15 } }]", "account = 14 } }]"), "got: at 3 s var-limit trips prime: account 15"),
        (("value = 99", "value = 199"), "got: at 0 s var-limit trips prime: account 15"),
        (('rule = "var-limit"', 'rule = "slow"'), "expected: at 3 s slow trips"),
    ],
)
def test_a_test_fails_with_what_was_expected_and_what_came(config, change, words):
    code, said = rule_test(config, change)
    assert code == 1
    assert "FAILED one" in said
    assert words in said
    assert "0 passed, 1 failed" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('name = "one"', 'name = "one"\nnmae = "x"'), "test \"one\": unknown key 'nmae'"),
        (("value = 99 }", "value = 99, vlaue = 1 }"), "readings[0]: unknown key 'vlaue'"),
        (("value = 99", "value = '99'"), "readings[0].value: it must be a number"),
        (("value = 99", "value = true"), "readings[0].value: it must be a number"),
        (("at_s = 0", "at_s = -1"), "readings[0].at_s: it must be seconds"),
        (("at_s = 0", "at_s = nan"), "readings[0].at_s: it must be seconds"),
        (("at_s = 0", "at_s = 5"), "readings[1].at_s: it is before the reading above it"),
        (("until_s = 10", "until_s = 2"), "until_s: a reading or a trip is after it"),
        (("until_s = 10", ""), "until_s: it must be seconds"),
        (("account = 15 } }]", "acount = 15 } }]"), "trips[0].scope: unknown key 'acount'"),
        (("account = 15 } }]", "account = 0 } }]"), "trips[0].scope: account"),
        (('rule = "var-limit"', 'rule = "var-limt"'), "there is no rule var-limt"),
        (('reading = "var"', 'reading = "vra"'), "no feed gives it: vra"),
        (('config = "killswitch.toml"', 'config = "nowhere.toml"'), "there is no such file"),
        (('config = "killswitch.toml"', ""), "config: it must be the path"),
        (("[[test]]", "[[tset]]"), "unknown key 'tset'"),
        (("[[test]]", "[[test"), "no valid TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(config, change, words):
    code, said = rule_test(config, change)
    assert (code, words in said) == (2, True), said


def test_what_is_no_number_goes_to_on_bad(config):
    assert rule_test(
        config,
        ("account = 15 }, value = 99", "account = 14 }, value = 1"),
        ("account = 15 }, value = 101", "account = 14 }, value = nan"),
        ('rule = "var-limit", scope = { oms = "prime", account = 15 }',
         'rule = "slow", scope = { oms = "prime", account = 14 }'),
    )[0] == 0  # fmt: skip


# --- replay -------------------------------------------------------------------------------------------------


def test_every_breach_is_told_on_its_edge_and_what_must_last_at_its_own_time(config, tmp_path):
    file = recording(
        tmp_path, var(0, 60), var(1, 120), var(2, 130), var(5, 40), var(6, 101), var(7, 20), var(8, 400, account=15)
    )
    trips, _ = replayed(config, file)
    # The feed of positions says nothing, which `btc` trips its fallback for.
    assert trips == [
        (1, "var-limit", 14),
        (3, "slow", 14),
        (5, "btc", 16),
        (6, "var-limit", 14),
        (8, "var-limit", 15),
    ]


def test_a_silence_between_two_readings_trips_when_it_is_due(config, tmp_path):
    file = recording(tmp_path, said(0, feed="var", link="up"), var(0, 1), var(500, 2))
    trips, _ = replayed(config, file)
    assert (60, "slow", 15) in trips


def test_pings_of_an_oms_session_keep_a_quiet_account_fresh_and_their_end_does_not(config, tmp_path):
    start = [
        said(0, start="ks-a", clock_s=7),
        said(0, oms="prime", session=3, saw="up", clock_s=7),
        said(0, session=3, saw="positions", account=14, clock_s=7),
        said(0, feed="positions", reading="position", labels={"account": 14, "product": "BTC"}, value=1, clock_s=7),
    ]
    pings = [said(n, oms="prime", session=3, saw="heard", clock_s=7 + n) for n in range(1, 60)]
    end = said(70, feed="var", link="up", clock_s=77)
    assert ("btc" in [t[1] for t in replayed(config, recording(tmp_path, *start, *pings))[0]]) is False
    trips, _ = replayed(config, recording(tmp_path, *start, *pings, end))
    assert [t for t in trips if t[1] == "btc"] == [(64, "btc", 16)]


def test_a_recording_whose_beginning_is_gone_takes_the_accounts_it_shows_for_listed(config, tmp_path):
    pings = [said(n, oms="prime", session=3, saw="heard", clock_s=7 + n) for n in range(30)]
    seen = said(
        3.5, feed="positions", reading="position", labels={"account": 14, "product": "BTC"}, value=60, clock_s=10.5
    )
    trips, _ = replayed(config, recording(tmp_path, *pings[:4], seen, *pings[4:]))
    assert trips == [(3.5, "btc", 14)]


def test_a_wall_clock_that_is_set_moves_nothing_where_the_monotonic_clock_is_recorded(config, tmp_path):
    lines = [said(0, start="ks-a", clock_s=100), said(0, feed="var", link="up", clock_s=100)]
    lines += [var(n, 60, clock_s=100.0 + n) for n in (0, 1)]
    lines += [var(3600 + n, 60, clock_s=100.0 + n) for n in (2, 4)]
    trips, _ = replayed(config, recording(tmp_path, *lines))
    assert [(at, rule) for at, rule, _ in trips if rule == "slow"] == [(3603, "slow")]


def test_a_start_forgets_what_was_before(config, tmp_path):
    lines = [var(0, 120), said(1, start="ks-a"), var(2, 120), said(3, start="ks-a"), var(4, 1)]
    trips, _ = replayed(config, recording(tmp_path, *lines))
    assert [t for t in trips if t[1] == "var-limit"] == [(0, "var-limit", 14), (2, "var-limit", 14)]


@pytest.mark.parametrize(("back_at", "trips"), [(3, [(4, "drop", 14)]), (4_000, [])], ids=["soon", "after long"])
def test_the_windows_go_on_over_a_start_as_the_daemon_s_own_do(config, tmp_path, back_at, trips):
    config.write_text(config.read_text("utf-8") + DROP, "utf-8")
    lives = [var(0, 50), var(1, 45), said(2, start="ks-a"), said(back_at, start="ks-a"), var(back_at + 1, 40)]
    found, _ = replayed(config, recording(tmp_path, *lives))
    assert [trip for trip in found if trip[1] == "drop"] == trips


def test_rotated_files_are_read_oldest_first_from_a_directory_or_in_any_order(config, tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    old = recording(folder, var(0, 120), var(1, 1), name="r.jsonl.2")
    mid = recording(folder, var(2, 120), name="r.jsonl.1")
    new = recording(folder, var(3, 130), name="r.jsonl")
    (folder / "killswitch.db").write_text("no recording")
    expected = [(0, "var-limit", 14), (2, "var-limit", 14)]
    assert replayed(config, folder)[0] == expected
    assert replayed(config, new, old, mid)[0] == expected


def test_a_line_that_is_none_ends_with_its_place_but_one_that_is_being_written_is_passed_over(config, tmp_path):
    file = recording(tmp_path, var(0, 1), '{"at":1}')
    code, _, err = killswitch("replay", "--config", config, file)
    assert (code, "line 2: at must be a time" in " ".join(err.split())) == (2, True)
    file.write_text(var(0, 120) + "\n" + '{"at":"2026', "utf-8")
    assert replayed(config, file)[0] == [(0, "var-limit", 14)]


def test_what_can_t_be_read_or_belongs_to_nobody_is_said(config, tmp_path):
    assert killswitch("replay", "--config", config, tmp_path / "none.jsonl")[0] == 2
    (tmp_path / "empty").mkdir()
    assert killswitch("replay", "--config", config, tmp_path / "empty")[0] == 2
    os.mkfifo(tmp_path / "pipe")  # it can't be read twice, and nothing of it would have been heard
    code, _, err = killswitch("replay", "--config", config, tmp_path / "pipe")
    assert (code, "it is no regular file" in err) == (2, True)
    file = recording(tmp_path, var(0, 1), said(1, reading="vra", labels={}, value=1), said(2, lost=5))
    _, err = replayed(config, file)
    assert "vra: 1 reading belongs to no feed" in err
    assert "5 events were not recorded" in err


def generated(count):
    chance = random.Random(7)
    at = 0.0
    for _ in range(count):
        at += chance.choice((0, 0.001, 0.01, 0.3))
        yield Line(
            Reading(
                wall=T0 + at,
                feed="",
                name=chance.choice(("var", "position")),
                labels=(("account", str(chance.randrange(14, 40))), ("product", chance.choice(("BTC", "USD")))),
                value=chance.choice((Decimal(chance.randrange(0, 130)), chance.uniform(0, 120))),
            )
        )


def test_a_hundred_thousand_readings_give_the_same_twice(config, tmp_path):
    file = tmp_path / "r.jsonl"
    with file.open("w") as out:
        out.writelines(encode(line) + "\n" for line in generated(100_000))
    first, second = (killswitch("replay", "--json", "--config", config, file) for _ in range(2))
    assert first[:2] == second[:2]
    assert len(first[1].splitlines()) > 1000
    assert "100,000 lines" in first[2]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_readings_give_the_same_twice(config, tmp_path, request):
    if "long" not in (request.config.option.markexpr or ""):
        pytest.skip("takes minutes; a hundred thousand are tried each time: pytest -m long")
    file = tmp_path / "r.jsonl"
    with file.open("w") as out:
        out.writelines(encode(line) + "\n" for line in generated(1_000_000))
    outs = [tmp_path / f"{n}.txt" for n in range(2)]
    argv = [sys.executable, "-m", "killswitch", "replay", "--json", "--config", str(config), str(file)]
    runs = []
    for n, out in enumerate(outs):
        env = os.environ | {"PYTHONHASHSEED": str(n)}
        with out.open("wb") as stdout:
            runs.append(subprocess.Popen(argv, stdout=stdout, stderr=subprocess.PIPE, env=env))
    said = [run.communicate()[1].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert outs[0].read_bytes().count(b"\n") > 10_000
    assert "1,000,000 lines" in said[0]


# --- the same as the daemon ---------------------------------------------------------------------------------


@pytest.mark.mosquitto
async def test_replaying_what_the_daemon_recorded_gives_the_trips_that_it_made(tmp_path):
    chance = random.Random(3)
    # On a busy machine nothing must look silent, nor seem to last.
    rules = RULES.replace("stale_after_s = 5\n", "stale_after_s = 60\n").replace("for_s = 3", "for_s = 60")
    async with House(tmp_path, tables=rules, daemon='record = "readings.jsonl"') as house:
        await house.start()
        file = tmp_path / "readings.jsonl"
        await until(lambda: file.exists() and '"link"' in file.read_text("utf-8"), "the feed is up")
        async with house.client() as client:

            async def publish(account, value):
                payload = json.dumps({"var": {"value": value}})
                await client.publish(f"risk/{account}/var", payload, qos=1)

            async def calm(count):
                for _ in range(count):
                    await publish(chance.randrange(14, 17), round(chance.uniform(0, 45), 6))

            made = set()
            for turn in range(3):
                await calm(60)
                for account in (14, 15, 16) if turn == 1 else (15, 16):
                    await publish(account, 100.5 + turn)
                    await publish(account, 101.5 + turn)
                    await publish(account, 3)
                await until(lambda n=3 if turn == 1 else 2: len(house.trips()) == n, "they trip")
                house.sim.move_position(14, 1, to=51) if turn == 2 else None
                await house.confirmed(*house.trips())
                made |= set(house.trips())
                if turn < 2:
                    for trip in tuple(house.trips()):
                        await house.reset_at_last(trip)
                    await until(lambda: not house.trips(), "all are reset")
            await until(lambda: len(house.trips()) == 3, "the position trips")
            await calm(20)
        assert await house.stop() == 0
        live = []
        for row in read_rows(house.journal):
            if row.kind == "tripped":
                body = json.loads(row.data)["body"]
                scope = {name: part for name, part in body["scope"].items() if part != "every"}
                live.append((row.wall, body["cause"]["rule"], scope))
        rehearsal = Rehearsal(load_rules(house.config, {}))
        trips = [trip for file in recordings([tmp_path]) for line, _ in lines_of(file) for trip in rehearsal.take(line)]
        assert len(live) == 8
        assert [(t.rule, scope_json(t.scope)) for t in trips] == [row[1:] for row in live]
        # A recording's times are whole microseconds.
        assert max(abs(trip.at - at) for trip, (at, _, _) in zip(trips, live, strict=True)) < 5e-6
        recorded = [line.event for line, _ in lines_of(file)]
        assert sum(isinstance(e, Reading) and e.name == "var" for e in recorded) >= 221


OLD = """
[[rule]]
name = "var-old"
reading = "var"
kind = "stale"
older_than_s = 4
scope = { oms = "prime", account = "{account}" }

[[rule]]
name = "feed-old"
feed = "var"
kind = "stale"
older_than_s = 6
scope = { oms = "prime", account = 16 }
"""


def test_silence_trips_in_a_test_that_waits_for_it(config):
    config.write_text(config.read_text("utf-8") + OLD, "utf-8")
    old = '{ at_s = 7, rule = "var-old", scope = { oms = "prime", account = 15 } }'
    feed = '{ at_s = 9, rule = "feed-old", scope = { oms = "prime", account = 16 } }'
    given = '[{ at_s = 3, rule = "var-limit", scope = { oms = "prime", account = 15 } }]'
    assert rule_test(config, (given, given[:-1] + f", {old}, {feed}]"))[0] == 0
    code, said = rule_test(config)
    assert code == 1
    assert "at 9 s feed-old trips prime: account 16" in said


SHADOW = """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
stale_after_s = 60

[[rule]]
name = "tried"
reading = "var"
kind = "limit"
above = 40
mode = "shadow"
scope = { oms = "prime", account = "{account}" }
"""


def written(tmp_path, rules):
    """A configuration of the sample's OMS, and these feeds and rules."""
    text = (CONFIG / "killswitch.toml").read_text("utf-8")
    file = tmp_path / "killswitch.toml"
    file.write_text(text[: text.index("[[panic]]")] + rules)
    return file


@pytest.mark.parametrize(("mark", "code"), [(", shadow = true", 0), ("", 1), (", shadow = false", 1)])
def test_a_trip_of_a_rule_in_shadow_must_be_expected_as_one(tmp_path, mark, code):
    config = written(tmp_path, SHADOW)
    tests = tmp_path / "rules.test.toml"
    tests.write_text(
        f'config = "{config.name}"\n[[test]]\nname = "tried"\nuntil_s = 5\n'
        'readings = [{ at_s = 1, reading = "var", labels = { account = 14 }, value = 45 }]\n'
        f'trips = [{{ at_s = 1, rule = "tried", scope = {{ oms = "prime", account = 14 }}{mark} }}]\n'
    )
    result = CliRunner().invoke(cli, ["test", str(tests)])
    assert result.exit_code == code, result.output
    if code:
        assert "tried trips prime: account 14, all users, all instruments in shadow" in " ".join(result.output.split())


def test_a_mark_that_is_neither_true_nor_false_is_a_mistake(tmp_path):
    tests = tmp_path / "rules.test.toml"
    tests.write_text(
        f'config = "{written(tmp_path, SHADOW).name}"\n[[test]]\nname = "tried"\nuntil_s = 5\nreadings = []\n'
        'trips = [{ at_s = 1, rule = "tried", scope = { oms = "prime", account = 14 }, shadow = 1 }]\n'
    )
    result = CliRunner().invoke(cli, ["test", str(tests)])
    assert result.exit_code == 2
    assert "shadow: it must be true or false" in result.output


def test_a_replay_marks_the_trips_of_rules_in_shadow_and_no_others(tmp_path):
    live = SHADOW.replace('mode = "shadow"\n', "").replace("tried", "live")
    config = written(tmp_path, SHADOW + live[live.index("[[rule]]") :])
    recording = tmp_path / "day.jsonl"
    line = {"at": "2026-02-25T06:13:20Z", "reading": "var", "labels": {"account": 14}, "value": 45}
    recording.write_text(json.dumps(line) + "\n")
    result = CliRunner().invoke(cli, ["replay", "--config", str(config), "--json", str(recording)])
    said = {trip["rule"]: trip for trip in map(json.loads, result.stdout.splitlines())}
    assert said["tried"]["shadow"] is True
    assert "shadow" not in said["live"]
    result = CliRunner().invoke(cli, ["replay", "--config", str(config), str(recording)])
    assert "tried (shadow)" in result.stdout


DEAD = """
[[feed]]
name = "heart"
kind = "mqtt"
topic = "traders/1/beat"
stale_after_s = 60

[[rule]]
name = "dead"
feed = "heart"
kind = "deadman"
silent_s = 4
arm = "first"
scope = { oms = "prime", account = 16 }
"""
ALIVE = """config = "killswitch.toml"
[[test]]
name = "one"
readings = [{ at_s = 2, feed = "heart" }, { at_s = 5, feed = "heart" }]
until_s = 20
trips = [{ at_s = 9, rule = "dead", scope = { oms = "prime", account = 16 } }]
"""


def test_a_table_with_nothing_but_a_feed_is_a_beat_of_it(config):
    config.write_text(config.read_text("utf-8") + DEAD, "utf-8")
    file = config.with_name("dead.test.toml")

    def tried(old="", new=""):
        assert old in ALIVE
        file.write_text(ALIVE.replace(old, new) if old else ALIVE, "utf-8")
        code, out, err = killswitch("test", file)
        return code, " ".join((out + err).split())

    assert tried()[0] == 0
    assert "at 6 s dead trips" in tried('{ at_s = 5, feed = "heart" }', '{ at_s = 9, feed = "heart" }')[1]
    code, said = tried('[{ at_s = 2, feed = "heart" }, { at_s = 5, feed = "heart" }]', "[]")
    assert (code, "got: no trip" in said) == (1, True)  # armed by its first beat, of which there is none
    assert "readings[1]: there is no feed hart" in tried('5, feed = "heart"', '5, feed = "hart"')[1]
    assert "feed var gives var: say it with its reading and value" in tried('5, feed = "heart"', '5, feed = "var"')[1]
    assert tried('5, feed = "heart"', '5, feed = "positions"')[0] == 1  # a beat of an OMS is no beat of the heart


def test_a_dead_man_that_was_armed_stays_armed_over_a_recorded_start(config):
    config.write_text(config.read_text("utf-8") + DEAD, "utf-8")
    rules = load_rules(config, {})
    beats = [Line(Beat(wall=T0, feed="heart"))]
    start = Line(Began(wall=T0 + 2, daemon="ks-a"))

    def trips(*lines):
        rehearsal = Rehearsal(rules)
        found = [trip for line in lines for trip in rehearsal.take(decode(encode(line)))]
        found += rehearsal.wait(T0 + 30)
        return [(trip.rule, round(trip.at - T0, 3)) for trip in found if trip.rule == "dead"]

    up = Line(FeedUp(wall=T0 + 3, feed="heart"))
    assert trips(*beats) == [("dead", 4.0)]
    assert trips(*beats, start, up) == [("dead", 7.0)]
    assert trips(start, up) == []
    assert trips(Line(Began(wall=T0 + 2, daemon="ks-a", armed=(("dead", "heart"),))), up) == [("dead", 7.0)]
    assert trips(Line(Beat(wall=T0, feed="heart", retained=True)), start, up) == []


def test_what_arrived_while_the_daemon_stood_still_is_judged_before_anything_is_late(config, tmp_path):
    lines = [said(0, feed="var", link="up"), var(0, 60), said(9, loop="stood still"), var(9, 40), var(9, 60)]
    more = [said(9.05, loop="goes on"), var(10, 40), var(11, 60), var(15, 60)]
    trips, _ = replayed(config, recording(tmp_path, *lines, *more))
    assert [t for t in trips if t[1] == "slow"] == [(14, "slow", 14)]


def test_a_loop_that_did_neither_is_no_line_of_a_recording(config, tmp_path):
    code, _, err = killswitch("replay", "--config", config, recording(tmp_path, said(0, loop="ran"), var(1, 1)))
    assert (code, 'loop must be "stood still" or "goes on"' in err) == (2, True)
