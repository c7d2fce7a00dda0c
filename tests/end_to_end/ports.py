"""Ports for what goes away and comes back in a test."""

from __future__ import annotations

import contextlib
import random
import socket


def quiet_port():
    """A free port below those that outgoing connections take, so that nobody else has it while we are away."""
    while True:
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
