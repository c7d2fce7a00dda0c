"""Rule tests: a file of readings and the trips that must come of them, and only those.

A table with nothing but at_s and feed is a beat of a feed that gives no reading (or of an OMS: something was heard).

A feed takes part in a test if the test has a reading of it, or expects a trip of a rule that reads it; it is up
from 0 s on. So a test of positions need not keep every other feed alive, and a silence is tested by giving one
reading and waiting.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from killswitch.domain.messages import Beat, Reading
from killswitch.domain.scope import EVERY, Scope, ScopeError
from killswitch.domain.settings import FeedRule
from killswitch.domain.watch.readings import lanes_of
from killswitch.rehearse import Rehearsal, Rehearsed
from killswitch.wire.recording import Line, Missing, label_text

if TYPE_CHECKING:
    from pathlib import Path

    from killswitch.config import Rules

SAME_S: Final = 0.001
"""Two times that differ by no more are one."""
TIMES_MAX: Final = 100_000
"""So often a reading can be repeated."""
_SIZE_MAX: Final = 16 * 1024 * 1024


class TestFileError(ValueError):
    """What is wrong with a file of rule tests: sentences, each with its place."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Expected:
    """A trip that must come, `at_s` seconds after the test's beginning. `shadow`: by a rule in shadow, said so."""

    at_s: float
    rule: str
    scope: Scope
    shadow: bool = False

    def in_words(self) -> str:
        return f"at {self.at_s:g} s {self.rule} trips {self.scope.in_words()}{' in shadow' if self.shadow else ''}"


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One test. `readings` and beats in the order of their times (`wall`: seconds from the beginning)."""

    name: str
    readings: tuple[Reading | Beat, ...]
    until_s: float
    trips: tuple[Expected, ...]


@dataclass(frozen=True, slots=True)
class TestFile:
    """`config`: the configuration whose rules are tested."""

    config: Path
    tests: tuple[RuleTest, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """`absent`: expected, and did not come. `surplus`: came, and was not expected."""

    test: RuleTest
    got: tuple[Rehearsed, ...]
    absent: tuple[Expected, ...]
    surplus: tuple[Rehearsed, ...]

    @property
    def passed(self) -> bool:
        return not self.absent and not self.surplus


def run(test: RuleTest, rules: Rules) -> Result:
    """Rehearse one test."""
    rehearsal = _rehearsal(test, rules)
    got = [*rehearsal.take(Line(Missing(wall=0.0, lost=0)))]  # time begins at 0, whenever the first reading is
    for reading in test.readings:
        got += rehearsal.take(Line(reading))
    got += rehearsal.wait(test.until_s)
    surplus, absent = list(got), []
    for expected in test.trips:
        hit = next((trip for trip in surplus if _is(trip, expected)), None)
        if hit is None:
            absent.append(expected)
        else:
            surplus.remove(hit)
    return Result(test, tuple(got), tuple(absent), tuple(surplus))


def _is(trip: Rehearsed, expected: Expected) -> bool:
    same = (trip.rule, trip.scope, trip.shadow) == (expected.rule, expected.scope, expected.shadow)
    return same and abs(trip.at - expected.at_s) <= SAME_S


def _rehearsal(test: RuleTest, rules: Rules) -> Rehearsal:
    named = {reading.feed for reading in test.readings}
    read = {one.name for one in test.readings if isinstance(one, Reading) and not one.feed}
    expected = {trip.rule for trip in test.trips}
    for rule in rules.rules:
        if rule.name not in expected:
            continue
        if isinstance(rule, FeedRule):
            named.add(rule.feed)
        else:
            read.update(rule.reads)
    feeds = tuple(f for f in rules.feeds if f.name in named or any(name in read for _, name in lanes_of(f)))
    there, given = {feed.name for feed in feeds}, {name for feed in feeds for _, name in lanes_of(feed)}
    kept = tuple(
        rule
        for rule in rules.rules
        if (rule.feed in there if isinstance(rule, FeedRule) else not given.isdisjoint(rule.reads))
    )
    return Rehearsal(replace(rules, feeds=feeds, rules=kept))


def in_words(result: Result) -> str:
    """What was expected and what came, where they differ."""
    return "\n".join([f"FAILED {result.test.name}", *(f"  {line}" for line in why(result))])


def why(result: Result) -> list[str]:
    """The same, a line each; none where the test passed."""
    if result.passed:
        return []
    lines = [f"expected: {trip.in_words()}" for trip in result.absent]
    if not result.got:
        lines.append("got:      no trip")
    known = [trip for trip in result.got if trip not in result.surplus]
    for trip in result.surplus:
        said = _as_expected(trip).in_words()
        lines.append(f"got:      {said}, which is not expected: {trip.cause}")
    return lines + [f"as well:  {_as_expected(trip).in_words()}, as expected" for trip in known]


def _as_expected(trip: Rehearsed) -> Expected:
    return Expected(round(trip.at, 3), trip.rule, trip.scope, trip.shadow)


# --- reading the file ---------------------------------------------------------------------------------------


def read(path: Path) -> TestFile:
    """Raises TestFileError with every mistake; nothing else. Names are checked by `strangers`."""
    try:
        with path.open("rb") as file:
            content = file.read(_SIZE_MAX + 1)
        if len(content) > _SIZE_MAX:
            raise TestFileError((f"{path}: the file is too long for rule tests",))
        tables = tomllib.loads(content.decode(), parse_float=Decimal)
    except OSError as error:
        raise TestFileError((f"{path}: it can't be read ({error.strerror or type(error).__name__})",)) from None
    except tomllib.TOMLDecodeError as error:
        raise TestFileError((f"{path}: no valid TOML: {error}",)) from None
    except (ValueError, ArithmeticError, RecursionError) as error:
        if isinstance(error, TestFileError):
            raise
        raise TestFileError((f"{path}: no valid TOML in UTF-8",)) from None
    reader = _Reader()
    found = reader.file(tables, path)
    if reader.mistakes or found is None:
        raise TestFileError(tuple(f"{path}: {mistake}" for mistake in reader.mistakes))
    return found


def strangers(file: TestFile, rules: Rules) -> tuple[str, ...]:
    """Readings, feeds and rules that the configuration doesn't have: a misspelt one would pass unseen."""
    everything = Rehearsal(replace(rules, rules=()))
    names = {rule.name for rule in rules.rules}
    said = []
    for test in file.tests:
        for index, reading in enumerate(test.readings):
            if isinstance(reading, Beat):
                said += [f'test "{test.name}", readings[{index}]: {why}' for why in _no_heart(reading.feed, rules)]
                continue
            feeds = everything.feeds_of(reading.name, reading.feed)
            given = {name for feed in rules.feeds if feed.name in feeds for _, name in lanes_of(feed)}
            if reading.name not in given:
                whose = f"feed {reading.feed}" if reading.feed else "no feed"
                what = "gives no such reading" if reading.feed else "gives it"
                said.append(f'test "{test.name}", readings[{index}]: {whose} {what}: {reading.name}')
        said += [
            f'test "{test.name}", trips[{index}]: there is no rule {trip.rule}'
            for index, trip in enumerate(test.trips)
            if trip.rule not in names
        ]
    return tuple(said)


def _no_heart(name: str, rules: Rules) -> tuple[str, ...]:
    """Why a table with nothing but a feed is no beat of it, if so."""
    feed = next((feed for feed in rules.feeds if feed.name == name), None)
    if feed is None:
        return (f"there is no feed {name}",)
    if feed.reading is not None:
        return (f"feed {name} gives {feed.reading}: say it with its reading and value",)
    return ()


class _Reader:
    """Reads tables, and collects what is wrong."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def file(self, tables: dict[str, Any], path: Path) -> TestFile | None:
        self._only(tables, ("config", "test"), "the file")
        config = tables.get("config")
        if not isinstance(config, str) or not config or "\0" in config:
            self.mistakes.append("config: it must be the path of a configuration")
        rows = tables.get("test")
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            self.mistakes.append("there is no [[test]] in it")
            return None
        tests = [self._test(row, index) for index, row in enumerate(rows)]
        names = [row.get("name") for row in rows]
        for name in dict.fromkeys(n for n in names if isinstance(n, str) and names.count(n) > 1):
            self.mistakes.append(f'test "{name}": more than one test has this name')
        if self.mistakes or not isinstance(config, str):
            return None
        return TestFile((path.parent / config), tuple(test for test in tests if test is not None))

    def _test(self, row: dict[str, Any], index: int) -> RuleTest | None:
        name = row.get("name")
        place = f'test "{name}"' if isinstance(name, str) and name else f"test[{index}]"
        self._only(row, ("name", "readings", "until_s", "trips"), place)
        if not isinstance(name, str) or not name:
            self.mistakes.append(f"{place}.name: it must be text")
        readings = [self._repeated(r, f"{place}, {at}") for at, r in self._tables(row, "readings", place)]
        trips = [self._trip(r, f"{place}, {at}") for at, r in self._tables(row, "trips", place)]
        until_s = self._seconds(row, "until_s", place)
        began = [rows[0].wall if rows else 0.0 for rows in readings]
        for at in (at for at in range(1, len(began)) if readings[at] and began[at] < max(began[:at])):
            self.mistakes.append(f"{place}, readings[{at}].at_s: it is before the reading above it")
        kept = tuple(sorted((one for rows in readings for one in rows), key=lambda one: one.wall))
        last = kept[-1].wall if kept else 0.0
        times = [t.at_s for t in trips if t is not None]
        if until_s is not None and until_s < max([last, *times]):
            self.mistakes.append(f"{place}.until_s: a reading or a trip is after it")
        if until_s is None or not isinstance(name, str):
            return None
        return RuleTest(name, kept, until_s, tuple(t for t in trips if t is not None))

    def _tables(self, row: dict[str, Any], key: str, place: str) -> list[tuple[str, dict[str, Any]]]:
        value = row.get(key)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            self.mistakes.append(f"{place}.{key}: it must be a list of tables" + (", or []" if key == "trips" else ""))
            return []
        return [(f"{key}[{index}]", one) for index, one in enumerate(value)]

    def _repeated(self, row: dict[str, Any], place: str) -> list[Reading | Beat]:
        """A reading, `times` in all, each `every_s` after the one before."""
        more: dict[str, Any] = {key: row[key] for key in ("every_s", "times") if key in row}
        first = self._reading({key: value for key, value in row.items() if key not in more}, place)
        if not more:
            return [] if first is None else [first]
        every_s, times = self._seconds(more, "every_s", place), more.get("times")
        if not isinstance(times, int) or isinstance(times, bool) or not 1 <= times <= TIMES_MAX:
            self.mistakes.append(f"{place}.times: it must be a whole number from 1 to {TIMES_MAX:,}")
            return []
        if first is None or every_s is None:
            return []
        return [replace(first, wall=first.wall + n * every_s) for n in range(times)]

    def _reading(self, row: dict[str, Any], place: str) -> Reading | Beat | None:
        if set(row) == {"at_s", "feed"}:
            at_s, feed = self._seconds(row, "at_s", place), self._text(row, "feed", place)
            return None if at_s is None or feed is None else Beat(wall=at_s, feed=feed)
        self._only(row, ("at_s", "reading", "labels", "value", "feed"), place)
        at_s, value = self._seconds(row, "at_s", place), row.get("value")
        name, feed = self._text(row, "reading", place), row.get("feed", "")
        if not isinstance(feed, str):
            self.mistakes.append(f"{place}.feed: it must be text")
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            self.mistakes.append(f"{place}.value: it must be a number (nan stands for what is none)")
        labels = row.get("labels", {})
        held = {n: label_text(v) for n, v in labels.items()} if isinstance(labels, dict) else None
        if held is None or None in held.values():
            self.mistakes.append(f"{place}.labels: they must be text or whole numbers")
            return None
        if at_s is None or name is None or not isinstance(feed, str) or not isinstance(value, int | Decimal):
            return None
        pairs = tuple(sorted((n, text) for n, text in held.items() if text is not None))
        return Reading(wall=at_s, feed=feed, name=name, labels=pairs, value=Decimal(value))

    def _trip(self, row: dict[str, Any], place: str) -> Expected | None:
        self._only(row, ("at_s", "rule", "scope", "shadow"), place)
        shadow = row.get("shadow", False)
        if not isinstance(shadow, bool):
            self.mistakes.append(f"{place}.shadow: it must be true or false")
        at_s, rule, scope = self._seconds(row, "at_s", place), self._text(row, "rule", place), row.get("scope")
        if not isinstance(scope, dict):
            self.mistakes.append(f'{place}.scope: it must be a table, such as {{ oms = "prime", account = 14 }}')
            return None
        self._only(scope, ("oms", "account", "user", "instrument"), f"{place}.scope")
        parts = {k: EVERY if scope.get(k, "every") == "every" else scope[k] for k in ("account", "user", "instrument")}
        oms = self._text(scope, "oms", f"{place}.scope")
        if at_s is None or rule is None or oms is None:
            return None
        try:
            return Expected(at_s, rule, Scope(oms=oms, **parts), shadow is True)
        except ScopeError as error:
            self.mistakes.append(f"{place}.scope: {error}")
            return None

    def _only(self, row: dict[str, Any], known: tuple[str, ...], place: str) -> None:
        self.mistakes += [f"{place}: unknown key {key[:40]!r}" for key in row if key not in known]

    def _text(self, row: dict[str, Any], key: str, place: str) -> str | None:
        value = row.get(key)
        if isinstance(value, str) and value:
            return value
        self.mistakes.append(f"{place}.{key}: it must be text")
        return None

    def _seconds(self, row: dict[str, Any], key: str, place: str) -> float | None:
        value = row.get(key)
        if isinstance(value, int | Decimal) and not isinstance(value, bool) and 0 <= float(value) < 1e9:
            return float(value)
        self.mistakes.append(f"{place}.{key}: it must be seconds, 0 or more")
        return None
