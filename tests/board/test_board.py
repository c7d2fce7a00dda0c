"""The board in real Chromium, beside the real daemon, broker and simulator: pressed, watched, lost, measured."""

from __future__ import annotations

import contextlib
import json

import pytest

from killswitch.simulator.world import SimulatorOptions
from tests.board.chromium import browser
from tests.end_to_end.house import BTC_LIMIT, House, iso, until

pytestmark = [pytest.mark.mosquitto, pytest.mark.chromium]

TABLES = (
    BTC_LIMIT
    + """
[[feed]]
name = "var"
kind = "mqtt"
topic = "risk/{account}/var"
reading = "var"
stale_after_s = 300

[[rule]]
name = "var"
owner = "risk desk"
reading = "var"
kind = "limit"
above = 100
mode = "shadow"
scope = { oms = "prime", account = 15 }

[[panic]]
name = "desk-button"
topic = "zigbee2mqtt/desk-button"
scope = { oms = "prime", account = 14, instrument = 25 }
"""
)
# The least contrast of all text that is shown, by WCAG's formula, with where it stands.
CONTRAST = """(() => {
  const channels = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
  const light = (c) => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const c = channels(getComputedStyle(node).backgroundColor);
      if (c[3] === 1) return c;
    }
    return [255, 255, 255, 1];
  };
  let worst = [99, ""], count = 0;
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if ((!own && !["INPUT", "SELECT"].includes(node.tagName)) || !node.checkVisibility()) continue;
    const pair = [luminance(channels(getComputedStyle(node).color)), luminance(behind(node))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    count += 1;
    if (ratio < worst[0]) worst = [ratio, node.outerHTML.slice(0, 120)];
  }
  return [...worst, count];
})()"""
RECEIPT = "document.querySelector('#receipt').innerText"


@contextlib.asynccontextmanager
async def board(folder, **more):
    """A house, and a browser that shows its board, armed."""
    async with House(folder, options=SimulatorOptions(orders=24), tables=TABLES, **more) as house:
        await house.start()
        async with browser(folder) as page:
            await page.size(1280, 900)
            await page.open(f"http://127.0.0.1:{house.http_port}/")
            await state_is(page, "armed")
            yield house, page
            assert page.complaints == []


async def state_is(page, word):
    await page.until(f"document.querySelector('#state')?.textContent === '{word}'", f"the board says {word}")


async def named(page):
    await page.fill("#by", "alice")
    await page.fill("#reason", "it looks wrong")


def no_press(house):
    return house.cancels() == [] and not house.trips()


async def measured(page, *, lost=False):
    """Both schemes, wide and on a phone: contrast, and no horizontal scroll."""
    for dark in (False, True):
        for width in (1280, 390):
            await page.size(width, 844, dark=dark)
            ratio, where, count = await page.eval(CONTRAST)
            assert ratio >= 4.5, f"dark {dark}, lost {lost}: {ratio:.2f} at {where}"
            assert count > 30
            assert await page.eval("document.documentElement.scrollWidth") <= width
    await page.size(1280, 900)


async def test_a_held_press_is_previewed_sent_followed_to_verified_and_reset(tmp_path):
    async with board(tmp_path) as (house, page):
        mine = house.open(account=14, instrument=25)
        others = set(house.open()) - set(mine)
        assert mine
        assert others
        await page.click("#preview")
        await page.until("document.querySelector('#previewed').innerText.includes('Nothing was cancelled')")
        shown = await page.text("#previewed")
        assert f"would cancel {len(mine)} orders" in shown
        assert all(str(order) in shown for order in mine)
        assert no_press(house)
        await named(page)
        await page.pointer("mousePressed", "#hold")
        await page.until(f"{RECEIPT}.includes('Accepted by ks-a')")
        await page.pointer("mouseReleased", "#hold")
        await page.until(f"{RECEIPT}.includes('VERIFIED: no orders left')")
        await state_is(page, "confirmed")
        (name,) = house.trips()
        trip = (await house.confirmed(name))["by"]
        assert (name.startswith("board-"), trip) == (True, "alice")
        assert not house.open(account=14, instrument=25)
        assert set(house.open()) == others
        card = await page.text("#trips > li")
        scope = "prime: account 14, instrument 25, all users"
        for words in (scope, "it looks wrong", "0 orders left", "ago, by alice"):
            assert words in card
        await page.eval("document.querySelector('#trips details').open = true")
        await page.fill(f"#by-{name}", "bob")
        await page.fill(f"#reason-{name}", "calm again")
        await page.click("#trips details button")
        await state_is(page, "armed")
        assert await page.text("#no-trips") == "None is latched."
        await page.until(f"{RECEIPT}.includes('Reset of {name}. Accepted')")


async def test_a_press_that_is_let_go_early_and_one_without_a_name_send_nothing(tmp_path):
    async with board(tmp_path) as (house, page):
        await page.pointer("mousePressed", "#hold")
        await page.until(f"{RECEIPT}.includes('Say who presses')")
        await page.pointer("mouseReleased", "#hold")
        assert await page.eval("document.activeElement.id") == "by"
        await named(page)
        await page.pointer("mousePressed", "#hold")
        await page.until("document.querySelector('#hold-text').textContent.startsWith('Keep holding')")
        await page.pointer("mouseReleased", "#hold")
        await page.until(f"{RECEIPT}.includes('Let go too early')")
        assert await page.eval("document.querySelector('#again').hidden")
        assert no_press(house)


async def test_the_keyboard_holds_too_and_a_click_without_a_pointer_asks_once_more(tmp_path):
    async with board(tmp_path) as (house, page):
        await named(page)
        await page.eval("document.querySelector('#hold').focus()")
        await page.key("keyDown")
        await page.until(f"{RECEIPT}.includes('Accepted')")
        await page.key("keyUp")
        (first,) = await until(house.trips, "one trip")
        await house.confirmed(first)
        await page.until(f"{RECEIPT}.includes('VERIFIED')")
        await page.fill("#place", "typed")
        await page.fill("#t-account", "15")
        await page.fill("#t-instrument", "0")
        await page.until("clickMeans === ''", "the click that ends a press is over")
        await page.click("#hold")
        await page.until(f"{RECEIPT}.includes('whole number above 0')")
        drawn = await page.eval("known.at")
        await page.until(f"known.at > '{drawn}'", "another picture")
        assert "whole number above 0" in await page.text("#receipt")  # no picture writes over it
        await page.fill("#t-instrument", "")
        assert await page.text("#chosen") == "Would trip prime: account 15, all users, all instruments."
        await page.click("#hold")
        assert "account 15" in await page.text("#again-text")
        assert await page.eval("document.activeElement.id") == "yes"
        assert set(house.trips()) == {first}
        await page.click("#yes")
        await until(lambda: len(house.trips()) == 2, "the second trip", shown=house.shown)
        (second,) = set(house.trips()) - {first}
        seen = await house.confirmed(second)
        assert seen["scope"] == {"oms": "prime", "account": 15}


async def test_what_is_read_shows_as_headroom_and_what_is_not_read_as_unknown(tmp_path):
    async with board(tmp_path) as (house, page):
        meter = "document.querySelector('#rules [data-key=var] [role=meter]')"
        assert await page.eval(f"{meter}.getAttribute('aria-valuetext')") == "headroom unknown"
        assert await page.eval(f"{meter}.hasAttribute('aria-valuenow')") is False
        await house.pub("risk/15/var", "60")
        await page.until(f"{meter}.getAttribute('aria-valuenow') === '40'")
        assert "headroom 40 %" in await page.text("#rules [data-key=var]")
        await house.pub("risk/15/var", "150")
        await page.until("document.querySelector('#rules [data-key=var]').innerText.includes('breaching')")
        await page.until("document.querySelector('#trips')?.innerText.toLowerCase().includes('shadow')")
        await state_is(page, "armed")  # a shadow trip is no part of the state
        await measured(page)


async def test_every_state_is_a_word_of_enough_contrast_and_a_lost_daemon_is_said_loudly(tmp_path):
    async with board(tmp_path, confirm="deadline_s = 1.0") as (house, page):
        await measured(page)
        house.sim.faults.inject("no_answer=always,call=GetOpenOrders")
        await house.trip("p-1", account=14)
        await state_is(page, "sweeping")
        await state_is(page, "escalated")
        assert "People are needed" in await page.text("#sentence")
        assert await page.eval("document.querySelector('#alarm').textContent.includes('escalated')")
        assert await page.eval("document.querySelector('#trips details button').disabled")
        await measured(page)
        await house.kill()
        await page.until("!document.querySelector('#lost').hidden")
        await state_is(page, "unknown")
        assert "The daemon is lost." in await page.text("#lost")
        assert "it was escalated then" in await page.text("#lost")
        assert await page.eval("document.querySelector('#alarm').textContent.includes('lost')")
        assert await page.eval("document.title.startsWith('LOST')")
        await measured(page, lost=True)
        house.sim.faults.clear()
        await house.start()
        await page.until("document.querySelector('#lost').hidden", "it is found again")
        await house.confirmed("p-1")
        await state_is(page, "confirmed")
        await measured(page)


async def test_what_others_say_is_text_and_never_markup(tmp_path):
    async with board(tmp_path) as (house, page):
        reason = "<img src=x onerror=document.title='owned'><script>1</script>"
        said = {"id": "m-1", "scope": {"oms": "prime", "account": 14}, "by": "<b>eve</b>", "reason": reason}
        await house.pub("killswitch/command/trip", json.dumps(said | {"issued_at": iso()}))
        await state_is(page, "confirmed")
        assert reason in await page.text("#trips > li")
        assert await page.eval("document.querySelectorAll('#trips img, #trips script, #trips b').length") == 0
