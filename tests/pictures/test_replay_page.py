"""The page that `replay --html` writes: the same trips as its text, a picture a rule, and nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from killswitch.pictures.page import page
from tests.test_rehearse import config, killswitch, recording, replayed, said, var

__all__ = ["config"]


class Page(HTMLParser):
    """The elements of a page, and what is written in it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "path", "rect", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "path", "rect"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def classes(self, name):
        return [attrs for _, attrs in self.tags if name in (attrs.get("class") or "").split()]


def drawn(config, tmp_path, *files):
    out = tmp_path / "out.html"
    code, _, err = killswitch("replay", "--html", out, "--config", config, *files)
    assert code == 0, err
    assert f"the picture: {out}" in err
    return out.read_text("utf-8")


def test_each_rule_has_its_picture_with_readings_limit_warnings_and_the_trips_that_are_told(config, tmp_path):
    text = config.read_text().replace("above = 100\n", "above = 100\nwarn_at = [0.5]\n")
    config.write_text(text)
    file = recording(tmp_path, *(var(n, value) for n, value in enumerate((10, 60, 101, 20, 130, 20))))
    page = Page(drawn(config, tmp_path, file))
    trips, _ = replayed(config, file)
    assert [rule for _, rule, _ in trips].count("var-limit") == 2
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "h2"]
    assert sections == ["var-limit", "slow", "btc"]
    assert len(page.classes("trip")) == len(trips)
    assert len(page.classes("warning")) == 1  # the second time the breach says more
    assert len(page.classes("line")) == 2  # no position was recorded
    assert len(page.classes("limit")) == 2
    words = " ".join(page.words)
    assert "var 101 is above 100" in words
    assert "cancels prime: account 14, all users, all instruments" in words
    assert "No reading of it is in the recording." in words


def test_a_rule_in_shadow_is_drawn_as_one_that_cancels_nothing(config, tmp_path):
    config.write_text(config.read_text().replace("above = 100\n", 'above = 100\nmode = "shadow"\n'))
    words = " ".join(Page(drawn(config, tmp_path, recording(tmp_path, var(0, 101)))).words)
    assert "In shadow: nothing is cancelled." in words
    assert "in shadow, live it cancels prime: account 14" in words
    assert "limit, in shadow" in words


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(config, tmp_path):
    labels = {"account": 14, "x": '<script src="http://evil.example/">'}
    file = recording(tmp_path, said(0, reading="var", labels=labels, value=130))
    text = drawn(config, tmp_path, file)
    tags = {tag for tag, _ in Page(text).tags}
    assert not tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"(?:src|href)=\"(?!#)", text)
    assert "@import" not in text
    assert "url(" not in text


def test_of_many_series_those_nearest_to_the_limit_are_drawn_and_the_rest_counted(config, tmp_path):
    file = recording(tmp_path, *(var(n / 10, n, account=100 + n) for n in range(20)))
    page = Page(drawn(config, tmp_path, file))
    words = " ".join(page.words)
    assert "account 119, least headroom" in words
    assert "account 105, least headroom" not in words
    assert "12 more series, none of them nearer to the limit" in words


def test_a_page_that_can_t_be_written_is_a_mistake_and_leaves_nothing(config, tmp_path):
    file = recording(tmp_path, var(0, 200), '{"at":1}', var(1, 1))
    out = tmp_path / "not-there" / "out.html"
    code, shown, err = killswitch("replay", "--html", out, "--config", config, file)
    assert (code, shown) == (2, "")  # said before the recording is read, which may take long
    assert "it can't be written" in err
    assert not out.parent.exists()


def test_a_recording_without_lines_is_drawn_as_nothing(config, tmp_path):
    page = Page(drawn(config, tmp_path, recording(tmp_path)))
    assert page.classes("chart") == []


KINDS = """
[[rule]]
name = "fallen"
reading = "var"
kind = "drawdown"
fall = 30
window_s = 60
scope = { oms = "prime", account = "{account}" }

[[rule]]
name = "many"
reading = "var"
kind = "rate"
above = 2
per_s = 1.5
scope = { oms = "prime", account = "{account}" }

[[rule]]
name = "quiet"
reading = "var"
kind = "stale"
older_than_s = 20
scope = { oms = "prime", account = "{account}" }
"""


def test_every_kind_of_rule_shows_what_it_measures_and_its_own_limit(config, tmp_path):
    config.write_text(config.read_text() + KINDS)
    file = recording(tmp_path, *(var(at, v) for at, v in ((0, 10), (1, 40), (2, 9), (2.4, 9), (2.8, 9), (40, 9))))
    page = Page(drawn(config, tmp_path, file))
    said = {attrs["aria-label"]: n for n, (tag, attrs) in enumerate(page.tags) if tag == "svg"}
    assert [label.split()[1] for label in said] == ["var-limit:", "slow:", "btc:", "fallen:", "many:", "quiet:"]
    ends = [*list(said.values())[1:], len(page.tags)]
    for (label, begins), after in zip(said.items(), ends, strict=True):
        inside = [attrs.get("class") for _, attrs in page.tags[begins:after]]
        trips = {"fallen:": 1, "many:": 2, "quiet:": 1}.get(label.split()[1])
        if trips is not None:
            own = "limit hue0" if label.split()[1] == "fallen:" else "limit"
            assert (inside.count(own), inside.count("trip"), inside.count("line hue0")) == (1, trips, 1), label


HEARTS = """
[[feed]]
name = "engine"
kind = "mqtt"
topic = "engine/alive"
stale_after_s = 60

[[feed]]
name = "refusals"
kind = "mqtt"
topic = "desk/{account}/refused"
reading = "refused"
stale_after_s = 60

[[rule]]
name = "dead"
kind = "deadman"
feed = "engine"
silent_s = 5
scope = { oms = "prime", account = 14 }

[[rule]]
name = "refused"
reading = "refused"
over = "var"
kind = "ratio"
above = 0.5
window_s = 60
scope = { oms = "prime", account = "{account}" }
"""


def test_a_heart_s_line_climbs_to_its_limit_and_a_share_is_one_line(config, tmp_path):
    config.write_text(config.read_text() + HEARTS)
    beats = [said(at, feed="engine", beat="live") for at in (0, 3, 6)]
    shares = [said(7, reading="refused", labels={"account": 14}, value=1)]
    file = recording(tmp_path, beats[0], *(var(at / 10, 9) for at in range(1, 3)), *beats[1:], *shares, var(20, 9))
    page = Page(drawn(config, tmp_path, file))
    trips = [(at, rule) for at, rule, _ in replayed(config, file)[0] if rule in ("dead", "refused")]
    assert trips == [(11.0, "dead")]
    words = " ".join(" ".join(page.words).split())
    assert "no beat for 5 s" in words
    assert "feed engine, least headroom 0.0 %" in words
    assert "account 14, least headroom 0.0 %" in words  # 1 of 2 is the limit itself


def test_a_heart_that_is_not_armed_yet_was_never_near_its_limit(config, tmp_path):
    config.write_text(config.read_text() + HEARTS.replace("[[rule]]", '[[rule]]\narm = "first"', 1))
    file = recording(tmp_path, var(0, 9), said(60, feed="engine", beat="live"), said(61, feed="engine", beat="live"))
    words = " ".join(" ".join(Page(drawn(config, tmp_path, file)).words).split())
    assert "feed engine, least headroom 80.0 %" in words


def test_a_chart_is_as_wide_as_it_needs_to_be_read_and_scrolls_where_the_screen_is_not(config, tmp_path):
    page = drawn(config, tmp_path, recording(tmp_path, var(0, 9), var(1, 9)))
    assert '<div class="wide"><svg class="chart"' in page
    assert "svg.chart { min-width: 640px; }" in page


def test_a_label_turns_no_writing_round_and_brings_in_no_control_character():
    document = page("t", "account \u202e14\x00\x1b, 9\u00a0%\nend")
    assert "account \ufffd14\ufffd\ufffd, 9\u00a0%\nend" in document
