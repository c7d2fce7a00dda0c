"""`python -m killswitch`, where the script isn't on the PATH."""

from __future__ import annotations

from killswitch.cli import main

main()
