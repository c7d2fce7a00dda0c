"""Documents as tests read them: sections, shell blocks, and what is said about each block.

Above a shell block stands `<!-- run: SITUATION -->`, where a test brings a house into that situation and runs it
(`, exit 1`: it ends with that code), or `<!-- not run: REASON -->`. A block of text right after one that is run is what
it prints, as `printed` compares it.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

SHELL = ("sh", "bash", "console", "shell")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (?P<what>run|not run): (?P<said>[^>]+?)(?:, exit (?P<exit>\d+))? -->\n *\Z")


@dataclass(frozen=True)
class Block:
    """A shell block. `run`: the situation that it is run in; `why_not`: why it isn't; neither: nobody said."""

    where: str
    command: str
    run: str = ""
    why_not: str = ""
    exit: int = 0
    prints: str = ""


def blocks(path):
    """The shell blocks of a document, in order."""
    text = path.read_text("utf-8")
    fences = list(_FENCE.finditer(text))
    found = []
    for fence, following in zip(fences, [*fences[1:], None], strict=True):
        if fence["language"] not in SHELL:
            continue
        line = text.count("\n", 0, fence.start()) + 1
        mark = _MARK.search(text[: fence.start()])
        said = mark["said"] if mark else ""
        shown = ""
        if following is not None and following["language"] == "text":
            between = text[fence.end() : following.start()]
            shown = textwrap.dedent(following["body"]) if not between.strip() else ""
        found.append(
            Block(
                where=f"{path.name}:{line}",
                command=textwrap.dedent(fence["body"]),
                run=said if mark and mark["what"] == "run" else "",
                why_not=said if mark and mark["what"] == "not run" else "",
                exit=int(mark["exit"] or 0) if mark else 0,
                prints=shown,
            )
        )
    return found


def printed(pattern, output):
    """Whether an output holds these lines, one after the other.

    `…` within a line stands for a few words, alone on a line for any lines. Where a line is broken doesn't count, since
    that hangs on how long a path or a port is.
    """
    parts = []
    for line in pattern.splitlines():
        if line.strip() == "…":
            parts.append(r"[\s\S]*?")
        elif line.strip():
            pieces = [r"\s+".join(map(re.escape, piece.split())) for piece in re.split(r"( *… *)", line.strip())]
            parts.append("".join(r"[\s\S]{0,1000}?" if piece.strip() == "…" else piece for piece in pieces) + r"\s+")
    return re.search(r"(?:^|\s)" + "".join(parts), output + "\n") is not None


def anchors(path):
    """The anchors of a document's headings, as GitHub and GitLab make them, in order."""
    text = _FENCE.sub("", path.read_text("utf-8"))
    made = []
    for heading in re.findall(r"(?m)^#+ (.*)$", text):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        twins = sum(1 for other in made if re.fullmatch(re.escape(slug) + r"(-\d+)?", other))
        made.append(f"{slug}-{twins}" if twins else slug)
    return made


def links(path):
    """The anchors within the document that its text links to."""
    return re.findall(r"\]\(#([^)]+)\)", re.sub(r"\s+", " ", _FENCE.sub("", path.read_text("utf-8"))))
