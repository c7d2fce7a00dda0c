"""The board: one page that shows the state, live, and has the panic button. It rests on nothing.

board.html, board.css and board.js become one document without a build step: there is nothing to fetch, so it works
where nothing but the daemon is reached, and its policy lets a browser run exactly these two blocks.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Page:
    """The document, UTF-8, and the Content-Security-Policy that it is served with."""

    document: bytes
    policy: str


def page() -> Page:
    """The page as it is in this version."""
    here = files(__name__)
    frame, style, script = (here.joinpath(name).read_text("utf-8") for name in ("board.html", "board.css", "board.js"))
    document = frame.replace("/*STYLE*/", style, 1).replace("/*SCRIPT*/", script, 1)
    allowed = (
        "default-src 'none'",
        f"script-src {_hash(script)}",
        f"style-src {_hash(style)}",
        "connect-src 'self'",
        "img-src data:",  # the icon
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",  # nobody lays their own page over the button
        "require-trusted-types-for 'script'",  # what others said becomes text, never markup
    )
    return Page(document.encode(), "; ".join(allowed))


def _hash(block: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'"
