"""A real Chromium, driven over its DevTools protocol with the WebSocket client that we have: nothing more to install.

Skips, saying what to install, where there is none; in CI (CI=true) a missing one is a failure.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from websockets.asyncio.client import connect

MISSING = "chromium is not installed: apt install chromium"
WITHIN_S = 40
"""What a loaded machine may take; nothing is measured with it."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root, and in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def require_chromium():
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return found


@contextlib.asynccontextmanager
async def browser(folder):
    """A Page of a browser of its own, which keeps what it needs in `folder`."""
    profile = folder / "chromium"
    command = [require_chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, start_new_session=True, **quiet)
    try:
        port_file = profile / "DevToolsActivePort"
        end = time.monotonic() + WITHIN_S
        while not (port_file.exists() and len(port_file.read_text().split()) == 2):
            assert process.poll() is None, "chromium has ended"
            assert time.monotonic() < end, "chromium didn't start"
            await asyncio.sleep(0.05)
        port, path = port_file.read_text().split()
        async with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as link:
            yield await Page.of(link)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: its children, and nobody else
        process.wait()


class Page:
    """One tab. `complaints`: errors of the page's script, and what its policy refused."""

    def __init__(self, link):
        self._link, self._numbers, self._session = link, itertools.count(1), None
        self.complaints = []

    @classmethod
    async def of(cls, link):
        page = cls(link)
        targets = (await page.call("Target.getTargets"))["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        attached = await page.call("Target.attachToTarget", targetId=target, flatten=True)
        page._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        return page

    async def call(self, method, **parameters):
        number = next(self._numbers)
        said = {"id": number, "method": method, "params": parameters}
        await self._link.send(json.dumps(said | ({"sessionId": self._session} if self._session else {})))
        async with asyncio.timeout(WITHIN_S):
            while True:
                heard = json.loads(await self._link.recv())
                if heard.get("id") == number:
                    assert "error" not in heard, heard["error"]
                    return heard["result"]
                self._note(heard)

    def _note(self, heard):
        if heard.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(heard["params"]["exceptionDetails"])[:800])
        elif heard.get("method") == "Log.entryAdded":
            entry = heard["params"]["entry"]
            if entry["level"] == "error" and entry["source"] != "network":  # a daemon that is gone is no fault here
                self.complaints.append(entry["text"])

    async def open(self, url):
        await self.call("Page.navigate", url=url)
        there = f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        end = time.monotonic() + WITHIN_S
        while True:
            with contextlib.suppress(AssertionError):  # what was asked of the page before it
                if await self.eval(there):
                    return
            assert time.monotonic() < end, f"{url} didn't load"
            await asyncio.sleep(0.05)

    async def eval(self, expression):
        done = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    async def until(self, expression, what=None):
        """Wait until this is truthy on the page, and give it."""
        end = time.monotonic() + WITHIN_S
        while not (value := await self.eval(expression)):
            if time.monotonic() > end:
                shown = await self.eval("document.body.innerText.slice(0, 3000)")
                raise AssertionError(f"it never came to be: {what or expression}; {shown}")
            await asyncio.sleep(0.05)
        return value

    async def text(self, selector):
        return await self.eval(f"document.querySelector({json.dumps(selector)}).innerText")

    async def fill(self, selector, text):
        where = f"document.querySelector({json.dumps(selector)})"
        event = "new Event('input', {bubbles: true})"
        await self.eval(f"{where}.value = {json.dumps(text)}; {where}.dispatchEvent({event}); 1")

    async def click(self, selector):
        """As a screen reader does: a click without a pointer."""
        await self.eval(f"document.querySelector({json.dumps(selector)}).click(); 1")

    async def pointer(self, kind, selector):
        """`kind`: mousePressed or mouseReleased, in the middle of it."""
        where = f"document.querySelector({json.dumps(selector)})"
        box = f"(() => {{ {where}.scrollIntoView({{block: 'center'}}); const b = {where}.getBoundingClientRect();"
        x, y = await self.eval(f"{box} return [b.x + b.width / 2, b.y + b.height / 2]; }})()")
        await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def key(self, kind, key=" ", code="Space", number=32):
        await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=code, windowsVirtualKeyCode=number)

    async def size(self, width, height, *, dark=False):
        phone = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.call("Emulation.setDeviceMetricsOverride", **phone)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=scheme)

    async def shoot(self, file):
        """A picture of the whole page."""
        taken = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(taken["data"]))
