"""The daemon with its log at DEBUG and nothing else changed, as `killswitch run` composes it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from killswitch.config import load
from killswitch.daemon import Daemon


def run(config):
    """Until it ends; the exit code."""
    logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(name)s %(levelname)s %(message)s")

    async def main():
        return await Daemon(load(Path(config), os.environ), os.environ).run()

    return asyncio.run(main())


if __name__ == "__main__":
    sys.exit(run(sys.argv[sys.argv.index("--config") + 1]))
