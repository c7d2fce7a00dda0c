"""The demo's embedded broker: `python -m killswitch.demo.broker PORT`, for as long as its stdin is open.

A process of its own, so that its log and its faults stay out of the story. It speaks MQTT 3.1.1 only and is
good enough to show things, not to run them: a real installation has Mosquitto.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import signal
import sys


def there() -> bool:
    """Whether this environment has it: it comes with the extra `demo`."""
    return importlib.util.find_spec("amqtt") is not None


async def serve(port: int) -> None:
    """Serve on the loopback until stdin ends, as it does when whoever started this is gone, or SIGTERM."""
    # Not there in most environments, and untyped.
    from amqtt.broker import Broker  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    running, over = asyncio.get_running_loop(), asyncio.Event()
    running.add_reader(sys.stdin, over.set)
    running.add_signal_handler(signal.SIGTERM, over.set)
    await broker.start()
    await over.wait()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await broker.shutdown()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(serve(int(sys.argv[1])))
